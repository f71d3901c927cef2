//! Waiting for conditions, never for time.

use std::time::{Duration, Instant};

/// How often a condition is looked at.
const STEP: Duration = Duration::from_millis(5);

/// Waits until `condition` holds; false if `limit` passed first.
pub fn wait_until(limit: Duration, mut condition: impl FnMut() -> bool) -> bool {
    wait_for(limit, || condition().then_some(())).is_some()
}

/// Waits until `look` finds something; none if `limit` passed first.
///
/// The last look comes after the limit, so that a slow machine gets its chance.
pub fn wait_for<T>(limit: Duration, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let start = Instant::now();
    loop {
        let late = start.elapsed() >= limit;
        let found = look();
        if found.is_some() || late {
            return found;
        }
        std::thread::sleep(STEP);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_ends_when_the_condition_holds() {
        let mut looks = 0;
        assert!(wait_until(Duration::from_secs(60), || {
            looks += 1;
            looks == 3
        }));
        assert_eq!(looks, 3);
    }

    #[test]
    fn waiting_ends_at_the_limit() {
        assert!(!wait_until(Duration::from_millis(20), || false));
        assert_eq!(wait_for(Duration::ZERO, || Some(1)), Some(1));
    }
}
