//! Settings: the built-in file, then the operator's file, then the environment, then flags. Read loosely, checked
//! strictly; an unknown key is refused with the nearest known one.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use gregal_core::{network::Network, reservation::CLEAN_MS_MAX, residency::Jurisdiction, support::SUPPORT_S_MAX};
use serde::Deserialize;
use toml::{Table, Value};

use crate::invoicing::InvoiceSettings;

/// The defaults, and the manual.
pub(crate) const DEFAULTS: &str = include_str!("default.toml");
/// What every environment variable of ours begins with.
const ENVIRONMENT: &str = "GREGAL_";
/// Variables of ours that are no settings: they speak to the client verbs, and those of `GREGAL_TEST_` to tests.
const NOT_SETTINGS: [&str; 5] = ["GREGAL_CONFIG", "GREGAL_URL", "GREGAL_KEY", "GREGAL_PROJECT", "GREGAL_ORGANISATION"];

/// Flags that change settings, shared by `up`, `tour` and `config`.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct SettingsArgs {
    /// Read settings from this file
    #[arg(long, value_name = "FILE", env = "GREGAL_CONFIG")]
    pub config: Option<PathBuf>,
    /// Keep everything in this folder
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Address of the API and the console, e.g. 127.0.0.1:0 for a free port
    #[arg(long, value_name = "ADDRESS")]
    pub control_listen: Option<String>,
    /// Address of the gateway and the site's content
    #[arg(long, value_name = "ADDRESS")]
    pub site_listen: Option<String>,
    /// Change any setting: --set site.name=paris-1
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub set: Vec<String>,
}

/// Settings, checked.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Settings {
    pub data_dir: PathBuf,
    pub control: ControlSettings,
    pub invoice: InvoiceSettings,
    pub identity: IdentitySettings,
    pub site: SiteSettings,
    pub engine: EngineSettings,
    pub access: AccessSettings,
    pub log: LogSettings,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ControlSettings {
    pub listen: SocketAddr,
    pub url: String,
    pub store: String,
    pub seller: Jurisdiction,
    pub origin: String,
    pub prices: Prices,
    pub tls: Tls,
    pub clean_s: u32,
}

/// Who vouches for people.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct IdentitySettings {
    pub private_providers: PrivateProviders,
    pub provider: Vec<ProviderSettings>,
}

/// Whether providers may stand inside our own network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum PrivateProviders {
    No,
    YesOnMyNetwork,
}

/// A provider for everybody whose domain has none of its own.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ProviderSettings {
    pub name: String,
    pub issuer: String,
    pub client_id: String,
    #[serde(default)]
    pub client_secret_file: Option<PathBuf>,
}

/// The first price book of a new cloud.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Prices {
    Standard,
    Demonstration,
}

/// Who ends TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Tls {
    OffForLoopbackOnly,
    BehindProxy,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SiteSettings {
    pub listen: SocketAddr,
    pub url: String,
    pub name: String,
    pub jurisdiction: Jurisdiction,
    pub operator_name: String,
    pub operator_jurisdiction: Jurisdiction,
    pub operator_parent_jurisdiction: Jurisdiction,
    pub certifications: Vec<String>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct EngineSettings {
    pub weaker_isolation: WeakerIsolation,
    pub cpus_milli: u32,
    pub memory_mib: u64,
    pub milliwatts_per_core: u32,
    pub visible: Vec<PathBuf>,
    pub external: Vec<ExternalSettings>,
}

/// A server of the `OpenAI` API that Gregal did not start.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ExternalSettings {
    pub name: String,
    pub address: SocketAddr,
    pub model: String,
    pub context: u64,
    pub price_item: String,
    pub jurisdiction: Jurisdiction,
    #[serde(default = "health")]
    pub health: String,
    #[serde(default = "requests_max")]
    pub requests_max: usize,
}

fn health() -> String {
    "/v1/models".into()
}

const fn requests_max() -> usize {
    256
}

impl ExternalSettings {
    fn check(&self, site: &SiteSettings) -> Result<()> {
        let name = &self.name;
        ensure!(
            is_loopback(self.address.ip()),
            "`engine.external` `{name}` is at {}, and what tenants ask would cross a network in the clear\n\nhint: put what \
             ends TLS to it on 127.0.0.1",
            self.address
        );
        ensure!(
            self.jurisdiction == site.jurisdiction,
            "`engine.external` `{name}` stands under the law of {}, and this site under that of {}\n\nhint: register a site of \
             its own for it: residency is decided by site",
            self.jurisdiction,
            site.jurisdiction
        );
        ensure!(
            !name.is_empty() && self.context > 0 && self.requests_max > 0 && self.health.starts_with('/'),
            "`engine.external` `{name}`: it needs a name, a context and requests of at least 1, and a path for its health"
        );
        ensure!(
            !self.health.contains(|one: char| one.is_whitespace() || one.is_control()),
            "`engine.external` `{name}`: its `health` is no path"
        );
        Ok(())
    }
}

/// Who gets in, from where.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AccessSettings {
    pub trusted_proxies: Vec<Network>,
    pub support_s_max: u32,
    pub keys_believed_s: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum WeakerIsolation {
    No,
    YesIAcceptWeakerIsolation,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LogSettings {
    pub level: String,
    pub format: LogFormat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum LogFormat {
    Text,
    Json,
}

/// Settings and where each value came from.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub settings: Settings,
    /// Dotted key to (value as TOML, origin).
    pub origins: BTreeMap<String, (String, String)>,
}

/// Loads settings from all four places.
pub(crate) fn load(flags: &SettingsArgs, environment: impl Iterator<Item = (String, String)>) -> Result<Loaded> {
    let mut layers = Layers::new()?;
    if let Some(path) = &flags.config {
        layers.file(path)?;
    }
    layers.environment(environment)?;
    layers.flags(flags)?;
    layers.finish()
}

/// Known keys with their value so far and where it came from.
struct Layers {
    known: BTreeMap<String, (Value, String)>,
}

impl Layers {
    fn new() -> Result<Self> {
        let defaults: Table = DEFAULTS.parse().context("the built-in settings are broken")?;
        let mut known = BTreeMap::new();
        for (key, value) in flatten(&defaults) {
            known.insert(key, (value, "default".to_owned()));
        }
        Ok(Self { known })
    }

    fn set(&mut self, key: &str, value: Value, origin: &str) -> Result<()> {
        if let Some(slot) = self.known.get_mut(key) {
            *slot = (value, origin.to_owned());
            return Ok(());
        }
        match nearest(key, self.known.keys().map(String::as_str)) {
            Some(near) => bail!("{origin}: there is no setting `{key}`\n\nhint: did you mean `{near}`?"),
            None => bail!("{origin}: there is no setting `{key}`\n\nhint: `gregal config show` lists them all"),
        }
    }

    fn set_text(&mut self, key: &str, text: &str, origin: &str) -> Result<()> {
        let value = match self.known.get(key).map(|(value, _)| value) {
            Some(Value::Integer(_)) => Value::Integer(
                text.parse().with_context(|| format!("{origin}: `{key}` takes a whole number, not `{text}`"))?,
            ),
            Some(Value::Array(_)) => Value::Array(
                text.split(',')
                    .map(str::trim)
                    .filter(|part| !part.is_empty())
                    .map(|part| part.to_owned().into())
                    .collect(),
            ),
            _ => Value::String(text.to_owned()),
        };
        self.set(key, value, origin)
    }

    fn file(&mut self, path: &Path) -> Result<()> {
        let origin = path.display().to_string();
        let text =
            std::fs::read_to_string(path).with_context(|| format!("could not read the settings in `{origin}`"))?;
        let table: Table = text.parse().with_context(|| format!("`{origin}` is not valid TOML"))?;
        for (key, value) in flatten(&table) {
            self.set(&key, value, &origin)?;
        }
        Ok(())
    }

    fn environment(&mut self, variables: impl Iterator<Item = (String, String)>) -> Result<()> {
        let names: BTreeMap<String, String> = self
            .known
            .keys()
            .map(|key| (format!("{ENVIRONMENT}{}", key.replace('.', "_").to_ascii_uppercase()), key.clone()))
            .collect();
        for (name, text) in variables {
            let of_tests = name.starts_with("GREGAL_TEST_");
            if !name.starts_with(ENVIRONMENT) || of_tests || NOT_SETTINGS.contains(&name.as_str()) {
                continue;
            }
            match names.get(&name) {
                Some(key) => self.set_text(&key.clone(), &text, &name)?,
                None => match nearest(&name, names.keys().map(String::as_str)) {
                    Some(near) => bail!("the environment's `{name}` is no setting\n\nhint: did you mean `{near}`?"),
                    None => {
                        bail!("the environment's `{name}` is no setting\n\nhint: `gregal config show` lists them all")
                    }
                },
            }
        }
        Ok(())
    }

    fn flags(&mut self, flags: &SettingsArgs) -> Result<()> {
        if let Some(dir) = &flags.data_dir {
            self.set_text("data_dir", &dir.to_string_lossy(), "--data-dir")?;
        }
        if let Some(listen) = &flags.control_listen {
            self.set_text("control.listen", listen, "--control-listen")?;
        }
        if let Some(listen) = &flags.site_listen {
            self.set_text("site.listen", listen, "--site-listen")?;
        }
        for pair in &flags.set {
            let (key, text) = pair.split_once('=').with_context(|| format!("--set {pair}: expected KEY=VALUE"))?;
            self.set_text(key.trim(), text.trim(), &format!("--set {key}"))?;
        }
        Ok(())
    }

    fn finish(self) -> Result<Loaded> {
        let mut root = Table::new();
        let mut origins = BTreeMap::new();
        for (key, (value, origin)) in self.known {
            origins.insert(key.clone(), (value.to_string(), origin.clone()));
            insert(&mut root, &key, value);
        }
        let settings: Settings = Value::Table(root).try_into().map_err(|error: toml::de::Error| {
            // The message names the field; say in which layer its value stands.
            let culprit =
                origins.iter().find(|(key, _)| error.to_string().contains(key.rsplit('.').next().unwrap_or(key)));
            let place = culprit.map(|(key, (value, origin))| format!(" (`{key}` is {value}, from {origin})"));
            anyhow::anyhow!("the settings are not valid: {}{}", error.message(), place.unwrap_or_default())
        })?;
        settings.check()?;
        Ok(Loaded { settings, origins })
    }
}

impl Settings {
    fn check(&self) -> Result<()> {
        for (name, listen) in [("control.listen", self.control.listen), ("site.listen", self.site.listen)] {
            ensure!(
                is_loopback(listen.ip()) || self.control.tls == Tls::BehindProxy,
                "`{name}` is {listen}, which others can reach, and there is no TLS\n\nhint: put a proxy that ends TLS in \
                 front and say control.tls = \"behind_proxy\", or listen on 127.0.0.1"
            );
        }
        ensure!(
            self.control.clean_s <= CLEAN_MS_MAX / 1000,
            "`control.clean_s` is {}, more than a day of cleaning\n\nhint: say at most {}",
            self.control.clean_s,
            CLEAN_MS_MAX / 1000
        );
        let access = &self.access;
        ensure!(
            (1..=SUPPORT_S_MAX).contains(&access.support_s_max),
            "`access.support_s_max` is {}\n\nhint: say 1 to {SUPPORT_S_MAX}, four hours",
            access.support_s_max
        );
        ensure!(
            (60..=86_400).contains(&access.keys_believed_s),
            "`access.keys_believed_s` is {}\n\nhint: say 60 to 86400, a day: the credit a site is leased ends then too",
            access.keys_believed_s
        );
        for (at, one) in self.engine.external.iter().enumerate() {
            one.check(&self.site)?;
            ensure!(
                !self.engine.external[..at].iter().any(|before| before.name == one.name),
                "`engine.external` names `{}` twice",
                one.name
            );
        }
        ensure!(!self.site.name.trim().is_empty(), "`site.name` is empty: a site needs a name");
        ensure!(!self.control.origin.trim().is_empty(), "`control.origin` is empty: the audit log needs a name");
        Ok(())
    }
}

fn is_loopback(ip: IpAddr) -> bool {
    ip.is_loopback()
}

/// Leaves of a table by their dotted key.
fn flatten(table: &Table) -> Vec<(String, Value)> {
    let mut leaves = Vec::new();
    for (key, value) in table {
        match value {
            Value::Table(inner) => {
                leaves.extend(flatten(inner).into_iter().map(|(rest, value)| (format!("{key}.{rest}"), value)));
            }
            leaf => leaves.push((key.clone(), leaf.clone())),
        }
    }
    leaves
}

fn insert(table: &mut Table, key: &str, value: Value) {
    match key.split_once('.') {
        None => {
            table.insert(key.to_owned(), value);
        }
        Some((head, rest)) => {
            let inner = table.entry(head.to_owned()).or_insert_with(|| Value::Table(Table::new()));
            if let Value::Table(inner) = inner {
                insert(inner, rest, value);
            }
        }
    }
}

/// The known key that is spelled most like this one, if any is near (Levenshtein distance of at most a third).
fn nearest<'a>(key: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let (distance, near) = known.map(|other| (distance(key, other), other)).min()?;
    (distance <= key.len() / 3 + 1).then_some(near)
}

fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loaded(flags: &SettingsArgs, environment: &[(&str, &str)]) -> Result<Loaded> {
        load(flags, environment.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())))
    }

    #[test]
    fn flags_win_over_the_environment_and_each_value_says_where_it_came_from() {
        let flags = SettingsArgs { set: vec!["site.name=paris-1".into()], ..SettingsArgs::default() };
        let found = loaded(&flags, &[("GREGAL_SITE_NAME", "lyon-1"), ("GREGAL_ENGINE_CPUS_MILLI", "1500")]).unwrap();
        assert_eq!(found.settings.site.name, "paris-1");
        assert_eq!(found.settings.engine.cpus_milli, 1500);
        assert_eq!(found.origins["engine.cpus_milli"].1, "GREGAL_ENGINE_CPUS_MILLI");
        assert_eq!(found.origins["control.seller"].1, "default");
    }

    #[test]
    fn folders_for_jobs_are_listed_by_commas_or_as_a_list_and_none_by_default() {
        assert!(loaded(&SettingsArgs::default(), &[]).unwrap().settings.engine.visible.is_empty());
        let found = loaded(&SettingsArgs::default(), &[("GREGAL_ENGINE_VISIBLE", "/opt/venv, /opt/python")]).unwrap();
        assert_eq!(found.settings.engine.visible, [Path::new("/opt/venv"), Path::new("/opt/python")]);
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("gregal.toml");
        std::fs::write(&file, "[engine]\nvisible = [\"/opt/venv\"]\n").unwrap();
        let found = loaded(&SettingsArgs { config: Some(file), ..SettingsArgs::default() }, &[]).unwrap();
        assert_eq!(found.settings.engine.visible, [Path::new("/opt/venv")]);
    }

    #[test]
    fn an_unknown_setting_is_refused_with_the_nearest_known_one() {
        let flags = SettingsArgs { set: vec!["site.nmae=x".into()], ..SettingsArgs::default() };
        let error = loaded(&flags, &[]).unwrap_err().to_string();
        assert!(error.contains("did you mean `site.name`?"), "{error}");
        let error = loaded(&SettingsArgs::default(), &[("GREGAL_SITE_NAM", "x")]).unwrap_err().to_string();
        assert!(error.contains("GREGAL_SITE_NAME"), "{error}");
    }

    #[test]
    fn listening_where_others_can_reach_needs_the_word_for_it() {
        let open = |tls: &str| SettingsArgs {
            control_listen: Some("0.0.0.0:7480".into()),
            set: vec![format!("control.tls={tls}")],
            ..SettingsArgs::default()
        };
        assert!(loaded(&open("off_for_loopback_only"), &[]).unwrap_err().to_string().contains("behind_proxy"));
        assert!(loaded(&open("behind_proxy"), &[]).is_ok());
    }

    #[test]
    fn a_value_of_the_wrong_kind_names_its_key_and_origin() {
        let flags = SettingsArgs { set: vec!["control.seller=Francia".into()], ..SettingsArgs::default() };
        let error = loaded(&flags, &[]).unwrap_err().to_string();
        assert!(error.contains("Francia"), "{error}");
        let flags = SettingsArgs { set: vec!["engine.cpus_milli=many".into()], ..SettingsArgs::default() };
        assert!(loaded(&flags, &[]).unwrap_err().to_string().contains("--set engine.cpus_milli"));
    }
}
