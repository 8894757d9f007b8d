//! What a running job or served model is billed for: whole intervals, one after another, never overlapping, never past its limit.
//!
//! The interval is noted in its state *before* its records are spooled. A crash between the two loses the interval
//! to the tenant's favour; the other order could bill it twice under two ids.

use std::{collections::BTreeMap, time::Instant};

use gregal_core::{
    id::{OrganisationId, ProjectId, SiteId},
    job::Billed,
    meter::{Meter, UsageEvent},
    money::Nano,
    sku::Sku,
    time::Time,
};
use gregal_engine::{Energy, EnergyBasis, EnergyPart};
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

/// Energy of an interval that was found out in one way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct IntervalEnergy {
    /// What used it: `cpu` or `gpu`.
    pub(crate) of: String,
    /// In millijoules.
    pub(crate) mj: u64,
    /// By which method it was estimated. None: measured.
    pub(crate) estimated: Option<String>,
}

/// The energy of a run that was billed so far, in millijoules, by what used it.
pub(crate) type EnergyBilled = BTreeMap<String, u64>;

/// What an engine has counted, as if all of it were billed: what came before something was ready is not.
pub(crate) fn energy_counted(counted: &Energy) -> EnergyBilled {
    counted.parts.iter().map(|part| (part.of.clone(), part.mj)).collect()
}

/// What the engine counted since the last interval, each part by itself: what was measured stays measured, whatever the
/// others are. A part that is silent for a moment is caught up with later. Where it counts nothing, an estimate.
pub(crate) fn energy_since(
    billed: &mut EnergyBilled,
    counted: &Energy,
    estimate: impl FnOnce() -> IntervalEnergy,
) -> Vec<IntervalEnergy> {
    if counted.parts.is_empty() {
        return vec![estimate()];
    }
    let interval = |part: &EnergyPart| {
        let before = billed.entry(part.of.clone()).or_default();
        let mj = part.mj.saturating_sub(*before);
        *before = part.mj.max(*before);
        let estimated = match &part.basis {
            EnergyBasis::Estimated { method } => Some(method.clone()),
            EnergyBasis::Measured { .. } => None,
        };
        IntervalEnergy { of: part.of.clone(), mj, estimated }
    };
    counted.parts.iter().map(interval).collect()
}

/// How all of it is known, in the words of a model's lineage: `measured ...`, or `estimated ...` if any of it was.
pub(crate) fn energy_method(energy: &[IntervalEnergy]) -> String {
    let methods: Vec<&str> = energy.iter().filter_map(|part| part.estimated.as_deref()).collect();
    let measured: Vec<&str> = energy.iter().filter(|part| part.estimated.is_none()).map(|part| &*part.of).collect();
    match (methods.is_empty(), measured.is_empty()) {
        (true, _) => "measured by the machine's energy counters".to_owned(),
        (false, true) => format!("estimated: {}", methods.join("; ")),
        (false, false) => format!("estimated: {}; {} measured", methods.join("; "), measured.join(", ")),
    }
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
    /// What its accelerators are counted on.
    pub(crate) accelerators: Meter,
    /// Tells its intervals apart beside where they begin.
    pub(crate) occasion: String,
}

/// The records of an interval. What is sold by time is paid from its own hold, so no allowance is named.
pub(crate) fn records(sold: &Sold<'_>, interval: Interval, energy: &[IntervalEnergy]) -> Vec<Record> {
    let occasion = format!("{}.{}", sold.occasion, interval.start.as_millis());
    let of = |occasion: &str, meter, item: &str, quantity, estimated| {
        let event = UsageEvent {
            id: UsageEvent::id_of(sold.site, &sold.subject, meter, occasion),
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
    let mut records = vec![of(&occasion, sold.cores, &sold.sku.name, core_ms, None)];
    if sold.sku.gpus > 0 {
        let accelerator_ms = u64::from(sold.sku.gpus).saturating_mul(interval.millis());
        records.push(of(&occasion, sold.accelerators, &sold.sku.name, accelerator_ms, None));
    }
    // Several of one interval and meter, so what used it is part of the occasion.
    records.extend(
        energy
            .iter()
            .map(|part| of(&format!("{occasion}.{}", part.of), Meter::Energy, "-", part.mj, part.estimated.clone())),
    );
    records
}

/// Estimates the energy of an interval from what was sold, where the engine tells none.
pub(crate) fn energy_estimate(cpus_milli: u32, core_mw: u64, millis: u64) -> IntervalEnergy {
    // A milliwatt for a millisecond is a microjoule; thousandths of a core take another thousand.
    let mj = u128::from(cpus_milli) * u128::from(core_mw) * u128::from(millis) / 1_000_000;
    IntervalEnergy {
        of: "cpu".to_owned(),
        mj: u64::try_from(mj).unwrap_or(u64::MAX),
        estimated: Some(format!("cores sold x {core_mw} mW a core x time")),
    }
}

#[cfg(test)]
mod tests {
    use gregal_core::{
        id::{JobId, OrganisationId, ProjectId},
        sku::{self, Sku},
    };

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

    fn counted(cpu_mj: u64, gpu: Option<(u64, EnergyBasis)>) -> Energy {
        let method = "processor seconds".to_owned();
        let cpu = EnergyPart { of: "cpu".into(), mj: cpu_mj, basis: EnergyBasis::Estimated { method } };
        let gpu = gpu.map(|(mj, basis)| EnergyPart { of: "gpu".into(), mj, basis });
        Energy { parts: std::iter::once(cpu).chain(gpu).collect() }
    }

    fn nothing() -> IntervalEnergy {
        unreachable!("the engine counts")
    }

    #[test]
    fn what_was_measured_stands_apart_from_what_was_estimated() {
        let measured = || EnergyBasis::Measured { uncertainty_percent: 15 };
        let short = EnergyBasis::Estimated { method: "too short".into() };
        let mut billed = EnergyBilled::new();
        let first = energy_since(&mut billed, &counted(100, Some((5_000, short))), nothing);
        assert_eq!(energy_method(&first), "estimated: processor seconds; too short");
        let second = energy_since(&mut billed, &counted(150, Some((9_000, measured()))), nothing);
        let told: Vec<_> = second.iter().map(|part| (&*part.of, part.mj, part.estimated.as_deref())).collect();
        assert_eq!(told, [("cpu", 50, Some("processor seconds")), ("gpu", 4_000, None)]);
        assert_eq!(energy_method(&second), "estimated: processor seconds; gpu measured");
        // Silent for one interval, then caught up with; and a part that shrinks takes nothing back.
        assert_eq!(energy_since(&mut billed, &counted(160, None), nothing).len(), 1);
        let fourth = energy_since(&mut billed, &counted(155, Some((12_000, measured()))), nothing);
        assert_eq!(fourth.iter().map(|part| part.mj).collect::<Vec<_>>(), [0, 3_000]);
        let fifth = energy_since(&mut billed, &counted(170, None), nothing);
        assert_eq!(fifth[0].mj, 10, "nor is anything billed twice after that");
        assert_eq!(energy_method(&fourth[1..]), "measured by the machine's energy counters");
    }

    #[test]
    fn each_record_of_an_interval_has_an_id_of_its_own_and_the_same_one_when_it_is_made_again() {
        let sku = Sku { gpus: 1, ..sku::default_skus().remove(0) };
        let sold = Sold {
            organisation: OrganisationId::from_u128(2),
            project: ProjectId::from_u128(3),
            site: SiteId::from_u128(4),
            subject: JobId::from_u128(1).to_string(),
            sku: &sku,
            cores: Meter::ComputeCore,
            accelerators: Meter::Accelerator,
            occasion: "1.1".into(),
        };
        let interval = Interval { start: at(1_000), end: at(3_000) };
        let measured = EnergyBasis::Measured { uncertainty_percent: 15 };
        let energy = energy_since(&mut EnergyBilled::new(), &counted(20, Some((700, measured))), nothing);
        let ids = || {
            let records = records(&sold, interval, &energy);
            records.into_iter().map(|record| record.event.id).collect::<Vec<_>>()
        };
        let distinct: std::collections::BTreeSet<_> = ids().into_iter().collect();
        assert_eq!((ids().len(), distinct.len()), (4, 4), "cores, GPUs, and the energy of both");
        assert_eq!(ids(), ids());
    }

    #[test]
    fn two_cores_of_ten_watts_for_a_second_are_twenty_joules() {
        assert_eq!(energy_estimate(2_000, 10_000, 1_000).mj, 20_000);
    }
}
