//! What a scheduler may know of a job that has not run: how long jobs of its kind ran before, and how much its
//! organisation has used lately. No oracle: only ended runs count.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};

use super::quota::ShareId;

/// What is expected of a kind of job nobody has seen yet and that states no limit: an hour.
const UNSEEN_MS: u64 = 3_600_000;
/// Thousandths of an even share a family may be seen at: more changes no order.
const LOAD_MILLI_MAX: u64 = 1_000_000;

/// Jobs that are alike: one share's, of one size, with limits alike, on one kind of accelerator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Class {
    /// Whose.
    pub share: ShareId,
    /// Which kind of accelerator.
    pub sku: u16,
    /// How many.
    pub gpus: u32,
    /// The stated limit, as the number of bits of its seconds; 0 when none is stated.
    pub limit_bits: u8,
}

impl Class {
    /// The class of such a job.
    pub fn of(share: ShareId, sku: u16, gpus: u32, limit_ms: Option<u64>) -> Self {
        Self { share, sku, gpus, limit_bits: Self::bits(limit_ms) }
    }

    /// What a stated limit counts as.
    fn bits(limit_ms: Option<u64>) -> u8 {
        limit_ms.map_or(0, |limit| u8::try_from(u64::BITS - (limit / 1000).max(1).leading_zeros()).unwrap_or(u8::MAX))
    }

    /// The middle of what such a limit allows: half of its upper end. None: no limit is stated.
    fn middle_ms(self) -> Option<u64> {
        (self.limit_bits > 0).then(|| 500_u64.checked_shl(u32::from(self.limit_bits)).unwrap_or(u64::MAX))
    }
}

/// The last runs of every class.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct History {
    classes: BTreeMap<Class, Runs>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Runs {
    last_ms: VecDeque<u64>,
    sum_ms: u64,
}

impl History {
    /// Remembers a run; of a class the last `keep` are remembered.
    pub(super) fn ran(&mut self, class: Class, run_ms: u64, keep: usize) {
        let runs = self.classes.entry(class).or_default();
        // A sum of at most `keep` runs of at most a century each stays far below the range.
        runs.sum_ms += run_ms;
        runs.last_ms.push_back(run_ms);
        while runs.last_ms.len() > keep.max(1) {
            runs.sum_ms -= runs.last_ms.pop_front().unwrap_or(0);
        }
    }

    /// The mean of the remembered runs.
    pub(super) fn expected_ms(&self, class: Class) -> u64 {
        let runs = self.classes.get(&class).filter(|runs| !runs.last_ms.is_empty());
        runs.map_or_else(|| class.middle_ms().unwrap_or(UNSEEN_MS), |runs| runs.sum_ms / runs.last_ms.len() as u64)
    }

    pub(super) fn records(&self) -> Vec<(Class, Vec<u64>)> {
        self.classes.iter().map(|(class, runs)| (*class, runs.last_ms.iter().copied().collect())).collect()
    }

    pub(super) fn of_records(records: Vec<(Class, Vec<u64>)>) -> Self {
        let runs = |last: Vec<u64>| Runs { sum_ms: last.iter().sum(), last_ms: last.into() };
        Self { classes: records.into_iter().map(|(class, last)| (class, runs(last))).collect() }
    }
}

/// What a family has used lately: accelerator-milliseconds that fade by half every half-life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Usage {
    /// Faded accelerator-milliseconds up to `at_ms`.
    pub faded: u64,
    /// Until when it is counted.
    pub at_ms: u64,
    /// Accelerators in use since then.
    pub gpus: u64,
}

impl Usage {
    /// This usage as it stands at a later time.
    #[must_use]
    pub(crate) fn at(self, now_ms: u64, half_life_ms: u64) -> Self {
        let elapsed = now_ms.saturating_sub(self.at_ms);
        if elapsed == 0 {
            return self;
        }
        let fresh = u128::from(self.gpus) * u128::from(elapsed);
        let sum = (u128::from(faded(self.faded, elapsed, half_life_ms)) + fresh).min(u128::from(u64::MAX >> 1));
        Self { faded: u64::try_from(sum).unwrap_or(u64::MAX >> 1), at_ms: now_ms, gpus: self.gpus }
    }
}

/// Halves per half-life; within one the line between both ends, which needs no float and never rises.
fn faded(amount: u64, elapsed_ms: u64, half_life_ms: u64) -> u64 {
    if half_life_ms == 0 {
        return 0;
    }
    let halvings = elapsed_ms / half_life_ms;
    if halvings >= 64 {
        return 0;
    }
    let halved = amount >> halvings;
    let part = u128::from(halved) * u128::from(elapsed_ms % half_life_ms) / (2 * u128::from(half_life_ms));
    halved - u64::try_from(part).unwrap_or(0)
}

/// Thousandths of an even, weighted share that a family has used: 1000 is its due, 2000 twice as much.
pub(super) fn load_milli(used: u64, used_by_all: u64, weight: u32, weight_of_all: u64) -> u64 {
    let (mine, all) =
        (u128::from(used) * u128::from(weight_of_all), u128::from(used_by_all) * u128::from(weight.max(1)));
    (mine * 1000).checked_div(all).map_or(1000, |load| u64::try_from(load).unwrap_or(u64::MAX).min(LOAD_MILLI_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_last_runs_count() {
        let class = Class { share: ShareId(1), sku: 0, gpus: 1, limit_bits: 0 };
        let mut history = History::default();
        assert_eq!(history.expected_ms(class), UNSEEN_MS);
        for run in [1000, 10, 20, 30] {
            history.ran(class, run, 3);
        }
        assert_eq!(history.expected_ms(class), 20);
        assert_eq!(History::of_records(history.records()), history);
    }

    #[test]
    fn usage_halves_and_never_rises_while_nothing_runs() {
        let usage = Usage { faded: 1000, at_ms: 0, gpus: 0 };
        let steps: Vec<u64> = [0, 5, 10, 15, 20, 10_000].iter().map(|at| usage.at(*at, 10).faded).collect();
        assert_eq!(steps, [1000, 750, 500, 375, 250, 0]);
        assert_eq!(Usage { faded: 0, at_ms: 0, gpus: 3 }.at(10, 10).faded, 30);
        assert_eq!((load_milli(30, 40, 1, 2), load_milli(0, 0, 1, 2)), (1500, 1000));
    }
}
