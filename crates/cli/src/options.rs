//! Options that every client verb takes.

use std::{convert::Infallible, fmt, str::FromStr};

use clap::Args;

/// Where the cloud is, who asks, and how the answer is wanted.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Cloud")]
pub struct Options {
    /// Address of the control plane
    #[arg(long, env = "GREGAL_URL", default_value = "http://127.0.0.1:7480", hide_env_values = true, global = true)]
    pub url: String,
    /// The key to act with; safer in the environment than on the command line
    #[arg(long, env = "GREGAL_KEY", hide_env_values = true, global = true)]
    pub key: Option<Secret>,
    /// Project, by name or id; found by itself where there is only one
    #[arg(long, env = "GREGAL_PROJECT", hide_env_values = true, global = true)]
    pub project: Option<String>,
    /// Organisation, by name or id; found by itself from the key
    #[arg(long, env = "GREGAL_ORGANISATION", hide_env_values = true, global = true)]
    pub organisation: Option<String>,
    /// Print data as JSON on stdout
    #[arg(long, global = true)]
    pub json: bool,
}

/// A credential: it can be sent, and shows itself nowhere.
#[derive(Clone)]
pub struct Secret(String);

impl Secret {
    /// The text to send; none if it is blank, as an unset variable often is.
    pub fn reveal(&self) -> Option<&str> {
        Some(self.0.trim()).filter(|text| !text.is_empty())
    }
}

impl FromStr for Secret {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[hidden]")
    }
}
