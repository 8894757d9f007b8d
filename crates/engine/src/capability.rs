//! What a machine can protect from what, and what it has to give.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{EngineError, Trust, Workload};

/// One thing that keeps a workload apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Protection {
    /// It sees its own processes only, and dies as a whole.
    Processes,
    /// It sees the files it was given only.
    Files,
    /// It reaches no network unless granted.
    Network,
    /// It holds no privilege of the machine (a user namespace of its own).
    Privileges,
    /// The kernel refuses it paths it was not given, whatever it sees (Landlock).
    Landlock,
    /// The kernel refuses it system calls that programs of its kind do not need (seccomp).
    Seccomp,
    /// Its memory, processes and processor time are limited as a whole, by the kernel.
    Limits,
    /// On the machine's side it is a user of its own that owns nothing.
    OwnUser,
}

impl Protection {
    /// Every protection there is; [`Capabilities`] says something about each.
    pub const ALL: [Self; 8] = [
        Self::Processes,
        Self::Files,
        Self::Network,
        Self::Privileges,
        Self::Landlock,
        Self::Seccomp,
        Self::Limits,
        Self::OwnUser,
    ];

    /// Those without which a tenant's code does not start, unless the operator accepts less.
    pub const REQUIRED: [Self; 6] =
        [Self::Processes, Self::Files, Self::Network, Self::Privileges, Self::Landlock, Self::Seccomp];
}

/// Whether a protection can be had.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "is")]
pub enum Availability {
    /// It was tried on this machine and held.
    Available,
    /// It cannot be had here.
    Missing {
        /// What was tried, what came of it, and what would help.
        why: String,
    },
}

impl Availability {
    /// Whether it holds.
    pub fn is_available(&self) -> bool {
        matches!(self, Self::Available)
    }
}

/// What enforces the limits on memory, processes and processor time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LimitsBy {
    /// The kernel, for the workload as a whole (unified hierarchy).
    CgroupV2,
    /// The kernel, for the workload as a whole (one hierarchy a controller).
    CgroupV1,
    /// The kernel for each process, and the sandbox's own watch, several times a second, for the whole.
    Rlimits,
    /// A model of limits: nothing really runs.
    Simulated,
}

/// What the machine or cluster has to give in all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capacity {
    /// Processor time, in thousandths of one core.
    pub cpus_milli: u64,
    /// Memory in bytes.
    pub memory_bytes: u64,
    /// UUIDs of the GPUs that can be granted whole.
    pub gpus: Vec<String>,
}

/// What an engine can give and what it cannot, found out by trying.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capabilities {
    /// The adapter's name: `local`, `sim`.
    pub engine: String,
    /// Each of [`Protection::ALL`].
    pub protections: BTreeMap<Protection, Availability>,
    /// What enforces limits.
    pub limits_by: LimitsBy,
    /// What there is in all.
    pub capacity: Capacity,
}

impl Capabilities {
    /// The required protections that this engine lacks, with the reason of each; empty where tenants' code may run.
    pub fn missing_for_untrusted(&self) -> Vec<(Protection, String)> {
        Protection::REQUIRED
            .iter()
            .filter_map(|p| match self.protections.get(p) {
                Some(Availability::Available) => None,
                Some(Availability::Missing { why }) => Some((*p, why.clone())),
                None => Some((*p, "was not tried".to_owned())),
            })
            .collect()
    }

    /// Says whether a workload may ever run here: refuses a tenant's code where a required protection is missing
    /// (unless `allow_weaker`), and what is larger than all there is.
    pub fn admit(&self, workload: &Workload, allow_weaker: bool) -> Result<(), EngineError> {
        let missing = self.missing_for_untrusted();
        if workload.trust == Trust::Untrusted && !allow_weaker && !missing.is_empty() {
            let missing: Vec<_> = missing.iter().map(|(what, why)| format!("{what:?} ({why})")).collect();
            return Err(EngineError::Refused {
                why: format!("untrusted work needs protections that this machine cannot give: {}", missing.join("; ")),
                hint: "allow user namespaces on this machine, or set `allow_weaker` if you trust your tenants"
                    .to_owned(),
            });
        }
        let (asked, there) = (&workload.resources, &self.capacity);
        for (what, asked, there) in [
            ("thousandths of a core", asked.cpus_milli, there.cpus_milli),
            ("bytes of memory", asked.memory_bytes, there.memory_bytes),
        ] {
            if asked > there {
                return Err(EngineError::Refused {
                    why: format!("it asks for {asked} {what}, there are {there} in all"),
                    hint: "ask for less, or run it on a larger machine".to_owned(),
                });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::WorkloadId;

    fn capabilities() -> Capabilities {
        Capabilities {
            engine: "test".to_owned(),
            protections: Protection::ALL.into_iter().map(|p| (p, Availability::Available)).collect(),
            limits_by: LimitsBy::Simulated,
            capacity: Capacity { cpus_milli: 2000, memory_bytes: 2 << 30, gpus: Vec::new() },
        }
    }

    #[test]
    fn a_tenant_s_code_is_refused_where_any_required_protection_is_missing_and_the_reason_is_told() {
        let mut workload = Workload::new(WorkloadId::new("job_x.1").unwrap(), ["true"], "/tmp/log");
        for protection in Protection::REQUIRED {
            let mut weak = capabilities();
            weak.protections.insert(protection, Availability::Missing { why: "the host forbids it".to_owned() });
            workload.trust = Trust::Untrusted;
            let refusal = weak.admit(&workload, false).unwrap_err().to_string();
            assert!(refusal.contains(&format!("{protection:?} (the host forbids it)")), "{refusal}");
            assert!(weak.admit(&workload, true).is_ok(), "the operator may accept less");
            workload.trust = Trust::Trusted;
            assert!(weak.admit(&workload, false).is_ok(), "the operator's own program runs");
            weak.protections.remove(&protection);
            workload.trust = Trust::Untrusted;
            assert!(weak.admit(&workload, false).is_err(), "what was not tried is missing");
        }
    }

    #[test]
    fn what_never_fits_is_refused_at_once() {
        let mut workload = Workload::new(WorkloadId::new("job_x.1").unwrap(), ["true"], "/tmp/log");
        assert!(capabilities().admit(&workload, false).is_ok());
        workload.resources.cpus_milli = 2001;
        assert!(capabilities().admit(&workload, false).unwrap_err().to_string().contains("2001 thousandths of a core"));
        workload.resources.cpus_milli = 2000;
        workload.resources.memory_bytes = (2 << 30) + 1;
        assert!(capabilities().admit(&workload, false).is_err());
    }
}
