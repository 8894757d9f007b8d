//! The time a served model answers: counted from its first answer, once, never while it is down, never beyond what is held.

use std::{collections::BTreeMap, sync::atomic::Ordering};

use gregal_api::protocol::ReplicaPhase;
use gregal_core::{
    job::Billed,
    meter::{Meter, UsageEvent},
    time::Time,
    world::{RealWorld, World as _},
};
use gregal_engine::Engine as _;

use super::{
    control::{ENDPOINT, OTHER_ENDPOINT},
    world::{Running, World, until},
};

/// What a replica needs to come to its end, as the worlds here are tuned: it is stopped so long before its time is over.
const RESERVE_MS: u64 = 2_000 + 5_000;

/// A world in which time is counted in short pieces, and nothing but the one endpoint stands.
async fn world() -> World {
    let mut world = World::new().await;
    world.tuning.replica_interval_ms = 50;
    world.control.change(|intent| intent.endpoints.retain(|one| one.endpoint != OTHER_ENDPOINT));
    world
}

/// The intervals it was billed for, in order of time, checked for ones that overlap.
fn intervals(world: &World, meter: Meter) -> Vec<UsageEvent> {
    let subject = ENDPOINT.to_string();
    let mine = world.control.usage().into_iter().filter(|event| event.subject == subject && event.meter == meter);
    let sorted: BTreeMap<Time, UsageEvent> = mine.map(|event| (event.started_at, event)).collect();
    let intervals: Vec<UsageEvent> = sorted.into_values().collect();
    assert!(intervals.windows(2).all(|two| two[0].ended_at <= two[1].started_at), "intervals overlap: {intervals:?}");
    intervals
}

fn billed_ms(world: &World) -> u64 {
    let of = |event: &UsageEvent| event.ended_at.millis_since(event.started_at);
    u64::try_from(intervals(world, Meter::ReplicaCore).iter().map(of).sum::<i64>()).unwrap()
}

async fn more_than(world: &World, millis: u64) {
    until("more time to be billed", async || (billed_ms(world) > millis).then_some(())).await;
}

async fn phase(world: &World, wanted: ReplicaPhase) {
    until("the replica's phase to be told", async || {
        let last = world.control.last()?;
        last.replicas.into_iter().find(|seen| seen.endpoint == ENDPOINT && seen.phase == wanted)
    })
    .await;
}

/// Waits until control is told that what was held is used up.
async fn is_spent(world: &World) {
    until("the replica to say that its time is used up", async || {
        let last = world.control.last()?;
        let says_so = |message: &String| message.contains("used up");
        last.replicas.into_iter().find(|seen| {
            seen.endpoint == ENDPOINT
                && seen.phase == ReplicaPhase::Loading
                && seen.message.as_ref().is_some_and(says_so)
        })
    })
    .await;
}

fn replicas_started(world: &World) -> usize {
    world.stage.started.lock().unwrap().iter().filter(|one| one.argv.iter().any(|word| word == "serve")).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_time_it_answers_is_billed_by_its_sku_until_its_end_and_told_before_it() {
    let world = world().await;
    let began = RealWorld.now();
    let site = world.start_ready().await;
    more_than(&world, 100).await;
    // Control takes its usage and the answers get lost: the site cannot know that it has it.
    world.control.state.answers_lost.store(u32::MAX, Ordering::SeqCst);
    world.control.change(|intent| intent.endpoints[0].drain = true);
    until("its process to end", async || world.stage.list().await.unwrap().is_empty().then_some(())).await;
    let sent = world.control.state.records_received.load(Ordering::SeqCst);
    until("its usage to be sent again and again", async || {
        (world.control.state.records_received.load(Ordering::SeqCst) > sent + 20).then_some(())
    })
    .await;
    let told = world.control.last().unwrap().replicas;
    assert!(told.iter().all(|seen| seen.phase != ReplicaPhase::Stopped), "its end is told before its usage is here");
    world.control.state.answers_lost.store(0, Ordering::SeqCst);
    phase(&world, ReplicaPhase::Stopped).await;
    let (cores, energy) = (intervals(&world, Meter::ReplicaCore), intervals(&world, Meter::Energy));
    assert!(cores.iter().all(|event| {
        let millis = u64::try_from(event.ended_at.millis_since(event.started_at)).unwrap();
        // One core for as long as it stood, paid from no allowance.
        event.item == "cpu.1" && event.quantity == millis && event.allowance.is_none()
    }));
    assert_eq!(cores.len(), energy.len());
    assert!(cores[0].started_at >= began, "not before its first answer");
    let resources = &world.stage.started.lock().unwrap()[0].resources.clone();
    assert_eq!((resources.cpus_milli, resources.memory_bytes), (1_000, 4 << 30), "it has what was sold");
    // It was told once all of it was here: nothing comes after.
    let billed = billed_ms(&world);
    site.stop().await;
    assert_eq!(billed_ms(&world), billed);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_crashes_is_not_billed_while_it_is_down_and_nothing_is_billed_twice() {
    let world = world().await;
    let site = world.start_ready().await;
    let mut deaths = Vec::new();
    for round in 1..4 {
        let before = billed_ms(&world);
        more_than(&world, before + 50).await;
        // The replica dies; its next life begins half a second later at the earliest.
        let running = world.stage.started.lock().unwrap().last().unwrap().id.clone();
        world.stage.remove(&running).await.unwrap();
        deaths.push(RealWorld.now());
        until("another life", async || (replicas_started(&world) > round).then_some(())).await;
    }
    let before = billed_ms(&world);
    more_than(&world, before + 50).await;
    site.crash();
    let lock = std::fs::File::open(world.folder.path().join("site.lock")).unwrap();
    until("the process to be gone", async || lock.try_lock().ok()).await;
    let gone_at = RealWorld.now();
    lock.unlock().unwrap();
    let site = world.start_ready().await;
    let before = billed_ms(&world);
    more_than(&world, before + 50).await;
    site.stop().await;
    let intervals = intervals(&world, Meter::ReplicaCore);
    let over = |from: Time, to: Time| intervals.iter().find(|event| event.started_at <= from && event.ended_at >= to);
    for died_at in deaths {
        assert_eq!(over(died_at, died_at.plus_millis(400)), None, "the time the replica was down is billed");
    }
    assert_eq!(over(gone_at, gone_at), None, "the time the site was down is billed");
}

async fn answers(site: &Running) -> bool {
    let ask = serde_json::json!({"model": "chat", "max_tokens": 1, "messages": [{"role": "user", "content": "bad"}]});
    site.chat(super::control::OWNER, &ask).await.status() == 400
}

#[tokio::test(flavor = "multi_thread")]
async fn cut_off_from_control_it_stops_before_what_was_held_is_used_up_and_goes_on_when_more_is() {
    let world = world().await;
    let held = RESERVE_MS + 400;
    world.control.change(|intent| intent.endpoints[0].held_ms = held);
    let site = world.start_ready().await;
    world.control.state.away.store(true, Ordering::SeqCst);
    until("it to stop", async || (!answers(&site).await).then_some(())).await;
    // A restart is no new time.
    site.crash();
    let site = world.start().await;
    world.control.state.away.store(false, Ordering::SeqCst);
    is_spent(&world).await;
    assert_eq!(replicas_started(&world), 1, "nothing is started on time that is not there");
    let billed = billed_ms(&world);
    assert!(billed <= held, "{billed} of {held} ms");
    world.control.change(|intent| intent.endpoints[0].held_ms = held + 3_600_000);
    until("it to answer again", async || answers(&site).await.then_some(())).await;
    more_than(&world, billed).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_site_that_lost_its_count_begins_from_controls() {
    let world = world().await;
    world.control.change(|intent| {
        intent.endpoints[0].held_ms = 3_600_000;
        let until = Some(RealWorld.now());
        intent.endpoints[0].billed = Billed { ms: 3_600_000 - RESERVE_MS, until, energy_mj: 0 };
    });
    let site = world.start().await;
    is_spent(&world).await;
    assert!(!answers(&site).await && replicas_started(&world) == 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_sku_nothing_runs() {
    let world = world().await;
    world.control.change(|intent| intent.endpoints[0].sku = None);
    let site = world.start().await;
    until("the intent", async || world.control.last().filter(|last| !last.replicas.is_empty())).await;
    assert!(!answers(&site).await && replicas_started(&world) == 0);
}
