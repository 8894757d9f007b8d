//! Jobs from submission to their end.

use gregal_api::protocol::{AttemptPhase, AttemptRef, ObservedAttempt, ProducedModel};
use gregal_core::{
    id::JobId,
    job::{Billed, Heldout, JobEnd, Progress},
};
use serde_json::{Value, json};

use crate::world::{Cloud, ended, running, training, with_dataset};

fn product() -> ProducedModel {
    ProducedModel {
        digest: "cd".repeat(32),
        bytes: 2_000,
        parameters: 1_000_000,
        flop: 6_000_000,
        tokens: 1_000,
        energy_mj: 3_600_000,
        energy_method: "estimated by hand".into(),
        dataset_digest: "ab".repeat(32),
        base_model_digest: None,
        code_version: "test".into(),
    }
}

#[tokio::test]
async fn a_training_is_held_bound_billed_settled_and_leaves_a_model_with_lineage() {
    let (cloud, mut site, tenant, dataset) = with_dataset().await;
    let job = cloud.job(&tenant, &dataset, "first").await;

    // A minute of a core at 0.04 EUR an hour, rounded up.
    let balances = cloud.balances(tenant.organisation).await;
    assert_eq!((balances.held.get(), balances.available.get()), (666_667, 10_000_000_000 - 666_667));
    let read = cloud.job_read(&tenant, job).await;
    assert_eq!((&read["state"], &read["attempt"]), (&json!("queued"), &json!(0)));
    assert!(read["waits_for"].is_string());

    cloud.control.step().await.unwrap();
    assert_eq!(cloud.job_read(&tenant, job).await["state"], "starting");
    site.sync(&cloud).await;
    let wanted = &site.intent().attempts[0];
    assert_eq!((wanted.job, wanted.attempt, wanted.cancel, wanted.seconds_max), (job, 1, false, 60));
    assert_eq!(wanted.inputs, [(dataset.parse().unwrap(), "ab".repeat(32))]);

    site.says(&cloud, job, 1, AttemptPhase::Starting).await;
    assert_eq!(cloud.job_read(&tenant, job).await["started_at"], Value::Null);
    site.says(&cloud, job, 1, running(&cloud)).await;
    let point =
        |step| Progress { step, steps: 10, loss: 1.5, tokens: 7, tokens_per_s: 3.5, elapsed_ms: 9, energy_mj: 1 };
    site.report.attempts =
        vec![ObservedAttempt { job, attempt: 1, phase: running(&cloud), progress: vec![point(1), point(2)] }];
    site.sync(&cloud).await;
    let read = cloud.job_read(&tenant, job).await;
    assert_eq!((&read["state"], &read["progress"]["step"]), (&json!("running"), &json!(2)));
    let series = cloud.call(&tenant.owner, "job_progress", &[&job.to_string()], Value::Null).await.good();
    assert_eq!(series["items"].as_array().unwrap().len(), 2);

    cloud.world.pass_seconds(20);
    let used = site.core_seconds(&cloud, &tenant, job, "1", 20);
    let receipt = site.uses(&cloud, &[used]).await;
    assert_eq!(receipt, json!({ "accepted": 1, "duplicates": 0, "refused": [] }));
    let balances = cloud.balances(tenant.organisation).await;
    assert_eq!((balances.accrued.get(), balances.held.get()), (222_222, 666_667 - 222_222));

    let AttemptPhase::Ended { since, at, end, .. } = ended(&cloud, "finished", true) else { unreachable!() };
    let over = AttemptPhase::Ended {
        since,
        at,
        end,
        succeeded: true,
        cancelled: false,
        product: Some(product()),
        heldout: Some(Heldout { asked: 20, exact: 19 }),
        billed: Billed::default(),
    };
    let answer = site.says(&cloud, job, 1, over).await;
    assert_eq!(answer.attempts_ended, [AttemptRef { job, attempt: 1 }]);
    let read = cloud.job_read(&tenant, job).await;
    assert_eq!((&read["state"], &read["heldout"]["exact"]), (&json!("succeeded"), &json!(19)));
    let balances = cloud.balances(tenant.organisation).await;
    assert_eq!((balances.held.get(), balances.available.get()), (0, 10_000_000_000 - 222_222));
    assert!(cloud.store.holds_open().await.unwrap().is_empty());

    let model = read["model"].as_str().unwrap();
    let model = cloud.call(&tenant.owner, "model_read", &[model], Value::Null).await.good();
    assert_eq!((&model["name"], &model["number"]), (&json!("facts"), &json!(1)));
    assert_eq!(model["lineage"]["job"], job.to_string());
    assert_eq!(model["lineage"]["dataset_digest"], "ab".repeat(32));
    assert_eq!(model["kwh"], "0.001000000");
    site.sync(&cloud).await;
    assert!(site.intent().attempts.is_empty(), "what has ended is not wanted any more");
}

#[tokio::test]
async fn a_job_is_told_its_place_and_any_decision_comes_out_again_from_the_record() {
    let cloud = Cloud::open().await;
    let mut site = cloud.site("lyon", "FR").await;
    let tenant = cloud.tenant("Acme", 1_000).await;
    let dataset = cloud.dataset(&tenant, &mut site, "facts.jsonl").await;
    let explain = async |cloud: &Cloud, job: JobId| {
        cloud.call(&tenant.owner, "job_explain", &[&job.to_string()], Value::Null).await.good()
    };
    let mut jobs = Vec::new();
    for name in ["first", "second", "third", "fourth"] {
        jobs.push(cloud.job(&tenant, &dataset, name).await);
    }
    let before = explain(&cloud, jobs[1]).await;
    assert_eq!((&before["position"], &before["queued"]), (&json!(2), &json!(4)));
    assert_eq!((&before["history"], &before["replay"]), (&json!([]), &Value::Null), "nobody has looked at it yet");
    cloud.control.step().await.unwrap();

    // The site of these tests has two cores: two start, two wait, in order.
    let started = explain(&cloud, jobs[0]).await;
    assert_eq!((&started["position"], &started["history"][0]["decision"]), (&Value::Null, &json!("start")));
    let waits = explain(&cloud, jobs[3]).await;
    assert_eq!((&waits["position"], &waits["queued"]), (&json!(2), &json!(2)));
    assert_eq!(waits["history"][0]["reason"], waits["waits_for"]);
    assert_eq!((&waits["replay"]["same"], &waits["replay"]["sites"][0]["site"]), (&json!(true), &json!("lyon")));
    assert_eq!(waits["replay"]["decision"], waits["history"][0]);
    assert_eq!(waits["replay"]["asked"]["cpus_milli"], 1000);

    // The queue moves; a control plane that starts anew goes on, and the old decision still comes out as it did.
    site.says(&cloud, jobs[0], 1, running(&cloud)).await;
    site.says(&cloud, jobs[0], 1, ended(&cloud, "finished", true)).await;
    cloud.control.step().await.unwrap();
    assert_eq!(explain(&cloud, jobs[2]).await["history"][0]["decision"], "start");
    let cloud = cloud.restarted().await;
    site.says(&cloud, jobs[1], 1, running(&cloud)).await;
    site.says(&cloud, jobs[1], 1, ended(&cloud, "finished", true)).await;
    cloud.control.step().await.unwrap();
    let all = explain(&cloud, jobs[3]).await;
    let history = all["history"].as_array().unwrap();
    let said: Vec<_> = history.iter().map(|decision| decision["decision"].as_str().unwrap()).collect();
    assert_eq!((said.first(), said.last()), (Some(&"start"), Some(&"wait")), "{all}");
    for decision in history {
        let route = format!("/api/v1/jobs/{}/explain?pass={}", jobs[3], decision["pass"]);
        let again = cloud.get(&tenant.owner, &route).await.good();
        assert_eq!((&again["replay"]["decision"], &again["replay"]["same"]), (decision, &json!(true)));
    }
    let other = cloud.get(&tenant.owner, &format!("/api/v1/jobs/{}/explain?pass=999", jobs[3])).await;
    assert_eq!(other.status, 404);
}

#[tokio::test]
async fn a_pass_made_by_other_rules_is_told_apart_from_a_damaged_one() {
    let (cloud, _site, tenant, dataset) = with_dataset().await;
    let job = cloud.job(&tenant, &dataset, "first").await;
    // As an earlier release wrote it.
    let record = json!({
        "at": gregal_core::world::World::now(&*cloud.world), "rules": 2, "inputs_digest": "ab", "decisions_digest": "cd",
        "inputs": { "whole": { "waiting": [{ "job": job, "cpus_milli": 1000 }], "rooms": [] } },
    });
    let said = json!({ "decision": "wait", "job": job, "reason": "1 of 1 cores short", "promise": null });
    let tx = cloud.store.begin().await.unwrap();
    let (record, said) = (serde_json::from_value(record).unwrap(), serde_json::from_value(said).unwrap());
    tx.schedule_pass_insert(None, &record, &[said]).await.unwrap();
    tx.commit_observation().await.unwrap();
    let told = cloud.call(&tenant.owner, "job_explain", &[&job.to_string()], Value::Null).await.good();
    assert_eq!((&told["replay"]["rules"], &told["replay"]["same"]), (&json!(2), &json!(false)), "{told}");
    assert_eq!(told["replay"]["decision"]["reason"], "1 of 1 cores short");
    assert_eq!(told["replay"]["asked"]["cpus_milli"], 1000);
}

#[tokio::test]
async fn a_large_job_is_promised_a_start_and_only_what_does_not_delay_it_passes() {
    let cloud = Cloud::open().await;
    let mut site = cloud.site("lyon", "FR").await;
    let tenant = cloud.tenant("Acme", 10_000_000).await;
    let submit = async |name: &str, sku: &str, seconds: u32| -> JobId {
        let wanted = json!({ "name": name, "sku": sku, "seconds_max": seconds, "program": { "kind": "command", "argv": ["true"] } });
        let made = cloud.call(&tenant.owner, "job_create", &[&tenant.project()], wanted).await.good();
        made["id"].as_str().unwrap().parse().unwrap()
    };
    let long = submit("long", "cpu.1", 10_000).await;
    cloud.control.step().await.unwrap();
    let large = submit("large", "cpu.2", 600).await;
    let short = submit("short", "cpu.1", 600).await;
    cloud.control.step().await.unwrap();
    // Until the first is ready, nobody knows when it ends, and nobody passes.
    assert_eq!(cloud.job_read(&tenant, large).await["starts_by"], Value::Null);
    assert_eq!(cloud.job_read(&tenant, short).await["state"], "queued");

    site.says(&cloud, long, 1, running(&cloud)).await;
    let endless = submit("endless", "cpu.1", 20_000).await;
    cloud.control.step().await.unwrap();
    let starts_by = cloud.job_read(&tenant, large).await["starts_by"].clone();
    assert!(starts_by.is_string());
    assert_eq!(cloud.job_read(&tenant, short).await["state"], "starting");
    let waits = cloud.job_read(&tenant, endless).await;
    assert!(waits["waits_for"].as_str().unwrap().contains("cores short"), "{waits}");

    // Room is free again, and the promised job still comes first.
    site.says(&cloud, short, 1, running(&cloud)).await;
    site.says(&cloud, short, 1, ended(&cloud, "finished", true)).await;
    cloud.control.step().await.unwrap();
    let waits = cloud.job_read(&tenant, endless).await;
    assert!(waits["waits_for"].as_str().unwrap().contains("would let it start now"), "{waits}");
    assert_eq!(cloud.job_read(&tenant, large).await["starts_by"], starts_by);
    site.says(&cloud, long, 1, ended(&cloud, "finished", true)).await;
    cloud.control.step().await.unwrap();
    let read = cloud.job_read(&tenant, large).await;
    assert_eq!((&read["state"], &read["starts_by"]), (&json!("starting"), &Value::Null));
}

#[tokio::test]
async fn what_an_older_attempt_says_changes_nothing() {
    let (cloud, mut site, tenant, dataset) = with_dataset().await;
    let job = cloud.job(&tenant, &dataset, "first").await;
    cloud.control.step().await.unwrap();
    site.says(&cloud, job, 1, running(&cloud)).await;
    site.says(&cloud, job, 1, ended(&cloud, "lost", false)).await;
    assert_eq!(cloud.job_read(&tenant, job).await["state"], "queued");
    cloud.control.step().await.unwrap();
    let before = cloud.job_read(&tenant, job).await;
    assert_eq!((&before["state"], &before["attempt"]), (&json!("starting"), &json!(2)));

    // The first attempt comes back from the dead: it may be forgotten, and nothing of it counts.
    let answer = site.says(&cloud, job, 1, ended(&cloud, "finished", true)).await;
    assert_eq!(answer.attempts_ended, [AttemptRef { job, attempt: 1 }]);
    site.says(&cloud, job, 1, running(&cloud)).await;
    assert_eq!(cloud.job_read(&tenant, job).await, before);
    site.says(&cloud, job, 2, running(&cloud)).await;
    assert_eq!(cloud.job_read(&tenant, job).await["state"], "running");
}

#[tokio::test]
async fn a_lost_job_is_started_three_times_and_then_fails_with_its_money_back() {
    let (cloud, mut site, tenant, dataset) = with_dataset().await;
    let job = cloud.job(&tenant, &dataset, "first").await;
    for attempt in 1..=3 {
        cloud.control.step().await.unwrap();
        site.sync(&cloud).await;
        assert_eq!(site.intent().attempts.iter().map(|a| (a.job, a.attempt)).collect::<Vec<_>>(), [(job, attempt)]);
        let end = JobEnd { code: None, reason: "never_started".into(), hint: None };
        let now = gregal_core::world::World::now(&*cloud.world);
        let lost = AttemptPhase::Ended {
            since: None,
            at: now,
            end,
            succeeded: false,
            cancelled: false,
            product: None,
            heldout: None,
            billed: Billed::default(),
        };
        site.says(&cloud, job, attempt, lost).await;
        let read = cloud.job_read(&tenant, job).await;
        assert_eq!(read["state"], if attempt < 3 { "queued" } else { "failed" });
    }
    assert_eq!(cloud.job_read(&tenant, job).await["end"]["reason"], "never_started");
    let balances = cloud.balances(tenant.organisation).await;
    assert_eq!((balances.held.get(), balances.accrued.get()), (0, 0), "nobody pays for what never started");
}

#[tokio::test]
async fn a_job_that_waits_again_keeps_what_it_left_at_its_site_and_what_it_was_billed() {
    let (cloud, mut site, tenant, dataset) = with_dataset().await;
    let job = cloud.job(&tenant, &dataset, "first").await;
    let never_bound = cloud.job(&tenant, &dataset, "never-bound").await;
    site.report.capacity.cpus_milli = 1_000;
    site.sync(&cloud).await;
    let lost = |attempt: &str, billed: Billed| {
        let AttemptPhase::Ended { since, at, .. } = ended(&cloud, attempt, false) else { unreachable!() };
        let end = JobEnd { code: None, reason: "never_started".into(), hint: None };
        AttemptPhase::Ended { since, at, end, succeeded: false, cancelled: false, product: None, heldout: None, billed }
    };
    let until = Some(gregal_core::world::World::now(&*cloud.world));
    let billed = Billed { ms: 20_000, until, energy_mj: 7 };
    for (attempt, said) in [(1, billed), (2, Billed::default())] {
        cloud.control.step().await.unwrap();
        site.sync(&cloud).await;
        site.says(&cloud, job, attempt, running(&cloud)).await;
        let answer = site.says(&cloud, job, attempt, lost("lost", said)).await;
        assert_eq!(answer.attempts_ended, [AttemptRef { job, attempt }]);
        assert!(answer.intent.is_some(), "the end is acknowledged together with what becomes of the job");
        assert_eq!((&site.intent().jobs_kept[..], site.intent().attempts.len()), (&[job][..], 0));
        // It was promised the room by now, and would come first.
        cloud.call(&tenant.owner, "job_cancel", &[&never_bound.to_string()], json!({})).await.good();
    }
    cloud.control.step().await.unwrap();
    site.sync(&cloud).await;
    let wanted = &site.intent().attempts[0];
    assert_eq!((wanted.job, wanted.attempt, wanted.billed), (job, 3, billed), "nothing said later makes it less");
    assert!(site.intent().jobs_kept.is_empty());
    site.says(&cloud, job, 3, ended(&cloud, "failed", false)).await;
    assert!(site.intent().jobs_kept.is_empty());
}

#[tokio::test]
async fn a_cancelled_job_ends_at_once_while_it_waits_and_when_its_site_has_proved_it_while_it_runs() {
    let (cloud, mut site, tenant, dataset) = with_dataset().await;
    let cancel = async |job: gregal_core::id::JobId| {
        cloud.call(&tenant.owner, "job_cancel", &[&job.to_string()], Value::Null).await.good()["state"].clone()
    };
    let waiting = cloud.job(&tenant, &dataset, "waiting").await;
    assert_eq!(cancel(waiting).await, "cancelled");
    assert_eq!(cloud.balances(tenant.organisation).await.held.get(), 0);

    let job = cloud.job(&tenant, &dataset, "runs").await;
    cloud.control.step().await.unwrap();
    site.says(&cloud, job, 1, running(&cloud)).await;
    assert_eq!(cancel(job).await, "cancelling");
    assert_eq!(cancel(job).await, "cancelling", "asking again changes nothing");
    site.sync(&cloud).await;
    assert!(site.intent().attempts[0].cancel);
    assert!(cloud.balances(tenant.organisation).await.held.get() > 0, "held until the end is proved");
    site.says(&cloud, job, 1, ended(&cloud, "stopped", false)).await;
    assert_eq!(cloud.job_read(&tenant, job).await["state"], "cancelled");
    assert_eq!(cancel(job).await, "cancelled");
    assert_eq!(cloud.balances(tenant.organisation).await.held.get(), 0);
}

#[tokio::test]
async fn a_job_cancelled_before_its_site_knew_it_ends_once_the_site_acts_by_the_newest_intent() {
    let (cloud, mut site, tenant, dataset) = with_dataset().await;
    let job = cloud.job(&tenant, &dataset, "first").await;
    cloud.control.step().await.unwrap();
    cloud.call(&tenant.owner, "job_cancel", &[&job.to_string()], Value::Null).await.good();
    site.sync(&cloud).await;
    assert_eq!(cloud.job_read(&tenant, job).await["state"], "cancelling", "it has only now learned of it");
    site.sync(&cloud).await;
    assert_eq!(cloud.job_read(&tenant, job).await["state"], "cancelled");
}

#[tokio::test]
async fn a_job_whose_site_is_out_of_sight_stays_what_it_is_and_is_not_started_elsewhere() {
    let cloud = Cloud::open().await;
    let mut site = cloud.site("lyon", "FR").await;
    let mut other = cloud.site("turin", "IT").await;
    let tenant = cloud.tenant("Acme", 1_000).await;
    let dataset = cloud.dataset(&tenant, &mut site, "facts.jsonl").await;
    let job = cloud.job(&tenant, &dataset, "first").await;
    cloud.control.step().await.unwrap();
    site.says(&cloud, job, 1, running(&cloud)).await;

    cloud.world.pass_seconds(3_600);
    other.sync(&cloud).await;
    let late = cloud.job(&tenant, &dataset, "second").await;
    for _ in 0..3 {
        cloud.control.step().await.unwrap();
        other.sync(&cloud).await;
    }
    let read = cloud.job_read(&tenant, job).await;
    assert_eq!((&read["state"], &read["attempt"]), (&json!("running"), &json!(1)));
    assert!(read["waits_for"].as_str().unwrap().contains("site `lyon` unreachable since"), "{read}");
    let read = cloud.job_read(&tenant, late).await;
    assert_eq!((&read["state"], &read["attempt"]), (&json!("queued"), &json!(0)));
    assert!(read["waits_for"].as_str().unwrap().contains("site `lyon` unreachable since"), "{read}");
    assert!(other.intent().attempts.is_empty());

    site.says(&cloud, job, 1, running(&cloud)).await;
    cloud.control.step().await.unwrap();
    let read = cloud.job_read(&tenant, job).await;
    assert_eq!((&read["state"], &read["attempt"], &read["waits_for"]), (&json!("running"), &json!(1), &Value::Null));
    assert_eq!(cloud.job_read(&tenant, late).await["state"], "starting");
}

#[tokio::test]
async fn a_full_site_lets_a_job_wait_and_says_what_is_missing() {
    let (cloud, mut site, tenant, dataset) = with_dataset().await;
    let jobs = [
        cloud.job(&tenant, &dataset, "one").await,
        cloud.job(&tenant, &dataset, "two").await,
        cloud.job(&tenant, &dataset, "three").await,
    ];
    cloud.control.step().await.unwrap();
    let read = cloud.job_read(&tenant, jobs[2]).await;
    assert_eq!(read["state"], "queued");
    assert!(read["waits_for"].as_str().unwrap().contains("1 of 1 cores short (0 of 2 free)"), "{read}");
    site.says(&cloud, jobs[0], 1, ended(&cloud, "failed", false)).await;
    cloud.control.step().await.unwrap();
    assert_eq!(cloud.job_read(&tenant, jobs[2]).await["state"], "starting");
}

#[tokio::test]
async fn what_can_never_run_is_refused_at_once_with_nothing_held() {
    let cloud = Cloud::open().await;
    let mut lyon = cloud.site("lyon", "FR").await;
    let mut turin = cloud.site("turin", "IT").await;
    cloud.site("reston", "US").await;
    let tenant = cloud.tenant("Acme", 1_000).await;
    let dataset = cloud.dataset(&tenant, &mut lyon, "facts.jsonl").await;
    let far = cloud.dataset(&tenant, &mut turin, "other.jsonl").await;
    let refused = async |change: Value| {
        let mut wanted = training(&dataset, "never");
        for (name, value) in change.as_object().unwrap() {
            wanted[name] = value.clone();
        }
        let answer = cloud.call(&tenant.owner, "job_create", &[&tenant.project()], wanted).await;
        (answer.problem(), answer.text)
    };
    let (code, text) = refused(json!({ "sku": "cpu.4" })).await;
    assert_eq!(code, "never_fits");
    assert!(text.contains("2 of 4 cores short"), "{text}");
    let (code, text) = refused(json!({ "site": "turin" })).await;
    assert_eq!(code, "never_fits");
    assert!(text.contains("its data is at `lyon`"), "{text}");
    let (code, text) = refused(json!({ "site": "reston" })).await;
    assert_eq!(code, "residency_refused");
    assert!(text.contains("residency.site_jurisdiction"), "{text}");
    let both = json!({ "kind": "command", "argv": ["true"], "inputs": [dataset, far] });
    assert_eq!(refused(json!({ "program": both })).await.0, "never_fits");
    assert_eq!(refused(json!({ "sku": "cpu.3" })).await.0, "invalid_request");
    assert_eq!(refused(json!({ "seconds_max": 0 })).await.0, "invalid_request");
    assert_eq!(cloud.balances(tenant.organisation).await.held.get(), 0);
}

#[tokio::test]
async fn a_job_beyond_the_credit_is_refused_and_told_by_how_much() {
    let cloud = Cloud::open().await;
    let mut site = cloud.site("lyon", "FR").await;
    let tenant = cloud.tenant("Acme", 1).await;
    let dataset = cloud.dataset(&tenant, &mut site, "facts.jsonl").await;
    let mut wanted = training(&dataset, "dear");
    wanted["seconds_max"] = json!(3_600);
    let answer = cloud.call(&tenant.owner, "job_create", &[&tenant.project()], wanted).await;
    assert_eq!((answer.status, answer.problem().as_str()), (402, "budget_exceeded"));
    // An hour costs four cents, and one cent is there.
    assert!(answer.text.contains("0.030000000 EUR more than is available"), "{}", answer.text);
    assert!(answer.text.contains("0.010000000 EUR are available"), "{}", answer.text);
    assert_eq!(cloud.balances(tenant.organisation).await.held.get(), 0);
}

#[tokio::test]
async fn a_job_waits_for_data_that_has_not_arrived_by_being_refused_with_the_reason() {
    let cloud = Cloud::open().await;
    cloud.site("lyon", "FR").await;
    let tenant = cloud.tenant("Acme", 1_000).await;
    let made =
        cloud.call(&tenant.owner, "dataset_create", &[&tenant.project()], json!({ "name": "late" })).await.good();
    let dataset = made["dataset"]["id"].as_str().unwrap();
    let answer = cloud.call(&tenant.owner, "job_create", &[&tenant.project()], training(dataset, "early")).await;
    assert_eq!(answer.problem(), "conflict");
    assert!(answer.text.contains("has not arrived"), "{}", answer.text);
}
