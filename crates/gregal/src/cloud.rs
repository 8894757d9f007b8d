//! Both planes in one process on embedded defaults: a control plane, one site, the local engine and the embedded store.
//! They speak over loopback exactly as they would over a network.

use std::{
    fs,
    future::Future,
    io::Write,
    net::SocketAddr,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use axum::serve::{ListenerExt as _, TapIo};
use gregal_api::{
    client::Client,
    site::{SiteCreate, SiteCreated},
};
use gregal_control::{AccessOptions, Control, ControlOptions, IdentityOptions, ProviderOptions};
use gregal_core::{
    price,
    site::{Accelerator, Capacity, SiteOperator},
    time::Time,
    world::RealWorld,
};
use gregal_engine::{
    CpuPower, Engine,
    local::{Local, LocalOptions},
};
use gregal_site::{External, Site, SiteOptions, Tuning};
use gregal_store::{Store, StoreOptions};
use tokio::{
    net::{TcpListener, TcpStream},
    signal::unix::{Signal, SignalKind, signal},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

use crate::{
    settings::{
        ExternalSettings, IdentitySettings, Prices, PrivateProviders, ProviderSettings, Settings, WeakerIsolation,
    },
    visible,
};

/// Version of the program, as lineage and health say it.
pub(crate) const CODE_VERSION: &str = concat!("gregal ", env!("CARGO_PKG_VERSION"));
/// The first prices hold from the beginning of time: a site whose clock is behind must not report use without a price.
const BEGINNING: Time = Time::from_millis(0);
/// How long the site may take to be heard and answered by the control plane beside it.
const INTRODUCED: Duration = Duration::from_secs(30);
/// How long a drain may take before it is cut; a site gives its workloads up to 45 s of that.
const DRAIN: Duration = Duration::from_mins(1);

/// A running cloud.
pub(crate) struct Cloud {
    /// Where the API and the console are.
    pub control_url: String,
    /// Where the gateway and the site's content are.
    pub site_url: String,
    /// The operator's key, if it was made now or is kept for the tour.
    pub operator_secret: Option<String>,
    /// Protections the machine cannot give, in words.
    pub protections_missing: Vec<String>,
    stop_site: CancellationToken,
    stop_control: CancellationToken,
    site: JoinHandle<Result<()>>,
    control: JoinHandle<Result<()>>,
}

/// Whether the operator's key is written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OperatorKey {
    /// Shown once, kept nowhere.
    ShownOnce,
    /// One more is made and shown once; the others go on working.
    OneMore,
    /// Kept in the data folder, readable by its owner alone: the tour walks on after a crash.
    Kept,
}

impl Cloud {
    /// Starts both planes and waits until the site has dialled in.
    pub(crate) async fn start(settings: Settings, operator: OperatorKey) -> Result<Self> {
        let dir = prepare(&settings.data_dir)?;
        let control_listener = bind("control.listen", settings.control.listen).await?;
        let site_listener = bind("site.listen", settings.site.listen).await?;
        let control_url = url(&settings.control.url, control_listener.local_addr()?);
        let site_url = url(&settings.site.url, site_listener.local_addr()?);

        let (stop_control, stop_site) = (CancellationToken::new(), CancellationToken::new());
        let control = open_control(&settings, &dir, &control_url).await?;
        let mut operator_secret = operator_secret(&control, &dir, operator).await?;
        let control_task = serve_control(control.clone(), control_listener, stop_control.clone());

        let started = async {
            let engine = open_engine(&settings, &dir)?;
            let capacity = capacity(&settings, &engine).await?;
            let protections_missing = capacity.protections_missing.clone();
            let secret = site_secret(&settings, &dir, &control, &control_url, &mut operator_secret).await?;
            let site = Site::open(SiteOptions {
                data_dir: dir.join("site"),
                control_url: control_url.clone(),
                site_secret: secret,
                url: site_url.clone(),
                world: Arc::new(RealWorld),
                engine: Arc::new(engine),
                lm_program: vec![executable()?.to_string_lossy().into_owned(), "lm".into()],
                capacity,
                external: settings.engine.external.iter().map(external).collect(),
                core_mw: u64::from(settings.engine.milliwatts_per_core),
                code_version: CODE_VERSION.into(),
                console_origin: Some(control_url.clone()),
                trusted_proxies: settings.access.trusted_proxies.clone(),
                tuning: Tuning {
                    keys_believed_ms: u64::from(settings.access.keys_believed_s) * 1000,
                    ..Tuning::default()
                },
            })
            .await
            .context("the site could not be opened")?;
            Ok::<_, anyhow::Error>((site, protections_missing))
        }
        .await;
        let (site, protections_missing) = match started {
            Ok(started) => started,
            Err(error) => {
                stop_control.cancel();
                return Err(error);
            }
        };
        let site_task = serve_site(site.clone(), site_listener, stop_site.clone());
        if tokio::time::timeout(INTRODUCED, site.introduced()).await.is_err() {
            tracing::warn!("the site has had no word from the control plane yet; it answers nobody until then");
        }
        Ok(Self {
            control_url,
            site_url,
            operator_secret,
            protections_missing,
            stop_site,
            stop_control,
            site: site_task,
            control: control_task,
        })
    }

    /// Drains: the site first, so that its last usage still reaches control.
    pub(crate) async fn stop(self) -> Result<()> {
        self.stop_site.cancel();
        let site = tokio::time::timeout(DRAIN, self.site).await;
        self.stop_control.cancel();
        let control = tokio::time::timeout(DRAIN, self.control).await;
        for (name, ended) in [("site", site), ("control plane", control)] {
            if let Ok(joined) = ended {
                joined.with_context(|| format!("the {name} broke"))??;
            } else {
                tracing::warn!(name, "did not drain in time and was cut; nothing acknowledged is lost");
            }
        }
        Ok(())
    }
}

/// Ctrl-C and requests to end. Made before anything starts: whoever asks while the cloud is starting is heard as well, and a
/// program that inherited to ignore Ctrl-C (started in the background by a script) listens all the same.
pub(crate) struct Shutdown {
    interrupt: Signal,
    terminate: Signal,
}

impl Shutdown {
    /// Listens from now on.
    pub(crate) fn listen() -> Result<Self> {
        let listen = |kind| signal(kind).context("cannot listen for Ctrl-C and for requests to end");
        Ok(Self { interrupt: listen(SignalKind::interrupt())?, terminate: listen(SignalKind::terminate())? })
    }

    /// Resolves at the first of them since it listens, then at each further one.
    pub(crate) async fn asked(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

fn prepare(dir: &Path) -> Result<PathBuf> {
    let dir = std::path::absolute(dir).with_context(|| format!("`{}` is no path", dir.display()))?;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir).with_context(|| {
        format!("could not make the data folder `{}`\n\nhint: choose another with --data-dir", dir.display())
    })?;
    let probe = dir.join(".write-probe");
    fs::write(&probe, b"probe").and_then(|()| fs::remove_file(&probe)).with_context(|| {
        format!("cannot write to the data folder `{}`\n\nhint: make it writable, free some room, or choose another with --data-dir", dir.display())
    })?;
    Ok(dir)
}

async fn bind(setting: &str, address: SocketAddr) -> Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| {
        let flag = if setting == "control.listen" { "--control-listen" } else { "--site-listen" };
        format!("cannot listen on {address} (`{setting}`)\n\nhint: something else may use it; {flag} 127.0.0.1:0 takes a free port")
    })
}

fn url(asked: &str, bound: SocketAddr) -> String {
    if asked.is_empty() { format!("http://{bound}") } else { asked.trim_end_matches('/').to_owned() }
}

async fn open_control(settings: &Settings, dir: &Path, url: &str) -> Result<Control> {
    let address = if settings.control.store.is_empty() {
        format!("sqlite://{}", dir.join("control.sqlite").display())
    } else {
        settings.control.store.clone()
    };
    let shown = if settings.control.store.is_empty() { address.as_str() } else { "control.store" };
    let store = Store::open(StoreOptions::new(address.clone())).await.map_err(|error| {
        let hint = error.hint().map(|hint| format!("\n\nhint: {hint}")).unwrap_or_default();
        anyhow::Error::from(error).context(format!("the store at `{shown}` could not be opened{hint}"))
    })?;
    Control::open(ControlOptions {
        store,
        world: Arc::new(RealWorld),
        url: url.to_owned(),
        seller: settings.control.seller,
        invoicing: settings.invoice.invoicing(settings.control.seller)?,
        first_prices: match settings.control.prices {
            Prices::Standard => price::default_book(BEGINNING),
            Prices::Demonstration => price::demonstration_book(BEGINNING),
        },
        origin: settings.control.origin.clone(),
        code_version: CODE_VERSION.into(),
        clean_ms: settings.control.clean_s.saturating_mul(1000),
        identity: identity(&settings.identity)?,
        access: AccessOptions {
            trusted_proxies: settings.access.trusted_proxies.clone(),
            operator: Some(SiteOperator {
                name: settings.site.operator_name.clone(),
                jurisdiction: settings.site.operator_jurisdiction,
                parent_jurisdiction: settings.site.operator_parent_jurisdiction,
            }),
            support_s_max: settings.access.support_s_max,
        },
    })
    .await
    .context("the control plane could not be opened")
}

fn open_engine(settings: &Settings, dir: &Path) -> Result<Local> {
    let mut options = LocalOptions::new(executable()?, dir.join("engine"));
    options.cpu_power = CpuPower { core_mw: u64::from(settings.engine.milliwatts_per_core) };
    options.visible = visible::checked(&settings.engine.visible, dir)?;
    options.allow_weaker = settings.engine.weaker_isolation == WeakerIsolation::YesIAcceptWeakerIsolation;
    Local::open(options).context("the engine could not be opened")
}

/// Who vouches for people, with the secrets read from their files.
fn identity(settings: &IdentitySettings) -> Result<IdentityOptions> {
    let read = |provider: &ProviderSettings| -> Result<ProviderOptions> {
        let client_secret = match &provider.client_secret_file {
            None => None,
            Some(path) => {
                let why = || format!("the provider `{}` needs `{}`", provider.name, path.display());
                Some(read_secret(path)?.with_context(why)?)
            }
        };
        let (name, issuer, client_id) = (provider.name.clone(), provider.issuer.clone(), provider.client_id.clone());
        Ok(ProviderOptions { name, issuer, client_id, client_secret })
    };
    let providers = settings.provider.iter().map(read).collect::<Result<_>>()?;
    Ok(IdentityOptions { providers, private_providers: settings.private_providers == PrivateProviders::YesOnMyNetwork })
}

/// A server the operator trusts, as the site knows it.
fn external(settings: &ExternalSettings) -> External {
    let one = settings.clone();
    External {
        name: one.name,
        address: one.address,
        model: one.model,
        context: one.context,
        price_item: one.price_item,
        health: one.health,
        requests_max: one.requests_max,
    }
}

async fn capacity(settings: &Settings, engine: &Local) -> Result<Capacity> {
    let inventory = engine.inventory();
    let capabilities = engine.capabilities().await.context("the engine does not say what it can do")?;
    let all = u32::try_from(inventory.cpu.threads.saturating_mul(1000)).unwrap_or(u32::MAX);
    let ask = &settings.engine;
    Ok(Capacity {
        cpus_milli: if ask.cpus_milli == 0 { all } else { ask.cpus_milli },
        memory_bytes: if ask.memory_mib == 0 { inventory.memory_bytes } else { ask.memory_mib << 20 },
        accelerators: inventory
            .gpus
            .iter()
            .map(|gpu| Accelerator {
                uuid: gpu.uuid.clone(),
                model: gpu.model.clone(),
                memory_bytes: gpu.memory_bytes,
                // The site grants what is healthy, and the engine would refuse one that is cut into slices.
                healthy: gpu.is_grantable(),
            })
            .collect(),
        protections_missing: capabilities
            .missing_for_untrusted()
            .into_iter()
            .map(|(protection, why)| format!("{protection:?}: {why}"))
            .collect(),
        engine: "local".into(),
        shared: Vec::new(),
    })
}

/// The operator's key: made at the first start, kept only if asked to.
async fn operator_secret(control: &Control, dir: &Path, operator: OperatorKey) -> Result<Option<String>> {
    let path = dir.join("operator.key");
    if operator == OperatorKey::Kept
        && let Some(secret) = read_secret(&path)?
    {
        return Ok(Some(secret));
    }
    if operator == OperatorKey::OneMore {
        return control.operator_key_mint().await.map(Some).context("the operator's key could not be made");
    }
    let mut made = control.operator_key_ensure().await.context("the operator's key could not be made")?;
    if operator == OperatorKey::Kept {
        if made.is_none() {
            made = Some(control.operator_key_mint().await.context("the operator's key could not be made")?);
        }
        if let Some(secret) = &made {
            write_secret(&path, secret)?;
        }
    }
    Ok(made)
}

/// The secret this machine's site dials in with; the site is registered at the first start, through the API.
async fn site_secret(
    settings: &Settings,
    dir: &Path,
    control: &Control,
    control_url: &str,
    operator_secret: &mut Option<String>,
) -> Result<String> {
    let path = dir.join("site.key");
    if let Some(secret) = read_secret(&path)? {
        return Ok(secret);
    }
    let operator = match operator_secret {
        Some(secret) => secret.clone(),
        // The first start was cut after the key was shown and before the site was registered.
        None => operator_secret.insert(control.operator_key_mint().await.context("no operator's key")?).clone(),
    };
    let site = &settings.site;
    let made: SiteCreated = Client::new(control_url, Some(operator))?
        .call("site_create", &[])
        .body(&SiteCreate {
            name: site.name.clone(),
            jurisdiction: site.jurisdiction.to_string(),
            operator_name: site.operator_name.clone(),
            operator_jurisdiction: site.operator_jurisdiction.to_string(),
            operator_parent_jurisdiction: site.operator_parent_jurisdiction.to_string(),
            certifications: site.certifications.clone(),
            grid: None,
        })
        .send()
        .await
        .with_context(|| format!("the site `{}` could not be registered", site.name))?;
    let secret = made.secret.context("the site's secret was not shown")?;
    write_secret(&path, &secret)?;
    Ok(secret)
}

/// Answers leave at once: the kernel would hold small pieces back until earlier ones are acknowledged.
fn nodelay(listener: TcpListener) -> TapIo<TcpListener, fn(&mut TcpStream)> {
    listener.tap_io(|stream| {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "a connection keeps small pieces back");
        }
    })
}

fn serve_control(control: Control, listener: TcpListener, stop: CancellationToken) -> JoinHandle<Result<()>> {
    // Kind: plane. Ends only when it is told to; its failure ends the process through `Cloud::stop` or `up`.
    tokio::spawn(async move {
        let served =
            axum::serve(nodelay(listener), control.router().into_make_service_with_connect_info::<SocketAddr>())
                .with_graceful_shutdown(stop.clone().cancelled_owned());
        let (served, ()) =
            tokio::join!(bounded(served.into_future(), &stop), control.run(stop.clone().cancelled_owned()));
        served
    })
}

fn serve_site(site: Site, listener: TcpListener, stop: CancellationToken) -> JoinHandle<Result<()>> {
    // Kind: plane, as above.
    tokio::spawn(async move {
        let served = axum::serve(nodelay(listener), site.router().into_make_service_with_connect_info::<SocketAddr>())
            .with_graceful_shutdown(stop.clone().cancelled_owned());
        let (served, ()) = tokio::join!(bounded(served.into_future(), &stop), site.run(stop.clone().cancelled_owned()));
        served
    })
}

/// Serves until told to stop, then lets what is under way end within half of the drain.
async fn bounded(served: impl Future<Output = std::io::Result<()>>, stop: &CancellationToken) -> Result<()> {
    let late = async {
        stop.cancelled().await;
        tokio::time::sleep(DRAIN / 2).await;
    };
    tokio::select! {
        served = served => served.context("serving broke"),
        () = late => Ok(()),
    }
}

fn executable() -> Result<PathBuf> {
    std::env::current_exe().context("this program does not know where it lies")
}

fn read_secret(path: &Path) -> Result<Option<String>> {
    match fs::read_to_string(path) {
        Ok(text) if text.trim().is_empty() => bail!("`{}` is empty; restore it or remove it", path.display()),
        Ok(text) => Ok(Some(text.trim().to_owned())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("could not read `{}`", path.display())),
    }
}

/// Written whole or not at all: a crash never leaves half a secret.
fn write_secret(path: &Path, secret: &str) -> Result<()> {
    let fresh = path.with_extension("new");
    let write = || -> std::io::Result<()> {
        let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&fresh)?;
        file.write_all(secret.as_bytes())?;
        file.sync_all()?;
        fs::rename(&fresh, path)
    };
    write().with_context(|| format!("could not write `{}`", path.display()))
}
