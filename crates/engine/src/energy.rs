//! How many joules a workload used: read from the GPUs' own counters where it holds them whole, estimated elsewhere,
//! and always saying which.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The energy of one workload, in parts that were found out differently.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Energy {
    /// At most one part for the processors and one for the GPUs.
    pub parts: Vec<EnergyPart>,
}

impl Energy {
    /// All parts together, in millijoules.
    pub fn total_mj(&self) -> u64 {
        self.parts.iter().fold(0, |sum, part| sum.saturating_add(part.mj))
    }

    /// Whether any part is an estimate; an energy without parts is none.
    pub fn is_estimated(&self) -> bool {
        self.parts.iter().any(|part| matches!(part.basis, EnergyBasis::Estimated { .. }))
    }
}

/// One part of a workload's energy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnergyPart {
    /// What used it: `cpu` or `gpu`.
    pub of: String,
    /// How much, in millijoules.
    pub mj: u64,
    /// How it is known.
    pub basis: EnergyBasis,
}

/// How an amount of energy is known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "is")]
pub enum EnergyBasis {
    /// Read from a counter of the hardware.
    Measured {
        /// Half the width of the interval the true value is expected in, in percent of the amount.
        uncertainty_percent: u32,
    },
    /// Computed from something else.
    Estimated {
        /// From what, and how.
        method: String,
    },
}

/// What one busy core is taken to draw.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CpuPower {
    /// Milliwatts of one core under load, its share of memory and board included.
    pub core_mw: u64,
}

impl Default for CpuPower {
    /// 10 W a core: a 64-core server processor of 360 W with its memory, rounded up.
    fn default() -> Self {
        Self { core_mw: 10_000 }
    }
}

impl CpuPower {
    /// The energy of so much processor time: an estimate.
    pub fn estimate(self, cpu_ms: u64) -> EnergyPart {
        EnergyPart {
            of: "cpu".to_owned(),
            // A milliwatt for a millisecond is a microjoule.
            mj: cpu_ms.saturating_mul(self.core_mw) / 1000,
            basis: EnergyBasis::Estimated { method: format!("processor seconds x {} mW a busy core", self.core_mw) },
        }
    }
}

/// Counters of whole GPUs, by UUID, in millijoules since the driver was loaded.
pub(crate) type GpuCounters = BTreeMap<String, u64>;

/// Runs shorter than this are told as estimates: the counter is fed by samples, and too few fall into them.
const MEASURED_FROM_MS: u64 = 10_000;

/// 5 % for the boards' power sensors, 10 % for what happens between their samples (on A100 and H100 they see about a
/// quarter of the time).
const GPU_UNCERTAINTY_PERCENT: u32 = 15;

/// The energy between two readings of a workload's own GPUs. None if any of them did not count, or ran backwards, which
/// a reloaded driver does: an unknown is not a zero, and some of the GPUs are not all.
pub(crate) fn gpu_part(gpus: &[String], before: &GpuCounters, after: &GpuCounters, wall_ms: u64) -> Option<EnergyPart> {
    if gpus.is_empty() {
        return None;
    }
    let mut mj: u64 = 0;
    for uuid in gpus {
        mj = mj.saturating_add(after.get(uuid)?.checked_sub(*before.get(uuid)?)?);
    }
    let basis = if wall_ms >= MEASURED_FROM_MS {
        EnergyBasis::Measured { uncertainty_percent: GPU_UNCERTAINTY_PERCENT }
    } else {
        EnergyBasis::Estimated { method: "NVML energy counter over a run too short for its samples".to_owned() }
    };
    Some(EnergyPart { of: "gpu".to_owned(), mj, basis })
}

/// The most that GPUs can have used whose counters did not tell: what each may draw, for the whole time. `limits_mw` has
/// one entry a GPU.
pub(crate) fn gpu_estimate(limits_mw: &[Option<u64>], wall_ms: u64) -> Option<EnergyPart> {
    if limits_mw.is_empty() {
        return None;
    }
    let known = limits_mw.iter().flatten().fold(0_u64, |sum, mw| sum.saturating_add(*mw));
    let mut method = "GPUs at their power limit all the time: no energy counter told".to_owned();
    let silent = limits_mw.iter().filter(|limit| limit.is_none()).count();
    if silent > 0 {
        method = format!("{method}; {silent} of {} left out, without a limit either", limits_mw.len());
    }
    let basis = EnergyBasis::Estimated { method };
    Some(EnergyPart { of: "gpu".to_owned(), mj: wall_ms.saturating_mul(known) / 1000, basis })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_watts_for_a_second_are_ten_joules_and_an_estimate() {
        let energy = Energy { parts: vec![CpuPower { core_mw: 10_000 }.estimate(1000)] };
        assert_eq!(energy.total_mj(), 10_000);
        assert!(energy.is_estimated());
        assert_eq!(CpuPower { core_mw: 3 }.estimate(u64::MAX).mj, u64::MAX / 1000, "it saturates");
    }

    #[test]
    fn gpu_energy_is_measured_only_when_the_run_was_long_enough_and_the_counter_sane() {
        let at = |a: u64, b: u64| GpuCounters::from([("GPU-a".to_owned(), a), ("GPU-b".to_owned(), b)]);
        let two = ["GPU-a".to_owned(), "GPU-b".to_owned()];
        let part = gpu_part(&two, &at(100, 200), &at(1100, 2200), 60_000).unwrap();
        assert_eq!(part.mj, 3000);
        assert!(matches!(part.basis, EnergyBasis::Measured { uncertainty_percent: 15 }));
        let short = gpu_part(&two, &at(100, 200), &at(1100, 2200), 9_999).unwrap();
        assert!(matches!(short.basis, EnergyBasis::Estimated { .. }));
        assert_eq!(
            gpu_part(&two, &at(100, 200), &at(50, 2200), 60_000),
            None,
            "a counter that ran backwards is unknown"
        );
        let lost = GpuCounters::from([("GPU-a".to_owned(), 9)]);
        assert_eq!(gpu_part(&two, &at(1, 2), &lost, 60_000), None, "a GPU that fell off the bus is unknown");
        assert_eq!(gpu_part(&two, &lost, &at(10, 20), 60_000), None, "one of two is not both");
        assert_eq!(gpu_part(&[], &at(1, 2), &at(3, 4), 60_000), None, "no GPU, no part");
    }

    #[test]
    fn gpus_that_did_not_count_are_estimated_at_their_limit_and_those_without_one_are_named() {
        let of = |limits: &[Option<u64>]| gpu_estimate(limits, 2_000).map(|part| (part.mj, part.basis));
        assert_eq!(of(&[]), None);
        let (mj, basis) = of(&[Some(700_000), Some(300_000)]).unwrap();
        assert_eq!(mj, 2_000_000, "1000 W for 2 s");
        assert!(matches!(basis, EnergyBasis::Estimated { method } if !method.contains("left out")));
        let (mj, basis) = of(&[Some(700_000), None]).unwrap();
        assert_eq!(mj, 1_400_000);
        assert!(matches!(basis, EnergyBasis::Estimated { method } if method.contains("1 of 2 left out")));
    }
}
