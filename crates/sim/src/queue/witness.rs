//! An independent count of what a queue gives out: it trusts nothing the queue says of itself.

use gregal_core::queue::{Config, Ground, Share, ShareId, Sku, Slot};

/// What is in use, by node and by share, and what went wrong.
pub(super) struct Witness {
    kinds: Vec<Kind>,
    shares: Vec<Share>,
    pub(super) violations: u64,
}

/// One kind of accelerator.
struct Kind {
    gpus_per_node: u32,
    used_by_node: Vec<u32>,
    used_by_share: Vec<u64>,
}

impl Witness {
    pub(super) fn new(config: &Config) -> Self {
        let kind = |sku: &Sku| Kind {
            gpus_per_node: sku.gpus_per_node,
            used_by_node: vec![0; sku.nodes as usize],
            used_by_share: vec![0; config.shares.len()],
        };
        let kinds = match &config.ground {
            Ground::Uniform(skus) => skus.iter().map(kind).collect(),
            // No replay has one.
            Ground::Mixed(_) => Vec::new(),
        };
        Self { kinds, shares: config.shares.clone(), violations: 0 }
    }

    pub(super) fn takes(&mut self, share: ShareId, sku: u16, slots: &[Slot], asked: u32) {
        let kind = &mut self.kinds[usize::from(sku)];
        let mut given = 0;
        for slot in slots {
            given += slot.gpus;
            let used = kind.used_by_node.get_mut(slot.node as usize);
            let kept = used.is_some_and(|used| {
                *used += slot.gpus;
                *used <= kind.gpus_per_node
            });
            self.violations += u64::from(!kept);
        }
        self.violations += u64::from(given != asked);
        self.up(share, sku, |used| *used += u64::from(asked));
        self.violations += self.beyond(share, sku);
    }

    pub(super) fn gives_back(&mut self, share: ShareId, sku: u16, slots: &[Slot]) {
        let mut given = 0;
        for slot in slots {
            given += slot.gpus;
            if let Some(used) = self.kinds[usize::from(sku)].used_by_node.get_mut(slot.node as usize) {
                *used = used.saturating_sub(slot.gpus);
            }
        }
        self.up(share, sku, |used| *used = used.saturating_sub(u64::from(given)));
    }

    /// Applies a change to a share and all above it: here a parent uses all that its children use.
    fn up(&mut self, share: ShareId, sku: u16, change: impl Fn(&mut u64)) {
        let mut next = Some(share);
        while let Some(share) = next {
            change(&mut self.kinds[usize::from(sku)].used_by_share[share.0 as usize]);
            next = self.shares[share.0 as usize].parent;
        }
    }

    /// How many shares from this one up use more than everything below them owns and they may borrow.
    fn beyond(&self, share: ShareId, sku: u16) -> u64 {
        let mut found = 0;
        let mut next = Some(share);
        while let Some(share) = next {
            let borrow = match self.shares[share.0 as usize].parent {
                None => Some(0),
                Some(_) => {
                    self.shares[share.0 as usize].quotas.get(usize::from(sku)).and_then(|quota| quota.borrow_max)
                }
            };
            let most = borrow.map(|borrow| self.owned(share, sku) + u64::from(borrow));
            found +=
                u64::from(most.is_some_and(|most| self.kinds[usize::from(sku)].used_by_share[share.0 as usize] > most));
            next = self.shares[share.0 as usize].parent;
        }
        found
    }

    fn owned(&self, share: ShareId, sku: u16) -> u64 {
        let own = |share: &Share| share.quotas.get(usize::from(sku)).map_or(0, |quota| u64::from(quota.guarantee));
        let children = self.shares.iter().zip(0..).filter(|(child, _)| child.parent == Some(share));
        own(&self.shares[share.0 as usize]) + children.map(|(_, child)| self.owned(ShareId(child), sku)).sum::<u64>()
    }
}
