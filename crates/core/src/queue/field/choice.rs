//! Which node a job takes of those where it fits: the one after which what is free is the least in pieces.
//!
//! What is in pieces is what the usual demands cannot use of a node's free accelerators: fragmentation as FGD defines it
//! (Weng et al., USENIX ATC 2023, section 4), with memory, several models in a node, sites and owners besides. Filling the
//! fullest node, which is what follows among equals, keeps nodes whole where all are alike. Where they are not, it breaks the
//! small ones first, though they may be all that somebody's whole-node jobs fit on.

use super::{Field, Left, Shape, Slot};

/// What is compared of two nodes: by how much taking the room leaves more in pieces; then the least whole accelerators left,
/// so that work without any stays away from free ones; then the least left of a shared one, cores, and memory.
type Key = (i128, u32, u16, u64, u64);

impl Field {
    /// Nodes where one member fits now, with its place there, the best first. Among equals the node that was added first
    /// wins.
    pub(in crate::queue) fn by_fit(&self, shape: &Shape, until_ms: u64) -> Vec<Slot> {
        let mut fits: Vec<(Key, Slot)> = Vec::new();
        for node in self.open_to(shape, until_ms) {
            let views = self.views(node);
            if let Some(slot) = super::seats(&views, node, shape, 1).pop() {
                fits.push((self.key(&views, shape, slot), slot));
            }
        }
        fits.sort_unstable();
        fits.into_iter().map(|(_, slot)| slot).collect()
    }

    fn key(&self, views: &[Left; 2], shape: &Shape, slot: Slot) -> Key {
        let worse = if self.mixed.usual.is_empty() {
            0
        } else {
            let mut after = views[0].clone();
            after.take(shape, slot);
            self.in_pieces(slot.node, &after) - self.in_pieces(slot.node, &views[0])
        };
        let [now, soon] = views;
        let (whole, free) = (now.whole(None).min(soon.whole(None)), now.free(shape).least(soon.free(shape)));
        let shared = if shape.gpu_milli == 0 { 0 } else { now.left_on(slot.part) - shape.gpu_milli };
        (
            worse,
            whole.saturating_sub(shape.gpus),
            shared,
            free.cpus_milli.saturating_sub(u64::from(shape.cpus_milli)),
            free.memory_bytes.saturating_sub(shape.memory_bytes),
        )
    }

    /// Thousandths of accelerators that usual demands cannot use of what is free on a node, summed by how usual they are.
    fn in_pieces(&self, node: u32, left: &Left) -> i128 {
        let (free, at) = (left.milli(), self.node(node));
        let lost = |(shape, weight): &(Shape, u32)| {
            let may = shape.sites.binary_search(&at.site).is_ok() && at.is_for(shape);
            let usable = if may { left.milli_for(shape) } else { 0 };
            i128::from(free.saturating_sub(usable)) * i128::from(*weight)
        };
        self.mixed.usual.iter().map(lost).sum()
    }
}
