//! What many have the same of: kept once.

use std::collections::BTreeSet;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A value that others may have too; who changes it has its own from then on.
///
/// It is written and read as the value itself.
#[derive(Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Shared<T>(Arc<T>);

impl<T> Clone for Shared<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> From<T> for Shared<T> {
    fn from(value: T) -> Self {
        Self(Arc::new(value))
    }
}

impl<T> From<Shared<T>> for Arc<T> {
    fn from(value: Shared<T>) -> Self {
        value.0
    }
}

impl<T> Deref for Shared<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T: Clone> DerefMut for Shared<T> {
    fn deref_mut(&mut self) -> &mut T {
        Arc::make_mut(&mut self.0)
    }
}

impl<'a, T> IntoIterator for &'a Shared<T>
where
    &'a T: IntoIterator,
{
    type Item = <&'a T as IntoIterator>::Item;
    type IntoIter = <&'a T as IntoIterator>::IntoIter;

    fn into_iter(self) -> Self::IntoIter {
        (&**self).into_iter()
    }
}

impl<T: Serialize> Serialize for Shared<T> {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(out)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Shared<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        T::deserialize(from).map(Self::from)
    }
}

/// Values of which each is kept once, as long as somebody has it.
#[derive(Debug, Clone)]
pub struct Pool<T> {
    values: BTreeSet<Shared<T>>,
    /// When it is as large as this, what nobody has is left out.
    full: usize,
}

/// So many values that nobody has are no loss.
const FEW: usize = 4096;

impl<T> Default for Pool<T> {
    fn default() -> Self {
        Self {
            values: BTreeSet::new(),
            full: FEW,
        }
    }
}

impl<T: Ord> Pool<T> {
    /// Puts the value that is here in the place of one that is the same.
    pub fn share(&mut self, value: &mut Shared<T>) {
        if let Some(here) = self.values.get(value) {
            value.clone_from(here);
            return;
        }
        if self.values.len() >= self.full {
            self.values.retain(|here| Arc::strong_count(&here.0) > 1);
            self.full = FEW.max(2 * self.values.len());
        }
        self.values.insert(value.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_values_are_kept_once_and_changed_alone() {
        let mut pool = Pool::default();
        let (mut one, mut other) = (Shared::from(vec![1]), Shared::from(vec![1]));
        pool.share(&mut one);
        pool.share(&mut other);
        assert!(Arc::ptr_eq(&one.0, &other.0));
        other.push(2);
        assert_eq!((&*one, &*other), (&vec![1], &vec![1, 2]));
    }

    #[test]
    fn a_pool_does_not_keep_what_nobody_has() {
        let mut pool = Pool::default();
        let mut kept = Shared::from(usize::MAX);
        pool.share(&mut kept);
        for number in 0..10 * FEW {
            pool.share(&mut Shared::from(number));
            assert!(pool.values.len() <= FEW);
        }
        let mut same = Shared::from(usize::MAX);
        pool.share(&mut same);
        assert!(Arc::ptr_eq(&kept.0, &same.0));
    }
}
