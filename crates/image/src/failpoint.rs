//! Named points at which a test can have the process killed.

/// Kills this process when the environment names this point; nothing outside tests.
#[macro_export]
#[doc(hidden)]
macro_rules! failpoint {
    ($name:literal) => {
        #[cfg(any(test, feature = "failpoints"))]
        $crate::failpoint::reach($name);
    };
}

/// Dies as by `kill -9` when `HYPERION_FAILPOINT` is this name.
#[cfg(any(test, feature = "failpoints"))]
#[doc(hidden)]
pub fn reach(name: &str) {
    if std::env::var_os("HYPERION_FAILPOINT").is_some_and(|wanted| wanted == name) {
        let _ =
            rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
    }
}
