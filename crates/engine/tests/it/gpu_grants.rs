//! Who gets which GPU, what it reaches of it, and the energy it is told to have used. Against a stand-in library.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use gregal_engine::local::{Local, LocalOptions};
use gregal_engine::{
    EnergyBasis, EnergyPart, Engine, EngineError, Mount, Observation, Protection, Reason, Trust, Workload,
};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::stand_in::{Build, StandIn, two_h100_but};
use crate::support::{Bench, HELPER, eventually, log, parent_of, processes_with, workload};

fn with_gpus(mut workload: Workload, gpus: &[&str]) -> Workload {
    workload.resources.gpus = gpus.iter().map(|gpu| (*gpu).to_owned()).collect();
    workload
}

fn why(refusal: Result<(), EngineError>) -> String {
    assert!(matches!(refusal, Err(EngineError::Refused { .. })), "{refusal:?}");
    refusal.unwrap_err().to_string()
}

const LOOK: &str = "echo \"visible [$CUDA_VISIBLE_DEVICES] ${CUDA_VISIBLE_DEVICES+set}\"; cat /dev/nvidia*";

#[tokio::test(flavor = "multi_thread")]
async fn a_workload_reaches_the_gpus_it_was_granted_and_no_other() {
    let stand_in = StandIn::two();
    let bench = stand_in.bench();
    for (name, gpus, visible, files) in [
        ("first", vec!["0"], "GPU-aaaa", "nvidia-uvm\nnvidia-uvm-tools\nnvidia0\nnvidiactl\n"),
        ("second", vec!["GPU-bbbb"], "GPU-bbbb", "nvidia-uvm\nnvidia-uvm-tools\nnvidia5\nnvidiactl\n"),
        ("both", vec!["1", "0"], "GPU-bbbb,GPU-aaaa", "nvidia-uvm\nnvidia-uvm-tools\nnvidia0\nnvidia5\nnvidiactl\n"),
    ] {
        let mut workload = with_gpus(bench.shell(name, LOOK), &gpus);
        workload.env.insert("CUDA_VISIBLE_DEVICES".to_owned(), "GPU-aaaa,GPU-bbbb".to_owned());
        let seen = bench.run(&workload).await;
        assert_eq!(seen.exit().unwrap().reason, Reason::Finished, "{}", log(&workload));
        assert_eq!(log(&workload), format!("visible [{visible}] set\n{files}"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workload_that_was_granted_no_gpu_sees_none_even_behind_weaker_walls() {
    let stand_in = StandIn::two();
    for without in [vec![], vec![Protection::Processes]] {
        let bench = stand_in.bench_with(|options| options.without = without.iter().copied().collect());
        let mut workload = bench.shell("none", LOOK);
        workload.trust = Trust::Trusted;
        workload.env.insert("CUDA_VISIBLE_DEVICES".to_owned(), "0".to_owned());
        bench.run(&workload).await;
        if without.is_empty() {
            assert!(log(&workload).contains("No such file"), "{}", log(&workload));
        } else {
            // It runs in the machine's own tree, where unset would mean every GPU.
            assert!(log(&workload).starts_with("visible [] set\n"), "{}", log(&workload));
        }
    }
}

/// What CUDA does to a thread's name, on another thread than the one that writes; and what would reach the machine.
const NAME: &str = "sh -c 'echo cuda 1<> /proc/self/task/$$/comm' && echo named
    for file in /proc/sys/kernel/hostname /proc/meminfo /proc/1/comm; do
        [ -e $file ] && echo x 1<> $file && echo wrote $file
    done
    echo x > /proc/self/made && echo made
    chmod 444 /proc/meminfo && echo changed
    echo tried";

#[tokio::test(flavor = "multi_thread")]
async fn a_gpu_lets_a_workload_name_its_threads_and_write_nothing_of_the_machine_s() {
    let stand_in = StandIn::two();
    let bench = stand_in.bench();
    let said = |workload: &Workload| {
        let log = log(workload);
        let own: Vec<_> = log.lines().filter(|line| !line.contains("sh: ") && !line.contains("chmod: ")).collect();
        own.join(" ")
    };
    let granted = with_gpus(bench.shell("granted", NAME), &["0"]);
    bench.run(&granted).await;
    assert_eq!(said(&granted), "named tried", "{}", log(&granted));
    let without = bench.shell("without", NAME);
    bench.run(&without).await;
    assert_eq!(said(&without), "tried", "{}", log(&without));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gpu_shows_that_the_driver_s_modules_are_loaded_and_nothing_else_of_the_kernel_s() {
    let stand_in = StandIn::two();
    let bench = stand_in.bench();
    let script = "cd /sys/module && cat */initstate; ls -a nvidia
        echo x > nvidia/initstate && echo wrote; chmod 600 nvidia/initstate && echo changed";
    let granted = with_gpus(bench.shell("granted", script), &["0"]);
    bench.run(&granted).await;
    let said = log(&granted);
    assert!(said.starts_with("nvidia live\nnvidia_uvm live\n.\n..\ninitstate\n"), "{said}");
    assert!(!said.contains("wrote") && !said.contains("changed"), "{said}");
    let without = bench.shell("without", "ls /sys/module");
    bench.run(&without).await;
    assert!(log(&without).contains("No such file"), "{}", log(&without));

    // An older driver's modules may say nothing: it is CUDA's to judge what it finds.
    fs::remove_dir_all(stand_in.driver().modules).unwrap();
    let silent = with_gpus(bench.shell("silent", "true"), &["0"]);
    assert_eq!(bench.run(&silent).await.exit().unwrap().reason, Reason::Finished, "{}", log(&silent));
}

const LIBRARIES: &str = "echo \"[$LD_LIBRARY_PATH]\"; ls \"$LD_LIBRARY_PATH\"; echo x > \"$LD_LIBRARY_PATH/made\"";

#[tokio::test(flavor = "multi_thread")]
async fn the_driver_s_libraries_are_shown_with_a_gpu_where_the_loader_would_not_find_them() {
    let stand_in = StandIn::two();
    let folder = stand_in.folder();
    // Without CUDA's library beside it the folder is no place to look.
    let bench = stand_in.bench();
    let workload = with_gpus(bench.shell("without", LIBRARIES), &["0"]);
    bench.run(&workload).await;
    assert!(log(&workload).starts_with("[]\n"), "{}", log(&workload));

    fs::write(folder.join("libcuda.so.1"), "").unwrap();
    let bench = stand_in.bench();
    let granted = with_gpus(bench.shell("granted", LIBRARIES), &["0"]);
    bench.run(&granted).await;
    let shown = format!("[{}]\nanswers\nlibcuda.so.1\nlibnvidia-ml.so.1\n", folder.display());
    assert!(log(&granted).starts_with(&shown), "{}", log(&granted));
    assert!(!folder.join("made").exists(), "it is shown read-only");
    let mut own = with_gpus(bench.shell("own", LIBRARIES), &["0"]);
    own.env.insert("LD_LIBRARY_PATH".to_owned(), "/tmp".to_owned());
    bench.run(&own).await;
    assert!(log(&own).starts_with("[/tmp]\n"), "{}", log(&own));
    let none = bench.shell("none", &format!("{LIBRARIES}; ls {}", folder.display()));
    bench.run(&none).await;
    assert!(log(&none).starts_with("[]\n") && !log(&none).contains("libcuda"), "{}", log(&none));
}

#[test]
fn a_library_that_the_loader_found_by_its_name_tells_where_the_driver_s_libraries_are() {
    let stand_in = StandIn::two();
    let folder = stand_in.folder();
    fs::write(folder.join("libcuda.so.1"), "").unwrap();
    let dir = tempfile::tempdir().unwrap();
    let granted = with_gpus(workload("named", &["/bin/sh", "-c", LIBRARIES], &dir.path().join("log")), &["0"]);
    let ran = Command::new(HELPER)
        .env("LD_LIBRARY_PATH", &folder)
        .arg("run")
        .arg(dir.path().join("state"))
        .arg(serde_json::to_string(&granted).unwrap())
        .args(["with-driver".as_ref(), "libnvidia-ml.so.1".as_ref(), stand_in.driver().devices.as_os_str()])
        .output()
        .unwrap();
    assert!(ran.status.success(), "{ran:?}");
    assert!(
        log(&granted).starts_with(&format!("[{}]\nanswers\nlibcuda.so.1\n", folder.display())),
        "{}",
        log(&granted)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_mode_of_a_gpu_s_device_file_is_the_machine_s_and_cannot_be_changed() {
    let stand_in = StandIn::two();
    let bench = stand_in.bench();
    let workload = with_gpus(bench.shell("chmod", "chmod 600 /dev/nvidia0; chmod 600 /dev/nvidiactl; true"), &["0"]);
    bench.run(&workload).await;
    for name in ["nvidia0", "nvidiactl"] {
        let mode = fs::metadata(stand_in.driver().devices.join(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o644, "{}", log(&workload));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_namespaces_no_gpu_is_offered_or_granted_even_where_the_operator_accepts_weaker_walls() {
    let stand_in = StandIn::two();
    let bench = stand_in.bench_with(|options| {
        options.without = [Protection::Processes].into();
        options.allow_weaker = true;
    });
    assert_eq!(bench.engine.capabilities().await.unwrap().capacity.gpus, [] as [&str; 0]);
    assert!(bench.engine.inventory().gpus.iter().all(|gpu| !gpu.is_grantable()));
    let refusal = why(bench.engine.start(with_gpus(bench.shell("weak", "true"), &["0"])).await);
    assert!(refusal.contains("without namespaces"), "{refusal}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gpu_whose_device_file_is_missing_is_not_granted() {
    let stand_in = StandIn::two();
    let bench = stand_in.bench();
    for file in ["nvidia0", "nvidiactl", "nvidia-uvm"] {
        let path = stand_in.driver().devices.join(file);
        fs::remove_file(&path).unwrap();
        let refusal = why(bench.engine.start(with_gpus(bench.shell("blind", "true"), &["0"])).await);
        assert!(refusal.contains(&format!("`{}`", path.display())), "{refusal}");
        assert!(bench.engine.list().await.unwrap().is_empty(), "a refusal leaves nothing behind");
        fs::write(&path, "").unwrap();
    }
    fs::remove_file(stand_in.driver().devices.join("nvidia-uvm-tools")).unwrap();
    let seen = bench.run(&with_gpus(bench.shell("seeing", "true"), &["0"])).await;
    assert_eq!(seen.exit().unwrap().reason, Reason::Finished, "CUDA does without the last");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_workloads_never_hold_the_same_gpu_however_they_call_it() {
    let stand_in = StandIn::two();
    let bench = stand_in.bench();
    let ask = |name: &str, gpus: &[&str]| bench.engine.start(with_gpus(bench.shell(name, "sleep 100"), gpus));
    ask("holder", &["GPU-aaaa"]).await.unwrap();
    assert!(why(ask("same", &["GPU-aaaa"]).await).contains("held by `holder`"));
    assert!(why(ask("index", &["0"]).await).contains("held by `holder`"));
    assert!(why(ask("both", &["1", "0"]).await).contains("held by `holder`"));
    assert!(why(ask("twice", &["1", "GPU-bbbb"]).await).contains("asked for twice"));
    assert!(why(ask("third", &["2"]).await).contains("is not on this machine"));
    ask("holder", &["GPU-aaaa"]).await.expect("the same start again is the same act");
    ask("neighbour", &["1"]).await.expect("what was refused holds nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_that_ask_at_the_same_time_one_gets_the_gpu() {
    let stand_in = StandIn::two();
    let bench = stand_in.bench();
    let asks: Vec<_> = (0..8)
        .map(|at| {
            let (engine, workload) =
                (bench.engine.clone(), with_gpus(bench.shell(&format!("ask{at}"), "sleep 100"), &["0"]));
            tokio::spawn(async move { engine.start(workload).await.is_ok() })
        })
        .collect();
    let mut granted = 0;
    for ask in asks {
        granted += usize::from(ask.await.unwrap());
    }
    assert_eq!(granted, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gpu_is_free_again_after_every_kind_of_end() {
    let stand_in = StandIn::two();
    let bench = stand_in.bench();
    for (name, script, reason) in [
        ("finished", "true", Reason::Finished),
        ("failed", "exit 3", Reason::Failed),
        ("crashed", "kill -SEGV $$", Reason::Failed),
        ("left-a-daemon", "setsid sleep 100 & true", Reason::Finished),
    ] {
        let seen = bench.run(&with_gpus(bench.shell(name, script), &["0"])).await;
        assert_eq!(seen.exit().unwrap().reason, reason, "{name}");
    }
    let stopped = with_gpus(bench.shell("stopped", "echo up; sleep 100"), &["0"]);
    bench.run_until_said(&stopped, "up").await;
    bench.engine.stop(&stopped.id, 0).await.unwrap();
    bench.until(&stopped.id, |seen| seen.exit().is_some()).await;
    let removed = with_gpus(bench.shell("removed", "echo up; sleep 100"), &["0"]);
    bench.run_until_said(&removed, "up").await;
    bench.engine.remove(&removed.id).await.unwrap();
    let absent = with_gpus(bench.workload("absent", &["/no/such/program"]), &["0"]);
    assert_eq!(bench.run(&absent).await.exit().unwrap().reason, Reason::Failed);
    let last = bench.run(&with_gpus(bench.shell("last", "true"), &["0"])).await;
    assert_eq!(last.exit().unwrap().reason, Reason::Finished);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_sandbox_gives_its_gpu_back_and_what_the_counter_saw_is_kept() {
    let stand_in = StandIn::two();
    let bench = stand_in.bench();
    let mark = format!("9{}7", std::process::id());
    let workload = turning(&bench, &stand_in, &["0"], &[FIRST], &format!("sleep {mark}"));
    bench.run_until_said(&workload, "up").await;
    let marked = || processes_with(&format!("sleep\0{mark}"));
    eventually("the marked program runs", || !marked().is_empty());
    let stages = processes_with("sandbox\0enter");
    let stage = std::iter::successors(marked().last().copied(), |pid| parent_of(*pid)).find(|pid| stages.contains(pid));
    kill(Pid::from_raw(stage.expect("the program runs below a stage")), Signal::SIGKILL).unwrap();
    let seen = bench.until(&workload.id, |seen| seen.exit().is_some()).await;
    assert_eq!(seen.exit().unwrap().reason, Reason::Lost);
    assert_eq!(gpu(&seen).unwrap().mj, 42_000, "{seen:?}");
    let next = bench.run(&with_gpus(bench.shell("next", "true"), &["0"])).await;
    assert_eq!(next.exit().unwrap().reason, Reason::Finished);
}

#[tokio::test(flavor = "multi_thread")]
async fn after_the_engine_s_death_its_gpus_are_free_and_the_unseen_energy_is_an_estimate() {
    let stand_in = StandIn::two();
    let dir = tempfile::tempdir().unwrap();
    let mark = format!("9{}6", std::process::id());
    let driver = stand_in.driver();
    let argv = ["/bin/sh", "-c", &format!("sleep {mark}")];
    let held = with_gpus(workload("held.1", &argv, &dir.path().join("log")), &["0"]);
    let state = dir.path().join("state");
    let mut holder = Command::new(HELPER)
        .arg("hold")
        .arg(&state)
        .arg(serde_json::to_string(&held).unwrap())
        .arg("with-driver")
        .args([&driver.library, &driver.devices])
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    eventually("it runs", || processes_with(&format!("sleep\0{mark}")).len() == 1);
    kill(Pid::from_raw(i32::try_from(holder.id()).unwrap()), Signal::SIGKILL).unwrap();
    holder.wait().unwrap();
    let engine = Local::open(LocalOptions { driver, ..LocalOptions::new(HELPER, &state) }).unwrap();
    let lost = engine.observe(&held.id).await.unwrap();
    assert_eq!(lost.exit().unwrap().reason, Reason::Lost);
    let part = gpu(&lost).expect("a GPU that was held is in the account");
    assert_eq!(part.mj, lost.usage.wall_ms * 700, "700 W all the time");
    assert!(method(&part).contains("at their power limit"), "{part:?}");
    engine.start(with_gpus(workload("next.1", &["true"], &dir.path().join("log")), &["0"])).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_still_lives_keeps_its_gpu_even_if_this_engine_does_not_accompany_it() {
    let stand_in = StandIn::two();
    let bench = stand_in.bench();
    let ended = with_gpus(bench.shell("stuck", "true"), &["0"]);
    bench.run(&ended).await;
    // A process that the kernel cannot end, as on a GPU that hangs, keeps its sandbox's lock.
    let lock = File::options().write(true).open(bench.path("state/workloads/stuck/lock")).unwrap();
    lock.lock().unwrap();
    let next = with_gpus(bench.shell("next", "true"), &["0"]);
    assert!(why(bench.engine.start(next.clone()).await).contains("held by `stuck`"));
    drop(lock);
    assert_eq!(bench.run(&next).await.exit().unwrap().reason, Reason::Finished);
}

fn gpu(seen: &Observation) -> Option<EnergyPart> {
    seen.usage.energy.parts.iter().find(|part| part.of == "gpu").cloned()
}

/// By what method it was estimated; empty if it was measured.
fn method(part: &EnergyPart) -> &str {
    match &part.basis {
        EnergyBasis::Estimated { method } => method,
        EnergyBasis::Measured { .. } => "",
    }
}

/// A workload whose first act is to turn its GPUs' counters, which is what work does to them.
fn turning(bench: &Bench, stand_in: &StandIn, gpus: &[&str], turns: &[(&str, &str)], then: &str) -> Workload {
    let edits: Vec<String> = turns.iter().map(|(old, new)| format!("s/^{old}$/{new}/")).collect();
    let script = format!(
        "sed '{}' /driver/answers > /driver/new && mv /driver/new /driver/answers; echo up; {then}",
        edits.join("; ")
    );
    let mut workload = with_gpus(bench.shell("turning", &script), gpus);
    workload.mounts.push(Mount::writable(stand_in.folder(), "/driver"));
    workload
}

const FIRST: (&str, &str) = ("0.energy = 1000000", "0.energy = 1042000");
const SECOND: (&str, &str) = ("1.energy = 5000000", "1.energy = 5000300");

#[tokio::test(flavor = "multi_thread")]
async fn joules_are_what_the_counters_of_its_own_gpus_went_up_by_and_a_short_run_is_an_estimate() {
    for (gpus, mj) in [(vec!["0"], 42_000), (vec!["1"], 300), (vec!["0", "1"], 42_300)] {
        let stand_in = StandIn::two();
        let bench = stand_in.bench();
        let seen = bench.run(&turning(&bench, &stand_in, &gpus, &[FIRST, SECOND], "true")).await;
        let part = gpu(&seen).unwrap();
        assert_eq!(part.mj, mj, "{gpus:?}: {part:?}");
        assert!(method(&part).contains("too short"), "{part:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_a_workload_runs_before_its_gpu_s_counter_was_read_however_slow_that_is() {
    let stand_in = StandIn::new(Build::Today, &two_h100_but(&["library.slow_ms = 300"]));
    let bench = stand_in.bench();
    let seen = bench.run(&turning(&bench, &stand_in, &["0"], &[FIRST], "true")).await;
    assert_eq!(gpu(&seen).unwrap().mj, 42_000, "{seen:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_of_ten_seconds_has_measured_joules_with_an_uncertainty() {
    let stand_in = StandIn::two();
    let bench = stand_in.bench();
    let workload = turning(&bench, &stand_in, &["0"], &[FIRST], "sleep 1000");
    bench.run_until_said(&workload, "up").await;
    let soon = gpu(&bench.engine.observe(&workload.id).await.unwrap()).unwrap();
    assert_eq!(soon.mj, 42_000, "what it used so far is told while it runs");
    // The ten seconds are the subject here: fewer hold too few samples of the board's sensor.
    bench.until(&workload.id, |seen| seen.usage.wall_ms >= 10_000).await;
    bench.engine.stop(&workload.id, 0).await.unwrap();
    let seen = bench.until(&workload.id, |seen| seen.exit().is_some()).await;
    let measured = EnergyBasis::Measured { uncertainty_percent: 15 };
    assert_eq!(gpu(&seen).unwrap(), EnergyPart { of: "gpu".to_owned(), mj: 42_000, basis: measured });
    assert!(seen.usage.energy.is_estimated(), "the processors' part still is");
    stand_in.answer(&two_h100_but(&["0.energy = 9000000"]));
    assert_eq!(gpu(&bench.engine.observe(&workload.id).await.unwrap()), gpu(&seen), "an ended run uses nothing more");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_counter_that_is_silent_for_a_moment_is_waited_for() {
    let stand_in = StandIn::two();
    let bench = stand_in.bench();
    let workload = with_gpus(bench.shell("moment", "echo up; sleep 100"), &["0"]);
    bench.run_until_said(&workload, "up").await;
    stand_in.answer(&two_h100_but(&["0.energy = !999"]));
    assert_eq!(gpu(&bench.engine.observe(&workload.id).await.unwrap()), None);
    stand_in.answer(&two_h100_but(&["0.energy = 1000700"]));
    assert_eq!(gpu(&bench.engine.observe(&workload.id).await.unwrap()).unwrap().mj, 700);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_whole_count_the_gpus_are_estimated_at_their_power_limit_and_it_is_said() {
    for (answers, gpus, turns, watts, words) in [
        // No counter at all; one of two without; a counter that a reloaded driver began anew.
        (vec!["0.energy ="], vec!["0"], vec![], 700, "no energy counter told"),
        (vec!["0.energy ="], vec!["0", "1"], vec![SECOND], 1400, "no energy counter told"),
        (vec![], vec!["0"], vec![("0.energy = 1000000", "0.energy = 5")], 700, "no energy counter told"),
        (vec!["0.energy = !15", "0.power_limit ="], vec!["0", "1"], vec![], 700, "1 of 2 left out"),
    ] {
        let stand_in = StandIn::new(Build::Today, &two_h100_but(&answers));
        let bench = stand_in.bench();
        let seen = bench.run(&turning(&bench, &stand_in, &gpus, &turns, "true")).await;
        let part = gpu(&seen).unwrap_or_else(|| panic!("{answers:?}: the GPUs are not in the account"));
        assert_eq!(part.mj, seen.usage.wall_ms * watts, "{answers:?}: {part:?}");
        assert!(method(&part).contains(words), "{answers:?}: {part:?}");
    }
}
