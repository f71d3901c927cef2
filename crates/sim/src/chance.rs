//! Chance from a seed: one stream of numbers for each that needs one, so that what
//! one of them draws changes nothing for the others.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng as _;

/// The seed of a simulation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seed(pub u64);

impl Seed {
    /// Gives the stream of an entity, by its number.
    pub fn stream(self, entity: u64) -> ChaCha8Rng {
        let mut stream = ChaCha8Rng::seed_from_u64(self.0);
        stream.set_stream(entity);
        stream
    }
}

#[cfg(test)]
mod tests {
    use rand_chacha::rand_core::Rng as _;

    use super::*;

    #[test]
    fn streams_are_the_same_each_time_and_none_is_another() {
        let draw = |seed, entity| Seed(seed).stream(entity).next_u64();
        assert_eq!(draw(1, 7), draw(1, 7));
        assert_ne!(draw(1, 7), draw(1, 8));
        assert_ne!(draw(1, 7), draw(2, 7));
    }
}
