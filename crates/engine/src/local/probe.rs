//! Finds out what the machine can protect by rehearsing: a whole sandbox is put up, looked at from inside, and taken
//! down. Nothing is concluded from a version number or a file that exists.

use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, Instant};

use nix::unistd::Uid;

use super::record::Record;
use super::{LocalOptions, begin, clear, gpus};
use crate::cgroup::Base;
use crate::inventory::Inventory;
use crate::sandbox::wire::{GpuAccess, Guard, Order};
use crate::{
    Availability, Capabilities, Capacity, EngineError, LimitsBy, Protection, Reason, Trust, Workload, WorkloadId,
};

pub(super) struct Probed {
    pub base: Option<Base>,
    pub guard: Guard,
    pub capabilities: Capabilities,
}

/// Why something is missing, by what is missing.
#[derive(Default)]
struct Missing {
    namespaces: Option<String>,
    landlock: Option<String>,
    seccomp: Option<String>,
}

/// Rehearses with less and less until a sandbox holds. What came of it may speak against granting the machine's GPUs,
/// which is then noted at each.
pub(super) fn run(options: &LocalOptions, inventory: &mut Inventory) -> Result<Probed, EngineError> {
    let off = |any: &[Protection]| {
        any.iter().find(|p| options.without.contains(p)).map(|p| format!("{p:?} was switched off by the operator"))
    };
    let mut missing = Missing {
        namespaces: off(&[Protection::Processes, Protection::Files, Protection::Network, Protection::Privileges]),
        landlock: off(&[Protection::Landlock]),
        seccomp: off(&[Protection::Seccomp]),
    };
    let guard = loop {
        let guard = Guard {
            namespaces: missing.namespaces.is_none(),
            landlock: missing.landlock.is_none(),
            seccomp: missing.seccomp.is_none(),
        };
        let Some(why) = rehearse(options, guard)? else { break guard };
        let blamed = match why.split_once(':').map(|(step, _)| step) {
            Some("landlock") if guard.landlock => &mut missing.landlock,
            Some("seccomp") if guard.seccomp => &mut missing.seccomp,
            _ if guard.namespaces => &mut missing.namespaces,
            // Not even a plain process can be run.
            _ => return Err(EngineError::Refused { why, hint: "see the engine's folder for details".to_owned() }),
        };
        *blamed = Some(why);
    };
    gpus::note_walls(inventory, guard);
    let base = match off(&[Protection::Limits]) {
        Some(why) => Err(why),
        None => Base::find(),
    };
    let capabilities = Capabilities {
        engine: "local".to_owned(),
        protections: protections(&missing, base.as_ref().err(), options),
        limits_by: match &base {
            Ok(base) if base.is_v2() => LimitsBy::CgroupV2,
            Ok(_) => LimitsBy::CgroupV1,
            Err(_) => LimitsBy::Rlimits,
        },
        capacity: Capacity {
            cpus_milli: inventory.cpu.threads.saturating_mul(1000),
            memory_bytes: inventory.memory_bytes,
            gpus: inventory.gpus.iter().filter(|gpu| gpu.is_grantable()).map(|gpu| gpu.uuid.clone()).collect(),
        },
    };
    Ok(Probed { base: base.ok(), guard, capabilities })
}

const REHEARSAL_MAX: Duration = Duration::from_secs(20);

/// Puts a sandbox up without running anything in it. None if all that was asked for holds.
fn rehearse(options: &LocalOptions, guard: Guard) -> Result<Option<String>, EngineError> {
    let entry = options.state_dir.join("rehearsal");
    clear(&entry)?;
    fs::create_dir(&entry).map_err(EngineError::io("making a folder for a rehearsal"))?;
    let record = Record::at(&entry);
    let mut workload = Workload::new(WorkloadId::new("rehearsal")?, ["true"], entry.join("log"));
    workload.trust = Trust::Trusted;
    let order = Order {
        workload,
        entry: entry.clone(),
        guard,
        group: None,
        visible: options.visible.clone(),
        gpus: GpuAccess::default(),
        run_as: options.run_as,
        rehearsal: true,
    };
    let (mut child, lifeline) = begin(&options.helper, &order)?;
    let deadline = Instant::now() + REHEARSAL_MAX;
    while child.try_wait().map_err(EngineError::io("rehearsing"))?.is_none() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(1));
    }
    drop(lifeline);
    child.wait().map_err(EngineError::io("rehearsing"))?;
    let exit = record.exit().map_err(EngineError::io("reading how a rehearsal went"))?;
    let outcome = match exit {
        Some(exit) if exit.reason == Reason::Finished => None,
        Some(exit) => {
            Some(exit.message.unwrap_or_else(|| format!("processes: the rehearsal ended as {:?}", exit.reason)))
        }
        None => Some("processes: the rehearsal left no word".to_owned()),
    };
    clear(&entry)?;
    Ok(outcome)
}

fn protections(
    missing: &Missing,
    limits: Option<&String>,
    options: &LocalOptions,
) -> BTreeMap<Protection, Availability> {
    let say = |why: Option<String>| why.map_or(Availability::Available, |why| Availability::Missing { why });
    let namespaces = &missing.namespaces;
    Protection::ALL
        .iter()
        .map(|protection| {
            let why = match protection {
                Protection::Processes | Protection::Privileges => namespaces.clone(),
                Protection::Files => namespaces.as_ref().map(|why| match &missing.landlock {
                    None => format!("by Landlock alone, without a file tree of its own: {why}"),
                    Some(_) => why.clone(),
                }),
                // Without a network namespace, seccomp still refuses every socket but unix ones.
                Protection::Network => namespaces.as_ref().filter(|_| missing.seccomp.is_some()).cloned(),
                Protection::Landlock => missing.landlock.clone(),
                Protection::Seccomp => missing.seccomp.clone(),
                Protection::Limits => limits.map(|why| format!("by rlimits and the sandbox's own watch only: {why}")),
                Protection::OwnUser => own_user_missing(namespaces.is_none(), options),
            };
            (*protection, say(why))
        })
        .collect()
}

fn own_user_missing(namespaces: bool, options: &LocalOptions) -> Option<String> {
    match options.run_as {
        Some((uid, _)) if namespaces && Uid::effective().is_root() && uid != 0 => None,
        _ => Some("workloads are the engine's own user, less its privileges; set `run_as`, as root".to_owned()),
    }
}
