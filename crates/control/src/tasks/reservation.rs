//! Begins reservations when their time has come and their room is clear, bills the hours that are over, and ends them.
//!
//! Control bills them by itself: what is reserved is paid whether or not anything runs in it. Each hour's records have ids made
//! of its facts and are written with the mark up to where it was billed, so that a crash or a late restart leaves no gap and
//! counts nothing twice.

use gregal_core::{
    audit::AuditEntry,
    endpoint::Endpoint,
    id::{ReservationId, SiteId},
    job::{Job, JobState},
    meter::{self, RateError, UsageEvent},
    money::Nano,
    price::PriceBook,
    reservation::{
        Reservation, ReservationMove, ReservationState,
        calendar::{self, Facts, Free, Need, Taken},
    },
    schedule::{Block, Bound, Cause, Decision, END_MS, Item, Node, Place, Room, START_MS, Waiting},
    site::Site,
    sku::{Catalogue, Sku},
    time::Time,
};
use gregal_store::{Tx, UsageInserted, View};

use crate::{
    Control, Cx, Error, Result,
    context::Facts as _,
    tasks::schedule::{free_at, item, room},
    wakes::Wake,
};

impl Control {
    /// One pass over the reservations that are not over.
    pub(crate) async fn reservations_pass(&self) -> Result<()> {
        let now = self.now();
        let is_due = |one: &Reservation| match one.state {
            ReservationState::Booked => one.from <= now,
            _ => one.until <= now || !one.due(now).is_empty(),
        };
        if !self.store().reservations_live().await?.iter().any(is_due) {
            return Ok(());
        }
        let cx = self.system("reserve");
        let tx = self.store().begin_upkeep().await?;
        let books = tx.price_books_all().await?;
        let mut entries = Vec::new();
        for reservation in tx.reservations_live().await?.into_iter().filter(is_due) {
            let entry = match reservation.state {
                ReservationState::Booked => self.reservation_begin(&cx, &tx, &reservation).await?.into_iter().collect(),
                _ => self.reservation_bill(&cx, &tx, &reservation, &books).await?,
            };
            entries.extend(entry);
        }
        if entries.is_empty() {
            return Ok(());
        }
        self.finish(&cx, tx, &entries, Wake::Schedule).await
    }

    /// Begins a reservation if nothing is in its way any more. What comes too late to be used is given back whole.
    async fn reservation_begin(&self, cx: &Cx, tx: &Tx, before: &Reservation) -> Result<Option<AuditEntry>> {
        let entry = |action: &str| cx.done(Some(before.organisation), action, before.id);
        let why = self.reservation_blocked(cx, tx, before).await?;
        let (step, entry) = match why {
            // All of its time passed while nobody looked, or while something stood there: nothing of it was had.
            _ if before.until <= cx.now => {
                (ReservationMove::End { at: cx.now }, entry("reservation:end").fact("begun", false))
            }
            Some(why) if before.message.as_ref() == Some(&why) => return Ok(None),
            Some(why) => (ReservationMove::Wait { why: why.clone() }, entry("reservation:wait").fact("why", why)),
            None => {
                let since = before.begins(cx.now);
                (ReservationMove::Begin { since }, entry("reservation:begin").fact("since", since.to_string()))
            }
        };
        self.reservation_put(tx, &before.apply(step)?).await?;
        Ok(Some(entry))
    }

    /// What is in the way of a reservation that should begin; none: its room is clear.
    async fn reservation_blocked(&self, cx: &Cx, tx: &Tx, reservation: &Reservation) -> Result<Option<String>> {
        let site = self.site_of(tx, reservation.site).await?;
        if !site.alive_at(cx.now) {
            return Ok(Some(format!("site `{}` does not answer; it is not billed until it does", site.name)));
        }
        let Some(sku) = tx.sku_get(&reservation.sku).await?.map(|offer| offer.sku) else {
            return Ok(Some(format!("`{}` is no sku any more; it is not billed", reservation.sku)));
        };
        let mut facts = facts_of(self, tx, &site, cx.now).await?;
        // What is there now, itself left out; cleaning after it is not in the way any more.
        let now = Facts {
            taken: std::mem::take(&mut facts.taken)
                .into_iter()
                .filter(|taken| taken.from <= cx.now && taken.reservation != Some(reservation.id) && taken.stands)
                .map(|taken| Taken { until: None, ..taken })
                .collect(),
            ..facts
        };
        let step = calendar::calendar(&now, cx.now, cx.now.plus_millis(1)).into_iter().next();
        let fits = step.is_some_and(|step| step.free.fits(&sku) >= reservation.count);
        Ok((!fits).then(|| {
            format!("something still stands in its room at `{}`; it is not billed until it is clear", site.name)
        }))
    }

    /// Bills the hours that are over, and ends a reservation all of which is billed once nothing runs in it.
    async fn reservation_bill(
        &self,
        cx: &Cx,
        tx: &Tx,
        before: &Reservation,
        books: &[PriceBook],
    ) -> Result<Vec<AuditEntry>> {
        let mut entries = Vec::new();
        let mut after = before.clone();
        let due = before.due(cx.now);
        if !due.is_empty() {
            let sku = tx.sku_get(&before.sku).await?.map(|offer| offer.sku);
            let Some(rated) = reservation_rated(before, sku.as_ref(), &due, books) else { return Ok(entries) };
            let (mut charged, mut count) = (Nano::ZERO, 0_u64);
            for (record, price) in &rated {
                match tx.usage_insert(record, *price, cx.now).await? {
                    UsageInserted::Inserted => (charged, count) = (charged.add(*price)?, count + 1),
                    UsageInserted::Duplicate => {}
                    UsageInserted::Conflict => {
                        return Err(Error::Broken(format!("{} was billed otherwise before", before.id)));
                    }
                }
            }
            for (_, until) in due {
                after = after.apply(ReservationMove::Bill { until })?;
            }
            self.hold_charge(tx, before.organisation, &before.id.to_string(), charged).await?;
            let entry = cx.done(Some(before.organisation), "reservation:bill", before.id);
            let until = after.billed_until.map(|until| until.to_string());
            entries.push(entry.fact("until", until).fact("records", count).fact("charged_nano", charged.get()));
        }
        if after.until <= cx.now
            && after.billed_until >= Some(after.until)
            && self.reservation_is_empty(tx, before).await?
        {
            after = after.apply(ReservationMove::End { at: cx.now })?;
            entries.push(cx.done(Some(before.organisation), "reservation:end", before.id).fact("begun", true));
        }
        if !entries.is_empty() {
            // However many steps it took, it is one write and one version.
            self.reservation_put(tx, &Reservation { version: before.version + 1, ..after }).await?;
        }
        Ok(entries)
    }

    /// Whether nothing runs in it any more. Unreachable is not gone: a site that is cut off may still have something there.
    async fn reservation_is_empty(&self, view: &View, reservation: &Reservation) -> Result<bool> {
        let bound = view.jobs_at_site(reservation.site, &JobState::BOUND).await?;
        Ok(!bound.iter().any(|job| job.reservation == Some(reservation.id)))
    }
}

/// The records of what is due with what each costs. None: somebody has to look, and nobody else's hours wait for that; all of it
/// is billed once it can be.
fn reservation_rated(
    reservation: &Reservation,
    sku: Option<&Sku>,
    due: &[(Time, Time)],
    books: &[PriceBook],
) -> Option<Vec<(UsageEvent, Nano)>> {
    let Some(sku) = sku else {
        tracing::error!(reservation.id = %reservation.id, "what is reserved is no sku any more and cannot be billed");
        return None;
    };
    let records = due.iter().flat_map(|stretch| reservation.records(sku, *stretch));
    let rated = records.map(|record| meter::rate(&record, books).map(|price| (record, price)));
    let rated: std::result::Result<Vec<_>, RateError> = rated.collect();
    rated
        .inspect_err(
            |error| tracing::error!(reservation.id = %reservation.id, "what is reserved cannot be billed: {error}"),
        )
        .ok()
}

/// The name a reservation's room has among the scheduler's sites: its own number.
pub(crate) const fn room_of(reservation: ReservationId) -> SiteId {
    SiteId::from_u128(reservation.as_u128())
}

/// What is reserved at a site, beside what is bound there: what has begun stands in its room, and what has not is kept clear.
pub(crate) fn beside(mut room: Room, reservations: &[Reservation], skus: &Catalogue, now: Time) -> Room {
    for one in reservations.iter().filter(|one| one.site == room.site) {
        let Some(sku) = skus.sku(&one.sku) else { continue };
        let item = item(one.organisation, one.project, sku);
        if one.state == ReservationState::Booked {
            let item = Item { members: one.count, ..item };
            // One that is due and not clear yet is still waited for: nothing new gets into its way.
            room.reserved.push(Block { item, from: one.clear_at(), until: one.free_at().max(now) });
            continue;
        }
        let free_at = Some(one.free_at()).filter(|at| *at > now);
        for _ in 0..one.count {
            let (since, item) = (one.active_since.unwrap_or(one.from), item.clone());
            room.bound.push(Bound { job: None, item, places: vec![Place::on(0)], since, free_at, told: None });
        }
    }
    room
}

/// The room of a reservation that has begun, as a place of its own where only its jobs go, with those of them that are there.
pub(crate) fn own_room(one: &Reservation, site: &Site, bound: &[&Job], skus: &Catalogue, now: Time) -> Option<Room> {
    let sku = skus.sku(&one.sku)?;
    let inside = bound.iter().copied().filter(|job| job.reservation == Some(one.id));
    let mut room = room(&Site { capacity: None, ..site.clone() }, now, inside, skus);
    room.bound.iter_mut().for_each(|bound| bound.item.sku = one.id.to_string());
    let need = Need::of(sku, one.count);
    let model = need.gpu_model.unwrap_or_else(|| "any".into());
    room.site = room_of(one.id);
    room.name = format!("{} (reservation {})", site.name, one.name);
    room.nodes = vec![Node {
        cpus_milli: u32::try_from(need.cpus_milli).unwrap_or(u32::MAX),
        memory_bytes: need.memory_bytes,
        gpus: vec![model; usize::try_from(need.gpus).unwrap_or(usize::MAX)],
        until: Some(one.leave_by()),
        ..Node::default()
    }];
    Some(room)
}

/// A job that waits for its reservation's room, as the scheduler sees it: what it takes was counted for its quotas when it was
/// booked, and what can save its work is gone by the end, however long it may run.
pub(crate) fn asks_inside(waiting: Waiting, one: &Reservation, now: Time) -> Waiting {
    let left_ms = one.leave_by().millis_since(now) - 2 * START_MS - END_MS;
    let left_ms = u64::try_from(left_ms).unwrap_or(0).saturating_add(waiting.item.worked_ms);
    let limit_ms =
        if waiting.item.preemptible && left_ms > 0 { waiting.limit_ms.min(left_ms) } else { waiting.limit_ms };
    let item = Item { sku: one.id.to_string(), ..waiting.item };
    Waiting { item, sites: vec![room_of(one.id)], limit_ms, ..waiting }
}

/// What is said of a job whose reservation has not begun, or is over. None: the scheduler decides.
pub(crate) fn said_of(job: &Job, reservation: Option<&Reservation>, now: Time) -> Option<Decision> {
    let id = job.id;
    match reservation {
        Some(one) if one.state == ReservationState::Active && now < one.leave_by() => None,
        Some(one) if one.state == ReservationState::Booked => {
            let reason = match &one.message {
                Some(why) => format!("its reservation `{}` has not begun: {why}", one.name),
                None => format!("its reservation `{}` begins at {}", one.name, one.from),
            };
            Some(Decision::Wait { job: id, causes: vec![Cause::Reservation], reason, promise: None })
        }
        _ => Some(Decision::Never { job: id, reason: "its reservation is over".into() }),
    }
}

/// What a site has, and what is known to be taken of it from when until when, each with the cleaning after it.
pub(crate) async fn facts_of(control: &Control, view: &View, site: &Site, now: Time) -> Result<Facts> {
    let clean_ms = i64::from(control.options().clean_ms);
    let mut taken = Vec::new();
    let catalogue = view.skus_all().await?;
    let need = |sku: &str, count: u32| catalogue.sku(sku).map(|sku| Need::of(sku, count));
    for job in view.jobs_at_site(site.id, &JobState::BOUND).await?.into_iter().filter(|job| job.reservation.is_none()) {
        let until = free_at(&job).filter(|at| *at > now).map(|at| at.plus_millis(clean_ms));
        taken.extend(need(&job.sku, 1).map(|need| Taken {
            need,
            from: job.created_at,
            until,
            reservation: None,
            stands: true,
        }));
    }
    for job in view.jobs_in_states(&[JobState::Queued]).await? {
        let Some(promise) = job.promised.filter(|promise| promise.site == site.id) else { continue };
        let until = promised_until(&job, promise.at).plus_millis(clean_ms);
        let from = promise.at.max(now);
        taken.extend(need(&job.sku, 1).map(|need| Taken {
            need,
            from,
            until: Some(until.max(from)),
            reservation: None,
            stands: false,
        }));
    }
    for endpoint in view.endpoints_live_at_site(site.id).await? {
        let from = match (endpoint.takes_room(), endpoint.promised) {
            (true, _) => endpoint.created_at,
            (false, Some(promise)) => promise.at.max(now),
            (false, None) => continue,
        };
        let stands = Endpoint::takes_room(&endpoint);
        taken.extend(need(&endpoint.sku, 1).map(|need| Taken { need, from, until: None, reservation: None, stands }));
    }
    for reservation in view.reservations_live_at_site(site.id).await? {
        let is_active = reservation.state == ReservationState::Active;
        // What runs on in it after its end keeps its room, nobody knows until when.
        let until = Some(reservation.free_at()).filter(|at| *at > now);
        let (from, reserved) = (reservation.from, Some(reservation.id));
        taken.extend(need(&reservation.sku, reservation.count).map(|need| Taken {
            need,
            from,
            until,
            reservation: reserved,
            stands: is_active,
        }));
    }
    Ok(Facts { all: all_of(site), taken })
}

/// When a promised job gives its room back at the latest.
fn promised_until(job: &Job, at: Time) -> Time {
    let left = (u64::from(job.seconds_max) * 1000).saturating_sub(job.billed.ms);
    at.plus_millis(i64::try_from(left).unwrap_or(i64::MAX).saturating_add(START_MS + END_MS))
}

fn all_of(site: &Site) -> Free {
    let Some(capacity) = &site.capacity else { return Free::default() };
    let mut all =
        Free { cpus_milli: u64::from(capacity.cpus_milli), memory_bytes: capacity.memory_bytes, ..Free::default() };
    for accelerator in capacity.accelerators.iter().filter(|accelerator| accelerator.healthy) {
        *all.gpus.entry(accelerator.model.clone()).or_default() += 1;
    }
    all
}
