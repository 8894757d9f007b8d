//! What is found of GPUs, and what of them is offered. Against a stand-in library: no GPU is needed, and none is proven.

use std::fs;

use gregal_engine::inventory::{self, Driver, MigSlice, RowsRemapped};
use gregal_engine::{Engine, Reason};

use crate::stand_in::{Build, StandIn, TWO_H100, two_h100_but};

/// What is found with these answers.
fn found(answers: &str) -> inventory::Inventory {
    inventory::read(&StandIn::new(Build::Today, answers).driver())
}

#[test]
fn models_memory_links_counters_and_health_are_told_as_the_library_tells_them() {
    let found = found(TWO_H100);
    assert_eq!(
        (found.gpus.len(), found.gpus_missing.as_deref(), found.driver.as_deref()),
        (2, None, Some("580.95.05"))
    );
    let second = &found.gpus[1];
    assert_eq!((second.index, second.minor, second.uuid.as_str()), (1, 5, "GPU-bbbb"));
    assert_eq!((second.model.as_str(), second.memory_bytes), ("NVIDIA H100 80GB HBM3", 85_520_809_984));
    assert_eq!(
        [(found.gpus[0].nvlinks, found.gpus[0].nvlinks_active), (second.nvlinks, second.nvlinks_active)],
        [(18, 18), (18, 17)]
    );
    assert_eq!((second.energy_mj, second.power_limit_mw), (Some(5_000_000), Some(700_000)));
    assert_eq!((second.health.ecc_enabled, second.health.ecc_uncorrected), (Some(true), Some(0)));
    assert_eq!(second.health.pages_retired, None, "an H100 swaps rows instead");
    assert_eq!(second.health.rows_remapped, Some(RowsRemapped::default()));
    assert!(second.mig.supported && !second.mig.enabled && second.is_grantable());
}

#[test]
fn what_a_small_gpu_cannot_tell_is_absent_and_speaks_not_against_it() {
    let found =
        found("library.count = 1\n0.uuid = GPU-x\n0.name = NVIDIA GeForce\n0.memory = 8589934592\n0.minor = 0\n");
    let gpu = &found.gpus[0];
    assert_eq!((found.driver, gpu.energy_mj, gpu.power_limit_mw, gpu.nvlinks), (None, None, None, 0));
    assert_eq!((gpu.health.ecc_enabled, gpu.health.ecc_uncorrected, &gpu.health.rows_remapped), (None, None, &None));
    assert!(!gpu.mig.supported && gpu.is_grantable());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gpu_in_slices_is_listed_with_them_and_not_offered_whole() {
    let slices = [
        "0.mig = 1",
        "0.slices_max = 7",
        "0/0.uuid = MIG-1",
        "0/0.memory = 10200547328",
        "0/4.uuid = MIG-2",
        "0/4.memory = 20937965568",
    ];
    let stand_in = StandIn::new(Build::Today, &two_h100_but(&slices));
    let bench = stand_in.bench();
    let mig = &bench.engine.inventory().gpus[0].mig;
    let slice = |uuid: &str, memory_bytes| MigSlice { uuid: uuid.to_owned(), memory_bytes };
    assert!(mig.enabled);
    assert_eq!(mig.slices, [slice("MIG-1", 10_200_547_328), slice("MIG-2", 20_937_965_568)]);
    assert_eq!(bench.engine.capabilities().await.unwrap().capacity.gpus, ["GPU-bbbb"]);
    let mut workload = bench.shell("sliced", "true");
    workload.resources.gpus = vec!["GPU-aaaa".to_owned()];
    let refusal = bench.engine.start(workload).await.unwrap_err().to_string();
    assert!(refusal.contains("slices"), "{refusal}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unsound_gpu_is_listed_with_the_reason_and_neither_offered_nor_granted() {
    for (answers, concern) in [
        (vec!["0.ecc_uncorrected = 3"], "3 memory errors could not be corrected"),
        (vec!["0.retired_single = 20", "0.retired_double = 40"], "60 memory pages are retired"),
        (vec!["0.rows_pending = 1"], "until the GPU is reset"),
        (vec!["0.rows_failed = 1"], "could not be swapped"),
    ] {
        let stand_in = StandIn::new(Build::Today, &two_h100_but(&answers));
        let bench = stand_in.bench();
        let concerns = bench.engine.inventory().gpus[0].health.concerns.join("; ");
        assert!(concerns.contains(concern), "{answers:?}: {concerns}");
        assert_eq!(bench.engine.capabilities().await.unwrap().capacity.gpus, ["GPU-bbbb"], "{answers:?}");
        let mut workload = bench.shell("unsound", "true");
        workload.resources.gpus = vec!["0".to_owned()];
        let refusal = bench.engine.start(workload).await.unwrap_err().to_string();
        assert!(refusal.contains(concern), "{refusal}");
        assert!(bench.engine.list().await.unwrap().is_empty(), "a refusal leaves nothing behind");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gpu_without_its_device_files_is_listed_with_the_reason_and_not_offered() {
    for (missing, offered) in [
        ("nvidia0", &["GPU-bbbb"] as &[&str]),
        ("nvidia-uvm", &[]),
        ("nvidiactl", &[]),
        ("nvidia-uvm-tools", &["GPU-aaaa", "GPU-bbbb"]),
    ] {
        let stand_in = StandIn::two();
        let path = stand_in.driver().devices.join(missing);
        fs::remove_file(&path).unwrap();
        let bench = stand_in.bench();
        assert_eq!(bench.engine.capabilities().await.unwrap().capacity.gpus, offered, "{missing}");
        let first = &bench.engine.inventory().gpus[0];
        assert_eq!(first.is_grantable(), offered.contains(&"GPU-aaaa"), "{missing}");
        if !first.is_grantable() {
            let words = format!("its device file `{}` is not there", path.display());
            assert_eq!(first.health.concerns.join("; "), words);
            let mut workload = bench.shell("blind", "true");
            workload.resources.gpus = vec!["0".to_owned()];
            let refusal = bench.engine.start(workload).await.unwrap_err().to_string();
            assert!(refusal.contains(&words), "{refusal}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn device_files_that_nothing_has_made_since_the_machine_started_are_had_made_once() {
    let stand_in = StandIn::two();
    let devices = stand_in.driver().devices;
    let script =
        format!("cd {} && echo asked >> asked && echo x > nvidia-uvm && echo x > nvidia-uvm-tools", devices.display());
    let make_files = || ["/bin/sh", "-c", &script].map(str::to_owned).to_vec();
    let asked = || fs::read_to_string(devices.join("asked")).unwrap_or_default();
    let open = || stand_in.bench_with(|options| options.driver.make_files = make_files());
    open();
    assert_eq!(asked(), "", "nothing is missing");
    fs::remove_file(devices.join("nvidia-uvm")).unwrap();
    fs::remove_file(devices.join("nvidia-uvm-tools")).unwrap();
    let bench = open();
    assert_eq!(bench.engine.capabilities().await.unwrap().capacity.gpus, ["GPU-aaaa", "GPU-bbbb"]);
    let mut workload = bench.shell("seeing", "cat /dev/nvidia-uvm /dev/nvidia-uvm-tools");
    workload.resources.gpus = vec!["0".to_owned()];
    let seen = bench.run(&workload).await;
    assert_eq!((seen.exit().unwrap().reason, asked().as_str()), (Reason::Finished, "asked\n"));

    // A command that fails, or is not there, leaves the GPU unoffered and the engine running.
    for command in [vec!["/bin/false"], vec!["/no/such/command"]] {
        fs::remove_file(devices.join("nvidia-uvm")).unwrap();
        let bench = stand_in.bench_with(|options| {
            options.driver.make_files = command.iter().map(|word| (*word).to_owned()).collect();
        });
        assert!(bench.engine.capabilities().await.unwrap().capacity.gpus.is_empty(), "{command:?}");
        fs::write(devices.join("nvidia-uvm"), "").unwrap();
    }

    // Nobody asks for device files of GPUs that are not there.
    stand_in.answer("library.count = 0\n");
    fs::remove_file(devices.join("nvidia-uvm")).unwrap();
    open();
    assert_eq!(asked(), "asked\n");
}

#[test]
fn few_retired_pages_and_rows_that_were_swapped_in_time_do_not_speak_against_a_gpu() {
    let found = found(&two_h100_but(&["0.retired_single = 20", "0.retired_double = 39", "1.rows_uncorrected = 2"]));
    assert_eq!(found.gpus[0].health.pages_retired, Some(59));
    assert_eq!(found.gpus[1].health.rows_remapped.as_ref().map(|rows| rows.uncorrected), Some(2));
    assert!(found.gpus.iter().all(inventory::Gpu::is_grantable));
}

#[test]
fn a_gpu_that_fell_off_the_bus_does_not_hide_its_neighbour() {
    for lost in ["0.handle = !15", "0.memory = !15", "0.uuid = !999"] {
        let found = found(&two_h100_but(&[lost]));
        let uuids: Vec<&str> = found.gpus.iter().map(|gpu| gpu.uuid.as_str()).collect();
        assert_eq!(uuids, ["GPU-bbbb"], "{lost}");
        let why = found.gpus_missing.unwrap_or_default();
        assert!(why.starts_with("GPU 0 did not answer: "), "{lost}: {why}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_without_the_library_runs_work_that_needs_no_gpu_and_says_why_there_is_none() {
    let stand_in = StandIn::two();
    let bench = stand_in.bench_with(|options| options.driver.library = "/no/such/libnvidia-ml.so.1".into());
    assert!(bench.engine.inventory().gpus.is_empty());
    assert!(bench.engine.capabilities().await.unwrap().capacity.gpus.is_empty());
    let seen = bench.run(&bench.shell("plain", "true")).await;
    assert_eq!(seen.exit().unwrap().reason, Reason::Finished);
    assert!(seen.usage.energy.parts.iter().all(|part| part.of == "cpu"), "{seen:?}");
    let mut workload = bench.shell("wishful", "true");
    workload.resources.gpus = vec!["0".to_owned()];
    let refusal = bench.engine.start(workload).await.unwrap_err().to_string();
    assert!(refusal.contains("GPU `0` was not found: no NVIDIA driver library on this machine"), "{refusal}");
}

#[test]
fn a_library_that_does_not_start_or_does_not_load_is_told_with_its_reason() {
    // Not loaded, another version than the kernel's module, and a number that no header knows.
    for (code, words) in [(9, "driver"), (18, "mismatch"), (12_345, "12345")] {
        let found = found(&two_h100_but(&[&format!("library.init = {code}")]));
        let why = found.gpus_missing.unwrap_or_default();
        assert!(found.gpus.is_empty() && why.starts_with("NVML did not start: "), "{why}");
        assert!(why.contains(words), "{code}: {why}");
    }
    let counting = found(&two_h100_but(&["library.count = !999"]));
    assert!(counting.gpus_missing.is_some_and(|why| why.starts_with("NVML did not count the GPUs: ")));
    let dir = tempfile::tempdir().unwrap();
    let library = dir.path().join("libnvidia-ml.so.1");
    fs::write(&library, "not a library").unwrap();
    let why = inventory::read(&Driver { library, ..Driver::default() }).gpus_missing.unwrap_or_default();
    assert!(why.contains("file too short") || why.contains("invalid ELF header"), "{why}");
}

#[test]
fn a_library_that_lacks_a_function_is_told_by_its_name() {
    let found = inventory::read(&StandIn::new(Build::Old, TWO_H100).driver());
    let why = found.gpus_missing.unwrap_or_default();
    assert!(found.gpus.is_empty() && why.contains("nvmlDeviceGetMemoryInfo_v2"), "{why}");
    assert_eq!(found.driver.as_deref(), Some("580.95.05"));
}

#[test]
fn a_machine_whose_driver_counts_no_gpu_has_none_and_nothing_is_wrong() {
    let found = found("library.count = 0\nlibrary.driver = 580.95.05\n");
    assert!(found.gpus.is_empty() && found.gpus_missing.is_none(), "{found:?}");
}
