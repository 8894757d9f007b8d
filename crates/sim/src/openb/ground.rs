//! The nodes of a packing replay: pods arrive on them and stay, and nodes may leave for a while.

use std::{cmp::Reverse, collections::BTreeSet};

use gregal_core::place::{
    Cluster, Demand, GPU_MILLI, GpuAsk, Identity, NodeSpec, PlaceError, Placement, Placer, Policy,
};
use sha2::{Digest, Sha256};

use super::{
    read::Trace,
    replay::{PackOptions, policy},
};
use crate::{Absence, Watch, Why, watch::timed};

pub(super) struct Ground {
    pub(super) specs: Vec<NodeSpec>,
    identity: Identity,
    policy: Policy,
    pub(super) placer: Placer,
    /// Every pod that came, and where it is.
    pub(super) placed: Vec<(Demand, Option<Placement>)>,
    absences: Vec<Absence>,
    /// When nodes leave or come back, in order: (load in thousandths, is a return, which absence).
    edges: BTreeSet<(u64, Reverse<bool>, usize)>,
    /// The nodes that each absence took.
    away: Vec<Vec<u32>>,
    pub(super) taken_milli: u64,
    pub(super) displaced: usize,
    pub(super) took_ns: Vec<u64>,
    pub(super) digest: Sha256,
}

impl Ground {
    pub(super) fn new(trace: &Trace, options: &PackOptions) -> Result<Self, PlaceError> {
        let specs = specs(trace, options.add_nodes);
        let (identity, policy) = policy(trace, options, &specs);
        let edges = options.absences.iter().enumerate().flat_map(|(place, absence)| {
            [(absence.from, Reverse(false), place), (absence.until, Reverse(true), place)]
        });
        Ok(Self {
            placer: Placer::new(Cluster::new(&specs, identity)?, &policy),
            edges: edges.collect(),
            away: vec![Vec::new(); options.absences.len()],
            absences: options.absences.clone(),
            specs,
            identity,
            policy,
            placed: Vec::new(),
            taken_milli: 0,
            displaced: 0,
            took_ns: Vec::new(),
            digest: Sha256::new(),
        })
    }

    /// A pod comes and is placed, if it fits anywhere.
    pub(super) fn arrive(&mut self, demand: Demand, watch: &mut dyn Watch) {
        let placement = self.place(&demand, watch);
        self.placed.push((demand, placement));
    }

    fn place(&mut self, demand: &Demand, watch: &mut dyn Watch) -> Option<Placement> {
        let (placement, took) = timed(watch, || self.placer.place(demand));
        self.took_ns.push(took);
        if placement.is_some() {
            self.taken_milli += demand.gpus.milli();
        }
        record(&mut self.digest, placement.as_ref());
        placement
    }

    /// Lets nodes leave and come back that do so at this load or before, in thousandths.
    pub(super) fn nodes_leave_and_return(&mut self, load: u64, watch: &mut dyn Watch) -> Result<(), PlaceError> {
        while self.edges.first().is_some_and(|(at, ..)| *at <= load) {
            let Some((_, Reverse(returns), place)) = self.edges.pop_first() else { break };
            if returns {
                self.away[place].clear();
                self.rebuild()?;
            } else {
                self.leave(place, watch)?;
            }
        }
        Ok(())
    }

    fn leave(&mut self, place: usize, watch: &mut dyn Watch) -> Result<(), PlaceError> {
        let leavers: BTreeSet<u32> = self.leavers(self.absences[place]).into_iter().collect();
        let stood = |placement: &Option<Placement>| placement.as_ref().is_some_and(|at| leavers.contains(&at.node));
        let displaced: Vec<usize> =
            (0..).zip(&self.placed).filter(|(_, (_, at))| stood(at)).map(|(pod, _)| pod).collect();
        for pod in &displaced {
            let (demand, placement) = &mut self.placed[*pod];
            *placement = None;
            self.taken_milli -= demand.gpus.milli();
        }
        self.displaced += displaced.len();
        self.away[place] = leavers.into_iter().collect();
        self.rebuild()?;
        for pod in displaced {
            let demand = self.placed[pod].0;
            self.placed[pod].1 = self.place(&demand, watch);
        }
        Ok(())
    }

    fn leavers(&self, absence: Absence) -> Vec<u32> {
        let away: BTreeSet<u32> = self.away.iter().flatten().copied().collect();
        let mut there: Vec<u32> = (0..).take(self.specs.len()).filter(|node| !away.contains(node)).collect();
        there.reverse();
        if absence.why == Why::Reserved {
            let taken = |node: &u32| {
                let free = self.placer.cluster().gpus_free(*node).unwrap_or_default();
                free.iter().map(|free| u64::from(GPU_MILLI - free)).sum::<u64>()
            };
            there.sort_by_key(taken);
        }
        there.truncate(absence.nodes as usize);
        there
    }

    /// Builds the cluster anew from what stands on it; nodes that are away are full.
    fn rebuild(&mut self) -> Result<(), PlaceError> {
        let mut cluster = Cluster::new(&self.specs, self.identity)?;
        for (demand, placement) in &self.placed {
            placement.as_ref().map_or(Ok(()), |placement| cluster.take(demand, placement))?;
        }
        for node in self.away.iter().flatten() {
            let spec = self.specs[*node as usize];
            let gpus = if spec.gpus == 0 { GpuAsk::None } else { GpuAsk::Whole(spec.gpus) };
            let all = Demand { cpu_milli: spec.cpu_milli, memory_mib: spec.memory_mib, gpus, ..Demand::default() };
            cluster.take(&all, &Placement { node: *node, gpus: (0..spec.gpus).collect() })?;
        }
        self.placer = Placer::new(cluster, &self.policy);
        Ok(())
    }
}

/// The trace's nodes, and so many more like ones of it, taken evenly from the file.
fn specs(trace: &Trace, more: u32) -> Vec<NodeSpec> {
    let specs: Vec<NodeSpec> = trace.nodes.iter().map(|node| node.spec).collect();
    let like = |added: u32| specs[(u64::from(added) * specs.len() as u64 / u64::from(more)) as usize];
    let added: Vec<NodeSpec> = (0..more).map(like).collect();
    specs.iter().copied().chain(added).collect()
}

fn record(digest: &mut Sha256, placement: Option<&Placement>) {
    match placement {
        None => digest.update([0]),
        Some(placement) => {
            digest.update([1]);
            digest.update(placement.node.to_be_bytes());
            digest.update([placement.gpus.len() as u8]);
            digest.update(&placement.gpus);
        }
    }
}
