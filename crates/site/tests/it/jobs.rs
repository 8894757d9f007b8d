//! A job's life at a site: from what is wanted to a stored model, an exact bill, and a log for whoever may read it.

use std::{collections::BTreeMap, sync::atomic::Ordering};

use gregal_api::{
    grant::GrantPurpose,
    protocol::{AttemptPhase, AttemptRef, WantedAttempt},
};
use gregal_core::{
    id::{DatasetId, JobId},
    job::{Billed, Program},
    meter::{Meter, UsageEvent},
    sku,
    time::Time,
};
use gregal_site::objects::models_of;
use gregal_testkit::Play;

use super::{
    control::{ORG, PROJECT},
    world::{Running, World, until},
};

const DATASET: DatasetId = DatasetId::from_u128(77);

fn of(job: u128) -> AttemptRef {
    AttemptRef { job: JobId::from_u128(job), attempt: 1 }
}

fn wanted(job: u128, program: Program, digest: &str) -> WantedAttempt {
    WantedAttempt {
        job: JobId::from_u128(job),
        attempt: 1,
        organisation: ORG,
        project: PROJECT,
        program,
        inputs: vec![(DATASET, digest.to_owned())],
        sku: sku::default_skus().remove(1),
        seconds_max: 60,
        billed: Billed::default(),
        cancel: false,
        preempt: false,
        leave_by: None,
    }
}

fn train() -> Program {
    Program::Train {
        dataset: DATASET,
        heldout: None,
        base_model: None,
        model_name: "m".into(),
        settings: serde_json::Map::new(),
    }
}

fn command(words: &[&str]) -> Program {
    let argv = ["/bin/true"].iter().chain(words).map(|word| (*word).to_owned()).collect();
    Program::Command { argv, inputs: vec![DATASET], network: false }
}

/// Stores the dataset as a tenant does.
async fn dataset(world: &World, site: &Running) -> String {
    let grant = world.control.grant(GrantPurpose::DatasetWrite, DATASET);
    let url = format!("{}/content/v1/datasets/{DATASET}", site.url);
    let stored = until("the dataset to be taken", async || {
        let sent = site
            .http
            .put(&url)
            .bearer_auth(&grant)
            .body("{\"prompt\":\"a\",\"completion\":\"b\"}\n")
            .send()
            .await
            .unwrap();
        sent.status().is_success().then_some(sent)
    })
    .await;
    stored.json::<gregal_site::DatasetStored>().await.unwrap().digest
}

async fn ended(
    world: &World,
    job: u128,
) -> (Option<Time>, Time, gregal_core::job::JobEnd, bool, bool, Option<gregal_api::protocol::ProducedModel>) {
    let observed = until("the job to end", async || world.control.ended(of(job))).await;
    match observed.phase {
        AttemptPhase::Ended { since, at, end, succeeded, cancelled, product, .. } => {
            (since, at, end, succeeded, cancelled, product)
        }
        other => panic!("{other:?}"),
    }
}

/// The intervals of a job on a meter, in order of time, checked for gaps that overlap.
fn intervals(world: &World, job: u128, meter: Meter) -> Vec<UsageEvent> {
    let subject = JobId::from_u128(job).to_string();
    let mine = world.control.usage().into_iter().filter(|event| event.subject == subject && event.meter == meter);
    let sorted: BTreeMap<Time, UsageEvent> = mine.map(|event| (event.started_at, event)).collect();
    let intervals: Vec<UsageEvent> = sorted.into_values().collect();
    assert!(intervals.windows(2).all(|two| two[0].ended_at <= two[1].started_at), "intervals overlap: {intervals:?}");
    intervals
}

fn billed_ms(intervals: &[UsageEvent]) -> i64 {
    intervals.iter().map(|event| event.ended_at.millis_since(event.started_at)).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_training_is_run_metered_stored_and_told_with_its_lineage() {
    let world = World::new().await;
    world.stage.play(vec![Play { sim: vec!["sim:run_ms=600"], ready: true, model: true, ..Play::default() }]);
    let site = world.start().await;
    let digest = dataset(&world, &site).await;
    world.control.change(|intent| intent.attempts = vec![wanted(1, train(), &digest)]);
    let (since, at, end, succeeded, cancelled, product) = ended(&world, 1).await;
    assert!(world.control.was_ready(of(1)));
    assert_eq!((end.reason.as_str(), end.code, succeeded, cancelled), ("finished", Some(0), true, false));
    let product = product.unwrap();
    assert_eq!((product.parameters, product.tokens, product.flop), (1000, 100, 600_000));
    assert_eq!((product.dataset_digest, product.code_version.as_str()), (digest, "test"));
    assert!(product.energy_mj > 0 && product.energy_method.starts_with("estimated"), "{}", product.energy_method);
    assert!(world.folder.path().join("objects").join(models_of(ORG)).join(&product.digest).is_file());

    // Everything was handed over before the end was told.
    let cores = intervals(&world, 1, Meter::ComputeCore);
    assert!(cores.len() >= 3, "{cores:?}");
    assert!(cores.windows(2).all(|two| two[0].ended_at == two[1].started_at), "without a gap");
    assert_eq!((Some(cores[0].started_at), cores.last().unwrap().ended_at <= at), (since, true));
    assert!(cores.iter().all(|event| event.quantity == 2 * event.ended_at.millis_since(event.started_at) as u64));
    let ran = at.millis_since(since.unwrap());
    assert!(billed_ms(&cores) <= ran && billed_ms(&cores) >= ran - 200, "{} of {ran} ms", billed_ms(&cores));
    assert_eq!(intervals(&world, 1, Meter::Energy).len(), cores.len());

    let started = world
        .stage
        .started
        .lock()
        .unwrap()
        .iter()
        .find(|workload| workload.id.as_str().starts_with("job_"))
        .cloned()
        .unwrap();
    assert_eq!(started.argv, ["/usr/bin/gregal", "lm", "train", "--config", "/gregal/input/train.json"]);
    assert_eq!(started.resources.cpus_milli, 2000);
    let job = world.folder.path().join("jobs").join(JobId::from_u128(1).to_string());
    until("the inputs to be removed", async || {
        (!job.join("input").exists() && !job.join("work").exists()).then_some(())
    })
    .await;

    // The log stays, for whoever may read it.
    let logs = format!("/content/v1/jobs/{}/logs", JobId::from_u128(1));
    let text =
        site.get(&logs, &world.control.grant(GrantPurpose::JobLogs, JobId::from_u128(1))).await.text().await.unwrap();
    assert!(text.contains("training of"), "{text}");
    assert_eq!(site.get(&logs, &world.control.grant(GrantPurpose::JobLogs, JobId::from_u128(2))).await.status(), 404);
    assert_eq!(
        site.get(&logs, &world.control.grant(GrantPurpose::DatasetRead, JobId::from_u128(1))).await.status(),
        401
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_fails_before_it_is_ready_is_never_billed() {
    let world = World::new().await;
    world.stage.play(vec![Play {
        sim: vec!["sim:run_ms=300", "sim:exit=2"],
        ready: false,
        model: false,
        ..Play::default()
    }]);
    let site = world.start().await;
    let digest = dataset(&world, &site).await;
    let missing = WantedAttempt { inputs: Vec::new(), ..wanted(3, train(), &digest) };
    let network = Program::Command { argv: vec!["/bin/true".into()], inputs: Vec::new(), network: true };
    world.control.change(|intent| {
        intent.attempts = vec![
            wanted(1, train(), &digest),
            wanted(2, command(&["sim:cannot-begin"]), &digest),
            missing,
            wanted(4, network, &digest),
        ];
    });
    let (since, _, end, succeeded, ..) = ended(&world, 1).await;
    assert_eq!((since, end.reason.as_str(), end.code, succeeded), (None, "failed", Some(2), false));
    let (since, _, end, ..) = ended(&world, 2).await;
    assert_eq!((since, end.reason.as_str()), (None, "never_started"));
    let (since, _, end, ..) = ended(&world, 3).await;
    assert!(since.is_none() && end.hint.unwrap().contains("is not stored at this site"));
    assert!(ended(&world, 4).await.2.hint.unwrap().contains("no network at this site"));
    assert!(world.control.usage().is_empty(), "{:?}", world.control.usage());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_job_ends_and_is_billed_until_then() {
    let world = World::new().await;
    let site = world.start().await;
    let digest = dataset(&world, &site).await;
    world.control.change(|intent| intent.attempts = vec![wanted(1, command(&["sim:endless"]), &digest)]);
    until("some intervals", async || (intervals(&world, 1, Meter::ComputeCore).len() >= 2).then_some(())).await;
    let logs = format!("/content/v1/jobs/{}/logs?follow=true", JobId::from_u128(1));
    let followed = site.get(&logs, &world.control.grant(GrantPurpose::JobLogs, JobId::from_u128(1))).await;
    let following = tokio::spawn(follow_to_end(followed));
    world.control.change(|intent| intent.attempts[0].cancel = true);
    let (since, at, end, succeeded, cancelled, _) = ended(&world, 1).await;
    assert_eq!((end.reason.as_str(), succeeded, cancelled), ("stopped", false, true));
    let billed = billed_ms(&intervals(&world, 1, Meter::ComputeCore));
    let ran = at.millis_since(since.unwrap());
    assert!(billed > 0 && billed <= ran, "{billed} of {ran} ms");
    following.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn who_follows_a_log_is_shut_out_when_the_key_is_revoked_though_the_job_runs_on() {
    let world = World::new().await;
    let site = world.start().await;
    let digest = dataset(&world, &site).await;
    world.control.change(|intent| intent.attempts = vec![wanted(1, command(&["sim:endless"]), &digest)]);
    until("some intervals", async || (intervals(&world, 1, Meter::ComputeCore).len() >= 2).then_some(())).await;
    let logs = format!("/content/v1/jobs/{}/logs?follow=true", JobId::from_u128(1));
    let grant = world.control.grant(GrantPurpose::JobLogs, JobId::from_u128(1));
    let followed = site.get(&logs, &grant).await;
    world.control.change(|intent| intent.keys_revoked = vec![intent.keys[0].key]);
    follow_to_end(followed).await;
    assert_eq!(site.get(&logs, &grant).await.status(), 401);
    let runs_on = intervals(&world, 1, Meter::ComputeCore).len();
    until("the job to run on", async || (intervals(&world, 1, Meter::ComputeCore).len() > runs_on).then_some(())).await;
    world.control.change(|intent| intent.attempts[0].cancel = true);
    ended(&world, 1).await;
}

/// A followed log ends when its job does.
async fn follow_to_end(response: reqwest::Response) {
    assert_eq!(response.status(), 200);
    tokio::time::timeout(std::time::Duration::from_secs(20), response.text()).await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn time_that_was_sold_is_the_most_that_is_billed() {
    let world = World::new().await;
    let site = world.start().await;
    let digest = dataset(&world, &site).await;
    let short = WantedAttempt { seconds_max: 1, ..wanted(1, command(&["sim:endless"]), &digest) };
    world.control.change(|intent| intent.attempts = vec![short]);
    let (_, _, end, succeeded, ..) = ended(&world, 1).await;
    assert_eq!((end.reason.as_str(), succeeded), ("timed_out", false));
    assert_eq!(billed_ms(&intervals(&world, 1, Meter::ComputeCore)), 1_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_run_is_begun_again_and_its_intervals_never_overlap() {
    let world = World::new().await;
    world.stage.play(vec![
        Play { sim: vec!["sim:run_ms=400", "sim:lost"], ready: true, model: false, ..Play::default() },
        Play { sim: vec!["sim:run_ms=300"], ready: true, model: true, ..Play::default() },
    ]);
    let site = world.start().await;
    let digest = dataset(&world, &site).await;
    world.control.change(|intent| intent.attempts = vec![wanted(1, train(), &digest)]);
    let (.., succeeded, _, product) = ended(&world, 1).await;
    assert!(succeeded && product.is_some());
    let started = world.stage.started.lock().unwrap();
    let runs: Vec<_> =
        started.iter().map(|workload| workload.id.as_str().to_owned()).filter(|id| id.starts_with("job_")).collect();
    let id = JobId::from_u128(1);
    assert_eq!(runs, [format!("{id}.1.1"), format!("{id}.1.2")]);
    drop(started);
    assert!(billed_ms(&intervals(&world, 1, Meter::ComputeCore)) > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_of_the_site_neither_starts_a_job_twice_nor_bills_it_twice() {
    let world = World::new().await;
    world.stage.play(vec![Play { sim: vec!["sim:run_ms=2500"], ready: true, model: true, ..Play::default() }]);
    let mut site = world.start().await;
    let digest = dataset(&world, &site).await;
    world.control.change(|intent| {
        intent.attempts = vec![
            WantedAttempt { seconds_max: 2, ..wanted(1, command(&["sim:run_ms=1500"]), &digest) },
            wanted(2, train(), &digest),
        ];
    });
    for round in 1..4 {
        until("some more intervals", async || (intervals(&world, 2, Meter::ComputeCore).len() > round).then_some(()))
            .await;
        site.crash();
        site = world.start().await;
    }
    let (since, at, _, succeeded, ..) = ended(&world, 1).await;
    assert!(succeeded);
    let billed = billed_ms(&intervals(&world, 1, Meter::ComputeCore));
    assert!(billed <= at.millis_since(since.unwrap()).min(2_000), "{billed}");
    assert!(ended(&world, 2).await.3);
    let _ = intervals(&world, 2, Meter::ComputeCore);
    let started = world.stage.started.lock().unwrap();
    let jobs = started.iter().filter(|workload| workload.id.as_str().starts_with("job_")).count();
    assert_eq!(jobs, 2, "the simulated machine outlived the crashes, so each was started once");
}

/// An attempt whose second run the machine cannot start, up to its end.
async fn never_started(world: &World, site: &Running) -> (WantedAttempt, Billed) {
    let broken = Play { broken: true, ..Play::default() };
    world.stage.play(vec![
        Play { sim: vec!["sim:run_ms=400", "sim:lost"], ready: true, ..Play::default() },
        broken.clone(),
        broken.clone(),
        broken,
        Play { sim: vec!["sim:endless"], ready: true, ..Play::default() },
    ]);
    let digest = dataset(world, site).await;
    let first = WantedAttempt { seconds_max: 2, ..wanted(1, train(), &digest) };
    world.control.state.acknowledging.store(false, Ordering::SeqCst);
    world.control.change(|intent| intent.attempts = vec![first.clone()]);
    let end = until("the attempt to end", async || world.control.ended(of(1))).await;
    let AttemptPhase::Ended { end, billed, .. } = end.phase else { unreachable!() };
    assert_eq!(end.reason, "never_started");
    // Control queues it again, and only then says that it knows of the end.
    world.control.change(|intent| {
        intent.attempts.clear();
        intent.jobs_kept = vec![first.job];
    });
    world.control.state.acknowledging.store(true, Ordering::SeqCst);
    until("the end to be acknowledged", async || world.control.last().filter(|last| last.attempts.is_empty())).await;
    (first, billed)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_later_attempt_goes_on_from_the_checkpoint_and_the_bill_of_the_earlier_one() {
    let world = World::new().await;
    let site = world.start().await;
    let (first, billed) = never_started(&world, &site).await;
    let before = intervals(&world, 1, Meter::ComputeCore);
    assert_eq!((billed.ms.cast_signed(), billed.until), (billed_ms(&before), before.last().map(|last| last.ended_at)));
    assert!(billed.ms > 0 && billed.energy_mj > 0, "{billed:?}");
    // It waits over a restart too.
    site.crash();
    let site = world.start().await;
    world.control.change(|intent| {
        intent.jobs_kept.clear();
        intent.attempts = vec![WantedAttempt { attempt: 2, billed, ..first.clone() }];
    });
    let second = AttemptRef { attempt: 2, ..of(1) };
    let end = until("the second attempt to end", async || world.control.ended(second)).await;
    let AttemptPhase::Ended { end, billed: all, .. } = end.phase else { unreachable!() };
    assert_eq!(end.reason, "timed_out");
    assert_eq!(billed_ms(&intervals(&world, 1, Meter::ComputeCore)), 2_000, "what was sold, both attempts together");
    assert_eq!(all.ms, 2_000);
    let logs = format!("/content/v1/jobs/{}/logs", first.job);
    let log = site.get(&logs, &world.control.grant(GrantPurpose::JobLogs, first.job)).await.text().await.unwrap();
    assert!(log.contains(&format!("{}.2.1 from its checkpoint", first.job)), "{log}");
    world.control.change(|intent| intent.attempts.clear());
    let work = world.folder.path().join("jobs").join(first.job.to_string()).join("work");
    until("what it left to be removed", async || (!work.exists()).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_makes_room_ends_proved_and_goes_on_later_even_if_the_site_crashes_meanwhile() {
    for crashes in [false, true] {
        let world = World::new().await;
        world.stage.play(vec![
            Play { sim: vec!["sim:endless"], ready: true, ..Play::default() },
            Play { sim: vec!["sim:run_ms=300"], ready: true, model: true, ..Play::default() },
        ]);
        let mut site = world.start().await;
        let digest = dataset(&world, &site).await;
        let first = wanted(1, train(), &digest);
        world.control.change(|intent| intent.attempts = vec![first.clone()]);
        until("some intervals", async || (intervals(&world, 1, Meter::ComputeCore).len() >= 2).then_some(())).await;
        world.control.state.acknowledging.store(false, Ordering::SeqCst);
        world.control.change(|intent| intent.attempts[0].preempt = true);
        if crashes {
            site.crash();
            site = world.start().await;
        }
        let end = until("the attempt to end", async || world.control.ended(of(1))).await;
        let AttemptPhase::Ended { end, succeeded, billed, .. } = end.phase else { unreachable!() };
        assert_eq!((end.reason.as_str(), succeeded), ("stopped", false));
        assert_eq!(billed.ms.cast_signed(), billed_ms(&intervals(&world, 1, Meter::ComputeCore)), "every record first");
        // Control queues it again, then says that it knows of the end, then starts it again.
        world.control.change(|intent| {
            intent.attempts.clear();
            intent.jobs_kept = vec![first.job];
        });
        world.control.state.acknowledging.store(true, Ordering::SeqCst);
        until("the end to be acknowledged", async || world.control.last().filter(|last| last.attempts.is_empty()))
            .await;
        world.control.change(|intent| {
            intent.jobs_kept.clear();
            intent.attempts = vec![WantedAttempt { attempt: 2, billed, ..first.clone() }];
        });
        let second = AttemptRef { attempt: 2, ..of(1) };
        let end = until("the second attempt to end", async || world.control.ended(second)).await;
        let AttemptPhase::Ended { succeeded, billed: all, product, .. } = end.phase else { unreachable!() };
        assert!(succeeded && product.is_some(), "it finished what the first had begun");
        assert_eq!(all.ms.cast_signed(), billed_ms(&intervals(&world, 1, Meter::ComputeCore)), "one bill");
        let logs = format!("/content/v1/jobs/{}/logs", first.job);
        let log = site.get(&logs, &world.control.grant(GrantPurpose::JobLogs, first.job)).await.text().await.unwrap();
        assert!(log.contains(&format!("{}.2.1 from its checkpoint", first.job)), "{log}");
        let started = world.stage.started.lock().unwrap();
        let runs = started.iter().filter(|workload| workload.id.as_str().starts_with("job_")).count();
        assert_eq!(runs, 2, "nothing was begun only to be stopped");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_kept_for_a_later_attempt_goes_when_none_will_come() {
    let world = World::new().await;
    let site = world.start().await;
    let (first, _) = never_started(&world, &site).await;
    let folder = world.folder.path().join("jobs").join(first.job.to_string());
    assert!(folder.join("work/checkpoints/1").exists());
    // Cancelled while it waited: no attempt will ever end to clean up after it.
    world.control.change(|intent| intent.jobs_kept.clear());
    until("it to be removed", async || (!folder.join("attempt-1.json").exists()).then_some(())).await;
    assert!(!folder.join("work").exists() && folder.join("log.txt").exists());
    drop(site);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_site_that_stops_lets_jobs_save_their_work_and_goes_on_with_the_next_run() {
    let world = World::new().await;
    world.stage.play(vec![
        Play { sim: vec!["sim:endless"], ready: true, model: false, ..Play::default() },
        Play { sim: vec!["sim:run_ms=300"], ready: true, model: true, ..Play::default() },
    ]);
    let site = world.start().await;
    let digest = dataset(&world, &site).await;
    world.control.change(|intent| intent.attempts = vec![wanted(1, train(), &digest)]);
    until("an interval", async || (!intervals(&world, 1, Meter::ComputeCore).is_empty()).then_some(())).await;
    site.stop().await;
    assert!(world.control.ended(of(1)).is_none(), "it has not ended, it was interrupted");
    let before = world.control.usage();
    let site = world.start().await;
    let (.., succeeded, _, _) = ended(&world, 1).await;
    assert!(succeeded && world.control.usage().len() > before.len());
    let _ = intervals(&world, 1, Meter::ComputeCore);
    drop(site);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_is_told_until_control_knows_it_and_never_lived_twice() {
    let world = World::new().await;
    world.control.state.acknowledging.store(false, Ordering::SeqCst);
    let site = world.start().await;
    let digest = dataset(&world, &site).await;
    world.control.change(|intent| intent.attempts = vec![wanted(1, command(&["sim:run_ms=200"]), &digest)]);
    let first = ended(&world, 1).await;
    site.crash();
    let site = world.start().await;
    let told = until("it to be told again", async || {
        let last = world.control.last()?;
        last.attempts.into_iter().find(|one| matches!(one.phase, AttemptPhase::Ended { .. }))
    })
    .await;
    assert!(matches!(told.phase, AttemptPhase::Ended { at, .. } if at == first.1), "the same end, not another one");
    world.control.state.acknowledging.store(true, Ordering::SeqCst);
    until("it to be forgotten", async || world.control.last().filter(|last| last.attempts.is_empty())).await;
    // Control still wants it (its intent is old): what ended stays ended, over a restart too.
    site.crash();
    let site = world.start().await;
    until("a sync", async || world.control.last().filter(|last| last.intent_revision > 1)).await;
    world.control.change(|intent| intent.attempts.clear());
    let state = world.folder.path().join("jobs").join(JobId::from_u128(1).to_string()).join("attempt-1.json");
    until("its trace to be removed", async || (!state.exists()).then_some(())).await;
    let started = world.stage.started.lock().unwrap();
    assert_eq!(started.iter().filter(|workload| workload.id.as_str().starts_with("job_")).count(), 1);
    drop(site);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_finished_model_waits_for_the_disk_and_is_not_lost() {
    let world = World::new().await;
    world.stage.play(vec![Play { sim: vec!["sim:run_ms=600"], ready: true, model: true, ..Play::default() }]);
    let site = world.start().await;
    let digest = dataset(&world, &site).await;
    world.control.change(|intent| intent.attempts = vec![wanted(1, train(), &digest)]);
    until("the job to run", async || world.control.was_ready(of(1)).then_some(())).await;
    // No object can be begun without this folder.
    let (unfinished, hidden) =
        (world.folder.path().join("objects/unfinished"), world.folder.path().join("objects/unfinished.hidden"));
    std::fs::rename(&unfinished, &hidden).unwrap();
    until("the run to be over", async || {
        let runs = gregal_engine::Engine::list(&world.stage.sim).await.unwrap();
        runs.iter().any(|run| run.id.as_str().starts_with("job_") && run.exit().is_some()).then_some(())
    })
    .await;
    let syncs = async || {
        let text = site.http.get(format!("{}/metrics", site.url)).send().await.unwrap().text().await.unwrap();
        let line = text.lines().find(|line| line.starts_with("gregal_site_syncs_total")).unwrap().to_owned();
        line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()
    };
    // Long enough for an attempt that gave up to have been told.
    let before = syncs().await;
    until("some talks with control", async || (syncs().await >= before + 4).then_some(())).await;
    assert!(world.control.ended(of(1)).is_none(), "it is not given up");
    std::fs::rename(&hidden, &unfinished).unwrap();
    let (.., succeeded, _, product) = ended(&world, 1).await;
    assert!(succeeded && product.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_in_a_reservation_is_counted_without_a_price_and_leaves_when_that_ends() {
    let world = World::new().await;
    world.stage.play(vec![Play { sim: vec!["sim:endless"], ready: true, ..Play::default() }]);
    let site = world.start().await;
    let digest = dataset(&world, &site).await;
    let leave_at = |millis| WantedAttempt {
        leave_by: Some(gregal_core::time::Time::from_millis(millis)),
        ..wanted(1, command(&["sim:endless"]), &digest)
    };
    world.control.change(|intent| intent.attempts = vec![leave_at(4_102_444_800_000)]);
    until("an interval", async || (!intervals(&world, 1, Meter::CoveredCore).is_empty()).then_some(())).await;
    // Its reservation was cut short: nobody tells it to make room, its time is over.
    world.control.change(|intent| intent.attempts = vec![leave_at(1)]);
    let (_, _, end, succeeded, ..) = ended(&world, 1).await;
    assert_eq!((end.reason.as_str(), succeeded), ("stopped", false));
    assert!(intervals(&world, 1, Meter::ComputeCore).is_empty(), "its reservation has paid");
    drop(site);
}
