//! Serves one model over HTTP in `OpenAI`'s shapes, on a unix socket or a loopback port. Prompts and answers are content:
//! they are neither logged nor kept.
//!
//! `completion_tokens` counts the tokens the model wrote without the one that ends its answer: what can be seen, and
//! what spells a stop string. Tokens written before a hang-up are not reported to anyone but were computed.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::{get, post};
use tokio::net::{TcpListener, UnixListener};

use crate::weights;

mod engine;
mod host;
mod openai;
mod request;
mod routes;

use host::Host;

/// Largest request body, bytes.
pub const BODY_BYTES_MAX: usize = 8 << 20;
/// Longest wait for running answers when asked to stop.
pub const DRAIN_MAX: Duration = Duration::from_secs(30);

/// Where to listen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listen {
    /// A unix socket at this path; made readable to its owner only.
    Unix(PathBuf),
    /// A loopback address, as `127.0.0.1:8080`; port 0 lets the system choose.
    Tcp(std::net::SocketAddr),
}

/// What to serve, and within which limits.
#[derive(Debug, Clone)]
pub struct Options {
    /// A Hugging Face folder or a GGUF file.
    pub model: PathBuf,
    /// Where to listen.
    pub listen: Listen,
    /// The name requests must ask for; by default the model's own.
    pub name: Option<String>,
    /// Worker threads of a step. 1 where cores are shared: more would wait for each other.
    pub threads: usize,
    /// Sequences in a step.
    pub batch_max: usize,
    /// Requests that may wait for a place in a step. Those beyond are refused.
    pub queue_max: usize,
    /// Longest sequence, tokens; by default the model's own limit, at most [`CONTEXT_DEFAULT_MAX`].
    pub context: Option<usize>,
}

/// Longest sequence where nothing is asked for: what eight full sequences remember stays below some gigabytes.
pub const CONTEXT_DEFAULT_MAX: usize = 8192;

impl Options {
    /// Serves `model` at `listen` with the usual limits.
    pub fn new(model: impl Into<PathBuf>, listen: Listen) -> Self {
        Self { model: model.into(), listen, name: None, threads: 1, batch_max: 8, queue_max: 64, context: None }
    }
}

impl std::str::FromStr for Listen {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        if let Some(path) = text.strip_prefix("unix:") {
            return Ok(Self::Unix(path.into()));
        }
        match text.parse::<std::net::SocketAddr>() {
            Ok(address) if address.ip().is_loopback() => Ok(Self::Tcp(address)),
            _ => Err(Error::Listen { text: text.to_owned() }),
        }
    }
}

/// Why serving could not begin, or ended.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Neither a unix socket nor a loopback address: this server knows no keys, so it stays on its machine.
    #[error("`{text}` is neither `unix:PATH` nor a loopback address and port")]
    Listen {
        /// What was asked for.
        text: String,
    },
    /// The address is taken or not ours to take.
    #[error("could not listen on `{at}`")]
    Bind {
        /// The address.
        at: String,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The model could not be read.
    #[error("could not load the model")]
    Weights(#[from] weights::Error),
    /// The model's chat template is not sound.
    #[error("could not load the model")]
    Template(#[from] crate::chat_template::Error),
    /// The system refused a thread, a signal handler or a socket operation.
    #[error("the system refused what serving needs")]
    System(#[from] std::io::Error),
    /// The thread that runs the model ended by a fault of its own.
    #[error("the thread that runs the model stopped")]
    Engine,
}

/// Serves until SIGTERM or Ctrl-C, then lets running answers end (at most [`DRAIN_MAX`]).
pub async fn run(options: Options) -> Result<(), Error> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    let stop = async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = tokio::signal::ctrl_c() => {}
        }
    };
    run_until(options, |at| tracing::info!(%at, "listening"), stop).await
}

/// Serves until `stop` resolves. `listening` is told the address once, before the model is loaded: until it is,
/// `/health` says how far loading has come and everything else answers 503.
pub async fn run_until(
    options: Options,
    listening: impl FnOnce(&str),
    stop: impl Future<Output = ()> + Send + 'static,
) -> Result<(), Error> {
    let bound = bind(&options.listen).await?;
    listening(&bound.at);
    let (host, mut failed, thread) = Host::start(options)?;
    let app = routes(host.clone());
    let (drain, drained) = tokio::sync::watch::channel(false);
    let wait = |mut drained: tokio::sync::watch::Receiver<bool>| async move {
        // A closed channel means the same as a word: it is over.
        let _ = drained.wait_for(|stop| *stop).await;
    };
    let graceful = wait(drained.clone());
    let Bound { socket, cleanup, .. } = bound;
    let mut server = tokio::spawn(async move {
        match socket {
            Socket::Unix(listener) => axum::serve(listener, app).with_graceful_shutdown(graceful).await,
            Socket::Tcp(listener) => axum::serve(listener, app).with_graceful_shutdown(graceful).await,
        }
    });

    let outcome = tokio::select! {
        () = stop => Ok(()),
        error = &mut failed => Err(error.unwrap_or(Error::Engine)),
    };
    host.drain();
    drain.send_replace(true);
    if tokio::time::timeout(DRAIN_MAX, &mut server).await.is_err() {
        tracing::warn!(seconds = DRAIN_MAX.as_secs(), "answers were still running, they are cut off");
        server.abort();
    }
    host.close();
    let joined = tokio::task::spawn_blocking(move || thread.join()).await;
    drop(cleanup);
    outcome?;
    // A loader that failed while we were stopping is no failure of stopping; a panic is.
    match joined {
        Ok(Ok(())) => Ok(()),
        _ => Err(Error::Engine),
    }
}

fn routes(host: Arc<Host>) -> Router {
    Router::new()
        .route("/health", get(routes::health))
        .route("/v1/models", get(routes::models))
        .route("/v1/models/{name}", get(routes::model))
        .route("/v1/chat/completions", post(routes::chat))
        .route("/v1/completions", post(routes::completion))
        .fallback(routes::unknown)
        .method_not_allowed_fallback(routes::wrong_method)
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(host)
}

enum Socket {
    Unix(UnixListener),
    Tcp(TcpListener),
}

struct Bound {
    socket: Socket,
    at: String,
    cleanup: Option<RemoveOnDrop>,
}

/// Takes the socket's file away when serving ends.
struct RemoveOnDrop(PathBuf);

impl Drop for RemoveOnDrop {
    fn drop(&mut self) {
        // Gone already is as good.
        let _ = std::fs::remove_file(&self.0);
    }
}

async fn bind(listen: &Listen) -> Result<Bound, Error> {
    match listen {
        Listen::Tcp(address) => {
            let refused = |source| Error::Bind { at: address.to_string(), source };
            let listener = TcpListener::bind(address).await.map_err(refused)?;
            let at = listener.local_addr().map_err(refused)?.to_string();
            Ok(Bound { socket: Socket::Tcp(listener), at, cleanup: None })
        }
        Listen::Unix(path) => {
            let at = format!("unix:{}", path.display());
            let refused = |source| Error::Bind { at: at.clone(), source };
            remove_stale(path).await;
            let listener = UnixListener::bind(path).map_err(refused)?;
            let cleanup = Some(RemoveOnDrop(path.clone()));
            let only_owner = std::os::unix::fs::PermissionsExt::from_mode(0o600);
            std::fs::set_permissions(path, only_owner).map_err(refused)?;
            Ok(Bound { socket: Socket::Unix(listener), at, cleanup })
        }
    }
}

/// A server that was killed leaves its socket's file behind. Nobody answers there, so it may go.
async fn remove_stale(path: &Path) {
    use std::os::unix::fs::FileTypeExt as _;
    let is_socket = std::fs::symlink_metadata(path).is_ok_and(|about| about.file_type().is_socket());
    if is_socket && tokio::net::UnixStream::connect(path).await.is_err() {
        // If it cannot be removed, binding says so.
        let _ = std::fs::remove_file(path);
    }
}
