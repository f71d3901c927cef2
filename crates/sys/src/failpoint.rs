//! Named points at which a test can have this process killed. A release build has none.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

/// Kills this process here if a test has armed the point.
#[macro_export]
macro_rules! failpoint {
    ($name:literal) => {
        #[cfg(debug_assertions)]
        $crate::failpoint::reach($name);
    };
}

static ARMED: OnceLock<String> = OnceLock::new();
/// How often it is still passed by.
static PASSES: AtomicU32 = AtomicU32::new(0);

/// Chooses the point at which this process, or a copy of it, dies: `name`, or `name:3` for
/// when it is reached after it was passed three times.
pub fn arm(point: &str) {
    let counted = point.split_once(':');
    let counted = counted.and_then(|(name, passes)| Some((name, passes.parse().ok()?)));
    let (name, passes) = counted.unwrap_or((point, 0));
    PASSES.store(passes, Ordering::Relaxed);
    let _ = ARMED.set(name.to_owned());
}

/// Dies as by `kill -9` if this point is the armed one.
pub fn reach(name: &str) {
    use rustix::process::{Signal, getpid, kill_process};
    if ARMED.get().is_some_and(|armed| armed == name) {
        let passes = PASSES.load(Ordering::Relaxed);
        if passes > 0 {
            PASSES.store(passes - 1, Ordering::Relaxed);
            return;
        }
        let _ = kill_process(getpid(), Signal::KILL);
    }
}
