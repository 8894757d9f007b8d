//! The thread that runs the model: takes jobs into a step while there is room, reads prompts in pieces between the words
//! of the others, and lets go of a job within one token of its client's hang-up.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokenizers::Tokenizer;
use tokio::sync::mpsc;

use crate::infer::{Cache, Model, PIECE_TOKENS, Part};
use crate::sample::{Sampler, Sampling, Stops, Writer};

/// One generation to run. Prompt and limits are checked: they fit into the context.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) prompt: Vec<u32>,
    pub(super) tokens_max: usize,
    pub(super) sampling: Sampling,
    pub(super) stops: Vec<String>,
    /// Where the text goes. Without limit, because the text is: no more pieces than `tokens_max`, plus the end. A slow
    /// reader must not make the others wait. Closed when the client has hung up.
    pub(super) events: mpsc::UnboundedSender<Event>,
}

/// What becomes of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Event {
    /// A piece of the answer; never empty.
    Text(String),
    /// The end, exactly once, last.
    End {
        /// Why it ended.
        reason: Reason,
        /// Tokens written, without the one that ends the text.
        tokens: usize,
    },
    /// The answer could not be spelled; nothing follows.
    Failed,
}

/// Why an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reason {
    /// The model was done, or a stop string came.
    Stop,
    /// It was as long as was allowed.
    Length,
}

/// A job with a place in the step.
struct Slot {
    job: Job,
    cache: Cache,
    /// Tokens of the prompt already read.
    read: usize,
    /// The token to go on from, once the prompt is read.
    last: u32,
    written: usize,
    sampler: Sampler,
    writer: Writer,
    stops: Stops,
}

/// Runs until the channel is closed and all taken jobs are done.
pub(super) fn run(
    model: &Model,
    tokenizer: &Tokenizer,
    eos: &[u32],
    batch_max: usize,
    mut jobs: mpsc::Receiver<Job>,
    running: &AtomicUsize,
) {
    let mut slots: Vec<Slot> = Vec::new();
    loop {
        slots.retain(|slot| !slot.job.events.is_closed());
        if slots.is_empty() {
            running.store(0, Ordering::Relaxed);
            let Some(job) = jobs.blocking_recv() else { return };
            slots.push(Slot::new(job, model));
        }
        while slots.len() < batch_max
            && let Ok(job) = jobs.try_recv()
        {
            if !job.events.is_closed() {
                slots.push(Slot::new(job, model));
            }
        }
        running.store(slots.len(), Ordering::Relaxed);
        let scores = step(model, &mut slots);
        let mut scores = scores.into_iter();
        slots.retain_mut(|slot| match scores.next().flatten() {
            None => true,
            Some(scores) => slot.go_on(tokenizer, eos, &scores),
        });
    }
}

/// Everyone who writes gets a token; one piece of prompt is read beside it, the oldest first, so that a long prompt
/// delays the others by one piece only. The share of a sequence never depends on the others: a piece is a piece.
fn step(model: &Model, slots: &mut [Slot]) -> Vec<Option<Vec<f32>>> {
    let mut left = PIECE_TOKENS;
    let mut parts = Vec::with_capacity(slots.len());
    let mut in_step = Vec::with_capacity(slots.len());
    for slot in slots.iter_mut() {
        let unread = &slot.job.prompt[slot.read..];
        if unread.is_empty() {
            in_step.push(true);
            parts.push(Part { cache: &mut slot.cache, tokens: std::slice::from_ref(&slot.last), wanted: true });
            continue;
        }
        let take = unread.len().min(left);
        in_step.push(take > 0);
        if take > 0 {
            left -= take;
            slot.read += take;
            let wanted = take == unread.len();
            parts.push(Part { cache: &mut slot.cache, tokens: &unread[..take], wanted });
        }
    }
    let mut scores = model.step(&mut parts).into_iter();
    in_step.into_iter().map(|in_step| if in_step { scores.next().flatten() } else { None }).collect()
}

impl Slot {
    fn new(mut job: Job, model: &Model) -> Self {
        let stops = Stops::new(std::mem::take(&mut job.stops));
        let sampler = Sampler::new(job.sampling);
        Self { job, cache: model.cache(), read: 0, last: 0, written: 0, sampler, writer: Writer::default(), stops }
    }

    /// Takes the next token. Returns whether the job goes on.
    fn go_on(&mut self, tokenizer: &Tokenizer, eos: &[u32], scores: &[f32]) -> bool {
        let id = self.sampler.pick(scores);
        if eos.contains(&id) {
            return self.end(tokenizer, Reason::Stop);
        }
        self.written += 1;
        self.last = id;
        let Ok(text) = self.writer.push(tokenizer, id) else { return self.fail() };
        let (shown, stopped) = self.stops.push(&text);
        self.show(shown);
        if stopped {
            self.send(Event::End { reason: Reason::Stop, tokens: self.written });
            return false;
        }
        if self.written == self.job.tokens_max {
            return self.end(tokenizer, Reason::Length);
        }
        true
    }

    /// Shows what was held back, then the end.
    fn end(&mut self, tokenizer: &Tokenizer, reason: Reason) -> bool {
        let Ok(rest) = self.writer.finish(tokenizer) else { return self.fail() };
        let (shown, stopped) = self.stops.push(&rest);
        self.show(shown);
        if !stopped {
            let held = self.stops.finish();
            self.show(held);
        }
        let reason = if stopped { Reason::Stop } else { reason };
        self.send(Event::End { reason, tokens: self.written });
        false
    }

    fn fail(&self) -> bool {
        tracing::error!("the tokenizer could not spell an answer");
        self.send(Event::Failed);
        false
    }

    fn show(&self, text: String) {
        if !text.is_empty() {
            self.send(Event::Text(text));
        }
    }

    fn send(&self, event: Event) {
        // A closed channel is a hang-up; the loop lets go of the job before the next step.
        let _ = self.job.events.send(event);
    }
}
