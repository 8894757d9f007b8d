//! `gregal chat`: asks a served model through its site's OpenAI-compatible gateway, as any client of that API would.

use std::io::{BufRead as _, Read as _};

use clap::Args;
use futures_util::StreamExt;
use gregal_api::endpoint::EndpointView;
use gregal_core::endpoint::EndpointState;
use serde::Serialize;
use serde_json::{Value, json};

use crate::{
    content,
    context::Cx,
    endpoint,
    failure::Failure,
    lines::{Lines, event_data},
    options::Options,
};

/// The longest prompt that is read from a pipe or a line, in bytes. The gateway takes bodies of 1 MiB.
const PROMPT_BYTES_MAX: u64 = 1 << 20;
/// What a conversation may have in text, in bytes; what was said first is forgotten first.
const HISTORY_BYTES_MAX: usize = 512 << 10;
/// The longest answer that is kept, in bytes.
const ANSWER_BYTES_MAX: usize = 16 << 20;

#[derive(Debug, Args)]
pub struct ChatArgs {
    #[command(flatten)]
    pub(crate) options: Options,
    #[command(flatten)]
    pub(crate) chat: Chat,
}

#[derive(Debug, Args)]
pub(crate) struct Chat {
    /// The endpoint to ask, by name or id
    #[arg(value_name = "ENDPOINT")]
    reference: String,
    /// What to ask; absent: a conversation on a terminal, else stdin
    prompt: Option<String>,
    /// Tokens the answer may have
    #[arg(long, value_name = "COUNT")]
    max_tokens: Option<u32>,
    /// 0 always takes the likeliest token, more is more varied
    #[arg(long, value_name = "NUMBER")]
    temperature: Option<f64>,
    /// Same seed, same text
    #[arg(long, value_name = "NUMBER")]
    seed: Option<u64>,
    /// What the model is told before the conversation
    #[arg(long, value_name = "TEXT")]
    system: Option<String>,
}

/// What one question brought; `--json` prints it.
#[derive(Debug, Default, Serialize)]
struct Answered {
    endpoint: String,
    answer: String,
    finish_reason: Option<String>,
    usage: Option<Value>,
    #[serde(skip)]
    done: bool,
}

#[derive(Debug, Clone, Serialize)]
struct Message {
    role: &'static str,
    content: String,
}

pub(crate) async fn run(cx: &mut Cx<'_>, args: Chat) -> Result<(), Failure> {
    let served = endpoint::find(cx, &args.reference).await?;
    if served.state != EndpointState::Ready {
        let why = served.message.as_deref().map(|message| format!(": {message}")).unwrap_or_default();
        return Err(Failure::yours(format!("endpoint `{}` is {}{why}", served.name, served.state.as_str()))
            .hint(format!("`gregal endpoint show {}` says when it is ready", served.name)));
    }
    let system = args.system.clone().map(|content| Message { role: "system", content });
    if let Some(prompt) = args.prompt.clone() {
        return once(cx, &served, &args, system, prompt).await;
    }
    if cx.here.input_is_terminal {
        return converse(cx, &served, &args, system).await;
    }
    let mut prompt = String::new();
    let read = (&mut cx.here.input).take(PROMPT_BYTES_MAX + 1).read_to_string(&mut prompt);
    read.map_err(|error| Failure::yours(format!("could not read the prompt: {error}")))?;
    check(&prompt)?;
    once(cx, &served, &args, system, prompt).await
}

async fn once(
    cx: &mut Cx<'_>,
    served: &EndpointView,
    args: &Chat,
    system: Option<Message>,
    prompt: String,
) -> Result<(), Failure> {
    check(&prompt)?;
    let messages: Vec<Message> = system.into_iter().chain([Message { role: "user", content: prompt }]).collect();
    let answer = ask(cx, served, args, &messages).await?;
    if cx.printer().json() { cx.printer().data(&answer, |_| String::new()) } else { Ok(()) }
}

fn check(prompt: &str) -> Result<(), Failure> {
    if prompt.trim().is_empty() {
        return Err(Failure::yours("there is nothing to ask").hint("`gregal chat ENDPOINT \"a question\"`"));
    }
    if prompt.len() as u64 > PROMPT_BYTES_MAX {
        return Err(Failure::yours(format!("the prompt has more than {PROMPT_BYTES_MAX} bytes")));
    }
    Ok(())
}

/// Asks line after line; the model is told the whole conversation each time.
async fn converse(cx: &mut Cx<'_>, served: &EndpointView, args: &Chat, system: Option<Message>) -> Result<(), Failure> {
    cx.printer().note(&format!("talking to `{}`; an empty line or Ctrl-D ends", served.name));
    let mut history: Vec<Message> = Vec::new();
    loop {
        cx.printer().prompt("> ");
        let mut line = String::new();
        let read = (&mut cx.here.input).take(PROMPT_BYTES_MAX).read_line(&mut line);
        read.map_err(|error| Failure::yours(format!("could not read the line: {error}")))?;
        if line.trim().is_empty() {
            return Ok(());
        }
        history.push(Message { role: "user", content: line.trim_end().to_owned() });
        forget(&mut history);
        let messages: Vec<Message> = system.iter().chain(&history).cloned().collect();
        let answer = ask(cx, served, args, &messages).await?;
        if cx.printer().json() {
            let line = serde_json::to_value(&answer).unwrap_or_default();
            cx.printer().json_line(&line)?;
        }
        history.push(Message { role: "assistant", content: answer.answer });
    }
}

/// Drops the oldest question and answer until the rest may be sent.
fn forget(history: &mut Vec<Message>) {
    while history.len() > 2 && history.iter().map(|message| message.content.len()).sum::<usize>() > HISTORY_BYTES_MAX {
        history.drain(..2);
    }
}

/// Streams one answer to stdout.
async fn ask(cx: &mut Cx<'_>, served: &EndpointView, args: &Chat, messages: &[Message]) -> Result<Answered, Failure> {
    let base = served.base_url.as_ref().ok_or_else(|| {
        Failure::ours(format!("endpoint `{}` has no address yet", served.name))
            .hint("its site has not dialled in; try again in a moment")
    })?;
    let url = format!("{base}/chat/completions");
    let mut body = json!({
        "model": served.id,
        "messages": messages,
        "stream": true,
        "stream_options": { "include_usage": true },
    });
    let options = [
        ("max_tokens", args.max_tokens.map(Value::from)),
        ("temperature", args.temperature.map(Value::from)),
        ("seed", args.seed.map(Value::from)),
    ];
    for (name, value) in options {
        if let Some(value) = value {
            body[name] = value;
        }
    }
    let request = content::site_client()?.post(&url).bearer_auth(cx.secret()).json(&body);
    let response = request.send().await.map_err(|error| content::site_unreachable(&url, error))?;
    if !response.status().is_success() {
        return Err(content::refused(response).await);
    }
    let mut answer = Answered { endpoint: served.name.clone(), ..Answered::default() };
    let read = listen(cx, &url, response, &mut answer).await;
    if !cx.printer().json() && !answer.answer.is_empty() {
        cx.printer().write("\n")?;
    }
    read?;
    Ok(answer)
}

async fn listen(cx: &mut Cx<'_>, url: &str, response: reqwest::Response, answer: &mut Answered) -> Result<(), Failure> {
    let mut lines = Lines::default();
    let mut stream = response.bytes_stream();
    while let Some(chunk) = stream.next().await {
        let chunk = chunk.map_err(|error| content::site_unreachable(url, error))?;
        for line in lines.push(&chunk)? {
            let Some(piece) = take_in(&line, answer)? else { continue };
            if !cx.printer().json() {
                cx.printer().write(&piece)?;
            }
        }
        if answer.done {
            return Ok(());
        }
        if answer.answer.len() > ANSWER_BYTES_MAX {
            return Err(Failure::ours("the model did not stop writing"));
        }
    }
    Err(Failure::ours("the answer was cut off").hint("what was written until then is billed; ask again"))
}

/// Takes in one line of the stream; returns the text it brought.
fn take_in(line: &str, answer: &mut Answered) -> Result<Option<String>, Failure> {
    let Some(data) = event_data(line).map(str::trim) else { return Ok(None) };
    if data == "[DONE]" {
        answer.done = true;
        return Ok(None);
    }
    let event: Value = serde_json::from_str(data)
        .map_err(|_| Failure::ours("the gateway sent an event this version does not understand"))?;
    if event["error"].is_object() {
        return Err(content::gateway_error(&event["error"], 500));
    }
    if event["usage"].is_object() {
        answer.usage = Some(event["usage"].clone());
    }
    if let Some(reason) = event["choices"][0]["finish_reason"].as_str() {
        answer.finish_reason = Some(reason.to_owned());
    }
    let piece = event["choices"][0]["delta"]["content"].as_str().filter(|piece| !piece.is_empty());
    if let Some(piece) = piece {
        answer.answer.push_str(piece);
    }
    Ok(piece.map(str::to_owned))
}
