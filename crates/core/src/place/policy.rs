//! Policies: which of the nodes where a demand fits is the best.

use std::sync::Arc;

use super::{
    content::Content,
    demand::{Demand, GpuAsk},
    experience::Experience,
    signed,
    workload::{Fragmentation, Workload},
};

/// How a node is chosen among those where a demand fits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Policy {
    /// Any of them, each as likely as the next, by a generator with this seed. For comparison.
    Random {
        /// The seed.
        seed: u64,
    },
    /// The one with the least CPU and GPU left, weighed alike, rounded as the authors of FGD do. For comparison.
    BestFit,
    /// The one whose fragmentation grows least under this workload, rounded as the authors of FGD do. For comparison.
    Fgd(Workload),
    /// The one where least is expected to be wasted, by the experience of rehearsals.
    Default(Arc<Experience>),
}

/// How good a choice is: the greater the better, the first part first.
pub(crate) type Key = (i64, i64);

/// A policy made ready to judge.
#[derive(Debug, Clone)]
pub(crate) enum Judge {
    BestFit,
    Fgd(Fragmentation),
    Default(Arc<Experience>),
}

impl Judge {
    /// How good it is to place a demand, that fits, on a node with this content; a part on the GPU at `place`.
    pub(crate) fn key(&self, content: &Content, before: i64, demand: &Demand, place: usize) -> Key {
        match self {
            Judge::BestFit => {
                (best_fit(content, demand), -(i64::from(content.gpus.levels().get(place).copied().unwrap_or(0))))
            }
            Judge::Fgd(fragmentation) => {
                let after = signed(fragmentation.of(&content.less(demand, place)));
                (sigmoid_percent(before - after, fragmentation.weight()), 0)
            }
            Judge::Default(experience) => experience.key(content, before, demand, place),
        }
    }

    /// What [`Judge::key`] wants to know of a content before anything is placed.
    pub(crate) fn before(&self, content: &Content) -> i64 {
        match self {
            Judge::BestFit => 0,
            Judge::Fgd(fragmentation) => signed(fragmentation.of(content)),
            Judge::Default(experience) => experience.waste(content),
        }
    }

    /// The best choice among the GPUs of a content, as places in its levels; `None` when the demand does not fit.
    pub(crate) fn best(&self, content: &Content, before: i64, demand: &Demand) -> Option<Key> {
        if !content.fits(demand) {
            return None;
        }
        places(content, demand).map(|place| self.key(content, before, demand, place)).max()
    }
}

/// The places of a content's levels that a demand may take a part of: one of each level. A demand for whole GPUs or none
/// has one choice.
fn places(content: &Content, demand: &Demand) -> impl Iterator<Item = usize> {
    let levels = content.gpus.levels();
    let (from, to) = match demand.gpus {
        GpuAsk::Fraction(milli) => (levels.partition_point(|free| *free < milli), levels.len()),
        GpuAsk::None | GpuAsk::Whole(_) => (0, 1),
    };
    (from..to).filter(move |place| *place == from || levels[*place] != levels[*place - 1])
}

/// The score of the authors' `BestFitScore`: 100 less half the shares of a 128-core node and of 8 GPUs that stay free, as a
/// whole number.
fn best_fit(content: &Content, demand: &Demand) -> i64 {
    let cpu = signed(content.cpu_milli - demand.cpu_milli);
    let gpu = signed(content.gpus.milli() - demand.gpus.milli());
    (256_000 - cpu - 16 * gpu).div_euclid(2560)
}

/// `floor(100 / (1 + exp(-x)))` where x is how many GPUs the fragmentation shrinks by: `shrinks / weight` thousandths.
fn sigmoid_percent(shrinks: i64, weight: u64) -> i64 {
    let weight = i128::from(weight);
    // The score is at least 50 + k once x >= ln((50 + k) / (50 - k)).
    let reaches = |k: usize| i128::from(shrinks) * 1_000_000 >= i128::from(LN_MILLIONTHS[k]) * 1000 * weight;
    let under = |k: usize| -i128::from(shrinks) * 1_000_000 <= i128::from(LN_MILLIONTHS[k]) * 1000 * weight;
    if shrinks >= 0 {
        50 + signed((1..50).take_while(|k| reaches(*k)).count() as u64)
    } else {
        49 - signed((1..50).take_while(|k| !under(*k)).count() as u64)
    }
}

/// `ln((50 + k) / (50 - k))` in millionths, for k from 0 to 49.
const LN_MILLIONTHS: [i64; 50] = [
    0, 40_005, 80_043, 120_144, 160_343, 200_671, 241_162, 281_851, 322_773, 363_965, 405_465, 447_312, 489_548,
    532_217, 575_364, 619_039, 663_294, 708_185, 753_772, 800_119, 847_298, 895_384, 944_462, 994_623, 1_045_969,
    1_098_612, 1_152_680, 1_208_311, 1_265_666, 1_324_925, 1_386_294, 1_450_010, 1_516_347, 1_585_627, 1_658_228,
    1_734_601, 1_815_290, 1_900_959, 1_992_430, 2_090_741, 2_197_225, 2_313_635, 2_442_347, 2_586_689, 2_751_535,
    2_944_439, 3_178_054, 3_476_099, 3_891_820, 4_595_120,
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::place::{GpusFree, ModelSet};

    fn content(gpus: &[u16], cores: u64) -> Content {
        Content { rank: 0, model: None, gpus: GpusFree::new(gpus), cpu_milli: cores * 1000, memory_mib: 0 }
    }

    fn demand(gpus: GpuAsk, cores: u64) -> Demand {
        Demand { cpu_milli: cores * 1000, memory_mib: 0, gpus, models: ModelSet::Any }
    }

    #[test]
    fn the_whole_number_sigmoid_is_the_published_one() {
        for shrinks in -6000..=6000_i64 {
            let published = (100.0 / (1.0 + (-(shrinks as f64) / 1000.0).exp())).floor();
            assert_eq!(sigmoid_percent(shrinks * 3, 3), published as i64, "{shrinks}");
        }
    }

    #[test]
    fn best_fit_scores_as_published() {
        // 48 of 128 cores and 3 of 8 GPUs stay free: 100 x (1 - (0.375 + 0.375) / 2) = 62.5.
        let node = content(&[1000, 1000, 1000, 500], 52);
        assert_eq!(best_fit(&node, &demand(GpuAsk::Fraction(500), 4)), 62);
        assert_eq!(best_fit(&content(&[1000], 4), &demand(GpuAsk::Whole(1), 4)), 100);
    }

    #[test]
    fn fragmentation_is_what_the_usual_demands_cannot_use() {
        let history = [demand(GpuAsk::Fraction(500), 4), demand(GpuAsk::Whole(1), 4), demand(GpuAsk::None, 1)];
        let fragmentation = Fragmentation::new(&Workload::typical(history, 100));
        let of = |gpus: &[u16], cores| fragmentation.of(&content(gpus, cores));
        // A third of the weight asks for no GPU and can use none; the half cannot use 300, the whole one neither 300 nor 700.
        assert_eq!(of(&[300, 700, 1000], 8), 2000 + 300 + 1000);
        // No whole one is free: to that demand, all is lost.
        assert_eq!(of(&[300, 700], 8), 1000 + 300 + 1000);
        // Too few cores for either.
        assert_eq!(of(&[300, 700, 1000], 3), 3 * 2000);
        assert_eq!(of(&[0, 0], 8), 0);
    }
}
