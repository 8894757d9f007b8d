//! Chooses a token from scores. Each generation owns its chance, so the same seed gives the same choices in any company.

/// How tokens are chosen.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sampling {
    /// 0 always takes the likeliest; 1 follows the model; higher is wilder. At most 2.
    pub temperature: f32,
    /// Chooses among the likeliest tokens that together have this share of the probability; 1 is all.
    pub top_p: f32,
    /// Start of the random numbers.
    pub seed: u64,
}

impl Sampling {
    /// Always the likeliest token.
    pub const GREEDY: Self = Self { temperature: 0.0, top_p: 1.0, seed: 0 };
}

/// Chooses tokens for one generation.
#[derive(Debug)]
pub struct Sampler {
    sampling: Sampling,
    state: u64,
}

impl Sampler {
    /// Starts a generation.
    pub fn new(sampling: Sampling) -> Self {
        Self { sampling, state: sampling.seed }
    }

    /// The next token's id. Among equals the lowest id wins. `scores` must not be empty.
    pub fn pick(&mut self, scores: &[f32]) -> u32 {
        let best = best(scores);
        if self.sampling.temperature <= 0.0 {
            return best as u32;
        }
        let most = scores[best];
        let heat = self.sampling.temperature;
        let weights: Vec<f32> = scores.iter().map(|score| ((score - most) / heat).exp()).collect();
        let total: f64 = weights.iter().map(|weight| f64::from(*weight)).sum();
        // Drawn even when the choice is clear, so that a draw always stands at the same place.
        let draw = self.draw();
        let top_p = f64::from(self.sampling.top_p);
        if top_p >= 1.0 {
            return choose(weights.iter().enumerate().map(|(id, weight)| (id, f64::from(*weight))), draw * total, best);
        }
        // What weighs less than this cannot be needed: all of it together is less than what `top_p` leaves out.
        let least = (1.0 - top_p) * total / weights.len() as f64;
        let heavy = weights.iter().enumerate().map(|(id, weight)| (id, f64::from(*weight)));
        let mut heavy: Vec<_> = heavy.filter(|(_, weight)| *weight >= least).collect();
        heavy.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        let (mut kept, mut sum) = (0, 0.0);
        while kept < heavy.len() && (kept == 0 || sum < top_p * total) {
            sum += heavy[kept].1;
            kept += 1;
        }
        choose(heavy[..kept].iter().copied(), draw * sum, best)
    }

    /// A number from 0 (included) to 1 (excluded): `SplitMix64`.
    fn draw(&mut self) -> f64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        (mixed >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// Scores that are not numbers never win; of all such, the first id does.
fn best(scores: &[f32]) -> usize {
    let mut best = 0;
    for (id, score) in scores.iter().enumerate() {
        if *score > scores[best] || scores[best].is_nan() {
            best = id;
        }
    }
    best
}

fn choose(weights: impl Iterator<Item = (usize, f64)>, at: f64, otherwise: usize) -> u32 {
    let mut sum = 0.0;
    for (id, weight) in weights {
        sum += weight;
        if at < sum {
            return id as u32;
        }
    }
    otherwise as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shares(sampling: Sampling, scores: &[f32]) -> Vec<f64> {
        let mut sampler = Sampler::new(sampling);
        let mut counts = vec![0u32; scores.len()];
        for _ in 0..20_000 {
            counts[sampler.pick(scores) as usize] += 1;
        }
        counts.iter().map(|count| f64::from(*count) / 20_000.0).collect()
    }

    #[test]
    fn greedy_takes_the_likeliest_and_the_lowest_of_equals() {
        assert_eq!(Sampler::new(Sampling::GREEDY).pick(&[0.5, 2.0, 2.0, -1.0]), 1);
        assert_eq!(Sampler::new(Sampling::GREEDY).pick(&[f32::NAN, 1.0]), 1);
    }

    #[test]
    fn choices_follow_the_probabilities() {
        let scores = [1f32.ln(), 2f32.ln(), 5f32.ln()];
        let got = shares(Sampling { temperature: 1.0, top_p: 1.0, seed: 7 }, &scores);
        for (got, wanted) in got.iter().zip([0.125, 0.25, 0.625]) {
            assert!((got - wanted).abs() < 0.015, "{got} is not {wanted}");
        }
    }

    #[test]
    fn the_unlikely_rest_is_never_chosen() {
        let scores = [1f32.ln(), 2f32.ln(), 5f32.ln()];
        let got = shares(Sampling { temperature: 1.0, top_p: 0.7, seed: 7 }, &scores);
        assert!(got[0] < 1e-9);
        assert!((got[1] - 2.0 / 7.0).abs() < 0.015);
    }

    #[test]
    fn a_seed_decides_all() {
        let scores: Vec<f32> = (0..100).map(|n| (n as f32 * 0.37).sin()).collect();
        let run = |seed| {
            let mut sampler = Sampler::new(Sampling { temperature: 1.0, top_p: 0.95, seed });
            (0..50).map(|_| sampler.pick(&scores)).collect::<Vec<_>>()
        };
        assert_eq!(run(3), run(3));
        assert_ne!(run(3), run(4));
    }
}
