//! Chance from a seed: one stream of numbers for each that needs one, so that what
//! one of them draws changes nothing for the others.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng as _};

/// The seed of a simulation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seed(pub u64);

impl Seed {
    /// Gives the seed of a replication, by its number: that of the first is this one.
    pub fn replication(self, number: u64) -> Self {
        let mut stream = self.stream(u64::MAX);
        match number.checked_sub(1) {
            None => self,
            Some(before) => {
                stream.set_word_pos(2 * u128::from(before));
                Self(stream.next_u64())
            }
        }
    }

    /// Gives the stream of an entity, by its number.
    pub fn stream(self, entity: u64) -> ChaCha8Rng {
        let mut stream = ChaCha8Rng::seed_from_u64(self.0);
        stream.set_stream(entity);
        stream
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_are_the_same_each_time_and_none_is_another() {
        let draw = |seed, entity| Seed(seed).stream(entity).next_u64();
        assert_eq!(draw(1, 7), draw(1, 7));
        assert_ne!(draw(1, 7), draw(1, 8));
        assert_ne!(draw(1, 7), draw(2, 7));
    }

    #[test]
    fn replications_have_seeds_of_their_own_whichever_is_made_first() {
        let seed = Seed(7);
        assert_eq!(seed.replication(0), seed);
        let all: Vec<u64> = (0..50).map(|number| seed.replication(number).0).collect();
        let distinct: std::collections::BTreeSet<u64> = all.iter().copied().collect();
        assert_eq!(distinct.len(), all.len());
        assert_eq!(seed.replication(49).0, all[49]);
        assert_ne!(Seed(8).replication(1), seed.replication(1));
    }
}
