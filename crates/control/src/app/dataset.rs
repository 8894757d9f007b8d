//! Datasets: announced here, stored at a site. Control learns digest and size from the site, never the bytes.

use gregal_api::{
    dataset::{DatasetCreate, DatasetCreated},
    grant::GrantPurpose,
    problem::{Code, Problem},
};
use gregal_core::{
    access::Action,
    dataset::{Dataset, DatasetState},
    id::{DatasetId, ProjectId},
    job::{JobState, Program},
    organisation::Project,
    site::Site,
};
use gregal_policy::{Placement, Resource, ResourceKind};
use gregal_store::{Listed, Page, View};

use crate::{
    Control, Cx, Error, Result,
    app::{limit, site::site_found},
    context::Facts as _,
    names,
    wakes::Wake,
};

impl Control {
    /// Announces a dataset at a lawful site, and gives leave to store its bytes there.
    pub(crate) async fn dataset_create(
        &self,
        cx: &Cx,
        project: ProjectId,
        wanted: DatasetCreate,
    ) -> Result<DatasetCreated> {
        let (project, policies) =
            self.project_seen_for(cx, project, Action::DatasetCreate, wanted.site.as_deref(), Vec::new()).await?;
        names::file_label("name", &wanted.name)?;
        let tx = self.begin(cx).await?;
        let (site, url) = self.dataset_site(cx, &tx, &project, wanted.site.as_deref()).await?;
        let kept = (Code::Conflict, "datasets");
        let there = tx.datasets_kept_count(project.id).await?;
        limit::one_more(there, limit::DATASETS_KEPT_MAX, kept, "delete one that is not needed")?;
        let dataset = Dataset {
            id: DatasetId::new(self.world()),
            organisation: project.organisation,
            project: project.id,
            site: site.id,
            name: wanted.name,
            state: DatasetState::Pending,
            digest: None,
            bytes: None,
            created_at: cx.now,
            deleted_at: None,
            is_gone: false,
            version: 1,
        };
        tx.dataset_insert(&dataset).await?;
        let grant =
            self.grant_signed(cx, (GrantPurpose::DatasetWrite, dataset.id.to_string()), (&project, site.id, url))?;
        let kept = DatasetCreated { dataset: (&dataset).into(), grant: None };
        let entry = cx
            .done(Some(project.organisation), Action::DatasetCreate.as_str(), dataset.id)
            .by(&policies)
            .fact("site", site.id.to_string())
            .fact("residency", self.residency_facts(&tx, project.organisation, site.id).await?)
            .fact("grant_until", grant.expires_at.to_string());
        self.finish_created(cx, tx, &[entry], Wake::Sites, &kept).await?;
        Ok(DatasetCreated { grant: Some(grant), ..kept })
    }

    /// The site asked for if it is lawful, else the first lawful one that answers.
    async fn dataset_site(
        &self,
        cx: &Cx,
        view: &View,
        project: &Project,
        asked: Option<&str>,
    ) -> Result<(Site, String)> {
        let organisation = self.organisation_of(view, project.organisation).await?;
        let own = self.own_of(view, &organisation).await?;
        let place =
            |site: &Site| self.policies().place_within(&organisation.residency, site, Placement::Dataset, own.as_ref());
        let site = if let Some(asked) = asked {
            let site = site_found(view, asked).await?;
            let verdict = place(&site);
            if !verdict.allowed {
                return Err(Error::residency(&verdict, Placement::Dataset));
            }
            site
        } else {
            let sites = view.sites_all().await?;
            let (lawful, refused): (Vec<_>, Vec<_>) =
                sites.into_iter().map(|site| (place(&site), site)).partition(|(verdict, _)| verdict.allowed);
            let alive = lawful.iter().find(|(_, site)| site.alive_at(cx.now));
            match (alive.or_else(|| lawful.first()), refused.first()) {
                (Some((_, site)), _) => site.clone(),
                (None, Some((verdict, _))) => return Err(Error::residency(verdict, Placement::Dataset)),
                (None, None) => return Err(Error::refused(Code::Unavailable, "this cloud has no site yet")),
            }
        };
        match site.url.clone() {
            Some(url) => Ok((site, url)),
            None => Err(never_dialled_in(&site)),
        }
    }

    /// A project's datasets.
    pub(crate) async fn datasets_list(&self, cx: &Cx, project: ProjectId, page: &Page) -> Result<Listed<Dataset>> {
        let (project, _) = self.project_seen(cx, project, Action::DatasetRead).await?;
        Ok(self.store().datasets_list(project.id, page).await?)
    }

    /// A dataset.
    pub(crate) async fn dataset_read(&self, cx: &Cx, id: DatasetId) -> Result<Dataset> {
        Ok(self.dataset_seen(cx, id, Action::DatasetRead).await?.0)
    }

    async fn dataset_seen(&self, cx: &Cx, id: DatasetId, action: Action) -> Result<(Dataset, Vec<String>)> {
        let dataset = self.store().dataset_get(id).await?.ok_or_else(|| Error::missing("dataset", id))?;
        let resource = Resource::within(ResourceKind::Dataset, dataset.organisation, dataset.project, id);
        let resource = resource.at(dataset.site);
        let policies = self.authorize(cx, action, &resource).await?;
        Ok((dataset, policies))
    }

    /// Removes a dataset: its site deletes the bytes. Refused while a job that has not ended learns from it.
    pub(crate) async fn dataset_delete(&self, cx: &Cx, id: DatasetId) -> Result<Dataset> {
        let (_, policies) = self.dataset_seen(cx, id, Action::DatasetDelete).await?;
        let tx = self.begin(cx).await?;
        let before = tx.dataset_get(id).await?.ok_or_else(|| Error::missing("dataset", id))?;
        if before.state == DatasetState::Deleted {
            return Ok(before);
        }
        let waiting = tx.jobs_at_site(before.site, &JobState::NOT_ENDED).await?;
        if let Some(job) = waiting.iter().find(|job| inputs_of(&job.program).contains(&id)) {
            let detail = format!("job `{}` uses this dataset and has not ended", job.name);
            return Err(Problem::new(Code::Conflict, detail).hint("cancel the job or wait for its end").into());
        }
        let version = before.version + 1;
        let after = Dataset { state: DatasetState::Deleted, deleted_at: Some(cx.now), version, ..before };
        tx.dataset_update(&after).await?;
        let entry = cx.done(Some(after.organisation), Action::DatasetDelete.as_str(), id).by(&policies);
        self.finish(cx, tx, &[entry], Wake::Sites).await?;
        Ok(after)
    }
}

/// The datasets a program reads.
pub(crate) fn inputs_of(program: &Program) -> Vec<DatasetId> {
    match program {
        Program::Train { dataset, heldout, base_model, .. } => {
            [Some(*dataset), *heldout, *base_model].into_iter().flatten().collect()
        }
        Program::Command { inputs, .. } => inputs.clone(),
    }
}

/// Nobody knows yet where a site can be reached.
pub(crate) fn never_dialled_in(site: &Site) -> Error {
    let detail = format!("site `{}` has never dialled in: nobody knows where to reach it", site.name);
    Problem::new(Code::Unavailable, detail).hint("start the site, or ask for another one").into()
}
