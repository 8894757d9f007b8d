//! Asks the finished model the held-out questions, greedily, and compares word for word.

use std::sync::atomic::{AtomicBool, Ordering};

use super::Error;
use super::model::{Cache, Model};
use super::ops;
use crate::data::{Conversation, Role};
use crate::tokenizer::Encoder;

/// Questions answered at once.
const TOGETHER: usize = 32;
/// Tokens an answer may be longer than the expected one before it is cut: it cannot be equal any more.
const SLACK: usize = 4;

struct Question {
    prompt: Vec<u32>,
    expected: String,
    tokens: usize,
}

/// Asks each conversation's last answer; returns how many were asked and how many answers were exact.
/// Stops early, with `None`, when `stop` is raised.
pub(crate) fn ask(
    model: &Model,
    encoder: &Encoder,
    heldout: &[Conversation],
    stop: &AtomicBool,
) -> Result<Option<(u64, u64)>, Error> {
    let mut questions = Vec::with_capacity(heldout.len());
    for conversation in heldout {
        let Some(last) = conversation.messages.iter().rposition(|m| m.role == Role::Assistant) else { continue };
        let expected = conversation.messages[last].content.trim().to_owned();
        let prompt = encoder.prompt(&conversation.messages[..last])?;
        questions.push(Question { prompt, tokens: encoder.encode(&expected)?.len(), expected });
    }
    let asked = questions.len() as u64;
    // A question that leaves no room for its answer counts as asked and not answered.
    questions.retain(|q| q.prompt.len() + q.tokens + SLACK < model.config.max_position_embeddings);
    questions.sort_by_key(|q| q.prompt.len());
    let mut exact = 0;
    for same_length in questions.chunk_by(|a, b| a.prompt.len() == b.prompt.len()) {
        for together in same_length.chunks(TOGETHER) {
            if stop.load(Ordering::Relaxed) {
                return Ok(None);
            }
            let answers = answer(model, together, &encoder.ends)?;
            for (question, answer) in together.iter().zip(answers) {
                exact += u64::from(encoder.decode(&answer)?.trim() == question.expected);
            }
        }
    }
    Ok(Some((asked, exact)))
}

fn answer(model: &Model, questions: &[Question], ends: &[u32]) -> Result<Vec<Vec<u32>>, Error> {
    let longest = questions.iter().map(|q| q.tokens).max().unwrap_or(0) + SLACK;
    let mut answers = vec![Vec::new(); questions.len()];
    let mut ended = vec![false; questions.len()];
    let mut cache = Cache::default();
    let mut ids: Vec<u32> = questions.iter().flat_map(|q| q.prompt.iter().copied()).collect();
    for _ in 0..longest {
        let logits = model.read(&ids, questions.len(), &mut cache)?;
        let vocab = logits.dim(1)?;
        ids = ops::floats(&logits)?.chunks_exact(vocab).map(likeliest).collect();
        for ((&id, answer), ended) in ids.iter().zip(&mut answers).zip(&mut ended) {
            *ended |= ends.contains(&id);
            if !*ended {
                answer.push(id);
            }
        }
        if ended.iter().all(|&ended| ended) {
            break;
        }
    }
    Ok(answers)
}

/// The first of the largest.
fn likeliest(logits: &[f32]) -> u32 {
    let mut best = 0;
    for (id, &logit) in logits.iter().enumerate() {
        if logit > logits[best] {
            best = id;
        }
    }
    best as u32
}
