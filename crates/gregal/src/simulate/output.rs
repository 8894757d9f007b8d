//! What a replay hands over: figures as text or JSON, and a report to look at.

use std::{fs, io::Write as _, path::PathBuf};

use anyhow::{Context, Result, ensure};
use clap::Args;
use gregal_sim::{
    Absence, Why,
    plot::{CURVES_MAX, Page},
};
use serde::Serialize;

#[derive(Debug, Args)]
pub(crate) struct OutputArgs {
    /// Also write a report with plots: one page of HTML that needs nothing beside it
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Print the outcome as JSON; what it was without the what-ifs stands under `without`, other policies under `compared`
    #[arg(long)]
    json: bool,
}

/// The outcome that was asked for, and those beside it.
#[derive(Serialize)]
struct Outcomes<'a, T> {
    #[serde(flatten)]
    asked: &'a T,
    #[serde(skip_serializing_if = "Option::is_none")]
    without: Option<&'a T>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    compared: Vec<&'a T>,
}

/// What one of several runs is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// As it was asked for.
    Asked,
    /// The same without the what-ifs.
    Without,
    /// By another policy.
    Compared,
}

/// The runs to make: which part each is, its policy, and what it is called.
pub(super) fn runs(policy: &str, compare: &[String], has_what_if: bool) -> Result<Vec<(Part, String, String)>> {
    let name = |policy: &str| if has_what_if { format!("{policy}, what if") } else { policy.to_owned() };
    let mut runs = vec![(Part::Asked, policy.to_owned(), name(policy))];
    if has_what_if {
        runs.push((Part::Without, policy.to_owned(), format!("{policy}, without")));
    }
    for other in compare {
        ensure!(runs.iter().all(|(_, known, _)| known != other), "`{other}` is named twice");
        runs.push((Part::Compared, other.clone(), name(other)));
    }
    ensure!(runs.len() <= CURVES_MAX, "{} runs are more than can be told apart in a plot: {CURVES_MAX}", runs.len());
    Ok(runs)
}

/// Nodes that go down and nodes that are reserved.
pub(super) fn absences(
    down: &[String],
    reserved: &[String],
    read: fn(&str, Why) -> Result<Absence, String>,
    nodes: u64,
) -> Result<Vec<Absence>> {
    let down = down.iter().map(|text| ("--site-down", text, Why::Down));
    let reserved = reserved.iter().map(|text| ("--reserve", text, Why::Reserved));
    let read = |(flag, text, why): (&str, &String, Why)| {
        let absence = read(text, why).map_err(anyhow::Error::msg).with_context(|| format!("`{flag} {text}`"))?;
        ensure!(u64::from(absence.nodes) <= nodes, "`{flag} {text}`: there are {nodes} nodes");
        Ok(absence)
    };
    down.chain(reserved).map(read).collect()
}

/// Writes and prints. The outcomes stand in the order of [`runs`].
pub(super) fn deliver<T: Serialize>(args: &OutputArgs, page: &Page, outcomes: &[(Part, &T)]) -> Result<()> {
    if let Some(file) = &args.report {
        fs::write(file, page.html()).with_context(|| format!("could not write `{}`", file.display()))?;
    }
    if args.json {
        let of = |wanted| outcomes.iter().filter(move |(part, _)| *part == wanted).map(|(_, outcome)| *outcome);
        let asked = of(Part::Asked).next().context("nothing was replayed")?;
        let outcomes = Outcomes { asked, without: of(Part::Without).next(), compared: of(Part::Compared).collect() };
        return super::print_json(&outcomes);
    }
    write!(std::io::stdout(), "{}", page.text())?;
    Ok(())
}
