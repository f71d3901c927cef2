//! The life of a job in a queue: from its submission to its end, as a state machine.
//!
//! ```text
//! Event ─▶ step(now, event) ─▶ Records ─┬─▶ journal, written before anything is done
//!  ▲                                    ├─▶ Ledger, changed by apply(record)
//!  │                                    └─▶ what is to be done: start, signal, stop
//!  └────────────── supervisors, users, clock ◀──────────┘
//! ```
//!
//! [`Ledger::step`] says what an event means, as [`Record`]s; [`Ledger::apply`] is the
//! only way in which a ledger changes. So a ledger that applies all records of a
//! journal is the ledger that wrote them.
//!
//! **Architecture invariant:** this crate is pure. It has no clock, file or
//! randomness: what time it is comes in, and the same events give the same records.

mod alarm;
mod ask;
mod closed;
mod common;
mod condition;
mod edit;
mod event;
mod explain;
mod fair;
mod features;
mod grounds;
mod job;
mod ledger;
mod past;
mod record;
mod rules;
mod state;
mod step;
mod whose;

pub use ask::{AskError, Site};
pub use event::{Event, Refusal, Who};
pub use explain::Waits;
pub use fair::{ShareOf, Used};
pub use grounds::{RulesError, Scope};
pub use job::{Hold, Job, Task};
pub use ledger::Ledger;
pub use past::{Carried, Missing, Past};
pub use record::{Change, Record, Submitted};
pub use rules::{
    Account, Booked, Booking, Closed, Closure, FairShare, Limits, NodeState, Partition,
    PartitionState, Preempted, Qos, Rules, Shut,
};
pub use state::{End, Holder, Reason, State, TaskId, Why};

pub use hyperion_sched::{Blocker, Explanation, Forecast, Lack, Priority, Time};
