//! What the ranks put for each other, within a quota for each rank.

use std::collections::BTreeMap;

use hyperion_model::Rank;

/// The longest name of a key-value space, in bytes, as announced to clients.
pub const KVSNAME_MAX: usize = 256;
/// The longest key, in bytes, as announced to clients.
pub const KEY_MAX: usize = 64;
/// The longest value, in bytes, as announced to clients.
pub const VALUE_MAX: usize = 1024;
/// What one rank may keep in the store, in bytes, bookkeeping counted.
pub const RANK_BYTES_MAX: usize = 1024 * 1024;

/// What an entry costs beyond its key and value.
const ENTRY_BYTES: usize = 128;

#[derive(Debug)]
struct Entry {
    value: String,
    owner: Rank,
}

/// A map with an owner for each entry.
#[derive(Debug, Default)]
pub(super) struct Store {
    entries: BTreeMap<String, Entry>,
    used: BTreeMap<Rank, usize>,
}

impl Store {
    /// Puts a value, or says in one word why not.
    pub(super) fn put(&mut self, owner: Rank, key: &str, value: &str) -> Result<(), &'static str> {
        if key.is_empty() || key.len() > KEY_MAX {
            return Err("key_length");
        }
        if value.len() > VALUE_MAX {
            return Err("value_too_long");
        }
        let old = self.entries.get(key).filter(|e| e.owner == owner);
        let freed = old.map_or(0, |e| cost(key, &e.value));
        let used = self.used.get(&owner).copied().unwrap_or(0) - freed + cost(key, value);
        if used > RANK_BYTES_MAX {
            return Err("store_full");
        }
        self.remove(key);
        self.used.insert(owner, used);
        let value = value.to_owned();
        self.entries.insert(key.to_owned(), Entry { value, owner });
        Ok(())
    }

    /// Gives the value of a key.
    pub(super) fn get(&self, key: &str) -> Option<&str> {
        self.entries.get(key).map(|e| e.value.as_str())
    }

    /// Gives the entry at a place in the order of the keys.
    pub(super) fn nth(&self, index: usize) -> Option<(&str, &str)> {
        let mut entries = self.entries.iter();
        entries
            .nth(index)
            .map(|(k, e)| (k.as_str(), e.value.as_str()))
    }

    /// Takes an entry out and tells whether it was there.
    pub(super) fn remove(&mut self, key: &str) -> bool {
        let Some(entry) = self.entries.remove(key) else {
            return false;
        };
        if let Some(used) = self.used.get_mut(&entry.owner) {
            *used = used.saturating_sub(cost(key, &entry.value));
        }
        true
    }
}

fn cost(key: &str, value: &str) -> usize {
    key.len() + value.len() + ENTRY_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_rank_cannot_fill_the_memory() {
        let mut store = Store::default();
        let value = "x".repeat(VALUE_MAX);
        let mut kept = 0;
        while store.put(Rank(0), &format!("key-{kept}"), &value).is_ok() {
            kept += 1;
        }
        assert!(kept > 500 && kept * VALUE_MAX <= RANK_BYTES_MAX, "{kept}");
        assert_eq!(store.put(Rank(0), "another", &value), Err("store_full"));
        assert_eq!(store.put(Rank(1), "another", "y"), Ok(()));
    }

    #[test]
    fn writing_a_key_again_is_not_charged_twice() {
        let mut store = Store::default();
        for round in 0..5000 {
            let value = format!("{round:0>900}");
            assert_eq!(store.put(Rank(round % 3), "same", &value), Ok(()));
        }
        assert!(store.used.values().sum::<usize>() < 2000);
        assert!(store.remove("same") && !store.remove("same"));
        assert_eq!(store.used.values().sum::<usize>(), 0);
    }
}
