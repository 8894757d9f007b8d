//! Fragmentation as FGD's authors measure it: what is free and yet of no use.

use gregal_core::place::{Content, Demand, GpuAsk, Placer, Workload};

use super::{read::Trace, replay::TYPICAL_PERCENT};

/// The usual GPU pods of a trace, with how often each comes.
pub(super) struct Fragments(Vec<(Demand, u64)>);

impl Fragments {
    pub(super) fn of(trace: &Trace) -> Self {
        let asks = trace.pods.iter().map(|pod| pod.demand).filter(|demand| demand.gpus != GpuAsk::None);
        Self(Workload::typical(asks, TYPICAL_PERCENT).shapes().to_vec())
    }

    /// Thousandths of GPUs that are free and that a pod cannot use: the mean over the pods.
    pub(super) fn unusable(&self, placer: &Placer) -> u64 {
        let mut sum = 0_u128;
        for (content, nodes) in placer.cluster().census() {
            for (demand, often) in &self.0 {
                sum += u128::from(unusable_by(&content, demand)) * u128::from(*often) * nodes as u128;
            }
        }
        let weight: u128 = self.0.iter().map(|(_, often)| u128::from(*often)).sum();
        u64::try_from(sum / weight.max(1)).unwrap_or(u64::MAX)
    }
}

/// What one pod cannot use of one node: all that is free if it does not fit there, else the parts too small for it.
fn unusable_by(content: &Content, demand: &Demand) -> u64 {
    if !content.fits(demand) {
        return content.gpus.milli();
    }
    let least = match demand.gpus {
        GpuAsk::None => 0,
        GpuAsk::Fraction(milli) => milli,
        GpuAsk::Whole(_) => gregal_core::place::GPU_MILLI,
    };
    content.gpus.levels().iter().filter(|free| **free < least).map(|free| u64::from(*free)).sum()
}
