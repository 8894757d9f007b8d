//! Who is woken when something changed: tasks that would else wait for their next turn, and sites that wait for news.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::{Notify, watch};

/// What a change may concern.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wake {
    /// Nobody waits for it.
    Nobody,
    /// Sites: their intent may have changed.
    Sites,
    /// The scheduler, and sites after it.
    Schedule,
}

impl Wake {
    /// Its topic in the outbox; none if nobody waits.
    pub(crate) const fn topic(self) -> Option<&'static str> {
        match self {
            Self::Nobody => None,
            Self::Sites => Some("wake.sites"),
            Self::Schedule => Some("wake.schedule"),
        }
    }

    /// What a topic of the outbox stands for.
    pub(crate) fn of_topic(topic: &str) -> Option<Self> {
        [Self::Sites, Self::Schedule].into_iter().find(|wake| wake.topic() == Some(topic))
    }
}

/// Everything that can be woken. A task that is poked while it works makes one more pass.
#[derive(Debug)]
pub(crate) struct Wakes {
    pub(crate) reserve: Notify,
    pub(crate) schedule: Notify,
    pub(crate) settle: Notify,
    pub(crate) expire: Notify,
    pub(crate) outbox: Notify,
    pub(crate) invoice: Notify,
    news: watch::Sender<u64>,
    draining: AtomicBool,
}

impl Wakes {
    pub(crate) fn new() -> Self {
        Self {
            reserve: Notify::new(),
            schedule: Notify::new(),
            settle: Notify::new(),
            expire: Notify::new(),
            outbox: Notify::new(),
            invoice: Notify::new(),
            news: watch::Sender::new(0),
            draining: AtomicBool::new(false),
        }
    }

    /// Wakes everyone.
    pub(crate) fn all(&self) {
        for task in [&self.reserve, &self.schedule, &self.settle, &self.expire, &self.outbox] {
            task.notify_one();
        }
        self.sites();
    }

    /// Wakes sites that wait for news.
    pub(crate) fn sites(&self) {
        self.news.send_modify(|count| *count = count.wrapping_add(1));
    }

    /// Wakes whom a change concerns.
    pub(crate) fn wake(&self, wake: Wake) {
        match wake {
            Wake::Nobody => {}
            Wake::Sites => self.sites(),
            Wake::Schedule => {
                self.schedule.notify_one();
                self.sites();
            }
        }
    }

    /// Follows news for sites: subscribe first, read then, wait last, and nothing is missed.
    pub(crate) fn subscribe(&self) -> watch::Receiver<u64> {
        self.news.subscribe()
    }

    /// Ends long polls from now on: the process is about to stop.
    pub(crate) fn drain(&self) {
        self.draining.store(true, Ordering::Release);
        self.sites();
    }

    /// Whether the process is about to stop.
    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }
}
