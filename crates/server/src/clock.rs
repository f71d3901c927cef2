use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hyperion_lifecycle::Time;
use rustix::time::{ClockId, clock_gettime};

/// What time it is, in microseconds since the beginning of 1970; never earlier than
/// it was, whatever becomes of the host's clock.
///
/// The host's clock says when the server began. From then on time goes at its own
/// pace: when the host's clock is set, no limit comes sooner or later.
#[derive(Debug)]
pub(crate) struct Clock {
    began: Time,
    since: Duration,
}

impl Clock {
    /// Starts at the host's time, or where the last record is when that is later.
    pub(crate) fn start(last: Time) -> Self {
        let host = SystemTime::now().duration_since(UNIX_EPOCH);
        let host = host.map_or(0, |age| u64::try_from(age.as_micros()).unwrap_or(u64::MAX));
        Self {
            began: Time(host).max(last),
            since: steady(),
        }
    }

    /// Gives the time.
    pub(crate) fn now(&self) -> Time {
        self.began + steady().saturating_sub(self.since)
    }
}

/// Gives a time that nobody can set, and in which a host that sleeps sleeps too.
fn steady() -> Duration {
    let now = clock_gettime(ClockId::Boottime);
    Duration::new(now.tv_sec.cast_unsigned(), now.tv_nsec as u32)
}
