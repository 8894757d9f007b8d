//! Reservations: room at a site for a time, booked with all of its price held; and the calendar they are booked in.

use gregal_api::{
    job::JobCreate,
    problem::{Code, Problem},
    reservation::{
        CalendarFree, CalendarQuery, CalendarStep, CalendarView, ReservationCreate, ReservationQuote, ReservationView,
    },
};
use gregal_core::{
    access::Action,
    id::{HoldId, ProjectId, ReservationId},
    meter::RateError,
    money::Nano,
    organisation::Project,
    quota::{self, QuotaId},
    reservation::{
        self, Reservation, ReservationMove, ReservationState,
        calendar::{self, Refused, Wanted},
    },
    schedule::{END_MS, START_MS},
    site::Site,
    sku::Sku,
};
use gregal_policy::{Placement, Resource, ResourceKind};
use gregal_store::{Listed, Page, Tx, View};

use crate::{
    Control, Cx, Error, Result,
    app::{limit, money::HoldFor, site::site_found, sku::rentable},
    context::Facts as _,
    names,
    tasks::reservation::facts_of,
    wakes::Wake,
};

/// How long a stretch of the calendar is shown where nothing is asked for: a week.
const CALENDAR_DAYS: i64 = 7;
/// The longest stretch of the calendar that is shown.
const CALENDAR_DAYS_MAX: i64 = 90;
const DAY_SECONDS: i64 = 86_400;

impl Control {
    /// Books a reservation: lawful, within its quotas, all of it free for all its time, and all of its price held.
    pub(crate) async fn reservation_create(
        &self,
        cx: &Cx,
        project: ProjectId,
        wanted: ReservationCreate,
    ) -> Result<ReservationView> {
        let (project, policies) =
            self.project_seen_for(cx, project, Action::ReservationCreate, Some(&wanted.site), Vec::new()).await?;
        let tx = self.begin(cx).await?;
        let (draft, sku, site) = self.reservation_drafted(cx, &tx, &project, wanted).await?;
        let live = (Code::Conflict, "reservations that are not over");
        let there = tx.reservations_live_count(project.id).await?;
        limit::one_more(there, limit::RESERVATIONS_LIVE_MAX, live, "call one off that is not needed")?;
        let ours = tx.reservations_live().await?.iter().filter(|one| one.organisation == project.organisation).count();
        if ours >= limit::RESERVATIONS_OF_ORGANISATION_MAX {
            let detail = format!("the organisation has {ours} reservations that are not over, as many as are allowed");
            return Err(Problem::new(Code::Conflict, detail).hint("call one off that is not needed").into());
        }
        let facts = facts_of(self, &tx, &site, cx.now).await?;
        calendar::book(&facts, asked(&draft, &sku), cx.now).map_err(|refused| told(&refused, &site))?;
        let cost = self.reservation_cost(&tx, &draft, &sku).await?;
        let (count, from, until) = (draft.count, draft.from, draft.until);
        let what = format!("{count} of `{}` from {from} until {until} cost {cost} EUR; that", sku.name);
        let wanted_hold = HoldFor {
            organisation: draft.organisation,
            project: Some(draft.project),
            subject: draft.id.to_string(),
            amount: cost,
            expires_at: None,
        };
        let hold = self.hold_place(&tx, wanted_hold, &what).await?;
        let booked = Reservation { hold: hold.id, ..draft };
        tx.reservation_insert(&booked).await?;
        let answer = ReservationView::of(&booked, hold.amount.get(), 0);
        let entry = cx
            .done(Some(booked.organisation), Action::ReservationCreate.as_str(), booked.id)
            .by(&policies)
            .fact("site", booked.site.to_string())
            .fact("sku", booked.sku.as_str())
            .fact("count", booked.count)
            .fact("from", booked.from.to_string())
            .fact("until", booked.until.to_string())
            .fact("held_nano", cost.get());
        self.finish_created(cx, tx, &[entry], Wake::Schedule, &answer).await?;
        Ok(answer)
    }

    /// Says what a reservation would cost, and whether it would be booked as far as room goes.
    pub(crate) async fn reservation_quote(
        &self,
        cx: &Cx,
        project: ProjectId,
        wanted: ReservationCreate,
    ) -> Result<ReservationQuote> {
        let (project, _) =
            self.project_seen_for(cx, project, Action::ReservationCreate, Some(&wanted.site), Vec::new()).await?;
        let view: &View = self.store();
        let (draft, sku, site) = self.reservation_drafted(cx, view, &project, wanted).await?;
        let facts = facts_of(self, view, &site, cx.now).await?;
        let (why, next_from) = match calendar::book(&facts, asked(&draft, &sku), cx.now) {
            Ok(()) => (None, None),
            Err(Refused::Senseless(why)) => return Err(Error::invalid(why)),
            Err(refused @ Refused::Never { .. }) => (Some(said(&refused, &site)), None),
            Err(refused @ Refused::Short { next, .. }) => (Some(said(&refused, &site)), next),
        };
        let cost = self.reservation_cost(view, &draft, &sku).await?;
        let balances = view.balances_get(draft.organisation).await?;
        Ok(ReservationQuote {
            fits: why.is_none(),
            cost_nano: cost.get(),
            available_nano: balances.available.get(),
            why,
            next_from,
            from: draft.from,
            until: draft.until,
            clean_ms: draft.clean_ms,
        })
    }

    /// What would be booked, without its hold: named, lawful and within its quotas.
    async fn reservation_drafted(
        &self,
        cx: &Cx,
        view: &View,
        project: &Project,
        wanted: ReservationCreate,
    ) -> Result<(Reservation, Sku, Site)> {
        names::label("name", &wanted.name)?;
        let sku = rentable(&view.skus_all().await?, &wanted.sku)?.clone();
        let site = site_found(view, &wanted.site).await?;
        self.lawful(view, project.organisation, &site, Placement::Job).await?;
        if site.capacity.is_none() {
            let detail = format!("`{}` has not said what it has yet", site.name);
            return Err(Problem::new(Code::Conflict, detail).hint("try again once it has dialled in").into());
        }
        let draft = Reservation {
            id: ReservationId::new(self.world()),
            organisation: project.organisation,
            project: project.id,
            shared: wanted.shared,
            name: wanted.name,
            site: site.id,
            sku: sku.name.clone(),
            count: wanted.count,
            from: wanted.from.unwrap_or(cx.now),
            until: wanted.until,
            clean_ms: self.options().clean_ms,
            hold: HoldId::from_u128(0),
            state: ReservationState::Booked,
            active_since: None,
            billed_until: None,
            message: None,
            created_at: cx.now,
            cancelled_at: None,
            ended_at: None,
            version: 1,
        };
        self.reservation_quota(view, &draft, &sku).await?;
        Ok((draft, sku, site))
    }

    /// Refuses what its quotas do not allow, together with what is reserved by the same holder at the same time: a quota has
    /// one limit, whichever way it is used.
    async fn reservation_quota(&self, view: &View, draft: &Reservation, sku: &Sku) -> Result<()> {
        let catalogue = view.skus_all().await?;
        let live = view.reservations_live().await?;
        let beside = |other: &&Reservation| {
            other.organisation == draft.organisation && other.from < draft.until && draft.from < other.until
        };
        let asked = sku.units().saturating_mul(draft.count);
        let (mut mine, mut ours) = (asked, asked);
        for other in live.iter().filter(beside) {
            let units = catalogue.sku(&other.sku).filter(|other| other.family() == sku.family()).map_or(0, Sku::units);
            let units = units.saturating_mul(other.count);
            ours = ours.saturating_add(units);
            if other.project == draft.project {
                mine = mine.saturating_add(units);
            }
        }
        let own = view.quota_get(&QuotaId::of(draft.organisation, Some(draft.project), sku.family())).await?;
        let whole = view.quota_get(&QuotaId::of(draft.organisation, None, sku.family())).await?;
        let allowed = quota::allows_units(sku, mine, own.as_ref(), None)
            .and_then(|()| quota::allows_units(sku, ours, None, whole.as_ref()));
        allowed.map_err(|beyond| {
            let detail = format!("{beyond}, with all it has reserved for that time");
            Problem::new(Code::NeverFits, detail).hint("reserve less, another time, or ask for a larger quota").into()
        })
    }

    async fn reservation_cost(&self, view: &View, draft: &Reservation, sku: &Sku) -> Result<Nano> {
        let books = view.price_books_all().await?;
        reservation::cost(draft, sku, &books).map_err(|error| match error {
            RateError::NoBook { .. } | RateError::NoPrice { .. } => {
                let detail = format!("the cloud has no price for reservations of `{}`", sku.name);
                Problem::new(Code::Conflict, detail).hint("ask the operator for one").into()
            }
            RateError::Overflow(_) => Error::invalid("that much for that long cannot be counted in money"),
        })
    }

    /// A project's reservations.
    pub(crate) async fn reservations_list(
        &self,
        cx: &Cx,
        project: ProjectId,
        page: &Page,
    ) -> Result<Listed<ReservationView>> {
        let (project, _) = self.project_seen(cx, project, Action::ReservationRead).await?;
        let listed = self.store().reservations_list(project.id, page).await?;
        let mut items = Vec::with_capacity(listed.items.len());
        for reservation in &listed.items {
            items.push(reservation_view(self.store(), reservation).await?);
        }
        Ok(Listed { items, next: listed.next })
    }

    /// A reservation.
    pub(crate) async fn reservation_read(&self, cx: &Cx, id: ReservationId) -> Result<ReservationView> {
        let (reservation, _) = self.reservation_seen(cx, id, Action::ReservationRead).await?;
        reservation_view(self.store(), &reservation).await
    }

    async fn reservation_seen(&self, cx: &Cx, id: ReservationId, action: Action) -> Result<(Reservation, Vec<String>)> {
        let found = self.store().reservation_get(id).await?.ok_or_else(|| Error::missing("reservation", id))?;
        let resource = Resource::within(ResourceKind::Reservation, found.organisation, found.project, id);
        let resource = resource.at(found.site);
        let policies = self.authorize(cx, action, &resource).await?;
        Ok((found, policies))
    }

    /// Calls a reservation off. One that has not begun gives back all that was held; of one that has, the hour that has begun is
    /// the last. Doing so again, or to what is over, changes nothing.
    pub(crate) async fn reservation_cancel(&self, cx: &Cx, id: ReservationId) -> Result<ReservationView> {
        let (_, policies) = self.reservation_seen(cx, id, Action::ReservationCancel).await?;
        let tx = self.begin(cx).await?;
        let before = tx.reservation_get(id).await?.ok_or_else(|| Error::missing("reservation", id))?;
        if before.state.is_final() || before.cancelled_at.is_some() {
            return reservation_view(&tx, &before).await;
        }
        let after = before.apply(ReservationMove::Cancel { at: cx.now })?;
        self.reservation_put(&tx, &after).await?;
        let answer = reservation_view(&tx, &after).await?;
        let entry = cx
            .done(Some(after.organisation), Action::ReservationCancel.as_str(), id)
            .by(&policies)
            .fact("state", after.state.as_str())
            .fact("until", after.until.to_string());
        self.finish(cx, tx, &[entry], Wake::Schedule).await?;
        Ok(answer)
    }

    /// Writes a reservation; one that is over gives back what is left of its hold.
    pub(crate) async fn reservation_put(&self, tx: &Tx, after: &Reservation) -> Result<()> {
        tx.reservation_update(after).await?;
        if after.state.is_final()
            && let Some(hold) = tx.hold_get(after.hold).await?
        {
            self.hold_close(tx, &hold, false).await?;
        }
        Ok(())
    }

    /// Refuses a job that can never run in the reservation it names; answers where that is.
    pub(crate) async fn job_fits_reservation(
        &self,
        cx: &Cx,
        tx: &Tx,
        project: &Project,
        id: ReservationId,
        (wanted, sku): (&JobCreate, &Sku),
        site: Option<Site>,
    ) -> Result<Site> {
        let found = tx.reservation_get(id).await?.filter(|one| one.is_for(project.organisation, project.id));
        let reservation = found.ok_or_else(|| Error::missing("reservation", id))?;
        let here = self.site_of(tx, reservation.site).await?;
        let never = |detail: String, hint: &str| Err(Problem::new(Code::NeverFits, detail).hint(hint).into());
        if let Some(other) = site.filter(|site| site.id != here.id) {
            let detail = format!("it must run at `{}`, and the reservation is at `{}`", other.name, here.name);
            return never(detail, "reserve where its data is");
        }
        self.lawful(tx, project.organisation, &here, Placement::Job).await?;
        if reservation.state.is_final() || reservation.leave_by() <= cx.now {
            let detail = format!("reservation `{}` is over", reservation.name);
            return Err(Problem::new(Code::Conflict, detail).hint("leave it out, or book another").into());
        }
        let most = gregal_core::reservation::calendar::Need::of(
            &tx.sku_get(&reservation.sku).await?.ok_or_else(|| Error::missing("sku", &reservation.sku))?.sku,
            reservation.count,
        );
        let one = gregal_core::reservation::calendar::Need::of(sku, 1);
        let model_fits = one.gpus == 0 || one.gpu_model.is_none() || one.gpu_model == most.gpu_model;
        if one.cpus_milli > most.cpus_milli
            || one.memory_bytes > most.memory_bytes
            || one.gpus > most.gpus
            || !model_fits
        {
            let detail = format!(
                "`{}` is more than the {} of `{}` that are reserved",
                sku.name, reservation.count, reservation.sku
            );
            return never(detail, "choose a smaller sku");
        }
        let preemptible = wanted.preemptible.unwrap_or(wanted.program.preemptible_unless_told());
        let longest_ms = reservation.leave_by().millis_since(reservation.from) - START_MS - END_MS;
        if !preemptible && i64::from(wanted.seconds_max) * 1000 > longest_ms {
            let detail = format!(
                "it cannot save its work, and may run longer than the reservation lasts: {} s",
                longest_ms.max(0) / 1000
            );
            return never(detail, "ask for a smaller `seconds_max`, or let it save its work and set `preemptible`");
        }
        Ok(here)
    }

    /// What is free at a site, and when.
    pub(crate) async fn calendar_read(&self, cx: &Cx, asked: &str, query: &CalendarQuery) -> Result<CalendarView> {
        let site = self.site_read(cx, asked).await?;
        let from = query.from.unwrap_or(cx.now).max(cx.now);
        let until = query.until.unwrap_or(from.plus_seconds(CALENDAR_DAYS * DAY_SECONDS));
        if until <= from || until > from.plus_seconds(CALENDAR_DAYS_MAX * DAY_SECONDS) {
            let most =
                format!("`until` is not within {CALENDAR_DAYS_MAX} days after `from`, which is never in the past");
            return Err(Error::invalid(most));
        }
        let facts = facts_of(self, self.store(), &site, cx.now).await?;
        let steps = calendar::calendar(&facts, from, until);
        let skus: Vec<Sku> = self.store().skus_all().await?.offered().cloned().collect();
        Ok(CalendarView {
            site: site.id,
            alive: site.alive_at(cx.now),
            name: site.name,
            from,
            until: steps.last().map_or(until, |step| step.until),
            clean_ms: self.options().clean_ms,
            all: CalendarFree::of(&facts.all, &skus),
            steps: steps.iter().map(|step| CalendarStep::of(step, &skus)).collect(),
        })
    }
}

async fn reservation_view(view: &View, reservation: &Reservation) -> Result<ReservationView> {
    let hold = view.hold_get(reservation.hold).await?;
    let hold = hold.ok_or_else(|| Error::Broken(format!("the hold of {} is not there", reservation.id)))?;
    Ok(ReservationView::of(reservation, hold.amount.get(), hold.charged.get()))
}

fn asked<'a>(draft: &Reservation, sku: &'a Sku) -> Wanted<'a> {
    Wanted { sku, count: draft.count, from: draft.from, until: draft.until, clean_ms: draft.clean_ms }
}

fn said(refused: &Refused, site: &Site) -> String {
    format!("{refused} at `{}`", site.name)
}

fn told(refused: &Refused, site: &Site) -> Error {
    let (code, hint) = match refused {
        Refused::Senseless(why) => return Error::invalid(why.clone()),
        Refused::Never { .. } => (Code::NeverFits, "ask for fewer, for a smaller sku, or at another site".to_owned()),
        Refused::Short { next: Some(next), .. } => {
            (Code::Conflict, format!("all of it is free for as long from {next} on; nothing was booked"))
        }
        Refused::Short { next: None, .. } => {
            let when = "at no time within reach is all of it free for as long, as far as is known";
            (Code::Conflict, format!("{when}; ask for fewer, for less time, or at another site; nothing was booked"))
        }
    };
    Problem::new(code, said(refused, site)).hint(hint).into()
}
