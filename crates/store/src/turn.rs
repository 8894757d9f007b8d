//! Whose turn it is to write. There is one writer at a time; who waits, waits in one of two lanes.
//!
//! Tenants' requests may be many, and each queues for itself. What keeps the cloud going (a pass of the scheduler, what a site
//! has to say) is one transaction at a time for everybody's work: were it to queue behind every request there is, a burst of
//! them would leave machines idle that have nothing to do but to wait for the next pass. So no upkeep waits for more than a few
//! requests, and no request for more than one upkeep at each step that it takes in its lane.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{Mutex, OwnedMutexGuard, Semaphore},
    time::timeout,
};

use crate::{Error, Result};

/// Requests that stand before the door at once. Few enough that upkeep does not wait long (each takes a few milliseconds), many
/// enough that what upkeep has to do gathers meanwhile: one pass for many ends costs less than a pass for each.
const REQUESTS_AT_DOOR: usize = 8;

/// Which queue a writer stands in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lane {
    /// Requests of whoever uses the cloud.
    Requests,
    /// What keeps the cloud going: its own tasks, and its sites.
    Upkeep,
}

/// The right to write, until it is dropped.
#[derive(Debug)]
pub(crate) struct Turn(#[expect(dead_code, reason = "held, not read")] OwnedMutexGuard<()>);

/// The two lanes. The first of each stand at the one door that both lead to, which lets in by order of arrival.
#[derive(Debug)]
pub(crate) struct Turns {
    requests: Semaphore,
    upkeep: Semaphore,
    door: Arc<Mutex<()>>,
}

impl Default for Turns {
    fn default() -> Self {
        Self { requests: Semaphore::new(REQUESTS_AT_DOOR), upkeep: Semaphore::new(1), door: Arc::default() }
    }
}

impl Turns {
    /// Waits for the turn, so long at most; then it is [`Error::Busy`].
    pub(crate) async fn wait(&self, lane: Lane, longest: Duration) -> Result<Turn> {
        let lane = match lane {
            Lane::Requests => &self.requests,
            Lane::Upkeep => &self.upkeep,
        };
        let turn = async {
            // Nobody closes it, so there is always a place to come.
            let _place = lane.acquire().await;
            Turn(Arc::clone(&self.door).lock_owned().await)
        };
        timeout(longest, turn).await.map_err(|_| Error::Busy)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex as Said;

    use tokio::task::JoinSet;

    use super::*;

    const LONG: Duration = Duration::from_mins(10);

    #[tokio::test]
    async fn upkeep_waits_for_a_few_requests_at_most_and_requests_for_one_of_upkeep_at_a_time() {
        let turns = Arc::new(Turns::default());
        let order = Arc::new(Said::new(String::new()));
        let open = turns.wait(Lane::Requests, LONG).await.unwrap();
        let mut all = JoinSet::new();
        let mut queue = |lane, name: char| {
            let (turns, order) = (Arc::clone(&turns), Arc::clone(&order));
            all.spawn(async move {
                let _turn = turns.wait(lane, LONG).await.unwrap();
                order.lock().unwrap().push(name);
            });
        };
        for _ in 0..3 * REQUESTS_AT_DOOR {
            queue(Lane::Requests, 'r');
        }
        // On one thread, whoever was spawned stands in the lane after this.
        tokio::task::yield_now().await;
        for _ in 0..3 {
            queue(Lane::Upkeep, 'U');
        }
        tokio::task::yield_now().await;
        drop(open);
        while let Some(done) = all.join_next().await {
            done.unwrap();
        }
        let order = order.lock().unwrap();
        let between: Vec<usize> = order.split('U').map(str::len).collect();
        assert_eq!(between.len(), 4, "{order}");
        assert!(between.iter().take(3).all(|requests| (1..=REQUESTS_AT_DOOR).contains(requests)), "{order}");
    }

    #[tokio::test]
    async fn who_waits_too_long_is_told_and_is_not_in_the_way() {
        let turns = Turns::default();
        let open = turns.wait(Lane::Requests, LONG).await.unwrap();
        let waited = turns.wait(Lane::Requests, Duration::ZERO).await;
        assert!(matches!(waited, Err(Error::Busy)), "{waited:?}");
        drop(open);
        turns.wait(Lane::Requests, LONG).await.unwrap();
    }
}
