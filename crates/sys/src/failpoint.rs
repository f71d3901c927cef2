//! Named points at which a test can have this process killed. A release build has none.

use std::sync::OnceLock;

/// Kills this process here if a test has armed the point.
#[macro_export]
macro_rules! failpoint {
    ($name:literal) => {
        #[cfg(debug_assertions)]
        $crate::failpoint::reach($name);
    };
}

static ARMED: OnceLock<String> = OnceLock::new();

/// Chooses the point at which this process, or a copy of it, dies.
pub fn arm(name: &str) {
    let _ = ARMED.set(name.to_owned());
}

/// Dies as by `kill -9` if this point is the armed one.
pub fn reach(name: &str) {
    use rustix::process::{Signal, getpid, kill_process};
    if ARMED.get().is_some_and(|armed| armed == name) {
        let _ = kill_process(getpid(), Signal::KILL);
    }
}
