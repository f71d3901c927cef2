//! Named points at which a test can have the process killed.

/// Kills this process at a point that was armed; nothing outside tests.
#[macro_export]
#[doc(hidden)]
macro_rules! failpoint {
    ($name:literal) => {
        #[cfg(any(test, feature = "failpoints"))]
        $crate::failpoint::reach($name);
    };
}

#[cfg(any(test, feature = "failpoints"))]
static ARMED: std::sync::OnceLock<String> = std::sync::OnceLock::new();

/// Chooses the point at which this process dies.
#[cfg(any(test, feature = "failpoints"))]
pub fn arm(name: &str) {
    let _ = ARMED.set(name.to_owned());
}

/// Dies as by `kill -9` when this point is armed.
#[cfg(any(test, feature = "failpoints"))]
pub fn reach(name: &str) {
    use rustix::process::{Signal, getpid, kill_process};
    if ARMED.get().is_some_and(|armed| armed == name) {
        let _ = kill_process(getpid(), Signal::KILL);
    }
}
