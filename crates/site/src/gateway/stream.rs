//! One request's exchange with the engine behind it: read the stream, pass it on, and whatever happens (the end, a
//! hang-up, a crash) settle what was made, once, before the last word reaches the client.

use std::{io, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use gregal_core::id::RequestId;
use gregal_core::time::Time;
use tokio::{sync::mpsc, time::timeout};

use super::{
    admit::Hold,
    openai::{error::ApiError, wire, wire::Ask},
    upstream::{Address, Answer, Wire},
    usage::{self, Occasion, Used},
};
use crate::{agent::replicas::Seat, metrics::Metric, site::Shared};

/// The largest single event an engine may send, in bytes.
const EVENT_BYTES_MAX: usize = 1 << 20;
/// The largest answer in one piece, in bytes.
const ANSWER_BYTES_MAX: usize = 8 << 20;
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
    /// A chunk of the answer: as an event where the client asked for a stream, else as JSON.
    Chunk(Bytes),
    /// All was made, settled and durable.
    Whole { tokens_in: u64, tokens_out: u64 },
    /// The answer in one piece, as the client gets it: settled and durable.
    Answer(Bytes),
    /// The engine failed midway; what it made is settled.
    Broken(ApiError),
}

/// An open stream of an engine. Dropping it cuts the engine: it stops soon after its reader has gone.
pub(crate) struct EngineStream {
    answer: Answer,
    /// Bytes at the head of what came in which no line ends.
    looked: usize,
}

impl EngineStream {
    /// Reaches the engine. Nothing is asked of it yet.
    async fn reach(engine: &Address) -> Result<Wire, EngineFailure> {
        let connecting = timeout(Duration::from_millis(CONNECT_MS_MAX), Wire::connect(engine)).await;
        connecting.ok().and_then(Result::ok).ok_or(EngineFailure::Away)
    }

    /// Asks the engine, and waits until it has accepted the request or refused it.
    async fn ask(wire: Wire, path: &str, body: &[u8]) -> Result<Self, EngineFailure> {
        let mut answer = wire.ask("POST", path, body).await.map_err(|_| EngineFailure::Away)?;
        match answer.status {
            200 => Ok(Self { answer, looked: 0 }),
            429 => Err(EngineFailure::Refused(ApiError::overloaded())),
            400..500 => match answer.whole(EVENT_BYTES_MAX).await {
                Ok(body) => Err(EngineFailure::Refused(ApiError::from_engine(&body))),
                Err(_) => Err(EngineFailure::Away),
            },
            _ => Err(EngineFailure::Away),
        }
    }

    /// The next event; none at the end of the answer (`[DONE]`). An end without it is a failure.
    async fn next(&mut self) -> Result<Option<Bytes>, EngineFailure> {
        loop {
            if let Some(event) = self.pull() {
                return Ok(Some(event).filter(|event| event.as_ref() != b"[DONE]"));
            }
            if self.answer.data.len() > EVENT_BYTES_MAX {
                return Err(EngineFailure::Away);
            }
            match self.answer.more().await {
                Ok(true) => {}
                Ok(false) | Err(_) => return Err(EngineFailure::Away),
            }
        }
    }

    /// Takes the next whole `data:` event out of the buffer; comments and other fields are skipped.
    fn pull(&mut self) -> Option<Bytes> {
        let data: &mut BytesMut = &mut self.answer.data;
        loop {
            let Some(end) = data[self.looked..].iter().position(|byte| *byte == b'\n') else {
                self.looked = data.len();
                return None;
            };
            let line = data.split_to(self.looked + end + 1).freeze();
            self.looked = 0;
            if let Some(event) = line.strip_prefix(b"data:") {
                let event = event.trim_ascii();
                if !event.is_empty() {
                    return Some(line.slice_ref(event));
                }
            }
        }
    }

    /// Keeps the connection, if the answer has come to its end.
    fn release(self) {
        self.answer.release();
    }
}

/// What was made so far.
#[derive(Debug, Default)]
struct Tally {
    said: Option<(u64, u64)>,
    pieces: u64,
    /// Of an answer in one piece: bytes of its text.
    in_one_bytes: Option<u64>,
}

/// Marks a quantity that the engine did not get to tell.
const PIECES: &str = "pieces of text passed on, the engine ended before it told";
const TEXT: &str = "a quarter of the answer's bytes, the engine did not tell";
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
                tokens_out: self.in_one_bytes.map_or(self.pieces, |bytes| bytes.div_ceil(4)),
                in_estimated: Some(BYTES),
                out_estimated: Some(if self.in_one_bytes.is_some() { TEXT } else { PIECES }),
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
    pub(crate) ask: Arc<Ask>,
    pub(crate) request: RequestId,
    pub(crate) seat: Seat,
    pub(crate) hold: Hold,
    pub(crate) tokens_in_max: u64,
    pub(crate) tokens_out_max: u64,
    pub(crate) started_at: Time,
}

enum Outcome {
    Whole { last: Option<Bytes> },
    InOne { answer: Bytes },
    HungUp,
    Broken,
}

impl Exchange {
    /// Carries the request through. Ends soon after `out` is closed by a client that hung up: at once while nothing was
    /// asked of the engine, and as soon as it has accepted or refused afterwards.
    pub(crate) async fn run(self, out: mpsc::Sender<Piece>) {
        let in_one = self.seat.in_one && !self.ask.stream;
        let body = self.ask.for_engine(&self.seat.name, !in_one);
        let first_ms = Duration::from_millis(self.shared.options.tuning.first_token_ms_max);
        let reached = tokio::select! {
            biased;
            reached = EngineStream::reach(&self.seat.engine) => reached,
            () = out.closed() => return self.shared.metrics.add(Metric::RequestsHungUp, 1),
        };
        let wire = match reached {
            Ok(wire) => wire,
            Err(failure) => return self.refuse(failure, &out).await,
        };
        if in_one {
            return self.run_in_one(wire, &body, first_ms, &out).await;
        }
        // Waited for even when the client has gone: an engine that accepts has begun to read the prompt, which is billed,
        // and one that refuses has not.
        let asked = timeout(first_ms, EngineStream::ask(wire, self.ask.kind.path(), &body)).await;
        let mut stream = match asked.unwrap_or(Err(EngineFailure::Away)) {
            Ok(stream) => stream,
            Err(failure) => return self.refuse(failure, &out).await,
        };
        let mut tally = Tally::default();
        let outcome = match self.first(&mut stream, &mut tally, &out, first_ms).await {
            Ok(kept) => self.pass_on(&mut stream, &mut tally, &out, kept).await,
            Err(Some(failure)) => return self.refuse(failure, &out).await,
            Err(None) => Outcome::HungUp,
        };
        if matches!(outcome, Outcome::Whole { .. }) {
            self.settle(outcome, tally, &out).await;
            stream.release();
        } else {
            drop(stream);
            self.settle(outcome, tally, &out).await;
        }
    }

    /// Asks for the answer in one piece, of an engine that bills nothing by itself and whose every chunk would cost as much as
    /// a request. What was made of it is known at its end only: of a client that hangs up, the prompt alone is billed.
    async fn run_in_one(self, wire: Wire, body: &[u8], within: Duration, out: &mpsc::Sender<Piece>) {
        let asking = async {
            let mut stream = EngineStream::ask(wire, self.ask.kind.path(), body).await?;
            let answer = stream.answer.whole(ANSWER_BYTES_MAX).await.map_err(|_: io::Error| EngineFailure::Away)?;
            stream.release();
            let (said, length) = (wire::usage_of(&answer), wire::text_bytes(&answer));
            let answer = wire::answer_for_client(&self.ask, &answer).ok_or(EngineFailure::Away)?;
            Ok::<_, EngineFailure>((answer, Tally { said, pieces: 0, in_one_bytes: Some(length) }))
        };
        let asked = tokio::select! {
            biased;
            asked = timeout(within, asking) => Some(asked.unwrap_or(Err(EngineFailure::Away))),
            () = out.closed() => None,
        };
        match asked {
            Some(Ok((answer, tally))) => self.settle(Outcome::InOne { answer }, tally, out).await,
            Some(Err(failure)) => self.refuse(failure, out).await,
            None => self.settle(Outcome::HungUp, Tally::default(), out).await,
        }
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
    ) -> Result<Vec<Event>, Option<EngineFailure>> {
        let mut kept = Vec::new();
        let waiting = async {
            while let Some(chunk) = stream.next().await? {
                let event = self.look(&chunk).ok_or(EngineFailure::Away)?;
                tally.see(event.seen);
                let seen = event.seen;
                if seen.choice {
                    kept.push(event);
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
            biased;
            waited = timeout(within, waiting) => match waited {
                Ok(Ok(())) => Ok(kept),
                Ok(Err(failure)) => Err(Some(failure)),
                Err(_) => Err(Some(EngineFailure::Away)),
            },
            () = out.closed() => Err(None),
        }
    }

    fn look(&self, chunk: &[u8]) -> Option<Event> {
        let (seen, text) = wire::look(&self.ask, chunk)?;
        Some(Event { seen, text })
    }

    async fn pass_on(
        &self,
        stream: &mut EngineStream,
        tally: &mut Tally,
        out: &mpsc::Sender<Piece>,
        kept: Vec<Event>,
    ) -> Outcome {
        let idle = Duration::from_millis(self.shared.options.tuning.stream_idle_ms_max);
        // The finishing chunk waits until the usage is durable: nobody has the whole answer before it is on the books.
        let mut last = None;
        for event in kept {
            match offer(event, &mut last, out).await {
                Ok(()) => {}
                Err(outcome) => return outcome,
            }
        }
        loop {
            let event = tokio::select! {
                () = out.closed() => return Outcome::HungUp,
                event = timeout(idle, stream.next()) => event,
            };
            let event = match event {
                Ok(Ok(Some(chunk))) => self.look(&chunk),
                Ok(Ok(None) | Err(_)) | Err(_) => None,
            };
            match event {
                Some(event) => {
                    tally.see(event.seen);
                    if event.seen.choice
                        && let Err(outcome) = offer(event, &mut last, out).await
                    {
                        return outcome;
                    }
                }
                // With the finishing chunk the answer is whole, even if the goodbye after it is missing.
                None if last.is_some() => return Outcome::Whole { last },
                None => return Outcome::Broken,
            }
        }
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
                let (tokens_in, tokens_out) = (used.tokens_in, used.tokens_out);
                drop(out.send(Piece::Whole { tokens_in, tokens_out }).await);
            }
            Outcome::InOne { answer } => {
                metrics.add(Metric::RequestsAnswered, 1);
                drop(out.send(Piece::Answer(answer)).await);
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

/// A chunk of an engine's answer: what is in it, and what the client gets of it.
struct Event {
    seen: wire::Seen,
    text: Bytes,
}

async fn offer(event: Event, last: &mut Option<Bytes>, out: &mpsc::Sender<Piece>) -> Result<(), Outcome> {
    if event.seen.finished {
        *last = Some(event.text);
        return Ok(());
    }
    out.send(Piece::Chunk(event.text)).await.map_err(|_| Outcome::HungUp)
}
