//! The audit log: proved, remembered, and not believed once it was touched.

use gregal_api::audit::AuditList;
use serde_json::{Value, json};

use crate::{
    fake::{Fake, ORG, Said, type_in},
    log::Log,
};

const ALL: &str = "GET /api/v1/audit";
const CONSISTENCY: &str = "GET /api/v1/audit/consistency";

pub(crate) fn path() -> String {
    format!("GET /api/v1/organisations/{ORG}/audit")
}

/// Shows these pages from now on, and what the log of `new` entries says of how it grew from `old`.
pub(crate) fn show(fake: &Fake, what: &str, pages: &[AuditList], grown: Option<(&Log, usize, usize)>) {
    fake.forget(what);
    fake.forget(CONSISTENCY);
    for page in pages {
        fake.on(what, &serde_json::to_value(page).unwrap());
    }
    if let Some((log, old, new)) = grown {
        fake.on(CONSISTENCY, &serde_json::to_value(log.consistency(old, new)).unwrap());
    }
}

async fn verify(fake: &Fake, page: AuditList, grown: Option<(&Log, usize, usize)>) -> Said {
    show(fake, &path(), &[page], grown);
    fake.run(&["audit", "verify"]).await
}

fn refused(said: &Said, why: &str) {
    assert_eq!((said.exit, said.out.as_str()), (1, ""), "{said:?}");
    assert!(said.err.contains("error: the audit log does not verify: ") && said.err.contains(why), "{}", said.err);
}

#[tokio::test]
async fn an_honest_log_is_proved_over_all_its_pages_as_of_one_moment_and_then_as_it_grew() {
    let fake = Fake::start().await;
    let mut log = Log::of(3, 7);
    let (mut first, mut second) = (log.view(7), log.view(7));
    second.items = first.items.split_off(2);
    first.next = Some(1);
    show(&fake, &path(), &[first, second], None);
    let said = fake.run(&["audit", "verify"]).await;
    assert_eq!(said.exit, 0, "{}", said.err);
    assert_eq!(said.err, "this is the first look at this log: its key is remembered, and trusted from now on\n");
    assert!(said.out.starts_with("verified  5 entries of 7\n"), "{}", said.out);
    let queries: Vec<_> = fake.asked(&path()).into_iter().map(|asked| asked.query).collect();
    assert_eq!(queries, ["limit=500", "after=1&limit=500&at=7"]);
    log.grow(9);
    let again = verify(&fake, log.view(9), Some((&log, 7, 9))).await;
    assert_eq!((again.exit, again.err.as_str()), (0, ""));
    assert_eq!(fake.asked(CONSISTENCY)[0].query, "old=7&new=9");
}

#[tokio::test]
async fn pages_of_two_moments_are_not_put_together() {
    let fake = Fake::start().await;
    let log = Log::of(3, 9);
    let (mut first, mut second) = (log.view(7), log.view(9));
    first.items.truncate(2);
    first.next = Some(1);
    second.items.drain(..2);
    show(&fake, &path(), &[first, second], None);
    refused(&fake.run(&["audit", "verify"]).await, "two pages of one moment have different checkpoints");
}

#[tokio::test]
async fn a_changed_entry_is_named() {
    let fake = Fake::start().await;
    let mut page = Log::of(3, 5).view(5);
    page.items[2].body = page.items[2].body.replace("job_3", "job_9");
    refused(&verify(&fake, page, None).await, "entry 3 is not in the log as the checkpoint has it\n");
}

#[tokio::test]
async fn an_entry_left_out_of_a_view_is_missed_wherever_it_stood() {
    let fake = Fake::start().await;
    let log = Log::of(3, 8);
    let count = log.view(8).items.len();
    assert_eq!(count, 6);
    for left_out in 0..count {
        let mut page = log.view(8);
        page.items.remove(left_out);
        let why = if left_out + 1 == count { "shows 5 entries, and its signed head says 6" } else { "was due" };
        refused(&verify(&fake, page, None).await, why);
    }
    // Nor is it enough to leave the head out, or to show that of another moment, view or log.
    let without = AuditList { view_head: None, ..log.view(8) };
    refused(&verify(&fake, without, None).await, "without its signed head");
    let earlier = AuditList { view_head: Some(log.view_head(7)), ..log.view(8) };
    refused(&verify(&fake, earlier, None).await, "of another moment");
    let others = AuditList { view_head: Some(Log::of(4, 8).view_head(8)), ..log.view(8) };
    refused(&verify(&fake, others, None).await, "no signature of the log's key");
    let mut foreign = log.view(8);
    foreign.items.insert(2, log.whole(8).items[2].clone());
    refused(&verify(&fake, foreign, None).await, "entry 2 is not of this view");
    assert_eq!(verify(&fake, log.view(8), None).await.exit, 0);
}

#[tokio::test]
async fn an_entry_renumbered_over_a_removed_one_breaks_the_chain() {
    let fake = Fake::start().await;
    let mut log = Log::of(3, 8);
    // The operator takes entry 1 out of the view and gives its number to the next.
    log.rewrite(3, "\"number\":2", "\"number\":1");
    let mut page = log.view(8);
    page.items.remove(1);
    refused(&verify(&fake, page, None).await, "entry 3 does not follow the entry before it in its view");
}

#[tokio::test]
async fn a_log_that_shrank_or_whose_past_or_key_changed_is_refused() {
    let fake = Fake::start().await;
    let mut log = Log::of(3, 5);
    assert_eq!(verify(&fake, log.view(5), None).await.exit, 0);
    let honest = log.clone();
    log.grow(6);

    refused(&verify(&fake, log.view(4), None).await, "it has 4 entries, and had 5 before: a log never shrinks");
    let mut fork = Log::of(3, 2);
    fork.push("job_other", None);
    fork.grow(6);
    refused(&verify(&fake, fork.view(5), None).await, "the same 5 entries as before, but another root");
    // A fork that grew: with its own proof, with the honest log's, and with a proof of another size.
    refused(&verify(&fake, fork.view(6), Some((&fork, 5, 6))).await, "its first 5 entries are not those seen before");
    refused(&verify(&fake, fork.view(6), Some((&log, 5, 6))).await, "does not show how it grew from 5 entries");
    refused(&verify(&fake, log.view(6), Some((&log, 4, 6))).await, "it answers another question than was asked");

    let exchanged = verify(&fake, Log::of(4, 6).view(6), Some((&log, 5, 6))).await;
    refused(&exchanged, "the log's key is not the expected one");
    assert!(exchanged.err.contains("its key is not the one seen before"), "{}", exchanged.err);
    // None of that was remembered: the honest log still verifies.
    assert_eq!(verify(&fake, honest.view(5), None).await.exit, 0);
    assert_eq!(verify(&fake, log.view(6), Some((&log, 5, 6))).await.exit, 0);
}

#[tokio::test]
async fn whoever_reads_the_whole_log_finds_a_missing_entry_and_a_rewritten_past() {
    let fake = Fake::start().await;
    let log = Log::of(3, 6);
    show(&fake, ALL, &[log.whole(5)], None);
    assert_eq!(fake.run(&["audit", "verify", "--all"]).await.exit, 0);

    let mut gap = log.whole(6);
    gap.items.remove(2);
    show(&fake, ALL, &[gap], Some((&log, 5, 6)));
    refused(&fake.run(&["audit", "verify", "--all"]).await, "entry 2 is missing");
    let mut short = log.whole(6);
    short.items.pop();
    show(&fake, ALL, &[short], Some((&log, 5, 6)));
    refused(&fake.run(&["audit", "verify", "--all"]).await, "5 entries were shown, the checkpoint is of 6");
    show(&fake, ALL, &[log.whole(6)], Some((&log, 5, 6)));
    assert_eq!(fake.run(&["audit", "verify", "--all"]).await.exit, 0);
}

#[tokio::test]
async fn a_damaged_memory_is_not_passed_over() {
    let fake = Fake::start().await;
    let log = Log::of(3, 2);
    assert_eq!(verify(&fake, log.view(2), None).await.exit, 0);
    let folder = fake.state.path().join("audit");
    let file = std::fs::read_dir(folder).unwrap().next().unwrap().unwrap().path();
    std::fs::write(&file, "{").unwrap();
    let said = verify(&fake, log.view(2), None).await;
    assert_eq!(said.exit, 1);
    assert!(said.err.contains("to trust the log anew"), "{}", said.err);
}

#[tokio::test]
async fn what_an_earlier_version_remembered_still_counts() {
    let fake = Fake::start().await;
    let log = Log::of(3, 6);
    assert_eq!(verify(&fake, log.view(6), None).await.exit, 0);
    let folder = fake.state.path().join("audit");
    let file = std::fs::read_dir(folder).unwrap().next().unwrap().unwrap().path();
    let mut known: Value = serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
    known.as_object_mut().unwrap().remove("views");
    known["entries"] = json!({ ORG: 5 });
    std::fs::write(&file, known.to_string()).unwrap();
    refused(&verify(&fake, log.view(6), None).await, "5 entries of this view were shown before, 4 now");
    known["entries"] = json!({ ORG: 4 });
    std::fs::write(&file, known.to_string()).unwrap();
    assert_eq!(verify(&fake, log.view(6), None).await.exit, 0);
}

#[tokio::test]
async fn entries_read_as_who_did_what() {
    let fake = Fake::start().await;
    show(&fake, &path(), &[Log::of(3, 1).view(1)], None);
    let said = fake.run(&["audit", "list"]).await;
    insta::assert_snapshot!(said.out, @r"
    INDEX  AT                        ACTOR                           ACTION      OBJECT  RESULT  REASON
        0  2026-11-22T09:30:00.000Z  key_00000000000000000000000008  job:create  job_0   done    -
    ");
    let listed = fake.run(&["audit", "list", "--json"]).await.json();
    assert_eq!((listed["view"].as_str(), listed["items"][0]["index"].as_u64()), (Some(ORG), Some(0)));
}

/// Verifies a file without asking anyone.
pub(crate) async fn offline(file: &std::path::Path, state: Option<&std::path::Path>, more: &[&str]) -> Said {
    let args: Vec<&str> =
        ["audit", "verify", file.to_str().unwrap(), "--key", "", "--json"].iter().chain(more).copied().collect();
    type_in(&args, state, "", true).await
}
