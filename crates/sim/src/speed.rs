//! How fast nodes are chosen on a large cluster: it is filled, then demands leave and come at random, then everything is
//! built anew from what runs.

use std::sync::Arc;

use gregal_core::place::{
    Chance, Cluster, Demand, Experience, GpuAsk, Identity, NodeSpec, PlaceError, Placement, Placer, Policy, Workload,
};
use serde::Serialize;

use crate::{Spread, Watch, spread::as_micros, watch::timed};

/// How large the cluster is and how long it is watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpeedOptions {
    /// Nodes.
    pub nodes: usize,
    /// GPUs of each.
    pub gpus_per_node: u8,
    /// How often one demand leaves and another comes once the cluster is full.
    pub turns: usize,
    /// What every draw follows from.
    pub seed: u64,
}

/// What was measured.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SpeedOutcome {
    /// Nodes.
    pub nodes: usize,
    /// GPUs in all.
    pub gpus: u64,
    /// Distinct shapes of demand.
    pub shapes: usize,
    /// Percent of GPUs taken when no more of the fill fitted.
    pub allocated_percent: f64,
    /// Milliseconds that the rehearsals took, once for a workload.
    pub rehearsal_ms: f64,
    /// Demands that came while filling, of which some fitted nowhere.
    pub demands: usize,
    /// Placements made a second while filling.
    pub placements_per_s: f64,
    /// One decision while filling, in nanoseconds; printed in microseconds.
    #[serde(rename = "place_us", serialize_with = "as_micros")]
    pub place_ns: Spread,
    /// One release and one placement on the full cluster, an incremental pass, in nanoseconds; printed in microseconds.
    #[serde(rename = "turn_us", serialize_with = "as_micros")]
    pub turn_ns: Spread,
    /// Building the cluster anew from what runs, and choosing once for every shape: a full pass.
    pub rebuild_ms: f64,
}

/// Measures.
pub fn speed(options: SpeedOptions, watch: &mut dyn Watch) -> Result<SpeedOutcome, PlaceError> {
    let gpus = u64::from(options.gpus_per_node);
    let spec = NodeSpec {
        cpu_milli: gpus * 12_000,
        memory_mib: gpus * 98_304,
        gpus: options.gpus_per_node,
        ..NodeSpec::default()
    };
    let specs = vec![spec; options.nodes];
    let mut chance = Chance::new(options.seed);
    let shapes = shapes(options.gpus_per_node);
    let history: Vec<Demand> = (0..10_000).filter_map(|_| draw(&shapes, &mut chance)).collect();
    let (experience, rehearsal) =
        timed(watch, || Arc::new(Experience::rehearsed(&specs, &Workload::typical(history.iter().copied(), 100))));
    let policy = Policy::Default(experience);
    let mut placer = Placer::new(Cluster::new(&specs, Identity::Content)?, &policy);

    let mut running: Vec<(Demand, Placement)> = Vec::new();
    let (mut filling, mut asked) = (Vec::new(), 0);
    let size = options.nodes as u64 * gpus * 1000;
    while let Some(demand) = draw(&shapes, &mut chance).filter(|_| asked < size) {
        asked += demand.gpus.milli().max(100);
        let (placement, took) = timed(watch, || placer.place(&demand));
        filling.push(took);
        running.extend(placement.map(|placement| (demand, placement)));
    }
    let taken: u64 = running.iter().map(|(demand, _)| demand.gpus.milli()).sum();
    let (spent, count): (u64, usize) = (filling.iter().sum(), running.len());

    let mut turns = Vec::with_capacity(options.turns);
    for _ in 0..options.turns {
        let Some(leaver) = chance.below(running.len() as u64) else { break };
        let Some(demand) = draw(&shapes, &mut chance) else { break };
        let (left, placement) = running.swap_remove(leaver as usize);
        let (next, took) = timed(watch, || placer.release(&left, &placement).map(|()| placer.place(&demand)));
        turns.push(took);
        running.extend(next?.map(|placement| (demand, placement)));
    }
    let (chosen, rebuild) = timed(watch, || {
        let mut cluster = Cluster::new(&specs, Identity::Content)?;
        running.iter().try_for_each(|(demand, placement)| cluster.take(demand, placement))?;
        let mut placer = Placer::new(cluster, &policy);
        Ok::<usize, PlaceError>(shapes.iter().filter_map(|shape| placer.choose(shape)).count())
    });
    chosen?;
    Ok(SpeedOutcome {
        nodes: options.nodes,
        gpus: options.nodes as u64 * gpus,
        shapes: shapes.len(),
        allocated_percent: taken as f64 * 100.0 / size.max(1) as f64,
        rehearsal_ms: rehearsal as f64 / 1e6,
        demands: filling.len(),
        placements_per_s: count as f64 * 1e9 / spent.max(1) as f64,
        place_ns: Spread::of(filling),
        turn_ns: Spread::of(turns),
        rebuild_ms: rebuild as f64 / 1e6,
    })
}

/// Parts of a GPU, and 1, 2, 4 and 8, each with 2 to 16 cores a GPU's worth; and jobs without a GPU.
fn shapes(gpus_per_node: u8) -> Vec<Demand> {
    let parts = [100, 160, 230, 250, 320, 470, 500, 550, 650, 810].map(GpuAsk::Fraction);
    let wholes = [1, 1, 1, 2, 4, 8].into_iter().filter(|count| *count <= gpus_per_node).map(GpuAsk::Whole);
    let mut shapes = Vec::new();
    for gpus in parts.into_iter().chain(wholes).chain([GpuAsk::None]) {
        for cores in [2, 4, 8, 11, 12, 16] {
            let worth = gpus.milli().div_ceil(1000).max(1);
            let cpu_milli = cores * 1000 * worth;
            shapes.push(Demand { cpu_milli, memory_mib: cpu_milli, gpus, ..Demand::default() });
        }
    }
    shapes
}

fn draw(shapes: &[Demand], chance: &mut Chance) -> Option<Demand> {
    chance.below(shapes.len() as u64).map(|drawn| shapes[drawn as usize])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_measured_is_a_cluster_that_fills_up() {
        let mut nanos = 0;
        let mut clock = || {
            nanos += 2000;
            nanos
        };
        let outcome = speed(SpeedOptions { nodes: 20, gpus_per_node: 8, turns: 50, seed: 1 }, &mut clock).unwrap();
        assert_eq!((outcome.nodes, outcome.gpus), (20, 160));
        assert!((70.0..=100.0).contains(&outcome.allocated_percent), "{outcome:?}");
        // The clock of this test moves on by two microseconds each time it is read.
        assert_eq!(outcome.place_ns, Spread { mean: 2000, p50: 2000, p99: 2000, max: 2000 });
        assert_eq!(outcome.turn_ns, outcome.place_ns);
        assert_eq!(serde_json::to_value(&outcome).unwrap()["place_us"]["p99"], 2.0);
        assert!(outcome.placements_per_s > 0.0 && outcome.placements_per_s <= 500_000.0);
    }
}
