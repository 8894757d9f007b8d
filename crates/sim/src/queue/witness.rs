//! An independent count of what a queue gives out: it trusts nothing the queue says of itself.

use gregal_core::queue::{Config, Ground, Share, ShareId, Slot};

/// What is in use, by node and by share, and what went wrong.
pub(super) struct Witness {
    gpus_per_node: u32,
    used_by_node: Vec<u32>,
    shares: Vec<Share>,
    used_by_share: Vec<u64>,
    pub(super) violations: u64,
}

impl Witness {
    /// Watches the first kind of accelerator, the only one a replay has.
    pub(super) fn new(config: &Config) -> Self {
        let sku = match &config.ground {
            Ground::Uniform(skus) => skus.first().copied(),
            Ground::Mixed(_) => None,
        };
        Self {
            gpus_per_node: sku.map_or(0, |sku| sku.gpus_per_node),
            used_by_node: vec![0; sku.map_or(0, |sku| sku.nodes as usize)],
            used_by_share: vec![0; config.shares.len()],
            shares: config.shares.clone(),
            violations: 0,
        }
    }

    pub(super) fn takes(&mut self, share: ShareId, slots: &[Slot], asked: u32) {
        let mut given = 0;
        for slot in slots {
            given += slot.gpus;
            let used = self.used_by_node.get_mut(slot.node as usize);
            let kept = used.is_some_and(|used| {
                *used += slot.gpus;
                *used <= self.gpus_per_node
            });
            self.violations += u64::from(!kept);
        }
        self.violations += u64::from(given != asked);
        self.up(share, |used| *used += u64::from(asked));
        self.violations += self.beyond(share);
    }

    pub(super) fn gives_back(&mut self, share: ShareId, slots: &[Slot]) {
        let mut given = 0;
        for slot in slots {
            given += slot.gpus;
            if let Some(used) = self.used_by_node.get_mut(slot.node as usize) {
                *used = used.saturating_sub(slot.gpus);
            }
        }
        self.up(share, |used| *used = used.saturating_sub(u64::from(given)));
    }

    /// Applies a change to a share and all above it: here a parent uses all that its children use.
    fn up(&mut self, share: ShareId, change: impl Fn(&mut u64)) {
        let mut next = Some(share);
        while let Some(share) = next {
            change(&mut self.used_by_share[share.0 as usize]);
            next = self.shares[share.0 as usize].parent;
        }
    }

    /// How many shares from this one up use more than everything below them owns and they may borrow.
    fn beyond(&self, share: ShareId) -> u64 {
        let mut found = 0;
        let mut next = Some(share);
        while let Some(share) = next {
            let borrow = match self.shares[share.0 as usize].parent {
                None => Some(0),
                Some(_) => self.shares[share.0 as usize].quotas.first().and_then(|quota| quota.borrow_max),
            };
            let most = borrow.map(|borrow| self.owned(share) + u64::from(borrow));
            found += u64::from(most.is_some_and(|most| self.used_by_share[share.0 as usize] > most));
            next = self.shares[share.0 as usize].parent;
        }
        found
    }

    fn owned(&self, share: ShareId) -> u64 {
        let own = |share: &Share| share.quotas.first().map_or(0, |quota| u64::from(quota.guarantee));
        let children = self.shares.iter().zip(0..).filter(|(child, _)| child.parent == Some(share));
        own(&self.shares[share.0 as usize]) + children.map(|(_, child)| self.owned(ShareId(child))).sum::<u64>()
    }
}
