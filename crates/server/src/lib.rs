//! The server of a queue: it takes jobs, decides with `lifecycle` and `sched` what
//! starts when, and writes everything down before it is said or done.
//!
//! ```text
//! clients ──▶ requests ─┐                                      ┌─▶ answers
//! agents ───▶ news ─────┼─▶ Ledger::step, schedule ─▶ journal ─┤
//! clock ────▶ alarms ───┘        one turn of the loop          └─▶ errands
//! ```
//!
//! **Architecture invariant:** a turn writes its records in one group, and only then
//! answers and sends errands. Where they cannot be written, the ledger is made anew of
//! what is written, and nothing has happened.

mod agents;
mod answers;
mod bounds;
mod clients;
mod clock;
mod dispatch;
mod explain;
mod history;
mod hold;
pub mod journal;
mod metrics;
mod past;
mod requests;
#[cfg(test)]
mod schedules;
mod texts;
mod turn;
mod views;

pub use clients::Audience;
pub use history::{HistoryError, Keep};
pub use turn::{Account, ServeError, Settings, serve};
