//! The audit log, checked on each page against its signed checkpoint by the same code any client uses.

use askama::Template;
use axum::response::Response;
use gregal_api::audit::AuditList;
use gregal_core::audit::AuditEntry;
use serde::Deserialize;

use super::{
    failure::Failure,
    page::{self, Here, Shell},
    visitor::{Visitor, Wanted},
    words,
};

/// Entries a page.
const PAGE: u64 = 50;

/// Which page is looked at.
#[derive(Debug, Deserialize)]
pub(crate) struct Asked {
    after: Option<u64>,
}

struct Row {
    index: u64,
    at: String,
    actor: String,
    source: String,
    action: String,
    object: String,
    result: String,
    why: String,
    facts: String,
}

#[derive(Template)]
#[template(path = "audit.html")]
struct AuditPage {
    shell: Shell,
    rows: Vec<Row>,
    /// What the checkpoint says of the log, or why it is not believed.
    verified: Result<(u64, String), String>,
    log_key: String,
    checkpoint: String,
    is_first: bool,
    next: Option<u64>,
    newest: u64,
    is_whole: bool,
}

pub(crate) async fn page(visitor: Visitor, Wanted(asked): Wanted<Asked>) -> Result<Response, Failure> {
    let after = asked.after.map(|after| format!("&after={after}")).unwrap_or_default();
    let query = format!("limit={PAGE}{after}");
    let list: AuditList = match visitor.organisation() {
        Some(organisation) => visitor.api.read_with("audit_list", &[&organisation], &query).await?,
        None => visitor.api.read_with("audit_list_all", &[], &query).await?,
    };
    let checked = list.verify(&list.log_key);
    let size = checked.as_ref().map_or(0, |checkpoint| checkpoint.size);
    page::page(&AuditPage {
        shell: visitor.shell("Audit", Here::Audit, None).await?,
        rows: list.items.iter().map(|record| row(record.index, &record.body)).collect(),
        verified: checked.map(|checkpoint| (checkpoint.size, checkpoint.origin)).map_err(|error| error.to_string()),
        log_key: list.log_key,
        checkpoint: list.checkpoint,
        is_first: asked.after.is_none(),
        next: list.next,
        newest: size.saturating_sub(PAGE + 1),
        is_whole: visitor.is_operator(),
    })
}

fn row(index: u64, body: &str) -> Row {
    let Ok(entry) = serde_json::from_str::<AuditEntry>(body) else {
        // Shown as it was logged: an entry of a newer program is still an entry.
        let (at, actor, source, action, object, result, why) = Default::default();
        return Row { index, at, actor, source, action, object, result, why, facts: body.to_owned() };
    };
    let facts = entry.facts.iter().map(|(name, value)| match value.as_str() {
        Some(text) => format!("{name}: {text}"),
        None => format!("{name}: {value}"),
    });
    Row {
        index,
        at: words::when(entry.at),
        actor: entry.actor,
        source: entry.source.unwrap_or_default(),
        action: entry.action,
        object: entry.object,
        result: entry.result,
        why: entry.reason.unwrap_or_default(),
        facts: facts.collect::<Vec<_>>().join(", "),
    }
}
