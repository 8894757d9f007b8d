//! Stores the model a finished training made, and tries again while the disk does not take it.

use gregal_api::protocol::ProducedModel;
use gregal_core::job::Program;
use gregal_engine::Observation;

use super::{
    super::{
        decide::{Wish, end},
        run,
        state::Ended,
    },
    Attempt, Next,
};
use crate::objects;

/// How often a finished model is tried to be stored on a disk that is full or failing: for about a day.
const KEEP_TRIES_MAX: u32 = 1_500;
/// The longest wait between two of these tries, in milliseconds.
const KEEP_WAIT_MS_MAX: u64 = 60_000;

impl Attempt {
    /// Stores what a training made.
    pub(super) async fn keep(&mut self, observation: Option<&Observation>) -> Next {
        let at = self.ended_at(observation);
        let code = observation.and_then(Observation::exit).and_then(|exit| exit.code);
        let (keep, space) = (self.shared.keep.clone(), objects::models_of(self.state.wanted.organisation));
        let model = self.folder.work().join("model");
        let stored = tokio::task::spawn_blocking(move || objects::store_folder(&keep, &space, &model)).await;
        let (end, product) = match stored {
            Ok(Ok(model)) => (end("finished", code, None), Some(self.product(model))),
            Ok(Err(error)) if self.keeps_later(&error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, job.id = %self.state.wanted.job, tries = self.keep_failures, "a model could not be stored yet; trying again");
                let ms = self.shared.options.tuning.tick_ms.max(1) << self.keep_failures.min(16);
                return Next::After { ms: ms.min(KEEP_WAIT_MS_MAX) };
            }
            Ok(Err(objects::Error::Full)) => {
                (end("failed", code, Some("the site's disk has no room for the model; tell its operator")), None)
            }
            Ok(Err(objects::Error::Model(why))) => {
                (end("failed", code, Some(&format!("the model cannot be stored: {why}"))), None)
            }
            Ok(Err(error)) => {
                tracing::error!(error = &error as &dyn std::error::Error, job.id = %self.state.wanted.job, "a model could not be stored");
                (end("failed", code, Some("the model could not be stored at the site; tell its operator")), None)
            }
            Err(_) => (end("failed", code, Some("the model could not be stored at the site; tell its operator")), None),
        };
        let (succeeded, heldout) = (product.is_some(), self.state.facts.heldout);
        self.finish(Ended { at, end, succeeded, cancelled: false, product, heldout }).await
    }

    /// Whether a finished model is worth another try: the disk may come back, the work would not. Who does not want the
    /// job any more is not made to wait.
    fn keeps_later(&mut self, error: &objects::Error) -> bool {
        let momentary = matches!(error, objects::Error::Full | objects::Error::Io { .. });
        self.keep_failures += 1;
        momentary && self.keep_failures < KEEP_TRIES_MAX && self.wish() != Wish::End
    }

    fn product(&self, model: objects::StoredModel) -> ProducedModel {
        let (wanted, facts) = (&self.state.wanted, &self.state.facts);
        let digest = |dataset| run::digest_of(wanted, dataset);
        let (dataset, base) = match &wanted.program {
            Program::Train { dataset, base_model, .. } => (digest(*dataset), base_model.and_then(digest)),
            Program::Command { .. } => (None, None),
        };
        ProducedModel {
            digest: model.digest,
            bytes: model.bytes,
            parameters: facts.parameters,
            flop: facts.flop,
            tokens: facts.tokens,
            energy_mj: self.state.metered.energy_mj,
            energy_method: self.state.energy_method.clone().unwrap_or_else(|| "estimated: nothing was metered".into()),
            dataset_digest: dataset.unwrap_or_default(),
            base_model_digest: base,
            code_version: self.shared.options.code_version.clone(),
        }
    }
}
