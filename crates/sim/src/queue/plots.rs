//! What a replay of queueing looks like.

use super::{
    course::{Course, Moment},
    run::Replayed,
};
use crate::plot::{Axis, Curve, Plot, number, time_axis, wait_axis};

/// Into how many spans time is cut; more would not be seen.
const SPANS: u64 = 350;
/// At how many waits a distribution is read.
const WAITS: u32 = 240;

/// Plots of runs over the same jobs, each run with its name: how full the machines were, how many jobs waited, what lay idle
/// meanwhile, and how long jobs waited.
pub fn plots(runs: &[(&str, &Replayed)]) -> Vec<Plot> {
    let end_ms = runs.iter().map(|(_, run)| run.course.end_ms()).max().unwrap_or(0);
    let gpus = runs.iter().map(|(_, run)| run.course.gpus).max().unwrap_or(0);
    let mean = |value: fn(&Course, &Moment) -> u64| over_time(runs, end_ms, value, Read::Mean);
    let in_time = |name, title: &str, description: String, y: Axis, curves| {
        let x = time_axis(end_ms as f64 / 1000.0).0;
        Plot { name, title: title.into(), description, x, y, curves }
    };
    let each = |say: &dyn Fn(&Replayed) -> String| {
        runs.iter().map(|(name, run)| format!("{name}: {}", say(run))).collect::<Vec<_>>().join("; ")
    };
    let waiting = over_time(runs, end_ms, |_, moment| moment.waiting, Read::Most);
    let lying = mean(idle);
    let most = |curves: &[Curve]| curves.iter().flat_map(|curve| &curve.points).map(|(_, y)| *y).fold(0.0, f64::max);
    let (waiting_most, lying_most) = (most(&waiting), most(&lying));
    vec![
        in_time(
            "utilisation",
            "Accelerators in use",
            format!(
                "The mean of each span of time, work that is saved or loaded included. Useful work as a share of what there was: {}.",
                each(&|run| format!("{:.1} %", 100.0 * run.report.utilisation))
            ),
            Axis::linear("accelerators", gpus as f64),
            mean(|_, moment| moment.taken),
        ),
        in_time(
            "queue",
            "Jobs that wait",
            format!(
                "The longest queue of each span of time. The most at once: {}.",
                each(&|run| number(run.course.moments.iter().map(|moment| moment.waiting).max().unwrap_or(0) as f64))
            ),
            Axis::linear("jobs", waiting_most),
            waiting,
        ),
        in_time(
            "fragmentation",
            "Accelerators that lie idle while jobs wait",
            format!(
                "The mean of each span of time: free, there, and of no use to who waits, for want of enough in one place or because they \
                 are kept for a promised start. Over the whole time: {}.",
                each(&|run| format!("{:.1} % of all", 100.0 * idle_share(&run.course)))
            ),
            Axis::linear("accelerators", lying_most),
            lying,
        ),
        waits(runs),
    ]
}

/// Free accelerators while somebody waits.
fn idle(course: &Course, moment: &Moment) -> u64 {
    if moment.waiting == 0 { 0 } else { course.gpus.saturating_sub(moment.taken).saturating_sub(moment.away) }
}

fn idle_share(course: &Course) -> f64 {
    let sum: u128 = lasting(course)
        .map(|(moment, until)| u128::from(idle(course, moment)) * u128::from(until - moment.at_ms))
        .sum();
    sum as f64 / (course.gpus as f64 * course.end_ms() as f64).max(1.0)
}

/// Every moment with the time until which it holds.
fn lasting(course: &Course) -> impl Iterator<Item = (&Moment, u64)> {
    let next = course.moments.iter().skip(1).map(|moment| moment.at_ms).chain([course.end_ms()]);
    course.moments.iter().zip(next)
}

/// The distribution of waits: what share of the jobs waited at most so long.
fn waits(runs: &[(&str, &Replayed)]) -> Plot {
    let longest = runs.iter().map(|(_, run)| run.report.wait_s.max).max().unwrap_or(0);
    let x = wait_axis(longest as f64);
    let curve = |(name, run): &(&str, &Replayed)| {
        let mut sorted: Vec<u64> = run.waits_ms.iter().flatten().copied().collect();
        sorted.sort_unstable();
        let at = |step: u32| {
            let wait_s = x.from * (x.to / x.from).powf(f64::from(step) / f64::from(WAITS));
            let within = sorted.partition_point(|wait| *wait as f64 <= wait_s * 1000.0);
            (wait_s, 100.0 * within as f64 / sorted.len().max(1) as f64)
        };
        Curve { name: (*name).to_owned(), points: (0..=WAITS).map(at).collect() }
    };
    let told = |(name, run): &(&str, &Replayed)| {
        let wait = run.report.wait_s;
        let [p50, p99, max] = [wait.p50, wait.p99, wait.max].map(|wait| number(wait as f64));
        format!("{name}: median {p50} s, 99 of 100 within {p99} s, longest {max} s")
    };
    let told = runs.iter().map(told).collect::<Vec<_>>().join("; ");
    Plot {
        name: "waits",
        title: "How long jobs waited".into(),
        description: format!("Jobs that made no progress for at most so long, in percent of all that ended. {told}."),
        curves: runs.iter().map(curve).collect(),
        y: Axis::linear("jobs (%)", 100.0),
        x,
    }
}

/// How a span of time is read.
#[derive(Clone, Copy)]
enum Read {
    /// The mean over the span.
    Mean,
    /// The most at any moment of it.
    Most,
}

/// A value over time as steps, one for each span; a run that is over ends its curve.
fn over_time(
    runs: &[(&str, &Replayed)],
    end_ms: u64,
    value: impl Fn(&Course, &Moment) -> u64,
    read: Read,
) -> Vec<Curve> {
    let unit = time_axis(end_ms as f64 / 1000.0).1 * 1000.0;
    let width = end_ms.div_ceil(SPANS).max(1);
    let curve = |(name, run): &(&str, &Replayed)| {
        let course = &run.course;
        let spans = course.end_ms().div_ceil(width);
        let mut read_at = vec![0_u128; usize::try_from(spans).unwrap_or(0)];
        for (moment, until_ms) in lasting(course) {
            let (value, mut from_ms) = (u128::from(value(course, moment)), moment.at_ms);
            while from_ms < until_ms {
                let span = from_ms / width;
                let to_ms = until_ms.min((span + 1) * width);
                let Some(found) = usize::try_from(span).ok().and_then(|span| read_at.get_mut(span)) else { break };
                match read {
                    Read::Mean => *found += value * u128::from(to_ms - from_ms),
                    Read::Most => *found = value.max(*found),
                }
                from_ms = to_ms;
            }
        }
        let step = |(span, found): (u64, &u128)| {
            let (from, to) = (span * width, course.end_ms().min((span + 1) * width));
            let height = match read {
                Read::Mean => *found as f64 / (to - from).max(1) as f64,
                Read::Most => *found as f64,
            };
            [(from as f64 / unit, height), (to as f64 / unit, height)]
        };
        Curve { name: (*name).to_owned(), points: (0..).zip(&read_at).flat_map(step).collect() }
    };
    runs.iter().map(curve).collect()
}
