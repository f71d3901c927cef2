use crate::amounts::Amounts;

/// Devices that some ask for whatever their kind, and others by kind: `gpu`, and
/// `gpu:h100`. Each counts under both numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Family {
    /// The number under which all of them count.
    pub any: usize,
    /// Those of the kinds.
    pub kinds: Vec<usize>,
}

impl Family {
    /// Tells whether a node says of what kind its devices are: it does of all or of none.
    pub(crate) fn is_told(&self, capacity: &Amounts) -> bool {
        self.kinds.iter().any(|kind| capacity.of(*kind) > 0)
    }

    /// Counts the devices of all kinds.
    pub(crate) fn kinds_of(&self, amounts: &Amounts) -> u64 {
        self.kinds.iter().map(|kind| amounts.of(*kind)).sum()
    }

    /// Says of what kind those are that were taken of any: of the one of which most are
    /// free, then of the next. Tells whether there are enough.
    pub(crate) fn settle(&self, free: &Amounts, taken: &mut Amounts) -> bool {
        let mut rest = taken.of(self.any).saturating_sub(self.kinds_of(taken));
        while rest > 0 {
            let left = |kind: &usize| free.of(*kind).saturating_sub(taken.of(*kind));
            let most = self
                .kinds
                .iter()
                .max_by_key(|kind| (left(kind), std::cmp::Reverse(**kind)));
            let Some(kind) = most.copied().filter(|kind| left(kind) > 0) else {
                return false;
            };
            let count = rest.min(left(&kind));
            taken.add(&Amounts::only(kind, count), 1);
            rest -= count;
        }
        true
    }
}
