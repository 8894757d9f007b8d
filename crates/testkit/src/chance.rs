//! Chance from one seed. Each purpose takes a named child, so that one more draw here never reshuffles another.

/// A source of numbers: the same seed and name give the same ones everywhere.
#[derive(Debug, Clone)]
pub struct Chance(u64);

impl Chance {
    /// The source of a seed.
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A source of its own for a purpose.
    #[must_use]
    pub fn child(&self, name: &str) -> Self {
        // FNV-1a over the name, mixed with the seed.
        let named = name
            .bytes()
            .fold(0xCBF2_9CE4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3));
        Self(mixed(self.0 ^ named))
    }

    /// The next number.
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        mixed(self.0)
    }

    /// A number below `bound`, which is at least 1.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.draw() % bound.max(1)
    }

    /// True so many times in a thousand.
    pub fn per_mille(&mut self, of_thousand: u64) -> bool {
        self.below(1000) < of_thousand
    }
}

/// The finaliser of `SplitMix64` (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014).
const fn mixed(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_its_own_numbers_and_a_seed_always_the_same() {
        let draws = |seed: u64, name: &str| {
            let mut chance = Chance::new(seed).child(name);
            [chance.draw(), chance.draw(), chance.draw()]
        };
        assert_eq!(draws(1, "wire"), draws(1, "wire"));
        assert_ne!(draws(1, "wire"), draws(1, "deeds"));
        assert_ne!(draws(1, "wire"), draws(2, "wire"));
    }
}
