//! What tenants do meanwhile, and what they were told in return.

use std::time::Duration;

use gregal_api::{
    client::{Call, Client, Error},
    dataset::{DatasetCreate, DatasetCreated, DatasetView},
    endpoint::{EndpointCreate, EndpointView},
    grant::{GrantCreate, GrantCreated, GrantPurpose},
    job::{JobCreate, JobView},
};
use gregal_core::{
    dataset::DatasetState,
    endpoint::EndpointState,
    id::{DatasetId, EndpointId, JobId, ModelId},
    job::Program,
};
use gregal_testkit::{Chance, Cloud, Tenant, until};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::task::JoinSet;

/// The most tokens one chat may write.
const TOKENS_MAX: u64 = 20;

/// An answer that was given whole, with what it says it used.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Spoken {
    pub(crate) tokens_in: u64,
    pub(crate) tokens_out: u64,
}

pub(crate) struct Deeds {
    pub(crate) tenant: Tenant,
    /// Jobs that were acknowledged.
    pub(crate) jobs: Vec<JobId>,
    /// Chats that were answered whole.
    pub(crate) spoken: Vec<Spoken>,
    pub(crate) dataset: DatasetId,
    endpoint: EndpointId,
    under_way: JoinSet<Option<Spoken>>,
    http: reqwest::Client,
    chance: Chance,
}

/// Sends a call until it is answered: as the same act, however often. A refusal is an answer, and none is expected here.
async fn sure<T: DeserializeOwned>(what: &str, mut call: impl AsyncFnMut() -> Result<T, Error>) -> T {
    until(what, async || match call().await {
        Ok(answer) => Some(answer),
        Err(Error::Unreachable { .. }) => None,
        Err(Error::Problem(problem)) if problem.status >= 500 => None,
        Err(error) => panic!("{what}: {error}"),
    })
    .await
}

fn create<'a>(client: &'a Client, tenant: &Tenant, route: &str, body: &impl serde::Serialize, once: &str) -> Call<'a> {
    client.call(route, &[&tenant.project.to_string()]).body(body).idempotency_key(once)
}

impl Deeds {
    /// Stores a dataset, trains a model and serves it, over a wire with faults.
    pub(crate) async fn begin(cloud: &Cloud, chance: Chance) -> Self {
        let tenant = cloud.tenant("Lab", 100_000).await;
        let client = cloud.client(&tenant.owner);
        let http = gregal_testkit::http(Duration::from_secs(10));
        let dataset = stored(&client, &http, &tenant).await;
        let mut deeds = Self {
            endpoint: EndpointId::from_u128(0),
            tenant,
            jobs: Vec::new(),
            spoken: Vec::new(),
            dataset,
            under_way: JoinSet::new(),
            http,
            chance,
        };
        let model = deeds.trained(cloud).await;
        let wanted: EndpointCreate =
            serde_json::from_value(json!({ "name": "chat", "model": model.to_string() })).unwrap();
        let made: EndpointView = sure("an endpoint to be made", async || {
            create(&client, &deeds.tenant, "endpoint_create", &wanted, "endpoint").send().await
        })
        .await;
        deeds.endpoint = made.id;
        deeds
    }

    async fn trained(&mut self, cloud: &Cloud) -> ModelId {
        let job = self.submit(cloud, "first").await;
        let client = cloud.client(&self.tenant.owner);
        until("the first model", async || {
            let view: JobView = client.call("job_read", &[&job.to_string()]).send().await.ok()?;
            view.model
        })
        .await
    }

    async fn submit(&mut self, cloud: &Cloud, name: &str) -> JobId {
        let program = Program::Train {
            dataset: self.dataset,
            heldout: None,
            base_model: None,
            model_name: "facts".into(),
            settings: serde_json::Map::new(),
        };
        let wanted = json!({ "name": name, "program": program, "sku": "cpu.1", "seconds_max": 60 });
        let wanted: JobCreate = serde_json::from_value(wanted).unwrap();
        let client = cloud.client(&self.tenant.owner);
        let made: JobView =
            sure("a job to be taken", async || create(&client, &self.tenant, "job_create", &wanted, name).send().await)
                .await;
        assert!(!self.jobs.contains(&made.id), "one name, one job");
        self.jobs.push(made.id);
        made.id
    }

    /// One chat that is answered, some under way that whatever breaks next may meet, a job or a cancellation.
    pub(crate) async fn round(&mut self, cloud: &Cloud, round: u32) {
        let (http, url, owner) = (self.http.clone(), cloud.site_url().to_owned(), self.tenant.owner.clone());
        let answered = until("a chat to be answered", async || chat(&http, &url, &owner, 3).await).await;
        self.spoken.push(answered);
        if self.chance.per_mille(700) {
            self.submit(cloud, &format!("round-{round}")).await;
        }
        if self.chance.per_mille(150) {
            let job = self.jobs[self.chance.below(self.jobs.len() as u64) as usize];
            let client = cloud.client(&self.tenant.owner);
            let _: JobView =
                sure("a job to be cancelled", async || client.call("job_cancel", &[&job.to_string()]).send().await)
                    .await;
        }
        for _ in 0..3 {
            let (http, url, owner) = (http.clone(), url.clone(), owner.clone());
            let count = 1 + self.chance.below(TOKENS_MAX);
            if self.chance.per_mille(300) {
                self.under_way.spawn(async move { hung_up(&http, &url, &owner).await });
            } else {
                self.under_way.spawn(async move { chat(&http, &url, &owner, count).await });
            }
        }
        if self.chance.per_mille(500)
            && let Some(ended) = self.under_way.join_next().await
        {
            self.spoken.extend(ended.unwrap());
        }
    }

    /// Lets everything come to its end.
    pub(crate) async fn end(&mut self, cloud: &Cloud) {
        while let Some(ended) = self.under_way.join_next().await {
            self.spoken.extend(ended.unwrap());
        }
        let client = cloud.client(&self.tenant.owner);
        for job in &self.jobs {
            until("every job to end", async || {
                let view: JobView = client.call("job_read", &[&job.to_string()]).send().await.unwrap();
                view.state.is_final().then_some(())
            })
            .await;
        }
        let endpoint = self.endpoint.to_string();
        let _: EndpointView = client.call("endpoint_delete", &[&endpoint]).send().await.unwrap();
        until("the endpoint to stop", async || {
            let view: EndpointView = client.call("endpoint_read", &[&endpoint]).send().await.unwrap();
            (view.state == EndpointState::Stopped).then_some(())
        })
        .await;
    }
}

/// A dataset whose bytes are at the site.
async fn stored(client: &Client, http: &reqwest::Client, tenant: &Tenant) -> DatasetId {
    let wanted = DatasetCreate { name: "facts".into(), site: Some("home".into()) };
    let made: DatasetCreated = sure("a dataset to be announced", async || {
        create(client, tenant, "dataset_create", &wanted, "dataset").send().await
    })
    .await;
    let id = made.dataset.id;
    let wanted = GrantCreate { purpose: GrantPurpose::DatasetWrite, object: id.to_string() };
    until("the dataset to be stored", async || {
        let view: DatasetView = client.call("dataset_read", &[&id.to_string()]).send().await.ok()?;
        if view.state == DatasetState::Stored {
            return Some(());
        }
        // The site may not have dialled in, or may not know of the dataset, yet.
        let call = client.call("grant_create", &[&tenant.project.to_string()]).body(&wanted);
        let grant: GrantCreated = call.send().await.ok()?;
        let url = format!("{}/content/v1/datasets/{id}", grant.url);
        drop(http.put(url).bearer_auth(&grant.grant).body("{\"prompt\":\"a\",\"completion\":\"b\"}\n").send().await);
        None
    })
    .await;
    id
}

fn question(content: &str, stream: bool) -> Value {
    json!({ "model": "chat", "max_tokens": 1000, "stream": stream, "messages": [{ "role": "user", "content": content }] })
}

/// A chat that is not streamed. None: it was not answered whole.
async fn chat(http: &reqwest::Client, url: &str, owner: &str, count: u64) -> Option<Spoken> {
    let body = question(&format!("count:{count}"), false);
    let answer = http.post(format!("{url}/v1/chat/completions")).bearer_auth(owner).json(&body).send().await.ok()?;
    if answer.status() != 200 {
        return None;
    }
    let answer: Value = answer.json().await.ok()?;
    let tokens = |name: &str| answer["usage"][name].as_u64().unwrap();
    assert_eq!(tokens("completion_tokens"), count, "{answer}");
    Some(Spoken { tokens_in: tokens("prompt_tokens"), tokens_out: tokens("completion_tokens") })
}

/// A stream whose reader goes away after the first pieces. Nothing was answered whole.
async fn hung_up(http: &reqwest::Client, url: &str, owner: &str) -> Option<Spoken> {
    let body = question("slow", true);
    let answer = http.post(format!("{url}/v1/chat/completions")).bearer_auth(owner).json(&body).send().await;
    let mut answer = answer.ok()?;
    for _ in 0..4 {
        answer.chunk().await.ok()??;
    }
    None
}
