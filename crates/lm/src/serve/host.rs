//! The state requests share: how far the model is, and the way to the thread that runs it.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::{SystemTime, UNIX_EPOCH};

use tokenizers::Tokenizer;
use tokio::sync::{mpsc, oneshot};

use super::engine::{self, Job};
use super::{CONTEXT_DEFAULT_MAX, Error, Options};
use crate::chat_template::Template;
use crate::infer::Model;
use crate::weights;

/// What requests need to know of the model, once it is loaded.
pub(super) struct Ready {
    pub(super) name: String,
    pub(super) created: u64,
    pub(super) tokenizer: Arc<Tokenizer>,
    pub(super) template: Option<Template>,
    pub(super) vocab: usize,
    /// Longest sequence, tokens.
    pub(super) context: usize,
}

/// Shared by all requests.
pub(super) struct Host {
    ready: OnceLock<Ready>,
    layers_done: AtomicUsize,
    layers: AtomicUsize,
    draining: AtomicBool,
    running: Arc<AtomicUsize>,
    jobs: Mutex<Option<mpsc::Sender<Job>>>,
    ids: AtomicU64,
    ids_key: std::hash::RandomState,
}

/// Why a job was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NotTaken {
    /// As many wait as may.
    Full,
    /// The server is going down, or its engine is gone.
    Closed,
}

pub(super) type Started = (Arc<Host>, oneshot::Receiver<Error>, JoinHandle<()>);

impl Host {
    /// Starts the thread that loads and runs the model. The receiver resolves if it fails.
    pub(super) fn start(options: Options) -> Result<Started, Error> {
        let (jobs, received) = mpsc::channel(options.queue_max.max(1));
        let running = Arc::new(AtomicUsize::new(0));
        let host = Arc::new(Self {
            ready: OnceLock::new(),
            layers_done: AtomicUsize::new(0),
            layers: AtomicUsize::new(0),
            draining: AtomicBool::new(false),
            running,
            jobs: Mutex::new(Some(jobs)),
            ids: AtomicU64::new(0),
            ids_key: std::hash::RandomState::new(),
        });
        let (tell, failed) = oneshot::channel();
        let shared = host.clone();
        let thread = std::thread::Builder::new().name("model".to_owned()).spawn(move || {
            let running = shared.running.clone();
            match shared.load(&options) {
                Ok((model, eos)) => {
                    let tokenizer = shared.ready.get().map(|ready| ready.tokenizer.clone());
                    let Some(tokenizer) = tokenizer else { return };
                    // Without this, the sender inside would keep the engine's own channel open.
                    drop(shared);
                    engine::run(&model, &tokenizer, &eos, options.batch_max.max(1), received, &running);
                }
                // The receiver is gone only when serving is over anyway.
                Err(error) => drop(tell.send(error)),
            }
        })?;
        Ok((host, failed, thread))
    }

    fn load(&self, options: &Options) -> Result<(Model, Vec<u32>), Error> {
        let loaded = weights::load(&options.model)?;
        let most = loaded.config.max_position_embeddings;
        let context = options.context.map_or(most.min(CONTEXT_DEFAULT_MAX), |context| context.min(most)).max(2);
        let word = |id: Option<u32>| id.and_then(|id| loaded.tokenizer.id_to_token(id)).unwrap_or_default();
        let template = match &loaded.chat_template {
            Some(source) => Some(Template::new(source, &word(loaded.bos), &word(loaded.eos.first().copied()))?),
            None => None,
        };
        let model = Model::new(&loaded, context, options.threads, |done, all| {
            self.layers_done.store(done, Ordering::Relaxed);
            self.layers.store(all, Ordering::Relaxed);
        })?;
        let ready = Ready {
            name: options.name.clone().unwrap_or_else(|| loaded.name.clone()),
            created: unix_seconds(),
            vocab: loaded.config.vocab_size,
            tokenizer: Arc::new(loaded.tokenizer),
            template,
            context,
        };
        // Set once: only this thread loads.
        let _ = self.ready.set(ready);
        Ok((model, loaded.eos))
    }

    /// What requests need, once the model is loaded and as long as new requests are taken.
    pub(super) fn ready(&self) -> Option<&Ready> {
        if self.draining.load(Ordering::Relaxed) { None } else { self.ready.get() }
    }

    /// Layers loaded, and layers in all (0 before that is known).
    pub(super) fn progress(&self) -> (usize, usize) {
        (self.layers_done.load(Ordering::Relaxed), self.layers.load(Ordering::Relaxed))
    }

    /// Sequences in the step that runs now.
    pub(super) fn running(&self) -> usize {
        self.running.load(Ordering::Relaxed)
    }

    pub(super) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// Takes no more requests.
    pub(super) fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// Ends the engine's thread when it has nothing left to do.
    pub(super) fn close(&self) {
        self.drain();
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    /// Hands a job to the engine, or says at once that it cannot.
    pub(super) fn submit(&self, job: Job) -> Result<(), NotTaken> {
        let jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match jobs.ok_or(NotTaken::Closed)?.try_send(job) {
            Ok(()) => Ok(()),
            Err(mpsc::error::TrySendError::Full(_)) => Err(NotTaken::Full),
            Err(mpsc::error::TrySendError::Closed(_)) => Err(NotTaken::Closed),
        }
    }

    /// A number that no other request of this server, and hardly one of any other, has.
    pub(super) fn unique(&self) -> u64 {
        use std::hash::BuildHasher as _;
        self.ids_key.hash_one(self.ids.fetch_add(1, Ordering::Relaxed))
    }
}

/// Wall time in whole seconds, as the `created` of an answer.
pub(super) fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
