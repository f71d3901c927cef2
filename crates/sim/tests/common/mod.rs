//! What tests of scenarios have in common.

use hyperion_sim::cloud::{Ran, Scenario, Summary, run};

/// Reads a scenario that is right.
pub(crate) fn read(text: &str) -> Scenario {
    Scenario::read(text).unwrap_or_else(|error| panic!("{error}"))
}

/// Lets it happen; gives what ran, and what all came to.
pub(crate) fn all(text: &str) -> (Vec<Ran>, Summary) {
    let mut ran = Vec::new();
    let summary = run(&read(text), |one| ran.push(one)).expect("a right scenario");
    (ran, summary)
}
