//! What organisations used lately, kept apart from the runs that used it: however many short runs end, they wash nothing out.
//!
//! Counted by the day a run ended, as it was, and faded only when somebody looks. So the count does not depend on the order in
//! which runs are added, nor on how often it is read, as it would if a faded sum were faded again. A day fades as a whole, from
//! its end: what was used today has not begun to.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{id::OrganisationId, queue::Usage, schedule::Run, time::Time};

/// How many days are kept, the newest counted back: nine half-lives of the live policy, after which a 512th is left.
pub const DAYS_KEPT: u32 = 63;
const DAY_MS: u64 = 86_400_000;

/// What one organisation used of one family of SKUs, in unit-milliseconds: a run of 2 units over 3 ms comes to 6.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Used {
    /// Who paid.
    pub organisation: OrganisationId,
    /// The family of SKUs.
    pub sku: String,
    /// By the day on which the runs ended: days since the beginning of 1970, in UTC. At most [`DAYS_KEPT`] of them.
    #[serde(with = "pairs")]
    pub days: BTreeMap<u32, u64>,
    /// Grows by one with every run. 0: nothing was written yet.
    pub version: u64,
}

impl Used {
    /// Nothing yet.
    pub const fn none(organisation: OrganisationId, sku: String) -> Self {
        Self { organisation, sku, days: BTreeMap::new(), version: 0 }
    }

    /// Names it by whose and of what it is.
    pub fn id(organisation: OrganisationId, sku: &str) -> String {
        format!("{organisation}/{sku}")
    }

    /// The same after a run of it. A run that ended after `now`, by a clock that is ahead, counts as ended now: it would else
    /// push all other days out.
    #[must_use]
    pub fn and(mut self, run: &Run, now: Time) -> Self {
        let amount = run.ran_ms.saturating_mul(u64::from(run.units()));
        let day = self.days.entry(day_of(run.ended.min(now))).or_default();
        *day = day.saturating_add(amount);
        let newest = self.days.last_key_value().map_or(0, |(day, _)| *day);
        self.days = self.days.split_off(&newest.saturating_sub(DAYS_KEPT - 1));
        self.version += 1;
        self
    }

    /// What of it counts at a time: every day has faded by half every half-life since it was over.
    pub(crate) fn faded_at(&self, now_ms: u64, half_life_ms: u64) -> u64 {
        let faded = |(day, amount): (&u32, &u64)| {
            let over_ms = (u64::from(*day) + 1) * DAY_MS;
            Usage { faded: *amount, at_ms: over_ms, gpus: 0 }.at(now_ms, half_life_ms).faded
        };
        self.days.iter().map(faded).fold(0, u64::saturating_add)
    }
}

/// Days as a list of pairs: JSON's objects have texts for keys, which not everything that reads records takes for numbers.
mod pairs {
    use std::collections::BTreeMap;

    use serde::{Deserialize as _, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(days: &BTreeMap<u32, u64>, to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(days)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<BTreeMap<u32, u64>, D::Error> {
        Ok(Vec::deserialize(from)?.into_iter().collect())
    }
}

/// Days since the beginning of 1970. A time before it counts as its first day.
fn day_of(time: Time) -> u32 {
    u32::try_from(u64::try_from(time.as_millis()).unwrap_or(0) / DAY_MS).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::id::{JobId, ProjectId};

    const HALF_LIFE_MS: u64 = 7 * DAY_MS;
    const NOW_DAY: u64 = 200;

    fn run(number: u128, day: u64, ran_ms: u64, units: u32) -> Run {
        Run {
            job: JobId::from_u128(number),
            organisation: OrganisationId::from_u128(1),
            project: ProjectId::from_u128(1),
            sku: "gpu".into(),
            gpus: 1,
            limit_ms: u64::MAX,
            ended: Time::from_millis(i64::try_from(day * DAY_MS + 1 + ran_ms % 1000).unwrap_or(i64::MAX)),
            ran_ms,
            units,
        }
    }

    fn after<'a>(runs: impl IntoIterator<Item = &'a Run>) -> Used {
        let now = Time::from_millis(i64::try_from(NOW_DAY * DAY_MS + DAY_MS / 2).unwrap_or(i64::MAX));
        let none = Used::none(OrganisationId::from_u128(1), "gpu".into());
        runs.into_iter().fold(none, |used, run| used.and(run, now))
    }

    fn any_run() -> impl Strategy<Value = Run> {
        (any::<u64>(), 0..NOW_DAY + 20, 0..1_u64 << 40, 0..9_u32)
            .prop_map(|(job, day, ran_ms, units)| run(u128::from(job), day, ran_ms, units))
    }

    /// What a run comes to by itself, at the end of a day, said once more: halves, and a straight line within a half-life.
    fn alone(run: &Run, day_now: u64) -> u128 {
        let ended = (run.ended.as_millis().unsigned_abs() / DAY_MS).min(NOW_DAY);
        let (amount, elapsed) = (u128::from(run.ran_ms) * u128::from(run.units()), day_now - ended);
        let halved = amount >> (elapsed / 7);
        halved - halved * u128::from(elapsed % 7) / 14
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

        #[test]
        fn what_counts_depends_neither_on_the_order_nor_on_how_often_it_is_looked_at(
            (runs, shuffled) in prop::collection::vec(any_run(), 0..40)
                .prop_flat_map(|runs| (Just(runs.clone()), Just(runs).prop_shuffle())),
            later in 0..100_u64,
        ) {
            let (used, other) = (after(&runs), after(&shuffled));
            prop_assert_eq!(&used, &other);
            prop_assert!(used.days.len() <= DAYS_KEPT as usize);
            let newest = runs.iter().map(|run| run.ended.as_millis().unsigned_abs() / DAY_MS).max().unwrap_or(0);
            let oldest = newest.min(NOW_DAY).saturating_sub(u64::from(DAYS_KEPT) - 1);
            let kept = runs.iter().filter(|run| run.ended.as_millis().unsigned_abs() / DAY_MS >= oldest);
            let day_now = NOW_DAY + later;
            let exact: u128 = kept.map(|run| alone(run, day_now)).sum();
            let counted = u128::from(used.faded_at((day_now + 1) * DAY_MS, HALF_LIFE_MS));
            // Rounded down by run or by day.
            let apart = 2 * runs.len() as u128;
            prop_assert!(exact.abs_diff(counted) <= apart, "{counted} counted, {exact} used");
        }
    }

    #[test]
    fn many_short_runs_wash_nothing_out() {
        let day = |day: u64, ran_ms| run(1, day, ran_ms, 8);
        let used = after(
            std::iter::once(day(190, 1_000_000)).chain((0..5_000).map(|_| day(200, 1))).collect::<Vec<_>>().iter(),
        );
        assert_eq!(used.days, BTreeMap::from([(190, 8_000_000), (200, 40_000)]));
        assert_eq!(used.version, 5_001);
    }
}
