//! What can never run, and why: said at once, so that nobody waits for nothing.

use std::collections::BTreeMap;

use super::{lawful, words};
use crate::{
    id::SiteId,
    place::{GPU_MILLI, MEMBERS_MAX},
    schedule::{Room, Waiting},
};

/// Why no site can ever run it, if none can. A site that is unknown or has not said what it has leaves hope.
pub(super) fn never_fits(job: &Waiting, rooms: &BTreeMap<SiteId, &Room>) -> Option<String> {
    let sites = lawful(job);
    if sites.is_empty() {
        return Some(
            "no site may hold its data: none is left by the residency policy and the place of its datasets".into(),
        );
    }
    let item = &job.item;
    if item.gpu_milli >= GPU_MILLI || (item.gpu_milli > 0 && item.gpus > 0) {
        return Some(
            "asks for a part of an accelerator that is none: ask for 1 to 999 thousandths, or for whole ones".into(),
        );
    }
    if item.members() > MEMBERS_MAX {
        return Some(format!("asks for {} machines: {MEMBERS_MAX} is the most at once", item.members()));
    }
    let mut short = Vec::with_capacity(sites.len());
    for site in sites.iter() {
        let room = rooms.get(site).filter(|room| room.is_known())?;
        let words = words::shortage_of_all(item, room)
            .map(|words| format!("{words} at `{}`, with nothing else running", room.name))
            .or_else(|| words::gang_short_of_all(item, room))?;
        short.push(words);
    }
    Some(format!("{}: ask for less, or for a site that has more", words::listed(short)))
}
