//! Grants: short-lived leave for content at a site. Control signs it and never sees the content.

use gregal_api::{
    grant::{GRANT_SECONDS_MAX, GrantBody, GrantCreate, GrantCreated, GrantPurpose},
    problem::{Code, Problem},
};
use gregal_core::{
    access::Action,
    dataset::DatasetState,
    id::{DatasetId, EndpointId, IdError, JobId, ProjectId, SiteId},
    organisation::Project,
};
use gregal_policy::{Resource, ResourceKind};

use crate::{
    Control, Cx, Error, Result,
    app::{dataset::never_dialled_in, endpoint::names_of},
    context::Facts as _,
    wakes::Wake,
};

/// What a grant is about, found and fit for it.
struct About {
    kind: ResourceKind,
    id: String,
    project: ProjectId,
    site: Option<SiteId>,
    /// What it is called, where keys may be narrowed to names.
    names: Vec<String>,
    /// Why it cannot be granted now, if so.
    unfit: Option<&'static str>,
}

impl Control {
    /// Gives a grant, if the key may do at the site what the grant allows.
    pub(crate) async fn grant_create(&self, cx: &Cx, project: ProjectId, wanted: GrantCreate) -> Result<GrantCreated> {
        let project = self.store().project_get(project).await?.ok_or_else(|| Error::missing("project", project))?;
        // Found first, because a key may be narrowed to some sites and models; told only to whoever sees the project.
        let about = self.grant_about(&wanted).await;
        let (site, names) = about.as_ref().map_or((None, Vec::new()), |about| (about.site, about.names.clone()));
        let whole = Resource::project(project.organisation, project.id).at(site).called(names);
        let mut policies = self.authorize(cx, Action::GrantCreate, &whole).await?;
        let about = about?;
        let noun = about.kind.as_str().to_lowercase();
        if about.project != project.id {
            return Err(Error::missing(&noun, &about.id));
        }
        let resource = Resource::within(about.kind, project.organisation, project.id, &about.id);
        let resource = resource.at(about.site).called(about.names.clone());
        policies.extend(self.authorize(cx, action_of(wanted.purpose), &resource).await?);
        if let Some(why) = about.unfit {
            return Err(Error::refused(Code::Conflict, format!("{noun} `{}` {why}", about.id)));
        }
        let site = match about.site {
            Some(site) => self.site_of(self.store(), site).await?,
            None => return Err(Error::refused(Code::Conflict, format!("{noun} `{}` is at no site yet", about.id))),
        };
        let url = site.url.clone().ok_or_else(|| never_dialled_in(&site))?;
        let grant = self.grant_signed(cx, (wanted.purpose, about.id.clone()), (&project, site.id, url))?;
        let entry = cx
            .done(Some(project.organisation), Action::GrantCreate.as_str(), &about.id)
            .by(&policies)
            .fact("purpose", serde_json::to_value(wanted.purpose).unwrap_or_default())
            .fact("until", grant.expires_at.to_string());
        match self.begin(cx).await {
            Ok(tx) => {
                let kept = GrantCreated { grant: String::new(), ..grant.clone() };
                self.finish_created(cx, tx, &[entry], Wake::Nobody, &kept).await?;
            }
            // The credential of the first answer was not kept. Who may have it may have it again, so a repetition gets a
            // fresh one: the same leave, written down as given again.
            Err(Error::Replayed(_)) => {
                let tx = self.store().begin().await?;
                self.finish(cx, tx, &[entry.fact("again", true)], Wake::Nobody).await?;
            }
            Err(error) => return Err(error),
        }
        Ok(grant)
    }

    /// A grant for an object at a site, signed.
    pub(crate) fn grant_signed(
        &self,
        cx: &Cx,
        (purpose, object): (GrantPurpose, String),
        (project, site, url): (&Project, SiteId, String),
    ) -> Result<GrantCreated> {
        let expires_at = cx.now.plus_seconds(GRANT_SECONDS_MAX);
        // What a key opens ends with it.
        let expires_at = cx.key()?.expires_at.map_or(expires_at, |end| end.min(expires_at));
        let body = GrantBody {
            site,
            purpose,
            object,
            organisation: project.organisation,
            project: project.id,
            key: cx.key()?.id,
            networks: cx.key()?.scope.networks.clone(),
            expires_at,
        };
        Ok(GrantCreated { grant: self.signer().grant(&body), url, expires_at })
    }

    async fn grant_about(&self, wanted: &GrantCreate) -> Result<About> {
        let store = self.store();
        let expected = |error: IdError| {
            Error::invalid(format!("`object` is not a {} id, one looks like `{}_01jd3h...`", error.noun, error.prefix))
        };
        match wanted.purpose {
            GrantPurpose::DatasetWrite | GrantPurpose::DatasetRead => {
                let id: DatasetId = wanted.object.parse().map_err(expected)?;
                let dataset = store.dataset_get(id).await?.ok_or_else(|| Error::missing("dataset", id))?;
                let unfit = match (wanted.purpose, dataset.state) {
                    (_, DatasetState::Deleted) => Some("was removed"),
                    (GrantPurpose::DatasetWrite, DatasetState::Stored) => Some("is stored already and never changes"),
                    (GrantPurpose::DatasetRead, DatasetState::Pending) => Some("has not arrived yet"),
                    _ => None,
                };
                Ok(About {
                    kind: ResourceKind::Dataset,
                    id: id.to_string(),
                    project: dataset.project,
                    site: Some(dataset.site),
                    names: Vec::new(),
                    unfit,
                })
            }
            GrantPurpose::JobLogs => {
                let id: JobId = wanted.object.parse().map_err(expected)?;
                let job = store.job_get(id).await?.ok_or_else(|| Error::missing("job", id))?;
                let unfit = (job.attempt == 0).then_some("has not started anywhere yet: it has no log");
                Ok(About {
                    kind: ResourceKind::Job,
                    id: id.to_string(),
                    project: job.project,
                    site: job.site,
                    names: Vec::new(),
                    unfit,
                })
            }
            GrantPurpose::ModelRead => {
                // No site gives out weights yet: a grant for them would open nothing.
                let detail = "the files of a model cannot be read out of its site yet";
                Err(Problem::new(Code::NotImplemented, detail)
                    .hint("serve the model at its site with an endpoint; `gregal model show` reads its facts")
                    .into())
            }
            GrantPurpose::Infer => {
                let id: EndpointId = wanted.object.parse().map_err(expected)?;
                let endpoint = store.endpoint_get(id).await?.ok_or_else(|| Error::missing("endpoint", id))?;
                Ok(About {
                    kind: ResourceKind::Endpoint,
                    id: id.to_string(),
                    project: endpoint.project,
                    site: Some(endpoint.site),
                    names: names_of(&endpoint).to_vec(),
                    unfit: endpoint.state.is_final().then_some("has ended"),
                })
            }
        }
    }
}

/// What a key must be allowed in order to get a grant for it.
const fn action_of(purpose: GrantPurpose) -> Action {
    match purpose {
        GrantPurpose::DatasetWrite => Action::DatasetCreate,
        GrantPurpose::DatasetRead => Action::DatasetRead,
        GrantPurpose::JobLogs => Action::JobRead,
        GrantPurpose::ModelRead => Action::ModelRead,
        GrantPurpose::Infer => Action::EndpointInfer,
    }
}
