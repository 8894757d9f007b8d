//! What a packing replay looks like.

use super::replay::{Hundredths, PackOutcome, Step, percent};
use crate::plot::{Axis, Curve, Plot};

/// Plots of runs of the same pods, each with its name: how full the cluster got, and what of it was of no use.
pub fn plots(runs: &[(&str, &PackOutcome)]) -> Vec<Plot> {
    let arrived = runs
        .iter()
        .filter_map(|(_, run)| run.steps.last().map(|step| share(step.arrived_milli, run)))
        .fold(0.0, f64::max);
    let x = || Axis::linear("GPUs asked for so far (% of those of the trace)", arrived);
    let told = |of: fn(&PackOutcome) -> Vec<(u64, Hundredths)>| {
        let marks = |run: &PackOutcome| {
            let each = of(run).into_iter().map(|(mark, share)| format!("{share} % at {mark} %"));
            each.collect::<Vec<_>>().join(", ")
        };
        runs.iter().map(|(name, run)| format!("{name}: {}", marks(run))).collect::<Vec<_>>().join("; ")
    };
    let allocated = curves(runs, |step| step.allocated_milli);
    let unusable = curves(runs, |step| step.unusable_milli);
    let top = |curves: &[Curve]| curves.iter().flat_map(|curve| &curve.points).map(|(_, y)| *y).fold(0.0, f64::max);
    vec![
        Plot {
            name: "allocated",
            title: "GPUs that are allocated".into(),
            description: format!(
                "Percent of the GPUs of the trace, against those asked for. {}.",
                told(|run| run.allocated_percent.iter().map(|(mark, share)| (*mark, *share)).collect())
            ),
            x: x(),
            y: Axis::linear("allocated (%)", top(&allocated)),
            curves: allocated,
        },
        Plot {
            name: "fragmentation",
            title: "GPUs that are free and of no use".into(),
            description: format!(
                "Fragmentation: free, but on a node where the mean GPU pod of the trace does not fit, or in parts too small for it. {}.",
                told(|run| run.unusable_percent.iter().map(|(mark, share)| (*mark, *share)).collect())
            ),
            x: x(),
            y: Axis::linear("unusable (%)", top(&unusable)),
            curves: unusable,
        },
    ]
}

/// One point for each percent of load.
fn curves(runs: &[(&str, &PackOutcome)], of: fn(&Step) -> u64) -> Vec<Curve> {
    let curve = |(name, run): &(&str, &PackOutcome)| {
        let mut last = None;
        let each = run.steps.iter().filter(|step| {
            let at = Some(percent(step, run.gpus_of_trace));
            std::mem::replace(&mut last, at) != at
        });
        let points = each.map(|step| (share(step.arrived_milli, run), share(of(step), run))).collect();
        Curve { name: (*name).to_owned(), points }
    };
    runs.iter().map(curve).collect()
}

/// Thousandths of GPUs in percent of the trace's.
fn share(milli: u64, run: &PackOutcome) -> f64 {
    milli as f64 / (10 * run.gpus_of_trace.max(1)) as f64
}
