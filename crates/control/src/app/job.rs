//! Jobs: admitted with their worst case held, then scheduled, observed and settled elsewhere.

use gregal_api::{
    job::{JobCreate, JobView},
    problem::{Code, Problem},
};
use gregal_core::{
    access::Action,
    dataset::DatasetState,
    id::{HoldId, JobId, OrganisationId, ProjectId},
    job::{Billed, Job, JobEnd, JobMove, JobState, PRIORITY_DEFAULT, PRIORITY_MAX, Program, Progress},
    meter::RateError,
    money::Nano,
    organisation::Project,
    price::{self, PriceBook},
    quote,
    schedule::{self, Decision, Snapshot, Waiting},
    site::Site,
    sku::{Catalogue, Sku},
};
use gregal_policy::{Placement, Resource, ResourceKind};
use gregal_store::{Listed, Page, Tx, View};

use crate::{
    Control, Cx, Error, Result,
    app::{dataset::inputs_of, limit, money::HoldFor, site::site_found, sku::rentable},
    context::Facts as _,
    metrics::Metric,
    names,
    tasks::schedule::{item, room},
    wakes::Wake,
};

/// The longest a job may ask for, in seconds: 30 days.
const SECONDS_MAX: u32 = 2_592_000;
/// The most jobs of one organisation that have not ended.
const JOBS_WAITING_MAX: u64 = 1_000;

impl Control {
    /// Admits a job: what it reads is there, its place is lawful, it can fit, and its worst case is held.
    pub(crate) async fn job_create(&self, cx: &Cx, project: ProjectId, wanted: JobCreate) -> Result<JobView> {
        let (project, policies) =
            self.project_seen_for(cx, project, Action::JobCreate, wanted.site.as_deref(), Vec::new()).await?;
        checked(&wanted)?;

        let tx = self.begin(cx).await?;
        let catalogue = tx.skus_all().await?;
        let booked = match wanted.reservation {
            Some(id) => tx.reservation_get(id).await?.filter(|one| one.is_for(project.organisation, project.id)),
            None => None,
        };
        let sku = match booked.filter(|one| one.sku == wanted.sku) {
            // What is booked and paid is there to be used, retired meanwhile or not.
            Some(one) => catalogue.sku(&one.sku).ok_or_else(|| Error::missing("sku", &one.sku))?,
            None => rentable(&catalogue, &wanted.sku)?,
        };
        let priority_max = self.organisation_of(&tx, project.organisation).await?.share.priority_max;
        let priority = priority(wanted.priority, priority_max)?;
        let site = self.job_site(&tx, &project, &wanted).await?;
        // By the prices of now, in the writer's turn: one may have been set while this waited for it.
        let (site, worst) = if let Some(reservation) = wanted.reservation {
            // It is within its quotas and paid for as it stands.
            let site = self.job_fits_reservation(cx, &tx, &project, reservation, (&wanted, sku), site).await?;
            (Some(site), Nano::ZERO)
        } else {
            self.quota_allows(&tx, &project, sku).await?;
            self.fits_somewhere(cx, &tx, project.organisation, site.as_ref(), sku).await?;
            (site, worst_case(&tx.price_books_all().await?, self.now(), sku, wanted.seconds_max)?)
        };
        self.not_too_many(&tx, project.organisation).await?;
        let not_ended = (Code::Overloaded, "jobs that have not ended");
        let there = tx.jobs_count(project.id, &JobState::NOT_ENDED).await?;
        limit::one_more(there, limit::JOBS_NOT_ENDED_MAX, not_ended, "wait for some to end, or cancel some")?;
        let id = JobId::new(self.world());
        let wanted_hold = HoldFor {
            organisation: project.organisation,
            project: Some(project.id),
            subject: id.to_string(),
            amount: worst,
            expires_at: None,
        };
        let what = format!("{} s of `{}` may cost {worst} EUR; that", wanted.seconds_max, sku.name);
        let hold = self.hold_place(&tx, wanted_hold, &what).await?;
        let job = queued(cx, id, &project, wanted, priority, site.as_ref(), hold.id)?;
        tx.job_insert(&job).await?;
        let answer = JobView::from(&job);
        let entry = cx
            .done(Some(project.organisation), Action::JobCreate.as_str(), id)
            .by(&policies)
            .fact("sku", job.sku.as_str())
            .fact("seconds_max", job.seconds_max)
            .fact("priority", job.priority)
            .fact("preemptible", job.preemptible)
            .fact("held_nano", worst.get());
        let entry = match job.reservation {
            Some(reservation) => entry.fact("reservation", reservation.to_string()),
            None => entry,
        };
        self.finish_created(cx, tx, &[entry], Wake::Schedule, &answer).await?;
        Ok(answer)
    }

    /// Where it must run: where its data is. None if it reads nothing and no site was asked for.
    async fn job_site(&self, tx: &Tx, project: &Project, wanted: &JobCreate) -> Result<Option<Site>> {
        let mut data_at: Option<Site> = None;
        for id in inputs_of(&wanted.program) {
            let missing = || Error::missing("dataset", id);
            // A dataset of another project is another project's business, in the same organisation too.
            let found = tx.dataset_get(id).await?.filter(|dataset| dataset.project == project.id);
            let dataset = found.ok_or_else(missing)?;
            match dataset.state {
                DatasetState::Stored => {}
                DatasetState::Deleted => return Err(missing()),
                DatasetState::Pending => {
                    let detail = format!("dataset `{}` has not arrived at its site yet", dataset.name);
                    return Err(Problem::new(Code::Conflict, detail).hint("store its bytes, then submit again").into());
                }
            }
            match &data_at {
                None => data_at = Some(self.site_of(tx, dataset.site).await?),
                Some(site) if site.id == dataset.site => {}
                Some(site) => {
                    let other = self.site_of(tx, dataset.site).await?;
                    let detail =
                        format!("its data is at `{}` and at `{}`: content does not move", site.name, other.name);
                    return Err(Problem::new(Code::NeverFits, detail).hint("store all of it at one site").into());
                }
            }
        }
        let asked = match &wanted.site {
            Some(asked) => Some(site_found(tx, asked).await?),
            None => None,
        };
        if let Some(asked) = &asked {
            self.lawful(tx, project.organisation, asked, Placement::Job).await?;
        }
        match (data_at, asked) {
            (Some(data), Some(asked)) if data.id != asked.id => {
                let detail = format!("its data is at `{}` and cannot be read at `{}`", data.name, asked.name);
                Err(Problem::new(Code::NeverFits, detail).hint("leave the site out, or store the data there").into())
            }
            (Some(data), _) => {
                self.lawful(tx, project.organisation, &data, Placement::Job).await?;
                Ok(Some(data))
            }
            (None, asked) => Ok(asked),
        }
    }

    /// Refuses at once what can never run: as the scheduler would see it on an empty cloud.
    async fn fits_somewhere(
        &self,
        cx: &Cx,
        view: &View,
        organisation: OrganisationId,
        site: Option<&Site>,
        sku: &Sku,
    ) -> Result<()> {
        let sites = match site {
            Some(site) => vec![site.clone()],
            None => view.sites_all().await?,
        };
        let owner = self.organisation_of(view, organisation).await?;
        let own = self.own_of(view, &owner).await?;
        let place = |site: &Site| self.policies().place_within(&owner.residency, site, Placement::Job, own.as_ref());
        let lawful: Vec<&Site> = sites.iter().filter(|site| place(site).allowed).collect();
        if let (true, Some(first)) = (lawful.is_empty(), sites.first()) {
            return Err(Error::residency(&place(first), Placement::Job));
        }
        let waiting = Waiting {
            job: JobId::from_u128(0),
            item: item(organisation, ProjectId::from_u128(0), sku),
            since: cx.now,
            sites: lawful.iter().map(|site| site.id).collect(),
            limit_ms: 1,
            promised: None,
        };
        let rooms = lawful.iter().map(|site| room(site, cx.now, [], &Catalogue::default())).collect();
        let snapshot = Snapshot { waiting: vec![waiting], rooms, ..Snapshot::default() };
        match schedule::schedule(&snapshot, cx.now).into_iter().next() {
            Some(Decision::Never { reason, .. }) => Err(Error::refused(Code::NeverFits, reason)),
            _ => Ok(()),
        }
    }

    async fn not_too_many(&self, view: &View, organisation: OrganisationId) -> Result<()> {
        let mine = view.jobs_waiting_count(organisation).await?;
        if mine < JOBS_WAITING_MAX {
            return Ok(());
        }
        let detail = format!("{mine} jobs of this organisation wait already, at most {JOBS_WAITING_MAX} may");
        Err(Problem::new(Code::Overloaded, detail).hint("wait for some to end, or cancel some").into())
    }

    /// A project's jobs.
    pub(crate) async fn jobs_list(&self, cx: &Cx, project: ProjectId, page: &Page) -> Result<Listed<Job>> {
        let (project, _) = self.project_seen(cx, project, Action::JobRead).await?;
        Ok(self.store().jobs_list(project.id, page).await?)
    }

    /// A job.
    pub(crate) async fn job_read(&self, cx: &Cx, id: JobId) -> Result<Job> {
        Ok(self.job_seen(cx, id, Action::JobRead).await?.0)
    }

    /// A job's progress beyond a step.
    pub(crate) async fn job_progress(
        &self,
        cx: &Cx,
        id: JobId,
        after: Option<u64>,
        limit: u32,
    ) -> Result<Vec<Progress>> {
        self.job_seen(cx, id, Action::JobRead).await?;
        Ok(self.store().job_progress_list(id, after, limit).await?)
    }

    pub(crate) async fn job_seen(&self, cx: &Cx, id: JobId, action: Action) -> Result<(Job, Vec<String>)> {
        let job = self.store().job_get(id).await?.ok_or_else(|| Error::missing("job", id))?;
        let resource = Resource::within(ResourceKind::Job, job.organisation, job.project, id).at(job.site);
        let policies = self.authorize(cx, action, &resource).await?;
        Ok((job, policies))
    }

    /// Cancels a job. One that waits ends at once; one that runs ends when its site has proved it. Cancelling again, or
    /// what has ended, changes nothing.
    pub(crate) async fn job_cancel(&self, cx: &Cx, id: JobId) -> Result<Job> {
        let (_, policies) = self.job_seen(cx, id, Action::JobCancel).await?;
        let tx = self.begin(cx).await?;
        let before = tx.job_get(id).await?.ok_or_else(|| Error::missing("job", id))?;
        let after = match before.state {
            JobState::Queued => {
                let end = JobEnd { code: None, reason: "stopped".into(), hint: None };
                self.job_ended(&tx, &before, end, JobState::Cancelled).await?
            }
            JobState::Starting | JobState::Running | JobState::Stopping => {
                let after = Job { told_at: Some(cx.now), ..before.apply(JobMove::AskCancel)? };
                tx.job_update(&after).await?;
                after
            }
            JobState::Cancelling | JobState::Succeeded | JobState::Failed | JobState::Cancelled => return Ok(before),
        };
        let entry = cx
            .done(Some(after.organisation), Action::JobCancel.as_str(), id)
            .by(&policies)
            .fact("state", after.state.as_str());
        self.finish(cx, tx, &[entry], Wake::Schedule).await?;
        Ok(after)
    }

    /// Ends a job and closes its hold, in the caller's transaction; answers the job as written.
    pub(crate) async fn job_ended(&self, tx: &Tx, job: &Job, end: JobEnd, state: JobState) -> Result<Job> {
        let after = job.apply(JobMove::End { end, state, at: self.now() })?;
        self.job_end_write(tx, &after).await?;
        Ok(after)
    }

    /// Writes a job that has ended, and closes its hold.
    pub(crate) async fn job_end_write(&self, tx: &Tx, ended: &Job) -> Result<()> {
        assert!(ended.state.is_final(), "{} is written as ended and is {}", ended.id, ended.state.as_str());
        tx.job_update(ended).await?;
        self.run_counted(tx, ended).await?;
        if let Some(hold) = tx.hold_get(ended.hold).await? {
            self.hold_close(tx, &hold, false).await?;
        }
        self.metrics().count(Metric::JobsEnded);
        Ok(())
    }
}

fn checked(wanted: &JobCreate) -> Result<()> {
    names::label("name", &wanted.name)?;
    if wanted.seconds_max == 0 || wanted.seconds_max > SECONDS_MAX {
        return Err(Error::invalid(format!("`seconds_max` is not from 1 to {SECONDS_MAX}")));
    }
    if wanted.priority.is_some_and(|priority| priority > PRIORITY_MAX) {
        return Err(Error::invalid(format!("`priority` is not from 0 to {PRIORITY_MAX}")));
    }
    match &wanted.program {
        Program::Train { model_name, settings, .. } => {
            names::label("program.model_name", model_name)?;
            if serde_json::to_string(settings).map_or(0, |text| text.len()) > 16_384 {
                return Err(Error::invalid("`program.settings` is larger than 16,384 bytes"));
            }
        }
        Program::Command { argv, inputs, .. } => {
            let bytes: usize = argv.iter().map(String::len).sum();
            let sane =
                argv.first().is_some_and(|program| !program.is_empty()) && argv.len() <= 1_000 && bytes <= 65_536;
            if !sane || argv.iter().any(|argument| argument.contains('\0')) {
                return Err(Error::invalid("`program.argv` is not 1 to 1,000 texts of at most 65,536 bytes together"));
            }
            if inputs.len() > 64 {
                return Err(Error::invalid("`program.inputs` has more than 64 datasets"));
            }
        }
    }
    Ok(())
}

/// The priority a job gets: what it asks for, if its organisation may.
fn priority(asked: Option<u8>, most: u8) -> Result<u8> {
    let Some(asked) = asked else { return Ok(PRIORITY_DEFAULT.min(most)) };
    if asked <= most {
        return Ok(asked);
    }
    let detail = format!("priority {asked} is higher than this organisation's jobs may ask for: at most {most}");
    Err(Problem::new(Code::Forbidden, detail).hint("ask for less, or ask the operator for a higher limit").into())
}

fn queued(
    cx: &Cx,
    id: JobId,
    project: &Project,
    wanted: JobCreate,
    priority: u8,
    site: Option<&Site>,
    hold: HoldId,
) -> Result<Job> {
    let preemptible = wanted.preemptible.unwrap_or(wanted.program.preemptible_unless_told());
    Ok(Job {
        id,
        organisation: project.organisation,
        project: project.id,
        submitted_by: cx.key()?.id,
        name: wanted.name,
        program: wanted.program,
        sku: wanted.sku,
        seconds_max: wanted.seconds_max,
        priority,
        preemptible,
        stops: 0,
        stopped_for: None,
        told_at: None,
        stopped_at: None,
        ready_at: None,
        state: JobState::Queued,
        promised: None,
        waits_for: Some("its turn: the scheduler has not looked at it yet".into()),
        waits_causes: Vec::new(),
        site: site.map(|site| site.id),
        attempt: 0,
        hold,
        reservation: wanted.reservation,
        billed: Billed::default(),
        progress: None,
        heldout: None,
        end: None,
        model: None,
        created_at: cx.now,
        started_at: None,
        ended_at: None,
        version: 1,
    })
}

/// The most a job can cost: its whole shape for its whole time, rounded up, by the dearest book it may meet.
fn worst_case(books: &[PriceBook], now: gregal_core::time::Time, sku: &Sku, seconds_max: u32) -> Result<Nano> {
    let worst =
        price::dearest(books, now, |book| quote::job(book, sku, seconds_max.into())).map_err(|error| match error {
            RateError::Overflow(overflow) => Error::from(overflow),
            no_price => Error::Broken(no_price.to_string()),
        })?;
    worst.map(|(_, amount)| amount).ok_or_else(|| Error::Broken("no price book holds now".into()))
}
