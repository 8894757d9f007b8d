//! What the scheduler said of a job, for its page.

use std::collections::BTreeMap;

use gregal_api::{
    job::{DecisionView, JobExplanation, JobView, ReplayView},
    site::SiteView,
};
use gregal_core::id::SiteId;

use super::{failure::Failure, visitor::Visitor, words};

/// Its place in the queue, in words.
pub(crate) async fn place(visitor: &Visitor, job: &JobView) -> Result<Option<String>, Failure> {
    let explained: JobExplanation = visitor.api.read("job_explain", &[&job.id]).await?;
    let place = explained.position.zip(explained.queued);
    Ok(place.map(|(position, queued)| format!("Place {position} of {queued} in the queue.")))
}

/// When, by which pass, and what was said.
pub(crate) fn decision(said: &DecisionView, sites: &BTreeMap<SiteId, SiteView>) -> (String, u64, String) {
    let words = match (&said.site, &said.reason) {
        (Some(site), _) => {
            let name = sites.get(site).map_or_else(|| site.to_string(), |site| site.name.clone());
            format!("{} at {name}", said.decision)
        }
        (None, reason) => format!("{}: {}", said.decision, reason.as_deref().unwrap_or("no reason was kept")),
    };
    (words::when(said.at), said.pass, words)
}

/// What came of making the newest decision again.
pub(crate) fn replayed(replay: &ReplayView) -> String {
    let inputs = words::digest(&replay.inputs_digest);
    match (replay.same, replay.rules == replay.rules_now) {
        (true, _) => format!(
            "Pass {} was made again from its recorded inputs ({inputs}): the same decisions.",
            replay.decision.pass
        ),
        (false, true) => format!(
            "Pass {} was made again from its recorded inputs ({inputs}): OTHER decisions. Tell the operator.",
            replay.decision.pass
        ),
        (false, false) => format!(
            "Pass {} was made by rules {}; today's are {}.",
            replay.decision.pass, replay.rules, replay.rules_now
        ),
    }
}
