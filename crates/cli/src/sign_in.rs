//! What `gregal login` leaves behind: a short key and what renews it, in a file of the user's own (0600), one a cloud.

use std::{
    fs::{self, File},
    io::Write as _,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::PathBuf,
};

use gregal_api::token::{CLI_CLIENT_ID, TokenAnswer};
use gregal_core::time::Time;
use serde::{Deserialize, Serialize};

use crate::{
    failure::Failure,
    login::{Answer, send},
    options::Options,
    surroundings::Surroundings,
};

/// A key that works for less than this is renewed first, in seconds.
const NEARLY_OVER_S: i64 = 60;

/// The file of one cloud.
#[derive(Debug)]
pub(crate) struct Kept {
    path: PathBuf,
    url: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    url: String,
    access_token: String,
    expires_at: Time,
    refresh_token: String,
}

impl Kept {
    /// Where the sign-in at a cloud is kept.
    pub(crate) fn of(here: &Surroundings, url: &str) -> Result<Self, Failure> {
        let folder = here.state_dir.clone().ok_or_else(|| {
            Failure::yours("there is no folder to keep a sign-in in").hint("set `HOME` or `XDG_STATE_HOME`")
        })?;
        let url = url.trim_end_matches('/').to_owned();
        let name: String =
            url.chars().map(|c| if c.is_ascii_alphanumeric() || ".-".contains(c) { c } else { '_' }).collect();
        Ok(Self { path: folder.join("sign-in").join(format!("{name}.json")), url })
    }

    fn failed(&self, error: &std::io::Error) -> Failure {
        Failure::yours(format!("could not use `{}`: {error}", self.path.display()))
    }

    fn read(&self) -> Result<Option<Written>, Failure> {
        match fs::read(&self.path) {
            Ok(bytes) => {
                let damaged = || {
                    Failure::yours(format!("`{}` is damaged", self.path.display()))
                        .hint("`gregal login` writes it anew")
                };
                let written: Written = serde_json::from_slice(&bytes).map_err(|_| damaged())?;
                // Two addresses may share a file's name; a credential goes only where it came from.
                Ok(Some(written).filter(|written| written.url == self.url))
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.failed(&error)),
        }
    }

    /// What renews the key.
    pub(crate) fn refresh_token(&self) -> Result<Option<String>, Failure> {
        Ok(self.read()?.map(|written| written.refresh_token))
    }

    /// Keeps what was given; whole or not at all, and for nobody else's eyes.
    pub(crate) fn write(&self, here: &Surroundings, given: &TokenAnswer) -> Result<(), Failure> {
        let written = Written {
            url: self.url.clone(),
            access_token: given.access_token.clone(),
            expires_at: here.world.now().plus_seconds(i64::from(given.expires_in)),
            refresh_token: given.refresh_token.clone(),
        };
        let text = serde_json::to_vec(&written).map_err(|_| Failure::ours("a sign-in could not be written"))?;
        let fresh = self.path.with_extension("new");
        let put = || -> std::io::Result<()> {
            if let Some(folder) = self.path.parent() {
                fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
            }
            // A leftover of a crash may have another mode.
            match fs::remove_file(&fresh) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&fresh)?;
            file.write_all(&text)?;
            file.sync_all()?;
            fs::rename(&fresh, &self.path)
        };
        put().map_err(|error| self.failed(&error))
    }

    /// Forgets the sign-in.
    pub(crate) fn remove(&self) -> Result<(), Failure> {
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(self.failed(&error)),
            _ => Ok(()),
        }
    }

    /// One renewal at a time: a refresh credential works once, and two verbs that renew at once would look like a thief.
    async fn locked(&self) -> Result<File, Failure> {
        let path = self.path.with_extension("lock");
        let locked = tokio::task::spawn_blocking(move || -> std::io::Result<File> {
            let file = fs::OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path)?;
            file.lock()?;
            Ok(file)
        });
        let locked = locked.await.map_err(|_| Failure::ours("a lock could not be waited for"))?;
        locked.map_err(|error| self.failed(&error))
    }
}

/// Acts with the sign-in that is kept, where no key was given; renews it first if it is nearly over.
pub(crate) async fn act_with(here: &Surroundings, options: &mut Options) -> Result<(), Failure> {
    if options.key.as_ref().and_then(|key| key.reveal()).is_some() || here.state_dir.is_none() {
        return Ok(());
    }
    let kept = Kept::of(here, &options.url)?;
    if kept.read()?.is_none() {
        return Ok(());
    }
    let lock = kept.locked().await?;
    let Some(written) = kept.read()? else { return Ok(()) };
    if here.world.now().plus_seconds(NEARLY_OVER_S) < written.expires_at {
        options.key = written.access_token.parse().ok();
        return Ok(());
    }
    if written.refresh_token.is_empty() {
        kept.remove()?;
        return Err(Failure::yours("the key that was exchanged for a token is over")
            .hint("`gregal login --token-file` exchanges a new token"));
    }
    let fields =
        [("grant_type", "refresh_token"), ("client_id", CLI_CLIENT_ID), ("refresh_token", &*written.refresh_token)];
    match send::<TokenAnswer>(&options.url, "token_create", &fields).await? {
        Answer::Given(given) => {
            kept.write(here, &given)?;
            options.key = given.access_token.parse().ok();
        }
        Answer::Refused(word) if word == "invalid_grant" => {
            kept.remove()?;
            return Err(Failure::yours("the sign-in has ended").hint("`gregal login` signs in again"));
        }
        Answer::Refused(word) => return Err(Failure::yours(format!("the sign-in could not be renewed: {word}"))),
    }
    drop(lock);
    Ok(())
}
