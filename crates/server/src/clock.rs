use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hyperion_lifecycle::Time;
use rustix::time::{ClockId, clock_gettime};

/// What time it is, in microseconds since the beginning of 1970; never earlier than
/// it was, whatever becomes of the host's clock.
///
/// The host's clock says when the server began. From then on time goes at its own
/// pace: when the host's clock is set, no limit comes sooner or later.
#[derive(Debug)]
pub(crate) struct Clock {
    began: Time,
    since: Duration,
    steady: fn() -> Duration,
}

impl Clock {
    /// Starts at the host's time, or where the last record is when that is later.
    pub(crate) fn start(last: Time) -> Self {
        Self::of(host(), last, steady)
    }

    fn of(host: Time, last: Time, steady: fn() -> Duration) -> Self {
        Self {
            began: host.max(last),
            since: steady(),
            steady,
        }
    }

    /// Gives the time.
    pub(crate) fn now(&self) -> Time {
        self.began + (self.steady)().saturating_sub(self.since)
    }
}

/// What the host's clock shows, which anybody may set.
fn host() -> Time {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let since = since.map_or(0, |age| u64::try_from(age.as_micros()).unwrap_or(u64::MAX));
    Time(since)
}

/// Gives a time that nobody can set, and in which a host that sleeps sleeps too.
fn steady() -> Duration {
    let now = clock_gettime(ClockId::Boottime);
    Duration::new(now.tv_sec.cast_unsigned(), now.tv_nsec as u32)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    thread_local! {
        static STEADY: Cell<u64> = const { Cell::new(0) };
    }

    fn counted() -> Duration {
        Duration::from_secs(STEADY.get())
    }

    #[test]
    fn no_time_is_earlier_than_one_before_whatever_the_clock_of_the_host_shows() {
        let hour = 3600;
        let mut last = Time::seconds(1_000_000);
        // Set back and forth between one server and the next, and while one runs.
        for host in [1_000_000, 5, 2_000_000, 1_999_000, 0, 2_000_001] {
            let clock = Clock::of(Time::seconds(host), last, counted);
            let began = clock.now();
            assert!(began >= last && began >= Time::seconds(host));
            STEADY.set(STEADY.get() + hour);
            // An hour is one, so that a limit comes neither sooner nor later.
            assert_eq!(clock.now(), began + Duration::from_secs(hour));
            last = clock.now();
        }
    }
}
