//! How the scheduler speaks to people.

use super::{Item, Room};
use crate::{queue::Free, time::Time};

/// What a job could use of a node; accelerators of the model it asks for only.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Amounts {
    pub(crate) cpus_milli: u64,
    pub(crate) memory_bytes: u64,
    pub(crate) gpus: u32,
}

impl From<Free> for Amounts {
    fn from(free: Free) -> Self {
        Self { cpus_milli: free.cpus_milli, memory_bytes: free.memory_bytes, gpus: free.gpus }
    }
}

/// Says the first few; more would not be read.
pub(super) fn listed(mut parts: Vec<String>) -> String {
    const SITES_SAID_MAX: usize = 3;
    let more = parts.len().saturating_sub(SITES_SAID_MAX);
    parts.truncate(SITES_SAID_MAX);
    let said = parts.join("; ");
    if more == 0 { said } else { format!("{said}; and {more} more") }
}

pub(super) fn jobs_ahead(count: u32) -> String {
    if count == 1 { "1 job ahead of it waits".into() } else { format!("{count} jobs ahead of it wait") }
}

/// What is missing for a job even when nothing else runs at a site: nothing, if one of its nodes would do.
pub(super) fn shortage_of_all(item: &Item, room: &Room) -> Option<String> {
    let mut first = None;
    for node in &room.nodes {
        let models = node.gpus.iter().chain(&node.gpus_broken);
        let usable = models.filter(|model| item.gpu_model.as_ref().is_none_or(|wanted| wanted == *model)).count();
        let all = Amounts {
            cpus_milli: u64::from(node.cpus_milli),
            memory_bytes: node.memory_bytes,
            gpus: u32::try_from(usable).unwrap_or(u32::MAX),
        };
        let short = shortage(item, &all, &all)?;
        first.get_or_insert(short);
    }
    first
}

/// What a job lacks, in words: cores, memory, accelerators free, and of how many in all.
pub(super) fn shortage(item: &Item, free: &Amounts, all: &Amounts) -> Option<String> {
    let need = Amounts { cpus_milli: u64::from(item.cpus_milli), memory_bytes: item.memory_bytes, gpus: item.gpus };
    short_of(&need, item.gpu_model.as_deref(), free, all)
}

/// What is missing of what is needed, in words.
pub(crate) fn short_of(need: &Amounts, model: Option<&str>, free: &Amounts, all: &Amounts) -> Option<String> {
    let mut short = Vec::new();
    if need.cpus_milli > free.cpus_milli {
        let (lack, asked) = (cores(need.cpus_milli - free.cpus_milli), cores(need.cpus_milli));
        let (free, all) = (cores(free.cpus_milli), cores(all.cpus_milli));
        short.push(format!("{lack} of {asked} cores short ({free} of {all} free)"));
    }
    if need.memory_bytes > free.memory_bytes {
        let (lack, asked) = (bytes(need.memory_bytes - free.memory_bytes), bytes(need.memory_bytes));
        let (free, all) = (bytes(free.memory_bytes), bytes(all.memory_bytes));
        short.push(format!("{lack} of {asked} memory short ({free} of {all} free)"));
    }
    if need.gpus > free.gpus {
        let kind = model.map_or_else(|| "accelerators".into(), |model| format!("`{model}` accelerators"));
        let lack = need.gpus - free.gpus;
        short.push(format!("{lack} of {} {kind} short ({} of {} free)", need.gpus, free.gpus, all.gpus));
    }
    if short.is_empty() { None } else { Some(short.join(", ")) }
}

/// Thousandths of cores in words: `4`, `1.5`, `0.125`.
fn cores(milli: u64) -> String {
    let text = format!("{}.{:03}", milli / 1000, milli % 1000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// Bytes in words: whole GiB where they are, else MiB, rounded down.
fn bytes(bytes: u64) -> String {
    if bytes.is_multiple_of(1 << 30) { format!("{} GiB", bytes >> 30) } else { format!("{} MiB", bytes >> 20) }
}

/// A time to the second: more would not be read.
pub(super) fn moment(at: Time) -> Time {
    Time::from_millis(at.as_millis().div_euclid(1000) * 1000)
}
