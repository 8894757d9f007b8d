//! Waiting jobs as they are written down: sets of sites stand once each. Where a thousand jobs may run at the same five hundred
//! sites, those names would else be nearly all of a record.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use super::super::{Item, Promise, QuotaRow, Room, Run, Snapshot, Waiting, Weight};
use crate::{
    id::{JobId, SiteId},
    time::Time,
    used::Used,
};

/// A waiting job whose sites are the set of this number.
#[derive(Serialize)]
struct Written<'a> {
    job: JobId,
    item: &'a Item,
    since: Time,
    sites: usize,
    limit_ms: u64,
    promised: Option<Promise>,
}

#[derive(Deserialize)]
struct Read {
    job: JobId,
    item: Item,
    since: Time,
    sites: usize,
    limit_ms: u64,
    promised: Option<Promise>,
}

/// Sets of sites in the order they came up.
#[derive(Default)]
struct Sets<'a> {
    numbers: BTreeMap<&'a [SiteId], usize>,
    sets: Vec<&'a [SiteId]>,
}

impl<'a> Sets<'a> {
    fn written(&mut self, waiting: &'a Waiting) -> Written<'a> {
        let Waiting { job, item, since, sites, limit_ms, promised } = waiting;
        let next = self.sets.len();
        let number = *self.numbers.entry(sites.as_slice()).or_insert(next);
        if number == next {
            self.sets.push(sites);
        }
        Written { job: *job, item, since: *since, sites: number, limit_ms: *limit_ms, promised: *promised }
    }
}

impl Read {
    fn waiting(self, sets: &[Vec<SiteId>]) -> Result<Waiting, String> {
        let Self { job, item, since, sites, limit_ms, promised } = self;
        let sites = sets.get(sites).ok_or_else(|| format!("there is no set of sites {sites}"))?.clone();
        Ok(Waiting { job, item, since, sites, limit_ms, promised })
    }
}

/// A whole snapshot.
pub(super) mod whole {
    use super::*;

    #[derive(Serialize)]
    struct Out<'a> {
        site_sets: Vec<&'a [SiteId]>,
        waiting: Vec<Written<'a>>,
        rooms: &'a [Room],
        quotas: &'a [QuotaRow],
        weights: &'a [Weight],
        past: &'a [Run],
        #[serde(skip_serializing_if = "<[_]>::is_empty")]
        used: &'a [Used],
    }

    #[derive(Deserialize)]
    struct In {
        site_sets: Vec<Vec<SiteId>>,
        waiting: Vec<Read>,
        rooms: Vec<Room>,
        quotas: Vec<QuotaRow>,
        weights: Vec<Weight>,
        past: Vec<Run>,
        #[serde(default)]
        used: Vec<Used>,
    }

    pub(crate) fn serialize<S: Serializer>(snapshot: &Snapshot, to: S) -> Result<S::Ok, S::Error> {
        let Snapshot { waiting, rooms, quotas, weights, past, used } = snapshot;
        let mut sets = Sets::default();
        let waiting = waiting.iter().map(|one| sets.written(one)).collect();
        Out { site_sets: sets.sets, waiting, rooms, quotas, weights, past, used }.serialize(to)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Snapshot, D::Error> {
        let In { site_sets, waiting, rooms, quotas, weights, past, used } = In::deserialize(from)?;
        let waiting = waiting.into_iter().map(|one| one.waiting(&site_sets)).collect::<Result<_, _>>();
        Ok(Snapshot { waiting: waiting.map_err(D::Error::custom)?, rooms, quotas, weights, past, used })
    }
}

/// Jobs that came, with their places.
pub(super) mod came {
    use super::*;

    #[derive(Serialize)]
    struct Out<'a> {
        site_sets: Vec<&'a [SiteId]>,
        jobs: Vec<(usize, Written<'a>)>,
    }

    #[derive(Deserialize)]
    struct In {
        site_sets: Vec<Vec<SiteId>>,
        jobs: Vec<(usize, Read)>,
    }

    pub(crate) fn serialize<S: Serializer>(came: &[(usize, Waiting)], to: S) -> Result<S::Ok, S::Error> {
        let mut sets = Sets::default();
        let jobs = came.iter().map(|(place, one)| (*place, sets.written(one))).collect();
        Out { site_sets: sets.sets, jobs }.serialize(to)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<(usize, Waiting)>, D::Error> {
        let In { site_sets, jobs } = In::deserialize(from)?;
        let jobs = jobs.into_iter().map(|(place, one)| Ok((place, one.waiting(&site_sets)?)));
        jobs.collect::<Result<_, String>>().map_err(D::Error::custom)
    }
}
