//! Models on the wire.

use gregal_core::{
    id::{ModelId, ProjectId, SiteId},
    model::{Lineage, Model},
    time::Time,
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A model.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct ModelView {
    /// Its id.
    #[schema(value_type = String)]
    pub id: ModelId,
    /// The project that shares it.
    #[schema(value_type = String)]
    pub project: ProjectId,
    /// Where its weights are.
    #[schema(value_type = String)]
    pub site: SiteId,
    /// Its name.
    pub name: String,
    /// Which version of that name this is.
    pub number: u32,
    /// SHA-256 over its files, hex.
    pub digest: String,
    /// Size of its files.
    pub bytes: u64,
    /// Parameters.
    pub parameters: u64,
    /// Where it came from.
    #[schema(value_type = Object)]
    pub lineage: Lineage,
    /// Energy it took, in kilowatt-hours, as a decimal text.
    pub kwh: String,
    /// When it was registered.
    #[schema(value_type = String)]
    pub created_at: Time,
}

impl From<&Model> for ModelView {
    fn from(model: &Model) -> Self {
        Self {
            id: model.id,
            project: model.project,
            site: model.site,
            name: model.name.clone(),
            number: model.number,
            digest: model.digest.clone(),
            bytes: model.bytes,
            parameters: model.parameters,
            lineage: model.lineage.clone(),
            kwh: kwh(model.lineage.energy_mj),
            created_at: model.created_at,
        }
    }
}

/// Millijoules as kilowatt-hours with nine decimals (1 kWh is 3.6e9 mJ), cut, not rounded.
pub fn kwh(millijoules: u64) -> String {
    let nano = u128::from(millijoules) * 1_000_000_000 / 3_600_000_000;
    format!("{}.{:09}", nano / 1_000_000_000, nano % 1_000_000_000)
}
