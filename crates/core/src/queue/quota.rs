//! Quotas: a tree of shares by kind of accelerator, with guarantees, lending and borrowing.
//!
//! A share (an organisation, a project) owns a guarantee. What it does not use it lends to its siblings, at most
//! `lend_max`; what it needs beyond its guarantee it borrows from them, at most `borrow_max`. The top of the tree borrows
//! from nobody. The rule is that of hierarchical cohorts: what a share may still use is what is left of the part it never
//! lends, plus what its parent may still use, the latter capped by what it may borrow.
//!
//! `take` is the only way to use a share and refuses what is not there: no limit can be passed.

use serde::{Deserialize, Serialize};

/// A share of the tree, by its place in the list the tree was made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ShareId(pub u32);

/// What a share has of one kind of accelerator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Quota {
    /// Its own, in accelerators.
    pub guarantee: u32,
    /// The most it may use beyond its own. None: as much as others lend.
    pub borrow_max: Option<u32>,
    /// The most of its own that others may use while it does not. None: all of it.
    pub lend_max: Option<u32>,
}

/// A share as asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Share {
    /// Its parent, which stands before it in the list; none for the top.
    pub parent: Option<ShareId>,
    /// Its weight in fair sharing; 0 counts as 1.
    pub weight: u32,
    /// By kind of accelerator; kinds that are not named have no guarantee and borrow freely.
    pub quotas: Vec<Quota>,
}

/// Why shares make no tree.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ShareError {
    /// The parent does not stand before the child.
    #[error("share {share}: its parent {parent} does not stand before it")]
    Parent {
        /// Which share.
        share: usize,
        /// The parent it names.
        parent: u32,
    },
    /// There is none.
    #[error("there is no share")]
    None,
}

#[derive(Debug, Clone)]
struct Node {
    parent: Option<usize>,
    /// The child of the top it hangs under, itself included: who is compared in fair sharing.
    family: usize,
    cells: Vec<Cell>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Cell {
    /// What it and everything below it own.
    owned: u64,
    /// The part of `owned` that is never lent.
    kept: u64,
    borrow_max: Option<u64>,
    used: u64,
}

impl Cell {
    /// What is left of the part that is never lent.
    fn left_kept(&self) -> u64 {
        self.kept.saturating_sub(self.used)
    }
}

/// The tree and what is used of it.
#[derive(Debug, Clone)]
pub(super) struct Quotas {
    nodes: Vec<Node>,
}

impl Quotas {
    pub(super) fn new(shares: &[Share], skus: usize) -> Result<Self, ShareError> {
        if shares.is_empty() {
            return Err(ShareError::None);
        }
        let mut nodes: Vec<Node> = Vec::with_capacity(shares.len());
        for (index, share) in shares.iter().enumerate() {
            let parent = share.parent.map(|parent| parent.0 as usize);
            if let Some(parent) = parent.filter(|parent| *parent >= index) {
                return Err(ShareError::Parent { share: index, parent: u32::try_from(parent).unwrap_or(u32::MAX) });
            }
            let cells = (0..skus).map(|sku| cell(share.quotas.get(sku).copied().unwrap_or_default())).collect();
            let family = match parent {
                Some(parent) if nodes[parent].parent.is_some() => nodes[parent].family,
                _ => index,
            };
            nodes.push(Node { parent, family, cells });
        }
        // Children stand after their parents: from the back, every child is complete when it is added up.
        for index in (0..nodes.len()).rev() {
            for sku in 0..skus {
                let lend_max = shares[index].quotas.get(sku).and_then(|quota| quota.lend_max);
                let cell = &mut nodes[index].cells[sku];
                cell.kept = lend_max.map_or(0, |lend| cell.owned.saturating_sub(u64::from(lend)));
                let lent = cell.owned - cell.kept;
                if let Some(parent) = nodes[index].parent {
                    nodes[parent].cells[sku].owned += lent;
                }
            }
        }
        Ok(Self { nodes })
    }

    pub(super) fn has(&self, share: ShareId) -> bool {
        (share.0 as usize) < self.nodes.len()
    }

    /// The child of the top that a share hangs under.
    pub(super) fn family(&self, share: ShareId) -> ShareId {
        ShareId(u32::try_from(self.nodes[share.0 as usize].family).unwrap_or(u32::MAX))
    }

    /// What a share may still use.
    pub(super) fn available(&self, share: ShareId, sku: usize) -> u64 {
        self.available_at(share.0 as usize, sku, |cell| cell.used)
    }

    /// Whether a share's own limits would allow so many more, so that only the top is used up: a shortage all share, like
    /// that of machines.
    pub(super) fn short_at_top(&self, share: ShareId, sku: usize, gpus: u32) -> bool {
        let (mut node, mut gpus) = (share.0 as usize, u64::from(gpus));
        while let Some(parent) = self.nodes[node].parent {
            let cell = &self.nodes[node].cells[sku];
            let from_parent = gpus.saturating_sub(cell.left_kept());
            let beyond_kept = cell.used.saturating_sub(cell.kept);
            let cap =
                cell.borrow_max.map_or(u64::MAX, |most| (cell.owned - cell.kept + most).saturating_sub(beyond_kept));
            if from_parent > cap {
                return false;
            }
            (node, gpus) = (parent, from_parent);
        }
        let top = &self.nodes[node].cells[sku];
        gpus > top.owned.saturating_sub(top.used)
    }

    /// What a share could use with nothing else running.
    pub(super) fn ceiling(&self, share: ShareId, sku: usize) -> u64 {
        self.available_at(share.0 as usize, sku, |_| 0)
    }

    fn available_at(&self, node: usize, sku: usize, used: fn(&Cell) -> u64) -> u64 {
        let Node { parent, cells, .. } = &self.nodes[node];
        let cell = Cell { used: used(&cells[sku]), ..cells[sku] };
        let Some(parent) = parent else { return cell.owned.saturating_sub(cell.used) };
        let from_parent = self.available_at(*parent, sku, used);
        let lent_own = cell.owned - cell.kept;
        let beyond_kept = cell.used.saturating_sub(cell.kept);
        let cap = cell.borrow_max.map_or(u64::MAX, |most| (lent_own + most).saturating_sub(beyond_kept));
        cell.left_kept() + from_parent.min(cap)
    }

    /// Whether so many more would stay within what the share, or a share above it but the top, owns.
    pub(super) fn within_own(&self, share: ShareId, sku: usize, gpus: u32) -> bool {
        let mut node = share.0 as usize;
        loop {
            let Node { parent, cells, .. } = &self.nodes[node];
            if cells[sku].used + u64::from(gpus) <= cells[sku].owned {
                return true;
            }
            match parent.filter(|parent| self.nodes[*parent].parent.is_some()) {
                Some(parent) => node = parent,
                None => return false,
            }
        }
    }

    /// Whether so many that one share asks for are its own and another has borrowed them: a guarantee stands for them below
    /// where the two meet, and none stands for what the other uses.
    pub(super) fn reclaims(&self, share: ShareId, from: ShareId, sku: usize, gpus: u32) -> bool {
        let own = |cell: &Cell| cell.owned > 0 && cell.used + u64::from(gpus) <= cell.owned;
        self.apart(share, from, sku).any(own) && self.borrows_from(from, share, sku)
    }

    /// Whether all that a share uses beyond its guarantees, up to where it meets another, may be the other's.
    pub(super) fn borrows_from(&self, share: ShareId, other: ShareId, sku: usize) -> bool {
        self.apart(share, other, sku).all(|cell| cell.used > cell.owned)
    }

    /// Whether a share stays within a guarantee that stands between it and another.
    pub(super) fn keeps(&self, share: ShareId, against: ShareId, sku: usize) -> bool {
        self.apart(share, against, sku).any(|cell| cell.owned > 0 && cell.used <= cell.owned)
    }

    /// A share and those above it, to below where it meets another.
    fn apart(&self, share: ShareId, other: ShareId, sku: usize) -> impl Iterator<Item = &Cell> {
        let other = other.0 as usize;
        let up = |node: &usize| self.nodes[*node].parent;
        std::iter::successors(Some(share.0 as usize), up)
            .take_while(move |node| !std::iter::successors(Some(other), up).any(|above| above == *node))
            .map(move |node| &self.nodes[node].cells[sku])
    }

    /// Whether a share uses more than it owns itself.
    pub(super) fn borrows(&self, share: ShareId, sku: usize) -> bool {
        let cell = &self.nodes[share.0 as usize].cells[sku];
        cell.used > cell.owned
    }

    /// What a share uses and what it owns.
    pub(super) fn used_owned(&self, share: ShareId, sku: usize) -> (u64, u64) {
        let cell = &self.nodes[share.0 as usize].cells[sku];
        (cell.used, cell.owned)
    }

    /// Uses so many, if they are there. False: they are not, and nothing changed.
    pub(super) fn take(&mut self, share: ShareId, sku: usize, gpus: u32) -> bool {
        let there = self.available(share, sku) >= u64::from(gpus);
        if there {
            self.take_anyway(share, sku, gpus);
        }
        there
    }

    /// Uses so many whatever the limits say: what holds them already, when limits were lowered.
    pub(super) fn take_anyway(&mut self, share: ShareId, sku: usize, gpus: u32) {
        self.walk(share, sku, u64::from(gpus), |cell, amount| {
            let above = amount.saturating_sub(cell.left_kept());
            cell.used += amount;
            above
        });
    }

    /// Gives so many back. They were taken before.
    pub(super) fn give_back(&mut self, share: ShareId, sku: usize, gpus: u32) {
        self.walk(share, sku, u64::from(gpus), |cell, amount| {
            let above = cell.used.saturating_sub(cell.kept).min(amount);
            cell.used = cell.used.checked_sub(amount).expect("what comes back was taken");
            above
        });
    }

    /// From a share up to the top, as long as something concerns the parent.
    fn walk(&mut self, share: ShareId, sku: usize, gpus: u64, mut step: impl FnMut(&mut Cell, u64) -> u64) {
        let (mut node, mut amount) = (Some(share.0 as usize), gpus);
        while let Some(index) = node.filter(|_| amount > 0) {
            amount = step(&mut self.nodes[index].cells[sku], amount);
            node = self.nodes[index].parent;
        }
    }
}

fn cell(quota: Quota) -> Cell {
    Cell { owned: u64::from(quota.guarantee), kept: 0, borrow_max: quota.borrow_max.map(u64::from), used: 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn share(parent: Option<u32>, guarantee: u32, borrow_max: Option<u32>, lend_max: Option<u32>) -> Share {
        Share { parent: parent.map(ShareId), weight: 1, quotas: vec![Quota { guarantee, borrow_max, lend_max }] }
    }

    #[test]
    fn what_is_lent_can_be_borrowed_and_no_more() {
        // Two siblings of 20 each; the first borrows at most 5, the second lends at most 8.
        let shares = [share(None, 0, None, None), share(Some(0), 20, Some(5), None), share(Some(0), 20, None, Some(8))];
        let mut quotas = Quotas::new(&shares, 1).unwrap();
        let (first, second) = (ShareId(1), ShareId(2));
        assert_eq!((quotas.available(first, 0), quotas.available(second, 0)), (25, 40));
        assert!(!quotas.take(first, 0, 26), "its borrowing limit is 5");
        assert!(quotas.take(first, 0, 25));
        assert!(quotas.borrows(first, 0) && !quotas.within_own(first, 0, 1));
        assert_eq!(quotas.available(second, 0), 15, "5 of the second's 20 are lent out");
        assert!(quotas.take(second, 0, 15) && !quotas.take(second, 0, 1));
        quotas.give_back(first, 0, 25);
        assert_eq!((quotas.available(first, 0), quotas.available(second, 0)), (25, 25));
        assert_eq!(quotas.ceiling(second, 0), 40);
    }

    #[test]
    fn a_project_stays_below_its_organisation() {
        let shares = [share(None, 0, None, None), share(Some(0), 10, Some(2), None), share(Some(1), 0, None, None)];
        let quotas = Quotas::new(&shares, 1).unwrap();
        assert_eq!(quotas.available(ShareId(2), 0), 10, "the organisation's, and nobody lends it more");
        assert_eq!(quotas.family(ShareId(2)), ShareId(1));
    }

    #[test]
    fn an_organisations_guarantee_stands_for_its_projects_against_others_and_not_among_themselves() {
        // Two organisations; the first owns 4, and has two projects that own nothing.
        let shares = [
            share(None, 8, None, None),
            share(Some(0), 4, None, None),
            share(Some(0), 0, None, None),
            share(Some(1), 0, None, None),
            share(Some(1), 0, None, None),
            share(Some(2), 0, None, None),
        ];
        let mut quotas = Quotas::new(&shares, 1).unwrap();
        let (one, two, other) = (ShareId(3), ShareId(4), ShareId(5));
        assert!(quotas.take(other, 0, 8) && quotas.take(one, 0, 2));
        assert!(quotas.within_own(one, 0, 2) && !quotas.within_own(one, 0, 3) && !quotas.within_own(other, 0, 1));
        assert!(quotas.reclaims(one, other, 0, 2), "the organisation's own comes back");
        assert!(!quotas.reclaims(one, other, 0, 3), "and no more");
        assert!(!quotas.reclaims(two, one, 0, 1), "what its projects have of it is nobody's of them");
        assert!(quotas.keeps(one, other, 0) && !quotas.keeps(one, two, 0) && !quotas.keeps(other, one, 0));
    }

    #[test]
    fn a_parent_after_its_child_is_refused() {
        let shares = [share(Some(1), 1, None, None), share(None, 1, None, None)];
        assert_eq!(Quotas::new(&shares, 1).unwrap_err(), ShareError::Parent { share: 0, parent: 1 });
        assert_eq!(Quotas::new(&[], 1).unwrap_err(), ShareError::None);
    }
}
