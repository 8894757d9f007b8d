//! Nothing outlives what holds it, and how it ended is known afterwards.

use std::process::{Command, Stdio};

use gregal_engine::local::{Local, LocalOptions};
use gregal_engine::{Engine, EngineError, Protection, Reason};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::support::{Bench, HELPER, eventually, is_running, log, parent_of, processes_with, workload};

#[tokio::test(flavor = "multi_thread")]
async fn stopping_ends_the_whole_tree() {
    let bench = Bench::new();
    let mark = format!("9{}1", std::process::id());
    // A grandchild that left its session, as daemons do.
    let script = format!("setsid sleep {mark} & (sleep {mark} &) ; echo up; sleep {mark}");
    let workload = bench.shell("tree", &script);
    bench.run_until_said(&workload, "up").await;
    eventually("all three sleep", || processes_with(&format!("sleep\0{mark}")).len() == 3);
    bench.engine.stop(&workload.id, 0).await.unwrap();
    let seen = bench.until(&workload.id, |seen| seen.exit().is_some()).await;
    assert_eq!(seen.exit().unwrap().reason, Reason::Stopped);
    assert_eq!(processes_with(&format!("sleep\0{mark}")), [] as [i32; 0], "an exit means that nothing is left");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_leaves_children_behind_takes_them_with_it() {
    let bench = Bench::new();
    let mark = format!("9{}2", std::process::id());
    let workload = bench.shell("orphans", &format!("setsid sleep {mark} & exit 5"));
    let seen = bench.run(&workload).await;
    assert_eq!(seen.exit().unwrap().code, Some(5));
    assert_eq!(processes_with(&format!("sleep\0{mark}")), [] as [i32; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_polite_signal_reaches_the_program_and_its_last_words_are_kept() {
    let bench = Bench::new();
    let script = "trap 'echo saved; exit 0' TERM; echo up; while :; do sleep 0.05; done";
    let workload = bench.shell("polite", script);
    bench.run_until_said(&workload, "up").await;
    bench.engine.stop(&workload.id, 30_000).await.unwrap();
    let seen = bench.until(&workload.id, |seen| seen.exit().is_some()).await;
    assert_eq!((seen.exit().unwrap().reason, seen.exit().unwrap().code), (Reason::Stopped, Some(0)));
    assert!(log(&workload).contains("saved"));
}

#[tokio::test(flavor = "multi_thread")]
async fn when_the_engine_s_process_is_killed_everything_dies_and_the_next_one_knows() {
    for (at, without) in [vec![], vec![Protection::Processes]].into_iter().enumerate() {
        let dir = tempfile::tempdir().unwrap();
        let mark = format!("9{}3{at}", std::process::id());
        let log = dir.path().join("log");
        let argv = ["/bin/sh", "-c", &format!("trap '' TERM; setsid sleep {mark} & echo up; sleep {mark}")];
        let mut workload = workload("held.1", &argv, &log);
        workload.trust = gregal_engine::Trust::Trusted;
        let state = dir.path().join("state");
        let without_words: Vec<&str> = without.iter().map(|_| "without-namespaces").collect();
        let mut holder = Command::new(HELPER)
            .arg("hold")
            .arg(&state)
            .arg(serde_json::to_string(&workload).unwrap())
            .args(without_words)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        eventually("it runs", || processes_with(&format!("sleep\0{mark}")).len() == 2);
        assert!(Local::open(LocalOptions::new(HELPER, &state)).is_err(), "one engine at a time");

        kill(Pid::from_raw(i32::try_from(holder.id()).unwrap()), Signal::SIGKILL).unwrap();
        holder.wait().unwrap();
        let engine = Local::open(LocalOptions::new(HELPER, &state)).unwrap();
        let seen = engine.observe(&workload.id).await.unwrap();
        assert_eq!(seen.exit().unwrap().reason, Reason::Lost, "{seen:?}");
        assert!(seen.exit().unwrap().began_ms.is_some());
        assert_eq!(processes_with(&format!("sleep\0{mark}")), [] as [i32; 0], "nothing outlives the engine");
        engine.start(workload.clone()).await.unwrap();
        assert_eq!(engine.observe(&workload.id).await.unwrap(), seen, "an attempt that was lost is not begun again");
        engine.remove(&workload.id).await.unwrap();
        assert!(matches!(engine.observe(&workload.id).await, Err(EngineError::NotFound(_))));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_sandbox_stage_takes_the_workload_with_it_and_is_told_as_lost() {
    let bench = Bench::new();
    let mark = format!("9{}4", std::process::id());
    let workload = bench.shell("stage", &format!("echo up; sleep {mark}"));
    bench.run_until_said(&workload, "up").await;
    // Other tests of this process hold stages of their own: ours is the one above the marked program.
    let stages = processes_with("sandbox\0enter");
    let marked = || processes_with(&format!("sleep\0{mark}"));
    eventually("the marked program runs", || !marked().is_empty());
    let stage = std::iter::successors(marked().last().copied(), |pid| parent_of(*pid)).find(|pid| stages.contains(pid));
    kill(Pid::from_raw(stage.expect("the program runs below a stage")), Signal::SIGKILL).unwrap();
    let seen = bench.until(&workload.id, |seen| seen.exit().is_some()).await;
    assert_eq!(seen.exit().unwrap().reason, Reason::Lost);
    eventually("the workload is gone", || processes_with(&format!("sleep\0{mark}")).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn dropping_the_engine_ends_what_it_holds() {
    let bench = Bench::new();
    let mark = format!("9{}5", std::process::id());
    let workload = bench.shell("dropped", &format!("echo up; sleep {mark}"));
    bench.run_until_said(&workload, "up").await;
    // What a program says can be read before the engine has noted that it began.
    bench.until(&workload.id, is_running).await;
    let Bench { dir, engine } = bench;
    drop(engine);
    eventually("it is gone", || processes_with(&format!("sleep\0{mark}")).is_empty());
    drop(dir);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_a_removed_workload_is_left_on_the_machine() {
    let bench = Bench::new();
    let workload = bench.shell("clean", "echo up; sleep 100");
    bench.run_until_said(&workload, "up").await;
    bench.engine.remove(&workload.id).await.unwrap();
    let left: Vec<_> = std::fs::read_dir(bench.path("state/workloads")).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
    assert!(bench.path("clean.log").exists(), "its log is its caller's");
    // Group names end with the workload's id; look wherever this machine keeps them.
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let state = std::fs::read_to_string("/proc/self/cgroup").unwrap();
    for point in mounts.lines().filter(|l| l.contains(" - cgroup")).filter_map(|l| l.split(' ').nth(4)) {
        for path in state.lines().filter_map(|l| l.splitn(3, ':').nth(2)) {
            let Ok(entries) = std::fs::read_dir(format!("{point}{path}")) else { continue };
            let names = entries.filter_map(|e| e.ok()?.file_name().into_string().ok());
            let left: Vec<String> = names.filter(|n| n.starts_with("gregal-") && n.ends_with("-clean")).collect();
            assert!(left.is_empty(), "{point}{path}: {left:?}");
        }
    }
}
