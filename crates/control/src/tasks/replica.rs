//! Gives waiting endpoints room at their sites, in one queue with jobs, and holds the time they stand.
//!
//! An endpoint waits in the scheduler's queue like a job without an end: it takes its turn, it delays no promised start, and
//! is promised one itself. What stands is taken off its site's free room and comes back to nobody by itself, so nobody is
//! promised anything on it.

use gregal_api::problem::Code;
use gregal_core::{
    audit::AuditEntry,
    endpoint::{Endpoint, EndpointMove, EndpointState},
    hold::{self, Hold, HoldState},
    id::{EndpointId, JobId, OrganisationId, ProjectId, SiteId},
    job::Billed,
    ledger::PostingKind,
    money::Nano,
    organisation::Project,
    price::{self, PriceBook},
    replica::{self, Renewal, Standing, WINDOW_MS},
    schedule::{self, Bound, Decision, ENDLESS_MS, Place, Room, Snapshot, Waiting},
    site::Site,
    sku::{Catalogue, Sku},
    time::Time,
};
use gregal_store::Tx;

use crate::{
    Control, Cx, Error, Result,
    app::money::HoldFor,
    context::Facts as _,
    tasks::schedule::{item, room},
    wakes::Wake,
};

/// The name an endpoint has in the scheduler's queue: its own number.
pub(crate) const fn queued_as(endpoint: EndpointId) -> JobId {
    JobId::from_u128(endpoint.as_u128())
}

/// Whether an endpoint waits for room, its first window held.
pub(crate) fn waits(endpoint: &Endpoint) -> bool {
    endpoint.state == EndpointState::Pending && endpoint.placed_at.is_none() && endpoint.hold.is_some()
}

/// A waiting endpoint as the scheduler sees it; `sites`: where its weights are, if that is still lawful.
pub(crate) fn asked(endpoint: &Endpoint, sites: Vec<SiteId>, catalogue: &Catalogue) -> Result<Waiting> {
    let sku = catalogue.sku(&endpoint.sku);
    let sku =
        sku.ok_or_else(|| Error::Broken(format!("{} asks for `{}`, which is gone", endpoint.id, endpoint.sku)))?;
    Ok(Waiting {
        job: queued_as(endpoint.id),
        item: item(endpoint.organisation, endpoint.project, sku),
        since: endpoint.created_at,
        sites,
        limit_ms: ENDLESS_MS,
        promised: endpoint.promised,
    })
}

/// A site's room beside the endpoints that stand there.
pub(crate) fn beside<'a>(
    mut room: Room,
    endpoints: impl IntoIterator<Item = &'a Endpoint>,
    catalogue: &Catalogue,
) -> Room {
    let standing = endpoints.into_iter().filter(|endpoint| endpoint.takes_room());
    room.bound.extend(standing.filter_map(|endpoint| {
        let sku = catalogue.sku(&endpoint.sku)?;
        Some(Bound {
            job: None,
            item: item(endpoint.organisation, endpoint.project, sku),
            places: vec![Place::on(0)],
            since: endpoint.placed_at.unwrap_or(endpoint.created_at),
            free_at: None,
            told: None,
        })
    }));
    room
}

impl Control {
    /// Writes a decision about an endpoint down; nothing where nothing changed.
    pub(crate) async fn replica_decided(
        &self,
        cx: &Cx,
        tx: &Tx,
        endpoint: &Endpoint,
        decision: &Decision,
    ) -> Result<Option<AuditEntry>> {
        let entry = |action: &str| cx.done(Some(endpoint.organisation), action, endpoint.id);
        let (step, entry) = match decision {
            Decision::Start { site, .. } => {
                let entry = entry("endpoint:place").fact("site", site.to_string()).fact("sku", endpoint.sku.as_str());
                let residency = self.residency_facts(tx, endpoint.organisation, *site).await?;
                (EndpointMove::Place { at: cx.now }, entry.fact("residency", residency))
            }
            Decision::Wait { reason, promise, .. } => {
                if endpoint.message.as_ref() == Some(reason) && endpoint.promised == *promise {
                    return Ok(None);
                }
                let entry = entry("endpoint:wait").fact("why", reason.as_str());
                (EndpointMove::Wait { why: reason.clone(), promise: *promise }, entry)
            }
            Decision::Never { reason, .. } => {
                (EndpointMove::Fail { why: reason.clone() }, entry("endpoint:failed").fact("why", reason.as_str()))
            }
            Decision::Stop { .. } => return Err(Error::Broken("what waits is not stopped".into())),
        };
        self.endpoint_put(tx, &endpoint.apply(step)?).await?;
        Ok(Some(entry))
    }

    /// Holds the first window of an endpoint.
    pub(crate) async fn replica_hold(
        &self,
        tx: &Tx,
        project: &Project,
        endpoint: EndpointId,
        sku: &Sku,
    ) -> Result<Hold> {
        let amount = self.replica_window(tx, sku).await?;
        let wanted = HoldFor {
            organisation: project.organisation,
            project: Some(project.id),
            subject: endpoint.to_string(),
            amount,
            expires_at: None,
        };
        self.hold_place(tx, wanted, &format!("an hour of `{}` may cost {amount} EUR; that", sku.name)).await
    }

    /// Takes in that a served model was billed for so much more time, after it was charged: holds the next time, or drains
    /// it where that cannot be held. Answers the audit entries to commit with it.
    pub(crate) async fn replica_charged(
        &self,
        cx: &Cx,
        tx: &Tx,
        id: EndpointId,
        billed: Billed,
    ) -> Result<Option<AuditEntry>> {
        let Some(before) = tx.endpoint_get(id).await? else { return Ok(None) };
        let after = Endpoint {
            billed: Billed {
                ms: before.billed.ms.saturating_add(billed.ms),
                until: before.billed.until.max(billed.until),
                energy_mj: before.billed.energy_mj,
            },
            version: before.version + 1,
            ..before
        };
        let is_wanted = after.takes_room() && after.state != EndpointState::Draining;
        let (after, entry) = if is_wanted { self.replica_renew(cx, tx, after).await? } else { (after, None) };
        tx.endpoint_update(&after).await?;
        Ok(entry)
    }

    /// Holds the next time, or makes it drain. The endpoint comes back as it is to be written.
    async fn replica_renew(&self, cx: &Cx, tx: &Tx, endpoint: Endpoint) -> Result<(Endpoint, Option<AuditEntry>)> {
        let hold = match endpoint.hold {
            Some(hold) => tx.hold_get(hold).await?.filter(|hold| hold.state == HoldState::Open),
            None => None,
        };
        let sku = tx.sku_get(&endpoint.sku).await?.map(|offer| offer.sku);
        let (Some(hold), Some(sku)) = (hold, sku) else {
            // What was used is charged all the same; its site stops it when what it was told is held is used up.
            tracing::error!(endpoint.id = %endpoint.id, "a served model stands without an open hold or a sku");
            return Ok((endpoint, None));
        };
        let books = tx.price_books_all().await?;
        let (book, _) = window_of(&books, self.now(), &sku)?;
        let balances = tx.balances_get(endpoint.organisation).await?;
        let standing = Standing { held_ms: endpoint.held_ms, billed_ms: endpoint.billed.ms, hold: &hold };
        let renewal = replica::renew(standing, &balances, book, &sku);
        match renewal.map_err(|error| Error::Broken(error.to_string()))? {
            Renewal::Enough | Renewal::Short(_) => Ok((endpoint, None)),
            Renewal::Extended { hold, legs, held_ms } => {
                tx.hold_update(&hold).await?;
                self.post(tx, hold.organisation, PostingKind::Hold, hold.id, legs).await?;
                let entry = cx
                    .done(Some(endpoint.organisation), "endpoint:hold", endpoint.id)
                    .fact("held_ms", held_ms)
                    .fact("held_nano", hold.amount.get());
                Ok((Endpoint { held_ms, ..endpoint }, Some(entry)))
            }
            Renewal::Drain(refusal) => {
                let why = format!("{refusal}, so the next hour of `{}` cannot be held", sku.name);
                let drained = endpoint.apply(EndpointMove::Drain { why: Some(why.clone()) })?;
                let entry = cx.done(Some(endpoint.organisation), "endpoint:draining", endpoint.id).fact("why", why);
                // One write, one version: the charge counted in is part of it.
                Ok((Endpoint { version: endpoint.version, ..drained }, Some(entry)))
            }
        }
    }

    /// Takes in endpoints of before they took room and ran on a hold, as they stand: each gets the smallest SKU that serves its
    /// model and its first window is held, or it ends and says why. Done once, when a newer program starts.
    pub(crate) async fn replicas_adopt(&self) -> Result<()> {
        let is_old =
            |one: &Endpoint| one.hold.is_none() && one.shared.is_none() && one.state != EndpointState::Draining;
        if !self.store().endpoints_live().await?.iter().any(is_old) {
            return Ok(());
        }
        let cx = self.system("start");
        let tx = self.store().begin_upkeep().await?;
        let mut entries = Vec::new();
        for endpoint in tx.endpoints_live().await?.into_iter().filter(is_old) {
            let (after, entry) = self.replica_adopted(&cx, &tx, endpoint).await?;
            self.endpoint_put(&tx, &after).await?;
            entries.push(entry);
        }
        self.finish(&cx, tx, &entries, Wake::Schedule).await
    }

    async fn replica_adopted(&self, cx: &Cx, tx: &Tx, endpoint: Endpoint) -> Result<(Endpoint, AuditEntry)> {
        let entry = |action: &str| cx.done(Some(endpoint.organisation), action, endpoint.id);
        let model = tx.model_get(endpoint.model).await?;
        let project = tx.project_get(endpoint.project).await?;
        let (Some(model), Some(project)) = (model, project) else {
            return Err(Error::Broken(format!("the model or the project of {} is not there", endpoint.id)));
        };
        let catalogue = tx.skus_all().await?;
        let can_stand = match replica::smallest(catalogue.offered(), model.bytes) {
            None => Err("no sku has the memory that serving its model takes".to_owned()),
            Some(sku) => {
                let amount = self.replica_window(tx, sku).await?;
                let balances = tx.balances_get(endpoint.organisation).await?;
                hold::place(&balances, amount).map(|_| sku).map_err(|refusal| refusal.to_string())
            }
        };
        match can_stand {
            Ok(sku) => {
                let hold = self.replica_hold(tx, &project, endpoint.id, sku).await?;
                let entry = entry("endpoint:hold").fact("sku", sku.name.as_str()).fact("held_nano", hold.amount.get());
                // What runs has the room it runs in, whatever else is there.
                let placed_at = (endpoint.state != EndpointState::Pending).then_some(cx.now);
                let (sku, hold, version) = (sku.name.clone(), Some(hold.id), endpoint.version + 1);
                Ok((Endpoint { sku, hold, held_ms: WINDOW_MS, placed_at, version, ..endpoint }, entry))
            }
            Err(why) if endpoint.state == EndpointState::Pending => {
                let entry = entry("endpoint:failed").fact("why", why.as_str());
                Ok((endpoint.apply(EndpointMove::Fail { why })?, entry))
            }
            Err(why) => {
                let entry = entry("endpoint:draining").fact("why", why.as_str());
                Ok((endpoint.apply(EndpointMove::Drain { why: Some(why) })?, entry))
            }
        }
    }

    /// What an hour may cost.
    async fn replica_window(&self, tx: &Tx, sku: &Sku) -> Result<Nano> {
        let books = tx.price_books_all().await?;
        window_of(&books, self.now(), sku).map(|(_, amount)| amount)
    }
}

/// The dearest book that a model which stands from now on may meet, and what an hour costs there.
fn window_of<'a>(books: &'a [PriceBook], now: Time, sku: &Sku) -> Result<(&'a PriceBook, Nano)> {
    let window = price::dearest(books, now, |book| replica::cost(book, sku, WINDOW_MS));
    let window = window.map_err(|error| Error::Broken(error.to_string()))?;
    window.ok_or_else(|| Error::Broken("no price book holds now".into()))
}

/// Refuses at once what can never stand at a site: as the scheduler would see it with nothing else there.
pub(crate) fn fits(cx: &Cx, site: &Site, sku: &Sku) -> Result<()> {
    let asked = Waiting {
        job: JobId::from_u128(0),
        item: item(OrganisationId::from_u128(0), ProjectId::from_u128(0), sku),
        since: cx.now,
        sites: vec![site.id],
        limit_ms: ENDLESS_MS,
        promised: None,
    };
    let rooms = vec![room(site, cx.now, &[], &Catalogue::default())];
    let snapshot = Snapshot { waiting: vec![asked], rooms, ..Snapshot::default() };
    match schedule::schedule(&snapshot, cx.now).into_iter().next() {
        Some(Decision::Never { reason, .. }) => Err(Error::refused(Code::NeverFits, reason)),
        _ => Ok(()),
    }
}
