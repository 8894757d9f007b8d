//! How the scheduler speaks to people.

use std::collections::BTreeMap;

use super::{Item, Node, Room};
use crate::{
    place::{GPU_MILLI, Level},
    queue::Free,
    time::Time,
};

/// What a job could use of a node; accelerators of the model it asks for only.
#[derive(Debug, Clone, Copy)]
pub(super) struct Amounts {
    pub(super) cpus_milli: u64,
    pub(super) memory_bytes: u64,
    pub(super) gpus: u32,
    /// The largest part of one, in thousandths.
    pub(super) milli: u16,
}

impl From<Free> for Amounts {
    fn from(free: Free) -> Self {
        Self { cpus_milli: free.cpus_milli, memory_bytes: free.memory_bytes, gpus: free.gpus, milli: free.milli }
    }
}

/// What a machine has for an item with nothing else there, what is not fit for work included: it may be mended.
fn all_of(item: &Item, node: &Node) -> Amounts {
    let models = node.gpus.iter().chain(&node.gpus_broken);
    let usable = models.filter(|model| item.gpu_model.as_ref().is_none_or(|wanted| wanted == *model)).count();
    Amounts {
        cpus_milli: u64::from(node.cpus_milli),
        memory_bytes: node.memory_bytes,
        gpus: u32::try_from(usable).unwrap_or(u32::MAX),
        milli: if usable > 0 { GPU_MILLI } else { 0 },
    }
}

/// How many members fit on a machine with so much.
fn members(item: &Item, all: &Amounts) -> u64 {
    let by = |have: u64, need: u64| have.checked_div(need).unwrap_or(u64::MAX);
    let gpus = match item.gpu_milli {
        0 => by(u64::from(all.gpus), u64::from(item.gpus)),
        milli => u64::from(all.gpus) * u64::from(GPU_MILLI / milli.min(GPU_MILLI)),
    };
    by(all.cpus_milli, u64::from(item.cpus_milli)).min(by(all.memory_bytes, item.memory_bytes)).min(gpus)
}

/// A group of machines, in words.
pub(super) const fn level(within: Level) -> &'static str {
    match within {
        Level::Node => "machine",
        Level::Nvlink => "domain of linked accelerators",
        Level::Rack => "rack",
        Level::Leaf => "leaf switch",
    }
}

/// Why all members never fit at a site at once, though one does. None: they do.
pub(super) fn gang_short_of_all(item: &Item, room: &Room) -> Option<String> {
    let mut groups: BTreeMap<Option<u32>, u64> = BTreeMap::new();
    for (at, node) in (0..).zip(&room.nodes) {
        let group = match item.within.filter(|_| item.members() > 1) {
            None => None,
            Some(Level::Node) => Some(at),
            // Machines whose place is not known are in no group.
            Some(level) => {
                let number = match level {
                    Level::Nvlink => node.domain,
                    Level::Rack => node.rack,
                    Level::Node | Level::Leaf => node.leaf,
                };
                if number.is_none() {
                    continue;
                }
                number
            }
        };
        let most = groups.entry(group).or_default();
        *most = most.saturating_add(members(item, &all_of(item, node)));
    }
    let most = groups.values().copied().max();
    if most.is_some_and(|most| most >= u64::from(item.members())) {
        return None;
    }
    let (asked, name) = (machines(item), &room.name);
    Some(match (item.within, most) {
        (None, most) => format!("asks for {asked}; `{name}` has {}", most.unwrap_or(0)),
        (Some(within), None) => {
            format!("asks for {asked} in one {0}; `{name}` has not said in which {0} its machines are", level(within))
        }
        (Some(Level::Node), Some(most)) => {
            format!("asks for room for {asked} on one machine; the largest at `{name}` has room for {most}")
        }
        (Some(within), Some(most)) => {
            format!("asks for {asked} in one {0}; the largest {0} at `{name}` has {most}", level(within))
        }
    })
}

/// What is missing for all members of an item at a site, of which so many fit now.
pub(super) fn gang_short(item: &Item, fit: u32, name: &str) -> String {
    let members = item.members();
    let lack = members.saturating_sub(fit);
    match item.within {
        None => format!("{lack} of {members} machines short at `{name}`"),
        Some(Level::Node) => format!("room for {lack} of {members} short on any one machine at `{name}`"),
        Some(within) => format!("{lack} of {members} machines short in any one {} at `{name}`", level(within)),
    }
}

/// Why a job does not go where there would be room: something it keeps apart from is there.
pub(super) fn not_apart(item: &Item, name: &str) -> String {
    let apart = item.apart.as_deref().unwrap_or_default();
    format!(
        "runs apart from all that is named `{apart}` in its project, which is on every machine with room at `{name}`"
    )
}

/// Why a job does not go where all machines are kept.
pub(super) fn kept(until: Option<Time>, name: &str) -> String {
    match until {
        Some(until) => {
            let until = moment(until);
            format!("the machines at `{name}` are free only for what has ended by {until}, and its limit is later")
        }
        None => format!("the machines at `{name}` are kept for others now"),
    }
}

/// What quotas count of an item, in words.
pub(super) fn unit(item: &Item) -> &'static str {
    match (item.gpus, item.units_each()) {
        (gpus, units) if gpus > 0 && units == gpus => "accelerators",
        (_, 1) => "instances",
        _ => "units",
    }
}

/// The machines an item asks for, in words: `4 machines of 8 accelerators`.
fn machines(item: &Item) -> String {
    let what = if item.gpus > 0 {
        format!("{} {}", item.gpus, kind(item))
    } else if item.gpu_milli > 0 {
        format!("{} thousandths of one of its {}", item.gpu_milli, kind(item))
    } else {
        format!("{} cores", cores(u64::from(item.cpus_milli)))
    };
    format!("{} machines of {what}", item.members())
}

/// The accelerators an item asks for, in words.
fn kind(item: &Item) -> String {
    item.gpu_model.as_ref().map_or_else(|| "accelerators".into(), |model| format!("`{model}` accelerators"))
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
        let all = all_of(item, node);
        let short = shortage(item, &all, &all)?;
        first.get_or_insert(short);
    }
    first
}

/// What a job lacks, in words: cores, memory, accelerators free, and of how many in all.
pub(super) fn shortage(item: &Item, free: &Amounts, all: &Amounts) -> Option<String> {
    let mut short = Vec::new();
    if u64::from(item.cpus_milli) > free.cpus_milli {
        let (lack, asked) = (cores(u64::from(item.cpus_milli) - free.cpus_milli), cores(u64::from(item.cpus_milli)));
        let (free, all) = (cores(free.cpus_milli), cores(all.cpus_milli));
        short.push(format!("{lack} of {asked} cores short ({free} of {all} free)"));
    }
    if item.memory_bytes > free.memory_bytes {
        let (lack, asked) = (bytes(item.memory_bytes - free.memory_bytes), bytes(item.memory_bytes));
        let (free, all) = (bytes(free.memory_bytes), bytes(all.memory_bytes));
        short.push(format!("{lack} of {asked} memory short ({free} of {all} free)"));
    }
    if item.gpus > free.gpus {
        let lack = item.gpus - free.gpus;
        short.push(format!("{lack} of {} {} short ({} of {} free)", item.gpus, kind(item), free.gpus, all.gpus));
    }
    if item.gpu_milli > free.milli {
        let lack = item.gpu_milli - free.milli;
        let of = kind(item);
        short.push(format!(
            "{lack} of {} thousandths of one of the {of} short ({} free on one)",
            item.gpu_milli, free.milli
        ));
    }
    if short.is_empty() { None } else { Some(short.join(", ")) }
}

/// Thousandths of cores in words: `4`, `1.5`, `0.125`.
pub(crate) fn cores(milli: u64) -> String {
    let text = format!("{}.{:03}", milli / 1000, milli % 1000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// Bytes in words: whole GiB where they are, else MiB, rounded down.
pub(crate) fn bytes(bytes: u64) -> String {
    if bytes.is_multiple_of(1 << 30) { format!("{} GiB", bytes >> 30) } else { format!("{} MiB", bytes >> 20) }
}

/// A time to the second: more would not be read.
pub(super) fn moment(at: Time) -> Time {
    Time::from_millis(at.as_millis().div_euclid(1000).saturating_mul(1000))
}
