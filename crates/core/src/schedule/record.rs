//! What is kept of a pass, so that anybody can make it again and get the same answer.
//!
//! A queue changes little from one pass to the next, so most records hold only what changed since the one before; every
//! [`CHAIN_MAX`]th holds all. A record's digest is over its own inputs and the digest of the record before: a chain that was
//! broken or edited does not pass for the truth, and to make a record costs no more than what changed.

mod packed;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::{Cause, Decision, Promise, QuotaRow, Room, Run, Snapshot, Waiting, Weight, schedule};
use crate::{
    id::{JobId, OrganisationId, SiteId},
    time::Time,
    used::Used,
};

/// The version of the rules of [`schedule`]. Raised when the same inputs may lead to another answer.
pub const RULES: u32 = 5;
/// The most records from one that holds all its inputs to the next.
pub const CHAIN_MAX: usize = 64;

/// What is kept of one pass.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// When it was made.
    pub at: Time,
    /// By which rules: [`RULES`] of then.
    pub rules: u32,
    /// What it looked at.
    pub inputs: Inputs,
    /// SHA-256 over the whole inputs, or over the digest of the record before and what changed since; hex.
    pub inputs_digest: String,
    /// SHA-256 over all decisions, but for the words of those that wait; hex.
    pub decisions_digest: String,
}

/// What a pass looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Inputs {
    /// All of it.
    Whole(#[serde(with = "packed::whole")] Snapshot),
    /// What changed since the record before.
    Since(Change),
    /// What other rules looked at, as it was written then.
    #[serde(untagged)]
    Other(serde_json::Value),
}

/// What changed from one snapshot to the next.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// Jobs that left the queue, or stand in it otherwise than before.
    pub left: Vec<JobId>,
    /// Jobs that came, with their place in the queue as it is after the change, in the order of their places.
    #[serde(with = "packed::came")]
    pub came: Vec<(usize, Waiting)>,
    /// Sites that are gone.
    pub gone: Vec<SiteId>,
    /// Sites that are new or not as before.
    pub rooms: Vec<Room>,
    /// Ended runs that no longer count.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub past_gone: Vec<JobId>,
    /// Runs that ended since, or stand otherwise than before.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub past: Vec<Run>,
    /// All quotas, if any is not as before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quotas: Option<Vec<QuotaRow>>,
    /// All weights, if any is not as before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weights: Option<Vec<Weight>>,
    /// Of whom nothing counts any more, of which family.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub used_gone: Vec<(OrganisationId, String)>,
    /// What is used otherwise than before, each whole.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub used: Vec<Used>,
}

/// Why a pass cannot be made again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Irreproducible {
    /// The chain does not begin with a record that holds all its inputs.
    #[error("the record of the whole queue that this one builds on is missing")]
    NoBeginning,
    /// A pass was made by other rules than today's: what it looked at means nothing to these.
    #[error("the pass was made by version {rules} of the rules, and this is version {RULES}")]
    OtherRules {
        /// By which.
        rules: u32,
    },
    /// What was put together is not what the pass looked at.
    #[error("the recorded inputs are not those the pass looked at: a record is missing or was changed")]
    OtherInputs,
}

/// A pass made again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replay {
    /// What it looked at.
    pub snapshot: Snapshot,
    /// What is decided now, from those inputs.
    pub decisions: Vec<Decision>,
    /// Whether that is what was decided then.
    pub same: bool,
}

impl Record {
    /// Keeps a pass with all of its inputs.
    pub fn whole(at: Time, snapshot: Snapshot, decisions: &[Decision]) -> Self {
        let inputs_digest = digest(&Inputs::Whole(snapshot.in_order()));
        Self {
            at,
            rules: RULES,
            inputs: Inputs::Whole(snapshot),
            inputs_digest,
            decisions_digest: digest_of(decisions),
        }
    }

    /// Keeps a pass as what changed since the record with the digest `before`.
    pub fn since(at: Time, before: &str, change: Change, decisions: &[Decision]) -> Self {
        let inputs_digest = link(before, &change);
        Self { at, rules: RULES, inputs: Inputs::Since(change), inputs_digest, decisions_digest: digest_of(decisions) }
    }

    /// Whether it holds all its inputs.
    pub const fn is_whole(&self) -> bool {
        matches!(self.inputs, Inputs::Whole(_))
    }
}

/// Makes the last pass of a chain again. The chain begins with a record that holds all its inputs.
pub fn replay(chain: &[Record]) -> Result<Replay, Irreproducible> {
    if let Some(other) = chain.iter().find(|record| record.rules != RULES) {
        return Err(Irreproducible::OtherRules { rules: other.rules });
    }
    let mut records = chain.iter();
    let Some(Record { inputs: Inputs::Whole(first), inputs_digest, .. }) = records.next() else {
        return Err(Irreproducible::NoBeginning);
    };
    let mut snapshot = first.clone();
    let mut before = held_to(inputs_digest, &digest(&Inputs::Whole(snapshot.in_order())))?;
    for record in records {
        let own = match &record.inputs {
            Inputs::Whole(whole) => {
                snapshot = whole.clone();
                digest(&Inputs::Whole(snapshot.in_order()))
            }
            Inputs::Since(change) => {
                change.apply(&mut snapshot);
                link(before, change)
            }
            Inputs::Other(_) => return Err(Irreproducible::OtherInputs),
        };
        before = held_to(&record.inputs_digest, &own)?;
    }
    let last = &chain[chain.len() - 1];
    let decisions = schedule(&snapshot, last.at);
    let same = digest_of(&decisions) == last.decisions_digest;
    Ok(Replay { snapshot, decisions, same })
}

/// A record's own digest, if it is what its inputs come to.
fn held_to<'a>(said: &'a str, own: &str) -> Result<&'a str, Irreproducible> {
    if said == own { Ok(said) } else { Err(Irreproducible::OtherInputs) }
}

impl Snapshot {
    /// The same, with all but the queue sorted: its order means nothing, and one form has one digest.
    fn in_order(&self) -> Self {
        let mut ordered = self.clone();
        ordered.rooms.sort_by_key(|room| room.site);
        ordered.past.sort_by_key(|run| (run.ended, run.job));
        ordered.quotas.sort();
        ordered.weights.sort();
        ordered.used.sort();
        ordered
    }
}

impl Change {
    /// What turns one snapshot into another.
    pub fn between(before: &Snapshot, after: &Snapshot) -> Self {
        let old_rooms: BTreeMap<SiteId, &Room> = before.rooms.iter().map(|room| (room.site, room)).collect();
        let new_rooms: BTreeMap<SiteId, &Room> = after.rooms.iter().map(|room| (room.site, room)).collect();
        let stays = staying(before, after);
        let old_past: BTreeMap<JobId, &Run> = before.past.iter().map(|run| (run.job, run)).collect();
        let new_past: BTreeMap<JobId, &Run> = after.past.iter().map(|run| (run.job, run)).collect();
        let (old_used, new_used) = (used_by_name(&before.used), used_by_name(&after.used));
        Self {
            used_gone: (old_used.keys())
                .filter(|name| !new_used.contains_key(*name))
                .map(|(organisation, sku)| (*organisation, (*sku).to_owned()))
                .collect(),
            used: (new_used.iter())
                .filter(|(name, used)| old_used.get(*name) != Some(used))
                .map(|(_, used)| (*used).clone())
                .collect(),
            past_gone: old_past.keys().filter(|job| !new_past.contains_key(job)).copied().collect(),
            past: (new_past.iter())
                .filter(|(job, run)| old_past.get(job) != Some(run))
                .map(|(_, run)| (*run).clone())
                .collect(),
            quotas: (before.quotas != after.quotas).then(|| after.quotas.clone()),
            weights: (before.weights != after.weights).then(|| after.weights.clone()),
            left: before.waiting.iter().filter(|job| !stays.contains_key(&job.job)).map(|job| job.job).collect(),
            came: (after.waiting.iter().enumerate())
                .filter(|(_, job)| !stays.contains_key(&job.job))
                .map(|(place, job)| (place, job.clone()))
                .collect(),
            gone: old_rooms.keys().filter(|site| !new_rooms.contains_key(site)).copied().collect(),
            rooms: (new_rooms.iter())
                .filter(|(site, room)| old_rooms.get(site) != Some(room))
                .map(|(_, room)| (*room).clone())
                .collect(),
        }
    }

    /// Turns the snapshot before into the one after.
    pub fn apply(&self, snapshot: &mut Snapshot) {
        let left: BTreeSet<JobId> = self.left.iter().copied().collect();
        snapshot.waiting.retain(|job| !left.contains(&job.job));
        for (place, job) in &self.came {
            // A place beyond the end cannot come from us; the digest will tell.
            let place = (*place).min(snapshot.waiting.len());
            snapshot.waiting.insert(place, job.clone());
        }
        let mut rooms: BTreeMap<SiteId, Room> = snapshot.rooms.drain(..).map(|room| (room.site, room)).collect();
        rooms.retain(|site, _| !self.gone.contains(site));
        rooms.extend(self.rooms.iter().map(|room| (room.site, room.clone())));
        snapshot.rooms = rooms.into_values().collect();
        let mut past: BTreeMap<JobId, Run> = snapshot.past.drain(..).map(|run| (run.job, run)).collect();
        past.retain(|job, _| !self.past_gone.contains(job));
        past.extend(self.past.iter().map(|run| (run.job, run.clone())));
        snapshot.past = past.into_values().collect();
        let goes = |one: &Used| {
            let is_gone =
                self.used_gone.iter().any(|(organisation, sku)| (organisation, sku) == (&one.organisation, &one.sku));
            is_gone || self.used.iter().any(|new| (new.organisation, &new.sku) == (one.organisation, &one.sku))
        };
        snapshot.used.retain(|one| !goes(one));
        snapshot.used.extend(self.used.iter().cloned());
        snapshot.used.sort();
        snapshot.quotas = self.quotas.clone().unwrap_or(std::mem::take(&mut snapshot.quotas));
        snapshot.weights = self.weights.clone().unwrap_or(std::mem::take(&mut snapshot.weights));
    }
}

fn used_by_name(used: &[Used]) -> BTreeMap<(OrganisationId, &str), &Used> {
    used.iter().map(|one| ((one.organisation, one.sku.as_str()), one)).collect()
}

/// The jobs that stand in both, unchanged and in the same order among themselves, with their place in the first.
fn staying(before: &Snapshot, after: &Snapshot) -> BTreeMap<JobId, usize> {
    let old: BTreeMap<JobId, (usize, &Waiting)> =
        before.waiting.iter().enumerate().map(|(place, job)| (job.job, (place, job))).collect();
    let mut next = 0;
    let mut stays = BTreeMap::new();
    for job in &after.waiting {
        if let Some((place, same)) = old.get(&job.job)
            && *same == job
            && *place >= next
        {
            next = place + 1;
            stays.insert(job.job, *place);
        }
    }
    stays
}

/// The digest of a change on top of what had another one.
fn link(before: &str, change: &Change) -> String {
    let mut hash = Sha256::new();
    hash.update(before.as_bytes());
    hash.update(serde_json::to_vec(change).unwrap_or_default());
    hex::encode(hash.finalize())
}

/// A decision as it is compared: whether a pass put into words why somebody waits changes nothing it decided.
#[derive(Serialize)]
#[serde(untagged)]
enum Decided<'a> {
    Waits { waits: JobId, causes: &'a [Cause], promise: Option<Promise> },
    Other(&'a Decision),
}

fn digest_of(decisions: &[Decision]) -> String {
    let plain = decisions.iter().map(|decision| match decision {
        Decision::Wait { job, causes, promise, .. } => Decided::Waits { waits: *job, causes, promise: *promise },
        other => Decided::Other(other),
    });
    digest(&plain.collect::<Vec<_>>())
}

fn digest(value: &impl Serialize) -> String {
    // Plain data with text keys always has a JSON form; were it not so, no two digests would agree, and replays would say so.
    hex::encode(Sha256::digest(serde_json::to_vec(value).unwrap_or_default()))
}
