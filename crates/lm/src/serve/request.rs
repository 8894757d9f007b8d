//! Reads a request body in `OpenAI`'s shape. What this engine does not do is refused by name, never ignored.

use serde::Serialize;
use serde_json::{Map, Value};

use super::openai::Refusal;

/// Longest list of stop strings, as `OpenAI` has it.
const STOPS_MAX: usize = 4;
/// Longest stop string, bytes.
const STOP_BYTES_MAX: usize = 1024;
/// Most messages in a conversation.
const MESSAGES_MAX: usize = 4096;

/// One message, as templates see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Message {
    pub(super) role: &'static str,
    pub(super) content: String,
}

/// What both kinds of completion share.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Common {
    pub(super) model: String,
    pub(super) stream: bool,
    pub(super) include_usage: bool,
    pub(super) tokens_max: Option<usize>,
    pub(super) temperature: f32,
    pub(super) top_p: f32,
    pub(super) seed: Option<u64>,
    pub(super) stops: Vec<String>,
}

/// What to complete.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Prompt {
    Messages(Vec<Message>),
    Text(String),
    Ids(Vec<u32>),
}

/// Parameters that say nothing to this engine, whatever their value: who asks, and how a bigger service should file it.
const IGNORED: [&str; 9] = [
    "user",
    "metadata",
    "service_tier",
    "safety_identifier",
    "prompt_cache_key",
    "prompt_cache_retention",
    "parallel_tool_calls",
    "tool_choice",
    "function_call",
];

/// Parameters that are accepted with the value that changes nothing, and refused with any other.
fn is_neutral(name: &str, value: &Value) -> Option<bool> {
    Some(match name {
        "n" | "best_of" => value == &Value::from(1),
        "presence_penalty" | "frequency_penalty" => value.as_f64() == Some(0.0),
        "logprobs" | "store" | "echo" => value == &Value::Bool(false),
        "top_logprobs" => value == &Value::from(0),
        "logit_bias" => value.as_object().is_some_and(Map::is_empty),
        "tools" | "functions" => value.as_array().is_some_and(Vec::is_empty),
        "response_format" => value["type"] == "text" && value.as_object().is_some_and(|format| format.len() == 1),
        "modalities" => value == &Value::from(vec!["text"]),
        "suffix" => value == "",
        "audio" | "prediction" | "reasoning_effort" | "verbosity" | "web_search_options" => false,
        _ => return None,
    })
}

/// Reads the body of a chat completion.
pub(super) fn chat(body: &[u8]) -> Result<(Common, Prompt), Refusal> {
    let mut fields = object(body)?;
    let messages = fields.remove("messages").ok_or_else(|| Refusal::missing("messages"))?;
    let messages = messages.as_array().ok_or_else(|| Refusal::invalid("messages", "expected a list of messages"))?;
    if messages.is_empty() || messages.len() > MESSAGES_MAX {
        return Err(Refusal::invalid("messages", &format!("expected 1 to {MESSAGES_MAX} messages")));
    }
    let messages = messages.iter().enumerate().map(|(at, message)| one_message(at, message));
    let messages = messages.collect::<Result<_, _>>()?;
    let newer = take_count(&mut fields, "max_completion_tokens")?;
    let older = take_count(&mut fields, "max_tokens")?;
    Ok((common(fields, newer.or(older))?, Prompt::Messages(messages)))
}

/// Reads the body of a plain completion.
pub(super) fn completion(body: &[u8]) -> Result<(Common, Prompt), Refusal> {
    /// `OpenAI`'s default for plain completions.
    const TOKENS_DEFAULT: usize = 16;
    let mut fields = object(body)?;
    let prompt = match fields.remove("prompt") {
        None | Some(Value::Null) => return Err(Refusal::missing("prompt")),
        Some(Value::String(text)) => Prompt::Text(text),
        Some(Value::Array(mut list)) if list.len() == 1 && list[0].is_string() => {
            Prompt::Text(list.remove(0).as_str().unwrap_or_default().to_owned())
        }
        Some(Value::Array(list)) if !list.is_empty() && list.iter().all(Value::is_u64) => {
            let ids = list.iter().map(|id| id.as_u64().and_then(|id| u32::try_from(id).ok()));
            Prompt::Ids(
                ids.collect::<Option<_>>().ok_or_else(|| Refusal::invalid("prompt", "a token id is out of range"))?,
            )
        }
        Some(_) => {
            return Err(Refusal::unsupported("prompt", "expected one text, or one list of token ids"));
        }
    };
    let tokens_max = take_count(&mut fields, "max_tokens")?.unwrap_or(TOKENS_DEFAULT);
    Ok((common(fields, Some(tokens_max))?, prompt))
}

fn object(body: &[u8]) -> Result<Map<String, Value>, Refusal> {
    match serde_json::from_slice(body) {
        Ok(Value::Object(fields)) => Ok(fields),
        Ok(_) => Err(Refusal::body("the body is not a JSON object")),
        Err(error) => Err(Refusal::body(&format!(
            "the body is not valid JSON (line {}, column {})",
            error.line(),
            error.column()
        ))),
    }
}

fn one_message(at: usize, message: &Value) -> Result<Message, Refusal> {
    let param = |part: &str| format!("messages[{at}].{part}");
    let role = match message["role"].as_str() {
        Some("system" | "developer") => "system",
        Some("user") => "user",
        Some("assistant") => "assistant",
        Some("tool" | "function") => return Err(Refusal::unsupported(&param("role"), "this model uses no tools")),
        _ => return Err(Refusal::invalid(&param("role"), "expected `system`, `user` or `assistant`")),
    };
    if message["tool_calls"].as_array().is_some_and(|calls| !calls.is_empty()) {
        return Err(Refusal::unsupported(&param("tool_calls"), "this model uses no tools"));
    }
    let content = match &message["content"] {
        Value::String(text) => text.clone(),
        Value::Null if role == "assistant" => String::new(),
        Value::Array(parts) => {
            let mut text = String::new();
            for (index, part) in parts.iter().enumerate() {
                match (part["type"].as_str(), part["text"].as_str()) {
                    (Some("text"), Some(part)) => text.push_str(part),
                    (Some("text") | None, _) => {
                        return Err(Refusal::invalid(&param(&format!("content[{index}].text")), "expected a text"));
                    }
                    _ => {
                        let param = param(&format!("content[{index}].type"));
                        return Err(Refusal::unsupported(&param, "this model reads text only"));
                    }
                }
            }
            text
        }
        _ => return Err(Refusal::invalid(&param("content"), "expected a text, or a list of text parts")),
    };
    Ok(Message { role, content })
}

fn common(mut fields: Map<String, Value>, tokens_max: Option<usize>) -> Result<Common, Refusal> {
    // JSON clients write "not set" as null.
    fields.retain(|_, value| !value.is_null());
    let model = match fields.remove("model") {
        None => return Err(Refusal::missing("model")),
        Some(Value::String(name)) => name,
        Some(_) => return Err(Refusal::invalid("model", "expected a text")),
    };
    let stream = take_flag(&mut fields, "stream")?;
    let include_usage = match fields.remove("stream_options") {
        None => false,
        Some(_) if !stream => {
            return Err(Refusal::invalid("stream_options", "only allowed when `stream` is true"));
        }
        Some(Value::Object(mut options)) => {
            let include = take_flag(&mut options, "include_usage")?;
            // Padding against traffic analysis: a local socket has no onlookers.
            options.remove("include_obfuscation");
            if let Some(name) = options.keys().next() {
                return Err(Refusal::unknown(&format!("stream_options.{name}")));
            }
            include
        }
        Some(_) => return Err(Refusal::invalid("stream_options", "expected an object")),
    };
    let temperature = take_real(&mut fields, "temperature", 0.0, 2.0)?;
    let top_p = take_real(&mut fields, "top_p", 0.0, 1.0)?;
    let seed = match fields.remove("seed") {
        None => None,
        Some(value) => {
            let whole = value.as_u64().or_else(|| value.as_i64().map(i64::cast_unsigned));
            Some(whole.ok_or_else(|| Refusal::invalid("seed", "expected a whole number"))?)
        }
    };
    let stops = take_stops(&mut fields)?;
    for (name, value) in &fields {
        match is_neutral(name, value) {
            Some(true) => {}
            Some(false) if name == "n" => {
                return Err(Refusal::unsupported(name, "one answer a request: `n` must be 1"));
            }
            Some(false) => return Err(Refusal::unsupported(name, "this engine does not support it")),
            None if IGNORED.contains(&name.as_str()) => {}
            None => return Err(Refusal::unknown(name)),
        }
    }
    Ok(Common { model, stream, include_usage, tokens_max, temperature, top_p, seed, stops })
}

fn take_flag(fields: &mut Map<String, Value>, name: &str) -> Result<bool, Refusal> {
    match fields.remove(name) {
        None | Some(Value::Null) => Ok(false),
        Some(Value::Bool(flag)) => Ok(flag),
        Some(_) => Err(Refusal::invalid(name, "expected true or false")),
    }
}

fn take_count(fields: &mut Map<String, Value>, name: &str) -> Result<Option<usize>, Refusal> {
    match fields.remove(name) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => {
            let count = value.as_u64().filter(|count| *count > 0).and_then(|count| usize::try_from(count).ok());
            count.map(Some).ok_or_else(|| Refusal::invalid(name, "expected a whole number above 0"))
        }
    }
}

fn take_real(fields: &mut Map<String, Value>, name: &str, least: f64, most: f64) -> Result<f32, Refusal> {
    match fields.remove(name) {
        None => Ok(1.0),
        Some(value) => {
            let real = value.as_f64().filter(|real| (least..=most).contains(real));
            let real = real.ok_or_else(|| Refusal::invalid(name, &format!("expected a number from {least} to {most}")));
            Ok(real? as f32)
        }
    }
}

fn take_stops(fields: &mut Map<String, Value>) -> Result<Vec<String>, Refusal> {
    let malformed = || Refusal::invalid("stop", &format!("expected a text, or a list of at most {STOPS_MAX} texts"));
    let stops = match fields.remove("stop") {
        None => Vec::new(),
        Some(Value::String(stop)) => vec![stop],
        Some(Value::Array(list)) if list.len() <= STOPS_MAX => {
            let texts = list.into_iter().map(|stop| stop.as_str().map(str::to_owned));
            texts.collect::<Option<Vec<_>>>().ok_or_else(malformed)?
        }
        Some(_) => return Err(malformed()),
    };
    if stops.iter().any(|stop| stop.is_empty() || stop.len() > STOP_BYTES_MAX) {
        return Err(Refusal::invalid("stop", &format!("a stop text has 1 to {STOP_BYTES_MAX} bytes")));
    }
    Ok(stops)
}
