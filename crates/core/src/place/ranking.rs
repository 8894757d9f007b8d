//! For one shape of demand, the classes of nodes with the best first, brought up to date as classes come and go.

use std::{cmp::Ordering, collections::BinaryHeap};

use super::{
    cluster::{Class, Cluster},
    content::Content,
    demand::Demand,
    policy::{Judge, Key},
};

/// A class with how good it is for the shape.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    key: Key,
    content: Content,
    class: u32,
    generation: u32,
}

impl Ord for Entry {
    /// The best is the greatest. Equal keys go by content, which no name or order of input has a part in.
    fn cmp(&self, other: &Entry) -> Ordering {
        let by_content = || other.content.cmp(&self.content);
        let by_slot = || (self.class, self.generation).cmp(&(other.class, other.generation));
        self.key.cmp(&other.key).then_with(by_content).then_with(by_slot)
    }
}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Entry) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// The ranking for one shape.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ranking {
    heap: BinaryHeap<Entry>,
    read: Option<u64>,
}

impl Ranking {
    /// The best class for this demand as the cluster stands, or `None` when it fits nowhere.
    pub(crate) fn best<'a>(&mut self, cluster: &'a Cluster, judge: &Judge, demand: &Demand) -> Option<&'a Class> {
        self.catch_up(cluster, judge, demand);
        while let Some(entry) = self.heap.peek() {
            match cluster.class(entry.class, entry.generation) {
                Some(class) => return Some(class),
                None => drop(self.heap.pop()),
            }
        }
        None
    }

    fn catch_up(&mut self, cluster: &Cluster, judge: &Judge, demand: &Demand) {
        // Entries of classes that are gone are dropped when they surface, or here when there are too many of them.
        let stale = self.heap.len() > 2 * cluster.live_count() + 64;
        if stale {
            self.heap.retain(|entry| cluster.class(entry.class, entry.generation).is_some());
        }
        if let Some(news) = self.read.and_then(|read| cluster.journal_since(read)) {
            for (class, generation) in news {
                if let Some(live) = cluster.class(*class, *generation) {
                    self.add(judge, demand, live, *class);
                }
            }
        } else {
            self.heap.clear();
            for (number, class) in cluster.live() {
                self.add(judge, demand, class, number);
            }
        }
        self.read = Some(cluster.journal_end());
    }

    fn add(&mut self, judge: &Judge, demand: &Demand, class: &Class, number: u32) {
        if !class.content.fits(demand) {
            return;
        }
        let before = judge.before(&class.content);
        if let Some(key) = judge.best(&class.content, before, demand) {
            self.heap.push(Entry { key, content: class.content, class: number, generation: class.generation });
        }
    }
}
