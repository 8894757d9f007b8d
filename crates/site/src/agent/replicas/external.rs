//! An endpoint that a server answers for which Gregal did not start: asked now and then whether it is well, and nothing else.
//! No time is billed for it: it takes nothing of the site but the wire.

use std::{sync::Arc, time::Duration};

use gregal_api::protocol::{ReplicaPhase, WantedEndpoint};
use tokio::time::timeout;

use super::{Entry, life, unwanted};
use crate::{
    external::External,
    gateway::upstream::{Address, Pool, Wire},
    site::Shared,
};

/// How often a server is asked whether it is well.
const EVERY: Duration = Duration::from_secs(1);
/// The longest it may take to say so.
const PATIENCE: Duration = Duration::from_secs(2);
/// The largest answer that says so, in bytes.
const HEALTH_BYTES_MAX: usize = 1 << 20;

/// What the settings say of the shared model an endpoint stands for; none of one with a replica of its own, and of one that
/// is offered here no longer.
fn offered<'a>(shared: &'a Shared, endpoint: &WantedEndpoint) -> Option<&'a External> {
    let name = endpoint.shared.as_ref()?;
    shared.options.external.iter().find(|one| one.name == *name)
}

/// The entry of an endpoint that stands for a shared model of this site.
pub(super) fn entry(shared: &Shared, endpoint: &WantedEndpoint) -> Option<Entry> {
    let external = offered(shared, endpoint)?;
    Some(Entry {
        phase: ReplicaPhase::Loading,
        message: None,
        engine: Address::Tcp(Pool::new(external.address)),
        name: external.model.clone(),
        in_one: true,
        in_flight_max: external.requests_max,
        context: external.context,
        in_flight: Arc::default(),
        served: true,
    })
}

/// Stands for an endpoint until it is wanted no more.
pub(super) async fn stand(shared: &Arc<Shared>, endpoint: &WantedEndpoint) {
    let id = endpoint.endpoint;
    let mut told = None;
    loop {
        let (phase, why) = match offered(shared, endpoint) {
            None => (ReplicaPhase::Loading, Some("its site does not offer the shared model any more")),
            Some(external) if is_well(external).await => (ReplicaPhase::Ready, None),
            Some(_) => (ReplicaPhase::Loading, Some("the server that answers for it is not well")),
        };
        if told != Some(phase) {
            tracing::info!(endpoint.id = %id, ?phase, "a shared model");
            shared.replicas.set(id, phase, why.map(str::to_owned));
            shared.news.notify_one();
            told = Some(phase);
        }
        tokio::select! { () = unwanted(shared, id) => break, () = tokio::time::sleep(EVERY) => {} }
    }
    life::drain(shared, id).await;
}

/// Whether a server says that it is well.
async fn is_well(external: &External) -> bool {
    let asking = async {
        let wire = Wire::connect(&Address::Tcp(Pool::new(external.address))).await.ok()?;
        let mut answer = wire.ask("GET", &external.health, b"").await.ok()?;
        answer.whole(HEALTH_BYTES_MAX).await.ok()?;
        Some(answer.status == 200)
    };
    timeout(PATIENCE, asking).await.ok().flatten().unwrap_or(false)
}
