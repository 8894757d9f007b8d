//! Errors as `OpenAI`'s clients know them: `{"error": {"message", "type", "param", "code"}}`.

use axum::{
    Json,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};

use crate::gateway::admit::Refusal;

/// A refused or failed request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ApiError {
    pub(crate) status: u16,
    kind: &'static str,
    code: String,
    param: Option<String>,
    message: String,
    retry_after_s: Option<u32>,
}

impl ApiError {
    fn new(status: u16, kind: &'static str, code: &str, message: impl Into<String>) -> Self {
        Self { status, kind, code: code.into(), param: None, message: message.into(), retry_after_s: None }
    }

    pub(crate) fn invalid(param: Option<&str>, message: impl Into<String>) -> Self {
        Self { param: param.map(str::to_owned), ..Self::new(400, "invalid_request_error", "invalid_request", message) }
    }

    pub(crate) fn unsupported(param: &str, message: impl Into<String>) -> Self {
        Self {
            param: Some(param.to_owned()),
            ..Self::new(400, "invalid_request_error", "unsupported_parameter", message)
        }
    }

    /// Whether it says that the credential does not work.
    pub(crate) fn is_of_credential(&self) -> bool {
        self.status == 401
    }

    pub(crate) fn no_key() -> Self {
        Self::new(
            401,
            "invalid_request_error",
            "invalid_api_key",
            "no API key came with the request; send `Authorization: Bearer gk_...`",
        )
    }

    pub(crate) fn bad_key() -> Self {
        Self::new(
            401,
            "invalid_request_error",
            "invalid_api_key",
            "the API key does not work here: it is unknown, revoked or expired",
        )
    }

    pub(crate) fn forbidden(message: &str) -> Self {
        Self::new(403, "invalid_request_error", "forbidden", message)
    }

    pub(crate) fn residency(rule: &str, because: &str) -> Self {
        Self::new(403, "invalid_request_error", "residency_refused", format!("refused by `{rule}`: {because}"))
    }

    pub(crate) fn model_not_found(model: &str) -> Self {
        let shown: String = model.chars().take(100).collect();
        let message = format!("the model `{shown}` does not exist or you do not have access to it");
        Self { param: Some("model".to_owned()), ..Self::new(404, "invalid_request_error", "model_not_found", message) }
    }

    pub(crate) fn quota(refusal: &Refusal) -> Self {
        Self::new(402, "insufficient_quota", "insufficient_quota", refusal.to_string())
    }

    pub(crate) fn too_large(bytes_max: usize) -> Self {
        Self::new(413, "invalid_request_error", "too_large", format!("a request's body has at most {bytes_max} bytes"))
    }

    pub(crate) fn overloaded() -> Self {
        let message = "too many requests are waiting for this model; try again in a moment";
        Self { retry_after_s: Some(1), ..Self::new(429, "rate_limit_error", "overloaded", message) }
    }

    /// Too many wrong keys came from where this one came from.
    pub(crate) fn guessing(wait_s: u32) -> Self {
        let message = "too many keys that do not work came from your address; wait, and look at the key you send";
        Self { retry_after_s: Some(wait_s), ..Self::new(429, "rate_limit_error", "overloaded", message) }
    }

    pub(crate) fn unavailable(message: &str) -> Self {
        Self { retry_after_s: Some(2), ..Self::new(503, "server_error", "unavailable", message) }
    }

    pub(crate) fn not_implemented(path: &str) -> Self {
        let shown: String = path.chars().take(100).collect();
        Self::new(501, "invalid_request_error", "not_implemented", format!("`{shown}` is not spoken here yet"))
    }

    /// What an engine that refused a request said, in our shape.
    pub(crate) fn from_engine(body: &[u8]) -> Self {
        let said: Option<Value> = serde_json::from_slice(body).ok();
        let text = |path: &str| said.as_ref().and_then(|said| said.pointer(path)).and_then(Value::as_str);
        let message = text("/error/message").unwrap_or("the model cannot take this request");
        let refused = Self::invalid(text("/error/param"), message);
        Self { code: text("/error/code").unwrap_or("invalid_request").to_owned(), ..refused }
    }

    /// The body.
    pub(crate) fn body(&self) -> Value {
        json!({"error": {"message": self.message, "type": self.kind, "param": self.param, "code": self.code}})
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, Json(self.body())).into_response();
        if let Some(seconds) = self.retry_after_s {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}
