//! The journey itself, a tenant's steps in order, each through the public APIs only.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use gregal_api::{
    client::{Client, Error},
    dataset::{DatasetCreate, DatasetCreated, DatasetView},
    endpoint::{EndpointCreate, EndpointView},
    grant::{GrantCreate, GrantCreated, GrantPurpose},
    job::{JobCreate, JobView},
    key::{KeyCreate, KeyCreated},
    model::ModelView,
    organisation::{OrganisationCreate, OrganisationCreated, ResidencyView},
    page::SiteList,
    placement::{PlacementAnswer, PlacementAsk},
    problem::Code,
    project::{ProjectCreate, ProjectView},
    scope::ScopeView,
    site::{SiteCreate, SiteCreated},
};
use gregal_core::{
    access::Role,
    dataset::DatasetState,
    endpoint::EndpointState,
    id::DatasetId,
    job::{JobState, Program},
};

use super::{
    data::TourData,
    display::Display,
    state::Notebook,
    summary::{Residency, Summary},
};

/// A site the tour's organisation must never be placed at.
const FOREIGN_SITE: &str = "virginia-1";
/// How long a step may wait for the other side before it counts as failed.
const STEP_WAIT: Duration = Duration::from_mins(2);
/// How often a state is asked for while waiting.
const POLL: Duration = Duration::from_millis(150);
/// Credit of the tour's organisation, in cents: enough to hold the worst case of its training.
const CREDIT_CENTS: u32 = 10_000;
/// The longest the training may run.
const TRAINING_SECONDS_MAX: u32 = 1_800;

/// Someone walking the journey.
pub(crate) struct Journey<'a> {
    pub operator: Client,
    pub http: reqwest::Client,
    pub book: &'a mut Notebook,
    pub show: &'a mut Display,
    pub summary: &'a mut Summary,
}

impl Journey<'_> {
    /// An idempotency key: the same step of the same tour is the same act, also after a crash.
    fn once(&self, step: &str) -> String {
        format!("{}-{step}", self.book.notes.tour)
    }

    fn tenant(&self) -> Result<Client> {
        let secret = self.book.notes.project_secret.clone().context("the project's key is not there yet")?;
        Ok(self.operator.with_secret(secret))
    }

    /// The organisation's owner, who reads money and audit.
    pub(crate) fn owner(&self) -> Result<Client> {
        let secret = self.book.notes.owner_secret.clone().context("the owner's key is not there yet")?;
        Ok(self.operator.with_secret(secret))
    }

    fn project(&self) -> Result<String> {
        Ok(self.book.notes.project.context("the project is not there yet")?.to_string())
    }

    /// An organisation that allows only EU jurisdictions, a project and its key.
    pub(crate) async fn sign_up(&mut self) -> Result<()> {
        self.show.step("an organisation that keeps its content in the European Union");
        if self.book.notes.owner_secret.is_none() {
            self.organisation().await?;
        }
        let owner = self.owner()?;
        let organisation = self.book.notes.organisation.context("the organisation is not there yet")?.to_string();
        if self.book.notes.project.is_none() {
            let project: ProjectView = owner
                .call("project_create", &[&organisation])
                .idempotency_key(self.once("project"))
                .body(&ProjectCreate { name: "atlas".into() })
                .send()
                .await
                .context("could not make the project")?;
            self.book.notes.project = Some(project.id);
            self.book.save()?;
        }
        let project = self.project()?;
        while self.book.notes.project_secret.is_none() {
            // A crash can lose the one answer that shows a secret; then another key is asked for.
            self.book.notes.keys_asked += 1;
            ensure!(self.book.notes.keys_asked <= 8, "no key could be had in eight tries");
            self.book.save()?;
            let key: KeyCreated = owner
                .call("key_create", &[&project])
                .idempotency_key(self.once(&format!("key-{}", self.book.notes.keys_asked)))
                .body(&KeyCreate {
                    name: "tour".into(),
                    role: Role::Developer,
                    expires_in_s: None,
                    scope: ScopeView::default(),
                })
                .send()
                .await
                .context("could not make the project's key")?;
            self.book.notes.project_secret = key.secret;
            self.book.save()?;
        }
        self.show.done(&format!("organisation {organisation} (EU only), project {project}, a developer's key"));
        Ok(())
    }

    async fn organisation(&mut self) -> Result<()> {
        self.book.notes.keys_asked += 1;
        self.book.save()?;
        let turn = self.book.notes.keys_asked;
        let name = format!("Atlas {} {turn}", self.book.notes.tour);
        let made: OrganisationCreated = self
            .operator
            .call("organisation_create", &[])
            .idempotency_key(self.once(&format!("organisation-{turn}")))
            .body(&OrganisationCreate {
                name,
                country: "FR".into(),
                vat_id: None,
                plan: None,
                credit_cents: CREDIT_CENTS,
                residency: Some(ResidencyView {
                    jurisdictions: vec!["EU".into()],
                    certifications: Vec::new(),
                    operators: Vec::new(),
                }),
            })
            .send()
            .await
            .context("could not make the organisation")?;
        self.book.notes.organisation = Some(made.organisation.id);
        self.book.notes.owner_secret = made.owner_key.secret;
        self.book.save()?;
        ensure!(
            self.book.notes.owner_secret.is_some(),
            "the owner's key was shown in an answer that got lost; start again"
        );
        Ok(())
    }

    /// A dataset stored at the site, and the questions held out from training.
    pub(crate) async fn store(&mut self, data: &TourData) -> Result<()> {
        self.show.step("a dataset, stored encrypted at the site");
        let trained = self.dataset(self.book.notes.dataset, "examples", data.train.clone()).await?;
        self.book.notes.dataset = Some(trained.id);
        self.book.save()?;
        if let Some(bytes) = &data.heldout {
            let heldout = self.dataset(self.book.notes.heldout, "held-out", bytes.clone()).await?;
            self.book.notes.heldout = Some(heldout.id);
            self.book.save()?;
        }
        if let Some(path) = &data.base_model {
            let bytes = tokio::fs::read(path).await.with_context(|| format!("could not read `{}`", path.display()))?;
            let base = self.dataset(self.book.notes.base_model, "base-model", bytes).await?;
            self.book.notes.base_model = Some(base.id);
            self.book.save()?;
        }
        let digest = trained.digest.clone().unwrap_or_default();
        self.show.done(&format!(
            "{}: {} examples, {} bytes, sha256 {}",
            trained.id,
            data.examples,
            trained.bytes.unwrap_or(0),
            digest.get(..16).unwrap_or_default()
        ));
        self.summary.training.dataset_digest = digest;
        Ok(())
    }

    async fn dataset(&mut self, known: Option<DatasetId>, name: &str, bytes: Vec<u8>) -> Result<DatasetView> {
        let tenant = self.tenant()?;
        let project = self.project()?;
        let id = if let Some(id) = known {
            id
        } else {
            let made: DatasetCreated = tenant
                .call("dataset_create", &[&project])
                .idempotency_key(self.once(name))
                .body(&DatasetCreate { name: name.into(), site: None })
                .send()
                .await
                .with_context(|| format!("could not announce the dataset `{name}`"))?;
            made.dataset.id
        };
        let view: DatasetView = tenant.call("dataset_read", &[&id.to_string()]).send().await?;
        if view.state == DatasetState::Pending {
            self.upload(&tenant, &project, id, bytes).await?;
        }
        wait_for("the dataset to be stored", || async {
            let view: DatasetView = tenant.call("dataset_read", &[&id.to_string()]).send().await?;
            Ok((view.state == DatasetState::Stored).then_some(view))
        })
        .await
    }

    async fn upload(&self, tenant: &Client, project: &str, id: DatasetId, bytes: Vec<u8>) -> Result<()> {
        let grant = grant(tenant, project, GrantPurpose::DatasetWrite, &id.to_string()).await?;
        let answer = self
            .http
            .put(format!("{}/content/v1/datasets/{id}", grant.url))
            .bearer_auth(&grant.grant)
            .body(bytes)
            .send()
            .await
            .context("could not reach the site")?;
        let status = answer.status();
        ensure!(
            status.is_success(),
            "the site answered {status} to the dataset: {}",
            answer.text().await.unwrap_or_default()
        );
        Ok(())
    }

    /// A training job: queued, scheduled, isolated, watched until it ends.
    pub(crate) async fn train(&mut self, data: &TourData) -> Result<JobView> {
        self.show.step("a training job waits for room");
        let tenant = self.tenant()?;
        let id = match self.book.notes.job {
            Some(id) => id,
            None => self.submit(&tenant, data).await?,
        };
        let mut told = None;
        let watch = Instant::now();
        let job = loop {
            let job: JobView = tenant.call("job_read", &[&id.to_string()]).send().await?;
            if told != Some(job.state) {
                let site = job.site.map(|site| site.to_string()).unwrap_or_default();
                let why = job.waits_for.as_deref().unwrap_or_default();
                self.show.detail(&format!(
                    "{id} is {} {why}{}",
                    job.state.as_str(),
                    if told.is_none() { String::new() } else { format!("at {site}") }
                ));
                told = Some(job.state);
            }
            if let Some(progress) = &job.progress {
                self.show.training(progress);
            }
            if job.state.is_final() {
                break job;
            }
            ensure!(
                watch.elapsed() < Duration::from_secs(u64::from(TRAINING_SECONDS_MAX) + 120),
                "the job did not end within {TRAINING_SECONDS_MAX} s; it is {}",
                job.state.as_str()
            );
            tokio::time::sleep(POLL).await;
        };
        if job.state != JobState::Succeeded {
            let end = job.end.as_ref().map(|end| format!("{} {}", end.reason, end.hint.as_deref().unwrap_or_default()));
            bail!("the training {}: {}", job.state.as_str(), end.unwrap_or_default());
        }
        self.book.notes.model = job.model;
        self.book.save()?;
        self.trained(&job);
        Ok(job)
    }

    async fn submit(&mut self, tenant: &Client, data: &TourData) -> Result<gregal_core::id::JobId> {
        let program = Program::Train {
            dataset: self.book.notes.dataset.context("the dataset is not there yet")?,
            heldout: self.book.notes.heldout,
            base_model: self.book.notes.base_model,
            model_name: "atlas".into(),
            settings: data.settings.clone(),
        };
        let job: JobView = tenant
            .call("job_create", &[&self.project()?])
            .idempotency_key(self.once("job"))
            .body(&JobCreate {
                priority: None,
                preemptible: None,
                reservation: None,
                name: "teach-atlas".into(),
                program,
                sku: data.sku.clone(),
                seconds_max: TRAINING_SECONDS_MAX,
                site: None,
            })
            .send()
            .await
            .context("could not submit the training")?;
        self.book.notes.job = Some(job.id);
        self.book.save()?;
        Ok(job.id)
    }

    fn trained(&mut self, job: &JobView) {
        let training = &mut self.summary.training;
        training.job = job.id.to_string();
        if let (Some(began), Some(ended)) = (job.started_at, job.ended_at) {
            training.seconds = ended.millis_since(began) as f64 / 1000.0;
        }
        if let Some(progress) = &job.progress {
            training.steps = progress.steps;
            training.tokens = progress.tokens;
            training.loss = progress.loss;
            if progress.elapsed_ms > 0 {
                training.tokens_per_s = progress.tokens as f64 * 1000.0 / progress.elapsed_ms as f64;
            }
        }
        if let Some(heldout) = job.heldout {
            training.heldout_asked = heldout.asked;
            training.heldout_exact = (heldout.asked > 0).then(|| heldout.exact as f64 / heldout.asked as f64);
        }
    }

    /// The model, registered with its lineage.
    pub(crate) async fn model(&mut self) -> Result<ModelView> {
        self.show.step("the model and where it came from");
        let id = self.book.notes.model.context("the job made no model")?.to_string();
        let model: ModelView = self.tenant()?.call("model_read", &[&id]).send().await?;
        ensure!(
            model.lineage.dataset_digest == self.summary.training.dataset_digest,
            "the model says it learned from another dataset than the one stored"
        );
        let training = &mut self.summary.training;
        training.model = format!("{} v{}", model.name, model.number);
        training.flop = model.lineage.flop;
        training.kwh.clone_from(&model.kwh);
        training.energy_method.clone_from(&model.lineage.energy_method);
        self.show.done(&format!(
            "{} v{}: {} parameters, from dataset {} by {}, code {}, {:.2e} FLOP, {} kWh ({})",
            model.name,
            model.number,
            model.parameters,
            model.lineage.dataset_digest.get(..12).unwrap_or_default(),
            model.lineage.job,
            model.lineage.code_version,
            model.lineage.flop as f64,
            model.kwh,
            model.lineage.energy_method
        ));
        Ok(model)
    }

    /// An endpoint that loads the model and answers.
    pub(crate) async fn serve(&mut self, model: &ModelView) -> Result<EndpointView> {
        self.show.step("an endpoint loads the model");
        let tenant = self.tenant()?;
        let id = if let Some(id) = self.book.notes.endpoint {
            id
        } else {
            let made: EndpointView = tenant
                .call("endpoint_create", &[&self.project()?])
                .idempotency_key(self.once("endpoint"))
                .body(&EndpointCreate {
                    name: "atlas".into(),
                    model: Some(model.id),
                    shared: None,
                    site: None,
                    sku: None,
                })
                .send()
                .await
                .context("could not make the endpoint")?;
            self.book.notes.endpoint = Some(made.id);
            self.book.save()?;
            made.id
        };
        let endpoint = wait_for("the endpoint to answer", || async {
            let view: EndpointView = tenant.call("endpoint_read", &[&id.to_string()]).send().await?;
            ensure!(
                view.state != EndpointState::Failed,
                "the endpoint failed: {}",
                view.message.as_deref().unwrap_or("no reason was given")
            );
            Ok((view.state == EndpointState::Ready).then_some(view))
        })
        .await?;
        self.show.done(&format!(
            "endpoint {} is ready at {}",
            endpoint.name,
            endpoint.base_url.as_deref().unwrap_or("-")
        ));
        Ok(endpoint)
    }

    /// A placement outside the allowed jurisdictions, refused by name.
    pub(crate) async fn leave_the_union(&mut self) -> Result<()> {
        self.show.step("a placement outside the European Union");
        self.foreign_site().await?;
        let tenant = self.tenant()?;
        let project = self.project()?;
        let refused: Result<DatasetCreated, Error> = tenant
            .call("dataset_create", &[&project])
            .body(&DatasetCreate { name: "abroad".into(), site: Some(FOREIGN_SITE.into()) })
            .send()
            .await;
        let problem = match refused {
            Ok(_) => bail!("content was placed at {FOREIGN_SITE}, outside the allowed jurisdictions"),
            Err(error) => error.problem().cloned().context(error)?,
        };
        ensure!(problem.code == Code::ResidencyRefused, "the placement was refused for another reason: {problem}");
        let rule = problem.rule.clone().context("the refusal names no rule")?;
        let explained: PlacementAnswer = tenant
            .call("placement_explain", &[&project])
            .body(&PlacementAsk { site: Some(FOREIGN_SITE.into()) })
            .send()
            .await?;
        let verdict = explained.sites.first().context("the explanation speaks of no site")?;
        ensure!(!verdict.allowed && verdict.rule.as_deref() == Some(rule.as_str()), "refusal and explanation disagree");
        self.summary.residency =
            Residency { refused_by: rule.clone(), site: FOREIGN_SITE.into(), because: verdict.because.clone() };
        self.show.done(&format!("{FOREIGN_SITE} refused by {rule}: {}", verdict.because));
        Ok(())
    }

    /// The operator registers a site under another law; it never dials in.
    async fn foreign_site(&self) -> Result<()> {
        let known: SiteList = self.operator.call("sites_list", &[]).send().await?;
        if known.items.iter().any(|site| site.name == FOREIGN_SITE) {
            return Ok(());
        }
        let _: SiteCreated = self
            .operator
            .call("site_create", &[])
            .idempotency_key(self.once("foreign-site"))
            .body(&SiteCreate {
                name: FOREIGN_SITE.into(),
                jurisdiction: "US".into(),
                operator_name: "Blue Ridge Compute".into(),
                operator_jurisdiction: "US".into(),
                operator_parent_jurisdiction: "US".into(),
                certifications: Vec::new(),
                grid: None,
            })
            .send()
            .await
            .context("could not register the foreign site")?;
        Ok(())
    }

    /// The key that the gateway is asked with.
    pub(crate) fn gateway_secret(&self) -> Result<&str> {
        self.book.notes.project_secret.as_deref().context("the project's key is not there yet")
    }
}

/// Gets a grant for content at a site.
async fn grant(tenant: &Client, project: &str, purpose: GrantPurpose, object: &str) -> Result<GrantCreated> {
    tenant
        .call("grant_create", &[project])
        .body(&GrantCreate { purpose, object: object.into() })
        .send()
        .await
        .with_context(|| format!("got no grant for {object}"))
}

/// Asks until there is an answer, or the step has waited too long.
pub(crate) async fn wait_for<T, F: Future<Output = Result<Option<T>>>>(
    what: &str,
    mut ask: impl FnMut() -> F,
) -> Result<T> {
    let watch = Instant::now();
    loop {
        if let Some(found) = ask().await? {
            return Ok(found);
        }
        ensure!(watch.elapsed() < STEP_WAIT, "waited {} s for {what}", STEP_WAIT.as_secs());
        tokio::time::sleep(POLL).await;
    }
}
