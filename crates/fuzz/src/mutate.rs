//! A small deterministic mutator: the same number gives the same input on every machine.

/// Makes inputs out of seeds.
#[derive(Debug)]
pub struct Mutator {
    state: u64,
}

impl Mutator {
    /// Starts a sequence.
    pub fn new(number: u64) -> Self {
        Self {
            state: number.wrapping_mul(2).wrapping_add(1),
        }
    }

    /// Gives a number below `end` (0 when `end` is 0).
    fn below(&mut self, end: usize) -> usize {
        // xorshift64*: Vigna, "An experimental exploration of Marsaglia's xorshift generators".
        self.state ^= self.state >> 12;
        self.state ^= self.state << 25;
        self.state ^= self.state >> 27;
        let number = self.state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32;
        number as usize % end.max(1)
    }

    /// Changes one of the seeds in a few places.
    pub fn mutate(&mut self, seeds: &[Vec<u8>], words: &[&str]) -> Vec<u8> {
        let mut bytes = seeds[self.below(seeds.len())].clone();
        for _ in 0..=self.below(6) {
            self.change(&mut bytes, seeds, words);
        }
        bytes
    }

    fn change(&mut self, bytes: &mut Vec<u8>, seeds: &[Vec<u8>], words: &[&str]) {
        let at = self.below(bytes.len() + 1);
        let to = at + self.below((bytes.len() - at).min(64) + 1);
        match self.below(7) {
            0 if at < bytes.len() => bytes[at] ^= 1 << self.below(8),
            1 if at < bytes.len() => {
                const ODD: [u8; 10] = [0, 1, 0x7f, 0x80, 0xff, b'\n', b'/', b'.', b'0', b' '];
                bytes[at] = ODD[self.below(ODD.len())];
            }
            2 => drop(bytes.drain(at..to)),
            3 => {
                let copy = bytes[at..to].to_vec();
                let into = self.below(bytes.len() + 1);
                bytes.splice(into..into, copy);
            }
            4 if !words.is_empty() => {
                let word = words[self.below(words.len())].as_bytes();
                // In the place of something, or between.
                let end = if self.below(2) == 0 { to } else { at };
                bytes.splice(at..end, word.iter().copied());
            }
            5 => {
                let other = &seeds[self.below(seeds.len())];
                let from = self.below(other.len() + 1);
                let end = from + self.below((other.len() - from).min(256) + 1);
                bytes.splice(at..at, other[from..end].iter().copied());
            }
            _ if self.below(8) == 0 => bytes.truncate(at),
            _ => {}
        }
    }
}
