//! What a site says of served models, and of datasets whose bytes have arrived.

use std::collections::BTreeSet;

use gregal_api::{
    grant::GRANT_SECONDS_MAX,
    protocol::{ObservedDataset, ObservedReplica, ReplicaPhase, SyncRequest},
};
use gregal_core::{
    dataset::{Dataset, DatasetState},
    endpoint::{Endpoint, EndpointMove, EndpointState},
    id::{DatasetId, EndpointId, SiteId},
    time::Time,
};
use gregal_store::Tx;

use crate::{Control, Cx, Result, context::Facts as _, sync::Observed};

/// The most characters of a replica's message that are kept.
const MESSAGE_CHARS_MAX: usize = 500;
/// How long after its removal somebody may come to its site with leave to write a dataset, in seconds: while the last grant
/// lives, and a minute for a clock that is behind.
const WRITE_SECONDS_MAX: i64 = GRANT_SECONDS_MAX + 60;

impl Control {
    /// Takes in one replica: the endpoint makes the moves that lead to what is seen.
    pub(crate) async fn replica_observed(
        &self,
        cx: &Cx,
        tx: &Tx,
        site: SiteId,
        seen: &ObservedReplica,
        observed: &mut Observed,
    ) -> Result<()> {
        let found = tx.endpoint_get(seen.endpoint).await?;
        // What was given no room runs nowhere, whatever an older intent or a restored site says of it.
        let is_told = |one: &Endpoint| one.site == site && one.is_for_site() && !one.state.is_final();
        let Some(before) = found.filter(is_told) else {
            return Ok(());
        };
        let mut after = before.clone();
        for step in moves(before.state, seen, cx) {
            after = after.apply(step)?;
        }
        if after.state != before.state {
            self.endpoint_written(cx, tx, &before, after, observed).await?;
        }
        Ok(())
    }

    /// Stops endpoints that drain and that their site does not list. Only asked of a site that acts by the newest intent.
    pub(crate) async fn replicas_absent(
        &self,
        cx: &Cx,
        tx: &Tx,
        site: SiteId,
        asked: &SyncRequest,
        observed: &mut Observed,
    ) -> Result<()> {
        let listed: BTreeSet<EndpointId> = asked.replicas.iter().map(|seen| seen.endpoint).collect();
        for endpoint in tx.endpoints_live_at_site(site).await? {
            if endpoint.state == EndpointState::Draining && !listed.contains(&endpoint.id) {
                let after = endpoint.apply(EndpointMove::Stop)?;
                self.endpoint_written(cx, tx, &endpoint, after, observed).await?;
            }
        }
        Ok(())
    }

    async fn endpoint_written(
        &self,
        cx: &Cx,
        tx: &Tx,
        before: &Endpoint,
        after: Endpoint,
        observed: &mut Observed,
    ) -> Result<()> {
        let after = Endpoint { version: before.version + 1, ..after };
        self.endpoint_put(tx, &after).await?;
        let entry = cx.done(Some(after.organisation), &format!("endpoint:{}", after.state.as_str()), after.id);
        observed.entries.push(entry.fact("from", before.state.as_str()));
        observed.moved = true;
        Ok(())
    }

    /// Takes in that nothing of a removed dataset is left. Its site is told of it until nobody can come to write it again.
    pub(crate) async fn dataset_gone(
        &self,
        cx: &Cx,
        tx: &Tx,
        site: SiteId,
        id: DatasetId,
        observed: &mut Observed,
    ) -> Result<()> {
        let waits = |dataset: &Dataset| {
            dataset.site == site
                && dataset.state == DatasetState::Deleted
                && !dataset.is_gone
                && is_closed(dataset, cx.now)
        };
        let Some(before) = tx.dataset_get(id).await?.filter(waits) else { return Ok(()) };
        let after = Dataset { is_gone: true, version: before.version + 1, ..before };
        tx.dataset_update(&after).await?;
        observed.entries.push(cx.done(Some(after.organisation), "dataset:gone", after.id));
        Ok(())
    }

    /// Takes in a dataset whose bytes have arrived. Its digest never changes again.
    pub(crate) async fn dataset_observed(
        &self,
        cx: &Cx,
        tx: &Tx,
        site: SiteId,
        seen: &ObservedDataset,
        observed: &mut Observed,
    ) -> Result<()> {
        let Some(before) = tx.dataset_get(seen.dataset).await?.filter(|dataset| dataset.site == site) else {
            return Ok(());
        };
        observed.datasets_stored.push(before.id);
        let is_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        let is_digest = seen.digest.len() == 64 && seen.digest.bytes().all(is_hex);
        if before.state == DatasetState::Pending && is_digest && i64::try_from(seen.bytes).is_ok() {
            let entry = cx
                .done(Some(before.organisation), "dataset:store", before.id)
                .fact("digest", seen.digest.as_str())
                .fact("bytes", seen.bytes);
            let after = Dataset {
                state: DatasetState::Stored,
                digest: Some(seen.digest.clone()),
                bytes: Some(seen.bytes),
                version: before.version + 1,
                ..before
            };
            tx.dataset_update(&after).await?;
            observed.entries.push(entry);
            observed.moved = true;
        } else if before.state == DatasetState::Stored && before.digest.as_ref() != Some(&seen.digest) {
            let why = "its digest is known already and is another one";
            observed.entries.push(cx.done(Some(before.organisation), "dataset:store", before.id).refused(why));
        }
        Ok(())
    }
}

/// Whether nobody has leave any more to write a removed dataset's bytes.
fn is_closed(dataset: &Dataset, now: Time) -> bool {
    dataset.deleted_at.is_none_or(|deleted| deleted.plus_seconds(WRITE_SECONDS_MAX) <= now)
}

/// The moves that lead from where an endpoint stands to what is seen of it.
fn moves(state: EndpointState, seen: &ObservedReplica, cx: &Cx) -> Vec<EndpointMove> {
    use EndpointState::{Draining, Loading, Pending, Ready};
    let ready = EndpointMove::Ready { at: cx.now };
    match (state, seen.phase) {
        (Pending, ReplicaPhase::Loading) => vec![EndpointMove::Load],
        (Pending, ReplicaPhase::Ready) => vec![EndpointMove::Load, ready],
        (Loading, ReplicaPhase::Ready) => vec![ready],
        // What served it is gone and comes again.
        (Ready, ReplicaPhase::Loading | ReplicaPhase::Stopped) => vec![EndpointMove::Reload],
        (Draining, ReplicaPhase::Stopped | ReplicaPhase::Failed) => vec![EndpointMove::Stop],
        (Pending | Loading | Ready, ReplicaPhase::Failed) => {
            let clean = |text: &String| text.chars().filter(|c| !c.is_control()).take(MESSAGE_CHARS_MAX).collect();
            let why = seen.message.as_ref().map_or_else(|| "its site could not bring it to answer".into(), clean);
            vec![EndpointMove::Fail { why }]
        }
        _ => Vec::new(),
    }
}
