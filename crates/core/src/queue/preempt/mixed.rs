//! Making room on mixed nodes: for all members of a job within one group, or not at all.

use super::{
    super::{
        field::{Field, Seats},
        ground::Shape,
        job::Record,
        pool::Slot,
        state::Queue,
    },
    PLANS_MAX, Rank, Room, may_give_way,
};

/// A job and the field it is to start on.
struct Search<'a> {
    field: usize,
    mixed: &'a Field,
    shape: &'a Shape,
    rank: Rank,
}

/// Whom to stop, and how many accelerators' work that interrupts.
struct Found<'a> {
    cost: u64,
    victims: Vec<&'a Record>,
    slots: Vec<Slot>,
}

impl Queue {
    /// Where all members go, and whom to stop for that: who costs least of what is found in each group.
    pub(super) fn plan_in_field(
        &self,
        (field, mixed): (usize, &Field),
        room: &mut Room,
        rank: Rank,
    ) -> Option<(Vec<Slot>, Vec<u64>)> {
        let search = Search { field, mixed, shape: mixed.shape(rank.shape), rank };
        let mut best: Option<Found> = None;
        let mut plans = 0;
        for nodes in search.groups_to_clear(room) {
            if plans >= PLANS_MAX {
                break;
            }
            let Some(found) = self.clear(&search, &nodes) else { continue };
            plans += 1;
            if best.as_ref().is_none_or(|best| found.cost < best.cost) {
                best = Some(found);
            }
        }
        let best = best?;
        let victims = self.plan_quota(field, room, rank, best.victims.iter().map(|record| record.seq).collect())?;
        Some((best.slots, victims.into_iter().collect()))
    }

    /// Whom to stop so that all members fit on these nodes, if anybody's stop would do.
    fn clear<'a>(&'a self, search: &Search, nodes: &[u32]) -> Option<Found<'a>> {
        let members = u64::from(search.shape.members);
        let mut victims: Vec<&Record> = Vec::new();
        let mut fits = search.fits(nodes, &victims);
        while fits < members {
            // The node on which one more member costs least, with all who were chosen gone.
            let more = nodes.iter().filter_map(|node| self.one_more(search, *node, &victims));
            let cheapest = more.min_by_key(|(cost, node, _)| (*cost, *node))?;
            victims.extend(cheapest.2);
            fits = search.fits(nodes, &victims);
        }
        // Whoever is not needed after all is left alone, the highest first.
        for index in (0..victims.len()).rev() {
            let record = victims.remove(index);
            if search.fits(nodes, &victims) < members {
                victims.insert(index, record);
            }
        }
        let cost = victims.iter().map(|record| u64::from(record.ask.gpus)).sum();
        let seats = search.seats(nodes, &victims);
        let (_, slots) = search.mixed.gang(search.shape, &seats)?;
        Some(Found { cost, victims, slots })
    }

    /// Who else must stop so that one more member fits on a node, and what that costs.
    fn one_more<'a>(
        &'a self,
        search: &Search,
        node: u32,
        before: &[&'a Record],
    ) -> Option<(u64, u32, Vec<&'a Record>)> {
        let fits = |more: &[&Record]| {
            let gone: Vec<&Record> = before.iter().chain(more).copied().collect();
            search.mixed.count_soon(node, search.shape, &gone)
        };
        let have = fits(&[]);
        if have >= search.shape.members {
            return None;
        }
        let mut chosen: Vec<&Record> = Vec::new();
        let candidates = self.candidates(search.field, node, search.rank);
        for record in candidates.into_iter().filter(|one| before.iter().all(|other| other.seq != one.seq)) {
            chosen.push(record);
            if fits(&chosen) > have {
                break;
            }
        }
        if fits(&chosen) <= have {
            return None;
        }
        for index in (0..chosen.len()).rev() {
            let record = chosen.remove(index);
            if fits(&chosen) <= have {
                chosen.insert(index, record);
            }
        }
        Some((chosen.iter().map(|record| u64::from(record.ask.gpus)).sum(), node, chosen))
    }
}

impl Search<'_> {
    /// Groups in which all members may go, by their nodes; a job of one member has each node to itself. Nodes on which
    /// nothing is free nor may be are left out.
    fn groups_to_clear(&self, room: &Room) -> Vec<Vec<u32>> {
        let Search { mixed, shape, rank, .. } = self;
        let useful =
            |node: &u32| may_give_way(&room.hints[*node as usize], rank) || mixed.count_soon(*node, shape, &[]) > 0;
        let nodes = mixed.alive_for(shape, rank.until_ms).into_iter().filter(useful);
        if shape.members == 1 {
            return nodes.map(|node| vec![node]).collect();
        }
        mixed.groups(shape, nodes).into_values().collect()
    }

    fn seats(&self, nodes: &[u32], gone: &[&Record]) -> Vec<Seats> {
        let seats = |node: &u32| Seats { node: *node, slots: self.mixed.seats_soon(*node, self.shape, gone) };
        nodes.iter().map(seats).collect()
    }

    fn fits(&self, nodes: &[u32], gone: &[&Record]) -> u64 {
        nodes.iter().map(|node| u64::from(self.mixed.count_soon(*node, self.shape, gone))).sum()
    }
}
