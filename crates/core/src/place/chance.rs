//! A small generator of numbers that follow from a seed, the same on every machine: `SplitMix64` (Steele, Lea and Flood,
//! OOPSLA 2014). Good for replays, not for secrets.

/// The generator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chance(u64);

impl Chance {
    /// A generator with this seed.
    pub fn new(seed: u64) -> Chance {
        Chance(seed)
    }

    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`, each as likely as the next; `None` when there is none.
    pub fn below(&mut self, end: u64) -> Option<u64> {
        // Draws in the last, incomplete run of `end` numbers would favour the small ones: draw again.
        let uneven = u64::MAX.checked_rem(end)?.wrapping_add(1) % end;
        loop {
            let bits = self.bits();
            if bits <= u64::MAX - uneven {
                return Some(bits % end);
            }
        }
    }

    /// Puts these in random order (Fisher and Yates).
    pub fn shuffle<T>(&mut self, things: &mut [T]) {
        for last in (1..things.len()).rev() {
            let other = self.below(last as u64 + 1).unwrap_or(0);
            things.swap(last, other as usize);
        }
    }
}
