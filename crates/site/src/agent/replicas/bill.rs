//! What a served model is billed for: the time it answers, from its first answer of each life to that life's end, and never
//! more than control says is held for it.
//!
//! The count is kept on disk and noted *before* its records are spooled: a crash between the two loses an interval to the
//! tenant's favour, the other order could bill it twice. Time in which nothing answered is in no interval.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::Arc,
};

use gregal_api::protocol::WantedEndpoint;
use gregal_core::{id::EndpointId, meter::Meter, time::Time};
use gregal_engine::{Energy, Observation};

use super::GRACE_MS;
use crate::{
    agent::meter::{self, EnergyBilled, Metered, RunClock, Sold},
    durable,
    site::Shared,
    spool::Record,
};

/// How many times the length of the first interval a later one may have.
const INTERVALS_MAX: u64 = 30;

/// The count of one endpoint, over all lives of its replica.
pub(super) struct Bill {
    shared: Arc<Shared>,
    path: PathBuf,
    /// As control last said it is wanted.
    wanted: WantedEndpoint,
    metered: Metered,
    /// Since the first answer of this life; none while nothing answers.
    clock: Option<RunClock>,
    /// What the engine had counted when the last interval ended.
    energy: EnergyBilled,
    counted: Energy,
    /// Noted, and not yet in the spool.
    pending: Vec<Record>,
}

impl Bill {
    /// Takes up the count where it was left: from the disk, else from what control was told.
    pub(super) fn open(shared: &Arc<Shared>, wanted: WantedEndpoint) -> Self {
        let path = path_of(&shared.replicas.bills, wanted.endpoint);
        let kept = durable::read(&path).ok().flatten().and_then(|text| serde_json::from_slice(&text).ok());
        let told = Metered::after(&wanted.billed);
        let metered = kept.map_or(told.clone(), |kept: Metered| Metered {
            until: kept.until.max(told.until),
            billed_ms: kept.billed_ms.max(told.billed_ms),
            energy_mj: kept.energy_mj,
        });
        Self {
            shared: Arc::clone(shared),
            path,
            wanted,
            metered,
            clock: None,
            energy: EnergyBilled::new(),
            counted: Energy::default(),
            pending: Vec::new(),
        }
    }

    /// Whether there is time for it to stand: what is left of the held time is more than it takes to end.
    pub(super) fn may_stand(&mut self) -> bool {
        let id = self.wanted.endpoint;
        if let Some(newer) = self.shared.desk.current().endpoint(id) {
            self.wanted = newer.clone();
        }
        let reserve_ms = self.shared.options.tuning.drain_ms_max.saturating_add(GRACE_MS);
        let left_ms = self.wanted.held_ms.saturating_sub(self.metered.billed_ms);
        let running_ms = self.clock.map_or(0, |clock| {
            let since = self.metered.until.map_or(clock.began(), |until| until.max(clock.began()));
            u64::try_from(clock.at(self.shared.options.world.steady()).millis_since(since)).unwrap_or(0)
        });
        self.wanted.sku.is_some() && left_ms.saturating_sub(running_ms) > reserve_ms
    }

    /// It answers, for the first time in this life: from here on it is billed.
    pub(super) fn ready(&mut self) {
        let world = &self.shared.options.world;
        self.clock = Some(RunClock::begin(world.now(), world.steady(), &self.metered));
        self.energy = meter::energy_counted(&self.counted);
    }

    /// Bills whole intervals of a life that goes on.
    pub(super) async fn meter(&mut self, observation: &Observation) {
        self.counted.clone_from(&observation.usage.energy);
        if let Some(clock) = self.clock {
            let now = clock.at(self.shared.options.world.steady());
            let least_ms = self.shared.options.tuning.replica_interval_ms;
            // Longer and longer ones: what serves for months must not make a record every two seconds. A crash loses the
            // last of them at most.
            let lived_ms = self.metered.until.map_or(0, |until| until.millis_since(clock.began()));
            let lived_ms = u64::try_from(lived_ms).unwrap_or(0);
            let at_least_ms = lived_ms.clamp(least_ms, least_ms.saturating_mul(INTERVALS_MAX));
            self.bill(clock, now, at_least_ms).await;
        }
    }

    /// Bills the rest of a life that ended then, and no later.
    pub(super) async fn end(&mut self, at: Option<Time>) {
        if let Some(clock) = self.clock {
            let now = clock.at(self.shared.options.world.steady());
            self.bill(clock, at.map_or(now, |at| at.min(now)), 1).await;
        }
        self.clock = None;
        (self.energy, self.counted) = (EnergyBilled::new(), Energy::default());
    }

    async fn bill(&mut self, clock: RunClock, until: Time, at_least_ms: u64) {
        if !self.flush().await {
            // The interval goes on until the spool takes the last one: what waits in memory stays one interval.
            return;
        }
        let limit_ms = self.wanted.held_ms;
        let next = meter::next_interval(&self.metered, clock.began(), until, limit_ms, at_least_ms);
        let (Some(interval), Some(site)) = (next, self.shared.desk.current().site) else { return };
        let Some(sku) = self.wanted.sku.clone() else { return };
        let core_mw = self.shared.options.core_mw;
        let estimate = || meter::energy_estimate(sku.cpus_milli, core_mw, interval.millis());
        let energy = meter::energy_since(&mut self.energy, &self.counted, estimate);
        let energy_mj = energy.iter().fold(0_u64, |sum, part| sum.saturating_add(part.mj));
        let after = Metered {
            until: Some(interval.end),
            billed_ms: self.metered.billed_ms + interval.millis(),
            energy_mj: self.metered.energy_mj.saturating_add(energy_mj),
        };
        // The note first: what happens after it can only lose an interval, never bill it twice.
        if let Err(error) = self.note(&after) {
            return tracing::error!(%error, endpoint.id = %self.wanted.endpoint, "a served model's count could not be kept");
        }
        self.metered = after;
        let sold = Sold {
            organisation: self.wanted.organisation,
            project: self.wanted.project,
            site,
            subject: self.wanted.endpoint.to_string(),
            sku: &sku,
            cores: Meter::ReplicaCore,
            accelerators: Meter::Accelerator,
            occasion: "replica".into(),
        };
        self.pending.extend(meter::records(&sold, interval, &energy));
        self.flush().await;
    }

    fn note(&self, metered: &Metered) -> std::io::Result<()> {
        durable::write(&self.path, &serde_json::to_vec(metered)?)
    }

    /// Hands what was noted to the spool; what a failing disk refuses is tried again with the next look.
    async fn flush(&mut self) -> bool {
        if self.pending.is_empty() {
            return true;
        }
        match self.shared.spool.append(self.pending.clone()).await {
            Ok(_) => {
                self.pending.clear();
                true
            }
            Err(error) => {
                tracing::error!(%error, endpoint.id = %self.wanted.endpoint, "usage of a served model could not be recorded yet");
                false
            }
        }
    }

    /// Waits until control has all that was billed: only then is the end told, and only then is its hold closed.
    pub(super) async fn told(&mut self) {
        while !self.flush().await {
            tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        }
        self.shared.spool.handed_over_until(self.shared.spool.next()).await;
    }
}

fn path_of(bills: &Path, endpoint: EndpointId) -> PathBuf {
    bills.join(format!("{endpoint}.json"))
}

/// Forgets the counts of endpoints that control speaks of no more.
pub(super) fn sweep(bills: &Path, known: &BTreeSet<EndpointId>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(bills)? {
        let path = entry?.path();
        let id = path.file_stem().and_then(|name| name.to_str()).and_then(|name| name.parse::<EndpointId>().ok());
        if id.is_some_and(|id| !known.contains(&id)) {
            std::fs::remove_file(&path)?;
        }
    }
    Ok(())
}
