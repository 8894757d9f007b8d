//! The reconcilers: loops that compare what is wanted with what is, and take one bounded step.
//!
//! Each takes no arguments and is idempotent, so that a crash, a restart or a second copy changes nothing. Each is poked
//! when something changed, and wakes by itself as well.

mod expire;
mod invoice;
mod outbox;
pub(crate) mod replica;
pub(crate) mod reservation;
pub(crate) mod schedule;
mod settle;

use std::{panic::AssertUnwindSafe, time::Duration};

use futures_util::FutureExt as _;
use tokio::{
    sync::{Notify, watch},
    task::JoinSet,
};

use crate::{
    Control, Result,
    metrics::{Metric, Metrics},
};

/// Every task. All of one kind on stop and on failure: a pass that has begun ends (it is one short transaction), a failed
/// or panicked one is logged and counted, and the next turn begins from the rows as they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Task {
    /// Begins, bills and ends reservations.
    Reserve,
    /// Gives waiting jobs to sites.
    Schedule,
    /// Closes holds of what has ended.
    Settle,
    /// Ends what has run out: holds, kept answers; says which running work is out of sight.
    Expire,
    /// Carries out messages left by transactions.
    Outbox,
    /// Issues the invoices of a month that has ended.
    Invoice,
}

/// The longest rest of the scheduler between two passes.
const REST_MAX: Duration = Duration::from_millis(500);
/// The rest between two passes over messages that transactions left.
const OUTBOX_REST: Duration = Duration::from_millis(50);

impl Task {
    /// Every task there is.
    pub(crate) const ALL: [Self; 6] =
        [Self::Outbox, Self::Reserve, Self::Schedule, Self::Settle, Self::Expire, Self::Invoice];

    const fn name(self) -> &'static str {
        match self {
            Self::Reserve => "reserve",
            Self::Schedule => "schedule",
            Self::Settle => "settle",
            Self::Expire => "expire",
            Self::Outbox => "outbox",
            Self::Invoice => "invoice",
        }
    }

    /// How long it sleeps if nobody pokes it.
    const fn every(self) -> Duration {
        match self {
            Self::Reserve | Self::Schedule | Self::Outbox => Duration::from_secs(1),
            Self::Expire => Duration::from_secs(5),
            Self::Settle => Duration::from_secs(30),
            Self::Invoice => Duration::from_mins(5),
        }
    }
}

impl Task {
    /// How long it rests after a pass that took so long, poked or not: every request that changes something pokes.
    fn rest(self, took: Duration) -> Duration {
        match self {
            // A pass over a long queue has the writer's turn all the while: half of the time is left to others.
            Self::Schedule => took.min(REST_MAX),
            // Whom a message would wake was nudged already; it is there for after a crash. Many go in one transaction.
            Self::Outbox => OUTBOX_REST,
            Self::Reserve | Self::Settle | Self::Expire | Self::Invoice => Duration::ZERO,
        }
    }
}

impl Control {
    /// Carries out the reconcilers until `shutdown` is done; passes that have begun end first, and sites that wait for
    /// news are answered at once from then on.
    pub async fn run(&self, shutdown: impl Future<Output = ()>) {
        let (stop, stopped) = watch::channel(false);
        let mut tasks = JoinSet::new();
        for task in Task::ALL {
            tasks.spawn(self.clone().task_loop(task, stopped.clone()));
        }
        shutdown.await;
        self.wakes().drain();
        // The receivers live in the tasks; were they gone, there would be nobody to tell.
        let _ = stop.send(true);
        while tasks.join_next().await.is_some() {}
    }

    /// Makes one pass of every task, now: what [`Control::run`] does in turns. For whoever steps a world by hand.
    pub async fn step(&self) -> Result<()> {
        for task in Task::ALL {
            self.task_pass(task).await?;
        }
        Ok(())
    }

    async fn task_loop(self, task: Task, mut stopped: watch::Receiver<bool>) {
        while !*stopped.borrow_and_update() {
            // Boxed: the passes are large futures, and a loop holds one of them for as long as it lives.
            let began = self.world().steady();
            guarded(self.metrics(), task.name(), Box::pin(self.task_pass(task))).await;
            let took = self.world().steady().saturating_duration_since(began);
            if tokio::time::timeout(task.rest(took), stopped.changed()).await.is_ok() {
                continue;
            }
            tokio::select! {
                () = self.task_poke(task).notified() => {}
                () = tokio::time::sleep(task.every()) => {}
                _ = stopped.changed() => {}
            }
        }
    }

    fn task_poke(&self, task: Task) -> &Notify {
        match task {
            Task::Reserve => &self.wakes().reserve,
            Task::Schedule => &self.wakes().schedule,
            Task::Settle => &self.wakes().settle,
            Task::Expire => &self.wakes().expire,
            Task::Outbox => &self.wakes().outbox,
            Task::Invoice => &self.wakes().invoice,
        }
    }

    async fn task_pass(&self, task: Task) -> Result<()> {
        match task {
            Task::Reserve => self.reservations_pass().await,
            Task::Schedule => self.schedule_pass().await,
            Task::Settle => self.settle_pass().await,
            Task::Expire => self.expire_pass().await,
            Task::Outbox => self.outbox_pass().await,
            Task::Invoice => self.invoices_pass().await,
        }
    }
}

/// Makes a pass; whatever becomes of it, the loop goes on.
async fn guarded(metrics: &Metrics, name: &str, pass: impl Future<Output = Result<()>>) {
    metrics.count(Metric::TaskPasses);
    match AssertUnwindSafe(pass).catch_unwind().await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => {
            metrics.count(Metric::TaskErrors);
            error.log(None, &format!("a pass of task `{name}` failed"));
        }
        Err(_) => {
            // The panic's own message was written by the panic hook.
            metrics.count(Metric::TaskPanics);
            tracing::error!("a pass of task `{name}` panicked; what it had begun was undone");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Error;

    #[tokio::test]
    async fn a_pass_that_panics_or_fails_is_counted_and_the_caller_goes_on() {
        let metrics = Metrics::new();
        guarded(&metrics, "test", async { panic!("a broken invariant") }).await;
        guarded(&metrics, "test", async { Err(Error::Broken("no".into())) }).await;
        guarded(&metrics, "test", async { Ok(()) }).await;
        let text = metrics.text();
        assert!(text.contains("\ngregal_control_task_passes_total 3\n"), "{text}");
        assert!(text.contains("\ngregal_control_task_panics_total 1\n"), "{text}");
        assert!(text.contains("\ngregal_control_task_errors_total 1\n"), "{text}");
    }
}
