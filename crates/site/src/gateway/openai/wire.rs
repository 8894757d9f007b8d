//! Requests and answers in `OpenAI`'s shapes: what is read of a request, what the engine is asked, what the client gets.

use bytes::{BufMut as _, Bytes, BytesMut};
use serde_json::{Map, Value, json};

use super::{super::scan, error::ApiError};

/// Tokens a completion generates when its request does not say how many it wants, as `OpenAI` has it. A chat without a
/// number goes on until the model's context is full.
const COMPLETION_TOKENS_DEFAULT: u64 = 16;
/// The most tokens one request may generate.
pub(crate) const COMPLETION_TOKENS_MAX: u64 = 32_768;
/// The most messages in one request.
const MESSAGES_MAX: usize = 2_048;
/// Tokens a chat template adds around each message, at most, for bounding the worst case.
const TEMPLATE_TOKENS_MESSAGE: u64 = 16;
/// Tokens a chat template adds once (a default system prompt, the opening of the answer), at most.
const TEMPLATE_TOKENS: u64 = 256;

/// Which of the two shapes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Chat,
    Completion,
}

impl Kind {
    /// Where the engine takes it.
    pub(crate) const fn path(self) -> &'static str {
        match self {
            Self::Chat => "/v1/chat/completions",
            Self::Completion => "/v1/completions",
        }
    }
}

/// A request, read as far as the gateway needs to know it.
#[derive(Debug, Clone)]
pub(crate) struct Ask {
    pub(crate) kind: Kind,
    pub(crate) model: String,
    pub(crate) stream: bool,
    pub(crate) include_usage: bool,
    /// Tokens it asks for at most; none leaves it to the model's context.
    tokens_out_wanted: Option<u64>,
    /// Tokens the prompt can be at most: no tokenizer makes more tokens than there are bytes.
    pub(crate) tokens_in_max: u64,
    /// Bytes of text in the prompt, without what a template puts around it.
    pub(crate) prompt_bytes: u64,
    /// The name the client gave the model, as JSON.
    model_json: String,
    body: Map<String, Value>,
}

impl Ask {
    /// Reads a request's body.
    pub(crate) fn read(kind: Kind, bytes: &[u8]) -> Result<Self, ApiError> {
        let text = std::str::from_utf8(bytes).map_err(|error| {
            ApiError::invalid(None, format!("the body is not UTF-8 from byte {} on", error.valid_up_to()))
        })?;
        let body: Value = serde_json::from_str(text).map_err(|error| {
            // The position only: the rest of serde's message may quote the body.
            ApiError::invalid(
                None,
                format!("the body is not JSON: look at line {} column {}", error.line(), error.column()),
            )
        })?;
        let Value::Object(mut body) = body else {
            return Err(ApiError::invalid(None, "the body is not a JSON object"));
        };
        let model = match body.get("model") {
            Some(Value::String(model)) if !model.is_empty() => model.clone(),
            _ => return Err(ApiError::invalid(Some("model"), "`model` names the endpoint to ask")),
        };
        refuse_unsupported(&body)?;
        let stream = flag(&body, "stream")?;
        let include_usage = match body.get("stream_options") {
            None | Some(Value::Null) => false,
            Some(Value::Object(options)) => flag(options, "include_usage")?,
            Some(_) => return Err(ApiError::invalid(Some("stream_options"), "`stream_options` is an object")),
        };
        let Prompt { bytes: prompt_bytes, tokens_max: tokens_in_max } = match kind {
            Kind::Chat => messages(&mut body)?,
            Kind::Completion => prompt(&mut body)?,
        };
        let wanted = tokens_out_wanted(&body)?;
        let tokens_out_wanted = match kind {
            Kind::Chat => wanted,
            Kind::Completion => wanted.or(Some(COMPLETION_TOKENS_DEFAULT)),
        };
        Ok(Self {
            kind,
            stream,
            include_usage,
            tokens_out_wanted,
            tokens_in_max,
            prompt_bytes,
            model_json: Value::from(model.as_str()).to_string(),
            model,
            body,
        })
    }

    /// The most tokens it can generate with a model of this context.
    pub(crate) fn tokens_out_max(&self, context: u64) -> u64 {
        self.tokens_out_wanted.unwrap_or(context).min(context)
    }

    /// What the engine is asked, under its own name for the model. A stream, so that what was made is known at any moment, and
    /// always with usage.
    pub(crate) fn for_engine(&self, served_name: &str, stream: bool) -> Vec<u8> {
        let mut body = self.body.clone();
        body.remove("max_completion_tokens");
        body.insert("model".into(), served_name.into());
        body.insert("stream".into(), stream.into());
        if stream {
            body.insert("stream_options".into(), json!({"include_usage": true}));
        } else {
            body.remove("stream_options");
        }
        if let Some(tokens) = self.tokens_out_wanted {
            body.insert("max_tokens".into(), tokens.into());
        }
        serde_json::to_vec(&body).unwrap_or_default()
    }
}

fn refuse_unsupported(body: &Map<String, Value>) -> Result<(), ApiError> {
    if body.get("n").is_some_and(|n| !n.is_null() && n.as_u64() != Some(1)) {
        return Err(ApiError::unsupported("n", "one answer is made per request: `n` is 1"));
    }
    for (param, name) in
        [("tools", "`tools`"), ("functions", "`functions`"), ("logprobs", "`logprobs`"), ("echo", "`echo`")]
    {
        let asked = match body.get(param) {
            None | Some(Value::Null | Value::Bool(false)) => false,
            Some(Value::Array(list)) => !list.is_empty(),
            Some(_) => true,
        };
        if asked {
            return Err(ApiError::unsupported(param, format!("{name} is not spoken here yet")));
        }
    }
    match body.get("best_of") {
        None | Some(Value::Null) => Ok(()),
        Some(best) if best.as_u64() == Some(1) => Ok(()),
        Some(_) => Err(ApiError::unsupported("best_of", "one answer is made per request: `best_of` is 1")),
    }
}

fn flag(body: &Map<String, Value>, name: &'static str) -> Result<bool, ApiError> {
    match body.get(name) {
        None | Some(Value::Null) => Ok(false),
        Some(Value::Bool(flag)) => Ok(*flag),
        Some(_) => Err(ApiError::invalid(Some(name), format!("`{name}` is true or false"))),
    }
}

fn tokens_out_wanted(body: &Map<String, Value>) -> Result<Option<u64>, ApiError> {
    for name in ["max_completion_tokens", "max_tokens"] {
        match body.get(name) {
            None | Some(Value::Null) => {}
            Some(value) => {
                let wanted = value.as_u64().filter(|tokens| *tokens > 0);
                let wanted = wanted
                    .ok_or_else(|| ApiError::invalid(Some(name), format!("`{name}` is a whole number from 1 on")))?;
                return Ok(Some(wanted.min(COMPLETION_TOKENS_MAX)));
            }
        }
    }
    Ok(None)
}

/// How long a prompt is.
struct Prompt {
    /// Bytes of its text.
    bytes: u64,
    /// Tokens it can be at most, with what a template may put around it.
    tokens_max: u64,
}

/// Measures a prompt; contents given in parts are joined, which is what they mean for text.
fn messages(body: &mut Map<String, Value>) -> Result<Prompt, ApiError> {
    let wrong =
        || ApiError::invalid(Some("messages"), "`messages` is a list of `{\"role\", \"content\"}`, at least one");
    let Some(Value::Array(messages)) = body.get_mut("messages") else { return Err(wrong()) };
    if messages.is_empty() || messages.len() > MESSAGES_MAX {
        return Err(wrong());
    }
    let mut length = Prompt { bytes: 0, tokens_max: TEMPLATE_TOKENS };
    for message in messages {
        let Value::Object(message) = message else { return Err(wrong()) };
        let Some(Value::String(role)) = message.get("role") else { return Err(wrong()) };
        length.tokens_max += role.len() as u64 + TEMPLATE_TOKENS_MESSAGE;
        let text = match message.get("content") {
            Some(Value::String(text)) => text.clone(),
            Some(Value::Array(parts)) => joined(parts)?,
            None | Some(Value::Null) => String::new(),
            Some(_) => return Err(wrong()),
        };
        length.bytes += text.len() as u64;
        length.tokens_max += text.len() as u64;
        message.insert("content".into(), text.into());
    }
    Ok(length)
}

fn joined(parts: &[Value]) -> Result<String, ApiError> {
    let text = |part: &Value| match (part.get("type").and_then(Value::as_str), part.get("text")) {
        (Some("text"), Some(Value::String(text))) => Some(text.clone()),
        _ => None,
    };
    let texts: Option<Vec<String>> = parts.iter().map(text).collect();
    texts.map(|texts| texts.concat()).ok_or_else(|| {
        ApiError::unsupported("messages", "only text is understood here: parts of `content` have the type `text`")
    })
}

fn prompt(body: &mut Map<String, Value>) -> Result<Prompt, ApiError> {
    let wrong = || ApiError::invalid(Some("prompt"), "`prompt` is one text");
    let text = match body.get("prompt") {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(list)) => match list.as_slice() {
            [Value::String(text)] => text.clone(),
            _ => return Err(ApiError::unsupported("prompt", "one prompt, as text, is taken per request")),
        },
        _ => return Err(wrong()),
    };
    let bytes = text.len() as u64;
    body.insert("prompt".into(), text.into());
    Ok(Prompt { bytes, tokens_max: bytes + TEMPLATE_TOKENS_MESSAGE })
}

/// One piece of an engine's answer, looked at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    /// It is part of the answer, not of what is told about it.
    pub(crate) choice: bool,
    /// Some text was made.
    pub(crate) text: bool,
    /// The answer is whole.
    pub(crate) finished: bool,
    /// Tokens of prompt and answer so far, where the engine says so.
    pub(crate) usage: Option<(u64, u64)>,
}

/// Looks at a chunk of a streamed answer, and makes of it what the client gets: under the name it asked for, with or without
/// the usage field as it asked, and as an event if it asked for a stream. None of what is no chunk, an error among it.
pub(crate) fn look(ask: &Ask, chunk: &[u8]) -> Option<(Seen, Bytes)> {
    let mut seen = Seen::default();
    let mut text = BytesMut::with_capacity(chunk.len() + ask.model_json.len() + 48);
    if ask.stream {
        text.put_slice(b"data: ");
    }
    text.put_slice(b"{\"model\":");
    text.put_slice(ask.model_json.as_bytes());
    let mut fields = scan::fields(chunk)?;
    while let Some(field) = fields.next().ok()? {
        let value = &chunk[field.value];
        match field.name {
            b"model" => continue,
            b"error" => return None,
            b"usage" => {
                seen.usage = counts(value);
                continue;
            }
            b"choices" => choice(value, &mut seen),
            _ => {}
        }
        put_field(&mut text, field.name, value);
    }
    if ask.stream && ask.include_usage {
        text.put_slice(b",\"usage\":null");
    }
    text.put_slice(if ask.stream { b"}\n\n" } else { b"}" });
    Some((seen, text.freeze()))
}

fn put_field(text: &mut BytesMut, name: &[u8], value: &[u8]) {
    text.put_slice(b",\"");
    text.put_slice(name);
    text.put_slice(b"\":");
    text.put_slice(value);
}

/// What the first choice of a chunk says.
fn choice(choices: &[u8], seen: &mut Seen) {
    let Some(choice) = scan::first(choices) else { return };
    seen.choice = true;
    let Some(mut fields) = scan::fields(choice) else { return };
    while let Ok(Some(field)) = fields.next() {
        let value = &choice[field.value];
        match field.name {
            b"delta" => seen.text |= scan::field(value, "content").is_some_and(scan::is_words),
            b"text" => seen.text |= scan::is_words(value),
            b"finish_reason" => seen.finished = value != b"null",
            _ => {}
        }
    }
}

/// Tokens of prompt and answer, if this is what tells them.
fn counts(usage: &[u8]) -> Option<(u64, u64)> {
    let count = |name| scan::field(usage, name).and_then(scan::number);
    Some((count("prompt_tokens")?, count("completion_tokens")?))
}

/// The tokens that an answer in one piece says were used.
pub(crate) fn usage_of(answer: &[u8]) -> Option<(u64, u64)> {
    counts(scan::field(answer, "usage")?)
}

/// Bytes of the text of an answer in one piece, as it is written in JSON.
pub(crate) fn text_bytes(answer: &[u8]) -> u64 {
    let choice = scan::field(answer, "choices").and_then(scan::first);
    let of_chat = |choice| scan::field(choice, "message").and_then(|message| scan::field(message, "content"));
    let text = choice.and_then(|choice| of_chat(choice).or_else(|| scan::field(choice, "text")));
    text.filter(|text| scan::is_words(text)).map_or(0, |text| text.len() as u64 - 2)
}

/// An answer in one piece as the client gets it: under the name it asked for. None of what is no answer.
pub(crate) fn answer_for_client(ask: &Ask, answer: &[u8]) -> Option<Bytes> {
    let mut text = BytesMut::with_capacity(answer.len() + ask.model_json.len() + 16);
    text.put_slice(b"{\"model\":");
    text.put_slice(ask.model_json.as_bytes());
    let mut fields = scan::fields(answer)?;
    while let Some(field) = fields.next().ok()? {
        match field.name {
            b"model" => {}
            b"error" => return None,
            name => put_field(&mut text, name, &answer[field.value]),
        }
    }
    text.put_slice(b"}");
    Some(text.freeze())
}

/// The numbers of tokens as `OpenAI` writes them.
pub(crate) fn usage(tokens_in: u64, tokens_out: u64) -> Value {
    json!({"prompt_tokens": tokens_in, "completion_tokens": tokens_out, "total_tokens": tokens_in + tokens_out})
}

/// The last event of a stream whose client asked for usage: a chunk like the one before, with no choice and only numbers.
pub(crate) fn usage_event(like: &[u8], tokens_in: u64, tokens_out: u64) -> Bytes {
    let mut text = BytesMut::with_capacity(like.len() + 96);
    text.put_slice(b"data: {\"choices\":[],\"usage\":");
    text.put_slice(usage(tokens_in, tokens_out).to_string().as_bytes());
    if let Some(mut fields) = like.strip_prefix(b"data: ").and_then(scan::fields) {
        let like = &like[6..];
        while let Ok(Some(field)) = fields.next() {
            if !matches!(field.name, b"choices" | b"usage") {
                put_field(&mut text, field.name, &like[field.value]);
            }
        }
    }
    text.put_slice(b"}\n\n");
    text.freeze()
}

/// Puts the chunks of an answer together again, for a client that did not ask for a stream.
#[derive(Debug, Default)]
pub(crate) struct Assembly {
    head: Option<Value>,
    text: String,
    finish_reason: Value,
}

impl Assembly {
    /// Adds a chunk.
    pub(crate) fn add(&mut self, chunk: &[u8]) {
        // What could not be taken apart was no chunk, and did not come so far.
        let Ok(chunk) = serde_json::from_slice::<Value>(chunk) else { return };
        if let Some(choice) = chunk.pointer("/choices/0") {
            let text = choice.pointer("/delta/content").or_else(|| choice.get("text"));
            self.text.push_str(text.and_then(Value::as_str).unwrap_or_default());
            if let Some(why) = choice.get("finish_reason").filter(|why| !why.is_null()) {
                self.finish_reason = why.clone();
            }
        }
        self.head.get_or_insert(chunk);
    }

    /// The whole answer.
    pub(crate) fn finish(self, ask: &Ask, usage: &Value) -> Value {
        let head = self.head.unwrap_or_default();
        let of = |name: &str| head.get(name).cloned().unwrap_or_default();
        let (object, choice) = match ask.kind {
            Kind::Chat => (
                "chat.completion",
                json!({"index": 0, "message": {"role": "assistant", "content": self.text}, "logprobs": null, "finish_reason": self.finish_reason}),
            ),
            Kind::Completion => (
                "text_completion",
                json!({"index": 0, "text": self.text, "logprobs": null, "finish_reason": self.finish_reason}),
            ),
        };
        json!({
            "id": of("id"), "object": object, "created": of("created"), "model": ask.model,
            "choices": [choice], "usage": usage,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bound_of_a_prompt_is_no_less_than_its_bytes() {
        let ask = Ask::read(Kind::Chat, br#"{"model":"m","messages":[{"role":"user","content":"h\u00e9"}]}"#).unwrap();
        assert!(ask.tokens_in_max >= 3);
        assert_eq!(ask.tokens_out_max(128), 128, "a chat without a number may fill the context");
    }

    #[test]
    fn the_engine_is_always_asked_for_a_stream_with_usage_and_a_bound() {
        let body = br#"{"model":"m","prompt":["x"],"max_completion_tokens":7,"temperature":0.5,"seed":1}"#;
        let ask = Ask::read(Kind::Completion, body).unwrap();
        let sent: Value = serde_json::from_slice(&ask.for_engine("m", true)).unwrap();
        assert_eq!(sent["stream"], true);
        assert_eq!(sent["stream_options"]["include_usage"], true);
        assert_eq!((sent["max_tokens"].as_u64(), sent.get("max_completion_tokens")), (Some(7), None));
        assert_eq!((sent["prompt"].as_str(), sent["seed"].as_u64()), (Some("x"), Some(1)));
    }

    #[test]
    fn what_is_not_spoken_is_refused_by_name_and_never_dropped_in_silence() {
        for (param, body) in [
            ("n", r#"{"model":"m","prompt":"x","n":2}"#),
            ("tools", r#"{"model":"m","prompt":"x","tools":[{}]}"#),
            ("prompt", r#"{"model":"m","prompt":["x","y"]}"#),
            ("max_tokens", r#"{"model":"m","prompt":"x","max_tokens":-1}"#),
            ("model", r#"{"prompt":"x"}"#),
        ] {
            let refused = Ask::read(Kind::Completion, body.as_bytes()).unwrap_err().body();
            assert_eq!(refused["error"]["param"], param);
        }
    }
}
