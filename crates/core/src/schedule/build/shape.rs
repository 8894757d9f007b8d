//! Shapes of what is asked for, each once, and which of them are usual.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, btree_map::Entry},
};

use super::{Tables, count};
use crate::{
    id::JobId,
    place::GPU_MILLI,
    queue::{Ask, Shape, ShareId},
    schedule::{Item, Run},
};

/// How many shapes are looked at to say what is usual: every choice of a node weighs each of them.
const USUAL_MAX: usize = 8;

/// Shapes, each once.
#[derive(Default)]
pub(super) struct Shapes {
    places: BTreeMap<Shape, u32>,
    pub(super) shapes: Vec<Shape>,
}

impl Shapes {
    /// What is asked for a job, its shape noted.
    pub(super) fn ask(
        &mut self,
        job: JobId,
        item: &Item,
        limit_ms: Option<u64>,
        sites: &[u16],
        tables: &Tables,
    ) -> Ask {
        let shape = shape(item, sites, tables);
        let (sku, gpus) = (shape.sku, shape.units_all());
        let next = count(self.shapes.len());
        let place = match self.places.entry(shape) {
            Entry::Occupied(known) => *known.get(),
            Entry::Vacant(new) => {
                self.shapes.push(new.key().clone());
                *new.insert(next)
            }
        };
        Ask {
            job,
            share: tables.share(item.organisation, item.project),
            sku,
            gpus,
            shape: place,
            limit_ms,
            priority: item.priority,
            preemptible: item.preemptible,
        }
    }

    /// The most frequent shapes of what waits, runs and ran lately, each with how often it comes: those with accelerators, for
    /// these are what may be left in pieces.
    pub(super) fn usual(&self, now: impl Iterator<Item = u32>, past: &[Run], tables: &Tables) -> Vec<(u32, u32)> {
        // Of what ran only the kind is known: it stands for the first shape of that kind.
        let mut of_kind: BTreeMap<u16, (&Shape, u32)> = BTreeMap::new();
        for (shape, place) in self.places.iter().filter(|(shape, _)| asks(shape)) {
            of_kind.entry(shape.sku).or_insert((shape, *place));
        }
        let ran = past.iter().filter_map(|run| Some(of_kind.get(tables.skus.get(&run.sku)?)?.1));
        // Alike but for what does not matter for room.
        let mut often: BTreeMap<Shape, (u32, u32)> = BTreeMap::new();
        for place in now.chain(ran) {
            let shape = &self.shapes[place as usize];
            if asks(shape) {
                let demand =
                    Shape { sku: 0, units: 1, members: 1, within: None, spread: false, apart: None, ..shape.clone() };
                let (_, times) = often.entry(demand).or_insert((place, 0));
                *times = times.saturating_add(shape.members);
            }
        }
        let mut usual: Vec<(Shape, (u32, u32))> = often.into_iter().collect();
        usual.sort_by(|(one, (_, times)), (other, (_, of_other))| {
            (Reverse(times), one).cmp(&(Reverse(of_other), other))
        });
        usual.truncate(USUAL_MAX);
        usual.into_iter().map(|(_, usual)| usual).collect()
    }
}

fn asks(shape: &Shape) -> bool {
    shape.gpus > 0 || shape.gpu_milli > 0
}

fn shape(item: &Item, sites: &[u16], tables: &Tables) -> Shape {
    let gpu_milli = if item.gpus > 0 { 0 } else { item.gpu_milli.min(GPU_MILLI - 1) };
    let members = item.members();
    let owners: Vec<ShareId> = if tables.owned || gpu_milli > 0 {
        let organisation = tables.organisations.get(&item.organisation).copied();
        [Some(tables.share(item.organisation, item.project)), organisation].into_iter().flatten().collect()
    } else {
        Vec::new()
    };
    let name = item.apart.as_ref().map(|name| (item.organisation, item.project, name.as_str()));
    Shape {
        sku: tables.sku(&item.sku),
        cpus_milli: item.cpus_milli,
        memory_bytes: item.memory_bytes,
        gpus: item.gpus,
        model: item.gpu_model.as_ref().and_then(|model| tables.models.get(model).copied()),
        sites: sites.to_vec(),
        units: item.units_each(),
        members,
        // One member alone is within any group, and is spread as far as it can be.
        within: item.within.filter(|_| members > 1),
        spread: item.spread && members > 1,
        gpu_milli,
        apart: name.and_then(|name| tables.apart.get(&name).copied()),
        owners,
    }
}
