//! What holds in every world.

use proptest::prelude::*;

use super::{
    super::{Ask, Config, Decision, Ground, Policy, Queue, Quota, Share, ShareId, Sku},
    world::{Life, World, policy, quota, share},
};
use crate::id::JobId;

fn lives(shares: u32, skus: u16) -> impl Strategy<Value = Vec<Life>> {
    let life =
        (0_u64..200, 1_u64..100, 0_u64..60, 1_u32..9, 1..=shares, 0..skus, 0_u8..3, any::<bool>(), any::<bool>());
    prop::collection::vec(life, 1..40).prop_map(|lives| {
        let make = |(index, (at_ms, run_ms, slack, gpus, share, sku, priority, preemptible, says)): (usize, _)| {
            let (run_ms, slack): (u64, u64) = (run_ms, slack);
            let ask = Ask {
                job: JobId::from_u128(index as u128),
                share: ShareId(share),
                sku,
                gpus,
                shape: 0,
                // Honest: nobody runs longer than they say; some say nothing.
                limit_ms: if says { Some((run_ms + slack).min(100)) } else { None },
                priority,
                preemptible,
            };
            Life { ask, at_ms, run_ms }
        };
        lives.into_iter().enumerate().map(make).collect()
    })
}

fn any_quota() -> impl Strategy<Value = Quota> {
    (0_u32..6, prop::option::of(0_u32..6), prop::option::of(0_u32..4))
        .prop_map(|(own, borrow, lend)| quota(own, borrow, lend))
}

/// A top, two organisations, two projects of the first.
fn shares(skus: usize) -> impl Strategy<Value = Vec<Share>> {
    prop::collection::vec(prop::collection::vec(any_quota(), skus), 5).prop_map(|quotas| {
        let parents = [None, Some(0), Some(0), Some(1), Some(1)];
        parents.into_iter().zip(quotas).map(|(parent, quotas)| share(parent, quotas)).collect()
    })
}

fn skus() -> impl Strategy<Value = Vec<Sku>> {
    prop::collection::vec((1_u32..5, 1_u32..5), 2)
        .prop_map(|kinds| kinds.into_iter().map(|(nodes, gpus_per_node)| Sku { nodes, gpus_per_node }).collect())
}

fn names() -> impl Strategy<Value = &'static str> {
    prop::sample::select(Policy::NAMES.to_vec())
}

proptest! {
    /// Double use, limits, all or nothing, protected time, promises, and snapshots are checked at every pass of a world.
    #[test]
    fn limits_promises_and_snapshots_hold_in_every_world(
        (skus, shares, lives, name) in (skus(), shares(2), lives(4, 2), names())
    ) {
        let mut world = World::new(skus, shares, policy(name), lives);
        world.run();
    }

    #[test]
    fn nobody_waits_past_the_bound_where_quotas_limit_nobody(
        (skus, lives, name) in (skus(), lives(2, 2), prop::sample::select(vec!["steady", "default", "fair-finish"]))
    ) {
        let most = skus.iter().map(|sku| quota(sku.nodes * sku.gpus_per_node, None, None)).collect();
        let mut world = World::new(skus, vec![share(None, most), share(Some(0), vec![]), share(Some(0), vec![])], policy(name), lives);
        world.compare = false;
        world.run();
        for (life, fate) in world.lives.iter().zip(&world.fates) {
            prop_assert!(fate.ended, "{:?} never ended", life);
            prop_assert!(fate.longest_over_bound_ms <= 0, "{:?} waited {} ms too long", life, fate.longest_over_bound_ms);
        }
    }

    #[test]
    fn the_same_world_decides_the_same_whatever_jobs_are_called(
        (skus, shares, lives, name, key) in (skus(), shares(2), lives(4, 2), names(), 1_u128..1 << 100)
    ) {
        let named = |key: u128| {
            let mut lives = lives.clone();
            for (index, life) in lives.iter_mut().enumerate() {
                life.ask.job = JobId::from_u128(index as u128 ^ key);
            }
            let mut world = World::new(skus.clone(), shares.clone(), policy(name), lives);
            world.compare = false;
            world.run();
            world.fates.iter().map(|fate| (fate.starts_ms.clone(), fate.stops_ms.clone())).collect::<Vec<_>>()
        };
        prop_assert_eq!(named(0), named(0));
        prop_assert_eq!(named(0), named(key));
    }

    /// Jobs of one accelerator fit wherever one is free: then guarantees can be told from fragments.
    #[test]
    fn who_demands_a_guarantee_gets_it_as_soon_as_borrowers_have_saved_their_work(
        (own, first, second) in ((1_u32..6, 1_u32..6), 1_u32..20, 1_u32..20)
    ) {
        let gpus = own.0 + own.1;
        let mut policy = policy("default");
        if let Some(preemption) = &mut policy.preemption {
            (preemption.protected_ms, preemption.searches_max) = (0, 100);
        }
        let quotas = |own| vec![quota(own, None, None)];
        let shares = vec![share(None, vec![]), share(Some(0), quotas(own.0)), share(Some(0), quotas(own.1))];
        let skus = vec![Sku { nodes: gpus.div_ceil(4), gpus_per_node: 4 }];
        let mut queue = Queue::new(Config { ground: Ground::Uniform(skus), shares, policy }).unwrap();
        let submit = |queue: &mut Queue, share, count| {
            for _ in 0..count {
                let job = JobId::from_u128(u128::from(queue.snapshot().next_seq));
                let ask = Ask { job, share: ShareId(share), sku: 0, gpus: 1, shape: 0, limit_ms: None, priority: 0, preemptible: true };
                queue.submit(ask, 0).unwrap();
            }
        };
        submit(&mut queue, 1, first);
        queue.pass(0);
        submit(&mut queue, 2, second);
        for decision in queue.pass(1) {
            if let Decision::Stop { job, .. } = decision {
                queue.stopped(job, 1, 2).unwrap();
            }
        }
        queue.pass(2);
        prop_assert!(queue.used_owned(ShareId(1), 0).0 >= u64::from(first.min(own.0)));
        prop_assert!(queue.used_owned(ShareId(2), 0).0 >= u64::from(second.min(own.1)));
    }

    /// Whatever comes in, in whatever order and with whatever clock: refused or handled.
    #[test]
    fn no_event_makes_a_queue_panic(
        (skus, shares, name, events) in (skus(), shares(2), names(), prop::collection::vec(
            (0_u8..6, 0_u128..12, 0_u32..7, 0_u16..3, prop::sample::select(vec![0, 1, 2, 3, 7, 16, u32::MAX]),
             prop::option::of(prop::sample::select(vec![0, 1, 50, u64::MAX])), prop::sample::select(vec![0, 1, 5, 100, 10_000, u64::MAX])), 0..80))
    ) {
        let mut queue = Queue::new(Config { ground: Ground::Uniform(skus), shares, policy: policy(name) }).unwrap();
        for (what, job, share, sku, gpus, limit_ms, at_ms) in events {
            let job = JobId::from_u128(job);
            match what {
                0 | 1 => {
                    let ask = Ask { job, share: ShareId(share), sku, gpus, shape: 0, limit_ms, priority: 0, preemptible: true };
                    drop(queue.submit(ask, at_ms));
                }
                2 => drop(queue.finish(job, at_ms)),
                3 => drop(queue.stopped(job, at_ms, at_ms)),
                4 => drop(queue.cancel(job, at_ms)),
                _ => drop(queue.pass(at_ms)),
            }
            if let Some(reason) = queue.reason(job) {
                prop_assert!(!reason.to_string().is_empty());
            }
        }
        prop_assert!(Queue::of_snapshot(queue.snapshot()).is_ok());
    }
}
