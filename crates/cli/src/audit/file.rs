//! The log as it was read: what an export holds and what is proved. One line for the head, one for each entry.

use std::path::Path;

use gregal_api::audit::{AuditConsistency, AuditRecord};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::proof::broken;
use crate::{failure::Failure, files};

/// What the file format is called.
pub(crate) const FORMAT: &str = "gregal-audit-v2";
/// The view that is the whole log.
pub(crate) const ALL: &str = "all";

/// What the entries are held against.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Basis {
    /// `gregal-audit-v2`.
    pub(crate) format: String,
    /// Whose view it is: an organisation's id, or `all`.
    pub(crate) view: String,
    /// The log's key, `NAME+HASH+BASE64`.
    pub(crate) log: String,
    /// The signed checkpoint that all proofs lead to, with the cosignatures of witnesses if there are any.
    pub(crate) checkpoint: String,
    /// The signed head of the organisation's view; none where the whole log was read.
    pub(crate) view_head: Option<String>,
    /// That the log begins as it was at earlier sizes.
    pub(crate) consistency: Vec<AuditConsistency>,
}

/// A log, or a view of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Log {
    #[serde(flatten)]
    pub(crate) basis: Basis,
    /// Its entries, in order.
    pub(crate) items: Vec<AuditRecord>,
}

impl Log {
    /// The export's text.
    pub(crate) fn to_text(&self) -> Result<String, Failure> {
        let mut text = written(&self.basis)? + "\n";
        for record in &self.items {
            text += &written(record)?;
            text.push('\n');
        }
        Ok(text)
    }

    /// Reads an export. Only what this program would write is read: what is not understood must not pass as understood.
    pub(crate) fn read(path: &Path) -> Result<Self, Failure> {
        let text = files::text(path)?;
        let mut lines = text.lines();
        let basis: Basis =
            line(lines.next().unwrap_or_default()).filter(|basis: &Basis| basis.format == FORMAT).ok_or_else(|| {
                Failure::yours(format!("`{}` is not an export of the audit log", path.display()))
                    .hint("`gregal audit export --out FILE` writes one")
            })?;
        let mut items = Vec::new();
        for (number, text) in lines.enumerate() {
            let record = line(text);
            items.push(record.ok_or_else(|| broken(&format!("line {} of the export is damaged", number + 2)))?);
        }
        let log = Self { basis, items };
        if log.to_text()? == text { Ok(log) } else { Err(broken("the export is cut or damaged")) }
    }
}

fn written(value: &impl Serialize) -> Result<String, Failure> {
    serde_json::to_string(value).map_err(|error| Failure::ours(format!("the log cannot be written: {error}")))
}

/// A line in its one spelling.
fn line<T: Serialize + DeserializeOwned>(text: &str) -> Option<T> {
    let value: T = serde_json::from_str(text).ok()?;
    (serde_json::to_string(&value).ok()? == text).then_some(value)
}
