//! A key that is revoked while it is used, with both planes real and a wire between them: control knows at once, a site
//! with its next word, and a site that is cut off not before the wire is mended or its belief ends.

use std::time::Duration;

use gregal_api::{
    client::{Client, Error},
    grant::{GrantCreate, GrantCreated, GrantPurpose},
    key::{KeyCreate, KeyCreated, KeyView},
};
use gregal_core::id::KeyId;
use gregal_testkit::{Chance, Cloud, Faults, Play, Tenant, until};
use serde_json::{Value, json};

use crate::deeds::Deeds;

/// How often what was refused is tried again: nothing may come back.
const TRIES: usize = 10;

/// A program with a key of its own, and a grant that the key asked for.
struct Program {
    id: KeyId,
    secret: String,
    grant: GrantCreated,
    dataset: String,
    http: reqwest::Client,
}

impl Program {
    async fn begin(cloud: &Cloud, tenant: &Tenant, name: &str, dataset: &str) -> Self {
        let wanted: KeyCreate = serde_json::from_value(json!({ "name": name, "role": "developer" })).unwrap();
        let project = tenant.project.to_string();
        let owner = cloud.client(&tenant.owner);
        let made: KeyCreated = owner.call("key_create", &[&project]).body(&wanted).send().await.unwrap();
        let secret = made.secret.unwrap();
        let wanted = GrantCreate { purpose: GrantPurpose::DatasetRead, object: dataset.into() };
        let client = cloud.client(&secret);
        let grant = client.call("grant_create", &[&project]).body(&wanted).send().await.unwrap();
        let http = gregal_testkit::http(Duration::from_secs(10));
        let program = Self { id: made.key.id, secret, grant, dataset: dataset.into(), http };
        until("the key to work at the site", async || (program.infers(cloud).await == 200).then_some(())).await;
        assert_eq!((program.asks(cloud).await, program.reads().await), (200, 200));
        program
    }

    /// At control.
    async fn asks(&self, cloud: &Cloud) -> u16 {
        match cloud.client(&self.secret).call("whoami", &[]).send::<Value>().await {
            Ok(_) => 200,
            Err(Error::Problem(problem)) => problem.status,
            Err(error) => panic!("{error}"),
        }
    }

    /// At the site's gateway.
    async fn infers(&self, cloud: &Cloud) -> u16 {
        let body = json!({ "model": "chat", "messages": [{ "role": "user", "content": "count:1" }] });
        let url = format!("{}/v1/chat/completions", cloud.site_url());
        self.http.post(url).bearer_auth(&self.secret).json(&body).send().await.unwrap().status().as_u16()
    }

    /// At the site, with the grant.
    async fn reads(&self) -> u16 {
        let url = format!("{}/content/v1/datasets/{}", self.grant.url, self.dataset);
        self.http.get(url).bearer_auth(&self.grant.grant).send().await.unwrap().status().as_u16()
    }

    async fn revoked_by(&self, owner: &Client) {
        let _: KeyView = owner.call("key_revoke", &[&self.id.to_string()]).send().await.unwrap();
    }

    /// It is shut out at the site, by key and by grant, and stays so.
    async fn is_out(&self, cloud: &Cloud) {
        until("the site to hear of it", async || (self.infers(cloud).await == 401).then_some(())).await;
        for _ in 0..TRIES {
            assert_eq!((self.infers(cloud).await, self.reads().await, self.asks(cloud).await), (401, 401, 401));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_key_opens_nothing_at_either_plane_once_the_site_has_heard() {
    let chance = Chance::new(11);
    let mut cloud = Cloud::open(&chance, Faults { lost: 0, answer_lost: 0, doubled: 0 }).await;
    cloud.stage.play(vec![Play { sim: vec!["sim:run_ms=300", "sim:exit=0"], ready: true, model: true, broken: false }]);
    let mut deeds = Deeds::begin(&cloud, chance.child("deeds")).await;
    let (tenant, dataset) = (deeds.tenant.clone(), deeds.dataset.to_string());
    let owner = cloud.client(&tenant.owner);

    let program = Program::begin(&cloud, &tenant, "leaked", &dataset).await;
    program.revoked_by(&owner).await;
    assert_eq!(program.asks(&cloud).await, 401, "control knows before it answers");
    program.is_out(&cloud).await;

    // A site that is cut off cannot know. What it believes meanwhile, it forgets with the first word it hears again.
    let program = Program::begin(&cloud, &tenant, "leaked too", &dataset).await;
    cloud.wire.cut();
    program.revoked_by(&owner).await;
    assert_eq!((program.asks(&cloud).await, program.infers(&cloud).await), (401, 200));
    cloud.wire.mend();
    program.is_out(&cloud).await;

    deeds.end(&cloud).await;
    cloud.stop().await;
}
