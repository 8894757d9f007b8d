//! Stopping jobs for others: told, proved, queued again with what they left, and one bill for all of it.

use gregal_api::protocol::{AttemptPhase, AttemptRef};
use gregal_core::{
    access::Role,
    id::JobId,
    job::{Billed, JobEnd},
    world::World as _,
};
use serde_json::{Value, json};

use crate::world::{Cloud, FakeSite, Tenant, ended, running, training, with_dataset};

const WHY: &str = "the machine is taken out for repair";

async fn preempt(cloud: &Cloud, job: JobId) -> Value {
    cloud.call(&cloud.operator, "job_preempt", &[&job.to_string()], json!({ "why": WHY })).await.good()
}

/// An end as a site tells it that has billed so much, attempts before it included.
fn over(cloud: &Cloud, reason: &str, ms: u64) -> AttemptPhase {
    let now = cloud.world.now();
    let billed = Billed { ms, until: Some(now), energy_mj: ms };
    let end = JobEnd { code: None, reason: reason.into(), hint: None };
    AttemptPhase::Ended {
        since: Some(now),
        at: now,
        end,
        succeeded: false,
        cancelled: true,
        product: None,
        heldout: None,
        billed,
    }
}

/// A training that runs as its first attempt.
async fn running_job() -> (Cloud, FakeSite, Tenant, JobId) {
    let (cloud, mut site, tenant, dataset) = with_dataset().await;
    let job = cloud.job(&tenant, &dataset, "first").await;
    cloud.control.step().await.unwrap();
    site.says(&cloud, job, 1, running(&cloud)).await;
    (cloud, site, tenant, job)
}

/// The audit log's actions on a job, in order.
async fn moves(cloud: &Cloud, tenant: &Tenant, job: JobId) -> Vec<(String, Value)> {
    let listed = cloud.get(&tenant.owner, &format!("/api/v1/organisations/{}/audit", tenant.organisation)).await.good();
    let bodies = listed["items"].as_array().unwrap().iter().map(|item| item["body"].as_str().unwrap());
    let entries = bodies.map(|body| serde_json::from_str::<Value>(body).unwrap());
    let mine = entries.filter(|entry| entry["object"] == job.to_string());
    mine.map(|entry| (entry["action"].as_str().unwrap().to_owned(), entry["facts"].clone())).collect()
}

#[tokio::test]
async fn a_job_told_to_make_room_waits_again_at_its_site_and_goes_on_with_one_bill() {
    let (cloud, mut site, tenant, job) = running_job().await;
    let held = cloud.balances(tenant.organisation).await.held;
    cloud.world.pass_seconds(20);
    let used = site.core_seconds(&cloud, &tenant, job, "1", 20);

    let told = preempt(&cloud, job).await;
    assert_eq!((&told["state"], &told["stops"]), (&json!("stopping"), &json!(0)));
    assert_eq!(told.as_object().unwrap().len(), 4, "an operator reads nothing of what a tenant does: {told}");
    let read = cloud.job_read(&tenant, job).await;
    assert_eq!((&read["state"], &read["waits_for"]), (&json!("stopping"), &json!(WHY)));
    site.sync(&cloud).await;
    let wanted = &site.intent().attempts[0];
    assert_eq!((wanted.attempt, wanted.preempt, wanted.cancel), (1, true, false));

    // Its site goes on saying that it runs until it does not; its room stays taken, and it is not bound twice.
    site.says(&cloud, job, 1, running(&cloud)).await;
    cloud.control.step().await.unwrap();
    assert_eq!(cloud.job_read(&tenant, job).await["state"], "stopping");
    assert_eq!(preempt(&cloud, job).await["state"], "stopping", "asking again changes nothing");

    site.uses(&cloud, &[used]).await;
    let answer = site.says(&cloud, job, 1, over(&cloud, "stopped", 20_000)).await;
    assert_eq!(answer.attempts_ended, [AttemptRef { job, attempt: 1 }]);
    assert_eq!((&site.intent().jobs_kept[..], site.intent().attempts.len()), (&[job][..], 0), "what it saved is kept");
    let read = cloud.job_read(&tenant, job).await;
    assert_eq!((&read["state"], &read["stops"], &read["ended_at"]), (&json!("queued"), &json!(1), &Value::Null));
    assert!(read["waits_for"].as_str().unwrap().contains(WHY), "{read}");
    let balances = cloud.balances(tenant.organisation).await;
    assert_eq!(balances.held.get(), held.get() - balances.accrued.get(), "the rest stays held while it waits");

    cloud.world.pass_seconds(3_600);
    site.sync(&cloud).await;
    cloud.control.step().await.unwrap();
    site.sync(&cloud).await;
    let wanted = &site.intent().attempts[0];
    assert_eq!((wanted.attempt, wanted.billed.ms, wanted.preempt), (2, 20_000, false));
    site.says(&cloud, job, 2, running(&cloud)).await;
    cloud.world.pass_seconds(10);
    let used = site.core_seconds(&cloud, &tenant, job, "2", 10);
    site.uses(&cloud, &[used]).await;
    site.says(&cloud, job, 2, ended(&cloud, "finished", true)).await;
    let read = cloud.job_read(&tenant, job).await;
    assert_eq!((&read["state"], &read["attempt"], &read["stops"]), (&json!("succeeded"), &json!(2), &json!(1)));
    // Thirty seconds of a core at 0.04 EUR an hour: what ran, not the hour between.
    let balances = cloud.balances(tenant.organisation).await;
    assert_eq!((balances.accrued.get(), balances.held.get()), (333_333, 0));

    let moves = moves(&cloud, &tenant, job).await;
    let names: Vec<&str> = moves.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(
        names,
        ["job:create", "job:bind", "job:ready", "job:preempt", "job:requeue", "job:bind", "job:ready", "job:end"]
    );
    assert_eq!((&moves[3].1["why"], &moves[3].1["state"]), (&json!(WHY), &json!("stopping")));
    assert_eq!((&moves[4].1["stops"], &moves[4].1["billed_ms"]), (&json!(1), &json!(20_000)));
}

#[tokio::test]
async fn being_stopped_never_uses_up_the_attempts_of_a_job() {
    let (cloud, mut site, tenant, job) = running_job().await;
    for attempt in 1..=7 {
        assert_eq!(preempt(&cloud, job).await["stops"], attempt - 1);
        site.sync(&cloud).await;
        // Lost on the way is as good as stopped.
        let reason = ["stopped", "lost", "never_started"][attempt as usize % 3];
        site.says(&cloud, job, attempt, over(&cloud, reason, 1_000)).await;
        assert_eq!(cloud.job_read(&tenant, job).await["state"], "queued");
        cloud.control.step().await.unwrap();
        site.says(&cloud, job, attempt + 1, running(&cloud)).await;
    }
    let read = cloud.job_read(&tenant, job).await;
    assert_eq!((&read["state"], &read["stops"], &read["attempt"]), (&json!("running"), &json!(7), &json!(8)));
    assert!(cloud.balances(tenant.organisation).await.held.get() > 0);
}

#[tokio::test]
async fn what_ends_by_itself_while_it_makes_room_has_ended() {
    for (reason, succeeded, state) in
        [("finished", true, "succeeded"), ("failed", false, "failed"), ("timed_out", false, "failed")]
    {
        let (cloud, mut site, tenant, job) = running_job().await;
        preempt(&cloud, job).await;
        site.says(&cloud, job, 1, ended(&cloud, reason, succeeded)).await;
        let read = cloud.job_read(&tenant, job).await;
        assert_eq!((&read["state"], &read["stops"]), (&json!(state), &json!(0)), "{reason}");
        assert_eq!(cloud.balances(tenant.organisation).await.held.get(), 0, "{reason}");
        cloud.control.step().await.unwrap();
        site.sync(&cloud).await;
        assert!(site.intent().attempts.is_empty() && site.intent().jobs_kept.is_empty(), "{reason}");
    }
}

#[tokio::test]
async fn a_cancel_wins_over_making_room() {
    let (cloud, mut site, tenant, job) = running_job().await;
    preempt(&cloud, job).await;
    let gone = cloud.call(&tenant.owner, "job_cancel", &[&job.to_string()], Value::Null).await.good();
    assert_eq!(gone["state"], "cancelling");
    assert_eq!(preempt(&cloud, job).await["state"], "cancelling", "its end is under way already");
    site.sync(&cloud).await;
    let wanted = &site.intent().attempts[0];
    assert_eq!((wanted.cancel, wanted.preempt), (true, false));
    site.says(&cloud, job, 1, over(&cloud, "stopped", 1_000)).await;
    assert_eq!(cloud.job_read(&tenant, job).await["state"], "cancelled");
    assert_eq!(cloud.balances(tenant.organisation).await.held.get(), 0);
}

#[tokio::test]
async fn a_job_its_site_never_heard_of_waits_again_once_the_site_acts_by_the_newest_intent() {
    let (cloud, mut site, tenant, dataset) = with_dataset().await;
    let job = cloud.job(&tenant, &dataset, "first").await;
    cloud.control.step().await.unwrap();
    assert_eq!(preempt(&cloud, job).await["state"], "stopping");
    site.sync(&cloud).await;
    assert_eq!(cloud.job_read(&tenant, job).await["state"], "stopping", "it has only now learned of it");
    site.sync(&cloud).await;
    let read = cloud.job_read(&tenant, job).await;
    assert_eq!((&read["state"], &read["stops"]), (&json!("queued"), &json!(1)));
}

#[tokio::test]
async fn a_job_out_of_sight_while_it_makes_room_keeps_its_room_until_its_site_is_back() {
    let (cloud, mut site, tenant, job) = running_job().await;
    preempt(&cloud, job).await;
    cloud.world.pass_seconds(3_600);
    for _ in 0..3 {
        cloud.control.step().await.unwrap();
    }
    let read = cloud.job_read(&tenant, job).await;
    assert_eq!(read["state"], "stopping");
    assert!(read["waits_for"].as_str().unwrap().contains("site `lyon` unreachable since"), "{read}");
    site.says(&cloud, job, 1, over(&cloud, "stopped", 1_000)).await;
    assert_eq!(cloud.job_read(&tenant, job).await["state"], "queued");
}

#[tokio::test]
async fn only_what_may_be_stopped_is_and_only_by_operators() {
    let (cloud, _site, tenant, dataset) = with_dataset().await;
    let submit = async |change: Value| -> Value {
        let mut wanted = training(&dataset, "one");
        for (name, value) in change.as_object().unwrap() {
            wanted[name] = value.clone();
        }
        cloud.call(&tenant.owner, "job_create", &[&tenant.project()], wanted).await.good()
    };
    let command = json!({ "kind": "command", "argv": ["true"] });
    assert_eq!(submit(json!({})).await["preemptible"], true, "a training saves its work");
    assert_eq!(submit(json!({ "program": command, "preemptible": true })).await["preemptible"], true);
    for id in cloud.store.jobs_in_states(&gregal_core::job::JobState::NOT_ENDED).await.unwrap() {
        cloud.call(&tenant.owner, "job_cancel", &[&id.id.to_string()], Value::Null).await.good();
    }
    let made = submit(json!({ "program": command })).await;
    assert_eq!(made["preemptible"], false, "nobody knows whether a command saves its work");
    let kept = submit(json!({ "preemptible": false })).await;
    let queued = preempt(&cloud, made["id"].as_str().unwrap().parse().unwrap()).await;
    assert_eq!(queued["state"], "queued", "what waits holds no room");
    cloud.control.step().await.unwrap();
    for one in [&made, &kept] {
        let id = one["id"].as_str().unwrap();
        let refused = cloud.call(&cloud.operator, "job_preempt", &[id], json!({ "why": WHY })).await;
        assert_eq!(refused.problem(), "conflict", "{}", refused.text);
        let read = cloud.job_read(&tenant, id.parse().unwrap()).await;
        assert_eq!(read["state"], "starting");
        let forbidden = cloud.call(&tenant.owner, "job_preempt", &[id], json!({ "why": WHY })).await;
        assert_eq!(forbidden.problem(), "forbidden");
    }
    let nobody = JobId::from_u128(9).to_string();
    let other = cloud.key(Some(tenant.organisation), None, Role::Admin).await;
    let told = cloud.call(&other, "job_preempt", &[&nobody], json!({ "why": WHY })).await;
    assert_eq!(told.problem(), "forbidden", "whether a job is there is not told to whoever may not ask");
    let told = cloud.call(&cloud.operator, "job_preempt", &[&nobody], json!({ "why": WHY })).await;
    assert_eq!(told.problem(), "not_found");
    for why in ["", " ", "a\nb", &"x".repeat(201)] {
        let told = cloud.call(&cloud.operator, "job_preempt", &[&nobody], json!({ "why": why })).await;
        assert_eq!(told.problem(), "invalid_request", "{why:?}");
    }
}
