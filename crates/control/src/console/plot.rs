//! Plots, drawn on the server as inline SVG. Colors come from the style sheet by class.

use askama::Template;

/// Size of a plot in its own units; browsers scale it.
const WIDTH: f64 = 480.0;
const HEIGHT: f64 = 220.0;
/// Room for words: left, right, top, bottom.
const LEFT: f64 = 52.0;
const RIGHT: f64 = 10.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 30.0;
/// The most points a curve is drawn with; more would not be seen.
const POINTS_MAX: usize = 400;

/// A line of the grid, with its words.
#[derive(Debug)]
pub(crate) struct Tick {
    at: String,
    words: String,
}

/// A curve over steps: a training's loss.
#[derive(Debug, Template)]
#[template(path = "plot_curve.html")]
pub(crate) struct Curve {
    title: String,
    points: String,
    last_x: String,
    last_y: String,
    ticks_x: Vec<Tick>,
    ticks_y: Vec<Tick>,
}

/// One bar.
#[derive(Debug)]
pub(crate) struct Bar {
    x: String,
    y: String,
    height: String,
    title: String,
}

/// Bars, one a day.
#[derive(Debug, Template)]
#[template(path = "plot_bars.html")]
pub(crate) struct Bars {
    title: String,
    width: String,
    days: Vec<Bar>,
    ticks_x: Vec<Tick>,
    top: String,
}

// Templates escape what is in them; embedding one in another must not escape it again.
impl askama::filters::HtmlSafe for Curve {}
impl askama::filters::HtmlSafe for Bars {}

fn number(value: f64) -> String {
    format!("{value:.1}")
}

/// Draws values over steps. None where fewer than two can be drawn.
pub(crate) fn curve(name: &str, values: &[(u64, f64)]) -> Option<Curve> {
    let drawable: Vec<(u64, f64)> = values.iter().copied().filter(|(_, value)| value.is_finite()).collect();
    let (first, last) = (drawable.first()?, drawable.last()?);
    if drawable.len() < 2 || last.0 <= first.0 {
        return None;
    }
    let top = nice(drawable.iter().map(|(_, value)| *value).fold(0.0, f64::max));
    let (from, steps) = (first.0, (last.0 - first.0) as f64);
    let x = |step: u64| LEFT + (step.saturating_sub(from)) as f64 / steps * (WIDTH - LEFT - RIGHT);
    let y = |value: f64| HEIGHT - BOTTOM - (value / top).clamp(0.0, 1.0) * (HEIGHT - TOP - BOTTOM);
    let every = drawable.len().div_ceil(POINTS_MAX);
    let thinned = drawable.iter().enumerate().filter(|(place, _)| place % every == 0 || place + 1 == drawable.len());
    let points: Vec<String> =
        thinned.map(|(_, (step, value))| format!("{},{}", number(x(*step)), number(y(*value)))).collect();
    let ticks_y = (0..=4).map(|quarter| {
        let value = top * f64::from(quarter) / 4.0;
        Tick { at: number(y(value)), words: short(value) }
    });
    let middle = from + (last.0 - from) / 2;
    let ticks_x = [from, middle, last.0].map(|step| Tick { at: number(x(step)), words: step.to_string() });
    Some(Curve {
        title: format!("{name} went from {} at step {from} to {} at step {}", short(first.1), short(last.1), last.0),
        points: points.join(" "),
        last_x: number(x(last.0)),
        last_y: number(y(last.1)),
        ticks_x: ticks_x.into(),
        ticks_y: ticks_y.collect(),
    })
}

/// Draws a value a day: its day of the month, how much, and in which words. `slots` is how many days there will be.
pub(crate) fn bars(name: &str, slots: usize, days: &[(u64, String)]) -> Bars {
    let most = days.iter().max_by_key(|(value, _)| *value);
    let top = most.map_or(1, |(value, _)| (*value).max(1)) as f64;
    let slot = (WIDTH - LEFT - RIGHT) / slots.max(1) as f64;
    let room = HEIGHT - TOP - BOTTOM;
    let bars = days.iter().enumerate().map(|(day, (value, words))| {
        // What is little is still seen.
        let height = if *value == 0 { 0.0 } else { (*value as f64 / top * room).max(1.5) };
        Bar {
            x: number(LEFT + day as f64 * slot + slot * 0.1),
            y: number(HEIGHT - BOTTOM - height),
            height: number(height),
            title: format!("day {}: {words}", day + 1),
        }
    });
    let marked = [1, slots.div_ceil(4), slots.div_ceil(2), slots.div_ceil(4) * 3, slots];
    let ticks_x = marked.map(|day| Tick { at: number(LEFT + (day as f64 - 0.5) * slot), words: day.to_string() });
    Bars {
        title: format!("{name} a day"),
        width: number(slot * 0.8),
        days: bars.collect(),
        ticks_x: ticks_x.into(),
        top: most.map(|(_, words)| words.clone()).unwrap_or_default(),
    }
}

/// The next number up whose quarters read well: 1, 2, 3, 4, 6, 8 or 10 times a power of ten.
fn nice(value: f64) -> f64 {
    if value <= 0.0 {
        return 1.0;
    }
    let power = 10f64.powf(value.log10().floor());
    let steps = [1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 10.0];
    steps.into_iter().map(|step| step * power).find(|step| *step >= value).unwrap_or(10.0 * power)
}

/// A number in few digits.
pub(crate) fn short(value: f64) -> String {
    let text = match value.abs() {
        0.0 => return "0".into(),
        large if large >= 100.0 => format!("{value:.0}"),
        middle if middle >= 0.1 => format!("{value:.2}"),
        small if small >= 0.001 => format!("{value:.4}"),
        _ => return format!("{value:.1e}"),
    };
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_curve_begins_left_ends_right_and_leaves_out_what_is_no_number() {
        let curve = curve("loss", &[(0, 6.0), (5, f64::NAN), (10, 3.0), (20, 0.0)]).unwrap();
        assert_eq!(curve.points, "52.0,12.0 261.0,101.0 470.0,190.0");
        assert_eq!((curve.last_x.as_str(), curve.last_y.as_str()), ("470.0", "190.0"));
        assert_eq!(curve.ticks_y.last().unwrap().words, "6");
        assert!(curve.render().unwrap().contains("<svg"));
    }

    #[test]
    fn a_curve_of_many_points_is_thinned_and_keeps_its_end() {
        let many: Vec<(u64, f64)> = (0..10_000).map(|step| (step, 1.0)).collect();
        let curve = curve("loss", &many).unwrap();
        let points = curve.points.split(' ').count();
        assert!(points <= POINTS_MAX + 1, "{points}");
        assert!(curve.points.ends_with(&format!("{},{}", curve.last_x, curve.last_y)));
    }

    #[test]
    fn nothing_is_drawn_of_nothing() {
        assert!(curve("loss", &[]).is_none() && curve("loss", &[(1, 1.0)]).is_none());
        assert!(curve("loss", &[(1, f64::NAN), (2, f64::INFINITY)]).is_none());
        assert!(bars("use", 30, &[]).render().unwrap().contains("<svg"));
    }

    #[test]
    fn the_largest_bar_fills_the_plot_and_the_smallest_is_still_seen() {
        let bars = bars("use", 30, &[(1, "1".into()), (0, "0".into()), (1_000_000, "a <b>".into())]);
        let heights: Vec<&str> = bars.days.iter().map(|bar| bar.height.as_str()).collect();
        assert_eq!(heights, ["1.5", "0.0", "178.0"]);
        assert!(bars.render().unwrap().contains("day 3: a &#60;b&#62;"));
    }

    #[test]
    fn numbers_on_axes_are_short() {
        let texts = [0.0, 1234.4, 2.5, 0.25, 0.0125, 0.000_012].map(short);
        assert_eq!(texts, ["0", "1234", "2.5", "0.25", "0.0125", "1.2e-5"]);
    }
}
