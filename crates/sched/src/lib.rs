//! Who next: which queued jobs start now, and where.
//!
//! A [`Cluster`] knows its nodes and what runs on them, a [`Queue`] holds what
//! waits in the order of a [`Policy`], and [`plan`] says what to start. Whoever
//! carries that out, a server or a simulator, tells both of it.
//!
//! ```text
//! submit ─▶ Queue ─┐
//!                  ├─ plan(policy, cluster, queue, now) ─▶ starts, a reservation, when to look again
//! end ──▶ Cluster ─┘
//! ```
//!
//! **Architecture invariant:** this crate is pure. It has no clock, file or
//! randomness: what time it is comes in, and the same input gives the same plan.

mod allocation;
mod amounts;
mod cluster;
mod derived;
mod epochs;
mod explain;
mod failed;
mod fairest;
mod family;
mod masks;
mod nodeset;
mod order;
mod place;
mod plan;
mod preempt;
mod profile;
mod queue;
mod quota;
mod request;
mod shares;
mod slots;
mod space;
mod stretches;
mod time;
mod totals;
mod window;

pub use allocation::{Allocation, Part};
pub use amounts::{Amounts, CORES, MEMORY};
pub use cluster::{Cluster, Node, NodeNumber, Running};
pub use explain::{Blocker, Explanation, Forecast, Lack, explain, forecast, what_if};
pub use family::Family;
pub use nodeset::NodeSet;
pub use order::{Order, Priority, Standing, Weights, Yields};
pub use place::Placement;
pub use plan::{
    Backfill, Memory, Plan, Policy, Reservation, Start, Verdict, first_start, has_room, plan,
    plan_on,
};
pub use preempt::Preemption;
pub use queue::{JobNumber, Queue, Queued};
pub use quota::{Caps, QuotaNumber, Used};
pub use request::{Arrangement, Chunk, Request, SetNumber};
pub use shares::{ShareNumber, Shares};
pub use slots::{Numa, Pins, Slots};
pub use time::Time;
pub use window::{Window, WindowNumber};
