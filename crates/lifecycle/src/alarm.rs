use hyperion_sched::Time;

use crate::state::TaskId;

/// What a moment brings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Alarm {
    /// A job may begin.
    Due(u64),
    /// What of a job has not started cannot be done in time any more.
    TooLate(u64),
    /// A task is to be warned of its limit.
    Warn(TaskId),
    /// A task reaches its limit.
    Limit(TaskId),
}

/// When what is to happen, in this order.
pub(crate) type Alarms = std::collections::BTreeSet<(Time, Alarm)>;
