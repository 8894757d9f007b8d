//! Content routes: tenants write and read what is theirs with a short-lived grant. None of it passes through control.

use std::{
    collections::BTreeSet,
    io::{self, SeekFrom},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use axum::{
    Json,
    body::{Body, Bytes},
    extract::{Path, Query, State},
    http::{HeaderMap, HeaderValue, header},
    response::{IntoResponse, Response},
};
use futures_util::{StreamExt as _, stream};
use gregal_api::{
    grant::{GrantBody, GrantPurpose},
    problem::Code,
};
use gregal_core::{
    id::{DatasetId, JobId},
    scope::Part,
};
use gregal_policy::Placement;
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncReadExt as _, AsyncSeekExt as _},
    sync::mpsc,
    time::timeout,
};

use crate::{
    agent::datasets::DatasetRecord,
    error::Answer,
    gateway::{presented::Presented, route},
    objects::{self, Reader, Stored, Writer},
    site::Shared,
};

/// Bytes gathered before they are given to a blocking thread.
const GATHER_BYTES: usize = 1 << 20;
/// The longest a sender may be silent, in seconds.
const SILENCE_S_MAX: u64 = 60;
/// Chunks read ahead of a slow reader.
const CHUNKS_AHEAD: usize = 4;
/// Followers of logs at once.
const FOLLOWERS_MAX: usize = 256;
/// Bytes of a log sent at once.
const LOG_BYTES: usize = 64 << 10;
/// Header by which a sender may announce the SHA-256 of what it sends, hex.
pub(crate) const DIGEST_HEADER: &str = "x-content-sha256";

type App = State<Arc<Shared>>;

/// What a stored dataset is answered with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatasetStored {
    /// SHA-256 of its bytes, hex.
    pub digest: String,
    /// Its size.
    pub bytes: u64,
}

/// The grant of a request, if it is for this purpose and object. One for another object is not found, not forbidden.
fn granted(shared: &Shared, presented: &Presented, purpose: GrantPurpose, object: &str) -> Result<GrantBody, Answer> {
    let unauthenticated = |detail: &str| {
        Answer::new(Code::Unauthenticated, detail)
            .hint("ask the control plane for a fresh grant; each lives a few minutes")
    };
    let line = presented.credential.as_deref().ok_or_else(|| unauthenticated("no grant came with the request"))?;
    let standing = shared.desk.current();
    if standing.control_key.is_none() {
        // Whose word a grant is is not known yet.
        let detail = "the site waits for its first word from the control plane";
        return Err(Answer::new(Code::Unavailable, detail).hint("try again in a moment"));
    }
    let grant = route::grant(&standing, line, purpose, shared.options.world.now()).ok_or_else(|| {
        unauthenticated("the grant does not work here: it is expired, or for another site or purpose")
    })?;
    if !route::works_from(grant.networks.as_ref(), presented.peer) {
        let detail = "the key that asked for this grant works only from its own networks";
        return Err(Answer::new(Code::Forbidden, detail).rule(Some(Part::Networks.rule().into())));
    }
    if grant.object == object { Ok(grant) } else { Err(not_found()) }
}

fn not_found() -> Answer {
    Answer::new(Code::NotFound, "it does not exist at this site, or is not what the grant is for")
}

/// Datasets that are being written right now: two writers of one dataset would both believe they were first.
#[derive(Debug, Default)]
pub(crate) struct Writing(Mutex<BTreeSet<DatasetId>>);

/// Somebody's turn to write a dataset.
struct WritingTurn(Arc<Shared>, DatasetId);

impl Writing {
    fn ids(&self) -> MutexGuard<'_, BTreeSet<DatasetId>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether somebody writes a dataset.
    pub(crate) fn has(&self, id: DatasetId) -> bool {
        self.ids().contains(&id)
    }
}

impl WritingTurn {
    fn begin(shared: &Arc<Shared>, id: DatasetId) -> Result<Self, Answer> {
        if shared.writing.ids().insert(id) {
            Ok(Self(Arc::clone(shared), id))
        } else {
            Err(Answer::new(Code::Conflict, "the dataset is being written by another request"))
        }
    }
}

impl Drop for WritingTurn {
    fn drop(&mut self) {
        self.0.writing.ids().remove(&self.1);
    }
}

/// `PUT /content/v1/datasets/{dataset}`
pub(crate) async fn dataset_write(
    State(shared): App,
    Path(id): Path<DatasetId>,
    presented: Presented,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<DatasetStored>, Answer> {
    let grant = granted(&shared, &presented, GrantPurpose::DatasetWrite, &id.to_string())?;
    // In this order: what is found to be written by nobody is not begun afterwards by an intent from before.
    let turn = WritingTurn::begin(&shared, id)?;
    may_be_here(&shared, &grant, id)?;
    let known = shared.datasets.get(id);
    if known.as_ref().is_some_and(|known| known.organisation != grant.organisation) {
        return Err(not_found());
    }
    let announced = match headers.get(DIGEST_HEADER) {
        Some(value) => {
            Some(value.to_str().ok().filter(|text| objects::is_digest(text)).map(str::to_owned).ok_or_else(|| {
                Answer::new(Code::InvalidRequest, format!("`{DIGEST_HEADER}` is a SHA-256, 64 lower-case hex digits"))
            })?)
        }
        None => None,
    };
    let expected = known.as_ref().map(|known| known.digest.clone()).or(announced);
    let space = objects::datasets_of(grant.organisation);
    let owner = grant.organisation;
    let record = move |Stored { digest, bytes }| DatasetRecord {
        dataset: id,
        organisation: owner,
        digest,
        bytes,
        acknowledged: false,
    };
    let stored = store(turn, &space, expected, body, record).await.map_err(|error| match (known, error) {
        (Some(_), Failed::Object(objects::Error::DigestMismatch { .. })) => {
            Answer::new(Code::Conflict, "the dataset is stored already, with other bytes")
                .hint("announce a new dataset")
        }
        (_, Failed::Object(error)) => error.into(),
        (_, Failed::Sender) => {
            Answer::new(Code::InvalidRequest, "the body ended before it was whole; nothing was stored")
        }
    })?;
    shared.news.notify_one();
    Ok(Json(DatasetStored { digest: stored.digest, bytes: stored.bytes }))
}

/// Whether the dataset's bytes may be written here. The grant proves that it was announced; the intent may know better.
fn may_be_here(shared: &Shared, grant: &GrantBody, id: DatasetId) -> Result<(), Answer> {
    let standing = shared.desk.current();
    if let Some(wanted) = standing.dataset(id) {
        let theirs = wanted.organisation == grant.organisation && wanted.project == grant.project;
        if wanted.delete || !theirs {
            return Err(not_found());
        }
    }
    let site = standing.intent.as_ref().map(|intent| &intent.site);
    if let (Some(residency), Some(site)) = (standing.residency(grant.organisation), site) {
        let own = standing.own(grant.organisation);
        let verdict = shared.policies.place_within(residency, site, Placement::Dataset, own);
        if !verdict.allowed {
            return Err(Answer::new(Code::ResidencyRefused, verdict.because).rule(verdict.rule));
        }
    }
    Ok(())
}

enum Failed {
    Object(objects::Error),
    Sender,
}

impl From<objects::Error> for Failed {
    fn from(error: objects::Error) -> Self {
        Self::Object(error)
    }
}

async fn blocking<T: Send + 'static>(
    act: impl FnOnce() -> Result<T, objects::Error> + Send + 'static,
) -> Result<T, objects::Error> {
    match tokio::task::spawn_blocking(act).await {
        Ok(outcome) => outcome,
        Err(error) => Err(objects::Error::io("a task of the site ended early")(io::Error::other(error))),
    }
}

/// Stores a body, and notes whose bytes they are as `record` says. The turn ends when that is done, which may be after the
/// sender has gone.
async fn store(
    turn: WritingTurn,
    space: &str,
    expected: Option<String>,
    body: Body,
    record: impl FnOnce(Stored) -> DatasetRecord + Send + 'static,
) -> Result<DatasetRecord, Failed> {
    let shared = Arc::clone(&turn.0);
    let (keep, bytes_max) = (shared.keep.clone(), shared.options.tuning.dataset_bytes_max);
    let mut writer = blocking({
        let space = space.to_owned();
        move || keep.write(&space, bytes_max)
    })
    .await?;
    let mut frames = body.into_data_stream();
    let mut gathered = Vec::new();
    loop {
        let frame = timeout(Duration::from_secs(SILENCE_S_MAX), frames.next()).await.map_err(|_| Failed::Sender)?;
        let ended = frame.is_none();
        if let Some(frame) = frame {
            gathered.extend_from_slice(&frame.map_err(|_| Failed::Sender)?);
        }
        if ended || gathered.len() >= GATHER_BYTES {
            let bytes = std::mem::take(&mut gathered);
            writer = blocking(move || {
                let mut writer: Writer = writer;
                writer.write(&bytes)?;
                Ok(writer)
            })
            .await?;
        }
        if ended {
            let land = move || {
                let turn = turn;
                // What takes long is done before anybody has to wait for it.
                writer.sync()?;
                turn.0.datasets.land(|| writer.finish(expected.as_deref()).map(record))
            };
            return Ok(blocking(land).await?);
        }
    }
}

/// `GET /content/v1/datasets/{dataset}`
pub(crate) async fn dataset_read(
    State(shared): App,
    Path(id): Path<DatasetId>,
    presented: Presented,
) -> Result<Response, Answer> {
    let grant = granted(&shared, &presented, GrantPurpose::DatasetRead, &id.to_string())?;
    let record = shared.datasets.get(id).filter(|record| record.organisation == grant.organisation);
    let record = record.ok_or_else(not_found)?;
    let keep = shared.keep.clone();
    let space = objects::datasets_of(record.organisation);
    let (first, mut reader) = blocking(move || {
        let mut reader = keep.read(&space, &record.digest)?;
        // The first part is verified before anything is promised.
        Ok((reader.next_chunk()?, reader))
    })
    .await?;
    let length = reader.length();
    let (out, chunks) = mpsc::channel(CHUNKS_AHEAD);
    shared.tasks.spawn_blocking(move || {
        let mut next = Ok(first);
        loop {
            match next {
                Ok(None) => return,
                Ok(Some(chunk)) => {
                    if out.blocking_send(Ok(Bytes::from(chunk))).is_err() {
                        return;
                    }
                }
                Err(error) => {
                    tracing::error!(error = &error as &dyn std::error::Error, "an object could not be read to its end");
                    // An error cuts the connection: a part must not pass for the whole.
                    drop(out.blocking_send(Err(io::Error::other("the object is damaged"))));
                    return;
                }
            }
            next = Reader::next_chunk(&mut reader);
        }
    });
    let body = stream::unfold(chunks, |mut chunks| async { chunks.recv().await.map(|chunk| (chunk, chunks)) });
    let mut response = Body::from_stream(body).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    Ok(response)
}

/// How a log is asked for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LogQuery {
    /// Whether to go on until the job has ended.
    #[serde(default)]
    follow: bool,
}

/// `GET /content/v1/jobs/{job}/logs`
pub(crate) async fn job_logs(
    State(shared): App,
    Path(id): Path<JobId>,
    Query(query): Query<LogQuery>,
    presented: Presented,
) -> Result<Response, Answer> {
    let grant = granted(&shared, &presented, GrantPurpose::JobLogs, &id.to_string())?;
    let place = Arc::clone(&shared.followers).try_acquire_owned();
    let place =
        place.map_err(|_| Answer::new(Code::Overloaded, format!("{FOLLOWERS_MAX} logs are being read already")))?;
    let path = shared.jobs.folder_of(id).log();
    if !path.exists() && !shared.jobs.is_live(id) {
        return Err(not_found());
    }
    let (out, pieces) = mpsc::channel::<io::Result<Bytes>>(CHUNKS_AHEAD);
    let tick = Duration::from_millis(shared.options.tuning.tick_ms);
    let reader = Arc::clone(&shared);
    shared.tasks.spawn(async move {
        let _place = place;
        let mut offset = 0;
        loop {
            // A job may run for days: whoever follows it does so for as long as the key behind the grant is believed.
            if query.follow && (route::is_taken_back(&reader.desk.current(), grant.key) || !reader.believes_keys()) {
                return;
            }
            // Asked before reading: what a job wrote before its end is read after it.
            let more_comes = query.follow && reader.jobs.is_live(id) && !reader.stop.is_cancelled();
            match send_log(&path, &mut offset, &out).await {
                Ok(true) => {}
                Ok(false) | Err(_) => return,
            }
            if !more_comes {
                return;
            }
            tokio::select! { () = out.closed() => return, () = tokio::time::sleep(tick) => {} }
        }
    });
    let body = stream::unfold(pieces, |mut pieces| async { pieces.recv().await.map(|piece| (piece, pieces)) });
    let mut response = Body::from_stream(body).into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    Ok(response)
}

/// Sends what was added to a log; false if the reader has gone.
async fn send_log(path: &std::path::Path, offset: &mut u64, out: &mpsc::Sender<io::Result<Bytes>>) -> io::Result<bool> {
    let mut file = match tokio::fs::File::open(path).await {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
        Err(error) => return Err(error),
    };
    file.seek(SeekFrom::Start(*offset)).await?;
    let mut buffer = vec![0u8; LOG_BYTES];
    loop {
        let read = file.read(&mut buffer).await?;
        if read == 0 {
            return Ok(true);
        }
        *offset += read as u64;
        if out.send(Ok(Bytes::copy_from_slice(&buffer[..read]))).await.is_err() {
            return Ok(false);
        }
    }
}

/// As many logs may be followed at once.
pub(crate) fn followers() -> Arc<tokio::sync::Semaphore> {
    Arc::new(tokio::sync::Semaphore::new(FOLLOWERS_MAX))
}
