//! Rows: what goes in comes out, once, in order.

use gregal_core::{
    dataset::DatasetState, endpoint::EndpointState, hold::HoldState, id::*, job::JobState, key::digest_of, site::Site,
};
use gregal_store::{Error, Page, Store, Tx};

use super::*;

pub(crate) async fn a_value_comes_back_as_it_was_written(place: &Place) {
    let store = place.open().await;
    parents(&store).await;
    let tx = store.begin().await.unwrap();
    tx.key_insert(&key(1, "s1")).await.unwrap();
    tx.dataset_insert(&dataset(1, "faq")).await.unwrap();
    tx.job_insert(&job(1)).await.unwrap();
    tx.model_insert(&model(1, "m", 1)).await.unwrap();
    tx.endpoint_insert(&endpoint(1, "chat", EndpointState::Ready)).await.unwrap();
    tx.hold_insert(&hold(1, "job_1")).await.unwrap();
    done(tx).await;

    // Read through a store that was opened anew: from the database, not from anybody's memory.
    store.close().await.unwrap();
    let store = place.open().await;
    assert_eq!(store.organisation_get(org_id()).await.unwrap(), Some(organisation(1, "acme")));
    assert_eq!(store.organisation_by_name("acme").await.unwrap(), Some(organisation(1, "acme")));
    assert_eq!(store.project_get(project_id()).await.unwrap(), Some(project(1, "lab")));
    assert_eq!(store.project_by_name(org_id(), "lab").await.unwrap(), Some(project(1, "lab")));
    assert_eq!(store.key_get(KeyId::from_u128(1)).await.unwrap(), Some(key(1, "s1")));
    assert_eq!(store.key_by_digest(&digest_of("s1")).await.unwrap(), Some(key(1, "s1")));
    assert_eq!(store.key_by_digest(&digest_of("s2")).await.unwrap(), None);
    assert_eq!(store.site_get(site_id()).await.unwrap(), Some(site(1, "lyon")));
    assert_eq!(store.site_by_name("lyon").await.unwrap(), Some(site(1, "lyon")));
    assert_eq!(store.site_by_secret_digest(&digest_of("lyon")).await.unwrap(), Some(site(1, "lyon")));
    assert_eq!(store.dataset_get(DatasetId::from_u128(1)).await.unwrap(), Some(dataset(1, "faq")));
    assert_eq!(store.dataset_by_name(project_id(), "faq").await.unwrap(), Some(dataset(1, "faq")));
    assert_eq!(store.job_get(JobId::from_u128(1)).await.unwrap(), Some(job(1)));
    assert_eq!(store.model_get(ModelId::from_u128(1)).await.unwrap(), Some(model(1, "m", 1)));
    assert_eq!(store.model_by_number(project_id(), "m", 1).await.unwrap(), Some(model(1, "m", 1)));
    let chat = endpoint(1, "chat", EndpointState::Ready);
    assert_eq!(store.endpoint_get(EndpointId::from_u128(1)).await.unwrap(), Some(chat.clone()));
    assert_eq!(store.endpoint_live_by_name(project_id(), "chat").await.unwrap(), Some(chat));
    assert_eq!(store.hold_get(HoldId::from_u128(1)).await.unwrap(), Some(hold(1, "job_1")));
    assert_eq!(store.hold_by_subject("job_1").await.unwrap(), Some(hold(1, "job_1")));
    assert_eq!(store.job_get(JobId::from_u128(2)).await.unwrap(), None);
}

pub(crate) async fn a_change_to_what_moved_on_is_a_conflict(place: &Place) {
    let store = place.open().await;
    parents(&store).await;
    let tx = store.begin().await.unwrap();
    tx.job_insert(&job(1)).await.unwrap();
    done(tx).await;
    let mut started = job(1);
    (started.state, started.version) = (JobState::Starting, 2);
    let tx = store.begin().await.unwrap();
    tx.job_update(&started).await.unwrap();
    done(tx).await;

    // Someone who read version 1 as well, and decided otherwise.
    let mut cancelled = job(1);
    (cancelled.state, cancelled.version) = (JobState::Cancelled, 2);
    let tx = store.begin().await.unwrap();
    let error = tx.job_update(&cancelled).await.unwrap_err();
    assert!(matches!(error, Error::Conflict { noun: "job", .. }), "{error:?}");
    drop(tx);
    // A version that skips one is as wrong as one that repeats one.
    cancelled.version = 4;
    let tx = store.begin().await.unwrap();
    assert!(matches!(tx.job_update(&cancelled).await, Err(Error::Conflict { .. })));
    drop(tx);
    let tx = store.begin().await.unwrap();
    let missing = tx.job_update(&job(9)).await.unwrap_err();
    assert!(matches!(missing, Error::Missing { .. }), "{missing:?}");
    drop(tx);
    assert_eq!(store.job_get(JobId::from_u128(1)).await.unwrap(), Some(started));
}

pub(crate) async fn what_may_exist_once_is_taken_the_second_time(place: &Place) {
    let store = place.open().await;
    parents(&store).await;
    let tx = store.begin().await.unwrap();
    tx.key_insert(&key(1, "s1")).await.unwrap();
    tx.dataset_insert(&dataset(1, "faq")).await.unwrap();
    tx.model_insert(&model(1, "m", 1)).await.unwrap();
    tx.endpoint_insert(&endpoint(1, "chat", EndpointState::Loading)).await.unwrap();
    tx.hold_insert(&hold(1, "job_1")).await.unwrap();
    tx.posting_insert(&credit(1, 5)).await.unwrap();
    done(tx).await;

    let same_name = Site { secret_digest: digest_of("new"), ..site(2, "lyon") };
    let same_secret = Site { secret_digest: digest_of("lyon"), ..site(2, "turin") };
    refused(&store, "organisation name", async |tx| tx.organisation_insert(&organisation(2, "acme")).await).await;
    refused(&store, "project name", async |tx| tx.project_insert(&project(2, "lab")).await).await;
    refused(&store, "key digest", async |tx| tx.key_insert(&key(2, "s1")).await).await;
    refused(&store, "site name", async |tx| tx.site_insert(&same_name).await).await;
    refused(&store, "site secret", async |tx| tx.site_insert(&same_secret).await).await;
    refused(&store, "dataset name", async |tx| tx.dataset_insert(&dataset(2, "faq")).await).await;
    refused(&store, "model version", async |tx| tx.model_insert(&model(2, "m", 1)).await).await;
    let again = endpoint(2, "chat", EndpointState::Pending);
    refused(&store, "endpoint name", async |tx| tx.endpoint_insert(&again).await).await;
    refused(&store, "hold subject", async |tx| tx.hold_insert(&hold(2, "job_1")).await).await;
    refused(&store, "posting id", async |tx| tx.posting_insert(&credit(1, 7)).await.map(|_| ())).await;
    refused(&store, "id", async |tx| tx.organisation_insert(&organisation(1, "other")).await).await;
}

async fn refused(store: &Store, what: &str, write: impl AsyncFnOnce(&Tx) -> gregal_store::Result<()>) {
    let tx = store.begin().await.unwrap();
    match write(&tx).await {
        Err(Error::Taken { what: said }) => assert_eq!(said, what),
        other => panic!("{what}: {other:?}"),
    }
}

pub(crate) async fn a_name_is_free_again_once_its_owner_has_ended(place: &Place) {
    let store = place.open().await;
    parents(&store).await;
    let tx = store.begin().await.unwrap();
    tx.dataset_insert(&dataset(1, "faq")).await.unwrap();
    tx.endpoint_insert(&endpoint(1, "chat", EndpointState::Ready)).await.unwrap();
    done(tx).await;
    let mut deleted = dataset(1, "faq");
    (deleted.state, deleted.version) = (DatasetState::Deleted, 2);
    let mut stopped = endpoint(1, "chat", EndpointState::Stopped);
    stopped.version = 2;
    let tx = store.begin().await.unwrap();
    tx.dataset_update(&deleted).await.unwrap();
    tx.endpoint_update(&stopped).await.unwrap();
    assert_eq!(tx.dataset_by_name(project_id(), "faq").await.unwrap(), None);
    assert_eq!(tx.endpoint_live_by_name(project_id(), "chat").await.unwrap(), None);
    tx.dataset_insert(&dataset(2, "faq")).await.unwrap();
    tx.endpoint_insert(&endpoint(2, "chat", EndpointState::Pending)).await.unwrap();
    done(tx).await;
    assert_eq!(store.dataset_by_name(project_id(), "faq").await.unwrap(), Some(dataset(2, "faq")));
    // The removed one remains for lineage, and for its site until that has let go of it.
    assert_eq!(store.dataset_get(DatasetId::from_u128(1)).await.unwrap().as_ref(), Some(&deleted));
    let at_site =
        async || store.datasets_at_site(site_id()).await.unwrap().iter().map(|one| one.id).collect::<Vec<_>>();
    let ids = [1, 2].map(DatasetId::from_u128);
    assert_eq!(at_site().await, ids);
    (deleted.is_gone, deleted.version) = (true, 3);
    let tx = store.begin().await.unwrap();
    tx.dataset_update(&deleted).await.unwrap();
    done(tx).await;
    assert_eq!(at_site().await, ids[1..]);
    assert_eq!(store.dataset_get(ids[0]).await.unwrap(), Some(deleted));
    assert_eq!(store.dataset_by_name(project_id(), "faq").await.unwrap(), Some(dataset(2, "faq")));
    assert_eq!(store.datasets_kept_count(project_id()).await.unwrap(), 1);
}

pub(crate) async fn pages_cover_a_list_once_and_in_order(place: &Place) {
    let store = place.open().await;
    parents(&store).await;
    let tx = store.begin().await.unwrap();
    // Written out of order: lists go by id, which goes by time of birth.
    for number in [7_u128, 3, 1, 6, 2, 5, 4] {
        tx.job_insert(&job(number)).await.unwrap();
    }
    done(tx).await;
    let (mut seen, mut page, mut pages) = (Vec::new(), Page::first(3), 0);
    loop {
        let listed = store.jobs_list(project_id(), &page).await.unwrap();
        seen.extend(listed.items.iter().map(|job| job.id));
        pages += 1;
        match listed.next {
            Some(next) => page = Page::after(next, 3),
            None => break,
        }
    }
    assert_eq!(seen, (1..=7).map(JobId::from_u128).collect::<Vec<_>>());
    assert_eq!(pages, 3);
    let whole = store.jobs_list(project_id(), &Page::first(7)).await.unwrap();
    assert_eq!((whole.items.len(), whole.next), (7, None), "a full last page does not promise another");
    let other = store.jobs_list(ProjectId::from_u128(2), &Page::default()).await.unwrap();
    assert!(other.items.is_empty());
}

pub(crate) async fn a_row_that_names_a_missing_parent_is_refused(place: &Place) {
    let store = place.open().await;
    let tx = store.begin().await.unwrap();
    let error = tx.project_insert(&project(1, "orphan")).await.unwrap_err();
    assert!(matches!(error, Error::Missing { .. }), "{error:?}");
}

pub(crate) async fn lists_for_reconcilers_hold_what_is_live(place: &Place) {
    let store = place.open().await;
    parents(&store).await;
    let tx = store.begin().await.unwrap();
    tx.site_insert(&site(2, "turin")).await.unwrap();
    for (number, state) in [(1, JobState::Queued), (2, JobState::Running), (3, JobState::Failed)] {
        tx.job_insert(&gregal_core::job::Job { state, ..job(number) }).await.unwrap();
    }
    let elsewhere = gregal_core::job::Job { state: JobState::Running, site: Some(SiteId::from_u128(2)), ..job(4) };
    tx.job_insert(&elsewhere).await.unwrap();
    tx.endpoint_insert(&endpoint(1, "a", EndpointState::Ready)).await.unwrap();
    tx.endpoint_insert(&endpoint(2, "b", EndpointState::Failed)).await.unwrap();
    tx.hold_insert(&hold(1, "job_1")).await.unwrap();
    tx.hold_insert(&gregal_core::hold::Hold { state: HoldState::Settled, ..hold(2, "job_2") }).await.unwrap();
    tx.key_insert(&key(1, "s1")).await.unwrap();
    tx.key_insert(&gregal_core::key::Key { revoked_at: Some(NOW), ..key(2, "s2") }).await.unwrap();
    tx.key_insert(&gregal_core::key::Key { organisation: None, project: None, ..key(3, "s3") }).await.unwrap();
    tx.key_insert(&gregal_core::key::Key { expires_at: Some(NOW), ..key(4, "s4") }).await.unwrap();
    tx.model_insert(&model(1, "m", 1)).await.unwrap();
    tx.model_insert(&model(2, "m", 4)).await.unwrap();
    done(tx).await;

    let ids = |jobs: Vec<gregal_core::job::Job>| jobs.iter().map(|job| job.id).collect::<Vec<_>>();
    let live = [JobState::Queued, JobState::Running];
    assert_eq!(ids(store.jobs_in_states(&live).await.unwrap()), [1, 2, 4].map(JobId::from_u128));
    assert_eq!(ids(store.jobs_at_site(site_id(), &live).await.unwrap()), [1, 2].map(JobId::from_u128));
    assert!(store.jobs_in_states(&[]).await.unwrap().is_empty());
    assert_eq!(ids(store.jobs_ended_newest(9).await.unwrap()), [3].map(JobId::from_u128));
    assert!(store.jobs_ended_newest(0).await.unwrap().is_empty());
    assert_eq!(store.jobs_count(project_id(), &live).await.unwrap(), 3);
    let live = store.endpoints_live_at_site(site_id()).await.unwrap();
    assert_eq!(live, [endpoint(1, "a", EndpointState::Ready)]);
    assert_eq!(store.endpoints_live().await.unwrap(), live);
    assert_eq!(store.holds_open().await.unwrap(), [hold(1, "job_1")]);
    assert_eq!(store.keys_working(org_id(), None, NOW).await.unwrap(), [key(1, "s1")]);
    assert_eq!(store.keys_working(org_id(), None, NOW.plus_seconds(60)).await.unwrap().len(), 1);
    assert_eq!(store.keys_kept_count(org_id(), project_id()).await.unwrap(), 2, "an expired one was not revoked");
    assert_eq!(store.endpoints_live_count(project_id()).await.unwrap(), 1);
    assert_eq!(store.operator_keys_list(&Page::default()).await.unwrap().items.len(), 1);
    assert_eq!(store.keys_list(org_id(), None, &Page::default()).await.unwrap().items.len(), 3);
    assert_eq!(store.keys_list(org_id(), Some(project_id()), &Page::first(1)).await.unwrap().items, [key(1, "s1")]);
    assert_eq!(store.model_numbers_max(project_id(), "m").await.unwrap(), 4);
    assert_eq!(store.model_numbers_max(project_id(), "other").await.unwrap(), 0);
    assert_eq!(store.sites_all().await.unwrap().len(), 2);
}

pub(crate) async fn what_was_used_stands_once_each_and_is_never_written_over(place: &Place) {
    let store = place.open().await;
    parents(&store).await;
    let none = gregal_core::used::Used::none(org_id(), "gpu".into());
    let first = gregal_core::used::Used { days: [(3, 5)].into(), version: 1, ..none.clone() };
    let second = gregal_core::used::Used { days: [(3, 5), (4, 6)].into(), version: 2, ..none };
    let tx = store.begin().await.unwrap();
    tx.used_put(&first).await.unwrap();
    done(tx).await;
    let tx = store.begin().await.unwrap();
    let mark = tx.mark();
    assert!(tx.used_changed(mark).await.unwrap().is_empty());
    tx.used_put(&second).await.unwrap();
    assert!(matches!(tx.used_put(&second).await.unwrap_err(), Error::Conflict { .. }), "it was counted meanwhile");
    drop(tx);
    assert_eq!(store.used_get(org_id(), "gpu").await.unwrap(), Some(first.clone()));
    let tx = store.begin().await.unwrap();
    tx.used_put(&second).await.unwrap();
    done(tx).await;
    assert_eq!(store.used_changed(mark).await.unwrap(), std::slice::from_ref(&second));
    assert_eq!(store.used_changed(0).await.unwrap(), [second]);
    let tx = store.begin().await.unwrap();
    assert!(matches!(tx.used_put(&first).await.unwrap_err(), Error::Taken { .. }));
}

pub(crate) async fn quotas_stand_once_each_parents_first_and_go_for_good(place: &Place) {
    let store = place.open().await;
    parents(&store).await;
    let tx = store.begin().await.unwrap();
    tx.organisation_insert(&organisation(2, "beta")).await.unwrap();
    tx.project_insert(&project(2, "other")).await.unwrap();
    // Written in no order.
    let written =
        [(1, Some(2), "cpu.1"), (1, Some(1), "gpu.1"), (2, None, "cpu.1"), (1, None, "gpu.1"), (1, None, "cpu.1")];
    for (of, project, sku) in written {
        tx.quota_insert(&quota(of, project, sku)).await.unwrap();
    }
    done(tx).await;

    let (whole, parts) =
        ([quota(1, None, "cpu.1"), quota(1, None, "gpu.1")], [quota(1, Some(1), "gpu.1"), quota(1, Some(2), "cpu.1")]);
    let of_first: Vec<_> = whole.iter().chain(&parts).cloned().collect();
    assert_eq!(store.quotas_of_organisation(org_id()).await.unwrap(), of_first);
    let all: Vec<_> = whole.iter().chain(&[quota(2, None, "cpu.1")]).chain(&parts).cloned().collect();
    assert_eq!(store.quotas_all().await.unwrap(), all);
    assert_eq!(store.quotas_of_project(project_id()).await.unwrap(), parts[..1]);
    assert_eq!(store.quotas_given(org_id(), "cpu.1").await.unwrap(), parts[1..]);
    assert_eq!(store.quota_get(&parts[0].id).await.unwrap().as_ref(), Some(&parts[0]));

    let tx = store.begin().await.unwrap();
    let twice = tx.quota_insert(&quota(1, None, "cpu.1")).await.unwrap_err();
    assert!(matches!(twice, Error::Taken { .. }), "{twice:?}");
    drop(tx);
    let tx = store.begin().await.unwrap();
    let more = gregal_core::quota::Quota { guarantee: 5, borrow_max: None, version: 2, ..quota(1, None, "cpu.1") };
    tx.quota_update(&more).await.unwrap();
    done(tx).await;
    assert_eq!(store.quota_get(&more.id).await.unwrap(), Some(more.clone()));

    // Whoever saw an older one does not take it away.
    let tx = store.begin().await.unwrap();
    let stale = tx.quota_remove(&quota(1, None, "cpu.1")).await.unwrap_err();
    assert!(matches!(stale, Error::Conflict { .. }), "{stale:?}");
    drop(tx);
    let tx = store.begin().await.unwrap();
    tx.quota_remove(&more).await.unwrap();
    done(tx).await;
    assert_eq!(store.quota_get(&more.id).await.unwrap(), None);
    assert_eq!(store.quotas_all().await.unwrap().len(), 4);
    let tx = store.begin().await.unwrap();
    let orphan = tx.quota_insert(&quota(9, None, "cpu.1")).await.unwrap_err();
    assert!(matches!(orphan, Error::Missing { .. }), "{orphan:?}");
}

pub(crate) async fn policies_stand_by_name_where_they_were_written_and_go_for_good(place: &Place) {
    let store = place.open().await;
    parents(&store).await;
    let written = |number: u128, project: Option<u128>, name: &str| gregal_core::policy::OwnPolicy {
        id: gregal_core::id::PolicyId::from_u128(number),
        organisation: org_id(),
        project: project.map(gregal_core::id::ProjectId::from_u128),
        name: name.into(),
        text: "forbid (principal is Holder, action, resource);".into(),
        permits: false,
        created_at: NOW,
        version: 1,
    };
    // One name in the organisation and in its project is two policies.
    let (whole, part) = (written(1, None, "a"), written(2, Some(1), "a"));
    let tx = store.begin().await.unwrap();
    tx.policy_insert(&part).await.unwrap();
    tx.policy_insert(&whole).await.unwrap();
    done(tx).await;
    assert_eq!(store.policies_of_organisation(org_id()).await.unwrap(), [whole.clone(), part.clone()]);
    assert_eq!(store.policy_named(org_id(), None, "a").await.unwrap().as_ref(), Some(&whole));
    assert_eq!(store.policy_named(org_id(), Some(project_id()), "a").await.unwrap().as_ref(), Some(&part));
    assert_eq!(store.policy_named(org_id(), None, "b").await.unwrap(), None);

    let more = gregal_core::policy::OwnPolicy { text: "permit".into(), permits: true, version: 2, ..whole.clone() };
    let tx = store.begin().await.unwrap();
    tx.policy_update(&more).await.unwrap();
    done(tx).await;
    let tx = store.begin().await.unwrap();
    let stale = tx.policy_remove(&whole).await.unwrap_err();
    assert!(matches!(stale, Error::Conflict { .. }), "{stale:?}");
    drop(tx);
    let tx = store.begin().await.unwrap();
    tx.policy_remove(&more).await.unwrap();
    done(tx).await;
    assert_eq!(store.policies_of_organisation(org_id()).await.unwrap(), [part]);
}

pub(crate) async fn skus_stand_once_each_by_name_for_good(place: &Place) {
    let store = place.open().await;
    let skus = gregal_core::sku::default_skus();
    let offer = |at: usize, retired_at, version| gregal_core::sku::Offer {
        sku: skus[at].clone(),
        created_at: NOW,
        retired_at,
        version,
    };
    let tx = store.begin().await.unwrap();
    for at in [3, 0, 2, 1] {
        tx.sku_insert(&offer(at, None, 1)).await.unwrap();
    }
    done(tx).await;
    let tx = store.begin().await.unwrap();
    tx.sku_update(&offer(1, Some(NOW), 2)).await.unwrap();
    done(tx).await;
    let all = [offer(0, None, 1), offer(1, Some(NOW), 2), offer(2, None, 1), offer(3, None, 1)];
    assert_eq!(store.skus_all().await.unwrap().offers(), all, "by name, retired ones too");
    assert_eq!(store.sku_get("cpu.2").await.unwrap().as_ref(), Some(&all[1]));
    assert_eq!(store.sku_get("cpu.3").await.unwrap(), None);
    refused(&store, "sku name", async |tx| tx.sku_insert(&offer(1, None, 1)).await).await;
    let tx = store.begin().await.unwrap();
    let stale = tx.sku_update(&offer(1, None, 2)).await.unwrap_err();
    assert!(matches!(stale, Error::Conflict { noun: "sku", .. }), "{stale:?}");
}

pub(crate) async fn reservations_are_live_until_they_are_over(place: &Place) {
    use gregal_core::reservation::{
        Reservation,
        ReservationState::{Active, Booked, Cancelled, Ended},
    };
    let store = place.open().await;
    parents(&store).await;
    let tx = store.begin().await.unwrap();
    let written = [(1, "a", Booked), (2, "b", Active), (3, "a", Ended), (4, "a", Cancelled)];
    let written = written.map(|(number, name, state)| reservation(number, name, state));
    for one in &written {
        tx.reservation_insert(one).await.unwrap();
    }
    done(tx).await;
    assert_eq!(store.reservations_live().await.unwrap(), written[..2]);
    assert_eq!(store.reservations_live_at_site(site_id()).await.unwrap(), written[..2]);
    assert!(store.reservations_live_at_site(SiteId::from_u128(9)).await.unwrap().is_empty());
    assert_eq!(store.reservations_live_count(project_id()).await.unwrap(), 2);
    assert_eq!(store.reservations_list(project_id(), &Page::default()).await.unwrap().items, written);
    assert_eq!(store.reservation_get(written[2].id).await.unwrap().as_ref(), Some(&written[2]));

    let tx = store.begin().await.unwrap();
    let taken = tx.reservation_insert(&reservation(5, "b", Booked)).await.unwrap_err();
    assert!(matches!(taken, Error::Taken { .. }), "{taken:?}");
    drop(tx);
    let tx = store.begin().await.unwrap();
    let over = Reservation { state: Ended, version: 2, ..written[1].clone() };
    tx.reservation_update(&over).await.unwrap();
    tx.reservation_insert(&reservation(5, "b", Booked)).await.unwrap();
    done(tx).await;
    assert_eq!(store.reservation_get(over.id).await.unwrap(), Some(over.clone()));
    let tx = store.begin().await.unwrap();
    let stale = tx.reservation_update(&over).await.unwrap_err();
    assert!(matches!(stale, Error::Conflict { .. }), "{stale:?}");
}
