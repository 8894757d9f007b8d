//! `gregal login` and `gregal logout`: a person lets this command line act for them, in a browser here (loopback redirect,
//! RFC 8252 with PKCE) or on any other machine (device code, RFC 8628).

use std::{
    collections::BTreeMap,
    io::Read as _,
    path::{Path, PathBuf},
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use clap::Args;
use gregal_api::{
    routes::route,
    token::{CLI_CLIENT_ID, DeviceAnswer, TokenAnswer},
};
use serde::de::DeserializeOwned;
use sha2::{Digest as _, Sha256};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

use crate::{context::Cx, failure::Failure, options::Options, sign_in::Kept, surroundings::Surroundings};

/// The longest first line of a browser's request that is read, in bytes.
const LINE_BYTES_MAX: usize = 8 << 10;
/// How much less often a device asks once it is told to slow down (RFC 8628, 3.5).
const SLOWER: Duration = Duration::from_secs(5);
/// The most that is read of a token, in bytes: more than the cloud takes.
const TOKEN_BYTES_MAX: u64 = 32 << 10;
const EXCHANGE_GRANT: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
const DEVICE_GRANT: &str = "urn:ietf:params:oauth:grant-type:device_code";

#[derive(Debug, Args)]
pub struct LoginArgs {
    #[command(flatten)]
    pub(crate) options: Options,
    /// Show a code to be entered in a browser on any machine, for where there is none here
    #[arg(long)]
    device: bool,
    /// A file with another system's token, such as a CI's, to be exchanged for a key of 15 minutes; `-` reads it from stdin
    #[arg(long, env = "GREGAL_TOKEN_FILE", value_name = "FILE", hide_env_values = true, requires = "service_account", conflicts_with = "device")]
    token_file: Option<PathBuf>,
    /// The id of the service account that trusts the token's issuer
    #[arg(long, env = "GREGAL_SERVICE_ACCOUNT", value_name = "ACCOUNT_ID", hide_env_values = true)]
    service_account: Option<String>,
}

#[derive(Debug, Args)]
pub struct LogoutArgs {
    #[command(flatten)]
    pub(crate) options: Options,
}

/// What a token route answers.
pub(crate) enum Answer<T> {
    Given(T),
    /// One of OAuth's errors, by its word.
    Refused(String),
}

/// Sends a form to a route.
pub(crate) async fn send<T: DeserializeOwned>(
    url: &str,
    id: &str,
    fields: &[(&str, &str)],
) -> Result<Answer<T>, Failure> {
    let path = route(id).map(|route| route.path).unwrap_or_default();
    let body: Vec<String> = fields.iter().map(|(name, value)| format!("{name}={}", escaped(value))).collect();
    // The typed client chooses the process's cryptography as it is made; a bare one must not come before it.
    drop(gregal_api::client::Client::new(url, None)?);
    let client = reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .timeout(Duration::from_secs(30))
        .build()
        .map_err(|error| Failure::unreachable(url, &error))?;
    let sent = client
        .post(format!("{}{path}", url.trim_end_matches('/')))
        .header("content-type", "application/x-www-form-urlencoded")
        .body(body.join("&"))
        .send()
        .await
        .map_err(|error| Failure::unreachable(url, &error))?;
    let good = sent.status().is_success();
    let bytes = sent.bytes().await.map_err(|error| Failure::unreachable(url, &error))?;
    let strange = || Failure::ours("the cloud's answer is not what the contract says");
    if good {
        return serde_json::from_slice(&bytes).map(Answer::Given).map_err(|_| strange());
    }
    let told: serde_json::Value = serde_json::from_slice(&bytes).map_err(|_| strange())?;
    told["error"].as_str().map(|word| Answer::Refused(word.to_owned())).ok_or_else(strange)
}

fn escaped(text: &str) -> String {
    let mut escaped = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            let _ = std::fmt::Write::write_fmt(&mut escaped, format_args!("%{byte:02X}"));
        }
    }
    escaped
}

pub(crate) async fn login(args: LoginArgs, here: &mut Surroundings) -> Result<(), Failure> {
    here.printer.want_json(args.options.json);
    let kept = Kept::of(here, &args.options.url)?;
    let url = args.options.url.clone();
    let given = match (&args.token_file, &args.service_account) {
        (Some(file), Some(account)) => by_token(here, &url, file, account).await?,
        _ if args.device => by_device(here, &url).await?,
        _ => by_loopback(here, &url).await?,
    };
    kept.write(here, &given)?;
    let mut options = args.options;
    options.key = given.access_token.parse().ok();
    let mut cx = Cx::open(options, here)?;
    let who = cx.whoami().await?;
    let place = who.key.organisation.map(|organisation| organisation.to_string()).unwrap_or_default();
    cx.printer().note(&format!("signed in for {place} as {}; `gregal logout` ends it", who.key.role.as_str()));
    crate::whoami::run(&mut cx).await
}

pub(crate) async fn logout(args: LogoutArgs, here: &mut Surroundings) -> Result<(), Failure> {
    let kept = Kept::of(here, &args.options.url)?;
    let Some(refresh) = kept.refresh_token()? else {
        here.printer.note("nobody is signed in here");
        return Ok(());
    };
    // What a token was exchanged for ends by itself, within minutes.
    if refresh.is_empty() {
        kept.remove()?;
        here.printer.note("the key is forgotten here, and ends by itself within 15 minutes");
        return Ok(());
    }
    match send::<serde_json::Value>(&args.options.url, "token_revoke", &[("token", &refresh)]).await? {
        Answer::Given(_) => {}
        Answer::Refused(word) => return Err(Failure::ours(format!("the cloud did not sign out: {word}"))),
    }
    kept.remove()?;
    here.printer.note("signed out");
    Ok(())
}

/// Exchanges another system's token (RFC 8693). There is nothing that renews what it gives: a CI gets a new token itself.
async fn by_token(here: &mut Surroundings, url: &str, file: &Path, account: &str) -> Result<TokenAnswer, Failure> {
    let unread = |error: std::io::Error| Failure::yours(format!("could not read `{}`: {error}", file.display()));
    let mut token = String::new();
    if file == Path::new("-") {
        (&mut here.input).take(TOKEN_BYTES_MAX).read_to_string(&mut token).map_err(unread)?;
    } else {
        let opened = std::fs::File::open(file).map_err(unread)?;
        opened.take(TOKEN_BYTES_MAX).read_to_string(&mut token).map_err(unread)?;
    }
    let fields = [
        ("grant_type", EXCHANGE_GRANT),
        ("subject_token_type", "urn:ietf:params:oauth:token-type:jwt"),
        ("subject_token", token.trim()),
        ("service_account", account),
    ];
    match send(url, "token_create", &fields).await? {
        Answer::Given(given) => Ok(given),
        Answer::Refused(word) => Err(Failure::yours(format!("the cloud did not take the token: {word}"))
            .hint("the organisation's audit log says why (`gregal audit list`); `gregal service-account show` shows what is trusted")),
    }
}

fn random(here: &Surroundings) -> String {
    let mut bytes = [0; 32];
    here.world.fill(&mut bytes);
    hex::encode(bytes)
}

async fn by_loopback(here: &mut Surroundings, url: &str) -> Result<TokenAnswer, Failure> {
    let closed = |error: std::io::Error| Failure::yours(format!("could not listen on this machine: {error}"));
    let listener = TcpListener::bind("127.0.0.1:0").await.map_err(closed)?;
    let redirect = format!("http://{}/callback", listener.local_addr().map_err(closed)?);
    let (verifier, state) = (random(here), random(here));
    let challenge = BASE64.encode(Sha256::digest(verifier.as_bytes()));
    let place = format!(
        "{}/console/cli?response_type=code&client_id={CLI_CLIENT_ID}&redirect_uri={}&state={state}\
         &code_challenge={challenge}&code_challenge_method=S256",
        url.trim_end_matches('/'),
        escaped(&redirect)
    );
    here.printer.note(&format!(
        "open this address in a browser on this machine:\n\n  {place}\n\nno browser here? `gregal login --device`"
    ));
    let waited = tokio::time::timeout(here.patience, returned(&listener, &state)).await;
    let code = waited.map_err(|_| Failure::yours("nobody came back in time").hint("run `gregal login` again"))??;
    let fields = [
        ("grant_type", "authorization_code"),
        ("client_id", CLI_CLIENT_ID),
        ("code", &code),
        ("code_verifier", &verifier),
        ("redirect_uri", &redirect),
    ];
    match send(url, "token_create", &fields).await? {
        Answer::Given(given) => Ok(given),
        Answer::Refused(word) => Err(Failure::yours(format!("the cloud did not sign in: {word}"))),
    }
}

/// Waits for the browser to come back with our own state; whatever else knocks is told that there is nothing.
async fn returned(listener: &TcpListener, state: &str) -> Result<String, Failure> {
    loop {
        let Ok((mut stream, _)) = listener.accept().await else { continue };
        // One that connects and says nothing must not keep the browser out.
        let line = tokio::time::timeout(Duration::from_secs(5), first_line(&mut stream)).await.unwrap_or_default();
        let found = query_of(&line).filter(|query| query.get("state").is_some_and(|sent| sent == state));
        let code = found.and_then(|query| query.get("code").cloned());
        let (status, words) = match &code {
            Some(_) => ("200 OK", "Signed in. You can close this page and go back to the command line."),
            None => ("404 Not Found", "There is nothing here."),
        };
        let answer = format!(
            "HTTP/1.1 {status}\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: {}\r\n\
             cache-control: no-store\r\nreferrer-policy: no-referrer\r\nconnection: close\r\n\r\n{words}",
            words.len()
        );
        // A browser that did not wait for its answer is signed in all the same.
        let _ = stream.write_all(answer.as_bytes()).await;
        let _ = stream.shutdown().await;
        if let Some(code) = code {
            return Ok(code);
        }
    }
}

async fn first_line(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    let mut chunk = [0; 1024];
    while bytes.len() < LINE_BYTES_MAX && !bytes.windows(4).any(|window| window == b"\r\n\r\n") {
        match stream.read(&mut chunk).await {
            Ok(read) if read > 0 => bytes.extend_from_slice(&chunk[..read]),
            _ => break,
        }
    }
    let line = bytes.split(|byte| *byte == b'\r').next().unwrap_or_default();
    String::from_utf8_lossy(line).into_owned()
}

/// The query of `GET /callback?... HTTP/1.1`. Codes and states of ours need no unescaping.
fn query_of(line: &str) -> Option<BTreeMap<String, String>> {
    let rest = line.strip_prefix("GET /callback?")?;
    let query = rest.split(' ').next()?;
    Some(query.split('&').filter_map(|pair| pair.split_once('=')).map(|(k, v)| (k.to_owned(), v.to_owned())).collect())
}

async fn by_device(here: &mut Surroundings, url: &str) -> Result<TokenAnswer, Failure> {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let fields = [("client_id", CLI_CLIENT_ID), ("client_name", name.trim())];
    let asked: DeviceAnswer = match send(url, "device_begin", &fields).await? {
        Answer::Given(asked) => asked,
        Answer::Refused(word) => return Err(Failure::yours(format!("the cloud gave no code: {word}"))),
    };
    here.printer.note(&format!(
        "open this address in a browser on any machine:\n\n  {}\n\nand check that it shows this code: {}",
        asked.verification_uri_complete, asked.user_code
    ));
    let mut pause = Duration::from_secs(asked.interval);
    let fields = [("grant_type", DEVICE_GRANT), ("client_id", CLI_CLIENT_ID), ("device_code", &asked.device_code)];
    loop {
        tokio::time::sleep(pause.max(here.poll)).await;
        match send(url, "token_create", &fields).await? {
            Answer::Given(given) => return Ok(given),
            Answer::Refused(word) => match word.as_str() {
                "authorization_pending" => {}
                "slow_down" => pause += SLOWER,
                "access_denied" => return Err(Failure::yours("somebody said no in the console")),
                "expired_token" => {
                    return Err(Failure::yours("nobody allowed it in time").hint("run `gregal login --device` again"));
                }
                other => return Err(Failure::yours(format!("the cloud did not sign in: {other}"))),
            },
        }
    }
}
