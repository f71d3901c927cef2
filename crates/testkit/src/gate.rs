//! `requires!`: a test that the machine cannot carry says so, and is counted.

use std::io::Write as _;

use crate::need::{Need, Unmet};

/// What `requires!` found.
#[derive(Debug, PartialEq, Eq)]
pub enum Gate {
    /// Every need is met: the test runs.
    Open,
    /// The first need that is not met: the test is skipped.
    Skip(Unmet),
    /// A need is not met that `HYPERION_REQUIRE` says this machine must meet.
    Fail(Unmet),
}

/// Returns from a test, with a printed reason, when the machine lacks a need.
///
/// ```no_run
/// hyperion_testkit::requires!("root", "command:skopeo", "kernel:6.12");
/// ```
///
/// [`Need`](crate::Need) lists the words. The environment decides what a lack means:
/// - `HYPERION_REQUIRE`, a list separated by commas of needs (`root`,
///   `command:skopeo`), of their kinds (`command`) or `all`: a lack of one
///   of these is a failure, so that CI cannot lose a test unseen;
/// - `HYPERION_SKIPS`, a file: every skip appends a line `TEST<tab>REASON`.
#[macro_export]
macro_rules! requires {
    ($($need:expr),+ $(,)?) => {
        if !$crate::check(&[$($need),+]) {
            return;
        }
    };
}

/// Whether the calling test may run; prints and counts the skip if not.
///
/// # Panics
/// If `HYPERION_REQUIRE` names the need that is not met, or a need is misspelt.
#[must_use]
pub fn check(needs: &[&str]) -> bool {
    let required = std::env::var("HYPERION_REQUIRE").unwrap_or_default();
    match decide(needs, &required) {
        Gate::Open => true,
        Gate::Fail(unmet) => panic!("this machine must meet {unmet} (HYPERION_REQUIRE={required})"),
        Gate::Skip(unmet) => {
            println!("skipped: {unmet}");
            let thread = std::thread::current();
            let name = thread.name().unwrap_or("?");
            append("HYPERION_SKIPS", &format!("{name}\t{unmet}\n"));
            false
        }
    }
}

/// Counts the tests that one test held inside of it: those that passed, and those
/// that were skipped, with their names and reasons.
///
/// `HYPERION_INSIDE`, a file, gets a line with the number of both; `HYPERION_SKIPS`
/// as in [`requires!`](crate::requires).
pub fn count_inside(passed: usize, skipped: &[(String, String)]) {
    append("HYPERION_INSIDE", &format!("{}\n", passed + skipped.len()));
    for (name, reason) in skipped {
        println!("skipped inside: {name}: {reason}");
        append("HYPERION_SKIPS", &format!("{name}\t{reason}\n"));
    }
}

/// Adds a line to the file that a variable names, if it does. One write of one
/// short line: tests append side by side.
fn append(variable: &str, line: &str) {
    let Some(file) = std::env::var_os(variable) else {
        return;
    };
    std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(file)
        .and_then(|mut file| file.write_all(line.as_bytes()))
        .unwrap_or_else(|e| panic!("{variable} names a file that can be appended to: {e}"));
}

/// Decides from the needs and the value of `HYPERION_REQUIRE`.
fn decide(needs: &[&str], required: &str) -> Gate {
    let parsed: Vec<_> = needs
        .iter()
        .map(|text| (*text, Need::parse(text)))
        .collect();
    let mut skip = None;
    for (text, need) in parsed {
        if let Err(reason) = need.check() {
            let unmet = Unmet {
                need: text.into(),
                reason,
            };
            if is_required(text, required) {
                return Gate::Fail(unmet);
            }
            skip.get_or_insert(unmet);
        }
    }
    skip.map_or(Gate::Open, Gate::Skip)
}

fn is_required(need: &str, required: &str) -> bool {
    let kind = need.split(':').next().unwrap_or(need);
    required
        .split(',')
        .map(str::trim)
        .any(|word| word == "all" || word == need || word == kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LACKING: &str = "command:no-such-command-here";

    #[test]
    fn met_needs_open_the_gate() {
        assert_eq!(
            decide(&["command:sh", "filesystem:proc"], "all"),
            Gate::Open
        );
    }

    #[test]
    fn a_lack_skips_and_names_the_need() {
        let Gate::Skip(unmet) = decide(&["command:sh", LACKING], "") else {
            panic!("expected a skip");
        };
        assert_eq!(unmet.need, LACKING);
    }

    #[test]
    fn a_required_lack_fails_by_need_kind_or_all() {
        for required in [LACKING, "root,command", "all", " command , userns"] {
            assert!(
                matches!(decide(&[LACKING], required), Gate::Fail(_)),
                "{required}"
            );
        }
        assert!(matches!(
            decide(&[LACKING], "command:sh,root"),
            Gate::Skip(_)
        ));
    }

    #[test]
    fn a_required_lack_fails_even_after_an_optional_one() {
        let gate = decide(&["path:/no/such/path", LACKING], "command");
        assert!(matches!(gate, Gate::Fail(unmet) if unmet.need == LACKING));
    }

    #[test]
    fn the_macro_returns_early_from_the_test() {
        fn gated(ran: &mut bool) {
            requires!("path:/no/such/path/for/hyperion");
            *ran = true;
        }
        if std::env::var_os("HYPERION_REQUIRE").is_some() {
            return; // `all` rightly makes a failure of it
        }
        let mut ran = false;
        gated(&mut ran);
        assert!(!ran);
    }
}
