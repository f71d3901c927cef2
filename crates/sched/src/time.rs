use serde::{Deserialize, Serialize};
use std::ops::Add;
use std::time::Duration;

/// A moment, in microseconds since a beginning that the caller chooses.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Time(pub u64);

impl Time {
    /// Later than every moment that can be.
    pub const NEVER: Self = Self(u64::MAX);

    /// Makes a moment from whole seconds.
    pub const fn seconds(seconds: u64) -> Self {
        Self(seconds.saturating_mul(1_000_000))
    }

    /// Gives the time from an earlier moment to this one; nothing when it is not earlier.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Time {
    type Output = Self;
    /// Gives the moment after a span, [`Time::NEVER`] at the latest.
    fn add(self, span: Duration) -> Self {
        let span = u64::try_from(span.as_micros()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(span))
    }
}
