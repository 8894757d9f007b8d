//! Sites: machines in one place under one law, and what they have.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::{id::SiteId, residency::Jurisdiction, shared::SharedModel, time::Time};

/// Who runs a site, and who owns whoever runs it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SiteOperator {
    /// Its name.
    pub name: String,
    /// Where it is established.
    pub jurisdiction: Jurisdiction,
    /// Where its ultimate parent is established; equals `jurisdiction` if it has none.
    pub parent_jurisdiction: Jurisdiction,
}

/// Where the site's energy comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GridFactor {
    /// Grams of CO2 equivalent per kilowatt-hour.
    pub grams_co2e_per_kwh: u32,
    /// Year the figure is of.
    pub year: u16,
    /// Who published it.
    pub source: String,
}

/// A site as the control plane knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Site {
    /// Its id.
    pub id: SiteId,
    /// Its name, unique in the cloud.
    pub name: String,
    /// The law its machines stand under.
    pub jurisdiction: Jurisdiction,
    /// Who runs it.
    pub operator: SiteOperator,
    /// Certifications it holds.
    pub certifications: BTreeSet<String>,
    /// Where tenants reach its gateway and their content; none until the site has dialled in once.
    pub url: Option<String>,
    /// SHA-256 of the secret it dials in with, hex.
    pub secret_digest: String,
    /// What its energy comes from, if known.
    pub grid: Option<GridFactor>,
    /// What it has, as it said last; none until it has dialled in once.
    pub capacity: Option<Capacity>,
    /// Until when control may take it as alive.
    pub lease_until: Option<Time>,
    /// Which start of the site's process dialled in last.
    pub incarnation: Option<String>,
    /// When it was registered.
    pub created_at: Time,
    /// Grows by one with every change.
    pub version: u64,
}

impl Site {
    /// Whether the site answered lately enough to be given new work.
    pub fn alive_at(&self, now: Time) -> bool {
        self.lease_until.is_some_and(|until| now < until)
    }
}

/// An accelerator as the site's driver describes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accelerator {
    /// The driver's id.
    pub uuid: String,
    /// Model name.
    pub model: String,
    /// Bytes of memory.
    pub memory_bytes: u64,
    /// Whether it is fit for work.
    pub healthy: bool,
}

/// What a site can rent out, and how well it can keep tenants apart.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capacity {
    /// Thousandths of CPU cores for rent.
    pub cpus_milli: u32,
    /// Bytes of memory for rent.
    pub memory_bytes: u64,
    /// Accelerators.
    pub accelerators: Vec<Accelerator>,
    /// Protections the machine cannot give, in words. Empty is best.
    pub protections_missing: Vec<String>,
    /// The engine's name: `local`, `sim`.
    pub engine: String,
    /// Models it offers by the token.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub shared: Vec<SharedModel>,
}
