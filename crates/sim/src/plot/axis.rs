//! Axes with ticks that people can read.

use super::number;

const MINUTE_S: f64 = 60.0;
const HOUR_S: f64 = 3600.0;
const DAY_S: f64 = 86_400.0;

/// One axis.
#[derive(Debug, Clone, PartialEq)]
pub struct Axis {
    /// What it shows, with its unit.
    pub label: String,
    /// Where it begins and ends.
    pub from: f64,
    /// Its end.
    pub to: f64,
    /// Whether equal ratios are equally far apart, rather than equal differences.
    pub log: bool,
    /// Marks with their words.
    pub ticks: Vec<(f64, String)>,
}

impl Axis {
    /// From 0 to at least `to`, with three to nine marks.
    pub fn linear(label: &str, to: f64) -> Self {
        let to = if to.is_finite() { to } else { 0.0 };
        let step = step(to);
        let steps = (to / step).ceil().clamp(1.0, 12.0);
        let ticks = (0..=steps as u32).map(|tick| f64::from(tick) * step);
        let ticks = ticks.map(|value| (value, number(value))).collect();
        Self { label: label.into(), from: 0.0, to: steps * step, log: false, ticks }
    }

    /// How far along the axis a value lies, from 0 to 1. What lies beyond is drawn at the edge.
    pub(super) fn share(&self, value: f64) -> f64 {
        let share = if self.log {
            (value.max(self.from) / self.from).ln() / (self.to / self.from).ln()
        } else {
            (value - self.from) / (self.to - self.from)
        };
        share.clamp(0.0, 1.0)
    }
}

/// An axis of time from 0 to `end_s`, and by what seconds are divided to stand on it.
pub fn time_axis(end_s: f64) -> (Axis, f64) {
    let units = [(2.0 * DAY_S, DAY_S, "days"), (2.0 * HOUR_S, HOUR_S, "hours"), (2.0 * MINUTE_S, MINUTE_S, "minutes")];
    let found = units.into_iter().find(|(least, ..)| end_s >= *least);
    let (unit, name) = found.map_or((1.0, "seconds"), |(_, unit, name)| (unit, name));
    let mut axis = Axis::linear(&format!("time since the first submission ({name})"), end_s / unit);
    // A replay ends where it ends: no empty room to its right.
    if end_s > 0.0 {
        axis.to = end_s / unit;
        axis.ticks.retain(|(value, _)| *value <= axis.to);
    }
    (axis, unit)
}

/// An axis of waits from a second to at least `longest_s`, each mark about ten times the one before.
pub fn wait_axis(longest_s: f64) -> Axis {
    let marks = [
        (1.0, "1 s"),
        (10.0, "10 s"),
        (MINUTE_S, "1 min"),
        (10.0 * MINUTE_S, "10 min"),
        (HOUR_S, "1 h"),
        (10.0 * HOUR_S, "10 h"),
        (2.0 * DAY_S, "2 d"),
        (20.0 * DAY_S, "20 d"),
        (200.0 * DAY_S, "200 d"),
        (2000.0 * DAY_S, "2,000 d"),
        (20_000.0 * DAY_S, "20,000 d"),
        (200_000.0 * DAY_S, "200,000 d"),
    ];
    let last = marks.iter().position(|(value, _)| *value >= longest_s).unwrap_or(marks.len() - 1).max(1);
    let ticks = marks[..=last].iter().map(|(value, words)| (*value, (*words).to_owned())).collect();
    Axis { label: "wait (logarithmic)".into(), from: 1.0, to: marks[last].0, log: true, ticks }
}

/// The distance of marks: 1, 2 or 5 times a power of ten, so that there are three to nine.
fn step(to: f64) -> f64 {
    if to <= 0.0 {
        return 1.0;
    }
    let power = 10_f64.powf((to / 8.0).log10().floor());
    let steps = [1.0, 2.0, 5.0, 10.0].map(|step| step * power);
    steps.into_iter().find(|step| to / step <= 8.0).unwrap_or(10.0 * power)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(axis: &Axis) -> Vec<&str> {
        axis.ticks.iter().map(|(_, words)| words.as_str()).collect()
    }

    #[test]
    fn marks_are_round_numbers() {
        assert_eq!(words(&Axis::linear("", 130.0)), ["0", "20", "40", "60", "80", "100", "120", "140"]);
        assert_eq!(words(&Axis::linear("", 5123.0)), ["0", "1,000", "2,000", "3,000", "4,000", "5,000", "6,000"]);
        assert_eq!(words(&Axis::linear("", 0.0)), ["0", "1"]);
        assert_eq!(words(&Axis::linear("", f64::NAN)), ["0", "1"]);
        assert_eq!(words(&Axis::linear("", 0.9)), ["0", "0.20", "0.40", "0.60", "0.80", "1"]);
    }

    #[test]
    fn time_is_told_in_the_largest_unit_that_has_two() {
        let (axis, unit) = time_axis(3.5 * DAY_S);
        assert!((unit - DAY_S).abs() < 1e-9 && axis.label.contains("days"));
        assert_eq!((words(&axis), axis.to), (vec!["0", "0.50", "1", "1.50", "2", "2.50", "3", "3.50"], 3.5));
        assert!(time_axis(90.0).0.label.contains("seconds") && time_axis(0.0).0.to > 0.0);
    }

    #[test]
    fn waits_are_spread_by_ratios() {
        let axis = wait_axis(500.0);
        assert_eq!(words(&axis), ["1 s", "10 s", "1 min", "10 min"]);
        assert!(axis.share(0.0).abs() < 1e-9 && (axis.share(600.0) - 1.0).abs() < 1e-9);
        assert!((axis.share(10.0) - 10_f64.ln() / 600_f64.ln()).abs() < 1e-9);
        assert_eq!(words(&wait_axis(0.0)), ["1 s", "10 s"]);
    }
}
