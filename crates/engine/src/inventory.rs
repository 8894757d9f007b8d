//! What this machine has: processors, memory, and NVIDIA GPUs as NVML tells them.
//!
//! NVML is opened when the program runs, not when it is built; a machine without it simply has no GPUs, and says why.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};
use std::{fs, io};

use nvml_wrapper::enum_wrappers::device::{EccCounter, MemoryError, RetirementCause};
use nvml_wrapper::enums::device::SampleValue;
use nvml_wrapper::error::NvmlError;
use nvml_wrapper::structs::device::FieldId;
use nvml_wrapper::{Device, Nvml};
use serde::{Deserialize, Serialize};

use crate::energy::GpuCounters;

/// Everything found on this machine at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inventory {
    /// Its processors.
    pub cpu: Cpu,
    /// Its memory in bytes.
    pub memory_bytes: u64,
    /// Its GPUs that answered, in the driver's order.
    pub gpus: Vec<Gpu>,
    /// Why there are no GPUs, or which of them did not answer. None when NVML told of all, even of none.
    pub gpus_missing: Option<String>,
    /// The NVIDIA driver's version.
    pub driver: Option<String>,
}

/// The processors of a machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cpu {
    /// What the maker calls them; `unknown` where the kernel does not tell.
    pub model: String,
    /// Hardware threads this process may use.
    pub threads: u64,
}

/// One GPU.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gpu {
    /// Its place in the driver's order.
    pub index: u32,
    /// The N in `/dev/nvidiaN`, which need not be the index.
    pub minor: u32,
    /// Its lasting name, `GPU-…`.
    pub uuid: String,
    /// What the maker calls it.
    pub model: String,
    /// Its memory in bytes.
    pub memory_bytes: u64,
    /// How it is cut into slices.
    pub mig: Mig,
    /// `NVLinks` that could be up.
    pub nvlinks: u32,
    /// `NVLinks` that are up.
    pub nvlinks_active: u32,
    /// Whether it can be given out, and what is wrong.
    pub health: GpuHealth,
    /// Energy since the driver was loaded, in millijoules, where the GPU counts it.
    pub energy_mj: Option<u64>,
    /// The most power it is allowed to draw, in milliwatts, where it says.
    pub power_limit_mw: Option<u64>,
}

impl Gpu {
    /// Whether it may be granted whole: it is not cut into slices, and nothing speaks against it.
    pub fn is_grantable(&self) -> bool {
        !self.mig.enabled && self.health.concerns.is_empty()
    }
}

/// How a GPU is cut into hardware slices.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mig {
    /// Whether the GPU can do it at all.
    pub supported: bool,
    /// Whether it is switched on now.
    pub enabled: bool,
    /// The slices that exist.
    pub slices: Vec<MigSlice>,
}

/// One hardware slice of a GPU.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MigSlice {
    /// Its lasting name, `MIG-…`.
    pub uuid: String,
    /// Its memory in bytes.
    pub memory_bytes: u64,
}

/// What a GPU says about itself. Counts are none where it does not count.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GpuHealth {
    /// Whether it corrects memory errors.
    pub ecc_enabled: Option<bool>,
    /// Memory errors it could not correct, in its whole life.
    pub ecc_uncorrected: Option<u64>,
    /// Memory pages taken out of use for errors.
    pub pages_retired: Option<u64>,
    /// Whether it swaps bad rows of memory for spare ones, and how that went. A100 and later do, and retire no pages.
    pub rows_remapped: Option<RowsRemapped>,
    /// What speaks against giving it out, as sentences; empty when nothing does.
    pub concerns: Vec<String>,
}

/// Rows of a GPU's memory that were swapped for spare ones.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RowsRemapped {
    /// Rows swapped for errors that could not be corrected.
    pub uncorrected: u64,
    /// Whether a swap waits for the GPU's next reset: until then the bad row is in use.
    pub pending: bool,
    /// Whether a swap failed, as when no spare row is left.
    pub failed: bool,
}

/// Where the NVIDIA driver lies on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Driver {
    /// NVML, as the loader is asked for it: a name that it looks up, or a path.
    pub library: PathBuf,
    /// The folder of the device files. Workloads see them in `/dev`, wherever they lie.
    pub devices: PathBuf,
    /// The folder where the kernel tells of its modules. Workloads see what they need of it in `/sys/module`.
    pub modules: PathBuf,
    /// The command that makes CUDA's device files where nothing has made them since the machine started. It is run once, when
    /// an engine opens and finds one missing; it may be absent.
    pub make_files: Vec<String>,
}

impl Default for Driver {
    /// `libnvidia-ml.so.1` where the loader finds it, `/dev`, `/sys/module`, and NVIDIA's own command.
    fn default() -> Self {
        Self {
            library: "libnvidia-ml.so.1".into(),
            devices: "/dev".into(),
            modules: "/sys/module".into(),
            make_files: ["/usr/bin/nvidia-modprobe", "-u", "-c=0"].map(str::to_owned).to_vec(),
        }
    }
}

/// What CUDA opens besides the GPUs' own files.
const SHARED_FILES: [&str; 2] = ["nvidiactl", "nvidia-uvm"];
/// Newer drivers are said to open it, older ones did without.
pub(crate) const PERHAPS_NEEDED: &str = "nvidia-uvm-tools";

impl Driver {
    /// The device files without which a GPU cannot be used, by their names.
    pub(crate) fn files_needed(minor: u32) -> impl Iterator<Item = String> {
        std::iter::once(format!("nvidia{minor}")).chain(SHARED_FILES.map(str::to_owned))
    }

    /// The first device file of these that is not there.
    fn missing(&self, mut names: impl Iterator<Item = String>) -> Option<PathBuf> {
        names.find_map(|name| Some(self.devices.join(name)).filter(|path| !path.exists()))
    }
}

/// Reads the machine. Never fails: what cannot be read is absent, with the reason where one matters.
pub fn read(driver: &Driver) -> Inventory {
    Gpus::open(driver).inventory()
}

/// NVML, held open, or the reason why it is not.
#[derive(Clone)]
pub(crate) struct Gpus {
    nvml: Result<Arc<Nvml>, String>,
    driver: Driver,
}

impl Gpus {
    pub(crate) fn open(driver: &Driver) -> Self {
        let opened = Nvml::builder().lib_path(driver.library.as_os_str()).init();
        let nvml = opened.map(Arc::new).map_err(|error| match error {
            // The loader's own words tell a library that is not there, which is normal, from one that is broken.
            NvmlError::LibloadingError(why) => format!("no NVIDIA driver library on this machine ({why})"),
            other => {
                tracing::warn!(error = %other, "NVML did not start, so this machine's GPUs are not offered");
                format!("NVML did not start: {other}")
            }
        });
        Self { nvml, driver: driver.clone() }
    }

    /// Has the device files that all GPUs share made, where there are GPUs and one is missing.
    pub(crate) fn make_files(&self) {
        let any = self.nvml.as_ref().is_ok_and(|nvml| nvml.device_count().is_ok_and(|count| count > 0));
        let shared = || SHARED_FILES.iter().chain(&[PERHAPS_NEEDED]).map(|name| (*name).to_owned());
        let Some(missing) = self.driver.missing(shared()).filter(|_| any) else { return };
        let made = match self.driver.make_files.split_first() {
            Some((program, args)) if Path::new(program).exists() => run_briefly(Command::new(program).args(args)),
            _ => Err(io::Error::other("no command that would make it is installed")),
        };
        if let Some(still) = self.driver.missing(shared()) {
            let why = made.err().map_or_else(|| "the command for it did not make it".to_owned(), |e| e.to_string());
            tracing::warn!(file = %still.display(), why, "a device file of CUDA's is missing");
        } else {
            tracing::info!(file = %missing.display(), "a device file of CUDA's was missing and was made");
        }
    }

    /// The folder of the driver's libraries, where programs must be told of it: NVML was found there, CUDA's library lies
    /// beside it, and the loader does not look there by itself.
    pub(crate) fn libraries(&self) -> Option<PathBuf> {
        self.nvml.as_ref().ok()?;
        let library = if self.driver.library.is_absolute() {
            fs::canonicalize(&self.driver.library).ok()?
        } else {
            loaded_from(&fs::read_to_string("/proc/self/maps").ok()?, self.driver.library.to_str()?)?
        };
        let folder = library.parent()?;
        (!is_searched(folder) && folder.join("libcuda.so.1").exists()).then(|| folder.to_owned())
    }

    pub(crate) fn inventory(&self) -> Inventory {
        let (gpus, gpus_missing) = match self.list() {
            Ok((gpus, silent)) => (gpus, (!silent.is_empty()).then(|| silent.join("; "))),
            Err(why) => (Vec::new(), Some(why)),
        };
        Inventory {
            cpu: cpu(&fs::read_to_string("/proc/cpuinfo").unwrap_or_default()),
            memory_bytes: memory_bytes(&fs::read_to_string("/proc/meminfo").unwrap_or_default()),
            gpus,
            gpus_missing,
            driver: self.nvml.as_ref().ok().and_then(|nvml| nvml.sys_driver_version().ok()),
        }
    }

    /// The GPUs that answer, and why others do not: one that fell off the bus must not hide its neighbours.
    fn list(&self) -> Result<(Vec<Gpu>, Vec<String>), String> {
        let nvml = self.nvml.as_ref().map_err(Clone::clone)?;
        let count = nvml.device_count().map_err(|e| format!("NVML did not count the GPUs: {e}"))?;
        let (mut gpus, mut silent) = (Vec::new(), Vec::new());
        for index in 0..count {
            match nvml.device_by_index(index).and_then(|device| gpu(index, &device)) {
                Ok(mut gpu) => {
                    if let Some(path) = self.driver.missing(Driver::files_needed(gpu.minor)) {
                        gpu.health.concerns.push(format!("its device file `{}` is not there", path.display()));
                    }
                    gpus.push(gpu);
                }
                Err(why) => {
                    tracing::warn!(gpu.index = index, error = %why, "a GPU did not answer and is not offered");
                    silent.push(format!("GPU {index} did not answer: {why}"));
                }
            }
        }
        Ok((gpus, silent))
    }

    /// The energy counters of these GPUs. One that does not count is left out.
    pub(crate) fn energy(&self, uuids: &[String]) -> GpuCounters {
        let Ok(nvml) = &self.nvml else { return BTreeMap::new() };
        let read = |uuid: &String| nvml.device_by_uuid(uuid.as_str()).and_then(|d| d.total_energy_consumption()).ok();
        uuids.iter().filter_map(|uuid| Some((uuid.clone(), read(uuid)?))).collect()
    }
}

/// How long the kernel may take to load a module.
const BRIEFLY: Duration = Duration::from_secs(20);

/// Runs a command to its end, or ends it.
fn run_briefly(command: &mut Command) -> io::Result<()> {
    let quiet = command.env_clear().current_dir("/").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = quiet.spawn()?;
    let deadline = Instant::now() + BRIEFLY;
    loop {
        match child.try_wait()? {
            Some(status) if status.success() => return Ok(()),
            Some(status) => return Err(io::Error::other(format!("the command for it ended with {status}"))),
            None if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(5)),
            None => {
                child.kill()?;
                child.wait()?;
                return Err(io::Error::other("the command for it did not end"));
            }
        }
    }
}

/// Where a library lies that the loader found by its name, from the kernel's list of what is mapped. The file itself is
/// called by its whole version (`libnvidia-ml.so.580.95.05`), the name asked for is a link to it.
fn loaded_from(maps: &str, name: &str) -> Option<PathBuf> {
    let (stem, _) = name.split_once(".so")?;
    let paths = maps.lines().filter_map(|line| Some(Path::new(&line[line.find('/')?..])));
    let mut named = paths.filter(|path| {
        let file = path.file_name().and_then(|file| file.to_str()).and_then(|file| file.strip_prefix(stem));
        file.is_some_and(|rest| rest.starts_with(".so"))
    });
    named.next().map(Path::to_owned)
}

/// Whether every loader looks there without being told. To name one of these first would put the machine's own libraries
/// before those that a program brings.
fn is_searched(folder: &Path) -> bool {
    let below = folder.strip_prefix("/usr").or_else(|_| folder.strip_prefix("/")).unwrap_or(folder);
    let multiarch = format!("{}-linux-gnu", std::env::consts::ARCH);
    ["lib", "lib64", "lib32", "libx32"].iter().any(|lib| below == Path::new(lib))
        || below == Path::new("lib").join(multiarch)
}

fn gpu(index: u32, device: &Device<'_>) -> Result<Gpu, NvmlError> {
    let (nvlinks, nvlinks_active) = nvlinks(device);
    Ok(Gpu {
        index,
        minor: device.minor_number()?,
        uuid: device.uuid()?,
        model: device.name()?,
        memory_bytes: device.memory_info()?.total,
        mig: mig(device),
        nvlinks,
        nvlinks_active,
        health: health(device),
        energy_mj: device.total_energy_consumption().ok(),
        power_limit_mw: device.enforced_power_limit().ok().map(u64::from),
    })
}

fn mig(device: &Device<'_>) -> Mig {
    // A GPU that cannot be cut answers "not supported".
    let Ok(mode) = device.mig_mode() else { return Mig::default() };
    let slots = if mode.current == 1 { device.mig_device_count().unwrap_or(0) } else { 0 };
    let slices = (0..slots)
        .filter_map(|slot| {
            let slice = device.mig_device_by_index(slot).ok()?;
            Some(MigSlice { uuid: slice.uuid().ok()?, memory_bytes: slice.memory_info().ok()?.total })
        })
        .collect();
    Mig { supported: true, enabled: mode.current == 1, slices }
}

/// No GPU so far has more links than this.
const NVLINKS_MAX: u32 = 18;

fn nvlinks(device: &Device<'_>) -> (u32, u32) {
    let states = (0..NVLINKS_MAX).filter_map(|link| device.link_wrapper_for(link).is_active().ok());
    states.fold((0, 0), |(all, active), up| (all + 1, active + u32::from(up)))
}

fn health(device: &Device<'_>) -> GpuHealth {
    let retired = |cause| device.retired_pages(cause).ok().map(|pages| pages.len() as u64);
    let pages_retired =
        match (retired(RetirementCause::MultipleSingleBitEccErrors), retired(RetirementCause::DoubleBitEccError)) {
            (None, None) => None,
            (single, double) => Some(single.unwrap_or(0) + double.unwrap_or(0)),
        };
    let mut health = GpuHealth {
        ecc_enabled: device.is_ecc_enabled().ok().map(|mode| mode.currently_enabled),
        ecc_uncorrected: device.total_ecc_errors(MemoryError::Uncorrected, EccCounter::Aggregate).ok(),
        pages_retired,
        rows_remapped: rows_remapped(device),
        concerns: Vec::new(),
    };
    health.concerns = concerns(&health);
    health
}

/// Asked for as fields, because NVML's call of its own has no safe door.
fn rows_remapped(device: &Device<'_>) -> Option<RowsRemapped> {
    let [uncorrected, pending, failed] = [143, 144, 145].map(FieldId);
    let answers = device.field_values_for(&[uncorrected, pending, failed]).ok()?;
    let mut counts = answers.into_iter().map(|answer| match answer.ok()?.value.ok()? {
        SampleValue::U32(count) => Some(u64::from(count)),
        SampleValue::U64(count) => Some(count),
        SampleValue::I64(count) => u64::try_from(count).ok(),
        SampleValue::F64(_) => None,
    });
    let mut next = || counts.next().flatten();
    Some(RowsRemapped { uncorrected: next()?, pending: next()? > 0, failed: next()? > 0 })
}

/// What speaks against giving a GPU out.
fn concerns(health: &GpuHealth) -> Vec<String> {
    let mut concerns = Vec::new();
    if let Some(errors @ 1..) = health.ecc_uncorrected {
        concerns.push(format!("{errors} memory errors could not be corrected"));
    }
    // NVIDIA replaces a board at 60 retired pages.
    if let Some(pages @ 60..) = health.pages_retired {
        concerns.push(format!("{pages} memory pages are retired, 60 is the maker's limit"));
    }
    if let Some(rows) = &health.rows_remapped {
        if rows.failed {
            concerns.push("a bad row of its memory could not be swapped for a spare one".to_owned());
        }
        if rows.pending {
            concerns.push("a bad row of its memory is in use until the GPU is reset".to_owned());
        }
    }
    concerns
}

fn cpu(cpuinfo: &str) -> Cpu {
    let model = cpuinfo
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(':'))
        .map_or("unknown", |(_, model)| model.trim());
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get() as u64);
    Cpu { model: model.to_owned(), threads }
}

fn memory_bytes(meminfo: &str) -> u64 {
    let kib = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:")?.split_whitespace().next()?.parse().ok());
    kib.unwrap_or(0_u64).saturating_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processors_and_memory_are_read_from_the_kernel_s_own_words() {
        assert_eq!(cpu("processor : 0\nmodel name\t: EPYC 9B14 \nflags : x\n").model, "EPYC 9B14");
        assert_eq!(cpu("").model, "unknown", "some architectures do not tell");
        assert_eq!(memory_bytes("MemTotal:       24684084 kB\nMemFree: 1 kB\n"), 24_684_084 * 1024);
        assert_eq!(memory_bytes("nonsense"), 0);
    }

    #[test]
    fn the_machine_at_hand_has_processors_memory_and_gpus_or_a_reason_for_none() {
        let found = read(&Driver::default());
        assert!(found.cpu.threads >= 1);
        assert!(found.memory_bytes > 64 << 20, "{found:?}");
        assert!(!found.gpus.is_empty() || found.gpus_missing.is_some() || found.driver.is_some(), "{found:?}");
    }

    #[test]
    fn a_library_is_found_where_it_is_mapped_from_and_the_loader_s_own_folders_are_known() {
        let maps = "7f00-7f10 r--p 00000000 00:00 0 \n\
                    7f10-7f20 r--p 00000000 08:01 42    /opt/a b/libnvidia-ml-not.so.1\n\
                    7f20-7f30 r-xp 00001000 08:01 43    /opt/a b/libnvidia-ml.so.580.95.05\n\
                    7f30-7f40 rw-p 00000000 00:00 0     [stack]\n";
        let found = loaded_from(maps, "libnvidia-ml.so.1");
        assert_eq!(found.as_deref(), Some(Path::new("/opt/a b/libnvidia-ml.so.580.95.05")));
        assert_eq!(loaded_from(maps, "libcuda.so.1"), None);
        let own = format!("/usr/lib/{}-linux-gnu", std::env::consts::ARCH);
        for folder in ["/lib", "/lib64", "/usr/lib", "/usr/lib64", own.as_str()] {
            assert!(is_searched(Path::new(folder)), "{folder}");
        }
        for folder in ["/usr/local/nvidia/lib64", "/opt/lib", "/usr/lib/nvidia", "/home/kubernetes/bin/nvidia/lib64"] {
            assert!(!is_searched(Path::new(folder)), "{folder}");
        }
    }

    #[test]
    fn a_gpu_with_uncorrected_errors_or_many_retired_pages_raises_concerns() {
        assert!(
            concerns(&GpuHealth { ecc_uncorrected: Some(0), pages_retired: Some(59), ..Default::default() }).is_empty()
        );
        let bad = concerns(&GpuHealth { ecc_uncorrected: Some(2), pages_retired: Some(60), ..Default::default() });
        assert_eq!(bad.len(), 2, "{bad:?}");
        let rows = |pending, failed| RowsRemapped { uncorrected: 3, pending, failed };
        let with = |rows| concerns(&GpuHealth { rows_remapped: Some(rows), ..Default::default() }).len();
        assert_eq!([with(rows(false, false)), with(rows(true, false)), with(rows(true, true))], [0, 1, 2]);
    }
}
