//! Virtual machines from the outside.

mod agent;
mod autostart;
mod boot;
mod clones;
mod debian;
mod folders;
mod hostile;
mod import;
mod kernel;
mod level;
mod live;
mod machines;
mod nodes;
mod outside;
mod screen;
mod seats;
#[path = "../jobs/site.rs"]
#[allow(dead_code, reason = "made for the tests of jobs, and shared")]
mod site;
mod stays;
mod warm;
