//! Jobs from the outside: the built `hyperion`, one root folder per test.
//!
//! Nothing here knows how a job is kept; what is looked at is what users see,
//! and what the kernel says is left when it is over.

mod faults;
mod input;
mod leaks;
mod lifecycle;
mod output;
mod ranks;
mod reports;
mod site;
mod terminal;
