//! Which GPUs a workload gets: whole and sound ones, each held by one workload at a time, and the files that reach them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::inventory::{Driver, Gpu, Inventory, PERHAPS_NEEDED};
use crate::sandbox::wire::{GpuAccess, Guard, Shown};
use crate::{EngineError, WorkloadId};

/// Who holds which GPU, by UUID.
pub(super) type Held = BTreeMap<String, WorkloadId>;

/// Finds the GPUs that are wanted by name or by index, or says why one of them cannot be had. Decides only.
pub(super) fn grant<'a>(inventory: &'a Inventory, wanted: &[String], held: &Held) -> Result<Vec<&'a Gpu>, EngineError> {
    let mut granted: Vec<&Gpu> = Vec::new();
    for name in wanted {
        match find(inventory, name, held) {
            Ok(gpu) if granted.contains(&gpu) => return Err(refused(inventory, name, "is asked for twice")),
            Ok(gpu) => granted.push(gpu),
            Err(why) => return Err(refused(inventory, name, &why)),
        }
    }
    Ok(granted)
}

fn find<'a>(inventory: &'a Inventory, name: &str, held: &Held) -> Result<&'a Gpu, String> {
    let Some(gpu) = inventory.gpus.iter().find(|gpu| gpu.uuid == name || gpu.index.to_string() == name) else {
        return Err(match &inventory.gpus_missing {
            Some(why) => format!("was not found: {why}"),
            None => "is not on this machine".to_owned(),
        });
    };
    if gpu.mig.enabled {
        return Err("is cut into slices, which cannot be granted here".to_owned());
    }
    if !gpu.is_grantable() {
        return Err(format!("cannot be granted: {}", gpu.health.concerns.join("; ")));
    }
    held.get(&gpu.uuid).map_or(Ok(gpu), |id| Err(format!("is held by `{id}`")))
}

/// Without namespaces every GPU's device file is in reach, `/proc` is the machine's, and CUDA lacks what it writes to: none
/// can be granted then.
pub(super) fn note_walls(inventory: &mut Inventory, guard: Guard) {
    if guard.namespaces {
        return;
    }
    for gpu in &mut inventory.gpus {
        gpu.health.concerns.push("it cannot be given to one workload alone without namespaces".to_owned());
    }
}

fn refused(inventory: &Inventory, name: &str, why: &str) -> EngineError {
    let whole: Vec<&str> = inventory.gpus.iter().filter(|gpu| gpu.is_grantable()).map(|gpu| &*gpu.uuid).collect();
    let whole = if whole.is_empty() { "none".to_owned() } else { whole.join(", ") };
    EngineError::Refused { why: format!("GPU `{name}` {why}"), hint: format!("whole GPUs here: {whole}") }
}

/// Modules of the kernel that CUDA looks for (since 550.90.07) before it tries to load them, which it cannot.
const MODULES: [&str; 2] = ["nvidia", "nvidia_uvm"];

/// What a workload is given of these GPUs: nothing for none. Refuses where a device file is missing: the workload would
/// run, and pay, without its GPU.
pub(super) fn access(driver: &Driver, libraries: Option<&PathBuf>, granted: &[&Gpu]) -> Result<GpuAccess, EngineError> {
    if granted.is_empty() {
        return Ok(GpuAccess::default());
    }
    let uuids = granted.iter().map(|gpu| gpu.uuid.clone()).collect();
    Ok(GpuAccess { uuids, devices: devices(driver, granted)?, modules: modules(driver), libraries: libraries.cloned() })
}

fn modules(driver: &Driver) -> Vec<Shown> {
    let state = |module: &&str| Path::new(module).join("initstate");
    let shown = MODULES
        .iter()
        .map(state)
        .map(|file| Shown { source: driver.modules.join(&file), inside: Path::new("/sys/module").join(&file) });
    shown.filter(|file| file.source.exists()).collect()
}

fn devices(driver: &Driver, granted: &[&Gpu]) -> Result<Vec<Shown>, EngineError> {
    let names: BTreeSet<String> = granted.iter().flat_map(|gpu| Driver::files_needed(gpu.minor)).collect();
    let mut devices = Vec::new();
    for name in names.into_iter().chain([PERHAPS_NEEDED.to_owned()]) {
        let source = driver.devices.join(&name);
        if source.exists() {
            devices.push(Shown { source, inside: Path::new("/dev").join(name) });
        } else if name != PERHAPS_NEEDED {
            // It went after the engine was opened, else the GPU would not have been offered.
            return Err(EngineError::Refused {
                why: format!("the device file `{}` is not there", source.display()),
                hint: "load the driver and make its device files: `nvidia-modprobe -u -c=N`, N for each GPU".to_owned(),
            });
        }
    }
    Ok(devices)
}
