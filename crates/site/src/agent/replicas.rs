//! Served models: one task an endpoint, which unpacks the model, starts `lm serve` through the engine, waits until it
//! answers, and brings it back when it dies. Replicas listen on a Unix socket that only the gateway can reach.

mod bill;
mod external;
mod life;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use gregal_api::protocol::{Intent, ObservedReplica, ReplicaPhase, WantedEndpoint};
use gregal_core::id::EndpointId;

use self::bill::Bill;
use crate::{
    durable,
    error::Error,
    gateway::{openai::error::ApiError, upstream::Address},
    site::Shared,
};

/// Tries in a row before a replica is given up.
pub(crate) const TRIES_MAX: u32 = 5;
/// A replica that lived so long has earned its tries back, in milliseconds.
const HEALTHY_MS: u64 = 60_000;
/// Tokens a model's context is taken to have when its files do not say.
const CONTEXT_DEFAULT: u64 = 8_192;
/// Paths of Unix sockets end here, by the kernel's rule; one byte is the closing zero.
pub(crate) const SOCKET_PATH_BYTES_MAX: usize = 107;
const SOCKET_NAME: &str = "lm.sock";
/// Time between the polite and the final signal, in milliseconds.
const GRACE_MS: u64 = 5_000;

#[derive(Debug)]
struct Entry {
    phase: ReplicaPhase,
    message: Option<String>,
    engine: Address,
    /// What it calls the model.
    name: String,
    /// Whether it may be asked for an answer in one piece.
    in_one: bool,
    in_flight_max: usize,
    context: u64,
    in_flight: Arc<AtomicUsize>,
    /// Whether a task still works for it.
    served: bool,
}

/// Every replica of this site.
#[derive(Debug)]
pub(crate) struct Replicas {
    folder: PathBuf,
    /// Where the counts of what each was billed are kept.
    bills: PathBuf,
    in_flight_max: usize,
    table: Mutex<BTreeMap<EndpointId, Entry>>,
}

/// A request's place at a replica; dropped, the place is free.
#[derive(Debug)]
pub(crate) struct Seat {
    pub(crate) endpoint: WantedEndpoint,
    pub(crate) engine: Address,
    /// What the engine calls the model.
    pub(crate) name: String,
    /// Whether the engine may be asked for an answer in one piece.
    pub(crate) in_one: bool,
    /// The longest sequence the model takes, in tokens.
    pub(crate) context: u64,
    in_flight: Arc<AtomicUsize>,
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.in_flight.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Replicas {
    /// Opens the folder; what an earlier process unpacked there is removed.
    pub(crate) fn open(folder: &Path, bills: &Path, in_flight_max: usize) -> Result<Self, Error> {
        let doing = "could not make the replicas' folder";
        durable::private_folder(bills).map_err(Error::io(doing, bills))?;
        durable::remove_folder(folder).map_err(Error::io(doing, folder))?;
        durable::private_folder(folder).map_err(Error::io(doing, folder))?;
        let replicas =
            Self { folder: folder.to_owned(), bills: bills.to_owned(), in_flight_max, table: Mutex::default() };
        let longest = replicas.socket(EndpointId::from_u128(0)).as_os_str().len();
        if longest > SOCKET_PATH_BYTES_MAX {
            return Err(Error::Option(format!(
                "the data folder's path is {} bytes too long for Unix sockets; choose a shorter one",
                longest - SOCKET_PATH_BYTES_MAX
            )));
        }
        Ok(replicas)
    }

    fn table(&self) -> MutexGuard<'_, BTreeMap<EndpointId, Entry>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn folder_of(&self, endpoint: EndpointId) -> PathBuf {
        self.folder.join(endpoint.to_string())
    }

    fn socket(&self, endpoint: EndpointId) -> PathBuf {
        self.folder_of(endpoint).join("s").join(SOCKET_NAME)
    }

    /// A replica of an endpoint's own, about to be started.
    fn own(&self, endpoint: &WantedEndpoint) -> Entry {
        Entry {
            phase: ReplicaPhase::Loading,
            message: None,
            engine: Address::Unix(self.socket(endpoint.endpoint)),
            name: endpoint.name.clone(),
            in_one: false,
            in_flight_max: self.in_flight_max,
            context: CONTEXT_DEFAULT,
            in_flight: Arc::default(),
            served: true,
        }
    }

    /// A place for a request at the replica of an endpoint.
    pub(crate) fn seat(&self, endpoint: &WantedEndpoint) -> Result<Seat, ApiError> {
        let table = self.table();
        let entry = table.get(&endpoint.endpoint).filter(|entry| entry.served || entry.phase == ReplicaPhase::Failed);
        let entry =
            entry.ok_or_else(|| ApiError::unavailable("the model is about to be loaded; try again in a moment"))?;
        match entry.phase {
            ReplicaPhase::Ready => {}
            ReplicaPhase::Loading => return Err(ApiError::unavailable("the model is loading; try again in a moment")),
            ReplicaPhase::Stopped => return Err(ApiError::unavailable("the endpoint has stopped")),
            ReplicaPhase::Failed => {
                return Err(ApiError::unavailable("the model could not be loaded; its owner sees why"));
            }
        }
        if entry.in_flight.fetch_add(1, Ordering::AcqRel) >= entry.in_flight_max {
            entry.in_flight.fetch_sub(1, Ordering::AcqRel);
            return Err(ApiError::overloaded());
        }
        Ok(Seat {
            endpoint: endpoint.clone(),
            engine: entry.engine.clone(),
            name: entry.name.clone(),
            in_one: entry.in_one,
            context: entry.context,
            in_flight: Arc::clone(&entry.in_flight),
        })
    }

    /// What control is told.
    pub(crate) fn observed(&self) -> Vec<ObservedReplica> {
        let observe = |(endpoint, entry): (&EndpointId, &Entry)| ObservedReplica {
            endpoint: *endpoint,
            phase: entry.phase,
            message: entry.message.clone(),
        };
        self.table().iter().map(observe).collect()
    }

    fn set(&self, endpoint: EndpointId, phase: ReplicaPhase, message: Option<String>) {
        if let Some(entry) = self.table().get_mut(&endpoint) {
            (entry.phase, entry.message) = (phase, message);
        }
    }

    fn in_flight(&self, endpoint: EndpointId) -> usize {
        self.table().get(&endpoint).map_or(0, |entry| entry.in_flight.load(Ordering::Acquire))
    }
}

/// Starts a task for every wanted endpoint that has none, and forgets those that are gone.
pub(crate) fn apply(shared: &Arc<Shared>, intent: &Intent) {
    let wanted = |id: &EndpointId| intent.endpoints.iter().any(|endpoint| endpoint.endpoint == *id);
    shared.replicas.table().retain(|id, entry| entry.served || wanted(id));
    sweep(shared, intent);
    for endpoint in &intent.endpoints {
        let id = endpoint.endpoint;
        let fresh = {
            let mut table = shared.replicas.table();
            let fresh = !table.contains_key(&id);
            if fresh {
                let own = || shared.replicas.own(endpoint);
                table.insert(id, external::entry(shared, endpoint).unwrap_or_else(own));
            }
            fresh
        };
        if fresh {
            shared.tasks.spawn(serve(Arc::clone(shared), id));
        }
    }
}

/// Forgets the counts of endpoints that are neither wanted nor at work.
fn sweep(shared: &Shared, intent: &Intent) {
    let mut known: BTreeSet<EndpointId> = intent.endpoints.iter().map(|endpoint| endpoint.endpoint).collect();
    known.extend(shared.replicas.table().keys());
    if let Err(error) = bill::sweep(&shared.replicas.bills, &known) {
        tracing::warn!(%error, "counts of served models that are gone could not be removed yet");
    }
}

/// What to do after a replica's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    /// Try again after so many milliseconds.
    Again { wait_ms: u64 },
    /// It keeps failing.
    GiveUp,
}

/// Decides after `failures` failures in a row.
fn after(failures: u32) -> Next {
    if failures >= TRIES_MAX { Next::GiveUp } else { Next::Again { wait_ms: 250 << failures.min(6) } }
}

/// Why one life of a replica ended.
enum End {
    /// It is not wanted any more, or the site stops.
    Unwanted,
    /// What was held for it is used up.
    Spent,
    /// It failed, after so much time of answering.
    Failed { why: String, ready_ms: u64 },
}

/// Keeps an endpoint answering until it is wanted no more.
async fn serve(shared: Arc<Shared>, id: EndpointId) {
    let known = shared.desk.current().endpoint(id).cloned();
    if let Some(known) = known.as_ref().filter(|known| known.shared.is_some()) {
        external::stand(&shared, known).await;
    } else if let Some(known) = known {
        let mut bill = Bill::open(&shared, known);
        serve_on(&shared, id, &mut bill).await;
        clean(&shared, id).await;
        // Said only now: what ended and is told has all its usage at control. A site that stops says nothing of it.
        tokio::select! { () = shared.stop.cancelled() => {}, () = bill.told() => {} }
    }
    let mut table = shared.replicas.table();
    if let Some(entry) = table.get_mut(&id) {
        entry.served = false;
        entry.phase = ReplicaPhase::Stopped;
        entry.message = None;
    }
    drop(table);
    shared.news.notify_one();
}

async fn serve_on(shared: &Arc<Shared>, id: EndpointId, bill: &mut Bill) {
    let (mut failures, mut number) = (0, 0);
    while let Some(wanted) = wanted(shared, id) {
        let mut intents = shared.desk.subscribe();
        if !bill.may_stand() {
            let why = "the time held for it is used up; it goes on when control holds more";
            shared.replicas.set(id, ReplicaPhase::Loading, Some(why.into()));
            shared.news.notify_one();
            tokio::select! { () = shared.stop.cancelled() => {}, _ = intents.changed() => {} }
            continue;
        }
        number += 1;
        shared.replicas.set(id, ReplicaPhase::Loading, None);
        shared.news.notify_one();
        let (why, ready_ms) = match life::live(shared, &wanted, number, bill).await {
            End::Unwanted => return,
            End::Spent => continue,
            End::Failed { why, ready_ms } => (why, ready_ms),
        };
        failures = if ready_ms >= HEALTHY_MS { 1 } else { failures + 1 };
        tracing::warn!(endpoint.id = %id, failures, why, "a replica failed");
        match after(failures) {
            Next::Again { wait_ms } => {
                shared.replicas.set(
                    id,
                    ReplicaPhase::Loading,
                    Some(format!("try {failures} of {TRIES_MAX} failed: {why}")),
                );
                tokio::select! { () = unwanted(shared, id) => return, () = tokio::time::sleep(Duration::from_millis(wait_ms)) => {} }
            }
            Next::GiveUp => {
                tokio::select! { () = shared.stop.cancelled() => return, () = bill.told() => {} }
                shared.replicas.set(id, ReplicaPhase::Failed, Some(format!("failed {failures} times: {why}")));
                shared.news.notify_one();
                return unwanted(shared, id).await;
            }
        }
    }
}

/// The endpoint, if it should answer now.
fn wanted(shared: &Shared, id: EndpointId) -> Option<WantedEndpoint> {
    if shared.stop.is_cancelled() {
        return None;
    }
    shared.desk.current().endpoint(id).filter(|endpoint| !endpoint.drain).cloned()
}

/// Resolves when the endpoint should not answer any more.
async fn unwanted(shared: &Shared, id: EndpointId) {
    let mut intents = shared.desk.subscribe();
    while wanted(shared, id).is_some() {
        tokio::select! {
            () = shared.stop.cancelled() => return,
            changed = intents.changed() => if changed.is_err() { return },
        }
    }
}

/// Removes the unpacked weights.
async fn clean(shared: &Shared, id: EndpointId) {
    let folder = shared.replicas.folder_of(id);
    let removed = tokio::task::spawn_blocking(move || durable::remove_folder(&folder)).await;
    if let Ok(Err(error)) = removed {
        tracing::warn!(%error, endpoint.id = %id, "a replica's folder could not be removed yet");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replica_that_keeps_failing_is_given_up_after_longer_and_longer_waits() {
        let waits: Vec<Next> = (1..=TRIES_MAX).map(after).collect();
        let again = |wait_ms| Next::Again { wait_ms };
        assert_eq!(waits, [again(500), again(1_000), again(2_000), again(4_000), Next::GiveUp]);
    }
}
