use std::cmp::Ordering;

use serde::{Deserialize, Serialize};

/// A moment, in seconds from the beginning, as CloudSim counts: what it finds depends on
/// how they are rounded.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub(super) struct Moment(pub(super) f64);

impl Moment {
    /// Later than every moment that can be.
    pub(super) const NEVER: Self = Self(f64::INFINITY);
}

impl PartialEq for Moment {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Moment {}

impl PartialOrd for Moment {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Moment {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.total_cmp(&other.0)
    }
}
