//! `OpenAI`'s answers and errors, field by field. Nothing here decides anything.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::engine::Reason;

/// A request that is not answered, in `OpenAI`'s error shape.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    pub(super) message: String,
    kind: &'static str,
    pub(super) param: Option<String>,
    pub(super) code: Option<&'static str>,
    retry_after_s: Option<u32>,
}

impl Refusal {
    fn new(status: StatusCode, kind: &'static str, message: String) -> Self {
        Self { status, message, kind, param: None, code: None, retry_after_s: None }
    }

    fn bad(message: String) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_request_error", message)
    }

    pub(super) fn body(message: &str) -> Self {
        Self::bad(message.to_owned())
    }

    pub(super) fn missing(param: &str) -> Self {
        let message = format!("you must provide `{param}`");
        Self { param: Some(param.to_owned()), code: Some("missing_required_parameter"), ..Self::bad(message) }
    }

    pub(super) fn invalid(param: &str, why: &str) -> Self {
        let message = format!("invalid value for `{param}`: {why}");
        Self { param: Some(param.to_owned()), code: Some("invalid_value"), ..Self::bad(message) }
    }

    pub(super) fn unsupported(param: &str, why: &str) -> Self {
        let message = format!("unsupported `{param}`: {why}");
        Self { param: Some(param.to_owned()), code: Some("unsupported_parameter"), ..Self::bad(message) }
    }

    pub(super) fn unknown(param: &str) -> Self {
        let message = format!("unrecognized request argument supplied: `{param}`");
        Self { param: Some(param.to_owned()), code: Some("unknown_parameter"), ..Self::bad(message) }
    }

    pub(super) fn too_long(context: usize, prompt: usize, answer: Option<usize>, param: &str) -> Self {
        let asked = match answer {
            Some(answer) => format!("{} tokens ({prompt} in the prompt, {answer} for the answer)", prompt + answer),
            None => format!("a prompt of {prompt} tokens, which leaves no room for an answer"),
        };
        let message = format!("this model's maximum context length is {context} tokens, you requested {asked}");
        Self { param: Some(param.to_owned()), code: Some("context_length_exceeded"), ..Self::bad(message) }
    }

    pub(super) fn no_model(name: &str) -> Self {
        let message = format!("the model `{name}` does not exist");
        let refusal = Self::new(StatusCode::NOT_FOUND, "invalid_request_error", message);
        Self { param: Some("model".to_owned()), code: Some("model_not_found"), ..refusal }
    }

    pub(super) fn no_route(message: &str, status: StatusCode) -> Self {
        Self { code: Some("unknown_url"), ..Self::new(status, "invalid_request_error", message.to_owned()) }
    }

    pub(super) fn too_large(bytes_max: usize) -> Self {
        let message = format!("the body is larger than {bytes_max} bytes");
        let refusal = Self::new(StatusCode::PAYLOAD_TOO_LARGE, "invalid_request_error", message);
        Self { code: Some("request_too_large"), ..refusal }
    }

    /// Not now: the server is loading, full, or going down.
    pub(super) fn later(code: &'static str, message: &str, retry_after_s: u32) -> Self {
        let refusal = Self::new(StatusCode::SERVICE_UNAVAILABLE, "server_error", message.to_owned());
        Self { code: Some(code), retry_after_s: Some(retry_after_s), ..refusal }
    }

    pub(super) fn fault() -> Self {
        let message = "the server had an error while answering".to_owned();
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "server_error", message)
    }

    /// The error object, also sent inside a stream that has begun.
    pub(super) fn json(&self) -> Value {
        json!({"error": {"message": self.message, "type": self.kind, "param": self.param, "code": self.code}})
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response = (self.status, axum::Json(self.json())).into_response();
        if let Some(seconds) = self.retry_after_s {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

/// What all parts of one answer have in common.
#[derive(Debug, Clone)]
pub(super) struct Head {
    pub(super) id: String,
    pub(super) created: u64,
    pub(super) model: String,
    pub(super) chat: bool,
    pub(super) prompt_tokens: usize,
    /// Whether chunks speak of usage.
    pub(super) include_usage: bool,
}

fn finish_reason(reason: Reason) -> &'static str {
    match reason {
        Reason::Stop => "stop",
        Reason::Length => "length",
    }
}

impl Head {
    fn usage(&self, tokens: usize) -> Value {
        json!({
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": tokens,
            "total_tokens": self.prompt_tokens + tokens,
            "prompt_tokens_details": {"cached_tokens": 0},
        })
    }

    /// A whole answer.
    pub(super) fn whole(&self, text: &str, reason: Reason, tokens: usize) -> Value {
        let reason = finish_reason(reason);
        let (object, choice) = if self.chat {
            let message = json!({"role": "assistant", "content": text, "refusal": null});
            ("chat.completion", json!({"index": 0, "message": message, "logprobs": null, "finish_reason": reason}))
        } else {
            ("text_completion", json!({"text": text, "index": 0, "logprobs": null, "finish_reason": reason}))
        };
        json!({
            "id": self.id,
            "object": object,
            "created": self.created,
            "model": self.model,
            "choices": [choice],
            "usage": self.usage(tokens),
        })
    }

    /// The first chunk of a streamed chat: who speaks.
    pub(super) fn opening(&self) -> Option<Value> {
        self.chat.then(|| self.chunk(&json!({"role": "assistant", "content": "", "refusal": null}), "", None))
    }

    /// A piece of the answer.
    pub(super) fn piece(&self, text: &str) -> Value {
        self.chunk(&json!({"content": text}), text, None)
    }

    /// The last chunk with a choice: why it ended.
    pub(super) fn ending(&self, reason: Reason) -> Value {
        self.chunk(&json!({}), "", Some(finish_reason(reason)))
    }

    /// The chunk that only counts, when asked for.
    pub(super) fn counting(&self, tokens: usize) -> Option<Value> {
        self.include_usage.then(|| self.around(&json!([]), self.usage(tokens)))
    }

    fn chunk(&self, delta: &Value, text: &str, reason: Option<&str>) -> Value {
        let choice = if self.chat {
            json!({"index": 0, "delta": delta, "logprobs": null, "finish_reason": reason})
        } else {
            json!({"text": text, "index": 0, "logprobs": null, "finish_reason": reason})
        };
        self.around(&json!([choice]), Value::Null)
    }

    fn around(&self, choices: &Value, usage: Value) -> Value {
        let object = if self.chat { "chat.completion.chunk" } else { "text_completion" };
        let mut chunk = json!({
            "id": self.id,
            "object": object,
            "created": self.created,
            "model": self.model,
            "choices": choices,
        });
        if self.include_usage {
            chunk["usage"] = usage;
        }
        chunk
    }
}

/// One model, as `/v1/models` lists it.
pub(super) fn model(name: &str, created: u64, context: usize) -> Value {
    json!({"id": name, "object": "model", "created": created, "owned_by": "gregal", "context_length": context})
}
