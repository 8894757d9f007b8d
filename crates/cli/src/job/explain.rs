//! `gregal job explain`: why a job stands where it stands.

use gregal_api::job::{AskedView, DecisionView, ExplainQuery, JobExplanation, JobView, ReplayView, RoomView};

use crate::{
    context::Cx,
    failure::Failure,
    table::{Facts, Table},
    words,
};

pub(crate) async fn explain(cx: &mut Cx<'_>, job: &JobView, pass: Option<u64>) -> Result<(), Failure> {
    let call = cx.client.call("job_explain", &[&job.id.to_string()]).query(&ExplainQuery { pass });
    let answer: JobExplanation = cx.told(call.send().await)?;
    let is_other = answer.replay.as_ref().is_some_and(|replay| !replay.same && replay.rules == replay.rules_now);
    cx.printer().data(&answer, facts)?;
    if is_other {
        return Err(Failure::ours("the recorded decision does not come out of its recorded inputs")
            .hint("tell the operator: the record or the program was changed"));
    }
    Ok(())
}

fn facts(answer: &JobExplanation) -> String {
    let place = answer.position.zip(answer.queued).map(|(position, queued)| format!("{position} of {queued}"));
    let mut text = Facts::new()
        .with("job", answer.job)
        .with("state", answer.state.as_str())
        .maybe("in the queue", place)
        .maybe("waits for", answer.waits_for.as_ref())
        .text();
    if answer.history.is_empty() {
        text.push_str("\nthe scheduler has not looked at it yet\n");
        return text;
    }
    let mut table = Table::new(["pass", "at", "decision"]);
    for decision in &answer.history {
        table.row([decision.pass.to_string(), decision.at.to_string(), said(decision)]);
    }
    text.push('\n');
    text.push_str(&table.text());
    if let Some(replay) = &answer.replay {
        text.push('\n');
        text.push_str(&replayed(replay));
    }
    text
}

fn replayed(replay: &ReplayView) -> String {
    let rules = format!("{} (now {})", replay.rules, replay.rules_now);
    let verdict = match (replay.same, replay.rules == replay.rules_now) {
        (true, _) => "yes",
        (false, true) => "NO",
        (false, false) => "no: the rules have changed since",
    };
    let mut text = Facts::new()
        .with("pass", replay.decision.pass)
        .with("inputs", &replay.inputs_digest)
        .with("rules", rules)
        .with("asked", asked(&replay.asked))
        .with("made again", said(&replay.decision))
        .with("same as then", verdict)
        .text();
    let mut table = Table::new(["site", "answers", "cores free", "memory free", "accelerators free"]);
    for site in &replay.sites {
        table.row(room(site));
    }
    text.push('\n');
    text.push_str(&table.text());
    text
}

fn said(decision: &DecisionView) -> String {
    match (&decision.site, &decision.reason) {
        (Some(site), _) => format!("{} at {site}", decision.decision),
        (None, Some(reason)) => format!("{}: {reason}", decision.decision),
        (None, None) => decision.decision.clone(),
    }
}

fn asked(asked: &AskedView) -> String {
    let text = format!("{} cores, {}", words::cores(asked.cpus_milli), words::size(asked.memory_bytes));
    if asked.gpus == 0 {
        return text;
    }
    let model = asked.gpu_model.as_deref().unwrap_or("any model");
    format!("{text}, {} accelerators ({model})", asked.gpus)
}

fn room(site: &RoomView) -> [String; 5] {
    [
        site.site.clone(),
        if site.alive { "yes" } else { "no" }.into(),
        format!("{} of {}", words::cores(site.cpus_milli_free), words::cores(site.cpus_milli_total)),
        format!("{} of {}", words::size(site.memory_bytes_free), words::size(site.memory_bytes_total)),
        format!("{} of {}", site.gpus_free, site.gpus_total),
    ]
}
