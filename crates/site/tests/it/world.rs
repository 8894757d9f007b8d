//! A whole site for a test: control, engine, data folder, and a process of its own that can be crashed.

use std::{path::Path, sync::Arc};

use gregal_core::world::RealWorld;
use gregal_site::{
    External, SiteOptions, Tuning,
    objects::{Keep, SiteKey, models_of, store_folder},
};
use gregal_testkit::{Plane, Stage, quick_tuning, site_started, staged_site};
use serde_json::Value;

use super::control::{FakeControl, ORG, OTHER_ORG, SITE_SECRET};

pub(crate) use gregal_testkit::until;

/// The only file of the model that is there already.
pub(crate) const MODEL_FILE: &str = "{\"max_position_embeddings\": 1000}";

fn write_model(folder: &Path) {
    std::fs::create_dir_all(folder).unwrap();
    std::fs::write(folder.join("config.json"), MODEL_FILE).unwrap();
}

/// Its digest: of its manifest.
pub(crate) fn model_digest() -> String {
    use sha2::{Digest as _, Sha256};
    let file = hex::encode(Sha256::digest(MODEL_FILE));
    hex::encode(Sha256::digest(format!("{file}  config.json\n")))
}

pub(crate) struct World {
    pub(crate) control: FakeControl,
    pub(crate) stage: Stage,
    pub(crate) folder: tempfile::TempDir,
    pub(crate) tuning: Tuning,
    pub(crate) external: Vec<External>,
}

impl World {
    pub(crate) async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let world = Self {
            control: FakeControl::start().await,
            stage: Stage::new(),
            folder,
            tuning: tuning(),
            external: Vec::new(),
        };
        world.store_model();
        world
    }

    /// Puts the model where a training of both organisations would have put it.
    fn store_model(&self) {
        let keep = self.keep();
        let model = tempfile::tempdir().unwrap();
        write_model(model.path());
        for organisation in [ORG, OTHER_ORG] {
            let stored = store_folder(&keep, &models_of(organisation), model.path()).unwrap();
            assert_eq!(stored.digest, model_digest());
        }
    }

    /// What the site keeps, seen from outside.
    pub(crate) fn keep(&self) -> Keep {
        let key = SiteKey::load(&self.folder.path().join("keys/site.key"), &RealWorld, false).unwrap();
        Keep::open(&self.folder.path().join("objects"), key, Arc::new(RealWorld)).unwrap()
    }

    pub(crate) fn options(&self, url: &str) -> SiteOptions {
        SiteOptions {
            control_url: self.control.url.clone(),
            site_secret: SITE_SECRET.into(),
            console_origin: Some("http://127.0.0.1:7480".into()),
            trusted_proxies: Vec::new(),
            tuning: self.tuning.clone(),
            external: self.external.clone(),
            ..staged_site(self.folder.path(), url, &self.stage)
        }
    }

    /// Starts the site in a runtime of its own; after a crash it waits until the old process has let go of the folder.
    pub(crate) async fn start(&self) -> Running {
        let plane = site_started(|url| self.options(url)).await;
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        Running { url: plane.url.clone(), http, plane }
    }

    /// The same, and waits until its replicas answer.
    pub(crate) async fn start_ready(&self) -> Running {
        let site = self.start().await;
        until("the endpoint to be ready", async || {
            let body =
                serde_json::json!({"model": "chat", "max_tokens": 1, "messages": [{"role": "user", "content": "bad"}]});
            (site.chat(super::control::OWNER, &body).await.status() == 400).then_some(())
        })
        .await;
        self.stage.counts.asked.store(0, std::sync::atomic::Ordering::SeqCst);
        site
    }

    /// Everything the spool's files hold right now, as text: what is durable.
    pub(crate) fn spooled(&self) -> String {
        let mut text = String::new();
        let Ok(entries) = std::fs::read_dir(self.folder.path().join("spool")) else { return text };
        for entry in entries.flatten() {
            if entry.path().extension().is_some_and(|extension| extension == "seg") {
                text += &String::from_utf8_lossy(&std::fs::read(entry.path()).unwrap_or_default());
            }
        }
        text
    }
}

fn tuning() -> Tuning {
    // Longer than any test: what speaks of tokens and jobs is not to see the time that endpoints stand.
    Tuning { replica_interval_ms: 3_600_000, ..quick_tuning() }
}

pub(crate) struct Running {
    pub(crate) url: String,
    pub(crate) http: reqwest::Client,
    plane: Plane,
}

impl Running {
    /// Ends it at once, with nothing said and nothing saved.
    pub(crate) fn crash(self) {
        self.plane.crash();
    }

    /// Stops it as Ctrl-C would.
    pub(crate) async fn stop(self) {
        self.plane.stop().await;
    }

    pub(crate) async fn chat(&self, key: u8, body: &Value) -> reqwest::Response {
        self.post("/v1/chat/completions", &super::control::secret(key), body).await
    }

    pub(crate) async fn post(&self, path: &str, credential: &str, body: &Value) -> reqwest::Response {
        self.http.post(format!("{}{path}", self.url)).bearer_auth(credential).json(body).send().await.unwrap()
    }

    pub(crate) async fn get(&self, path: &str, credential: &str) -> reqwest::Response {
        self.http.get(format!("{}{path}", self.url)).bearer_auth(credential).send().await.unwrap()
    }
}
