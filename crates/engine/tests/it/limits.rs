//! Memory, processes, time and files have a bound, whatever enforces it.

use gregal_engine::local::LocalOptions;
use gregal_engine::{Engine, LimitsBy, Protection, Reason};

use crate::support::{Bench, HELPER, log};

fn best(_: &mut LocalOptions) {}

fn rlimits(options: &mut LocalOptions) {
    options.without = [Protection::Limits].into();
}

#[tokio::test(flavor = "multi_thread")]
async fn more_memory_than_granted_ends_it_as_out_of_memory() {
    for choose in [best as fn(&mut LocalOptions), rlimits] {
        let bench = Bench::with(choose);
        let by = bench.engine.capabilities().await.unwrap().limits_by;
        let mut workload = bench.workload("eat", &[HELPER, "eat", "600"]);
        workload.resources.memory_bytes = 64 << 20;
        let seen = bench.run(&workload).await;
        assert_eq!(seen.exit().unwrap().reason, Reason::OutOfMemory, "{by:?}: {seen:?} {}", log(&workload));
        assert!(!log(&workload).contains("ate"), "{by:?}");
        assert!(seen.usage.memory_peak_bytes > 32 << 20, "{by:?}: {:?}", seen.usage);

        let mut modest = bench.workload("nibble", &[HELPER, "eat", "30"]);
        modest.resources.memory_bytes = 64 << 20;
        let seen = bench.run(&modest).await;
        assert_eq!(seen.exit().unwrap().reason, Reason::Finished, "{by:?}: {seen:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn libraries_make_as_many_threads_as_it_has_cores_unless_it_says_otherwise() {
    let bench = Bench::new();
    let all = bench.engine.capabilities().await.unwrap().capacity.cpus_milli;
    let cores = format!("{0} {0}\n", all / 1000);
    for (cpus_milli, own, threads) in [(250, None, "1 1\n"), (all, None, &cores), (900, Some("7"), "7 1\n")] {
        let mut workload = bench.shell(&format!("threads-{cpus_milli}"), "echo $OMP_NUM_THREADS $OPENBLAS_NUM_THREADS");
        workload.resources.cpus_milli = cpus_milli;
        workload.env.extend(own.map(|own| ("OMP_NUM_THREADS".to_owned(), own.to_owned())));
        bench.run(&workload).await;
        assert_eq!(log(&workload), threads);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn files_in_the_private_folder_count_as_memory() {
    let bench = Bench::new();
    let mut workload = bench.shell("fill", "head -c 500M /dev/zero > /tmp/big && echo filled");
    workload.resources.memory_bytes = 64 << 20;
    let seen = bench.run(&workload).await;
    assert_ne!(seen.exit().unwrap().reason, Reason::Finished, "{seen:?}");
    assert!(!log(&workload).contains("filled"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fork_bomb_is_bounded() {
    for choose in [best as fn(&mut LocalOptions), rlimits] {
        let bench = Bench::with(choose);
        let by = bench.engine.capabilities().await.unwrap().limits_by;
        let mut workload = bench.workload("breed", &[HELPER, "breed", "400"]);
        workload.resources.pids_max = 32;
        let seen = bench.run(&workload).await;
        let log = log(&workload);
        let bred: usize = log.trim().strip_prefix("bred ").map_or(0, |n| n.parse().unwrap());
        // Either it was refused more, or it was ended for trying.
        let ended = seen.exit().unwrap().reason == Reason::Failed;
        assert!(bred < 50 && (bred > 0 || ended), "{by:?}: {log} {seen:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_beyond_the_limit_is_not_written() {
    let bench = Bench::new();
    let mut workload = bench.shell("big", "head -c 20M /dev/zero > /tmp/big; echo; wc -c < /tmp/big");
    workload.resources.file_bytes_max = 4 << 20;
    bench.run(&workload).await;
    assert_eq!(log(&workload).lines().last(), Some("4194304"), "{}", log(&workload));
}

#[tokio::test(flavor = "multi_thread")]
async fn usage_is_counted_while_it_runs_and_when_it_ended() {
    for choose in [best as fn(&mut LocalOptions), rlimits] {
        let bench = Bench::with(choose);
        let workload = bench.shell(
            "busy",
            "i=0; while [ $i -lt 400000 ]; do i=$((i+1)); done; echo half; while :; do i=$((i+1)); done",
        );
        bench.run_until_said(&workload, "half").await;
        let during = bench.until(&workload.id, |seen| seen.usage.cpu_ms > 0).await;
        assert!(during.exit().is_none());
        bench.engine.stop(&workload.id, 0).await.unwrap();
        let after = bench.until(&workload.id, |seen| seen.exit().is_some()).await;
        assert!(
            after.usage.cpu_ms >= during.usage.cpu_ms && after.usage.cpu_ms <= after.usage.wall_ms * 2,
            "{after:?}"
        );
        assert!(after.usage.energy.total_mj() > 0 && after.usage.energy.is_estimated());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_enforces_limits_is_told() {
    let forced = Bench::with(rlimits).engine.capabilities().await.unwrap();
    assert_eq!(forced.limits_by, LimitsBy::Rlimits);
    assert!(!forced.protections[&Protection::Limits].is_available());
    let found = Bench::new().engine.capabilities().await.unwrap();
    assert_eq!(found.protections[&Protection::Limits].is_available(), found.limits_by != LimitsBy::Rlimits);
}
