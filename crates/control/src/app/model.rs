//! Models: registered when the job that made them ended.

use gregal_api::protocol::ProducedModel;
use gregal_core::{
    access::Action,
    id::{ModelId, ProjectId, SiteId},
    job::{Job, Program},
    model::{Lineage, Model},
};
use gregal_policy::{Resource, ResourceKind};
use gregal_store::{Listed, Page, Tx};

use crate::{Control, Cx, Error, Result};

impl Control {
    /// A project's models.
    pub(crate) async fn models_list(&self, cx: &Cx, project: ProjectId, page: &Page) -> Result<Listed<Model>> {
        let (project, _) = self.project_seen(cx, project, Action::ModelRead).await?;
        Ok(self.store().models_list(project.id, page).await?)
    }

    /// A model and its lineage.
    pub(crate) async fn model_read(&self, cx: &Cx, id: ModelId) -> Result<Model> {
        let model = self.store().model_get(id).await?.ok_or_else(|| Error::missing("model", id))?;
        let resource = Resource::within(ResourceKind::Model, model.organisation, model.project, id);
        let resource = resource.at(model.site).called([id.to_string(), model.name.clone()]);
        self.authorize(cx, Action::ModelRead, &resource).await?;
        Ok(model)
    }

    /// Registers what a training made, as the next version of its name. None for a job that trains nothing.
    pub(crate) async fn model_register(
        &self,
        tx: &Tx,
        job: &Job,
        site: SiteId,
        product: &ProducedModel,
    ) -> Result<Option<Model>> {
        let Program::Train { dataset, base_model, model_name, .. } = &job.program else { return Ok(None) };
        let number = tx.model_numbers_max(job.project, model_name).await? + 1;
        let model = Model {
            id: ModelId::new(self.world()),
            organisation: job.organisation,
            project: job.project,
            site,
            name: model_name.clone(),
            number,
            digest: product.digest.clone(),
            bytes: product.bytes,
            parameters: product.parameters,
            lineage: Lineage {
                job: job.id,
                dataset: *dataset,
                dataset_digest: product.dataset_digest.clone(),
                base_model: *base_model,
                base_model_digest: product.base_model_digest.clone(),
                code_version: product.code_version.clone(),
                flop: product.flop,
                tokens: product.tokens,
                energy_mj: product.energy_mj,
                energy_method: product.energy_method.clone(),
            },
            created_at: self.now(),
            version: 1,
        };
        tx.model_insert(&model).await?;
        Ok(Some(model))
    }
}
