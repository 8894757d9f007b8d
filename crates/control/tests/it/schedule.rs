//! What the live scheduler does with priorities and quotas: who makes room for whom, and who waits for a quota.

use gregal_api::protocol::AttemptPhase;
use gregal_core::{
    id::JobId,
    job::{Billed, JobEnd},
    world::World as _,
};
use serde_json::{Value, json};

use crate::world::{Cloud, Tenant, ended, running, training, with_dataset};

async fn submit(cloud: &Cloud, tenant: &Tenant, dataset: &str, name: &str, more: &Value) -> JobId {
    let mut wanted = training(dataset, name);
    wanted.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let made = cloud.call(&tenant.owner, "job_create", &[&tenant.project()], wanted).await.good();
    made["id"].as_str().unwrap().parse().unwrap()
}

/// An end after a stop, with so much billed.
fn stopped(cloud: &Cloud, ms: u64) -> AttemptPhase {
    let now = cloud.world.now();
    AttemptPhase::Ended {
        since: Some(now),
        at: now,
        end: JobEnd { code: None, reason: "stopped".into(), hint: None },
        succeeded: false,
        cancelled: true,
        product: None,
        heldout: None,
        billed: Billed { ms, until: Some(now), energy_mj: 0 },
    }
}

#[tokio::test]
async fn a_job_of_lower_priority_saves_its_work_and_makes_room_and_goes_on_later() {
    let (cloud, mut site, tenant, dataset) = with_dataset().await;
    let long = json!({ "sku": "cpu.2", "seconds_max": 7_200, "priority": 1 });
    let low = submit(&cloud, &tenant, &dataset, "low", &long).await;
    cloud.control.step().await.unwrap();
    site.says(&cloud, low, 1, running(&cloud)).await;

    // Left alone for its protected time, whoever waits.
    let high = submit(&cloud, &tenant, &dataset, "high", &json!({ "sku": "cpu.2", "priority": 4 })).await;
    cloud.control.step().await.unwrap();
    assert_eq!(cloud.job_read(&tenant, low).await["state"], "running");
    let waits = cloud.job_read(&tenant, high).await;
    assert!(waits["waits_for"].as_str().unwrap().contains("2 of 2 cores short (0 of 2 free) at `lyon`"), "{waits}");

    cloud.world.pass_seconds(1_800);
    site.sync(&cloud).await;
    cloud.control.step().await.unwrap();
    let gives_way = cloud.job_read(&tenant, low).await;
    assert_eq!(gives_way["state"], "stopping");
    assert!(
        gives_way["waits_for"].as_str().unwrap().contains("one of higher priority (this one has 1)"),
        "{gives_way}"
    );
    assert_eq!(cloud.job_read(&tenant, high).await["state"], "queued", "its room is not free yet");

    // Its room is free once its site has proved it, and is not given back to it first.
    site.sync(&cloud).await;
    assert!(site.intent().attempts[0].preempt);
    site.says(&cloud, low, 1, stopped(&cloud, 1_800_000)).await;
    cloud.control.step().await.unwrap();
    assert_eq!(cloud.job_read(&tenant, high).await["state"], "starting");
    let waits = cloud.job_read(&tenant, low).await;
    assert_eq!((&waits["state"], &waits["stops"]), (&json!("queued"), &json!(1)));

    // Any decision is made again from its record: the stop as well.
    let explained = cloud.call(&tenant.owner, "job_explain", &[&low.to_string()], Value::Null).await.good();
    let said: Vec<&str> =
        explained["history"].as_array().unwrap().iter().map(|one| one["decision"].as_str().unwrap()).collect();
    assert!(said.contains(&"stop"), "{explained}");
    assert_eq!(explained["replay"]["same"], true, "{explained}");
}

#[tokio::test]
async fn what_an_owner_does_not_let_be_stopped_is_waited_for() {
    let (cloud, mut site, tenant, dataset) = with_dataset().await;
    let long = json!({ "sku": "cpu.2", "seconds_max": 7_200, "priority": 0, "preemptible": false });
    let low = submit(&cloud, &tenant, &dataset, "low", &long).await;
    cloud.control.step().await.unwrap();
    site.says(&cloud, low, 1, running(&cloud)).await;
    cloud.world.pass_seconds(1_800);
    site.sync(&cloud).await;
    let high = submit(&cloud, &tenant, &dataset, "high", &json!({ "sku": "cpu.2", "priority": 4 })).await;
    cloud.control.step().await.unwrap();
    assert_eq!(cloud.job_read(&tenant, low).await["state"], "running");
    let waits = cloud.job_read(&tenant, high).await;
    assert_ne!(waits["starts_by"], Value::Null, "it is promised the end of the other's limit: {waits}");
}

#[tokio::test]
async fn nobody_runs_beyond_a_quota_and_says_so_while_it_waits() {
    let (cloud, mut site, tenant, dataset) = with_dataset().await;
    let quota = json!({ "guarantee": 1, "borrow_max": 0 });
    cloud.call(&cloud.operator, "quota_write", &[&tenant.organisation(), "cpu.1"], quota).await.good();
    let low = json!({ "priority": 1, "seconds_max": 7_200 });
    let first = submit(&cloud, &tenant, &dataset, "first", &low).await;
    let second = submit(&cloud, &tenant, &dataset, "second", &low).await;
    cloud.control.step().await.unwrap();
    assert_eq!(cloud.job_read(&tenant, first).await["state"], "starting");
    let waits = cloud.job_read(&tenant, second).await;
    assert!(
        waits["waits_for"]
            .as_str()
            .unwrap()
            .contains("1 of 1 instances of `cpu.1` short within its quota (1 used, 1 its own)"),
        "{waits}"
    );

    // A second core is free all the while; a larger quota is all it takes.
    let quota = json!({ "guarantee": 0, "borrow_max": 2 });
    cloud.call(&cloud.operator, "quota_write", &[&tenant.organisation(), "cpu.1"], quota).await.good();
    cloud.control.step().await.unwrap();
    assert_eq!(cloud.job_read(&tenant, second).await["state"], "starting");

    // A quota that is taken back below what runs stops nothing and lets nothing more in.
    site.says(&cloud, first, 1, running(&cloud)).await;
    let quota = json!({ "guarantee": 0, "borrow_max": 1 });
    cloud.call(&cloud.operator, "quota_write", &[&tenant.organisation(), "cpu.1"], quota).await.good();
    let third = submit(&cloud, &tenant, &dataset, "third", &json!({})).await;
    cloud.control.step().await.unwrap();
    assert_eq!(cloud.job_read(&tenant, first).await["state"], "running");
    assert_eq!(cloud.job_read(&tenant, third).await["state"], "queued");

    // Nor does it stop the scheduler once runs could be stopped for a job that may not start all the same.
    site.says(&cloud, second, 1, running(&cloud)).await;
    cloud.world.pass_seconds(1_800);
    site.sync(&cloud).await;
    let urgent = submit(&cloud, &tenant, &dataset, "urgent", &json!({ "seconds_max": 7_200 })).await;
    cloud.control.step().await.unwrap();
    assert_eq!(cloud.job_read(&tenant, urgent).await["state"], "queued");
}

#[tokio::test]
async fn a_job_that_was_cancelled_is_on_its_way_out_and_nobodys_to_stop() {
    let (cloud, mut site, tenant, dataset) = with_dataset().await;
    let long = json!({ "sku": "cpu.2", "seconds_max": 7_200, "priority": 1 });
    let low = submit(&cloud, &tenant, &dataset, "low", &long).await;
    cloud.control.step().await.unwrap();
    site.says(&cloud, low, 1, running(&cloud)).await;
    cloud.world.pass_seconds(1_800);
    site.sync(&cloud).await;
    cloud.call(&tenant.owner, "job_cancel", &[&low.to_string()], Value::Null).await.good();
    let high = submit(&cloud, &tenant, &dataset, "high", &json!({ "sku": "cpu.2", "priority": 4 })).await;
    cloud.control.step().await.unwrap();
    assert_eq!(cloud.job_read(&tenant, low).await["state"], "cancelling");
    assert_eq!(cloud.job_read(&tenant, high).await["state"], "queued");
}

/// How often the log says that a job waits, and which version its row is of.
async fn said(cloud: &Cloud, job: JobId) -> (usize, u64) {
    let mut waits = 0;
    let mut after = None;
    loop {
        let entries = cloud.store.audit_list(None, after, 1_000).await.unwrap();
        let Some(last) = entries.last() else { break };
        after = Some(last.index);
        let of_job = |body: &str| body.contains(&job.to_string()) && body.contains("\"job:wait\"");
        waits += entries.iter().filter(|entry| of_job(&entry.body)).count();
    }
    (waits, cloud.store.job_get(job).await.unwrap().unwrap().version)
}

#[tokio::test]
async fn a_row_changes_when_a_cause_does_and_explain_says_how_it_is_now() {
    let (cloud, mut site, tenant, dataset) = with_dataset().await;
    let explained =
        async |job: JobId| cloud.call(&tenant.owner, "job_explain", &[&job.to_string()], Value::Null).await.good();
    let mut jobs = Vec::new();
    for name in ["first", "second", "third", "fourth", "fifth"] {
        jobs.push(submit(&cloud, &tenant, &dataset, name, &json!({ "sku": "cpu.2" })).await);
    }
    cloud.control.step().await.unwrap();
    let last = jobs[4];
    let before = said(&cloud, last).await;
    assert_eq!(before.0, 1);
    assert_eq!(explained(last).await["position"], 4);

    // Who is ahead of it goes, one after another: its place moves, and nothing is written.
    site.says(&cloud, jobs[0], 1, running(&cloud)).await;
    for ahead in [jobs[2], jobs[3]] {
        cloud.call(&tenant.owner, "job_cancel", &[&ahead.to_string()], Value::Null).await.good();
        cloud.world.pass_seconds(2);
        cloud.control.step().await.unwrap();
    }
    let now = explained(last).await;
    assert_eq!((&now["position"], &now["queued"]), (&json!(2), &json!(2)), "{now}");
    assert_eq!(said(&cloud, last).await.0, before.0, "a count is no news");

    // Its site goes silent: that is.
    cloud.world.pass_seconds(60);
    cloud.control.step().await.unwrap();
    let row = cloud.job_read(&tenant, last).await;
    assert!(row["waits_for"].as_str().unwrap().contains("unreachable"), "{row}");
    assert_eq!(said(&cloud, last).await.0, before.0 + 1);
    let again = said(&cloud, last).await;
    cloud.world.pass_seconds(5);
    cloud.control.step().await.unwrap();
    assert_eq!(said(&cloud, last).await, again);
}

#[tokio::test]
async fn two_control_planes_over_one_store_know_what_the_other_did() {
    let (cloud, mut site, tenant, dataset) = with_dataset().await;
    let other = cloud.another().await;
    let mut jobs = Vec::new();
    for (number, name) in ["a", "b", "c", "d", "e", "f"].into_iter().enumerate() {
        jobs.push(submit(&cloud, &tenant, &dataset, name, &json!({})).await);
        // Each holds what it knows to the rows at every pass; a board that missed something would end it here.
        let control = if number % 2 == 0 { &cloud.control } else { &other };
        control.step().await.unwrap();
    }
    for (number, job) in jobs.iter().enumerate() {
        site.says(&cloud, *job, 1, running(&cloud)).await;
        other.step().await.unwrap();
        site.says(&cloud, *job, 1, ended(&cloud, "finished", true)).await;
        let quota = json!({ "guarantee": number, "borrow_max": 5 });
        cloud.call(&cloud.operator, "quota_write", &[&tenant.organisation(), "cpu.1"], quota).await.good();
        other.step().await.unwrap();
        cloud.control.step().await.unwrap();
    }
    for job in jobs {
        assert_eq!(cloud.job_read(&tenant, job).await["state"], "succeeded");
    }
}

#[tokio::test]
async fn what_a_run_used_is_counted_once_when_it_ends_and_a_run_that_never_was_is_not() {
    let (cloud, mut site, tenant, dataset) = with_dataset().await;
    let mut ran = 0;
    for name in ["a", "b"] {
        let job = submit(&cloud, &tenant, &dataset, name, &json!({ "sku": "cpu.2" })).await;
        cloud.control.step().await.unwrap();
        site.says(&cloud, job, 1, running(&cloud)).await;
        cloud.world.pass_seconds(30);
        site.says(&cloud, job, 1, ended(&cloud, "finished", true)).await;
        site.says(&cloud, job, 1, ended(&cloud, "finished", true)).await;
        let used = cloud.store.used_changed(0).await.unwrap();
        // One unit of its family, from its start to its end.
        let row = cloud.store.job_get(job).await.unwrap().unwrap();
        ran += row.ended_at.unwrap().millis_since(row.started_at.unwrap());
        assert!(ran >= 30_000);
        assert_eq!(used.len(), 1);
        assert_eq!(i64::try_from(used[0].days.values().sum::<u64>()).unwrap(), ran, "{used:?}");
        cloud.control.step().await.unwrap();
    }
    let never = submit(&cloud, &tenant, &dataset, "never", &json!({})).await;
    cloud.call(&tenant.owner, "job_cancel", &[&never.to_string()], Value::Null).await.good();
    let used = cloud.store.used_changed(0).await.unwrap();
    assert_eq!((used.len(), used[0].version), (1, 2), "{used:?}");
}
