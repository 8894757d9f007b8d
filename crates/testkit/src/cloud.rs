//! A whole cloud in one process: a control plane over a real store, a site over real HTTP, the engine with a stage on it, and
//! a wire between the two. Each plane runs in a runtime of its own and can be crashed and started again.

use std::{path::Path, sync::Arc};

use gregal_api::{
    client::Client,
    organisation::{OrganisationCreate, OrganisationCreated},
    project::{ProjectCreate, ProjectView},
    site::{SiteCreate, SiteCreated},
};
use gregal_control::{Control, ControlOptions};
use gregal_core::{
    id::{OrganisationId, ProjectId},
    price,
    site::Capacity,
    time::Time,
    world::RealWorld,
};
use gregal_site::{Error, Site, SiteOptions, Tuning, spool};
use gregal_store::{Store, StoreOptions};

use crate::{Chance, Faults, Plane, Stage, Wire, plane, until};

/// A whole cloud.
pub struct Cloud {
    /// The site's engine. It outlives a crash of the site, as a machine outlives its agent.
    pub stage: Stage,
    /// What lies between the planes.
    pub wire: Wire,
    /// The operator's key.
    pub operator: String,
    folder: tempfile::TempDir,
    site_secret: String,
    control: Option<Plane>,
    site: Option<Plane>,
}

/// An organisation with a project, and its owner's key.
#[derive(Debug, Clone)]
pub struct Tenant {
    /// Who pays.
    pub organisation: OrganisationId,
    /// Its project.
    pub project: ProjectId,
    /// The owner's key.
    pub owner: String,
}

impl Cloud {
    /// Starts both planes on an empty folder. Faults begin once the site has dialled in.
    pub async fn open(chance: &Chance, faults: Faults) -> Self {
        let mut cloud = Self {
            stage: Stage::new(),
            wire: Wire::new(chance.child("wire"), faults),
            operator: String::new(),
            folder: tempfile::tempdir().unwrap(),
            site_secret: String::new(),
            control: None,
            site: None,
        };
        cloud.operator = cloud.control_start().await.expect("a new cloud makes its operator's key");
        cloud.site_secret = cloud.site_made().await;
        cloud.site_start().await;
        cloud
    }

    async fn site_made(&self) -> String {
        let made: SiteCreated = self
            .client(&self.operator)
            .call("site_create", &[])
            .body(&SiteCreate {
                name: "home".into(),
                jurisdiction: "FR".into(),
                operator_name: "Hoster".into(),
                operator_jurisdiction: "FR".into(),
                operator_parent_jurisdiction: "FR".into(),
                certifications: Vec::new(),
                grid: None,
            })
            .send()
            .await
            .unwrap();
        made.secret.unwrap()
    }

    /// The store's address.
    pub fn store_url(&self) -> String {
        self.folder.path().join("control.sqlite").display().to_string()
    }

    /// Where control answers now.
    pub fn control_url(&self) -> &str {
        &self.control.as_ref().expect("control runs").url
    }

    /// Where the site answers now.
    pub fn site_url(&self) -> &str {
        &self.site.as_ref().expect("the site runs").url
    }

    /// A client of control with this key.
    pub fn client(&self, secret: &str) -> Client {
        Client::new(self.control_url(), Some(secret.to_owned())).unwrap()
    }

    /// Starts control over the store as it is. Gives the operator's key if it was made now.
    pub async fn control_start(&mut self) -> Option<String> {
        let (runtime, (listener, url)) = (plane::runtime(), plane::listener());
        let (store_url, control_url) = (self.store_url(), url.clone());
        let opened = runtime.spawn(async move {
            let store = Store::open(StoreOptions::new(store_url)).await.unwrap();
            let control = Control::open(ControlOptions {
                store,
                world: Arc::new(RealWorld),
                url: control_url,
                invoicing: None,
                seller: "FR".parse().unwrap(),
                first_prices: price::default_book(Time::from_millis(0)),
                origin: "audit.test.example/gregal".into(),
                code_version: "test".into(),
                clean_ms: gregal_core::reservation::CLEAN_MS_DEFAULT,
                identity: gregal_control::IdentityOptions::default(),
                access: gregal_control::AccessOptions::default(),
            })
            .await
            .unwrap();
            let operator = control.operator_key_ensure().await.unwrap();
            (control, operator)
        });
        let (control, operator) = opened.await.unwrap();
        self.wire.lead_to(&url);
        let router = control.router();
        let plane = Plane::serve(runtime, listener, url, router, |stopped| async move {
            control.run(async { drop(stopped.await) }).await;
        });
        self.control = Some(plane);
        operator
    }

    /// Ends control at once.
    pub fn control_crash(&mut self) {
        self.control.take().expect("control runs").crash();
    }

    /// Starts the site over its folder as it is, once an old process has let go of it.
    pub async fn site_start(&mut self) {
        let plane = site_started(|url| self.site_options(url)).await;
        self.site = Some(plane);
    }

    /// Ends the site at once. What its engine runs goes on.
    pub fn site_crash(&mut self) {
        self.site.take().expect("the site runs").crash();
    }

    /// Stops both planes as Ctrl-C would, the site first.
    pub async fn stop(&mut self) {
        self.site.take().expect("the site runs").stop().await;
        self.control.take().expect("control runs").stop().await;
    }

    /// Makes an organisation with a project and credit.
    pub async fn tenant(&self, name: &str, credit_cents: u32) -> Tenant {
        let wanted = serde_json::json!({ "name": name, "country": "FR", "credit_cents": credit_cents });
        let wanted: OrganisationCreate = serde_json::from_value(wanted).unwrap();
        let call = self.client(&self.operator);
        let made: OrganisationCreated = call.call("organisation_create", &[]).body(&wanted).send().await.unwrap();
        let (organisation, owner) = (made.organisation.id, made.owner_key.secret.unwrap());
        let wanted = ProjectCreate { name: "main".into() };
        let call = self.client(&owner);
        let call = call.call("project_create", &[&organisation.to_string()]).body(&wanted);
        let project: ProjectView = call.send().await.unwrap();
        Tenant { organisation, project: project.id, owner }
    }

    fn site_options(&self, url: &str) -> SiteOptions {
        let (control_url, site_secret) = (self.wire.url.clone(), self.site_secret.clone());
        SiteOptions { control_url, site_secret, ..staged_site(&self.folder.path().join("site"), url, &self.stage) }
    }
}

/// A site of four cores over a folder, on the stage. Whose it is and whom it dials is the caller's to say.
pub fn staged_site(folder: &Path, url: &str, stage: &Stage) -> SiteOptions {
    SiteOptions {
        data_dir: folder.to_owned(),
        control_url: String::new(),
        site_secret: String::new(),
        url: url.into(),
        world: Arc::new(RealWorld),
        engine: Arc::new(stage.clone()),
        lm_program: vec!["/usr/bin/gregal".into(), "lm".into()],
        capacity: Capacity {
            cpus_milli: 4_000,
            memory_bytes: 16 << 30,
            accelerators: Vec::new(),
            protections_missing: Vec::new(),
            engine: "sim".into(),
            shared: Vec::new(),
        },
        external: Vec::new(),
        core_mw: 10_000,
        code_version: "test".into(),
        console_origin: None,
        trusted_proxies: Vec::new(),
        tuning: quick_tuning(),
    }
}

/// Opens a site in a runtime of its own, once an old process has let go of its folder, and serves it. `options` is given
/// where it will answer.
pub async fn site_started(options: impl Fn(&str) -> SiteOptions) -> Plane {
    let (runtime, (listener, url)) = (plane::runtime(), plane::listener());
    let site =
        until("the site's folder to be free", async || match runtime.spawn(Site::open(options(&url))).await.unwrap() {
            Ok(site) => Some(site),
            Err(Error::InUse { .. } | Error::Spool(spool::Error::InUse)) => None,
            Err(error) => panic!("{error:?}"),
        })
        .await;
    let router = site.router();
    Plane::serve(runtime, listener, url, router, |stopped| async move {
        site.run(async { drop(stopped.await) }).await;
    })
}

/// Short intervals and short waits: more happens in less time.
pub fn quick_tuning() -> Tuning {
    Tuning {
        meter_interval_ms: 100,
        replica_interval_ms: 100,
        tick_ms: 10,
        first_token_ms_max: 5_000,
        stream_idle_ms_max: 5_000,
        sync_busy_ms: 50,
        sync_idle_ms: 200,
        retry_ms: 20,
        retry_ms_max: 100,
        silent_ms_max: 2_000,
        drain_ms_max: 2_000,
        stop_ms_max: 15_000,
        ..Tuning::default()
    }
}
