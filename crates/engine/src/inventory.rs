//! What this machine has: processors, memory, and NVIDIA GPUs as NVML tells them.
//!
//! NVML is opened when the program runs, not when it is built; a machine without it simply has no GPUs, and says why.

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;

use nvml_wrapper::enum_wrappers::device::{EccCounter, MemoryError, RetirementCause};
use nvml_wrapper::error::NvmlError;
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
    /// Its GPUs, in the driver's order.
    pub gpus: Vec<Gpu>,
    /// Why there are no GPUs, or none could be asked. None when NVML answered, even with an empty list.
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
    /// What speaks against giving it out, as sentences; empty when nothing does.
    pub concerns: Vec<String>,
}

/// Reads the machine. Never fails: what cannot be read is absent, with the reason where one matters.
pub fn read() -> Inventory {
    Gpus::open().inventory()
}

/// NVML, held open, or the reason why it is not.
#[derive(Clone)]
pub(crate) struct Gpus(Result<Arc<Nvml>, String>);

impl Gpus {
    pub(crate) fn open() -> Self {
        Self(Nvml::init().map(Arc::new).map_err(|error| match error {
            NvmlError::LibloadingError(_) => "no NVIDIA driver library (libnvidia-ml.so) on this machine".to_owned(),
            other => format!("NVML did not start: {other}"),
        }))
    }

    pub(crate) fn inventory(&self) -> Inventory {
        let (gpus, gpus_missing) = match self.list() {
            Ok(gpus) => (gpus, None),
            Err(why) => (Vec::new(), Some(why)),
        };
        Inventory {
            cpu: cpu(&fs::read_to_string("/proc/cpuinfo").unwrap_or_default()),
            memory_bytes: memory_bytes(&fs::read_to_string("/proc/meminfo").unwrap_or_default()),
            gpus,
            gpus_missing,
            driver: self.0.as_ref().ok().and_then(|nvml| nvml.sys_driver_version().ok()),
        }
    }

    fn list(&self) -> Result<Vec<Gpu>, String> {
        let nvml = self.0.as_ref().map_err(Clone::clone)?;
        let count = nvml.device_count().map_err(|e| format!("NVML did not count the GPUs: {e}"))?;
        (0..count)
            .map(|index| {
                let device = nvml.device_by_index(index).map_err(|e| format!("GPU {index} did not answer: {e}"))?;
                gpu(index, &device).map_err(|e| format!("GPU {index} did not tell what it is: {e}"))
            })
            .collect()
    }

    /// The energy counters of these GPUs. One that does not count is left out.
    pub(crate) fn energy(&self, uuids: &[String]) -> GpuCounters {
        let Ok(nvml) = &self.0 else { return BTreeMap::new() };
        let read = |uuid: &String| nvml.device_by_uuid(uuid.as_str()).and_then(|d| d.total_energy_consumption()).ok();
        uuids.iter().filter_map(|uuid| Some((uuid.clone(), read(uuid)?))).collect()
    }
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
        concerns: Vec::new(),
    };
    health.concerns = concerns(&health);
    health
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
        let found = read();
        assert!(found.cpu.threads >= 1);
        assert!(found.memory_bytes > 64 << 20, "{found:?}");
        assert!(found.gpus.is_empty() || found.gpus_missing.is_none());
        assert!(!found.gpus.is_empty() || found.gpus_missing.is_some() || found.driver.is_some(), "{found:?}");
    }

    #[test]
    fn a_gpu_with_uncorrected_errors_or_many_retired_pages_raises_concerns() {
        assert!(
            concerns(&GpuHealth { ecc_uncorrected: Some(0), pages_retired: Some(59), ..Default::default() }).is_empty()
        );
        let bad = concerns(&GpuHealth { ecc_uncorrected: Some(2), pages_retired: Some(60), ..Default::default() });
        assert_eq!(bad.len(), 2, "{bad:?}");
    }
}
