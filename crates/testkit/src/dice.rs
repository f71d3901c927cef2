/// Numbers that look random and are the same in each run, by SplitMix64
/// (Steele, Lea and Flood, OOPSLA 2014).
#[derive(Debug, Default)]
pub struct Dice(pub u64);

impl Dice {
    /// The next number below `bound`; 0 where nothing is.
    pub fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((bits ^ (bits >> 31)) % bound.max(1) as u64) as usize
    }
}
