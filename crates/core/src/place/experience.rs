//! What a cluster learned from rehearsing its usual workload: how much of a GPU is never used again from each state on, and
//! which models run short.
//!
//! A measure of fragmentation that is written down in advance, as FGD's is, asks what each usual demand could use of a node
//! now. It cannot say what will come of a GPU with 350 thousandths free and few cores beside it: whether the cluster is
//! going to put something there. A rehearsal can. Demands drawn from the workload fill the empty cluster up to its size; for
//! every state that each GPU passed, what stayed free of it in the end is noted; the next rehearsal places where the sum of
//! these expectations grows least. That is policy iteration with Monte Carlo evaluation (Sutton and Barto, chapter 5), in
//! whole numbers. The best rehearsal's experience is kept. Nodes are rehearsed in an order of what they have, so that neither
//! names nor the order of input can matter.

use std::collections::BTreeMap;

use super::{
    chance::Chance,
    cluster::{Cluster, Identity, NodeSpec, Place},
    content::Content,
    demand::{Demand, GPU_MILLI, GpuAsk, MODELS_MAX, ModelId, ModelSet},
    placer::Placer,
    policy::Key,
    signed,
    workload::Workload,
};

/// How often the workload is rehearsed.
const ROUNDS: usize = 45;
/// The most nodes a rehearsal has: of a larger cluster, an even sample.
const NODES_MAX: usize = 1250;
/// The most demands drawn in one rehearsal.
const DRAWS_MAX: usize = 50_000;
/// The seed of the draws, the same in each round: two rounds differ by their experience alone.
const SEED: u64 = 7;
/// What is kept, in percent, of older rounds' notes when a new one's are added.
const KEEP_PERCENT: i64 = 95;
/// How many notes the expectation from the level alone counts for.
const PRIOR: i64 = 5;
/// How fast a model's price follows its failures: millionths of a GPU for a whole failure rate.
const PRICE_STEP: i64 = 300_000;
/// Where a node's state changes with its cores: tenths of a core for each GPU's worth that is free, rising.
const CPU_STEPS: [u64; 17] = [10, 20, 30, 40, 60, 80, 90, 100, 110, 120, 130, 140, 160, 200, 250, 300, 400];
const STEPS: usize = CPU_STEPS.len() + 1;
const LEVELS: usize = GPU_MILLI as usize + 1;
/// A note's weight, so that older notes can fade.
const NOTE: i64 = 1000;

/// What rehearsals taught. The empty experience judges by the best fit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Experience {
    /// Millionths of a GPU that are expected to stay free for good, by level and CPU step.
    waste: Vec<i64>,
    /// Millionths of a GPU that a whole GPU of each model costs those who could take another.
    prices: Vec<i64>,
}

impl Default for Experience {
    fn default() -> Experience {
        Experience { waste: Notes::default().waste(), prices: vec![0; MODELS_MAX] }
    }
}

impl Experience {
    /// What an empty cluster of these nodes learns from this workload. The same for the same nodes in any order.
    pub fn rehearsed(nodes: &[NodeSpec], workload: &Workload) -> Experience {
        let mut nodes: Vec<NodeSpec> = nodes.iter().map(|node| NodeSpec { place: Place::default(), ..*node }).collect();
        nodes.sort_unstable();
        let count = nodes.len().min(NODES_MAX);
        let sample: Vec<NodeSpec> = (0..count).map(|index| nodes[index * nodes.len() / count]).collect();
        let asks = workload.shapes().iter().any(|(demand, _)| demand.gpus != GpuAsk::None);
        let Ok(cluster) = Cluster::new(&sample, Identity::Content) else { return Experience::default() };
        if !asks || sample.iter().all(|node| node.gpus == 0) {
            return Experience::default();
        }
        let mut seen = Notes::default();
        let mut experience = Experience::default();
        let mut best = (u64::MAX, experience.clone());
        for _ in 0..ROUNDS {
            let rehearsal = Rehearsal::run(&cluster, workload, &experience);
            let free = rehearsal.free();
            let prices = rehearsal.prices(&experience.prices);
            seen.add(&rehearsal);
            let next = Experience { waste: seen.waste(), prices };
            let used = std::mem::replace(&mut experience, next);
            if free < best.0 {
                best = (free, used);
            }
        }
        best.1
    }

    /// Millionths of a GPU expected to stay free for good of what this node has free.
    pub(crate) fn waste(&self, content: &Content) -> i64 {
        let step = cpu_step(content);
        content.gpus.levels().iter().map(|level| self.waste[state(*level, step)]).sum()
    }

    fn price(&self, model: ModelId) -> i64 {
        self.prices.get(usize::from(model.number())).copied().unwrap_or(0)
    }

    /// How good a choice is: what it saves from being wasted, less the model's price; and a little for leaving less, 3
    /// millionths for each thousandth of a GPU and for each 16 of a core. Equals go by what is left.
    pub(crate) fn key(&self, content: &Content, before: i64, demand: &Demand, place: usize) -> Key {
        let after = content.less(demand, place);
        let left = signed(after.gpus.milli() + after.cpu_milli / 16);
        let price = content.model.map_or(0, |model| self.price(model));
        let pays = price * signed(demand.gpus.milli()) / i64::from(GPU_MILLI);
        (before - self.waste(&after) - pays - 3 * left, -left)
    }
}

/// Which of [`CPU_STEPS`] a node is at: how many cores it has for each GPU's worth that is free.
fn cpu_step(content: &Content) -> usize {
    let tenths = (content.cpu_milli * 10).checked_div(content.gpus.milli()).unwrap_or(0);
    CPU_STEPS.partition_point(|step| *step <= tenths)
}

fn state(level: u16, step: usize) -> usize {
    usize::from(level) * STEPS + step
}

/// What stayed free in the end of GPUs that passed a state: the sum and the count, both times [`NOTE`].
#[derive(Debug, Clone, Copy, Default)]
struct Note {
    sum: i64,
    count: i64,
}

#[derive(Debug, Clone)]
struct Notes {
    by_state: Vec<Note>,
    by_level: Vec<Note>,
}

impl Default for Notes {
    fn default() -> Notes {
        Notes { by_state: vec![Note::default(); LEVELS * STEPS], by_level: vec![Note::default(); LEVELS] }
    }
}

impl Notes {
    fn add(&mut self, rehearsal: &Rehearsal) {
        for note in self.by_state.iter_mut().chain(&mut self.by_level) {
            note.sum = note.sum * KEEP_PERCENT / 100;
            note.count = note.count * KEEP_PERCENT / 100;
        }
        for passed in &rehearsal.passed {
            let free =
                rehearsal.placer.cluster().gpus_free(passed.node).map_or(0, |gpus| gpus[usize::from(passed.gpu)]);
            for note in [&mut self.by_state[passed.state], &mut self.by_level[passed.state / STEPS]] {
                note.sum += i64::from(free) * NOTE;
                note.count += NOTE;
            }
        }
    }

    /// The expectations: of a state seen seldom, mostly what is known of its level; of a level seen seldom, half of it.
    fn waste(&self) -> Vec<i64> {
        let expect = |(index, note): (usize, &Note)| {
            let level = index / STEPS;
            let of_level = self.by_level[level];
            let by_level = (of_level.sum + signed(level as u64) * NOTE) * 1000 / (of_level.count + 2 * NOTE);
            (note.sum * 1000 + by_level * PRIOR * NOTE) / (note.count + PRIOR * NOTE)
        };
        self.by_state.iter().enumerate().map(expect).collect()
    }
}

/// A GPU was in a state.
struct Passed {
    node: u32,
    gpu: u8,
    state: usize,
}

/// One filling of the empty cluster.
struct Rehearsal {
    placer: Placer,
    passed: Vec<Passed>,
    /// Thousandths of GPUs that failed and that were asked for, by the models allowed, by shapes of up to one GPU and above.
    failed: BTreeMap<(ModelSet, bool), (i64, i64)>,
}

impl Rehearsal {
    fn run(empty: &Cluster, workload: &Workload, experience: &Experience) -> Rehearsal {
        let placer = Placer::by_experience(empty.clone(), experience.clone());
        let mut rehearsal = Rehearsal { placer, passed: Vec::new(), failed: BTreeMap::new() };
        let nodes = 0..empty.len() as u32;
        nodes.clone().for_each(|node| rehearsal.pass(node));
        let size: u64 = nodes.filter_map(|node| empty.content(node)).map(|content| content.gpus.milli()).sum();
        let mut chance = Chance::new(SEED);
        let mut asked = 0;
        for _ in 0..DRAWS_MAX {
            let Some(demand) = workload.draw(&mut chance).filter(|_| asked < size) else { break };
            asked += demand.gpus.milli();
            let placement = rehearsal.placer.place(&demand);
            let many = matches!(demand.gpus, GpuAsk::Whole(2..));
            let (failed, all) = rehearsal.failed.entry((demand.models, many)).or_default();
            *all += signed(demand.gpus.milli());
            match placement {
                Some(placement) => rehearsal.pass(placement.node),
                None => *failed += signed(demand.gpus.milli()),
            }
        }
        rehearsal
    }

    fn pass(&mut self, node: u32) {
        let cluster = self.placer.cluster();
        let Some((content, gpus)) = cluster.content(node).zip(cluster.gpus_free(node)) else { return };
        let step = cpu_step(&content);
        let passed = |(gpu, level): (u8, &u16)| Passed { node, gpu, state: state(*level, step) };
        self.passed.extend((0..).zip(gpus).filter(|(_, level)| **level > 0).map(passed));
    }

    /// Thousandths of GPUs that stayed free.
    fn free(&self) -> u64 {
        let contents = (0..self.placer.cluster().len() as u32).filter_map(|node| self.placer.cluster().content(node));
        contents.map(|content| content.gpus.milli()).sum()
    }

    /// The models' prices, moved towards where those who accept only some models fail as often as those who accept any:
    /// a step of dual ascent.
    fn prices(&self, prices: &[i64]) -> Vec<i64> {
        let (any_failed, any) = self.failed.get(&(ModelSet::Any, false)).copied().unwrap_or_default();
        let moved = |(model, price): (usize, &i64)| {
            let picky = self.failed.iter().filter(|((models, _), _)| models.names(model));
            let more = picky.map(|(_, (failed, all))| (failed - all * any_failed / any.max(1), all));
            let (more, all) = more.fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
            (price + (PRICE_STEP * more).checked_div(all).unwrap_or(0)).max(0)
        };
        prices.iter().enumerate().map(moved).collect()
    }
}
