//! Why a job waits, in words its owner can act on.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{
    job::{Record, Stage},
    space::Space,
    state::Queue,
};
use crate::{id::JobId, time::Time};

/// Why a job waits: what is missing, how much, until when, and what would help.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "reason", rename_all = "snake_case")]
pub enum Reason {
    /// Its quota is used up.
    Quota {
        /// How many accelerators it asks for.
        asked: u32,
        /// How many its quota allows now.
        available: u64,
        /// How many its share uses.
        used: u64,
        /// How many its share owns; more is borrowed.
        owned: u64,
    },
    /// Not enough accelerators are free in one place.
    Gpus {
        /// How many it asks for.
        asked: u32,
        /// How many a job could have at once now.
        fits: u32,
        /// How many are free in all.
        free: u64,
        /// How many there are.
        total: u64,
        /// When it can start at the latest by the limits of what runs, if nobody goes before it.
        by_limits_ms: Option<u64>,
        /// When it was promised to start at the latest.
        promised_ms: Option<u64>,
    },
    /// It would fit, but would delay a start that was promised to another.
    Promised {
        /// When the other starts at the latest.
        at_ms: u64,
        /// A limit of so much would let it pass now.
        limit_ms: u64,
    },
    /// It would fit, but others come first.
    Ahead {
        /// How many jobs were submitted earlier and wait.
        jobs: u64,
    },
}

impl Queue {
    /// Why a job waits now. None: it does not wait.
    pub fn reason(&self, job: JobId) -> Option<Reason> {
        let record = self.record(job)?;
        let Stage::Waiting { .. } = record.stage else { return None };
        let (ask, sku) = (record.ask, usize::from(record.ask.sku));
        let field = self.config.ground.field(&ask);
        let kind = &self.kinds[field];
        let holds = kind.holds(record.seq);
        let available = self.quotas.available(ask.share, sku);
        let fits = kind.space.best_fit(&ask, record.until_ms(self.now_ms, self.policy())).is_some();
        let short_by_quota = available < u64::from(ask.gpus);
        if short_by_quota && (fits || !self.quotas.short_at_top(ask.share, sku, ask.gpus)) {
            let (used, owned) = self.quotas.used_owned(ask.share, sku);
            return Some(Reason::Quota { asked: ask.gpus, available, used, owned });
        }
        if !fits {
            let (fits, free, total) = match &kind.space {
                Space::Pool(pool) => {
                    let nodes = u32::try_from(pool.nodes_empty()).unwrap_or(u32::MAX);
                    let whole = nodes.saturating_mul(pool.gpus_per_node());
                    (pool.widest().max(whole), pool.gpus_free(), pool.gpus_total())
                }
                // What is missing of which node is said by who knows the sites' names.
                Space::Field(_) => (0, 0, kind.space.units_total(ask.sku)),
            };
            let by_limits_ms = self.by_limits_ms(field, record.seq);
            return Some(Reason::Gpus {
                asked: ask.gpus,
                fits,
                free,
                total,
                by_limits_ms,
                promised_ms: record.promised_ms,
            });
        }
        let kept = if holds { None } else { self.guards(field).into_iter().find_map(|guard| guard.at_ms) };
        if let Some(at_ms) = kept {
            let limit_ms = at_ms.saturating_sub(self.now_ms.saturating_add(record.restart_ms(self.policy())));
            return Some(Reason::Promised { at_ms, limit_ms });
        }
        let alike = |other: &Record| self.config.ground.field(&other.ask) == field;
        let waits = |other: &Record| matches!(other.stage, Stage::Waiting { .. });
        let ahead = self.records.range(..record.seq).filter(|(_, other)| alike(other) && waits(other));
        Some(Reason::Ahead { jobs: ahead.count() as u64 })
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Quota { asked, available, used, owned } => {
                let short = u64::from(*asked).saturating_sub(*available);
                write!(f, "{short} of {asked} GPUs short within the quota ({used} used, {owned} its own")?;
                write!(f, "); it helps to end a job of the same project, or to ask for a larger quota")
            }
            Self::Gpus { asked, fits, free, total, by_limits_ms, promised_ms } => {
                let short = asked.saturating_sub(*fits);
                write!(f, "{short} of {asked} GPUs short ({free} of {total} free, {fits} of them together)")?;
                if let Some(at_ms) = promised_ms {
                    write!(f, "; starts no later than {}", time(*at_ms))?;
                } else if let Some(at_ms) = by_limits_ms {
                    write!(f, "; by the limits of what runs there is room at {} at the latest", time(*at_ms))?;
                }
                if *fits > 0 { write!(f, "; asking for {fits} or fewer would fit now") } else { Ok(()) }
            }
            Self::Promised { at_ms, limit_ms } => {
                write!(f, "it fits, but would delay a job that was promised to start at {}; ", time(*at_ms))?;
                write!(f, "a limit of {} s or less would let it start now", limit_ms / 1000)
            }
            Self::Ahead { jobs: 1 } => write!(f, "1 job ahead of it waits"),
            Self::Ahead { jobs } => write!(f, "{jobs} jobs ahead of it wait"),
        }
    }
}

fn time(at_ms: u64) -> Time {
    Time::from_millis(i64::try_from(at_ms).unwrap_or(i64::MAX))
}
