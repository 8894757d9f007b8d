//! Whose turn it is to write. There is one writer at a time; who waits, waits in one of two lanes.
//!
//! Tenants' requests may be many, and each queues for itself. What keeps the cloud going (a pass of the scheduler, what a site
//! has to say) is one transaction at a time for everybody's work: were it to queue behind every request there is, a burst of
//! them would leave machines idle that have nothing to do but to wait for the next pass. So the lanes take turns, one by one:
//! neither waits for more than one of the other.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{Mutex, OwnedMutexGuard},
    time::timeout,
};

use crate::{Error, Result};

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

/// The two lanes. Whoever is first in his lane stands at the one door that both lead to, which lets in by order of arrival;
/// so there are never more than two at the door.
#[derive(Debug, Default)]
pub(crate) struct Turns {
    requests: Mutex<()>,
    upkeep: Mutex<()>,
    door: Arc<Mutex<()>>,
}

impl Turns {
    /// Waits for the turn, so long at most; then it is [`Error::Busy`].
    pub(crate) async fn wait(&self, lane: Lane, longest: Duration) -> Result<Turn> {
        let lane = match lane {
            Lane::Requests => &self.requests,
            Lane::Upkeep => &self.upkeep,
        };
        let turn = async {
            let _first = lane.lock().await;
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

    const LONG: Duration = Duration::from_secs(600);

    #[tokio::test]
    async fn upkeep_waits_for_one_request_at_most_and_requests_for_one_of_upkeep() {
        let turns = Arc::new(Turns::default());
        let order = Arc::new(Said::new(Vec::new()));
        let open = turns.wait(Lane::Requests, LONG).await.unwrap();
        let mut all = JoinSet::new();
        let mut queue = |lane, name: String| {
            let (turns, order) = (Arc::clone(&turns), Arc::clone(&order));
            all.spawn(async move {
                let _turn = turns.wait(lane, LONG).await.unwrap();
                order.lock().unwrap().push(name);
            });
        };
        for number in 0..4 {
            queue(Lane::Requests, format!("request {number}"));
        }
        // On one thread, whoever was spawned stands in the lane after this.
        tokio::task::yield_now().await;
        for number in 0..3 {
            queue(Lane::Upkeep, format!("upkeep {number}"));
        }
        tokio::task::yield_now().await;
        drop(open);
        while let Some(done) = all.join_next().await {
            done.unwrap();
        }
        let order = order.lock().unwrap().join(", ");
        assert_eq!(order, "request 0, upkeep 0, request 1, upkeep 1, request 2, upkeep 2, request 3");
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
