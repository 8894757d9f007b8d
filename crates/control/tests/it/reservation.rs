//! Reservations: booked whole or not at all, paid whole, and what runs in and beside them.

use gregal_api::protocol::AttemptPhase;
use gregal_core::{
    id::JobId,
    job::{Billed, JobEnd},
    meter::{Meter, UsageEvent},
    time::Time,
    world::World as _,
};
use serde_json::{Value, json};

use crate::world::{Answer, Cloud, FakeSite, Tenant, ended, running, training};

/// What an hour of one core costs, in nano-euro.
const HOUR: i64 = 40_000_000;

/// So many hours after the beginning of the next one: a time that is the same wherever a test looks from.
fn hour(cloud: &Cloud, hours: i64) -> Time {
    let now = cloud.world.now().as_millis();
    Time::from_millis((now.div_euclid(3_600_000) + hours) * 3_600_000)
}

/// A reservation from one hour until another, counted from the one that is now.
pub(crate) fn wanted(cloud: &Cloud, name: &str, (sku, count): (&str, u32), from: i64, until: i64) -> Value {
    json!({
        "name": name, "site": "lyon", "sku": sku, "count": count,
        "from": hour(cloud, from).to_string(), "until": hour(cloud, until).to_string(),
    })
}

async fn book(cloud: &Cloud, tenant: &Tenant, wanted: Value) -> Answer {
    cloud.call(&tenant.owner, "reservation_create", &[&tenant.project()], wanted).await
}

async fn booked(cloud: &Cloud, tenant: &Tenant, wanted: Value) -> String {
    book(cloud, tenant, wanted).await.good()["id"].as_str().unwrap().to_owned()
}

async fn read(cloud: &Cloud, tenant: &Tenant, id: &str) -> Value {
    cloud.call(&tenant.owner, "reservation_read", &[id], Value::Null).await.good()
}

/// Lets time pass until an hour, and everybody look.
async fn until(cloud: &Cloud, site: &mut FakeSite, at: Time) {
    let millis = at.millis_since(cloud.world.now());
    cloud.world.pass_seconds(millis.div_euclid(1000) + 1);
    site.sync(cloud).await;
    cloud.control.step().await.unwrap();
}

/// A cloud with a site of two cores and a tenant with ten euros.
async fn with_site() -> (Cloud, FakeSite, Tenant) {
    let cloud = Cloud::open().await;
    let site = cloud.site("lyon", "FR").await;
    let tenant = cloud.tenant("Acme", 1_000).await;
    (cloud, site, tenant)
}

#[tokio::test]
async fn a_block_is_booked_whole_with_its_price_held_or_not_at_all() {
    let (cloud, _site, tenant) = with_site().await;
    let quote = cloud
        .call(&tenant.owner, "reservation_quote", &[&tenant.project()], wanted(&cloud, "a", ("cpu.1", 2), 2, 5))
        .await
        .good();
    assert_eq!((&quote["fits"], &quote["cost_nano"], &quote["why"]), (&json!(true), &json!(6 * HOUR), &Value::Null));
    assert_eq!(cloud.balances(tenant.organisation).await.held.get(), 0, "a quote sets nothing aside");
    let first = booked(&cloud, &tenant, wanted(&cloud, "first", ("cpu.1", 1), 2, 5)).await;
    assert_eq!(cloud.balances(tenant.organisation).await.held.get(), 3 * HOUR);
    let view = read(&cloud, &tenant, &first).await;
    assert_eq!(
        (&view["state"], &view["held_nano"], &view["charged_nano"]),
        (&json!("booked"), &json!(3 * HOUR), &json!(0))
    );

    // One of two is free then: two are not half booked.
    let refusal = book(&cloud, &tenant, wanted(&cloud, "second", ("cpu.1", 2), 4, 6)).await;
    assert_eq!(refusal.problem(), "conflict");
    let from = hour(&cloud, 4);
    let (detail, hint) = (refusal.json()["detail"].clone(), refusal.json()["hint"].clone());
    assert_eq!(detail, format!("1 of 2 cores short (1 of 2 free) from {from} on at `lyon`"));
    // From its end, and the five minutes of cleaning after it.
    let next = hour(&cloud, 5).plus_millis(300_000);
    assert!(hint.as_str().unwrap().contains(&next.to_string()), "{hint}");
    assert_eq!(cloud.balances(tenant.organisation).await.held.get(), 3 * HOUR);
    let mut asked = wanted(&cloud, "second", ("cpu.1", 2), 4, 6);
    let quote = cloud.call(&tenant.owner, "reservation_quote", &[&tenant.project()], asked.clone()).await.good();
    assert_eq!(
        (&quote["fits"], &quote["why"], &quote["next_from"]),
        (&json!(false), &detail, &json!(next.to_string()))
    );
    (asked["from"], asked["until"]) = (json!(next.to_string()), json!(next.plus_millis(7_200_000).to_string()));
    booked(&cloud, &tenant, asked).await;

    // What can never be, what costs too much, and a name that is taken.
    assert_eq!(book(&cloud, &tenant, wanted(&cloud, "x", ("cpu.4", 1), 20, 21)).await.problem(), "never_fits");
    assert_eq!(book(&cloud, &tenant, wanted(&cloud, "x", ("cpu.9", 1), 20, 21)).await.problem(), "invalid_request");
    assert_eq!(book(&cloud, &tenant, wanted(&cloud, "x", ("cpu.1", 1), 21, 20)).await.problem(), "invalid_request");
    assert_eq!(book(&cloud, &tenant, wanted(&cloud, "x", ("cpu.1", 1), -2, 20)).await.problem(), "invalid_request");
    let poor = cloud.tenant("Poor", 3).await;
    let refusal = book(&cloud, &poor, wanted(&cloud, "x", ("cpu.1", 1), 20, 21)).await;
    assert_eq!(refusal.problem(), "budget_exceeded");
    assert!(refusal.text.contains("0.01"), "{}", refusal.text);
    assert_eq!(book(&cloud, &tenant, wanted(&cloud, "first", ("cpu.1", 1), 40, 41)).await.problem(), "taken");
}

#[tokio::test]
async fn of_two_that_race_for_the_last_room_one_wins() {
    let (cloud, _site, tenant) = with_site().await;
    let other = cloud.tenant("Other", 1_000).await;
    let (mine, theirs) = (wanted(&cloud, "mine", ("cpu.2", 1), 2, 5), wanted(&cloud, "theirs", ("cpu.2", 1), 4, 6));
    let (mine, theirs) = tokio::join!(book(&cloud, &tenant, mine), book(&cloud, &other, theirs));
    let mut told = [mine.status, theirs.status];
    told.sort_unstable();
    assert_eq!(told, [201, 409]);
    let loser = if mine.status == 409 { (&mine, "theirs") } else { (&theirs, "mine") };
    assert!(
        !loser.0.text.contains(loser.1) && !loser.0.text.contains("rsv_"),
        "whose it is is not said: {}",
        loser.0.text
    );
}

#[tokio::test]
async fn booking_again_with_the_same_key_is_the_same_act() {
    let (cloud, _site, tenant) = with_site().await;
    let body = wanted(&cloud, "once", ("cpu.2", 1), 2, 3);
    let mut ids = Vec::new();
    for _ in 0..2 {
        let answer =
            cloud.call_once(&tenant.owner, "reservation_create", &[&tenant.project()], body.clone(), Some("k")).await;
        ids.push(answer.good()["id"].clone());
    }
    assert_eq!(ids[0], ids[1]);
    assert_eq!(cloud.balances(tenant.organisation).await.held.get(), 2 * HOUR);
}

#[tokio::test]
async fn it_is_paid_whole_used_or_not_to_the_unit_and_the_invoice_says_so() {
    let (cloud, mut site, tenant) = with_site().await;
    let id = booked(&cloud, &tenant, wanted(&cloud, "block", ("cpu.1", 2), 1, 3)).await;
    until(&cloud, &mut site, hour(&cloud, 1)).await;
    let view = read(&cloud, &tenant, &id).await;
    assert_eq!(
        (&view["state"], &view["active_since"], &view["charged_nano"]),
        (&json!("active"), &view["from"], &json!(0))
    );
    let (from, end) = (hour(&cloud, 0), hour(&cloud, 2));
    assert_eq!(view["from"], from.to_string());
    until(&cloud, &mut site, from.plus_millis(3_600_000)).await;
    assert_eq!(read(&cloud, &tenant, &id).await["charged_nano"], 2 * HOUR);
    // Looked at again, nothing is counted again.
    cloud.control.step().await.unwrap();
    assert_eq!(cloud.balances(tenant.organisation).await.accrued.get(), 2 * HOUR);
    until(&cloud, &mut site, end).await;
    let view = read(&cloud, &tenant, &id).await;
    assert_eq!((&view["state"], &view["charged_nano"]), (&json!("ended"), &json!(4 * HOUR)));
    let balances = cloud.balances(tenant.organisation).await;
    assert_eq!((balances.held.get(), balances.accrued.get()), (0, 4 * HOUR));
    let invoice = cloud.call(&tenant.owner, "invoice_draft", &[&tenant.organisation()], Value::Null).await.good();
    let line = invoice["lines"].as_array().unwrap().iter().find(|line| line["meter"] == "reserved_core").unwrap();
    assert_eq!((&line["quantity"], &line["records"], &line["net"]), (&json!(4 * 3_600_000), &json!(2), &json!(16)));
}

#[tokio::test]
async fn a_late_restart_leaves_no_gap_counts_nothing_twice_and_bills_nothing_nobody_could_use() {
    let (cloud, mut site, tenant) = with_site().await;
    let id = booked(&cloud, &tenant, wanted(&cloud, "long", ("cpu.1", 1), 1, 7)).await;
    let missed = booked(&cloud, &tenant, wanted(&cloud, "missed", ("cpu.1", 1), 3, 5)).await;
    let late = booked(&cloud, &tenant, wanted(&cloud, "late", ("cpu.1", 1), 6, 8)).await;
    let (begin, end) = (hour(&cloud, 1), hour(&cloud, 7));
    until(&cloud, &mut site, begin).await;
    until(&cloud, &mut site, begin.plus_millis(3_600_000)).await;
    // Away from two o'clock until half past six.
    cloud.world.pass_seconds(4 * 3_600 + 1_800);
    let cloud = cloud.restarted().await;
    site.sync(&cloud).await;
    cloud.control.step().await.unwrap();
    let view = read(&cloud, &tenant, &id).await;
    assert_eq!(
        (&view["charged_nano"], &view["billed_until"]),
        (&json!(5 * HOUR), &json!(begin.plus_millis(5 * 3_600_000).to_string()))
    );
    let view = read(&cloud, &tenant, &missed).await;
    assert_eq!((&view["state"], &view["charged_nano"]), (&json!("ended"), &json!(0)), "nothing could be run in it");
    let view = read(&cloud, &tenant, &late).await;
    let since: Time = view["active_since"].as_str().unwrap().parse().unwrap();
    assert!(since >= begin.plus_millis(5 * 3_600_000 + 1_800_000), "nobody could run anything in it before: {since}");
    let late_ms = hour(&cloud, 2).millis_since(since);
    until(&cloud, &mut site, end.plus_millis(3_600_000)).await;
    let balances = cloud.balances(tenant.organisation).await;
    // A price that is no whole nano-euro a millisecond is rounded down, once a record.
    let (used, exact) = (balances.accrued.get(), 6 * HOUR + late_ms * HOUR / 3_600_000);
    assert!(balances.held.get() == 0 && (exact - 2..=exact).contains(&used), "{used} {exact}");
    let records = cloud.call(&tenant.owner, "usage_list", &[&tenant.organisation()], Value::Null).await.good();
    let quantity = |record: &Value| record["quantity"].as_u64().unwrap();
    let sum: u64 = records["items"].as_array().unwrap().iter().map(quantity).sum();
    assert_eq!(sum, 6 * 3_600_000 + u64::try_from(late_ms).unwrap());
}

#[tokio::test]
async fn calling_it_off_gives_back_what_has_not_begun() {
    let (cloud, mut site, tenant) = with_site().await;
    let cancel = async |id: &str| cloud.call(&tenant.owner, "reservation_cancel", &[id], Value::Null).await.good();
    let id = booked(&cloud, &tenant, wanted(&cloud, "never", ("cpu.2", 1), 1, 9)).await;
    for _ in 0..2 {
        assert_eq!(cancel(&id).await["state"], "cancelled");
    }
    let balances = cloud.balances(tenant.organisation).await;
    assert_eq!((balances.held.get(), balances.accrued.get()), (0, 0));
    // Its room is anybody's again, and so is its name. This one is called off midway: the hour that has begun is its last.
    let id = booked(&cloud, &tenant, wanted(&cloud, "never", ("cpu.2", 1), 1, 9)).await;
    let begin = hour(&cloud, 1);
    until(&cloud, &mut site, begin).await;
    until(&cloud, &mut site, begin.plus_millis(3_600_000 + 60_000)).await;
    let told = cancel(&id).await;
    let last = begin.plus_millis(2 * 3_600_000);
    assert_eq!((&told["state"], &told["until"]), (&json!("active"), &json!(last.to_string())));
    assert_eq!(cancel(&id).await["until"], told["until"]);
    until(&cloud, &mut site, last).await;
    let balances = cloud.balances(tenant.organisation).await;
    assert_eq!((balances.held.get(), balances.accrued.get()), (0, 4 * HOUR));
    assert_eq!(read(&cloud, &tenant, &id).await["state"], "ended");
    assert_eq!(cancel(&id).await["state"], "ended", "what is over stays as it is");
}

#[tokio::test]
async fn the_calendar_shows_what_is_free_when_and_nobodys_name() {
    let (cloud, _site, tenant) = with_site().await;
    booked(&cloud, &tenant, wanted(&cloud, "secret-plan", ("cpu.1", 1), 2, 5)).await;
    let other = cloud.tenant("Other", 1_000).await;
    let answer = cloud.call(&other.owner, "calendar_read", &["lyon"], Value::Null).await;
    let calendar = answer.good();
    assert!(!answer.text.contains("secret-plan") && !answer.text.contains("rsv_"), "{}", answer.text);
    let steps: Vec<_> = calendar["steps"]
        .as_array()
        .unwrap()
        .iter()
        .map(|step| (step["from"].as_str().unwrap().to_owned(), step["cpus_milli"].as_u64().unwrap()))
        .collect();
    let times = [hour(&cloud, 2), hour(&cloud, 5).plus_millis(300_000)];
    let due: Vec<_> = times.iter().map(ToString::to_string).zip([1_000, 2_000]).collect();
    assert_eq!((steps[0].1, &steps[1..]), (2_000, &due[..]));
    assert_eq!(calendar["steps"][1]["fits"], json!([{ "sku": "cpu.1", "count": 1 }]));
    let far = format!("/api/v1/sites/lyon/calendar?until={}", hour(&cloud, 24 * 91));
    assert_eq!(cloud.get(&other.owner, &far).await.problem(), "invalid_request");
}

#[tokio::test]
async fn a_quota_has_one_limit_whichever_way_it_is_used() {
    let (cloud, _site, tenant) = with_site().await;
    let quota = json!({ "guarantee": 0, "borrow_max": 1 });
    cloud.call(&cloud.operator, "quota_write", &[&tenant.organisation(), "cpu.1"], quota).await.good();
    let refusal = book(&cloud, &tenant, wanted(&cloud, "two", ("cpu.1", 2), 2, 5)).await;
    assert_eq!(refusal.problem(), "never_fits");
    booked(&cloud, &tenant, wanted(&cloud, "one", ("cpu.1", 1), 2, 5)).await;
    let refusal = book(&cloud, &tenant, wanted(&cloud, "beside", ("cpu.1", 1), 4, 6)).await;
    assert!(refusal.text.contains("takes 2 of `cpu.1`, and its organisation may use 1 at most"), "{}", refusal.text);
    booked(&cloud, &tenant, wanted(&cloud, "after", ("cpu.1", 1), 5, 6)).await;
}

/// A job on a SKU, in a reservation if one is named.
async fn submit(
    cloud: &Cloud,
    tenant: &Tenant,
    (sku, seconds): (&str, u32),
    dataset: &str,
    inside: Option<&str>,
) -> Answer {
    let mut wanted = training(dataset, "work");
    (wanted["sku"], wanted["seconds_max"]) = (json!(sku), json!(seconds));
    if let Some(reservation) = inside {
        wanted["reservation"] = json!(reservation);
    }
    cloud.call(&tenant.owner, "job_create", &[&tenant.project()], wanted).await
}

fn id_of(answer: &Answer) -> JobId {
    answer.good()["id"].as_str().unwrap().parse().unwrap()
}

/// A record of so many seconds of one core that a job used until now.
fn used(cloud: &Cloud, tenant: &Tenant, site: &FakeSite, job: JobId, meter: Meter, seconds: u64) -> UsageEvent {
    let record = site.core_seconds(cloud, tenant, job, "1.1.0", seconds);
    UsageEvent { id: UsageEvent::id_of(site.id, &job.to_string(), meter, "1.1.0"), meter, ..record }
}

#[tokio::test]
async fn a_job_that_would_be_there_too_long_waits_with_the_reason_and_a_shorter_one_starts() {
    let (cloud, mut site, tenant) = with_site().await;
    let other = cloud.tenant("Other", 1_000).await;
    let dataset = cloud.dataset(&tenant, &mut site, "facts.jsonl").await;
    let theirs = booked(&cloud, &other, wanted(&cloud, "theirs", ("cpu.1", 2), 1, 3)).await;
    // It is half past nine; theirs begins at ten.
    let long = id_of(&submit(&cloud, &tenant, ("cpu.1", 3_600), &dataset, None).await);
    let short = id_of(&submit(&cloud, &tenant, ("cpu.1", 600), &dataset, None).await);
    cloud.control.step().await.unwrap();
    let waits = cloud.job_read(&tenant, long).await;
    let why = waits["waits_for"].as_str().unwrap();
    let clear = hour(&cloud, 1).plus_millis(-300_000);
    assert!(why.contains(&format!("room at `lyon` is reserved from {clear} on; a limit of")), "{why}");
    assert!(!why.contains("theirs") && !why.contains(&theirs), "whose it is is not said: {why}");
    assert_eq!(cloud.job_read(&tenant, short).await["state"], "starting");
    site.says(&cloud, short, 1, running(&cloud)).await;
    site.says(&cloud, short, 1, ended(&cloud, "finished", true)).await;

    // While it is theirs, the reason says until when; then the job starts.
    until(&cloud, &mut site, hour(&cloud, 1)).await;
    assert_eq!(read(&cloud, &other, &theirs).await["state"], "active");
    cloud.control.step().await.unwrap();
    let free = hour(&cloud, 2).plus_millis(300_000);
    let why = cloud.job_read(&tenant, long).await["waits_for"].as_str().unwrap().to_owned();
    assert!(
        why.contains(&format!(
            "1 of 1 cores short (0 of 2 free) at `lyon`; reserved room there is free again at {free}"
        )),
        "{why}"
    );
    until(&cloud, &mut site, hour(&cloud, 2)).await;
    assert_eq!(read(&cloud, &other, &theirs).await["state"], "ended");
    assert_eq!(cloud.job_read(&tenant, long).await["state"], "starting");
}

#[tokio::test]
async fn the_owners_job_runs_in_it_and_its_time_is_not_paid_twice() {
    let (cloud, mut site, tenant) = with_site().await;
    let dataset = cloud.dataset(&tenant, &mut site, "facts.jsonl").await;
    let id = booked(&cloud, &tenant, wanted(&cloud, "mine", ("cpu.1", 2), 1, 3)).await;
    let held = cloud.balances(tenant.organisation).await.held.get();
    let job = id_of(&submit(&cloud, &tenant, ("cpu.1", 7_200), &dataset, Some(&id)).await);
    assert_eq!(cloud.balances(tenant.organisation).await.held.get(), held, "its reservation has paid");
    cloud.control.step().await.unwrap();
    let waits = cloud.job_read(&tenant, job).await;
    assert_eq!(waits["waits_for"], format!("its reservation `mine` begins at {}", hour(&cloud, 1)));
    let (begin, end) = (hour(&cloud, 1), hour(&cloud, 3));
    until(&cloud, &mut site, begin).await;
    assert_eq!(cloud.job_read(&tenant, job).await["state"], "starting");
    // A job beside it has no room, and one inside has.
    let outside = id_of(&submit(&cloud, &tenant, ("cpu.1", 600), &dataset, None).await);
    let inside = id_of(&submit(&cloud, &tenant, ("cpu.1", 600), &dataset, Some(&id)).await);
    cloud.control.step().await.unwrap();
    assert_eq!(cloud.job_read(&tenant, outside).await["state"], "queued");
    assert_eq!(cloud.job_read(&tenant, inside).await["state"], "starting");
    let third = id_of(&submit(&cloud, &tenant, ("cpu.1", 600), &dataset, Some(&id)).await);
    cloud.control.step().await.unwrap();
    let why = cloud.job_read(&tenant, third).await["waits_for"].as_str().unwrap().to_owned();
    assert!(why.contains("1 of 1 cores short (0 of 2 free)") && why.ends_with("at `lyon (reservation mine)`"), "{why}");
    cloud.call(&tenant.owner, "job_cancel", &[&third.to_string()], Value::Null).await.good();
    cloud.call(&tenant.owner, "job_cancel", &[&outside.to_string()], Value::Null).await.good();

    // Its site is told until when, and counts its time on a meter that has no price. Another meter is not believed.
    site.sync(&cloud).await;
    let told = site.intent().attempts.iter().find(|attempt| attempt.job == job).unwrap().clone();
    assert_eq!(told.leave_by, Some(end.plus_millis(-120_000)));
    site.says(&cloud, job, 1, running(&cloud)).await;
    site.says(&cloud, inside, 1, running(&cloud)).await;
    site.says(&cloud, inside, 1, ended(&cloud, "finished", true)).await;
    cloud.world.pass_seconds(600);
    let covered = used(&cloud, &tenant, &site, job, Meter::CoveredCore, 600);
    assert_eq!(site.uses(&cloud, &[covered]).await["accepted"], 1);
    let twice = used(&cloud, &tenant, &site, job, Meter::ComputeCore, 600);
    let refused = site.uses(&cloud, &[twice]).await;
    assert!(refused["refused"][0]["reason"].as_str().unwrap().contains("its reservation has paid"), "{refused}");
    assert_eq!(cloud.balances(tenant.organisation).await.accrued.get(), 0);

    // Its end: the site has stopped it, and the reservation ends once that is proved.
    until(&cloud, &mut site, end).await;
    assert_eq!(read(&cloud, &tenant, &id).await["state"], "active", "unreachable is not gone");
    let now = cloud.world.now();
    let stop = JobEnd { code: Some(143), reason: "stopped".into(), hint: None };
    let phase = AttemptPhase::Ended {
        since: Some(now),
        at: now,
        end: stop,
        succeeded: false,
        cancelled: true,
        product: None,
        heldout: None,
        billed: Billed::default(),
    };
    site.says(&cloud, job, 1, phase).await;
    cloud.control.step().await.unwrap();
    let over = cloud.job_read(&tenant, job).await;
    assert_eq!((&over["state"], &over["end"]["reason"]), (&json!("failed"), &json!("stopped")));
    assert!(over["end"]["hint"].as_str().unwrap().contains("its reservation is over"), "{over}");
    assert_eq!(read(&cloud, &tenant, &id).await["state"], "ended");
    let balances = cloud.balances(tenant.organisation).await;
    assert_eq!((balances.held.get(), balances.accrued.get()), (0, 4 * HOUR), "the block's price, and nothing else");
    let invoice = cloud.call(&tenant.owner, "invoice_draft", &[&tenant.organisation()], Value::Null).await.good();
    let meters: Vec<_> = invoice["lines"].as_array().unwrap().iter().map(|line| line["meter"].clone()).collect();
    assert_eq!(meters, [json!("reserved_core")]);
    let refusal = submit(&cloud, &tenant, ("cpu.1", 600), &dataset, Some(&id)).await;
    assert_eq!(refusal.problem(), "conflict");
}

#[tokio::test]
async fn a_job_that_can_never_run_in_it_is_refused_and_others_reservations_are_not_found() {
    let (cloud, mut site, tenant) = with_site().await;
    let dataset = cloud.dataset(&tenant, &mut site, "facts.jsonl").await;
    let other = cloud.tenant("Other", 1_000).await;
    let id = booked(&cloud, &tenant, wanted(&cloud, "mine", ("cpu.1", 1), 1, 3)).await;
    let theirs = booked(&cloud, &other, wanted(&cloud, "theirs", ("cpu.1", 1), 1, 3)).await;
    assert_eq!(submit(&cloud, &tenant, ("cpu.2", 60), &dataset, Some(&id)).await.problem(), "never_fits");
    assert_eq!(submit(&cloud, &tenant, ("cpu.1", 60), &dataset, Some(&theirs)).await.problem(), "not_found");
    let mut fixed = training(&dataset, "fixed");
    (fixed["seconds_max"], fixed["preemptible"], fixed["reservation"]) = (json!(7_200), json!(false), json!(id));
    let refusal = cloud.call(&tenant.owner, "job_create", &[&tenant.project()], fixed).await;
    assert_eq!(refusal.problem(), "never_fits");
    assert!(refusal.text.contains("cannot save its work"), "{}", refusal.text);
    // What waits for one that is called off ends with it.
    let job = id_of(&submit(&cloud, &tenant, ("cpu.1", 60), &dataset, Some(&id)).await);
    cloud.call(&tenant.owner, "reservation_cancel", &[&id], Value::Null).await.good();
    cloud.control.step().await.unwrap();
    let over = cloud.job_read(&tenant, job).await;
    assert_eq!((&over["state"], &over["end"]["hint"]), (&json!("failed"), &json!("its reservation is over")));
    assert_eq!(cloud.balances(tenant.organisation).await.held.get(), 0);
}

#[tokio::test]
async fn what_stands_in_its_way_is_waited_for_and_not_paid_for() {
    let (cloud, mut site, tenant) = with_site().await;
    let dataset = cloud.dataset(&tenant, &mut site, "facts.jsonl").await;
    let job = id_of(&submit(&cloud, &tenant, ("cpu.2", 900), &dataset, None).await);
    cloud.control.step().await.unwrap();
    site.says(&cloud, job, 1, running(&cloud)).await;
    let id = booked(&cloud, &tenant, wanted(&cloud, "block", ("cpu.2", 1), 1, 2)).await;
    // Its site is cut off, and the job does not end at its limit as far as anybody knows.
    until(&cloud, &mut site, hour(&cloud, 1)).await;
    let view = read(&cloud, &tenant, &id).await;
    assert_eq!(view["state"], "booked");
    assert!(view["message"].as_str().unwrap().contains("not billed until it is clear"), "{view}");
    cloud.world.pass_seconds(1_800);
    site.says(&cloud, job, 1, ended(&cloud, "timed_out", false)).await;
    cloud.control.step().await.unwrap();
    let view = read(&cloud, &tenant, &id).await;
    let since: Time = view["active_since"].as_str().unwrap().parse().unwrap();
    assert!(since.millis_since(hour(&cloud, 0)) >= 1_800_000, "{view}");
    let end = hour(&cloud, 1);
    until(&cloud, &mut site, end).await;
    let view = read(&cloud, &tenant, &id).await;
    let charged = view["charged_nano"].as_i64().unwrap();
    let due = 2 * HOUR * end.millis_since(since) / 3_600_000;
    assert!(view["state"] == "ended" && (due - 1..=due).contains(&charged), "{view} {due}");
    assert_eq!(cloud.balances(tenant.organisation).await.held.get(), 0);
}
