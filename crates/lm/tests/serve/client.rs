//! A server in this process, and a client that speaks HTTP to it over its unix socket.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use gregal_lm::serve::{self, Listen, Options};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::UnixStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::tiny;

/// Longest a state is waited for.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

pub(crate) struct Server {
    socket: PathBuf,
    stop: Option<oneshot::Sender<()>>,
    ended: JoinHandle<Result<(), serve::Error>>,
    _folder: tempfile::TempDir,
}

impl Server {
    /// Serves the tiny model as `tiny` and waits until it can answer.
    pub(crate) async fn start(set: impl FnOnce(&mut Options)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        tiny::folder(folder.path());
        let socket = folder.path().join("lm.sock");
        let mut options = Options::new(folder.path(), Listen::Unix(socket.clone()));
        options.name = Some("tiny".to_owned());
        options.context = Some(512);
        set(&mut options);
        let (stop, stopped) = oneshot::channel::<()>();
        let (tell, listening) = oneshot::channel();
        let ended = tokio::spawn(serve::run_until(options, move |at| drop(tell.send(at.to_owned())), async move {
            drop(stopped.await);
        }));
        listening.await.expect("the server listens");
        let server = Self { socket, stop: Some(stop), ended, _folder: folder };
        server.until("it is loaded", async || server.get("/health").await.0 == 200).await;
        server
    }

    /// Asks again and again until the state is there, and fails when it never is.
    pub(crate) async fn until(&self, state: &str, holds: impl AsyncFn() -> bool) {
        let start = Instant::now();
        while !holds().await {
            assert!(start.elapsed() < DEADLINE, "waited in vain until {state}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    pub(crate) fn stop(&mut self) {
        drop(self.stop.take());
    }

    pub(crate) async fn ended(self) -> Result<(), serve::Error> {
        tokio::time::timeout(DEADLINE, self.ended).await.expect("it ends").unwrap()
    }

    pub(crate) async fn send(&self, method: &str, path: &str, body: Vec<u8>) -> Response<Incoming> {
        let stream = UnixStream::connect(&self.socket).await.unwrap();
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        let request = Request::builder().method(method).uri(path).header("host", "tiny");
        let request = request.header("content-type", "application/json").body(Full::new(Bytes::from(body))).unwrap();
        sender.send_request(request).await.unwrap()
    }

    pub(crate) async fn get(&self, path: &str) -> (u16, Value) {
        json_of(self.send("GET", path, Vec::new()).await).await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        json_of(self.send("POST", path, body.to_string().into_bytes()).await).await
    }

    /// The answer to one message, with these further parameters.
    pub(crate) async fn chat(&self, text: &str, with: Value) -> Value {
        let (status, answer) = self.post("/v1/chat/completions", &chat(text, with)).await;
        assert_eq!(status, 200, "{answer}");
        answer
    }

    /// All events of a streamed answer; the last is `[DONE]`, left out here.
    pub(crate) async fn stream(&self, path: &str, body: &Value) -> Vec<Value> {
        let response = self.send("POST", path, body.to_string().into_bytes()).await;
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        events(&response.into_body().collect().await.unwrap().to_bytes())
    }
}

/// A request for a chat completion.
#[expect(clippy::needless_pass_by_value, reason = "calls read better")]
pub(crate) fn chat(text: &str, with: Value) -> Value {
    let mut body = json!({"model": "tiny", "messages": [{"role": "user", "content": text}], "max_tokens": 24});
    for (name, value) in with.as_object().unwrap() {
        body[name] = value.clone();
    }
    body
}

pub(crate) fn events(bytes: &[u8]) -> Vec<Value> {
    let text = std::str::from_utf8(bytes).unwrap();
    let mut events: Vec<_> = text.split_terminator("\n\n").collect();
    assert_eq!(events.pop(), Some("data: [DONE]"), "{text}");
    events.iter().map(|event| serde_json::from_str(event.strip_prefix("data: ").unwrap()).unwrap()).collect()
}

pub(crate) fn text(answer: &Value) -> &str {
    answer["choices"][0]["message"]["content"].as_str().unwrap()
}

async fn json_of(response: Response<Incoming>) -> (u16, Value) {
    let status = response.status().as_u16();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, serde_json::from_slice(&body).unwrap())
}
