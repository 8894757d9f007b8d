//! What keeps the control plane's loops going: progress, answers, messages, leases, secrets, the schema.

use gregal_core::{
    id::{JobId, KeyId},
    job::{Job, JobState, Progress},
    schedule::{
        Decision, Item, Snapshot, Waiting,
        record::{Change, Record, replay},
        schedule,
    },
    site::Site,
};
use gregal_store::{
    Error, IdempotencyRecord, NEWEST_MIGRATION, PROGRESS_POINTS_MAX, PassDecision, PassPlace, Store, StoreOptions,
};
use serde_json::json;

use super::*;

pub(crate) async fn progress_of_a_long_job_stays_bounded(place: &Place) {
    let store = place.open().await;
    parents(&store).await;
    let (job_id, steps) = (JobId::from_u128(1), 5_000_u64);
    let report = |step: u64| Progress { step, steps, loss: 0.5, tokens: step * 3, ..Progress::default() };
    let tx = store.begin().await.unwrap();
    tx.job_insert(&job(1)).await.unwrap();
    done(tx).await;
    let tx = store.begin().await.unwrap();
    let reports: Vec<_> = (0..=steps).map(report).collect();
    tx.job_progress_append(job_id, &reports).await.unwrap();
    // Sent again: changes nothing.
    tx.job_progress_append(job_id, &reports[steps as usize - 3..]).await.unwrap();
    tx.commit_observation().await.unwrap();

    let curve = store.job_progress_list(job_id, None, u32::MAX).await.unwrap();
    assert!(curve.len() as u64 <= PROGRESS_POINTS_MAX && curve.len() > 1_000, "{}", curve.len());
    assert!(curve.is_sorted_by(|a, b| a.step < b.step));
    assert_eq!(curve.last(), Some(&report(steps)), "the newest report is always there");
    let widest = curve.windows(2).map(|pair| pair[1].step - pair[0].step).max().unwrap();
    assert!(widest <= 4, "thinned evenly, not cut off: {widest}");
    let tail = store.job_progress_list(job_id, Some(steps - 5), 2).await.unwrap();
    assert_eq!(tail.len(), 2);
    assert!(tail[0].step > steps - 5);
    let tx = store.begin().await.unwrap();
    let error = tx.job_progress_append(JobId::from_u128(9), &[report(1)]).await.unwrap_err();
    assert!(matches!(error, Error::Missing { .. }), "{error:?}");
}

pub(crate) async fn a_pass_is_made_again_from_its_chain(place: &Place) {
    let store = place.open().await;
    parents(&store).await;
    let job_id = JobId::from_u128(1);
    let tx = store.begin().await.unwrap();
    tx.job_insert(&job(1)).await.unwrap();
    let queue = |jobs: &[u128]| {
        let waiting = jobs.iter().map(|number| waiting(*number)).collect();
        Snapshot { waiting, ..Snapshot::default() }
    };
    let snapshots = [queue(&[1, 2]), queue(&[2, 3]), queue(&[3])];
    let said = Decision::Never { job: job_id, reason: "nowhere".into() };
    let mut before: Option<(PassPlace, String, &Snapshot)> = None;
    let mut places = Vec::new();
    for (seconds, snapshot) in (0..).zip(&snapshots) {
        let at = NOW.plus_seconds(seconds);
        let decisions = schedule(snapshot, at);
        let record = match &before {
            None => Record::whole(at, snapshot.clone(), &decisions),
            Some((_, digest, before)) => Record::since(at, digest, Change::between(before, snapshot), &decisions),
        };
        let base = before.map(|(place, ..)| place.base);
        let place = tx.schedule_pass_insert(base, &record, std::slice::from_ref(&said)).await.unwrap();
        before = Some((place, record.inputs_digest, snapshot));
        places.push(place);
    }
    // Another chain begins: it is not mixed up with the first.
    let record = Record::whole(NOW, queue(&[9]), &[]);
    let other = tx.schedule_pass_insert(None, &record, &[]).await.unwrap();
    done(tx).await;
    assert_eq!(store.schedule_pass_newest().await.unwrap(), Some(other));
    assert_eq!((other.base, places[2].base), (other.sequence, places[0].sequence));
    for (place, snapshot) in places.iter().zip(&snapshots) {
        let chain = store.schedule_pass_chain(place.sequence).await.unwrap();
        let again = replay(&chain).unwrap();
        assert_eq!((&again.snapshot, again.same), (snapshot, true));
    }
    let decided = store.schedule_decisions_of(job_id, 2).await.unwrap();
    let newest = |place: &PassPlace, seconds| PassDecision {
        pass: place.sequence,
        at: NOW.plus_seconds(seconds),
        decision: said.clone(),
    };
    assert_eq!(decided, [newest(&places[2], 2), newest(&places[1], 1)]);
    let missing = store.schedule_pass_chain(other.sequence + 1).await.unwrap_err();
    assert!(matches!(missing, Error::Missing { .. }), "{missing:?}");
    let tx = store.begin().await.unwrap();
    let nobody = Decision::Never { job: JobId::from_u128(77), reason: "nowhere".into() };
    let error = tx.schedule_pass_insert(None, &record, &[nobody]).await.unwrap_err();
    assert!(matches!(error, Error::Missing { .. }), "{error:?}");
}

pub(crate) async fn what_changed_since_a_mark_is_never_missed(place: &Place) {
    let store = place.open().await;
    parents(&store).await;
    let mark = store.mark_read().await.unwrap();
    assert_eq!(store.jobs_changed(mark).await.unwrap(), []);
    assert_eq!(store.sites_changed(mark).await.unwrap(), []);

    // Begun before the mark was read, committed after: what it wrote is found.
    let tx = store.begin().await.unwrap();
    assert_eq!(tx.mark(), mark);
    tx.job_insert(&job(1)).await.unwrap();
    assert_eq!(store.mark_read().await.unwrap(), mark);
    done(tx).await;
    assert_eq!(store.jobs_changed(mark).await.unwrap(), [job(1)]);
    let later = store.mark_read().await.unwrap();
    assert!(later > mark);
    assert_eq!(store.jobs_changed(later).await.unwrap(), []);

    // An observation makes the log no longer, and is found at the mark it was written at.
    let site = Site { incarnation: Some("second".into()), version: 2, ..site(1, "lyon") };
    let tx = store.begin().await.unwrap();
    tx.site_update(&site).await.unwrap();
    tx.commit_observation().await.unwrap();
    assert_eq!(store.mark_read().await.unwrap(), later);
    assert_eq!(store.sites_changed(later).await.unwrap(), [site]);

    // A change to what was there before is one, of whatever state.
    let ended = Job { state: JobState::Cancelled, version: 2, ..job(1) };
    let tx = store.begin().await.unwrap();
    tx.job_update(&ended).await.unwrap();
    done(tx).await;
    assert_eq!(store.jobs_changed(later).await.unwrap(), [ended]);

    // Of quotas, what was removed leaves no row to find.
    let mut marks = vec![store.quotas_mark().await.unwrap()];
    let (one, other) = (quota(1, None, "cpu.1"), quota(1, None, "cpu.2"));
    let tx = store.begin().await.unwrap();
    tx.quota_insert(&one).await.unwrap();
    tx.quota_insert(&other).await.unwrap();
    done(tx).await;
    marks.push(store.quotas_mark().await.unwrap());
    let tx = store.begin().await.unwrap();
    tx.quota_remove(&other).await.unwrap();
    done(tx).await;
    marks.push(store.quotas_mark().await.unwrap());
    let tx = store.begin().await.unwrap();
    tx.quota_insert(&other).await.unwrap();
    done(tx).await;
    marks.push(store.quotas_mark().await.unwrap());
    let told_apart: std::collections::BTreeSet<_> = marks.iter().collect();
    assert_eq!(told_apart.len(), marks.len(), "{marks:?}");
}

fn waiting(number: u128) -> Waiting {
    Waiting {
        job: JobId::from_u128(number),
        item: Item {
            organisation: org_id(),
            project: project_id(),
            sku: "cpu.1".into(),
            cpus_milli: 1000,
            memory_bytes: 1,
            gpus: 0,
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
        },
        since: NOW,
        sites: vec![],
        limit_ms: 1,
        promised: None,
    }
}

pub(crate) async fn an_answer_is_kept_once_and_forgotten_by_age(place: &Place) {
    let store = place.open().await;
    let record = |number: u128, idem_key: &str, seconds: i64| IdempotencyRecord {
        key_id: KeyId::from_u128(number),
        idem_key: idem_key.to_owned(),
        request_digest: "d".to_owned(),
        status: 201,
        body: r#"{"id":"job_1"}"#.to_owned(),
        at: NOW.plus_seconds(seconds),
    };
    let tx = store.begin().await.unwrap();
    tx.idempotency_put(&record(1, "a", 0)).await.unwrap();
    tx.idempotency_put(&record(2, "a", 0)).await.unwrap();
    tx.idempotency_put(&record(1, "b", 60)).await.unwrap();
    done(tx).await;
    assert_eq!(store.idempotency_get(KeyId::from_u128(1), "a").await.unwrap(), Some(record(1, "a", 0)));
    assert_eq!(store.idempotency_get(KeyId::from_u128(3), "a").await.unwrap(), None, "another key's answer");
    let tx = store.begin().await.unwrap();
    let error = tx.idempotency_put(&record(1, "a", 5)).await.unwrap_err();
    assert!(matches!(error, Error::Taken { what: "idempotency key" }), "{error:?}");
    drop(tx);
    let tx = store.begin().await.unwrap();
    assert_eq!(tx.idempotency_forget(NOW.plus_seconds(60)).await.unwrap(), 2);
    tx.commit_observation().await.unwrap();
    assert_eq!(store.idempotency_get(KeyId::from_u128(1), "a").await.unwrap(), None);
    assert_eq!(store.idempotency_get(KeyId::from_u128(1), "b").await.unwrap(), Some(record(1, "b", 60)));
}

pub(crate) async fn the_outbox_delivers_until_it_is_done(place: &Place) {
    let store = place.open().await;
    let tx = store.begin().await.unwrap();
    for number in 1..=3 {
        tx.outbox_push("job.poke", &json!({ "number": number })).await.unwrap();
    }
    done(tx).await;
    let first = store.outbox_take(2).await.unwrap();
    assert_eq!(first.iter().map(|message| &message.payload["number"]).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(store.outbox_take(2).await.unwrap(), first, "taken but not done: it comes again");
    let tx = store.begin().await.unwrap();
    tx.outbox_failed(first[0].id).await.unwrap();
    tx.outbox_done(first[1].id).await.unwrap();
    tx.outbox_done(first[1].id).await.unwrap();
    tx.commit_observation().await.unwrap();
    let rest = store.outbox_take(10).await.unwrap();
    let rest: Vec<_> = rest.iter().map(|message| (message.payload["number"].as_i64(), message.attempts)).collect();
    assert_eq!(rest, [(Some(3), 0), (Some(1), 1)], "what fails does not stand in the way");
}

pub(crate) async fn a_lease_has_one_holder_at_a_time(place: &Place) {
    let store = place.open().await;
    let later = |seconds| NOW.plus_seconds(seconds);
    let first = store.lease_take("schedule", "a", NOW, later(10)).await.unwrap().unwrap();
    assert_eq!(store.lease_take("schedule", "b", later(9), later(20)).await.unwrap(), None);
    assert!(store.lease_take("invoice", "b", NOW, later(10)).await.unwrap().is_some(), "another loop");
    let longer = store.lease_take("schedule", "a", later(9), later(15)).await.unwrap().unwrap();
    assert_eq!((longer.fence, longer.until), (first.fence, later(15)));
    let second = store.lease_take("schedule", "b", later(15), later(25)).await.unwrap().unwrap();
    assert!(second.fence > first.fence);
    assert_eq!(store.lease_take("schedule", "a", later(16), later(30)).await.unwrap(), None);
    store.lease_give_back("schedule", "a").await.unwrap();
    assert_eq!(store.lease_get("schedule").await.unwrap(), Some(second), "only the holder gives back");
    store.lease_give_back("schedule", "b").await.unwrap();
    assert!(store.lease_take("schedule", "a", later(16), later(30)).await.unwrap().is_some());
    // All at once: one gets it.
    let rivals: Vec<_> = (0..5)
        .map(|number| {
            let store = store.clone();
            let holder = number.to_string();
            tokio::spawn(async move { store.lease_take("outbox", &holder, NOW, NOW.plus_seconds(9)).await.unwrap() })
        })
        .collect();
    let mut holders = 0;
    for rival in rivals {
        holders += u32::from(rival.await.unwrap().is_some());
    }
    assert_eq!(holders, 1);
}

pub(crate) async fn a_secret_value_comes_back_byte_for_byte(place: &Place) {
    let store = place.open().await;
    let seed: Vec<u8> = (0..=255).collect();
    assert_eq!(store.meta_get("signing-key").await.unwrap(), None);
    for value in [b"first".as_slice(), &seed] {
        let tx = store.begin().await.unwrap();
        tx.meta_put("signing-key", value).await.unwrap();
        done(tx).await;
    }
    assert_eq!(store.meta_get("signing-key").await.unwrap(), Some(seed));
}

pub(crate) async fn replicas_that_start_together_make_one_schema(place: &Place) {
    let opening: Vec<_> = (0..4)
        .map(|_| {
            let options = StoreOptions::new(&place.url);
            tokio::spawn(async move { Store::open(options).await.unwrap() })
        })
        .collect();
    let mut stores = Vec::new();
    for store in opening {
        stores.push(store.await.unwrap());
    }
    parents(&stores[0]).await;
    assert_eq!(stores[3].sites_all().await.unwrap().len(), 1);
}

pub(crate) async fn a_database_from_a_newer_version_is_refused(place: &Place) {
    place.open().await.close().await.unwrap();
    place.execute("UPDATE schema_migrations SET digest = 'other'").await.unwrap();
    let error = Store::open(StoreOptions::new(&place.url)).await.unwrap_err();
    assert!(matches!(error, Error::Changed { number: 1 }), "{error:?}");
    let newer = NEWEST_MIGRATION + 1;
    let sql = format!("INSERT INTO schema_migrations (number, name, digest) VALUES ({newer}, 'later', 'x')");
    place.execute(&sql).await.unwrap();
    let error = Store::open(StoreOptions::new(&place.url)).await.unwrap_err();
    assert!(matches!(error, Error::Newer { found, .. } if found == newer), "{error:?}");
    assert!(error.hint().is_some());
}
