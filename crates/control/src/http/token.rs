//! Tokens for command lines, in OAuth's own shapes (RFC 6749, RFC 7636, RFC 8628, RFC 7009): forms in, its errors out.

use axum::{
    Extension, Form, Json,
    body::{Body, Bytes},
    extract::{FromRequest as _, Request, State},
    http::{HeaderValue, Method, StatusCode, header},
    response::{IntoResponse as _, Response},
};
use gregal_api::{
    catalogue::Empty,
    token::{CLI_CLIENT_ID as CLIENT_ID, DeviceAnswer, DeviceAsk, TokenAnswer, TokenAsk, TokenRevoke},
};
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::{
    Control, Result,
    app::{Exchange, Exchanged, sign_in::Tokens},
    asks::{DEVICE_MAX, INTERVAL, Told},
    http::peer::Peer,
};

/// The longest that a client may call itself.
const CLIENT_NAME_MAX: usize = 80;

const EXCHANGE_GRANT: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
/// What may be exchanged (RFC 8693, 3).
const SUBJECT_TYPES: [&str; 2] = ["urn:ietf:params:oauth:token-type:jwt", "urn:ietf:params:oauth:token-type:id_token"];
const ISSUED_TYPE: &str = "urn:ietf:params:oauth:token-type:access_token";

const DEVICE_GRANT: &str = "urn:ietf:params:oauth:grant-type:device_code";

/// One of OAuth's errors.
fn refused(error: &'static str, why: &'static str) -> Response {
    let body = json!({ "error": error, "error_description": why }).to_string();
    let json = [(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-store")];
    (StatusCode::BAD_REQUEST, json, body).into_response()
}

async fn form<T: DeserializeOwned>(body: Bytes) -> std::result::Result<T, Response> {
    let mut request = Request::new(Body::from(body));
    *request.method_mut() = Method::POST;
    let kind = HeaderValue::from_static("application/x-www-form-urlencoded");
    request.headers_mut().insert(header::CONTENT_TYPE, kind);
    // Nothing of what was sent is repeated: it is secrets all over.
    let read = Form::<T>::from_request(request, &()).await;
    read.map(|Form(form)| form).map_err(|_| refused("invalid_request", "the form is not what this route takes"))
}

pub(crate) async fn device(
    State(control): State<Control>,
    Extension(peer): Extension<Peer>,
    body: Bytes,
) -> Result<Response> {
    let ask: DeviceAsk = match form(body).await {
        Ok(ask) => ask,
        Err(refusal) => return Ok(refusal),
    };
    if ask.client_id != CLIENT_ID {
        return Ok(refused("invalid_client", "there is no such client"));
    }
    // A stranger's word that a person will read: letters that say what they look like, in the order in which they stand.
    let is_plain = |c: &char| c.is_ascii_alphanumeric() || " ._-".contains(*c);
    let client: String = ask.client_name.chars().filter(is_plain).take(CLIENT_NAME_MAX).collect();
    let (mut device_code, mut entropy) = ([0; 32], [0; 32]);
    control.world().fill(&mut device_code);
    control.world().fill(&mut entropy);
    let device_code = format!("gd_{}", hex::encode(device_code));
    let now = control.world().steady();
    let Some(user_code) = control.asks().device_begin(&device_code, &entropy, client, peer.0, now) else {
        return Ok(refused("temporarily_unavailable", "too many devices wait: try again in a minute"));
    };
    let at = format!("{}/console/device", control.options().url.trim_end_matches('/'));
    Ok(Json(DeviceAnswer {
        device_code,
        verification_uri_complete: format!("{at}?code={user_code}"),
        user_code,
        verification_uri: at,
        expires_in: DEVICE_MAX.as_secs(),
        interval: INTERVAL.as_secs(),
    })
    .into_response())
}

pub(crate) async fn create(State(control): State<Control>, body: Bytes) -> Result<Response> {
    let ask: TokenAsk = match form(body).await {
        Ok(ask) => ask,
        Err(refusal) => return Ok(refusal),
    };
    if ask.grant_type == EXCHANGE_GRANT {
        return exchange(&control, &ask).await;
    }
    if ask.client_id != CLIENT_ID {
        return Ok(refused("invalid_client", "there is no such client"));
    }
    let worthless = || refused("invalid_grant", "it is worth nothing: used, expired, or for another");
    let now = control.world().steady();
    let (vouched, organisation) = match ask.grant_type.as_str() {
        "refresh_token" => {
            let tokens = control.session_refresh(&ask.refresh_token).await?;
            return Ok(tokens.map_or_else(worthless, given));
        }
        "authorization_code" => {
            match control.asks().code_redeemed(&ask.code, &ask.code_verifier, &ask.redirect_uri, now) {
                Some(granted) => granted,
                None => return Ok(worthless()),
            }
        }
        DEVICE_GRANT => match control.asks().device_asked(&ask.device_code, now) {
            Told::Granted(vouched, organisation) => (vouched, organisation),
            Told::Waits => return Ok(refused("authorization_pending", "nobody has said anything yet")),
            Told::SlowDown => return Ok(refused("slow_down", "ask five seconds less often than before")),
            Told::Refused => return Ok(refused("access_denied", "somebody said no")),
            Told::Over => return Ok(refused("expired_token", "the code is unknown, used or too old")),
        },
        _ => return Ok(refused("unsupported_grant_type", "this kind of grant is not spoken here")),
    };
    // Between the person's word and this question the membership may have ended.
    match control.session_begin_lasting(&vouched, organisation).await {
        Ok(tokens) => Ok(given(tokens)),
        Err(error) if error.problem().code == gregal_api::problem::Code::NotFound => Ok(worthless()),
        Err(error) => Err(error),
    }
}

fn given(tokens: Tokens) -> Response {
    let Tokens { key, expires_in_s, refresh } = tokens;
    Json(TokenAnswer {
        access_token: key,
        token_type: "Bearer".into(),
        expires_in: expires_in_s,
        refresh_token: refresh,
        issued_token_type: None,
    })
    .into_response()
}

/// Another system's token for a key of a service account.
async fn exchange(control: &Control, ask: &TokenAsk) -> Result<Response> {
    if !SUBJECT_TYPES.contains(&ask.subject_token_type.as_str()) {
        return Ok(refused("invalid_request", "`subject_token_type` is neither a JWT nor an identity token"));
    }
    let asked = Exchange { account: &ask.service_account, token: &ask.subject_token, scope: &ask.scope };
    Ok(match control.workload_exchange(&asked).await? {
        Exchanged::Given(key, expires_in) => Json(TokenAnswer {
            access_token: key,
            token_type: "Bearer".into(),
            expires_in,
            refresh_token: String::new(),
            issued_token_type: Some(ISSUED_TYPE.into()),
        })
        .into_response(),
        Exchanged::Worthless => refused(
            "invalid_grant",
            "the token is worth nothing to this service account; its organisation's log says why",
        ),
        Exchanged::Scope => refused("invalid_scope", "`scope` names what is no action, or more than the account may"),
        Exchanged::TooMany => refused("temporarily_unavailable", "as many keys of this service account work as may"),
    })
}

pub(crate) async fn revoke(State(control): State<Control>, body: Bytes) -> Result<Response> {
    let ask: TokenRevoke = match form(body).await {
        Ok(ask) => ask,
        Err(refusal) => return Ok(refusal),
    };
    control.session_sign_out(&ask.token).await?;
    Ok(Json(Empty {}).into_response())
}
