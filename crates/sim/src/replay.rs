//! A replay: time jumps from event to event, and at each the scheduler decides over a snapshot.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
};

use gregal_core::{
    id::{JobId, OrganisationId, ProjectId, SiteId},
    schedule::{Bound, Decision, Item, Node, Place, Promise, Room, Snapshot, Waiting, schedule},
    time::Time,
};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{Request, Spread};

/// The model every accelerator of a pool is of.
const GPU: &str = "gpu";

/// The machines a load is replayed on: one site.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pool {
    /// CPU cores.
    pub cpus: u32,
    /// Accelerators.
    pub gpus: u32,
}

/// What a replay came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// Requests that ran.
    pub ran: usize,
    /// Requests that could never run in this pool.
    pub never: usize,
    /// Waiting, in seconds: the mean rounded down, the median, the 99th percentile and the longest.
    pub wait_s: Spread,
    /// From the first arrival to the last end, in seconds.
    pub makespan_s: u64,
    /// Thousandths of core-time and accelerator-time that were used between the first arrival and the last end.
    pub cpu_used_milli: u64,
    /// As above, for accelerators.
    pub gpu_used_milli: u64,
    /// SHA-256 over every placement in order, hex: two replays agree when this does.
    pub digest: String,
}

struct World {
    free: Pool,
    total: Pool,
    waiting: Vec<usize>,
    promised: BTreeMap<usize, Promise>,
    /// When it ends, which it is, and when it began.
    ends: BinaryHeap<Reverse<(u64, usize, u64)>>,
    waits: Vec<u64>,
    never: usize,
    digest: Sha256,
}

/// Replays a load, sorted by arrival, on a pool. The same load and pool give the same outcome everywhere.
pub fn replay(load: &[Request], pool: Pool) -> Outcome {
    let mut world = World {
        free: pool,
        total: pool,
        waiting: Vec::new(),
        promised: BTreeMap::new(),
        ends: BinaryHeap::new(),
        waits: Vec::new(),
        never: 0,
        digest: Sha256::new(),
    };
    let mut arrivals = load.iter().enumerate().peekable();
    let mut last_end = 0;
    loop {
        let next_arrival = arrivals.peek().map(|(_, request)| request.arrival_s);
        let next_end = world.ends.peek().map(|Reverse((end, ..))| *end);
        let Some(now) = next_arrival.into_iter().chain(next_end).min() else { break };
        while let Some(Reverse((end, index, _))) = world.ends.peek().copied() {
            if end > now {
                break;
            }
            world.ends.pop();
            last_end = last_end.max(end);
            world.free.cpus += load[index].cpus;
            world.free.gpus += load[index].gpus;
        }
        while let Some((index, _)) = arrivals.next_if(|(_, request)| request.arrival_s <= now) {
            world.waiting.push(index);
        }
        world.pass(load, now);
    }
    world.outcome(load, last_end)
}

impl World {
    /// One pass of the scheduler at this second.
    fn pass(&mut self, load: &[Request], now: u64) {
        let site = SiteId::from_u128(1);
        let waiting = self.waiting.iter().map(|index| Waiting {
            promised: self.promised.get(index).copied(),
            ..waiting(*index, load[*index], site)
        });
        let rooms = vec![self.room(load, site)];
        let snapshot = Snapshot { waiting: waiting.collect(), rooms, ..Snapshot::default() };
        let mut promises: BTreeMap<JobId, Promise> = BTreeMap::new();
        let mut decided: BTreeMap<JobId, bool> = BTreeMap::new();
        for decision in schedule(&snapshot, at(now)) {
            match decision {
                Decision::Start { job, .. } => drop(decided.insert(job, true)),
                Decision::Never { job, .. } => drop(decided.insert(job, false)),
                Decision::Wait { job, promise, .. } => promises.extend(promise.map(|promise| (job, promise))),
                // Nobody of a load can be stopped.
                Decision::Stop { .. } => {}
            }
        }
        let before = std::mem::take(&mut self.waiting);
        for index in before {
            match decided.get(&JobId::from_u128(index as u128)) {
                Some(true) => self.start(index, load[index], now),
                Some(false) => self.never += 1,
                None => {
                    self.waiting.push(index);
                    let promise = promises.get(&JobId::from_u128(index as u128));
                    self.promised.extend(promise.map(|promise| (index, *promise)));
                }
            }
        }
    }

    fn start(&mut self, index: usize, request: Request, now: u64) {
        self.free.cpus -= request.cpus;
        self.free.gpus -= request.gpus;
        self.waits.push(now - request.arrival_s);
        self.ends.push(Reverse((now + request.duration_s, index, now)));
        self.digest.update((index as u64).to_be_bytes());
        self.digest.update(now.to_be_bytes());
    }

    fn room(&self, load: &[Request], site: SiteId) -> Room {
        let bound = |Reverse((end, index, since)): &Reverse<(u64, usize, u64)>| Bound {
            job: Some(JobId::from_u128(*index as u128)),
            item: item(load[*index]),
            places: vec![Place::on(0)],
            since: at(*since),
            // What is known is the limit.
            free_at: Some(at(end - load[*index].duration_s + load[*index].limit_s)),
            told: None,
        };
        let node = Node {
            cpus_milli: self.total.cpus * 1000,
            memory_bytes: u64::MAX >> 1,
            gpus: vec![GPU.to_owned(); self.total.gpus as usize],
            gpus_broken: Vec::new(),
            ..Node::default()
        };
        Room {
            site,
            name: "pool".into(),
            alive: true,
            silent_since: None,
            nodes: vec![node],
            bound: self.ends.iter().map(bound).collect(),
            reserved: Vec::new(),
        }
    }

    fn outcome(self, load: &[Request], last_end: u64) -> Outcome {
        let first = load.first().map_or(0, |request| request.arrival_s);
        let makespan = last_end.saturating_sub(first);
        let fits = |request: &&Request| request.cpus <= self.total.cpus && request.gpus <= self.total.gpus;
        let used = |amount: fn(&Request) -> u32, total: u32| {
            let work: u128 = load.iter().filter(fits).map(|r| u128::from(amount(r)) * u128::from(r.duration_s)).sum();
            let room = u128::from(total) * u128::from(makespan);
            (work * 1000).checked_div(room).map_or(0, |used| u64::try_from(used).unwrap_or(u64::MAX))
        };
        Outcome {
            ran: self.waits.len(),
            never: self.never,
            wait_s: Spread::of(self.waits),
            makespan_s: makespan,
            cpu_used_milli: used(|request| request.cpus, self.total.cpus),
            gpu_used_milli: used(|request| request.gpus, self.total.gpus),
            digest: hex::encode(self.digest.finalize()),
        }
    }
}

fn at(second: u64) -> Time {
    Time::from_millis(i64::try_from(second.saturating_mul(1000)).unwrap_or(i64::MAX))
}

fn waiting(index: usize, request: Request, site: SiteId) -> Waiting {
    Waiting {
        job: JobId::from_u128(index as u128),
        item: item(request),
        since: at(request.arrival_s),
        sites: vec![site],
        limit_ms: request.limit_s.saturating_mul(1000),
        promised: None,
    }
}

fn item(request: Request) -> Item {
    Item {
        organisation: OrganisationId::from_u128(1),
        project: ProjectId::from_u128(1),
        sku: "any".into(),
        cpus_milli: request.cpus * 1000,
        memory_bytes: 1,
        gpus: request.gpus,
        gpu_model: None,
        priority: 0,
        preemptible: false,
        stops: 0,
        worked_ms: 0,
        units: 0,
        members: 1,
        within: None,
        spread: false,
        gpu_milli: 0,
        apart: None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ask(arrival_s: u64, duration_s: u64, cpus: u32) -> Request {
        Request { arrival_s, duration_s, limit_s: duration_s, cpus, gpus: 0 }
    }

    #[test]
    fn two_that_do_not_fit_together_run_one_after_the_other() {
        let outcome = replay(&[ask(0, 10, 3), ask(1, 10, 2)], Pool { cpus: 4, gpus: 0 });
        assert_eq!((outcome.ran, outcome.wait_s.max, outcome.makespan_s), (2, 9, 20));
        assert_eq!(outcome.cpu_used_milli, (3 * 10 + 2 * 10) * 1000 / (4 * 20));
    }

    #[test]
    fn what_can_never_fit_is_counted_and_holds_nobody_up() {
        let outcome = replay(&[ask(0, 10, 5), ask(0, 10, 4)], Pool { cpus: 4, gpus: 0 });
        assert_eq!((outcome.never, outcome.ran, outcome.wait_s.max), (1, 1, 0));
    }

    proptest! {
        #[test]
        fn everything_that_fits_runs_and_a_replay_repeats_itself(
            load in prop::collection::vec((0_u64..50, 1_u64..20, 1_u32..6, 0_u32..3), 0..40)
        ) {
            let mut load: Vec<Request> = load
                .into_iter()
                .map(|(arrival_s, duration_s, cpus, gpus)| Request { gpus, ..ask(arrival_s, duration_s, cpus) })
                .collect();
            load.sort_by_key(|request| request.arrival_s);
            let pool = Pool { cpus: 4, gpus: 1 };
            let outcome = replay(&load, pool);
            let fits = load.iter().filter(|request| request.cpus <= 4 && request.gpus <= 1).count();
            prop_assert_eq!((outcome.ran, outcome.never), (fits, load.len() - fits));
            prop_assert!(outcome.cpu_used_milli <= 1000);
            prop_assert_eq!(&replay(&load, pool), &outcome);
        }
    }
}
