//! The replay: pods arrive one by one, a policy places them, nobody leaves.

use std::{collections::BTreeMap, fmt, str::FromStr, sync::Arc};

use gregal_core::place::{Chance, Demand, Experience, Identity, NodeSpec, PlaceError, Placement, Policy, Workload};
use serde::{Serialize, Serializer};
use sha2::Digest;

use super::{ground::Ground, read::Trace, unusable::Fragments};
use crate::{Absence, Spread, Watch, spread::as_micros};

/// The share of pods, in percent, that the shapes known to a policy make up: what FGD's authors chose.
pub(super) const TYPICAL_PERCENT: u64 = 95;
/// The most pods that arrive in one replay.
const ARRIVALS_MAX: usize = 5_000_000;
/// At which load, in percent of the GPUs there are, the result is read.
const MARKS_PERCENT: [u64; 2] = [100, 130];

/// A policy by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum PackPolicy {
    /// Any node where it fits.
    Random,
    /// The node with the least left.
    BestFit,
    /// Fragmentation gradient descent, as published.
    Fgd,
    /// Ours: least expected waste, learnt by rehearsing the usual workload on the empty cluster.
    Default,
}

impl PackPolicy {
    /// How equally good nodes are told apart.
    pub fn tie_rule(self) -> &'static str {
        match self {
            PackPolicy::Random => "none: by chance",
            PackPolicy::BestFit | PackPolicy::Fgd => "the first node in the order of the file",
            PackPolicy::Default => "by what nodes have free, never by name or order",
        }
    }
}

impl FromStr for PackPolicy {
    type Err = String;

    fn from_str(name: &str) -> Result<PackPolicy, String> {
        match name {
            "random" => Ok(PackPolicy::Random),
            "best-fit" => Ok(PackPolicy::BestFit),
            "fgd" => Ok(PackPolicy::Fgd),
            "default" => Ok(PackPolicy::Default),
            _ => Err(format!("no packing policy `{name}`: there are `random`, `best-fit`, `fgd` and `default`")),
        }
    }
}

/// How a trace is replayed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackOptions {
    /// The policy.
    pub policy: PackPolicy,
    /// What every draw follows from.
    pub seed: u64,
    /// How many GPUs are asked for in all, in thousandths of those there are.
    pub load_milli: u64,
    /// So many nodes more than the trace has, like ones of it, taken evenly from its file. The load and all percentages are still
    /// those of the GPUs of the trace.
    pub add_nodes: u32,
    /// Nodes that leave and come back. Pods on them arrive again at once.
    pub absences: Vec<Absence>,
}

/// A load as people write it, `1.3` for 130 % of the GPUs there are, in thousandths; `None` when it is not a decimal number
/// with at most three places, above 0 and at most 100.
pub fn load_milli(text: &str) -> Option<u64> {
    let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(part) || part.len() > 3 {
        return None;
    }
    let milli: u64 = format!("{part:0<3}").parse().ok()?;
    let load = whole.parse::<u64>().ok()?.checked_mul(1000)?.checked_add(milli)?;
    (1..=100_000).contains(&load).then_some(load)
}

/// After a pod arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// Thousandths of GPUs that were asked for so far.
    pub arrived_milli: u64,
    /// Thousandths of GPUs that are taken.
    pub allocated_milli: u64,
    /// Thousandths of GPUs that are free and that the mean GPU pod of the trace cannot use; read at each percent of load.
    pub unusable_milli: u64,
}

/// What a replay came to.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PackOutcome {
    /// The policy.
    pub policy: PackPolicy,
    /// The seed.
    pub seed: u64,
    /// How equally good nodes are told apart.
    pub tie_rule: &'static str,
    /// Nodes.
    pub nodes: usize,
    /// GPUs.
    pub gpus: u64,
    /// Pods that arrived.
    pub pods: usize,
    /// Percent of all GPUs that are taken when the GPUs asked for reach this percent of them: the mean over the pods whose
    /// arrival brings the load within half a percent, as the authors of FGD read it.
    pub allocated_percent: BTreeMap<u64, Hundredths>,
    /// Percent of all GPUs that are free at these loads and that the mean GPU pod of the trace cannot use, as FGD's authors
    /// measure fragmentation.
    pub unusable_percent: BTreeMap<u64, Hundredths>,
    /// Pods that fitted nowhere, when they arrived or when their node left.
    pub failed: usize,
    /// Pods whose node left.
    pub displaced: usize,
    /// How long decisions took, in nanoseconds; printed in microseconds.
    #[serde(rename = "decision_us", serialize_with = "as_micros")]
    pub decision_ns: Spread,
    /// SHA-256 of every placement in order, hex.
    pub digest: String,
    /// The load and the allocation after each arrival.
    #[serde(skip)]
    pub steps: Vec<Step>,
    /// GPUs that the trace itself has: what percentages are of.
    #[serde(skip)]
    pub gpus_of_trace: u64,
    /// What was placed where; `None` for a pod that failed.
    #[serde(skip)]
    pub placed: Vec<(Demand, Option<Placement>)>,
}

/// A number in hundredths, printed with its point.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Hundredths(pub u64);

impl fmt::Display for Hundredths {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:02}", self.0 / 100, self.0 % 100)
    }
}

impl Serialize for Hundredths {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(self.0 as f64 / 100.0)
    }
}

/// Replays a trace. Nothing but [`PackOutcome::decision_ns`] depends on the clock.
pub fn pack(trace: &Trace, options: &PackOptions, watch: &mut dyn Watch) -> Result<PackOutcome, PlaceError> {
    let gpus: u64 = trace.nodes.iter().map(|node| u64::from(node.spec.gpus)).sum();
    let arrivals = arrivals(trace, options.seed, gpus.saturating_mul(options.load_milli));
    let all = arrivals.len() as u64;
    let mut ground = Ground::new(trace, options)?;
    let fragments = Fragments::of(trace);
    let mut steps: Vec<Step> = Vec::with_capacity(arrivals.len());
    let mut step = Step { arrived_milli: 0, allocated_milli: 0, unusable_milli: fragments.unusable(&ground.placer) };
    for demand in arrivals {
        ground.nodes_leave_and_return(step.arrived_milli.checked_div(gpus).unwrap_or(0), watch)?;
        ground.arrive(demand, watch);
        let before = percent(&step, gpus);
        step.arrived_milli += demand.gpus.milli();
        step.allocated_milli = ground.taken_milli;
        if percent(&step, gpus) > before {
            step.unusable_milli = fragments.unusable(&ground.placer);
        }
        steps.push(step);
        watch.progress(steps.len() as u64, all);
    }
    let marks = |of: fn(&Step) -> u64| {
        let marks = MARKS_PERCENT.into_iter().filter(|mark| mark * 10 <= options.load_milli);
        marks.filter_map(|mark| Some((mark, at_mark(&steps, mark, gpus, of)?))).collect()
    };
    Ok(PackOutcome {
        policy: options.policy,
        seed: options.seed,
        tie_rule: options.policy.tie_rule(),
        nodes: ground.specs.len(),
        gpus: ground.specs.iter().map(|spec| u64::from(spec.gpus)).sum(),
        pods: ground.placed.len(),
        allocated_percent: marks(|step| step.allocated_milli),
        unusable_percent: marks(|step| step.unusable_milli),
        failed: ground.placed.iter().filter(|(_, placement)| placement.is_none()).count(),
        displaced: ground.displaced,
        decision_ns: Spread::of(ground.took_ns),
        digest: hex::encode(ground.digest.finalize()),
        steps,
        gpus_of_trace: gpus,
        placed: ground.placed,
    })
}

/// The load after a step, in percent of the GPUs.
pub(super) fn percent(step: &Step, gpus: u64) -> u64 {
    // A load of L percent is L x 10 thousandths of each GPU.
    (step.arrived_milli + 5 * gpus) / (10 * gpus.max(1))
}

/// The policy that fills the cluster of a trace, and whether it tells nodes apart by their rank.
pub(super) fn policy(trace: &Trace, options: &PackOptions, specs: &[NodeSpec]) -> (Identity, Policy) {
    let workload = || Workload::typical(trace.pods.iter().map(|pod| pod.demand), TYPICAL_PERCENT);
    match options.policy {
        PackPolicy::Random => (Identity::Content, Policy::Random { seed: child(options.seed, 3) }),
        PackPolicy::BestFit => (Identity::Rank, Policy::BestFit),
        PackPolicy::Fgd => (Identity::Rank, Policy::Fgd(workload())),
        PackPolicy::Default => {
            (Identity::Content, Policy::Default(Arc::new(Experience::rehearsed(specs, &workload()))))
        }
    }
}

/// The pods in the order of their arrival: the trace's, and drawn copies of them until no more fits under the load. When the
/// trace itself asks for more, drawn ones are left out.
fn arrivals(trace: &Trace, seed: u64, load_milli: u64) -> Vec<Demand> {
    let mut pods: Vec<Demand> = trace.pods.iter().map(|pod| pod.demand).collect();
    let mut asked: u64 = pods.iter().map(|pod| pod.gpus.milli()).sum();
    Chance::new(child(seed, 1)).shuffle(&mut pods);
    while asked > load_milli {
        asked -= pods.pop().map_or(asked, |pod| pod.gpus.milli());
    }
    let mut chance = Chance::new(child(seed, 2));
    while let Some(pod) = chance.below(trace.pods.len() as u64).map(|drawn| trace.pods[drawn as usize].demand) {
        asked += pod.gpus.milli();
        if asked > load_milli || pods.len() == ARRIVALS_MAX {
            break;
        }
        pods.push(pod);
    }
    pods
}

/// A seed of its own for each source of chance, so that a draw more in one moves no other.
fn child(seed: u64, source: u64) -> u64 {
    Chance::new(seed ^ source.rotate_right(8)).bits()
}

/// The mean of something, in hundredths of a percent of all GPUs, over the steps whose load is within half a percent of the
/// mark, or else within one and a half; of a cluster so small that there is none, at the last step before the mark.
fn at_mark(steps: &[Step], mark: u64, gpus: u64, of: fn(&Step) -> u64) -> Option<Hundredths> {
    let mean = |within: u64| {
        let near: Vec<&Step> = steps.iter().filter(|step| percent(step, gpus).abs_diff(mark) <= within).collect();
        let sum: u128 = near.iter().map(|step| u128::from(of(step))).sum();
        (sum * 10).checked_div(near.len() as u128 * u128::from(gpus))
    };
    let before = || {
        let last = steps.iter().rev().find(|step| step.arrived_milli <= mark * 10 * gpus)?;
        (u128::from(of(last)) * 10).checked_div(u128::from(gpus))
    };
    let share = mean(0).or_else(|| mean(1)).or_else(before)?;
    u64::try_from(share).ok().map(Hundredths)
}
