//! A machine with GPUs that are not there: a stand-in for NVIDIA's library and files in place of device files.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::{env, fs};

use gregal_engine::inventory::Driver;
use gregal_engine::local::LocalOptions;
use tempfile::TempDir;

use crate::support::{Bench, world_readable};

/// Two H100 that are linked to each other. The second one's device file has a number other than its index.
pub(crate) const TWO_H100: &str = "
library.driver = 580.95.05
library.count = 2
0.uuid = GPU-aaaa
0.name = NVIDIA H100 80GB HBM3
0.memory = 85520809984
0.minor = 0
0.mig = 0
0.links = 111111111111111111
0.ecc = 1
0.ecc_uncorrected = 0
0.rows_uncorrected = 0
0.rows_pending = 0
0.rows_failed = 0
0.energy = 1000000
0.power_limit = 700000
1.uuid = GPU-bbbb
1.name = NVIDIA H100 80GB HBM3
1.memory = 85520809984
1.minor = 5
1.mig = 0
1.links = 111111111111111110
1.ecc = 1
1.ecc_uncorrected = 0
1.rows_uncorrected = 0
1.rows_pending = 0
1.rows_failed = 0
1.energy = 5000000
1.power_limit = 700000
";

/// Which library is stood in for.
#[derive(Clone, Copy)]
pub(crate) enum Build {
    Today,
    /// From before NVML told memory the way it does now.
    Old,
}

pub(crate) struct StandIn {
    dir: TempDir,
}

impl StandIn {
    pub(crate) fn new(build: Build, answers: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let stand_in = Self { dir };
        // A copy is another file, so the loader gives each test a library of its own.
        fs::create_dir(stand_in.folder()).unwrap();
        fs::copy(library(build), stand_in.folder().join("libnvidia-ml.so.1")).unwrap();
        stand_in.answer(answers);
        let devices = stand_in.driver().devices;
        fs::create_dir(&devices).unwrap();
        for name in ["nvidia0", "nvidia1", "nvidia5", "nvidiactl", "nvidia-uvm", "nvidia-uvm-tools"] {
            fs::write(devices.join(name), format!("{name}\n")).unwrap();
            world_readable(&devices.join(name));
        }
        // The last is one of the driver's as well, which CUDA does not look for.
        for name in ["nvidia", "nvidia_uvm", "nvidia_drm"] {
            let module = stand_in.driver().modules.join(name);
            fs::create_dir_all(&module).unwrap();
            fs::write(module.join("initstate"), format!("{name} live\n")).unwrap();
            world_readable(&module.join("initstate"));
        }
        stand_in
    }

    pub(crate) fn two() -> Self {
        Self::new(Build::Today, TWO_H100)
    }

    /// The folder of the library and its answers. A workload that is given it can turn its own GPU's counter.
    pub(crate) fn folder(&self) -> PathBuf {
        self.dir.path().join("lib")
    }

    pub(crate) fn driver(&self) -> Driver {
        let own = |name| self.dir.path().join(name);
        Driver {
            library: self.folder().join("libnvidia-ml.so.1"),
            devices: own("dev"),
            modules: own("module"),
            make_files: Vec::new(),
        }
    }

    pub(crate) fn answer(&self, answers: &str) {
        fs::write(self.folder().join("new"), answers).unwrap();
        fs::rename(self.folder().join("new"), self.folder().join("answers")).unwrap();
    }

    pub(crate) fn bench(&self) -> Bench {
        self.bench_with(|_| {})
    }

    pub(crate) fn bench_with(&self, change: impl FnOnce(&mut LocalOptions)) -> Bench {
        Bench::with(|options| {
            options.driver = self.driver();
            change(options);
        })
    }
}

/// The answers of two H100 with some lines said otherwise; a line that ends in `=` is taken out.
pub(crate) fn two_h100_but(lines: &[&str]) -> String {
    let mut answers: Vec<&str> = TWO_H100.lines().collect();
    for line in lines {
        let key = line.split_once('=').unwrap().0.trim();
        answers.retain(|old| old.split_once('=').is_none_or(|(old, _)| old.trim() != key));
        if !line.trim_end().ends_with('=') {
            answers.push(line);
        }
    }
    answers.join("\n")
}

/// Compiled once a run, with the compiler that made these tests.
fn library(build: Build) -> &'static Path {
    static BUILT: [OnceLock<PathBuf>; 2] = [OnceLock::new(), OnceLock::new()];
    BUILT[build as usize].get_or_init(|| {
        let name = ["stand-in-nvml.so", "stand-in-nvml-old.so"][build as usize];
        // Made in a folder of its own and put in place at once: another run of the tests may be at it as well.
        let output = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let making = folder.path().join(name);
        let mut rustc = Command::new(env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
        rustc.args(["--edition=2024", "--crate-type=cdylib", "--crate-name=nvml", "-Cpanic=abort", "-Cstrip=symbols"]);
        rustc.args(["-Anon_snake_case", "--check-cfg=cfg(old)"]);
        if matches!(build, Build::Old) {
            rustc.args(["--cfg", "old"]);
        }
        rustc.arg("-o").arg(&making).arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/stand_in/nvml.rs"));
        let ran = rustc.output().unwrap();
        assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
        fs::rename(&making, &output).unwrap();
        output
    })
}
