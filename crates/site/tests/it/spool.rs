//! The usage spool against crashes: every acknowledged record is there exactly once.

use std::{
    collections::BTreeSet,
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Command, Stdio},
};

use gregal_core::{
    id::{AllowanceId, OrganisationId, ProjectId, SiteId},
    meter::{Meter, UsageEvent},
    money::Nano,
    time::Time,
};
use gregal_site::spool::{Error, Limits, Record, Spool};

const ALLOWANCE: AllowanceId = AllowanceId::from_u128(5);

fn record(number: u64) -> Record {
    let site = SiteId::from_u128(1);
    let event = UsageEvent {
        id: UsageEvent::id_of(site, "ep", Meter::TokensOut, &number.to_string()),
        organisation: OrganisationId::from_u128(1),
        project: ProjectId::from_u128(1),
        site,
        meter: Meter::TokensOut,
        item: "embedded".into(),
        quantity: number,
        subject: "ep".into(),
        started_at: Time::from_millis(1),
        ended_at: Time::from_millis(2),
        allowance: Some(ALLOWANCE),
        estimated: None,
    };
    Record { event, cost: Nano::new(1) }
}

fn small() -> Limits {
    Limits { bytes_max: 1 << 20, reserve_bytes: 1 << 20, segment_bytes: 4 << 10 }
}

/// Reads everything that waits, handing it over on the way.
async fn drained(spool: &Spool) -> Vec<u64> {
    let mut all = Vec::new();
    loop {
        let batch = spool.batch(7).await.unwrap();
        if batch.records.is_empty() {
            return all;
        }
        all.extend(batch.records.iter().map(|record| record.event.quantity));
        spool.hand_over(batch).await.unwrap();
    }
}

#[tokio::test]
async fn what_was_appended_is_read_in_order_once_and_totals_outlive_the_segments() {
    let folder = tempfile::tempdir().unwrap();
    let spool = opened(folder.path(), small()).unwrap();
    let written: Vec<u64> = (0..100).collect();
    let appends = written.iter().map(|number| spool.append(vec![record(*number)]));
    for appended in futures_util::future::join_all(appends).await {
        appended.unwrap();
    }
    // The same once more is the same act.
    spool.append(vec![record(3), record(3), record(99)]).await.unwrap();
    assert_eq!((spool.waiting(), spool.used()[&ALLOWANCE]), (100, Nano::new(100)));
    assert_eq!(drained(&spool).await, written);
    drop(spool);
    let spool = opened(folder.path(), small()).unwrap();
    assert_eq!((spool.waiting(), spool.handed_over(), spool.used()[&ALLOWANCE]), (0, 100, Nano::new(100)));
    assert_eq!(spool.bytes(), 0, "segments that were handed over are gone");
    spool.append(vec![record(100)]).await.unwrap();
    assert_eq!(drained(&spool).await, [100]);
    spool.forget_allowances(std::collections::HashSet::new()).await.unwrap();
    assert!(spool.used().is_empty());
}

#[tokio::test]
async fn a_torn_tail_is_cut_and_a_rotten_middle_is_not_passed_over() {
    let folder = tempfile::tempdir().unwrap();
    let spool = opened(folder.path(), small()).unwrap();
    for number in 0..40 {
        spool.append(vec![record(number)]).await.unwrap();
    }
    drop(spool);
    let mut segments: Vec<_> = segments(folder.path());
    let last = segments.pop().unwrap();
    let whole = std::fs::read(&last).unwrap();
    // Every length the last file can have been cut to.
    for length in (0..whole.len()).step_by(101) {
        let copy = tempfile::tempdir().unwrap();
        for entry in std::fs::read_dir(folder.path()).unwrap().flatten() {
            std::fs::copy(entry.path(), copy.path().join(entry.file_name())).unwrap();
        }
        std::fs::write(copy.path().join(last.file_name().unwrap()), &whole[..length]).unwrap();
        let spool = opened(copy.path(), small()).unwrap();
        spool.append(vec![record(1_000)]).await.unwrap();
        let read = drained(&spool).await;
        let kept = read.len() as u64 - 1;
        assert_eq!(read, (0..kept).chain([1_000]).collect::<Vec<_>>());
    }
    let first = &segments[0];
    let mut rotten = std::fs::read(first).unwrap();
    rotten[50] ^= 1;
    std::fs::write(first, rotten).unwrap();
    assert!(matches!(opened(folder.path(), small()), Err(Error::Damaged { .. })));
}

#[tokio::test]
async fn a_rotten_record_before_a_whole_one_is_damage_and_every_torn_tail_is_kept_aside() {
    let folder = tempfile::tempdir().unwrap();
    let open = || opened(folder.path(), Limits::default());
    let spool = open().unwrap();
    spool.append((0..3).map(record).collect()).await.unwrap();
    drop(spool);
    let path = segments(folder.path()).remove(0);
    let whole = std::fs::read(&path).unwrap();
    let mut rotten = whole.clone();
    rotten[whole.len() / 2] ^= 1;
    std::fs::write(&path, &rotten).unwrap();
    assert!(matches!(open(), Err(Error::Damaged { .. })));
    assert_eq!(std::fs::read(&path).unwrap(), rotten, "nothing was cut");
    for (number, tail) in [b"one", b"two"].into_iter().enumerate() {
        std::fs::write(&path, [&whole[..], tail].concat()).unwrap();
        assert_eq!(open().unwrap().waiting(), 3);
        assert_eq!(std::fs::read(folder.path().join(format!("torn-{number}"))).unwrap(), tail);
    }
}

/// Opens a spool as soon as the writer of the one before has let go of the folder.
fn opened(folder: &Path, limits: Limits) -> Result<Spool, Error> {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    loop {
        match Spool::open(folder, limits) {
            Err(Error::InUse) => assert!(std::time::Instant::now() < deadline, "the spool is in use for ever"),
            other => return other,
        }
        std::thread::yield_now();
    }
}

fn segments(folder: &Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().flatten().map(|entry| entry.path());
    let mut segments: Vec<_> =
        entries.filter(|path| path.extension().is_some_and(|extension| extension == "seg")).collect();
    segments.sort();
    segments
}

#[tokio::test]
async fn a_full_spool_takes_no_new_work_but_what_runs_may_still_be_recorded() {
    let folder = tempfile::tempdir().unwrap();
    let limits = Limits { bytes_max: 2_000, reserve_bytes: 2_000, segment_bytes: 1_000 };
    let spool = opened(folder.path(), limits).unwrap();
    let mut number = 0;
    while spool.has_room() {
        spool.append(vec![record(number)]).await.unwrap();
        number += 1;
    }
    spool.append(vec![record(number)]).await.unwrap();
    let refused = loop {
        number += 1;
        if let Err(error) = spool.append(vec![record(number)]).await {
            break error;
        }
    };
    assert!(matches!(refused, Error::Full { .. }), "{refused:?}");
    let kept = drained(&spool).await;
    assert_eq!(kept, (0..number).collect::<Vec<_>>(), "nothing acknowledged was lost, nothing refused was kept");
    assert!(spool.has_room());
}

const CHILD: &str = "GREGAL_TEST_SPOOL_FOLDER";

/// What the killed process runs: appends for ever, and says what was acknowledged. Does nothing in an ordinary run.
#[tokio::test(flavor = "multi_thread")]
async fn the_process_that_gets_killed() {
    let Ok(folder) = std::env::var(CHILD) else { return };
    let spool = opened(Path::new(&folder), small()).unwrap();
    let first: u64 = std::env::var("GREGAL_TEST_FIRST").unwrap().parse().unwrap();
    let mut number = first;
    loop {
        // Several callers share an fsync; some of what waits is handed over meanwhile, as an uploader would.
        let group: Vec<u64> = (number..number + 5).collect();
        let appends = group.iter().map(|number| spool.append(vec![record(*number)]));
        for (appended, number) in futures_util::future::join_all(appends).await.into_iter().zip(&group) {
            appended.unwrap();
            say("kept", *number);
        }
        number += 5;
        if number.is_multiple_of(4) {
            let batch = spool.batch(9).await.unwrap();
            // Control has them from here on, whatever happens to this process.
            batch.records.iter().for_each(|record| say("sent", record.event.quantity));
            spool.hand_over(batch).await.unwrap();
        }
    }
}

fn say(what: &str, number: u64) {
    let mut out = std::io::stdout().lock();
    // The parent may be gone by the time it kills: then there is nobody to tell.
    let _ = writeln!(out, "{what} {number}");
    let _ = out.flush();
}

#[tokio::test]
async fn killed_at_any_moment_every_acknowledged_record_is_there_exactly_once() {
    let folder = tempfile::tempdir().unwrap();
    let (mut kept, mut sent) = (BTreeSet::new(), BTreeSet::new());
    let mut first = 0;
    for round in 0..12u64 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["spool::the_process_that_gets_killed", "--exact", "--nocapture", "--test-threads=1"])
            .env(CHILD, folder.path())
            .env("GREGAL_TEST_FIRST", first.to_string())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut left = 20 + round * 13;
        let mut note = |line: String| {
            let (what, number) = line.split_once(' ')?;
            let number: u64 = number.parse().ok()?;
            first = first.max(number + 1000);
            match what {
                "kept" => kept.insert(number),
                "sent" => sent.insert(number),
                _ => false,
            };
            Some(())
        };
        while left > 0 {
            let line = lines.next().expect("the child writes until it is killed").unwrap();
            left -= u64::from(note(line).is_some());
        }
        child.kill().unwrap();
        // What was said before the kill and not read yet was acknowledged too; a line may be torn, the record is not.
        lines.map_while(Result::ok).for_each(|line| {
            note(line);
        });
        child.wait().unwrap();
    }
    let spool = opened(folder.path(), small()).unwrap();
    let total = spool.used()[&ALLOWANCE].get();
    let waiting = drained(&spool).await;
    let unique: BTreeSet<u64> = waiting.iter().copied().collect();
    assert_eq!(unique.len(), waiting.len(), "nothing stands there twice");
    let known: BTreeSet<u64> = unique.union(&sent).copied().collect();
    assert!(kept.is_subset(&known), "lost: {:?}", kept.difference(&known).collect::<Vec<_>>());
    // What waits and what was handed over add up, to the record.
    assert_eq!(total, i64::try_from(spool.handed_over()).unwrap());
    assert!(kept.len() > 200, "the children did some work: {}", kept.len());
}
