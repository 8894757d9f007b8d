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
        let place = self.place(shape);
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
    pub(super) fn usual(&self, now: impl Iterator<Item = u32>, past: &[Run], tables: &Tables) -> Vec<(Shape, u32)> {
        let mut of_kind: BTreeMap<u16, &Shape> = BTreeMap::new();
        for shape in self.places.keys().filter(|shape| asks(shape)) {
            of_kind.entry(shape.sku).or_insert(shape);
        }
        let ran = past.iter().map(|run| {
            of_kind.get(&tables.sku(&run.sku)).map_or_else(|| of_run(run, tables), |shape| (*shape).clone())
        });
        let mut often: BTreeMap<Shape, u32> = BTreeMap::new();
        for shape in now.map(|place| self.shapes[place as usize].clone()).chain(ran).filter(asks) {
            // Alike but for what does not matter for room.
            let members = shape.members;
            let demand = Shape { sku: 0, units: 1, members: 1, within: None, spread: false, apart: None, ..shape };
            let times = often.entry(demand).or_default();
            *times = times.saturating_add(members);
        }
        let mut usual: Vec<(Shape, u32)> = often.into_iter().collect();
        // Among the equally frequent, in the order of shapes.
        usual.sort_by_key(|(_, times)| Reverse(*times));
        usual.truncate(USUAL_MAX);
        usual
    }

    fn place(&mut self, shape: Shape) -> u32 {
        let next = count(self.shapes.len());
        match self.places.entry(shape) {
            Entry::Occupied(known) => *known.get(),
            Entry::Vacant(new) => {
                self.shapes.push(new.key().clone());
                *new.insert(next)
            }
        }
    }
}

/// What a run took, of whose kind nothing waits or runs: its accelerators are all that is written.
fn of_run(run: &Run, tables: &Tables) -> Shape {
    Shape {
        sku: 0,
        cpus_milli: 0,
        memory_bytes: 0,
        gpus: run.gpus,
        model: None,
        sites: tables.sites.values().copied().collect(),
        units: 1,
        members: 1,
        within: None,
        spread: false,
        gpu_milli: 0,
        apart: None,
        owners: Vec::new(),
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
