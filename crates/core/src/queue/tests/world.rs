//! A small world around a queue: jobs come, run as long as they truly run, save and stop when told.

use std::collections::BTreeMap;

use super::super::{Ask, Config, Decision, Ground, Policy, Preemption, Queue, Quota, Share, ShareId, Sku, Slot, Stage};
use crate::id::JobId;

/// A job of a world: what is asked, when, and what nobody tells the queue.
#[derive(Debug, Clone, Copy)]
pub(super) struct Life {
    pub(super) ask: Ask,
    pub(super) at_ms: u64,
    pub(super) run_ms: u64,
}

/// What became of a job.
#[derive(Debug, Clone, Default)]
pub(super) struct Fate {
    pub(super) starts_ms: Vec<u64>,
    pub(super) stops_ms: Vec<u64>,
    pub(super) waiting_since_ms: u64,
    /// How many waited when it began to.
    pub(super) ahead: u64,
    pub(super) longest_over_bound_ms: i64,
    pub(super) worked_ms: u64,
    pub(super) ended: bool,
    promised_ms: Option<u64>,
    run: usize,
}

/// What happens to a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    End,
    Saved,
}

pub(super) struct World {
    pub(super) queue: Queue,
    pub(super) lives: Vec<Life>,
    pub(super) fates: Vec<Fate>,
    pub(super) decisions: Vec<(u64, Decision)>,
    places: BTreeMap<JobId, usize>,
    events: BTreeMap<(u64, Event, usize), usize>,
    config: Config,
    /// Whether a queue built from a snapshot must decide alike before every pass.
    pub(super) compare: bool,
}

pub(super) fn share(parent: Option<u32>, quotas: Vec<Quota>) -> Share {
    Share { parent: parent.map(ShareId), weight: 1, quotas }
}

pub(super) fn quota(guarantee: u32, borrow_max: Option<u32>, lend_max: Option<u32>) -> Quota {
    Quota { guarantee, borrow_max, lend_max }
}

/// A policy whose times suit a world of milliseconds.
pub(super) fn policy(name: &str) -> Policy {
    let mut policy = Policy::named(name).expect("a known name");
    policy.limit_max_ms = 100;
    policy.usage_half_life_ms = 50;
    policy.overdue_after_ms = policy.overdue_after_ms.map(|_| 150);
    policy.promise_after_ms = policy.promise_after_ms.map(|after| after.min(150));
    if let Some(preemption) = &mut policy.preemption {
        *preemption =
            Preemption { levels: vec![10, 60], protected_ms: 7, checkpoint_ms: 3, restart_ms: 2, searches_max: 8 };
    }
    policy
}

impl World {
    pub(super) fn new(skus: Vec<Sku>, shares: Vec<Share>, policy: Policy, mut lives: Vec<Life>) -> Self {
        lives.sort_by_key(|life| life.at_ms);
        let config = Config { ground: Ground::Uniform(skus), shares, policy };
        Self {
            queue: Queue::new(config.clone()).expect("a sound configuration"),
            fates: vec![Fate::default(); lives.len()],
            places: lives.iter().enumerate().map(|(place, life)| (life.ask.job, place)).collect(),
            lives,
            decisions: Vec::new(),
            events: BTreeMap::new(),
            config,
            compare: true,
        }
    }

    /// Runs until nothing happens any more.
    pub(super) fn run(&mut self) {
        let (mut next, mut now_ms) = (0, 0);
        for _ in 0..100_000 {
            let arrival = self.lives.get(next).map(|life| life.at_ms);
            let event = self.events.keys().next().map(|(at, ..)| *at);
            let Some(mut at_ms) = arrival.into_iter().chain(event).min() else { return };
            if self.queue.waiting() > 0 {
                at_ms = at_ms.min(now_ms + 5);
            }
            now_ms = at_ms;
            while let Some(entry) = self.events.first_entry().filter(|entry| entry.key().0 <= now_ms) {
                let ((_, event, place), run) = entry.remove_entry();
                if self.fates[place].run == run {
                    self.happen(event, place, now_ms);
                }
            }
            while self.lives.get(next).is_some_and(|life| life.at_ms <= now_ms) {
                self.fates[next].waiting_since_ms = now_ms;
                self.fates[next].ahead = self.queue.waiting() as u64;
                if self.queue.submit(self.lives[next].ask, now_ms).is_err() {
                    self.fates[next].ended = true;
                }
                next += 1;
            }
            self.pass(now_ms);
        }
        panic!("the world goes on forever");
    }

    fn happen(&mut self, event: Event, place: usize, now_ms: u64) {
        let (job, waiting) = (self.lives[place].ask.job, self.queue.waiting() as u64);
        let fate = &mut self.fates[place];
        match event {
            Event::End => {
                fate.ended = true;
                let record = self.queue.finish(job, now_ms).expect("it ran");
                assert_eq!(record.worked_ms_at(now_ms, self.queue.policy()), self.lives[place].run_ms);
            }
            Event::Saved => {
                (fate.waiting_since_ms, fate.ahead) = (now_ms, waiting);
                self.queue.stopped(job, fate.worked_ms, now_ms).expect("it was told to stop");
            }
        }
    }

    fn pass(&mut self, now_ms: u64) {
        let again = self.compare.then(|| Queue::of_snapshot(self.queue.snapshot()).expect("its own snapshot"));
        let decisions = self.queue.pass(now_ms);
        if let Some(mut again) = again {
            assert_eq!(again.pass(now_ms), decisions, "a queue from a snapshot decides alike");
            assert_eq!(again.snapshot(), self.queue.snapshot());
        }
        let policy = self.queue.policy().clone();
        let preemption = policy.preemption.as_ref();
        for decision in &decisions {
            match decision {
                Decision::Start { job, slots } => {
                    let place = self.places[job];
                    let (life, fate) = (self.lives[place], &mut self.fates[place]);
                    assert_eq!(slots.iter().map(|slot| slot.gpus).sum::<u32>(), life.ask.gpus, "all or nothing");
                    if let Some(promised) = fate.promised_ms.take() {
                        assert!(now_ms <= promised, "{job} was promised {promised} and starts at {now_ms}");
                    }
                    let restart = preemption.filter(|_| fate.worked_ms > 0).map_or(0, |paid| paid.restart_ms);
                    fate.starts_ms.push(now_ms);
                    fate.run += 1;
                    let over = now_ms - fate.waiting_since_ms;
                    let late = i64::try_from(over).unwrap() - bound(&policy, fate.ahead);
                    // Of every wait: who was stopped waits again.
                    fate.longest_over_bound_ms = fate.longest_over_bound_ms.max(late);
                    let end = now_ms + restart + life.run_ms - fate.worked_ms;
                    self.events.insert((end, Event::End, place), fate.run);
                }
                Decision::Stop { job, .. } => {
                    let place = self.places[job];
                    let fate = &mut self.fates[place];
                    let paid = preemption.expect("nobody stops without preemption");
                    let started = *fate.starts_ms.last().expect("it runs");
                    let protected = paid.protected_ms << fate.stops_ms.len().min(6);
                    assert!(now_ms - started >= protected, "stopped within its protected time");
                    let restart = if fate.worked_ms > 0 { paid.restart_ms } else { 0 };
                    fate.worked_ms += (now_ms - started).saturating_sub(restart);
                    fate.stops_ms.push(now_ms);
                    fate.run += 1;
                    self.events.insert((now_ms + paid.checkpoint_ms, Event::Saved, place), fate.run);
                }
                Decision::Promise { job, at_ms } => self.fates[self.places[job]].promised_ms = Some(*at_ms),
            }
        }
        self.decisions.extend(decisions.into_iter().map(|decision| (now_ms, decision)));
        self.check();
    }

    /// Counts everything anew from the records alone.
    fn check(&self) {
        let records = self.queue.snapshot().records;
        let Ground::Uniform(skus) = &self.config.ground else { return };
        for (sku, kind) in skus.iter().enumerate() {
            let mut used = vec![0; kind.nodes as usize];
            let mut by_share = vec![0_u64; self.config.shares.len()];
            for record in records.iter().filter(|record| usize::from(record.ask.sku) == sku) {
                if !matches!(record.stage, Stage::Waiting { .. }) {
                    by_share[record.ask.share.0 as usize] += u64::from(record.ask.gpus);
                }
                for Slot { node, gpus, .. } in record.slots() {
                    used[*node as usize] += gpus;
                }
            }
            assert!(used.iter().all(|used| *used <= kind.gpus_per_node), "an accelerator is used twice: {used:?}");
            self.check_share(0, sku, &by_share);
        }
    }

    /// What a share takes from its parent and gives it, checked on the way; the parent's own are its children's loans.
    fn check_share(&self, share: usize, sku: usize, by_share: &[u64]) -> (u64, u64) {
        let asked = self.config.shares[share].quotas.get(sku).copied().unwrap_or_default();
        let (mut owned, mut used) = (u64::from(asked.guarantee), by_share[share]);
        for (child, _) in self
            .config
            .shares
            .iter()
            .enumerate()
            .filter(|(_, c)| c.parent == Some(ShareId(u32::try_from(share).unwrap())))
        {
            let (lent, taken) = self.check_share(child, sku, by_share);
            owned += lent;
            used += taken;
        }
        let is_top = self.config.shares[share].parent.is_none();
        let most = if is_top { Some(0) } else { asked.borrow_max };
        let within = most.is_none_or(|most| used <= owned + u64::from(most));
        assert!(within, "share {share} uses {used} of {owned} and may borrow {most:?}");
        let kept = asked.lend_max.map_or(0, |lend| owned.saturating_sub(u64::from(lend)));
        (owned - kept, used.saturating_sub(kept))
    }
}

/// How long anybody may wait when quotas limit nobody: until overdue, then every one ahead and the job itself is promised
/// a start in turn, each within the longest run and the time to save and load work; and one more that held a promise.
fn bound(policy: &Policy, ahead: u64) -> i64 {
    let Some(after) = policy.overdue_after_ms else { return i64::MAX };
    let paid = policy.preemption.as_ref().map_or(0, |paid| paid.checkpoint_ms + paid.restart_ms);
    i64::try_from(after + (ahead + 2) * (policy.limit_max_ms + paid) + 5).unwrap()
}
