//! Bills an attempt: interval after interval while it is ready, and the rest of one when it is over.

use gregal_core::meter::Meter;
use gregal_engine::Observation;

use super::attempt::{Attempt, time_of};
use crate::agent::meter::{self, IntervalEnergy, Sold};

impl Attempt {
    /// Bills whole intervals of a ready run, and the rest of one that is over.
    pub(super) async fn meter(&mut self, observation: &Observation) {
        self.flush().await;
        let Some(clock) = self.live.as_ref().and_then(|live| live.clock) else { return };
        let options = &self.shared.options;
        let now = clock.at(options.world.steady());
        let (until, at_least_ms) = match observation.exit() {
            Some(exit) => (time_of(exit.at_ms).min(now), 1),
            None => (now, options.tuning.meter_interval_ms),
        };
        let limit_ms = self.state.limit_ms();
        let metered = &self.state.metered;
        let Some(interval) = meter::next_interval(metered, clock.began(), until, limit_ms, at_least_ms) else { return };
        let energy = self.energy(observation, interval.millis());
        let Some(site) = self.shared.desk.current().site else { return };
        let before = self.state.metered.clone();
        self.state.metered.until = Some(interval.end);
        self.state.metered.billed_ms += interval.millis();
        let energy_mj = energy.iter().fold(0_u64, |sum, part| sum.saturating_add(part.mj));
        self.state.metered.energy_mj = self.state.metered.energy_mj.saturating_add(energy_mj);
        self.state.energy_method = Some(meter::energy_method(&energy));
        // The note first: what happens after it can only lose an interval, never bill it twice.
        if self.save().await {
            let wanted = &self.state.wanted;
            let sold = Sold {
                organisation: wanted.organisation,
                project: wanted.project,
                site,
                subject: wanted.job.to_string(),
                sku: &wanted.sku,
                cores: if wanted.leave_by.is_some() { Meter::CoveredCore } else { Meter::ComputeCore },
                accelerators: if wanted.leave_by.is_some() { Meter::CoveredAccelerator } else { Meter::Accelerator },
                occasion: format!("{}.{}", wanted.attempt, self.state.run),
            };
            self.pending.extend(meter::records(&sold, interval, &energy));
            self.flush().await;
        } else {
            self.state.metered = before;
        }
    }

    /// The energy of the interval that ends now: what the engine counted since the last one, else an estimate.
    fn energy(&mut self, observation: &Observation, millis: u64) -> Vec<IntervalEnergy> {
        let (sku, core_mw) = (&self.state.wanted.sku, self.shared.options.core_mw);
        let estimate = || meter::energy_estimate(sku.cpus_milli, core_mw, millis);
        match self.live.as_mut() {
            Some(live) => meter::energy_since(&mut live.energy, &observation.usage.energy, estimate),
            None => vec![estimate()],
        }
    }

    /// Hands noted intervals to the spool; what a failing disk refuses is tried again with the next look.
    pub(super) async fn flush(&mut self) -> bool {
        if self.pending.is_empty() {
            return true;
        }
        match self.shared.spool.append(self.pending.clone()).await {
            Ok(next) => {
                self.pending.clear();
                self.state.spooled_until = next;
                true
            }
            Err(error) => {
                tracing::error!(%error, job.id = %self.state.wanted.job, "usage of a job could not be recorded yet");
                false
            }
        }
    }
}
