//! The usage spool: what was used is durable here before anybody is told, and waits until control has it.
//!
//! Records are appended to numbered segment files with length and checksum; many callers share one fsync. What was handed
//! over is noted (with the totals of each allowance) before a segment is dropped, so that a crash at any instruction loses
//! nothing that was acknowledged and doubles nothing: a record that is sent twice carries the same id.

mod frame;
mod log;

use std::{
    collections::{BTreeMap, HashSet},
    io,
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use gregal_core::{id::AllowanceId, money::Nano};
use tokio::sync::{Notify, mpsc, oneshot};

pub use frame::Record;
pub use log::Batch;
use log::Log;

/// Callers that may wait for the writer at once; more wait before the door.
const QUEUE: usize = 1024;
/// Records written with one fsync, at most.
const GROUP: usize = 4096;

/// How much a spool may hold.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// From this size on no new work is taken, in bytes.
    pub bytes_max: u64,
    /// What running work may still add after that, in bytes.
    pub reserve_bytes: u64,
    /// Size from which a new segment is begun, in bytes.
    pub segment_bytes: u64,
}

impl Default for Limits {
    /// 256 MiB (half a million records: days of a busy site without control), 32 MiB in reserve, segments of 4 MiB.
    fn default() -> Self {
        Self { bytes_max: 256 << 20, reserve_bytes: 32 << 20, segment_bytes: 4 << 20 }
    }
}

/// Why usage could not be spooled or read back.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// As much waits as may wait.
    #[error("the usage spool is full: {bytes} bytes wait to be handed over to the control plane")]
    Full {
        /// How much waits.
        bytes: u64,
    },
    /// Another writer has not let go of the folder.
    #[error("the usage spool is in use by another writer")]
    InUse,
    /// A record larger than any true one.
    #[error("a usage record is too large to spool")]
    RecordTooLarge,
    /// A file in the middle of the spool does not read back.
    #[error("the usage spool is damaged at `{file}`; nothing was changed, restore it or move it away")]
    Damaged {
        /// Which file.
        file: String,
    },
    /// The disk did not do its part.
    #[error("{doing}")]
    Io {
        /// What was tried.
        doing: &'static str,
        /// What came of it.
        #[source]
        source: io::Error,
    },
    /// The writer has ended.
    #[error("the usage spool is closed")]
    Closed,
}

impl Error {
    fn io(doing: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { doing, source }
    }
}

enum Ask {
    Append(Vec<Record>, oneshot::Sender<Result<u64, Error>>),
    Batch(usize, oneshot::Sender<Result<Batch, Error>>),
    HandOver(Batch, oneshot::Sender<Result<(), Error>>),
    Forget(HashSet<AllowanceId>, oneshot::Sender<Result<(), Error>>),
    Adopt(BTreeMap<AllowanceId, Nano>, oneshot::Sender<Result<BTreeMap<AllowanceId, Nano>, Error>>),
}

/// A handle to the spool; cheap to clone.
#[derive(Debug, Clone)]
pub struct Spool {
    asks: mpsc::Sender<Ask>,
    state: Arc<State>,
}

#[derive(Debug)]
struct State {
    limits: Limits,
    bytes: AtomicU64,
    next: AtomicU64,
    handed_over: AtomicU64,
    failing: AtomicBool,
    whole: AtomicBool,
    used: Mutex<BTreeMap<AllowanceId, Nano>>,
    arrived: Notify,
    handed: Notify,
}

impl Spool {
    /// Opens the spool in a folder, cutting a torn tail off, and starts its writer.
    pub fn open(folder: &Path, limits: Limits) -> Result<Self, Error> {
        let log = Log::open(folder, limits)?;
        let state = Arc::new(State {
            limits,
            bytes: AtomicU64::new(0),
            next: AtomicU64::new(0),
            handed_over: AtomicU64::new(0),
            failing: AtomicBool::new(false),
            whole: AtomicBool::new(false),
            used: Mutex::default(),
            arrived: Notify::new(),
            handed: Notify::new(),
        });
        state.publish(&log);
        let (asks, inbox) = mpsc::channel(QUEUE);
        let shared = Arc::clone(&state);
        std::thread::Builder::new()
            .name("usage-spool".into())
            .spawn(move || Writer { log, state: shared, inbox }.run())
            .map_err(Error::io("could not start the usage spool's writer"))?;
        Ok(Self { asks, state })
    }

    /// Makes records durable, all or none, and answers then: the number after the last of them. A record that waits
    /// already is the same record and is not written again.
    pub async fn append(&self, records: Vec<Record>) -> Result<u64, Error> {
        self.ask(|answer| Ask::Append(records, answer)).await
    }

    /// The oldest records that wait, at most `max`; empty if none does.
    pub async fn batch(&self, max: usize) -> Result<Batch, Error> {
        self.ask(|answer| Ask::Batch(max, answer)).await
    }

    /// Notes that control has a batch. There is one uploader: batches are handed over in the order they were read.
    pub async fn hand_over(&self, batch: Batch) -> Result<(), Error> {
        self.ask(|answer| Ask::HandOver(batch, answer)).await
    }

    /// Forgets the totals of every allowance but these, as soon as nothing waits.
    pub async fn forget_allowances(&self, keep: HashSet<AllowanceId>) -> Result<(), Error> {
        self.ask(|answer| Ask::Forget(keep, answer)).await
    }

    /// Takes in what control has charged of each allowance, durably; answers by how much each count was raised. Nothing is
    /// raised but what an earlier spool of this site handed over before it was lost.
    pub async fn adopt(&self, charged: BTreeMap<AllowanceId, Nano>) -> Result<BTreeMap<AllowanceId, Nano>, Error> {
        self.ask(|answer| Ask::Adopt(charged, answer)).await
    }

    /// Whether what control has charged was taken in since the spool began. If not, it is new, or the one before it is lost.
    pub fn is_whole(&self) -> bool {
        self.state.whole.load(Ordering::Acquire)
    }

    /// What was used of each allowance: handed over and waiting, in total.
    pub fn used(&self) -> BTreeMap<AllowanceId, Nano> {
        self.state.used.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether new work may begin: there is room for its usage, and the disk took the last record.
    pub fn has_room(&self) -> bool {
        self.bytes() < self.state.limits.bytes_max && !self.state.failing.load(Ordering::Acquire)
    }

    /// Bytes on disk.
    pub fn bytes(&self) -> u64 {
        self.state.bytes.load(Ordering::Acquire)
    }

    /// Records that wait.
    pub fn waiting(&self) -> u64 {
        self.state.next.load(Ordering::Acquire).saturating_sub(self.handed_over())
    }

    /// Number of the first record that was not handed over.
    pub fn handed_over(&self) -> u64 {
        self.state.handed_over.load(Ordering::Acquire)
    }

    /// Number of the next record to be written.
    pub fn next(&self) -> u64 {
        self.state.next.load(Ordering::Acquire)
    }

    /// Resolves when something arrives after this call; check [`Spool::waiting`] as well.
    pub async fn arrived(&self) {
        self.state.arrived.notified().await;
    }

    /// Resolves when everything before this record was handed over.
    pub async fn handed_over_until(&self, next: u64) {
        loop {
            let changed = self.state.handed.notified();
            if self.handed_over() >= next {
                return;
            }
            changed.await;
        }
    }

    async fn ask<T>(&self, ask: impl FnOnce(oneshot::Sender<Result<T, Error>>) -> Ask) -> Result<T, Error> {
        let (answer, answered) = oneshot::channel();
        self.asks.send(ask(answer)).await.map_err(|_| Error::Closed)?;
        answered.await.map_err(|_| Error::Closed)?
    }
}

impl State {
    fn publish(&self, log: &Log) {
        self.bytes.store(log.bytes(), Ordering::Release);
        self.next.store(log.next(), Ordering::Release);
        self.handed_over.store(log.handed_over(), Ordering::Release);
        self.whole.store(log.is_whole(), Ordering::Release);
        self.used.lock().unwrap_or_else(PoisonError::into_inner).clone_from(log.used());
    }
}

struct Writer {
    log: Log,
    state: Arc<State>,
    inbox: mpsc::Receiver<Ask>,
}

type Appending = (Vec<Record>, oneshot::Sender<Result<u64, Error>>);

impl Writer {
    fn run(mut self) {
        while let Some(ask) = self.inbox.blocking_recv() {
            let mut ask = Some(ask);
            while let Some(now) = ask.take() {
                match now {
                    Ask::Append(records, answer) => ask = self.append_group((records, answer)),
                    Ask::Batch(max, answer) => drop(answer.send(self.log.batch(max))),
                    Ask::HandOver(batch, answer) => {
                        let outcome = self.log.hand_over(&batch);
                        self.state.publish(&self.log);
                        self.state.handed.notify_waiters();
                        drop(answer.send(outcome));
                    }
                    Ask::Forget(keep, answer) => {
                        let outcome = self.log.forget_allowances(&keep);
                        self.state.publish(&self.log);
                        drop(answer.send(outcome));
                    }
                    Ask::Adopt(charged, answer) => {
                        let outcome = self.log.adopt(&charged);
                        self.state.publish(&self.log);
                        drop(answer.send(outcome));
                    }
                }
            }
        }
    }

    /// Writes what waits in the queue with one fsync. Answers the first ask that is something else.
    fn append_group(&mut self, first: Appending) -> Option<Ask> {
        let mut group = vec![first];
        let mut size = group[0].0.len();
        let mut other = None;
        while size < GROUP {
            match self.inbox.try_recv() {
                Ok(Ask::Append(records, answer)) => {
                    size += records.len();
                    group.push((records, answer));
                }
                Ok(ask) => {
                    other = Some(ask);
                    break;
                }
                Err(_) => break,
            }
        }
        if self.log.append(group.iter().flat_map(|(records, _)| records)).is_ok() {
            self.state.failing.store(false, Ordering::Release);
            self.state.publish(&self.log);
            let next = self.log.next();
            for (_, answer) in group {
                drop(answer.send(Ok(next)));
            }
        } else {
            // One bad record must not refuse its neighbours: each goes alone, and each is told its own reason.
            for (records, answer) in group {
                let alone = self.log.append(records.iter()).map(|()| self.log.next());
                if let Err(error) = &alone {
                    tracing::error!(%error, "usage could not be made durable");
                }
                self.state.failing.store(matches!(alone, Err(Error::Io { .. })), Ordering::Release);
                self.state.publish(&self.log);
                drop(answer.send(alone));
            }
        }
        self.state.arrived.notify_one();
        other
    }
}
