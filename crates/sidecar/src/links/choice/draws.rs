//! Random numbers from a seed: the same seed gives the same choices.

/// SplitMix64 (Steele, Lea and Flood, 2014): two multiplications, no state but a number.
#[derive(Debug)]
pub(in crate::links) struct Draws(u64);

impl Draws {
    pub(in crate::links) fn new(seed: u64) -> Draws {
        Draws(seed)
    }

    /// A number from 0 to below 1.
    pub(in crate::links) fn fraction(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        // As many bits as the mantissa has.
        (mixed >> 11) as f64 / (1_u64 << 53) as f64
    }
}
