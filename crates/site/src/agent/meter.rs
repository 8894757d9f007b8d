//! What a running job or served model is billed for: whole intervals, one after another, never overlapping, never past its limit.
//!
//! The interval is noted in its state *before* its records are spooled. A crash between the two loses the interval
//! to the tenant's favour; the other order could bill it twice under two ids.

use std::time::Instant;

use gregal_core::{
    id::{OrganisationId, ProjectId, SiteId},
    job::Billed,
    meter::{Meter, UsageEvent},
    money::Nano,
    sku::Sku,
    time::Time,
};
use gregal_engine::{Energy, EnergyBasis};
use serde::{Deserialize, Serialize};

use crate::spool::Record;

/// Wall time that cannot jump: where a run began, and steady time from there on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RunClock {
    wall: Time,
    steady: Instant,
}

impl RunClock {
    /// Begins at `now`, but never before what was metered already.
    pub(crate) fn begin(now: Time, steady: Instant, metered: &Metered) -> Self {
        Self { wall: metered.until.map_or(now, |until| until.max(now)), steady }
    }

    /// The time of a steady instant.
    pub(crate) fn at(&self, steady: Instant) -> Time {
        let passed = steady.saturating_duration_since(self.steady).as_millis();
        self.wall.plus_millis(i64::try_from(passed).unwrap_or(i64::MAX))
    }

    /// When the run became ready, by this clock.
    pub(crate) const fn began(&self) -> Time {
        self.wall
    }
}

/// What was metered of a job over all its attempts and runs, or of a served model over all its lives.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Metered {
    /// Up to where.
    pub(crate) until: Option<Time>,
    /// How much time, in milliseconds.
    pub(crate) billed_ms: u64,
    /// How much energy, in millijoules.
    pub(crate) energy_mj: u64,
}

impl Metered {
    /// What it begins with: attempts before it are counted in.
    pub(crate) const fn after(billed: &Billed) -> Self {
        Self { until: billed.until, billed_ms: billed.ms, energy_mj: billed.energy_mj }
    }

    /// The same as control knows it.
    pub(crate) const fn billed(&self) -> Billed {
        Billed { ms: self.billed_ms, until: self.until, energy_mj: self.energy_mj }
    }
}

/// A stretch of time that something ready held its SKU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Interval {
    pub(crate) start: Time,
    pub(crate) end: Time,
}

impl Interval {
    pub(crate) fn millis(&self) -> u64 {
        u64::try_from(self.end.millis_since(self.start)).unwrap_or(0)
    }
}

/// The next interval of a run that began at `began`, up to `now`. None while it would be shorter than `at_least_ms`, and
/// once the limit is reached.
pub(crate) fn next_interval(
    metered: &Metered,
    began: Time,
    now: Time,
    limit_ms: u64,
    at_least_ms: u64,
) -> Option<Interval> {
    let start = metered.until.map_or(began, |until| until.max(began));
    let left_ms = limit_ms.saturating_sub(metered.billed_ms);
    let passed_ms = u64::try_from(now.millis_since(start)).unwrap_or(0);
    let interval = Interval { start, end: start.plus_millis(i64::try_from(passed_ms.min(left_ms)).unwrap_or(0)) };
    let reaches_limit = passed_ms >= left_ms;
    (interval.millis() > 0 && (passed_ms >= at_least_ms || reaches_limit)).then_some(interval)
}

/// Energy of an interval, and how it is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct IntervalEnergy {
    pub(crate) mj: u64,
    /// None: measured.
    pub(crate) estimated: Option<String>,
}

/// Who used what was sold, on which occasion.
#[derive(Debug)]
pub(crate) struct Sold<'a> {
    pub(crate) organisation: OrganisationId,
    pub(crate) project: ProjectId,
    pub(crate) site: SiteId,
    /// The job or endpoint.
    pub(crate) subject: String,
    pub(crate) sku: &'a Sku,
    /// What its cores are counted on.
    pub(crate) cores: Meter,
    /// Tells its intervals apart beside where they begin.
    pub(crate) occasion: String,
}

/// The records of an interval. What is sold by time is paid from its own hold, so no allowance is named.
pub(crate) fn records(sold: &Sold<'_>, interval: Interval, energy: &IntervalEnergy) -> Vec<Record> {
    let occasion = format!("{}.{}", sold.occasion, interval.start.as_millis());
    let of = |meter, item: &str, quantity, estimated| {
        let event = UsageEvent {
            id: UsageEvent::id_of(sold.site, &sold.subject, meter, &occasion),
            organisation: sold.organisation,
            project: sold.project,
            site: sold.site,
            meter,
            item: item.to_owned(),
            quantity,
            subject: sold.subject.clone(),
            started_at: interval.start,
            ended_at: interval.end,
            allowance: None,
            estimated,
        };
        Record { event, cost: Nano::ZERO }
    };
    let core_ms = u64::from(sold.sku.cpus_milli).saturating_mul(interval.millis()) / 1000;
    let mut records = vec![of(sold.cores, &sold.sku.name, core_ms, None)];
    if sold.sku.gpus > 0 {
        let accelerator_ms = u64::from(sold.sku.gpus).saturating_mul(interval.millis());
        records.push(of(Meter::Accelerator, &sold.sku.name, accelerator_ms, None));
    }
    records.push(of(Meter::Energy, "-", energy.mj, energy.estimated.clone()));
    records
}

/// The energy of the interval that ends now: what the engine counted since `before`, which moves on, else an estimate.
pub(crate) fn energy_since(
    before: &mut u64,
    counted: &Energy,
    estimate: impl FnOnce() -> IntervalEnergy,
) -> IntervalEnergy {
    if counted.parts.is_empty() {
        return estimate();
    }
    let total = counted.total_mj();
    let mj = total.saturating_sub(*before);
    *before = (*before).max(total);
    let methods: Vec<&str> = counted
        .parts
        .iter()
        .filter_map(|part| match &part.basis {
            EnergyBasis::Estimated { method } => Some(method.as_str()),
            EnergyBasis::Measured { .. } => None,
        })
        .collect();
    IntervalEnergy { mj, estimated: counted.is_estimated().then(|| methods.join("; ")) }
}

/// Estimates the energy of an interval from what was sold, where the engine tells none.
pub(crate) fn energy_estimate(cpus_milli: u32, core_mw: u64, millis: u64) -> IntervalEnergy {
    // A milliwatt for a millisecond is a microjoule; thousandths of a core take another thousand.
    let mj = u128::from(cpus_milli) * u128::from(core_mw) * u128::from(millis) / 1_000_000;
    IntervalEnergy {
        mj: u64::try_from(mj).unwrap_or(u64::MAX),
        estimated: Some(format!("cores sold x {core_mw} mW a core x time")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: i64) -> Time {
        Time::from_millis(millis)
    }

    #[test]
    fn intervals_follow_one_another_and_stop_at_the_limit() {
        let mut metered = Metered::default();
        let mut intervals = Vec::new();
        for now in (0..20_000).step_by(700) {
            if let Some(interval) = next_interval(&metered, at(1_000), at(now), 10_000, 2_000) {
                metered.until = Some(interval.end);
                metered.billed_ms += interval.millis();
                intervals.push(interval);
            }
        }
        assert_eq!(intervals.first().unwrap().start, at(1_000));
        assert!(intervals.windows(2).all(|two| two[0].end == two[1].start), "{intervals:?}");
        assert_eq!(metered.billed_ms, 10_000);
    }

    #[test]
    fn a_run_after_a_crash_never_reaches_back_into_what_was_metered() {
        let metered = Metered { until: Some(at(5_000)), billed_ms: 4_000, energy_mj: 0 };
        // The wall clock was set back by four seconds meanwhile.
        let clock = RunClock::begin(at(1_000), Instant::now(), &metered);
        let interval = next_interval(&metered, clock.began(), at(9_000), 60_000, 1).unwrap();
        assert_eq!(interval, Interval { start: at(5_000), end: at(9_000) });
        // And a crash that lasted a minute is not billed.
        let clock = RunClock::begin(at(65_000), Instant::now(), &metered);
        assert_eq!(next_interval(&metered, clock.began(), at(65_000), 60_000, 1), None);
    }

    #[test]
    fn two_cores_of_ten_watts_for_a_second_are_twenty_joules() {
        assert_eq!(energy_estimate(2_000, 10_000, 1_000).mj, 20_000);
    }
}
