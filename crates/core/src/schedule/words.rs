//! How the scheduler speaks to people.

use super::{Waiting, space::Amounts};
use crate::time::Time;

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

/// What a job lacks, in words: cores, memory, accelerators free, and of how many in all.
pub(super) fn shortage(job: &Waiting, free: &Amounts, all: &Amounts) -> Option<String> {
    let mut short = Vec::new();
    if job.cpus_milli > free.cpus_milli {
        let (lack, asked) = (cores(job.cpus_milli - free.cpus_milli), cores(job.cpus_milli));
        let (free, all) = (cores(free.cpus_milli), cores(all.cpus_milli));
        short.push(format!("{lack} of {asked} cores short ({free} of {all} free)"));
    }
    if job.memory_bytes > free.memory_bytes {
        let (lack, asked) = (bytes(job.memory_bytes - free.memory_bytes), bytes(job.memory_bytes));
        let (free, all) = (bytes(free.memory_bytes), bytes(all.memory_bytes));
        short.push(format!("{lack} of {asked} memory short ({free} of {all} free)"));
    }
    if job.gpus > free.gpus {
        let model = job.gpu_model.as_deref();
        let kind = model.map_or_else(|| "accelerators".into(), |model| format!("`{model}` accelerators"));
        let lack = job.gpus - free.gpus;
        short.push(format!("{lack} of {} {kind} short ({} of {} free)", job.gpus, free.gpus, all.gpus));
    }
    if short.is_empty() { None } else { Some(short.join(", ")) }
}

/// Thousandths of cores in words: `4`, `1.5`, `0.125`.
fn cores(milli: u32) -> String {
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
