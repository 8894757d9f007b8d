//! One life of a replica: unpacked, started, watched while it answers, drained and removed.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use gregal_api::protocol::{ReplicaPhase, WantedEndpoint};
use gregal_core::id::EndpointId;
use gregal_engine::{EngineError, Mount, Network, Resources, State, Trust, Workload, WorkloadId};
use http::{Request, StatusCode};
use http_body_util::Empty;
use hyper_util::rt::TokioIo;
use tokio::{net::UnixStream, time::timeout};

use super::{CONTEXT_DEFAULT, End, GRACE_MS, SOCKET_NAME, bill::Bill, unwanted};
use crate::{agent::jobs::attempt::time_of, durable, metrics::Metric, objects, site::Shared};

const PIDS_MAX: u64 = 256;
const FILE_BYTES_MAX: u64 = 1 << 30;
/// Where the sandbox shows the model and the socket's folder.
const MODEL: &str = "/gregal/model";
const SOCKET: &str = "/gregal/socket";

pub(super) async fn live(shared: &Arc<Shared>, wanted: &WantedEndpoint, number: u32, bill: &mut Bill) -> End {
    let id = wanted.endpoint;
    let failed = |why: &str| End::Failed { why: why.to_owned(), ready_ms: 0 };
    let folder = shared.replicas.folder_of(id);
    match unpack(shared, wanted, folder.clone()).await {
        Ok(context) => {
            if let Some(entry) = shared.replicas.table().get_mut(&id) {
                entry.context = context;
            }
        }
        Err(why) => return failed(&why),
    }
    let workload = match workload(shared, wanted, &folder, number) {
        Ok(workload) => workload,
        Err(error) => return failed(&error.to_string()),
    };
    let name = workload.id.clone();
    if let Err(error) = shared.options.engine.start(workload).await {
        tracing::warn!(%error, endpoint.id = %id, "a replica could not be started");
        return failed("the site's engine could not start it");
    }
    shared.metrics.add(Metric::ReplicasStarted, 1);
    let end = tokio::select! {
        () = unwanted(shared, id) => End::Unwanted,
        end = watch(shared, id, &name, bill) => end,
    };
    if matches!(end, End::Unwanted | End::Spent) {
        if matches!(end, End::Spent) {
            // Nobody new is let in; what has begun may end on what is left.
            shared.replicas.set(id, ReplicaPhase::Loading, None);
        }
        drain(shared, id).await;
        // It answered until here. The way down is not billed.
        bill.end(None).await;
        if let Err(error) = shared.options.engine.stop(&name, GRACE_MS).await {
            tracing::warn!(%error, endpoint.id = %id, "could not ask a replica to stop");
        }
        ended(shared, &name).await;
    }
    // When this answers, none of its processes is left: only then may its memory be given to others.
    while let Err(error) = shared.options.engine.remove(&name).await {
        tracing::warn!(%error, endpoint.id = %id, "a replica could not be removed yet");
        if shared.stop.is_cancelled() {
            break;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    end
}

/// Unpacks the model; answers its context in tokens.
async fn unpack(shared: &Arc<Shared>, wanted: &WantedEndpoint, folder: PathBuf) -> Result<u64, String> {
    let (keep, space, digest) =
        (shared.keep.clone(), objects::models_of(wanted.organisation), wanted.model_digest.clone());
    let unpacked = tokio::task::spawn_blocking(move || {
        let doing = "could not make a replica's folder";
        durable::private_folder(&folder).map_err(objects::Error::io(doing))?;
        durable::remove_folder(&folder.join("s")).map_err(objects::Error::io(doing))?;
        durable::private_folder(&folder.join("s")).map_err(objects::Error::io(doing))?;
        // Each life has a log of its own: what serves for years must not fill the disk.
        std::fs::write(folder.join("log.txt"), "").map_err(objects::Error::io(doing))?;
        objects::materialise(&keep, &space, &digest, &folder.join("model"))?;
        Ok(context_of(&folder.join("model")))
    });
    match unpacked.await {
        Ok(Ok(context)) => Ok(context.unwrap_or(CONTEXT_DEFAULT)),
        Ok(Err(error)) => {
            let error: objects::Error = error;
            tracing::error!(error = &error as &dyn std::error::Error, endpoint.id = %wanted.endpoint, "a model could not be unpacked");
            Err(match error {
                objects::Error::NotFound { .. } => "the model is not stored at this site".into(),
                objects::Error::Full => "the site's disk has no room for the model".into(),
                _ => "the model could not be read from the site's objects".into(),
            })
        }
        Err(_) => Err("the model could not be unpacked".into()),
    }
}

/// The longest sequence a model takes, as its `config.json` says.
fn context_of(model: &Path) -> Option<u64> {
    let text = std::fs::read(model.join("config.json")).ok()?;
    let config: serde_json::Value = serde_json::from_slice(&text).ok()?;
    config.get("max_position_embeddings")?.as_u64().filter(|tokens| *tokens > 0)
}

fn workload(shared: &Shared, wanted: &WantedEndpoint, folder: &Path, number: u32) -> Result<Workload, EngineError> {
    let options = &shared.options;
    let sku = wanted
        .sku
        .as_ref()
        .ok_or_else(|| EngineError::Invalid { field: "sku", expected: "the shape the endpoint was sold".into() })?;
    let id = WorkloadId::new(format!("{}.{}.{number}", wanted.endpoint, shared.incarnation))?;
    let listen = format!("unix:{SOCKET}/{SOCKET_NAME}");
    let serve = ["serve", "--model", MODEL, "--listen", &listen, "--name", &wanted.name].map(str::to_owned);
    let argv: Vec<String> = options.lm_program.iter().cloned().chain(serve).collect();
    Ok(Workload {
        mounts: vec![Mount::read_only(folder.join("model"), MODEL), Mount::writable(folder.join("s"), SOCKET)],
        resources: Resources {
            cpus_milli: sku.cpus_milli.into(),
            memory_bytes: sku.memory_bytes,
            pids_max: PIDS_MAX,
            file_bytes_max: FILE_BYTES_MAX,
            gpus: Vec::new(),
        },
        network: Network::None,
        trust: Trust::Trusted,
        grace_ms: GRACE_MS,
        ..Workload::new(id, argv, folder.join("log.txt"))
    })
}

/// Watches a replica until it fails.
async fn watch(shared: &Arc<Shared>, id: EndpointId, name: &WorkloadId, bill: &mut Bill) -> End {
    let world = &shared.options.world;
    let tick = Duration::from_millis(shared.options.tuning.tick_ms);
    let begun = world.steady();
    let mut ready_at = None;
    let mut pulse = Pulse { last: begun, looked: begun };
    let mut seen_at = world.now();
    loop {
        let ready_ms =
            ready_at.map_or(0, |ready| u64::try_from(world.steady().duration_since(ready).as_millis()).unwrap_or(0));
        match shared.options.engine.observe(name).await {
            Ok(observation) => {
                if let State::Exited(exit) = &observation.state {
                    bill.end(Some(time_of(exit.at_ms))).await;
                    let code = exit.code.map_or_else(|| "by a signal".to_owned(), |code| format!("with code {code}"));
                    return End::Failed { why: format!("it ended {code}"), ready_ms };
                }
                seen_at = world.now();
                bill.meter(&observation).await;
            }
            Err(EngineError::NotFound(_)) => {
                // Nobody knows when it went: it was there when it was last seen.
                bill.end(Some(seen_at)).await;
                return End::Failed { why: "the engine lost it".into(), ready_ms };
            }
            // Unreachable is not failed.
            Err(error) => tracing::warn!(%error, endpoint.id = %id, "the engine cannot be asked"),
        }
        if ready_at.is_none() {
            if answers(&shared.replicas.socket(id)).await {
                ready_at = Some(world.steady());
                pulse = Pulse { last: world.steady(), looked: world.steady() };
                bill.ready();
                tracing::info!(endpoint.id = %id, "a replica answers");
                shared.replicas.set(id, ReplicaPhase::Ready, None);
                shared.news.notify_one();
            } else if world.steady().duration_since(begun) > Duration::from_millis(shared.options.tuning.load_ms_max) {
                return End::Failed { why: "it did not answer in time".into(), ready_ms: 0 };
            }
        } else if !bill.may_stand() {
            return End::Spent;
        } else if pulse.is_gone(shared, id).await {
            return End::Failed { why: "it runs, and stopped answering".into(), ready_ms };
        }
        tokio::time::sleep(tick).await;
    }
}

/// When a replica that was ready was last heard of. A process that hangs is no better than one that ended: nobody is
/// served by it, and its room could be.
struct Pulse {
    last: std::time::Instant,
    looked: std::time::Instant,
}

impl Pulse {
    /// How often a replica is asked whether it is well.
    const EVERY: Duration = Duration::from_secs(1);

    /// Whether it has been silent for too long. One missed answer says little: a busy machine is slow.
    async fn is_gone(&mut self, shared: &Shared, id: EndpointId) -> bool {
        let (world, silent_ms_max) = (&shared.options.world, shared.options.tuning.silent_ms_max);
        if world.steady().duration_since(self.looked) < Self::EVERY {
            return false;
        }
        let answers = answers(&shared.replicas.socket(id)).await;
        self.looked = world.steady();
        if answers {
            self.last = self.looked;
        }
        self.looked.duration_since(self.last) > Duration::from_millis(silent_ms_max)
    }
}

/// Whether the replica at a socket says that it is healthy.
async fn answers(socket: &Path) -> bool {
    let asking = async {
        let stream = UnixStream::connect(socket).await.ok()?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.ok()?;
        let request = Request::get("/health").header(http::header::HOST, "replica").body(Empty::<Bytes>::new()).ok()?;
        // Both in this one future: nothing outlives it.
        tokio::select! {
            response = sender.send_request(request) => Some(response.ok()?.status() == StatusCode::OK),
            _ = connection => None,
        }
    };
    timeout(Duration::from_secs(2), asking).await.ok().flatten().unwrap_or(false)
}

/// Lets requests that have begun come to their end, for a while.
pub(super) async fn drain(shared: &Shared, id: EndpointId) {
    let deadline = shared.options.world.steady() + Duration::from_millis(shared.options.tuning.drain_ms_max);
    let tick = Duration::from_millis(shared.options.tuning.tick_ms);
    while shared.replicas.in_flight(id) > 0 && shared.options.world.steady() < deadline {
        tokio::time::sleep(tick).await;
    }
}

/// Waits for a stopped replica's end; its engine ends it after the grace.
async fn ended(shared: &Shared, name: &WorkloadId) {
    let deadline = shared.options.world.steady() + Duration::from_millis(GRACE_MS + 2_000);
    let tick = Duration::from_millis(shared.options.tuning.tick_ms);
    while shared.options.world.steady() < deadline {
        match shared.options.engine.observe(name).await {
            Ok(observation) if observation.exit().is_none() => tokio::time::sleep(tick).await,
            _ => return,
        }
    }
}
