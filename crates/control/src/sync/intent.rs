//! What a site should do and may believe: computed whole from the rows each time, numbered when it differs.

use std::collections::{BTreeMap, BTreeSet};

use gregal_api::{
    grant::GRANT_SECONDS_MAX,
    protocol::{
        Allowance, Intent, SiteKey, SiteOrganisation, SitePolicy, WantedAttempt, WantedDataset, WantedEndpoint,
    },
    signed::Signed,
};
use gregal_core::{
    access::Action,
    dataset::{Dataset, DatasetState},
    endpoint::{Endpoint, EndpointState},
    id::{EndpointId, OrganisationId, SiteId},
    job::{Billed, Job, JobState},
    money::Nano,
    policy::OwnPolicy,
    site::Site,
    sku::Catalogue,
    time::Time,
};
use gregal_policy::{Principal, Resource, ResourceKind};
use gregal_store::{Tx, View};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{
    Control, Error, Result,
    app::{allowance, dataset::inputs_of, price_item},
};

/// The intent a site was given last: its number and what it said.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
struct Given {
    revision: u64,
    digest: String,
}

impl Control {
    /// The newest intent, signed, if the site holds another one, or wants the same one `again`.
    pub(crate) async fn intent_newer(&self, site: SiteId, held: u64, again: bool) -> Result<Option<Signed>> {
        let given = given_to(self.store(), site).await?;
        let current = self.intent_of(self.store(), site).await?;
        if !again && given.revision == held && given.digest == digest_of(&current)? {
            return Ok(None);
        }
        // Numbered in a transaction, from the rows as they stand there: two syncs cannot give one number to two intents.
        let tx = self.store().begin_upkeep().await?;
        let current = self.intent_of(&tx, site).await?;
        let given = given_to(&tx, site).await?;
        let digest = digest_of(&current)?;
        // A site may hold a higher number than we remember, after a restored backup. It must not take ours for older.
        let revision = if given.digest == digest && given.revision >= held {
            given.revision
        } else {
            let revision = given.revision.max(held) + 1;
            let given = Given { revision, digest };
            let bytes = serde_json::to_vec(&given).map_err(|error| Error::Broken(error.to_string()))?;
            tx.meta_put(&row_name(site), &bytes).await?;
            tx.commit_observation().await?;
            revision
        };
        if revision == held && !again {
            return Ok(None);
        }
        Ok(Some(self.signer().intent(&Intent { revision, made_at: self.now(), ..current })))
    }

    /// Whether the revision a site holds says what the rows say now.
    pub(crate) async fn intent_is_known(&self, tx: &Tx, site: SiteId, held: u64) -> Result<bool> {
        let given = given_to(tx, site).await?;
        Ok(given.revision == held && held > 0 && given.digest == digest_of(&self.intent_of(tx, site).await?)?)
    }

    /// What a site should do, from the rows alone; without a number.
    async fn intent_of(&self, view: &View, id: SiteId) -> Result<Intent> {
        let site = self.site_of(view, id).await?;
        let jobs = view.jobs_at_site(id, &JobState::BOUND).await?;
        let waiting = view.jobs_at_site(id, &[JobState::Queued]).await?;
        let jobs_kept = waiting.iter().filter(|job| job.attempt > 0).map(|job| job.id).collect();
        let datasets = datasets_at(view, id).await?;
        // Read after the jobs: what they were sold is there.
        let catalogue = view.skus_all().await?;
        let endpoints = endpoints_wanted(view, id, &catalogue).await?;
        let mut attempts = Vec::with_capacity(jobs.len());
        for job in jobs {
            attempts.push(attempt_wanted(view, job, &catalogue).await?);
        }
        let serving: BTreeSet<OrganisationId> = endpoints.iter().map(|endpoint| endpoint.organisation).collect();
        let mut present = serving.clone();
        present.extend(attempts.iter().map(|attempt| attempt.organisation));
        present.extend(datasets.iter().filter(|dataset| !dataset.delete).map(|dataset| dataset.organisation));
        let since = self.now().plus_seconds(-(GRANT_SECONDS_MAX + 60));
        let keys_revoked = view.keys_revoked_since(&present, since).await?;
        let mut organisations = Vec::with_capacity(present.len());
        for organisation in present {
            let owner = self.organisation_of(view, organisation).await?;
            let policies = if owner.policies == 0 { Vec::new() } else { policies_told(view, organisation).await? };
            organisations.push(SiteOrganisation { organisation, residency: owner.residency, policies });
        }
        let keys = self.keys_wanted(view, id, &serving).await?;
        Ok(Intent {
            revision: 0,
            site: as_told(site),
            made_at: Time::from_millis(0),
            attempts,
            jobs_kept,
            endpoints,
            datasets,
            keys,
            keys_revoked,
            organisations,
            allowances: allowance::granted_at(view, id).await?,
            price_books: view.price_books_all().await?,
        })
    }

    /// The keys that may ask for inference: of the organisations served here, in roles that policy lets ask.
    async fn keys_wanted(&self, view: &View, site: SiteId, serving: &BTreeSet<OrganisationId>) -> Result<Vec<SiteKey>> {
        if serving.is_empty() {
            return Ok(Vec::new());
        }
        let (now, mut wanted) = (self.now(), Vec::new());
        // Policy speaks of role and owner, not of single keys: one question a role is enough.
        let mut answers = BTreeMap::new();
        let mut working = Vec::new();
        let mut permitting = BTreeSet::new();
        for organisation in serving {
            let owner = self.organisation_of(view, *organisation).await?;
            if self.own_of(view, &owner).await?.is_some_and(|own| own.has_permits()) {
                permitting.insert(*organisation);
            }
            let keys = view.keys_working(*organisation, None, now).await?;
            working.extend(keys.into_iter().map(|key| (*organisation, key)));
        }
        for (organisation, key) in working {
            // What a key leaves out at this site altogether is not told to it.
            let asks = key.scope.actions.as_ref().is_none_or(|actions| actions.contains(&Action::EndpointInfer));
            let comes_here = key.scope.sites.as_ref().is_none_or(|sites| sites.contains(&site));
            if !(asks && comes_here) {
                continue;
            }
            let project = key.project.unwrap_or(gregal_core::id::ProjectId::from_u128(0));
            let may_infer = *answers.entry(key.role).or_insert_with(|| {
                let any = Resource::within(ResourceKind::Endpoint, organisation, project, EndpointId::from_u128(0));
                self.policies().authorize(&Principal::from(&key), Action::EndpointInfer, &any).is_allowed()
            });
            // Where an organisation permits by itself, the site decides with its policies: it has to know the keys.
            if may_infer || permitting.contains(&organisation) {
                wanted.push(SiteKey {
                    key: key.id,
                    digest: key.digest,
                    role: key.role,
                    organisation,
                    project: key.project,
                    account: key.account,
                    scope: key.scope,
                    expires_at: key.expires_at,
                });
            }
        }
        Ok(wanted)
    }
}

async fn attempt_wanted(view: &View, job: Job, catalogue: &Catalogue) -> Result<WantedAttempt> {
    let mut inputs = Vec::new();
    for dataset in inputs_of(&job.program) {
        let digest = view.dataset_get(dataset).await?.and_then(|dataset| dataset.digest);
        inputs.push((dataset, digest.ok_or_else(|| Error::Broken(format!("{dataset} of {} has no digest", job.id)))?));
    }
    let sku = catalogue.sku(&job.sku).cloned();
    let leave_by = match job.reservation {
        Some(id) => {
            let found = view.reservation_get(id).await?;
            let gone = || Error::Broken(format!("{id}, in which {} runs, is not there", job.id));
            Some(found.ok_or_else(gone)?.leave_by())
        }
        None => None,
    };
    Ok(WantedAttempt {
        job: job.id,
        attempt: job.attempt,
        organisation: job.organisation,
        project: job.project,
        program: job.program,
        inputs,
        sku: sku.ok_or_else(|| Error::Broken(format!("{} was sold `{}`, which is gone", job.id, job.sku)))?,
        seconds_max: job.seconds_max,
        billed: job.billed,
        cancel: job.state == JobState::Cancelling,
        preempt: job.state == JobState::Stopping,
        leave_by,
    })
}

async fn endpoints_wanted(view: &View, site: SiteId, catalogue: &Catalogue) -> Result<Vec<WantedEndpoint>> {
    let mut wanted = Vec::new();
    for endpoint in view.endpoints_live_at_site(site).await?.into_iter().filter(Endpoint::is_for_site) {
        let (model_digest, price) = if let Some(shared) = &endpoint.shared {
            (String::new(), shared.price_item.clone())
        } else {
            let gone = || Error::Broken(format!("{} of {} is not there", endpoint.model, endpoint.id));
            let model = view.model_get(endpoint.model).await?.ok_or_else(gone)?;
            (model.digest, price_item(model.parameters).into())
        };
        wanted.push(WantedEndpoint {
            endpoint: endpoint.id,
            organisation: endpoint.organisation,
            project: endpoint.project,
            name: endpoint.name,
            model: endpoint.model,
            model_digest,
            price_item: price,
            shared: endpoint.shared.map(|shared| shared.name),
            sku: catalogue.sku(&endpoint.sku).cloned(),
            held_ms: endpoint.held_ms,
            billed: endpoint.billed,
            drain: endpoint.state == EndpointState::Draining,
        });
    }
    Ok(wanted)
}

/// A site as it is told of itself: its facts, without what changes with every sync and without the digest of its secret.
fn as_told(site: Site) -> Site {
    Site { secret_digest: String::new(), capacity: None, lease_until: None, incarnation: None, version: 0, ..site }
}

/// What an organisation wrote for itself, as its sites are told.
async fn policies_told(view: &View, organisation: OrganisationId) -> Result<Vec<SitePolicy>> {
    let told = |one: OwnPolicy| SitePolicy { project: one.project, name: one.name, text: one.text };
    Ok(view.policies_of_organisation(organisation).await?.into_iter().map(told).collect())
}

/// Every dataset at a site; a removed one stays until the site has removed its bytes.
async fn datasets_at(view: &View, site: SiteId) -> Result<Vec<WantedDataset>> {
    let wanted = |dataset: Dataset| WantedDataset {
        dataset: dataset.id,
        organisation: dataset.organisation,
        project: dataset.project,
        delete: dataset.state == DatasetState::Deleted,
        digest: dataset.digest,
    };
    Ok(view.datasets_at_site(site).await?.into_iter().map(wanted).collect())
}

async fn given_to(view: &View, site: SiteId) -> Result<Given> {
    let Some(bytes) = view.meta_get(&row_name(site)).await? else { return Ok(Given::default()) };
    serde_json::from_slice(&bytes)
        .map_err(|error| Error::Broken(format!("the intent row of {site} cannot be read: {error}")))
}

fn row_name(site: SiteId) -> String {
    format!("intent.{site}")
}

/// What an intent says, without its number and date, as one digest. What was charged is left out: it changes with every
/// record that arrives, and only a site that lost its own count waits for it.
fn digest_of(intent: &Intent) -> Result<String> {
    assert!(intent.revision == 0 && intent.made_at == Time::from_millis(0), "only an unnumbered intent is compared");
    let allowances = intent.allowances.iter().map(|one| Allowance { charged: Nano::ZERO, ..one.clone() }).collect();
    let endpoints =
        intent.endpoints.iter().map(|one| WantedEndpoint { billed: Billed::default(), ..one.clone() }).collect();
    let body = serde_json::to_vec(&Intent { allowances, endpoints, ..intent.clone() })
        .map_err(|error| Error::Broken(error.to_string()))?;
    Ok(hex::encode(Sha256::digest(body)))
}
