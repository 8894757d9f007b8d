//! When a job that lacks accelerators starts at the latest, by the limits of what runs.

use super::{
    ground::Block,
    job::{Ask, End, Stage},
    pool::Slot,
    quota::{Quotas, ShareId},
    space::{Later, Space},
    state::{Kind, Queue},
};
use crate::id::JobId;

/// What a pass knows of a promise it must not delay.
#[derive(Debug, Clone)]
pub(crate) struct Guard {
    /// Who was promised, or may be next; of a block, a number nobody has.
    pub(crate) seq: u64,
    /// Until when, where it is no promise but room that is reserved.
    pub(crate) block_until_ms: Option<u64>,
    /// Where the start is kept: the site on mixed ground.
    pub(crate) place: usize,
    /// When it starts at the latest, as far as is known now. None: nobody knows, and nobody passes there.
    pub(crate) at_ms: Option<u64>,
    /// What is free then, and whether the job still fits.
    pub(super) later: Later,
    /// The quotas as they stand then.
    pub(super) quotas: Quotas,
    pub(super) ask: Ask,
    /// Who was promised a start before and is counted in those quotas already.
    reserved: Vec<u64>,
}

/// When a job could start at a place by the limits of what runs.
pub(super) enum Earliest {
    /// Then, at the latest.
    At(Guard),
    /// Nobody knows: what runs there has no known end, or the place does not answer.
    Unknown(Guard),
    /// Not even when all that ends has ended.
    Never,
    /// It could not run there with nothing else running.
    Hopeless,
}

/// The blocks of a site as they come into the way of one job, and go: it may be beside them, not in their room.
struct Blocks {
    /// Each with whether it is in the way now.
    blocks: Vec<(Block, bool)>,
    hold_ms: Option<u64>,
}

impl Blocks {
    fn of(space: &Space, place: usize, hold_ms: Option<u64>) -> Self {
        let blocks = match space {
            Space::Pool(_) => Vec::new(),
            Space::Field(field) => field.blocks(place).map(|block| (*block, false)).collect(),
        };
        Self { blocks, hold_ms }
    }

    /// The next time at which one of them is over.
    fn next_ms(&self, after_ms: u64) -> Option<u64> {
        self.blocks.iter().map(|(block, _)| block.free_ms).filter(|free_ms| *free_ms > after_ms).min()
    }

    /// The job would start at this time: what is reserved while it is there takes its room.
    fn advance(&mut self, later: &mut Later, space: &Space, at_ms: u64) {
        let (Later::Field(later), Space::Field(field)) = (later, space) else { return };
        for (block, seated) in &mut self.blocks {
            let ends_ms = self.hold_ms.map_or(u64::MAX, |hold_ms| at_ms.saturating_add(hold_ms));
            let in_the_way = ends_ms > block.at_ms && at_ms < block.free_ms;
            if in_the_way != *seated {
                later.seat(field.shape(block.shape), in_the_way);
                *seated = in_the_way;
            }
        }
    }
}

impl Guard {
    /// What would be kept for a job at a place, with everything as it is now.
    fn of((seq, ask): (u64, Ask), place: usize, later: Later, quotas: Quotas, before: &[Self]) -> Self {
        let mut guard =
            Self { seq, block_until_ms: None, place, at_ms: None, later, quotas, ask, reserved: Vec::new() };
        // Whoever is next keeps its quota, known when or not: what is promised to another must not count on it.
        let next = |other: &&Self| other.seq != seq && other.block_until_ms.is_none();
        for Self { seq: other, ask, .. } in before.iter().filter(next) {
            if !guard.reserved.contains(other) {
                guard.quotas.take_anyway(ask.share, usize::from(ask.sku), ask.gpus);
                guard.reserved.push(*other);
            }
        }
        guard
    }

    /// Whether a job that has its accelerators until then may delay the promised one.
    pub(super) fn binds(&self, seq: u64, until_ms: u64) -> bool {
        self.seq != seq && self.at_ms.is_none_or(|at_ms| until_ms > at_ms)
    }

    /// Lets a job stay past the promised start if the promised job can still start then; else changes nothing.
    pub(super) fn admit(&mut self, seq: u64, ask: &Ask, slots: &[Slot], space: &Space) -> bool {
        if self.block_until_ms.is_some() {
            // Quotas were asked when it was booked. Who was promised a start is kept from it by that promise's own guard, which
            // counts with what is reserved.
            return self.later.occupy(slots, ask, space);
        }
        let sku = usize::from(ask.sku);
        let counted = self.reserved.contains(&seq);
        if self.at_ms.is_none() {
            if slots.iter().any(|slot| space.place_of(slot.node) == self.place) {
                return false;
            }
            // Whoever starts elsewhere takes no room from it, but may take the quota it was promised.
            let before = self.available();
            if !counted {
                self.quotas.take_anyway(ask.share, sku, ask.gpus);
            }
            if !self.allowed(before) {
                self.quotas.give_back(ask.share, sku, if counted { 0 } else { ask.gpus });
                return false;
            }
            return true;
        }
        let before = self.available();
        if !counted && !self.quotas.take(ask.share, sku, ask.gpus) {
            return false;
        }
        if self.allowed(before) && self.later.occupy(slots, ask, space) {
            return true;
        }
        if !counted {
            self.quotas.give_back(ask.share, sku, ask.gpus);
        }
        false
    }

    /// What the quotas leave for the promised job.
    fn available(&self) -> u64 {
        self.quotas.available(self.ask.share, usize::from(self.ask.sku))
    }

    /// Whether the quotas allow the promised job after somebody took of them, or leave it what it had. While it waits for quota
    /// that comes back nobody knows when, they allow it on no account, and nobody takes of what is left for it.
    fn allowed(&self, before: u64) -> bool {
        let now = self.available();
        now >= u64::from(self.ask.gpus) || now == before
    }

    /// Takes back what `admit` allowed.
    fn undo(&mut self, seq: u64, ask: &Ask, slots: &[Slot], space: &Space) {
        if !self.reserved.contains(&seq) && self.block_until_ms.is_none() {
            self.quotas.give_back(ask.share, usize::from(ask.sku), ask.gpus);
        }
        if self.at_ms.is_some() {
            self.later.release(slots, ask, space);
        }
    }
}

/// Lets a job stay until then if no promised start is delayed; else changes nothing.
pub(super) fn admit_all(
    guards: &mut [Guard],
    (seq, until_ms): (u64, u64),
    ask: &Ask,
    slots: &[Slot],
    space: &Space,
) -> bool {
    for index in 0..guards.len() {
        if guards[index].binds(seq, until_ms) && !guards[index].admit(seq, ask, slots, space) {
            for guard in guards[..index].iter_mut().filter(|guard| guard.binds(seq, until_ms)) {
                guard.undo(seq, ask, slots, space);
            }
            return false;
        }
    }
    true
}

impl Queue {
    /// The earliest time at which the limits of what runs leave room for a job at a place, and what will be free then. Whoever
    /// was promised a start before has it by then, wherever that is.
    pub(super) fn earliest(&self, (field, place): (usize, usize), seq: u64, before: &[Guard]) -> Earliest {
        let kind = &self.kinds[field];
        let Some(record) = self.records.get(&seq) else { return Earliest::Hopeless };
        let ask = record.ask;
        let (share, sku) = (ask.share, usize::from(ask.sku));
        let hold_ms = (record.end != End::Never).then(|| record.hold_ms_max(&self.config.policy));
        let later = kind.space.later(place, &ask, self.config.policy.counted, hold_ms);
        if !later.hope() {
            return Earliest::Hopeless;
        }
        let mut guard = Guard::of((seq, ask), place, later, self.quotas.clone(), before);
        let fits = |guard: &Guard| guard.later.fits() && guard.quotas.available(share, sku) >= u64::from(ask.gpus);
        let mut blocks = Blocks::of(&kind.space, place, hold_ms);
        let mut at_ms = self.now_ms;
        guard.later.advance(at_ms);
        blocks.advance(&mut guard.later, &kind.space, at_ms);
        let mut ends = kind.ends.iter().peekable();
        let holds = kind.holders.get(place) == Some(&Some(seq));
        // What starts is counted with its limit, and then nobody knows its end until it is ready. Room waits for that, but a quota is
        // shared by sites, and a site whose next job waits for quota alone must not stand still: what was said is kept.
        let mut said_ms = record.promised_ms.filter(|said_ms| holds && *said_ms > self.now_ms);
        loop {
            let next_ms = ends.peek().map(|(ends_ms, _)| *ends_ms);
            let freed_ms = blocks.next_ms(at_ms).filter(|freed_ms| next_ms.is_none_or(|next_ms| *freed_ms <= next_ms));
            let next_ms = freed_ms.or(next_ms);
            if next_ms.is_none_or(|next_ms| next_ms > at_ms) && fits(&guard) {
                break;
            }
            if let Some(promised_ms) = said_ms.take_if(|said_ms| next_ms.is_none_or(|next_ms| next_ms > *said_ms)) {
                at_ms = at_ms.max(promised_ms);
                guard.later.advance(at_ms);
                blocks.advance(&mut guard.later, &kind.space, at_ms);
                if guard.later.fits() && self.available_then(&guard, kind) >= u64::from(ask.gpus) {
                    guard.at_ms = Some(at_ms);
                    return Earliest::At(guard);
                }
                continue;
            }
            let Some(ends_ms) = next_ms else { break };
            // A run beyond its limit is about to end: nothing ends in the past.
            at_ms = at_ms.max(ends_ms);
            guard.later.advance(at_ms);
            blocks.advance(&mut guard.later, &kind.space, at_ms);
            if freed_ms.is_some() {
                continue;
            }
            let Some(record) = ends.next().and_then(|(_, running)| self.records.get(running)) else { continue };
            guard.later.release(record.slots(), &record.ask, &kind.space);
            guard.quotas.give_back(record.ask.share, usize::from(record.ask.sku), record.ask.gpus);
        }
        let found = fits(&guard);
        if guard.later.unknown() {
            // What was promised may count on a node of which nobody knows now: whoever passed might take its place.
            let kept = record.promised_ms.is_none_or(|promised| at_ms <= promised);
            if !found || (holds && !kept) {
                return Earliest::Unknown(guard);
            }
        }
        if !found {
            return Earliest::Never;
        }
        guard.at_ms = Some(at_ms);
        Earliest::At(guard)
    }

    /// What the quotas would leave for a job if all that ends nobody knows when had given its own back as well.
    fn available_then(&self, guard: &Guard, kind: &Kind) -> u64 {
        let mut quotas = guard.quotas.clone();
        for record in kind.blind.iter().filter_map(|seq| self.records.get(seq)) {
            quotas.give_back(record.ask.share, usize::from(record.ask.sku), record.ask.gpus);
        }
        quotas.available(guard.ask.share, usize::from(guard.ask.sku))
    }

    /// The promise kept for a job that holds one, as far as anybody knows when. None: nothing can be kept.
    pub(super) fn guard(&self, (field, place): (usize, usize), seq: u64, before: &[Guard]) -> Option<Guard> {
        match self.earliest((field, place), seq, before) {
            Earliest::At(guard) | Earliest::Unknown(guard) => Some(guard),
            Earliest::Never | Earliest::Hopeless => None,
        }
    }

    /// When a job could start at the latest by the limits of what runs, if nobody went before it.
    pub(super) fn by_limits_ms(&self, field: usize, seq: u64) -> Option<u64> {
        let ask = self.records.get(&seq)?.ask;
        let places = self.kinds[field].space.places(&ask);
        places.into_iter().filter_map(|place| self.guard((field, place), seq, &[])?.at_ms).min()
    }

    /// Who holds promises on a field, the earliest promise first, with the place each is kept at.
    pub(super) fn holders(&self, field: usize) -> Vec<(usize, u64)> {
        let mut holders: Vec<(usize, u64)> =
            (self.kinds[field].holders.iter().enumerate()).filter_map(|(place, seq)| Some((place, (*seq)?))).collect();
        holders.sort_by_key(|(_, seq)| (self.records.get(seq).and_then(|record| record.promised_ms), *seq));
        holders
    }

    /// All that is kept on a field: what is reserved, and the promises, each computed as though those before it were kept.
    pub(super) fn guards(&self, field: usize) -> Vec<Guard> {
        let mut guards = self.reserved(field);
        for (place, seq) in self.holders(field) {
            let guard = self.guard((field, place), seq, &guards);
            guards.extend(guard);
        }
        guards
    }

    /// What is reserved on a field: kept like a promise for a time that is fixed.
    pub(super) fn reserved(&self, field: usize) -> Vec<Guard> {
        let kind = &self.kinds[field];
        let Space::Field(mixed) = &kind.space else { return Vec::new() };
        let mut guards = Vec::new();
        for place in 0..kind.holders.len() {
            for (number, block) in mixed.blocks(place).enumerate() {
                let mut seen = mixed.later_of_block(block);
                // Whatever else is reserved then is there as well.
                for (other_number, other) in mixed.blocks(place).enumerate() {
                    if number != other_number && other.at_ms <= block.at_ms && block.at_ms < other.free_ms {
                        seen.seat(mixed.shape(other.shape), true);
                    }
                }
                let mut later = Later::Field(seen);
                let gone = kind.ends.iter().take_while(|(ends_ms, _)| *ends_ms <= block.at_ms);
                for record in gone.filter_map(|(_, seq)| self.records.get(seq)) {
                    later.release(record.slots(), &record.ask, &kind.space);
                }
                let seq = u64::MAX - guards.len() as u64;
                let shape = mixed.shape(block.shape);
                let ask = Ask {
                    job: JobId::from_u128(u128::from(seq)),
                    share: ShareId(0),
                    sku: shape.sku,
                    gpus: shape.units_all(),
                    shape: block.shape,
                    limit_ms: None,
                    priority: 0,
                    preemptible: false,
                };
                guards.push(Guard {
                    seq,
                    block_until_ms: Some(block.free_ms),
                    place,
                    at_ms: Some(block.at_ms),
                    later,
                    quotas: self.quotas.clone(),
                    ask,
                    reserved: Vec::new(),
                });
            }
        }
        guards
    }

    /// Since when a job waits; none if it does not.
    pub(super) fn waits_since_ms(&self, seq: u64) -> Option<u64> {
        match self.records.get(&seq)?.stage {
            Stage::Waiting { since_ms } => Some(since_ms),
            Stage::Running { .. } | Stage::Stopping { .. } => None,
        }
    }
}
