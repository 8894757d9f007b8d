//! One request's exchange with the engine behind it: read the stream, pass it on, and whatever happens (the end, a
//! hang-up, a crash) settle what was made, once, before the last word reaches the client.

use std::{path::Path, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use gregal_core::id::RequestId;
use gregal_core::time::Time;
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::{net::UnixStream, sync::mpsc, task::AbortHandle, time::timeout};

use super::{
    admit::Hold,
    openai::{error::ApiError, wire, wire::Ask},
    usage::{self, Occasion, Used},
};
use crate::{agent::replicas::Seat, metrics::Metric, site::Shared};

/// The largest single event an engine may send, in bytes.
const EVENT_BYTES_MAX: usize = 1 << 20;
const CONNECT_MS_MAX: u64 = 5_000;

/// Why an engine's stream brought nothing more.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EngineFailure {
    #[error("the model refused the request")]
    Refused(ApiError),
    #[error("the model does not answer")]
    Away,
}

/// What the client's side of the exchange is told.
#[derive(Debug)]
pub(crate) enum Piece {
    /// Nothing was made and nothing is billed.
    Refused(ApiError),
    /// A chunk of the answer.
    Chunk(Value),
    /// All was made, settled and durable.
    Whole { usage: Value },
    /// The engine failed midway; what it made is settled.
    Broken(ApiError),
}

/// An open stream of an engine. Dropping it cuts the engine: a replica stops soon after its reader has gone.
pub(crate) struct EngineStream {
    body: Incoming,
    buffer: BytesMut,
    _connection: Connection,
}

/// The task that moves the connection's bytes; it ends with whoever holds this.
struct Connection(AbortHandle);

impl Drop for Connection {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl EngineStream {
    /// Reaches the engine at a socket. Nothing is asked of it yet.
    async fn reach(socket: &Path) -> Result<UnixStream, EngineFailure> {
        let connecting = timeout(Duration::from_millis(CONNECT_MS_MAX), UnixStream::connect(socket)).await;
        connecting.ok().and_then(Result::ok).ok_or(EngineFailure::Away)
    }

    /// Asks the engine, and waits until it has accepted the request or refused it.
    async fn ask(shared: &Shared, stream: UnixStream, path: &str, body: Vec<u8>) -> Result<Self, EngineFailure> {
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|_| EngineFailure::Away)?;
        let connection = Connection(shared.tasks.spawn(async move { drop(connection.await) }).abort_handle());
        let request = Request::post(path)
            .header(http::header::HOST, "replica")
            .header(http::header::CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(body)))
            .map_err(|_| EngineFailure::Away)?;
        let response = sender.send_request(request).await.map_err(|_| EngineFailure::Away)?;
        let status = response.status();
        let stream = Self { body: response.into_body(), buffer: BytesMut::new(), _connection: connection };
        if status == StatusCode::OK { Ok(stream) } else { Err(stream.refusal(status).await) }
    }

    async fn refusal(mut self, status: StatusCode) -> EngineFailure {
        if !status.is_client_error() {
            return EngineFailure::Away;
        }
        if status == StatusCode::TOO_MANY_REQUESTS {
            return EngineFailure::Refused(ApiError::overloaded());
        }
        match Limited::new(&mut self.body, EVENT_BYTES_MAX).collect().await {
            Ok(body) => EngineFailure::Refused(ApiError::from_engine(&body.to_bytes())),
            Err(_) => EngineFailure::Away,
        }
    }

    /// The next event; none at the end of the answer (`[DONE]`). An end without it is a failure.
    async fn next(&mut self) -> Result<Option<Value>, EngineFailure> {
        loop {
            if let Some(event) = self.pull() {
                if event == "[DONE]" {
                    return Ok(None);
                }
                let value: Value = serde_json::from_str(&event).map_err(|_| EngineFailure::Away)?;
                return if value.get("error").is_some() { Err(EngineFailure::Away) } else { Ok(Some(value)) };
            }
            if self.buffer.len() > EVENT_BYTES_MAX {
                return Err(EngineFailure::Away);
            }
            match self.body.frame().await {
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.buffer.extend_from_slice(&data);
                    }
                }
                Some(Err(_)) | None => return Err(EngineFailure::Away),
            }
        }
    }

    /// Takes the next whole `data:` event out of the buffer; comments and other fields are skipped.
    fn pull(&mut self) -> Option<String> {
        while let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
            let line = self.buffer.split_to(end + 1);
            let line = String::from_utf8_lossy(&line);
            if let Some(data) = line.trim_end().strip_prefix("data:") {
                return Some(data.trim_start().to_owned());
            }
        }
        None
    }
}

/// What was made so far.
#[derive(Debug, Default)]
struct Tally {
    said: Option<(u64, u64)>,
    pieces: u64,
}

/// Marks a quantity that the engine did not get to tell.
const PIECES: &str = "pieces of text passed on, the engine ended before it told";
const BYTES: &str = "a quarter of the prompt's bytes, the engine ended before it told";

impl Tally {
    fn see(&mut self, seen: wire::Seen) {
        self.pieces += u64::from(seen.text);
        self.said = seen.usage.or(self.said);
    }

    /// What is billed: never more than was held.
    fn used(&self, ask: &Ask, tokens_in_max: u64, tokens_out_max: u64) -> Used {
        let used = match self.said {
            // A count told with an earlier piece may be behind what was made since.
            Some((tokens_in, tokens_out)) => {
                Used { tokens_in, tokens_out: tokens_out.max(self.pieces), in_estimated: None, out_estimated: None }
            }
            None => Used {
                tokens_in: ask.prompt_bytes.div_ceil(4).max(1),
                tokens_out: self.pieces,
                in_estimated: Some(BYTES),
                out_estimated: Some(PIECES),
            },
        };
        if used.tokens_in > tokens_in_max || used.tokens_out > tokens_out_max {
            tracing::warn!(
                ?used,
                tokens_in_max,
                tokens_out_max,
                "a model used more tokens than were held; the rest is not billed"
            );
        }
        Used { tokens_in: used.tokens_in.min(tokens_in_max), tokens_out: used.tokens_out.min(tokens_out_max), ..used }
    }
}

/// An admitted request: everything needed to carry it through.
pub(crate) struct Exchange {
    pub(crate) shared: Arc<Shared>,
    pub(crate) ask: Ask,
    pub(crate) request: RequestId,
    pub(crate) seat: Seat,
    pub(crate) hold: Hold,
    pub(crate) tokens_in_max: u64,
    pub(crate) tokens_out_max: u64,
    pub(crate) started_at: Time,
}

enum Outcome {
    Whole { last: Option<Value> },
    HungUp,
    Broken,
}

impl Exchange {
    /// Carries the request through. Ends soon after `out` is closed by a client that hung up: at once while nothing was
    /// asked of the engine, and as soon as it has accepted or refused afterwards.
    pub(crate) async fn run(self, out: mpsc::Sender<Piece>) {
        let body = self.ask.for_engine(&self.seat.endpoint.name);
        let first_ms = Duration::from_millis(self.shared.options.tuning.first_token_ms_max);
        let reached = tokio::select! {
            reached = EngineStream::reach(&self.seat.socket) => reached,
            () = out.closed() => return self.shared.metrics.add(Metric::RequestsHungUp, 1),
        };
        let opened = match reached {
            // Waited for even when the client has gone: an engine that accepts has begun to read the prompt, which is
            // billed, and one that refuses has not.
            Ok(socket) => timeout(first_ms, EngineStream::ask(&self.shared, socket, self.ask.kind.path(), body))
                .await
                .unwrap_or(Err(EngineFailure::Away)),
            Err(failure) => Err(failure),
        };
        let mut stream = match opened {
            Ok(stream) => stream,
            Err(failure) => return self.refuse(failure, &out).await,
        };
        let mut tally = Tally::default();
        let outcome = match self.first(&mut stream, &mut tally, &out, first_ms).await {
            Ok(kept) => self.pass_on(&mut stream, &mut tally, &out, kept).await,
            Err(Some(failure)) => return self.refuse(failure, &out).await,
            Err(None) => Outcome::HungUp,
        };
        drop(stream);
        self.settle(outcome, tally, &out).await;
    }

    async fn refuse(self, failure: EngineFailure, out: &mpsc::Sender<Piece>) {
        self.shared.metrics.add(Metric::RequestsFailed, 1);
        let error = match failure {
            EngineFailure::Refused(error) => error,
            EngineFailure::Away => {
                tracing::warn!(endpoint.id = %self.seat.endpoint.endpoint, "a replica failed before its first token");
                ApiError::unavailable("the model failed before its first token; nothing was billed, try again")
            }
        };
        // Released before the client is told, so that its next request finds the credit free.
        drop(self.hold);
        drop(out.send(Piece::Refused(error)).await);
    }

    /// Waits for the first text. What came before it is kept back, so that a failure until then is a clean refusal.
    /// `Err(None)` is a hang-up.
    async fn first(
        &self,
        stream: &mut EngineStream,
        tally: &mut Tally,
        out: &mpsc::Sender<Piece>,
        within: Duration,
    ) -> Result<Vec<Value>, Option<EngineFailure>> {
        let mut kept = Vec::new();
        let waiting = async {
            while let Some(chunk) = stream.next().await? {
                let seen = wire::look(&chunk);
                tally.see(seen);
                if chunk.pointer("/choices/0").is_some() {
                    kept.push(chunk);
                }
                if seen.text || seen.finished {
                    return Ok(());
                }
                if kept.len() > 64 {
                    break;
                }
            }
            Err(EngineFailure::Away)
        };
        tokio::select! {
            () = out.closed() => Err(None),
            waited = timeout(within, waiting) => match waited {
                Ok(Ok(())) => Ok(kept),
                Ok(Err(failure)) => Err(Some(failure)),
                Err(_) => Err(Some(EngineFailure::Away)),
            },
        }
    }

    async fn pass_on(
        &self,
        stream: &mut EngineStream,
        tally: &mut Tally,
        out: &mpsc::Sender<Piece>,
        kept: Vec<Value>,
    ) -> Outcome {
        let idle = Duration::from_millis(self.shared.options.tuning.stream_idle_ms_max);
        // The finishing chunk waits until the usage is durable: nobody has the whole answer before it is on the books.
        let mut last = None;
        for chunk in kept {
            match self.offer(chunk, &mut last, out).await {
                Ok(()) => {}
                Err(outcome) => return outcome,
            }
        }
        loop {
            let event = tokio::select! {
                () = out.closed() => return Outcome::HungUp,
                event = timeout(idle, stream.next()) => event,
            };
            match event {
                Ok(Ok(Some(chunk))) => {
                    let seen = wire::look(&chunk);
                    tally.see(seen);
                    let has_choice = chunk.pointer("/choices/0").is_some();
                    if has_choice && let Err(outcome) = self.offer(chunk, &mut last, out).await {
                        return outcome;
                    }
                }
                // With the finishing chunk the answer is whole, even if the goodbye after it is missing.
                Ok(Ok(None) | Err(_)) if last.is_some() => return Outcome::Whole { last },
                Ok(Ok(None) | Err(_)) | Err(_) => return Outcome::Broken,
            }
        }
    }

    async fn offer(&self, chunk: Value, last: &mut Option<Value>, out: &mpsc::Sender<Piece>) -> Result<(), Outcome> {
        let finished = wire::look(&chunk).finished;
        let chunk = wire::for_client(&self.ask, chunk);
        if finished {
            *last = Some(chunk);
            return Ok(());
        }
        out.send(Piece::Chunk(chunk)).await.map_err(|_| Outcome::HungUp)
    }

    async fn settle(self, outcome: Outcome, tally: Tally, out: &mpsc::Sender<Piece>) {
        let standing = self.shared.desk.current();
        let used = tally.used(&self.ask, self.tokens_in_max, self.tokens_out_max);
        let metrics = &self.shared.metrics;
        let (Some(site), Some(intent)) = (standing.site, &standing.intent) else { return };
        let occasion = Occasion {
            site,
            endpoint: &self.seat.endpoint,
            request: self.request,
            allowance: self.hold.allowance(),
            started_at: self.started_at,
            ended_at: self.shared.options.world.now(),
        };
        let records = usage::records(&occasion, &used, &intent.price_books);
        let durable = self.hold.settle(records).await;
        metrics.add(Metric::TokensIn, used.tokens_in);
        metrics.add(Metric::TokensOut, used.tokens_out);
        match outcome {
            _ if durable.is_err() => {
                metrics.add(Metric::RequestsFailed, 1);
                let message =
                    "the site could not record the usage of this request; ask its operator to look at the disk";
                drop(out.send(Piece::Broken(ApiError::unavailable(message))).await);
            }
            Outcome::Whole { last } => {
                metrics.add(Metric::RequestsAnswered, 1);
                if let Some(last) = last {
                    drop(out.send(Piece::Chunk(last)).await);
                }
                let usage = wire::usage(used.tokens_in, used.tokens_out);
                drop(out.send(Piece::Whole { usage }).await);
            }
            Outcome::HungUp => metrics.add(Metric::RequestsHungUp, 1),
            Outcome::Broken => {
                metrics.add(Metric::RequestsFailed, 1);
                tracing::warn!(endpoint.id = %self.seat.endpoint.endpoint, "a replica failed midway; what it made is billed");
                let message = "the model failed midway; the tokens it made are billed, the rest is not";
                drop(out.send(Piece::Broken(ApiError::unavailable(message))).await);
            }
        }
    }
}
