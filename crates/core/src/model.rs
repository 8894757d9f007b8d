//! Models: versioned weights with lineage. Control knows digest and facts; the weights stay at their site.

use serde::{Deserialize, Serialize};

use crate::{
    id::{DatasetId, JobId, ModelId, OrganisationId, ProjectId, SiteId},
    time::Time,
};

/// Where a model came from and what it cost to make.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lineage {
    /// The job that made it.
    pub job: JobId,
    /// What it learned from.
    pub dataset: DatasetId,
    /// SHA-256 of that dataset, hex.
    pub dataset_digest: String,
    /// The dataset that held the base model, if it was fine-tuned.
    pub base_model: Option<DatasetId>,
    /// SHA-256 of the base model, hex.
    pub base_model_digest: Option<String>,
    /// Version of the program that trained it.
    pub code_version: String,
    /// Floating-point operations spent, by the rule 6 x parameters x tokens (4 x for frozen parameters).
    pub flop: u64,
    /// Tokens trained on.
    pub tokens: u64,
    /// Energy, in millijoules.
    pub energy_mj: u64,
    /// How the energy is known: `measured ...` or `estimated ...`.
    pub energy_method: String,
}

/// A model's facts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Model {
    /// Its id.
    pub id: ModelId,
    /// Who pays.
    pub organisation: OrganisationId,
    /// Who shares it.
    pub project: ProjectId,
    /// Where its weights are.
    pub site: SiteId,
    /// Its name; several versions may share it.
    pub name: String,
    /// Which version of that name this is, from 1.
    pub number: u32,
    /// SHA-256 over its files, hex.
    pub digest: String,
    /// Size of its files.
    pub bytes: u64,
    /// Parameters.
    pub parameters: u64,
    /// Where it came from.
    pub lineage: Lineage,
    /// When it was registered.
    pub created_at: Time,
    /// Grows by one with every change.
    pub version: u64,
}
