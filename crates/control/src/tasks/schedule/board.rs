//! What the scheduler knows, kept between passes: rows are read once and again only when they changed, and the snapshot is
//! mended where they did.
//!
//! Exact, not a guess: the rows' own tables say what was written since ([`View::mark_read`]), whoever wrote it, so that
//! several control planes over one database each keep a board of their own. A board that is made anew from the rows must
//! show the same; builds with debug assertions look at every pass whether it does.

use std::collections::{BTreeMap, BTreeSet};

use gregal_core::{
    endpoint::Endpoint,
    id::{EndpointId, JobId, OrganisationId, SiteId},
    job::{Job, JobState, Program},
    organisation::Organisation,
    reservation::{Reservation, ReservationState},
    schedule::{Decision, QuotaRow, Room, Run, Snapshot, Waiting, Weight, record::Change},
    site::Site,
    sku::Catalogue,
    time::Time,
    used::Used,
};
use gregal_policy::{OwnPolicies, Placement, Policies};
use gregal_store::View;

use super::facts;
use crate::{
    Error, Result,
    own::compiled,
    tasks::{replica, reservation},
};

/// How many ended jobs count for what they teach: those submitted last.
const RUNS_KEPT: u64 = gregal_core::schedule::PAST_MAX as u64 / 4;

/// What the scheduler knows, as of a mark.
#[derive(Debug, Default)]
pub(super) struct Board {
    /// Where the audit log stood when it was read; none before the first time.
    mark: Option<u64>,
    /// Jobs that have not ended, without what no pass looks at.
    jobs: BTreeMap<JobId, Job>,
    bound_at: BTreeMap<SiteId, BTreeSet<JobId>>,
    /// The jobs that ended, newest submitted, and what each taught.
    ended: BTreeMap<JobId, Option<Run>>,
    endpoints: BTreeMap<EndpointId, Endpoint>,
    endpoints_at: BTreeMap<SiteId, BTreeSet<EndpointId>>,
    /// The reservations that are not over. Few, and what they come to goes by the clock: read whole, and what they touch is
    /// made anew each time.
    reservations: Vec<Reservation>,
    /// Queued jobs that are to run in one.
    inside: BTreeSet<JobId>,
    /// The rooms of those that have begun, by site.
    own_rooms: BTreeMap<SiteId, BTreeSet<SiteId>>,
    catalogue: Catalogue,
    sites: BTreeMap<SiteId, Site>,
    organisations: BTreeMap<OrganisationId, Organisation>,
    /// What organisations wrote for themselves, of those that did.
    own: BTreeMap<OrganisationId, OwnPolicies>,
    /// Where an organisation's content may be, as far as somebody asked.
    lawful: BTreeMap<(OrganisationId, Placement), Vec<SiteId>>,
    quotas_mark: Option<(u64, u64)>,
    /// From when until when a room looks as it does if no row changes.
    rooms_hold: BTreeMap<SiteId, (Time, Time)>,
    stale: Stale,
    snapshot: Snapshot,
    touched: Touched,
}

/// What of the snapshot is to be made again.
#[derive(Debug, Default)]
struct Stale {
    waiting: BTreeSet<JobId>,
    rooms: BTreeSet<SiteId>,
    runs: BTreeSet<JobId>,
    used: BTreeMap<(OrganisationId, String), Used>,
    quotas: Option<Vec<QuotaRow>>,
    weights: bool,
}

/// What of the snapshot is not as it was when a pass was recorded last.
#[derive(Debug, Default)]
struct Touched {
    /// And whether they stood in it then.
    waiting: BTreeMap<JobId, bool>,
    rooms: BTreeSet<SiteId>,
    runs: BTreeSet<JobId>,
    used: BTreeSet<(OrganisationId, String)>,
    quotas: bool,
    weights: bool,
}

impl Board {
    /// Takes in what changed since it was read last. `mark` was read before anything that is read here.
    pub(super) async fn read(&mut self, view: &View, mark: u64) -> Result<()> {
        match self.mark {
            // The log never gets shorter; were it so, it would be another one.
            Some(seen) if seen <= mark => self.read_changed(view, seen).await?,
            _ => self.read_all(view).await?,
        }
        self.mark = Some(mark);
        Ok(())
    }

    async fn read_all(&mut self, view: &View) -> Result<()> {
        *self = Self::default();
        self.organisations_read(view, 0).await?;
        self.sites_put(view.sites_all().await?);
        self.endpoints_put(view.endpoints_live().await?);
        let (live, ended) =
            (view.jobs_in_states(&JobState::NOT_ENDED).await?, view.jobs_ended_newest(RUNS_KEPT).await?);
        // Read after the jobs: what they ask for is there, and a SKU never goes.
        self.catalogue = view.skus_all().await?;
        for job in live.into_iter().chain(ended) {
            self.job_put(job);
        }
        self.reservations_put(view.reservations_live().await?);
        self.used_put(view.used_changed(0).await?);
        self.quotas_read(view).await
    }

    async fn read_changed(&mut self, view: &View, since: u64) -> Result<()> {
        self.organisations_read(view, since).await?;
        self.sites_put(view.sites_changed(since).await?);
        self.endpoints_put(view.endpoints_changed(since).await?);
        let jobs = view.jobs_changed(since).await?;
        self.catalogue = view.skus_all().await?;
        for job in jobs {
            self.job_put(job);
        }
        self.reservations_put(view.reservations_live().await?);
        self.used_put(view.used_changed(since).await?);
        self.quotas_read(view).await
    }

    async fn quotas_read(&mut self, view: &View) -> Result<()> {
        let mark = view.quotas_mark().await?;
        if self.quotas_mark != Some(mark) {
            self.stale.quotas = Some(view.quotas_all().await?.into_iter().map(facts::quota_row).collect());
            self.quotas_mark = Some(mark);
        }
        Ok(())
    }

    fn reservations_put(&mut self, live: Vec<Reservation>) {
        // Sites that had one and have none now are looked at once more.
        self.stale.rooms.extend(self.reservations.iter().map(|one| one.site));
        self.reservations = live;
    }

    async fn organisations_read(&mut self, view: &View, since: u64) -> Result<()> {
        let changed = view.organisations_changed(since).await?;
        for organisation in &changed {
            let before = self.organisations.get(&organisation.id).map_or(0, |before| before.policies);
            if before != organisation.policies {
                let rows = view.policies_of_organisation(organisation.id).await?;
                self.own.insert(organisation.id, compiled(organisation.id, &rows));
                self.lawful.retain(|(owner, _), _| *owner != organisation.id);
                self.stale.waiting.extend(self.waiting_all());
            }
        }
        self.organisations_put(changed);
        Ok(())
    }

    fn organisations_put(&mut self, changed: Vec<Organisation>) {
        for organisation in changed {
            let before = self.organisations.get(&organisation.id);
            if before.is_none_or(|before| before.share.weight != organisation.share.weight) {
                self.stale.weights = true;
            }
            if before.is_some_and(|before| before.residency != organisation.residency) {
                self.lawful.retain(|(owner, _), _| *owner != organisation.id);
                self.stale.waiting.extend(self.waiting_all());
            }
            self.organisations.insert(organisation.id, organisation);
        }
    }

    fn sites_put(&mut self, changed: Vec<Site>) {
        for site in changed {
            let before = self.sites.get(&site.id);
            if before.is_none_or(|before| !facts::is_same_place(before, &site)) {
                self.lawful.clear();
                self.stale.waiting.extend(self.waiting_all());
            }
            self.stale.rooms.insert(site.id);
            self.sites.insert(site.id, site);
        }
    }

    fn endpoints_put(&mut self, changed: Vec<Endpoint>) {
        for endpoint in changed {
            self.stale.waiting.insert(replica::queued_as(endpoint.id));
            self.stale.rooms.insert(endpoint.site);
            // An endpoint stays at its site.
            let here = self.endpoints_at.entry(endpoint.site).or_default();
            if endpoint.state.is_final() {
                here.remove(&endpoint.id);
                self.endpoints.remove(&endpoint.id);
            } else {
                here.insert(endpoint.id);
                self.endpoints.insert(endpoint.id, endpoint);
            }
        }
    }

    fn job_put(&mut self, job: Job) {
        let id = job.id;
        if let Some(before) = self.jobs.remove(&id) {
            self.job_gone_from(&before);
        }
        if job.state.is_final() {
            return self.run_put(id, facts::ran(&job, &self.catalogue));
        }
        if job.state == JobState::Queued {
            self.stale.waiting.insert(id);
            if job.reservation.is_some() {
                self.inside.insert(id);
            }
        } else if let Some(site) = job.site {
            self.bound_at.entry(site).or_default().insert(id);
            self.stale.rooms.insert(site);
        }
        self.jobs.insert(id, slim(job));
    }

    fn job_gone_from(&mut self, before: &Job) {
        if before.state == JobState::Queued {
            self.stale.waiting.insert(before.id);
            self.inside.remove(&before.id);
        } else if let Some(site) = before.site {
            self.bound_at.entry(site).or_default().remove(&before.id);
            self.stale.rooms.insert(site);
        }
    }

    fn run_put(&mut self, job: JobId, run: Option<Run>) {
        self.stale.runs.insert(job);
        self.ended.insert(job, run);
        while self.ended.len() as u64 > RUNS_KEPT {
            let Some((oldest, _)) = self.ended.pop_first() else { break };
            self.stale.runs.insert(oldest);
        }
    }

    fn used_put(&mut self, changed: Vec<Used>) {
        self.stale.used.extend(changed.into_iter().map(|one| ((one.organisation, one.sku.clone()), one)));
    }

    fn waiting_all(&self) -> Vec<JobId> {
        self.snapshot.waiting.iter().map(|one| one.job).collect()
    }

    /// The job as the rows have it, without what no pass looks at; none if it does not wait.
    pub(super) fn queued(&self, id: JobId) -> Option<&Job> {
        self.jobs.get(&id).filter(|job| job.state == JobState::Queued)
    }

    /// The endpoint of this name in the queue, if it waits for room.
    pub(super) fn endpoint_waiting(&self, queued_as: JobId) -> Option<&Endpoint> {
        self.endpoints.get(&EndpointId::from_u128(queued_as.as_u128())).filter(|endpoint| replica::waits(endpoint))
    }

    fn reservation_of(&self, job: &Job) -> Option<&Reservation> {
        let id = job.reservation?;
        self.reservations.iter().find(|one| one.id == id)
    }

    /// What its reservation's time alone says of a job. None: the scheduler decides.
    fn said_of(&self, job: &Job, now: Time) -> Option<Decision> {
        job.reservation?;
        reservation::said_of(job, self.reservation_of(job), now)
    }

    /// What is said of jobs that wait for their reservation, where it is new.
    pub(super) fn outside(&self, now: Time) -> Vec<(&Job, Decision)> {
        let jobs = self.inside.iter().filter_map(|id| self.queued(*id));
        let said = jobs.filter_map(|job| Some((job, self.said_of(job, now)?)));
        let is_new = |(job, decision): &(&Job, Decision)| match decision {
            Decision::Wait { causes, reason, promise, .. } => {
                (&job.waits_causes, job.waits_for.as_ref(), &job.promised) != (causes, Some(reason), promise)
            }
            _ => true,
        };
        said.filter(is_new).collect()
    }

    /// Whether anything may wait: what is stale may.
    pub(super) fn is_idle(&self) -> bool {
        let stale = || self.stale.waiting.iter();
        self.snapshot.waiting.is_empty()
            && self.inside.is_empty()
            && stale().all(|id| self.queued(*id).is_none() && self.endpoint_waiting(*id).is_none())
    }

    /// Makes the snapshot what a pass at `now` looks at.
    pub(super) fn mend(&mut self, now: Time, policies: &Policies) -> Result<()> {
        self.stale.waiting.extend(&self.inside);
        self.stale.rooms.extend(self.reservations.iter().map(|one| one.site));
        self.waiting_mend(now, policies)?;
        self.rooms_mend(now);
        self.runs_mend();
        self.used_mend();
        if let Some(quotas) = self.stale.quotas.take().filter(|quotas| *quotas != self.snapshot.quotas) {
            self.snapshot.quotas = quotas;
            self.touched.quotas = true;
        }
        if std::mem::take(&mut self.stale.weights) {
            self.weights_mend();
        }
        Ok(())
    }

    /// The snapshot as it was mended last.
    pub(super) const fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    fn waiting_mend(&mut self, now: Time, policies: &Policies) -> Result<()> {
        if self.stale.waiting.is_empty() {
            return Ok(());
        }
        let mut came = Vec::new();
        for id in self.stale.waiting.clone() {
            came.extend(self.waiting_of(id, now, policies)?);
        }
        let stale = std::mem::take(&mut self.stale.waiting);
        let mut before: BTreeMap<JobId, Waiting> = BTreeMap::new();
        let taken = self.snapshot.waiting.extract_if(.., |one| stale.contains(&one.job));
        before.extend(taken.map(|one| (one.job, one)));
        for one in &came {
            if before.get(&one.job) != Some(one) {
                self.touched.waiting.entry(one.job).or_insert(before.contains_key(&one.job));
            }
            before.remove(&one.job);
        }
        for gone in before.into_keys() {
            self.touched.waiting.entry(gone).or_insert(true);
        }
        self.snapshot.waiting.extend(came);
        // Ids sort by birth: this is the order of submission.
        self.snapshot.waiting.sort_by_key(|one| one.job);
        Ok(())
    }

    fn waiting_of(&mut self, id: JobId, now: Time, policies: &Policies) -> Result<Option<Waiting>> {
        if let Some(job) = self.queued(id) {
            let (organisation, pinned) = (job.organisation, job.site);
            let lawful = self.lawful(organisation, Placement::Job, policies)?;
            let sites = lawful.iter().copied().filter(|site| pinned.is_none_or(|pinned| pinned == *site)).collect();
            let Some(job) = self.queued(id).filter(|job| self.said_of(job, now).is_none()) else { return Ok(None) };
            let asks = facts::waiting(job, sites, &self.catalogue)?;
            return Ok(Some(match self.reservation_of(job) {
                Some(one) if asks.sites.contains(&one.site) => reservation::asks_inside(asks, one, now),
                Some(_) => Waiting { sites: Vec::new(), ..asks },
                None => asks,
            }));
        }
        let Some(endpoint) = self.endpoint_waiting(id) else { return Ok(None) };
        let (organisation, place) = (endpoint.organisation, endpoint.site);
        let lawful = self.lawful(organisation, Placement::Replica, policies)?;
        let sites = lawful.iter().copied().filter(|site| *site == place).collect();
        self.endpoint_waiting(id).map(|endpoint| replica::asked(endpoint, sites, &self.catalogue)).transpose()
    }

    fn lawful(&mut self, owner: OrganisationId, what: Placement, policies: &Policies) -> Result<&[SiteId]> {
        let gone = || Error::Broken(format!("organisation `{owner}` has rows and is not there"));
        let residency = &self.organisations.get(&owner).ok_or_else(gone)?.residency;
        let (sites, own) = (&self.sites, self.own.get(&owner));
        Ok(self.lawful.entry((owner, what)).or_insert_with(|| {
            let lawful = |site: &&Site| policies.place_within(residency, site, what, own).allowed;
            sites.values().filter(lawful).map(|site| site.id).collect()
        }))
    }

    fn rooms_mend(&mut self, now: Time) {
        let mut stale = std::mem::take(&mut self.stale.rooms);
        let over = self.rooms_hold.iter().filter(|(_, (from, until))| now < *from || now >= *until);
        stale.extend(over.map(|(site, _)| *site));
        for id in stale {
            let Some(site) = self.sites.get(&id) else { continue };
            let ids = self.bound_at.get(&id).into_iter().flatten();
            let bound: Vec<&Job> = ids.filter_map(|job| self.jobs.get(job)).collect();
            let ids = self.endpoints_at.get(&id).into_iter().flatten();
            let endpoints = ids.filter_map(|endpoint| self.endpoints.get(endpoint));
            self.rooms_hold.insert(id, (now, facts::room_holds_until(site, now, &bound)));
            let outside = bound.iter().copied().filter(|job| job.reservation.is_none());
            let room = facts::room(site, now, outside, &self.catalogue);
            let room = replica::beside(room, endpoints, &self.catalogue);
            let begun = self.reservations.iter().filter(|one| one.site == id && one.state == ReservationState::Active);
            let mut rooms: Vec<Room> =
                begun.filter_map(|one| reservation::own_room(one, site, &bound, &self.catalogue, now)).collect();
            let own: BTreeSet<SiteId> = rooms.iter().map(|room| room.site).collect();
            rooms.push(reservation::beside(room, &self.reservations, &self.catalogue, now));
            for gone in self.own_rooms.insert(id, own.clone()).unwrap_or_default().difference(&own) {
                self.snapshot.rooms.retain(|room| room.site != *gone);
                self.touched.rooms.insert(*gone);
            }
            for room in rooms {
                self.room_put(room);
            }
        }
    }

    fn room_put(&mut self, room: Room) {
        let rooms = &mut self.snapshot.rooms;
        match rooms.binary_search_by_key(&room.site, |room| room.site) {
            Ok(place) if rooms[place] == room => {}
            Ok(place) => {
                self.touched.rooms.insert(room.site);
                rooms[place] = room;
            }
            Err(place) => {
                self.touched.rooms.insert(room.site);
                rooms.insert(place, room);
            }
        }
    }

    fn runs_mend(&mut self) {
        let stale = std::mem::take(&mut self.stale.runs);
        if stale.is_empty() {
            return;
        }
        let past = &mut self.snapshot.past;
        let gone = past.extract_if(.., |run| stale.contains(&run.job)).map(|run| run.job);
        self.touched.runs.extend(gone);
        let came = stale.iter().filter_map(|job| self.ended.get(job)?.clone());
        for run in came {
            self.touched.runs.insert(run.job);
            past.push(run);
        }
        past.sort_by_key(|run| run.job);
    }

    fn used_mend(&mut self) {
        let all = &mut self.snapshot.used;
        for (name, used) in std::mem::take(&mut self.stale.used) {
            match all.binary_search_by(|one| (one.organisation, &one.sku).cmp(&(name.0, &name.1))) {
                Ok(place) if all[place] == used => continue,
                Ok(place) => all[place] = used,
                Err(place) => all.insert(place, used),
            }
            self.touched.used.insert(name);
        }
    }

    /// Of all organisations, whether or not they want anything now: who wants nothing weighs nothing.
    fn weights_mend(&mut self) {
        let all = self.organisations.values();
        let weights: Vec<Weight> = all
            .map(|one| Weight { organisation: one.id, weight: one.share.weight })
            .filter(|one| one.weight != 1)
            .collect();
        if weights != self.snapshot.weights {
            self.snapshot.weights = weights;
            self.touched.weights = true;
        }
    }

    /// What is not as it was when a pass was recorded last.
    pub(super) fn change(&self) -> Change {
        let Snapshot { waiting, rooms, past, quotas, weights, used } = &self.snapshot;
        let mut change = Change::default();
        for (id, was_there) in &self.touched.waiting {
            if *was_there {
                change.left.push(*id);
            }
            if let Ok(place) = waiting.binary_search_by_key(id, |one| one.job) {
                change.came.push((place, waiting[place].clone()));
            }
        }
        for id in &self.touched.rooms {
            match rooms.binary_search_by_key(id, |room| room.site) {
                Ok(place) => change.rooms.push(rooms[place].clone()),
                Err(_) => change.gone.push(*id),
            }
        }
        for id in &self.touched.runs {
            match past.binary_search_by_key(id, |run| run.job) {
                Ok(place) => change.past.push(past[place].clone()),
                Err(_) => change.past_gone.push(*id),
            }
        }
        let is_touched = |one: &&Used| self.touched.used.contains(&(one.organisation, one.sku.clone()));
        // Nothing that was used is ever taken back.
        change.used = used.iter().filter(is_touched).cloned().collect();
        change.quotas = self.touched.quotas.then(|| quotas.clone());
        change.weights = self.touched.weights.then(|| weights.clone());
        change
    }

    /// A pass over the snapshot as it is was recorded.
    pub(super) fn recorded(&mut self) {
        self.touched = Touched::default();
    }
}

/// A job without what no pass looks at: a queue of long commands would else be kept twice.
fn slim(job: Job) -> Job {
    let program = Program::Command { argv: Vec::new(), inputs: Vec::new(), network: false };
    Job { program, name: String::new(), progress: None, stopped_for: None, ..job }
}
