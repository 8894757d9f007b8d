//! Asking the served model through the OpenAI-compatible gateway, as any client of that API would.

use anyhow::{Context, Result, bail, ensure};
use futures_util::StreamExt;
use gregal_api::endpoint::EndpointView;
use serde_json::{Value, json};

use super::{data::TourData, journey::Journey};

/// Tokens an answer may have.
const ANSWER_TOKENS_MAX: u32 = 64;
/// Bytes of a streamed answer that are kept.
const ANSWER_BYTES_MAX: usize = 1 << 20;

/// What one question brought.
#[derive(Debug, Default)]
struct Answer {
    text: String,
    chunks: u32,
    tokens_in: u64,
    tokens_out: u64,
}

impl Journey<'_> {
    /// Streams answers to questions that were held out from training.
    pub(crate) async fn chat(&mut self, endpoint: &EndpointView, data: &TourData) -> Result<()> {
        self.show.step("a chat with the model, streamed through the gateway");
        let base = endpoint.base_url.clone().context("the endpoint has no address")?;
        let secret = self.gateway_secret()?.to_owned();
        for (number, (question, expected)) in data.questions.iter().enumerate() {
            let answer = ask(&self.http, &base, &secret, &endpoint.name, question).await?;
            let exact = expected.as_deref().is_some_and(|right| right == answer.text.trim());
            let chat = &mut self.summary.chat;
            chat.asked += 1;
            chat.exact += u32::from(exact);
            chat.tokens_in += answer.tokens_in;
            chat.tokens_out += answer.tokens_out;
            if number == 0 {
                chat.question.clone_from(question);
                answer.text.trim().clone_into(&mut chat.answer);
                chat.expected.clone_from(expected);
                chat.chunks = answer.chunks;
            }
            let mark = if expected.is_none() || exact { "" } else { "   (not exact)" };
            self.show.detail(&format!("\"{question}\" -> \"{}\"{mark}", answer.text.trim()));
        }
        let chat = &self.summary.chat;
        let asked = data.questions.iter().filter(|(_, expected)| expected.is_some()).count();
        if data.exact_min > 0.0 {
            ensure!(
                f64::from(chat.exact) >= data.exact_min * asked as f64,
                "only {} of {asked} held-out questions were answered exactly through the gateway",
                chat.exact
            );
        }
        let text = format!(
            "{} of {asked} known answers exact, {} tokens in, {} out",
            chat.exact, chat.tokens_in, chat.tokens_out
        );
        self.show.done(&text);
        Ok(())
    }
}

async fn ask(http: &reqwest::Client, base: &str, secret: &str, model: &str, question: &str) -> Result<Answer> {
    let answer = http
        .post(format!("{base}/chat/completions"))
        .bearer_auth(secret)
        .json(&json!({
            "model": model,
            "messages": [{ "role": "user", "content": question }],
            "stream": true,
            "stream_options": { "include_usage": true },
            "temperature": 0,
            "max_tokens": ANSWER_TOKENS_MAX,
        }))
        .send()
        .await
        .context("could not reach the gateway")?;
    let status = answer.status();
    ensure!(status.is_success(), "the gateway answered {status}: {}", answer.text().await.unwrap_or_default());
    let mut stream = answer.bytes_stream();
    let mut pending: Vec<u8> = Vec::new();
    let mut found = Answer::default();
    while let Some(chunk) = stream.next().await {
        pending.extend_from_slice(&chunk.context("the stream broke")?);
        ensure!(pending.len() <= ANSWER_BYTES_MAX, "the gateway sent a line without an end");
        while let Some(end) = pending.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = pending.drain(..=end).collect();
            if event(std::str::from_utf8(&line).context("the gateway sent invalid text")?.trim(), &mut found)? {
                return Ok(found);
            }
        }
    }
    bail!("the stream ended without saying so")
}

/// Takes in one line of a server-sent event stream; true at its end.
fn event(line: &str, answer: &mut Answer) -> Result<bool> {
    let Some(data) = line.strip_prefix("data:").map(str::trim) else { return Ok(false) };
    if data == "[DONE]" {
        return Ok(true);
    }
    let value: Value = serde_json::from_str(data).context("the gateway sent an event that is not JSON")?;
    ensure!(value["error"].is_null(), "the model failed while it answered: {}", value["error"]["message"]);
    if let Some(delta) = value["choices"][0]["delta"]["content"].as_str() {
        answer.text.push_str(delta);
        answer.chunks += 1;
    }
    if let Some(usage) = value["usage"].as_object() {
        answer.tokens_in = usage.get("prompt_tokens").and_then(Value::as_u64).unwrap_or(0);
        answer.tokens_out = usage.get("completion_tokens").and_then(Value::as_u64).unwrap_or(0);
    }
    Ok(false)
}
