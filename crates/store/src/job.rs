//! Jobs: work that runs to completion.

use gregal_core::{
    id::{JobId, OrganisationId, ProjectId, SiteId},
    job::{Job, JobState},
};
use sea_orm::{ColumnTrait, Condition};

use crate::{Listed, Page, Result, Tx, View, noun};

noun::row!(Job, "jobs", "job" [changed] {
    organisation: String = |it| it.organisation.to_string();
    project: String = |it| it.project.to_string();
    site: Option<String> = |it| it.site.map(|id| id.to_string());
    state: String = |it| it.state.as_str().to_owned();
});

fn in_states(states: &[JobState]) -> Condition {
    Condition::all().add(row::Column::State.is_in(states.iter().map(|state| state.as_str())))
}

impl View {
    /// The job with this id.
    pub async fn job_get(&self, id: JobId) -> Result<Option<Job>> {
        self.noun_get(&id.to_string()).await
    }

    /// A project's jobs, oldest first.
    pub async fn jobs_list(&self, project: ProjectId, page: &Page) -> Result<Listed<Job>> {
        self.nouns_page(Condition::all().add(row::Column::Project.eq(project.to_string())), page).await
    }

    /// How many jobs of a project are in one of these states.
    pub async fn jobs_count(&self, project: ProjectId, states: &[JobState]) -> Result<u64> {
        self.nouns_count::<Job>(in_states(states).add(row::Column::Project.eq(project.to_string()))).await
    }

    /// How many jobs of an organisation wait.
    pub async fn jobs_waiting_count(&self, organisation: OrganisationId) -> Result<u64> {
        let waiting = in_states(&[JobState::Queued]);
        self.nouns_count::<Job>(waiting.add(row::Column::Organisation.eq(organisation.to_string()))).await
    }

    /// Every job in one of these states, oldest first.
    pub async fn jobs_in_states(&self, states: &[JobState]) -> Result<Vec<Job>> {
        self.nouns_all(in_states(states)).await
    }

    /// Jobs written at a mark or after it, whatever their state ([`View::mark_read`]).
    pub async fn jobs_changed(&self, since: u64) -> Result<Vec<Job>> {
        self.nouns_changed(row::Column::Changed, since).await
    }

    /// Jobs that have ended, the newest submitted first, at most so many.
    pub async fn jobs_ended_newest(&self, limit: u64) -> Result<Vec<Job>> {
        const ENDED: [JobState; 3] = [JobState::Succeeded, JobState::Failed, JobState::Cancelled];
        self.nouns_newest(in_states(&ENDED), limit).await
    }

    /// Every job of a site in one of these states, oldest first.
    pub async fn jobs_at_site(&self, site: SiteId, states: &[JobState]) -> Result<Vec<Job>> {
        self.nouns_all(in_states(states).add(row::Column::Site.eq(site.to_string()))).await
    }
}

impl Tx {
    /// Adds a job.
    pub async fn job_insert(&self, job: &Job) -> Result<()> {
        self.noun_insert(job).await
    }

    /// Writes a changed job; the stored one must be one version behind.
    pub async fn job_update(&self, job: &Job) -> Result<()> {
        self.noun_update(job).await
    }
}
