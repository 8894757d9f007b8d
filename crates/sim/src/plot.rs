//! Plots as SVG, written by hand: each is complete in itself, with its own style for light and dark, a title and a description
//! for who does not see it. Curves differ by color and by dashes.

mod axis;
mod page;

pub use axis::{Axis, time_axis, wait_axis};
pub use page::{Page, Row, number};

use std::fmt::Write as _;

/// Size of a plot in its own units; browsers scale it.
const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 300.0;
/// Room for words: left, right, top, bottom.
const LEFT: f64 = 64.0;
const RIGHT: f64 = 20.0;
const TOP: f64 = 34.0;
const BOTTOM: f64 = 48.0;
/// The most curves that can be told apart in one plot.
pub const CURVES_MAX: usize = 6;

const STYLE: &str = "\
.gp text{font:12px system-ui,sans-serif;fill:#1f2328}.gp .bg{fill:#fff}.gp .grid{stroke:#d8dde3}.gp .frame{fill:none;stroke:#59636e}\
.gp polyline,.gp .key{fill:none;stroke-width:2;stroke-linejoin:round}\
.gp .c0{stroke:#0b5f8a}.gp .c1{stroke:#b3390b}.gp .c2{stroke:#2f6b1a}.gp .c3{stroke:#6b35c9}.gp .c4{stroke:#9a1452}.gp .c5{stroke:#555}\
.gp .c1{stroke-dasharray:7 3}.gp .c2{stroke-dasharray:2 3}.gp .c3{stroke-dasharray:9 3 2 3}.gp .c4{stroke-dasharray:4 4}.gp .c5{stroke-dasharray:1 5}\
@media(prefers-color-scheme:dark){.gp text{fill:#e6edf3}.gp .bg{fill:#14181d}.gp .grid{stroke:#343b44}.gp .frame{stroke:#8b949e}\
.gp .c0{stroke:#6cc3ea}.gp .c1{stroke:#ff9a62}.gp .c2{stroke:#8fd16a}.gp .c3{stroke:#bda2ff}.gp .c4{stroke:#f08bb5}.gp .c5{stroke:#bbb}}";

/// One curve.
#[derive(Debug, Clone, PartialEq)]
pub struct Curve {
    /// What it is called in the key.
    pub name: String,
    /// Its points from left to right, in the units of the axes.
    pub points: Vec<(f64, f64)>,
}

/// Curves over two axes.
#[derive(Debug, Clone, PartialEq)]
pub struct Plot {
    /// A word for it, of letters and dashes: unique on a page.
    pub name: &'static str,
    /// What it shows, as a heading.
    pub title: String,
    /// The same in a sentence or two, for who does not see it.
    pub description: String,
    /// From left to right.
    pub x: Axis,
    /// From bottom to top.
    pub y: Axis,
    /// What is drawn; beyond [`CURVES_MAX`] nothing is.
    pub curves: Vec<Curve>,
}

impl Plot {
    /// The plot as one `svg` element, which can also stand as a file of its own.
    pub fn svg(&self) -> String {
        let name = self.name;
        let mut svg = format!(
            "<svg class=\"gp\" xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" \
             aria-labelledby=\"{name}-title {name}-desc\"><title id=\"{name}-title\">{}</title><desc id=\"{name}-desc\">{}</desc>\
             <style>{STYLE}</style><rect class=\"bg\" width=\"{WIDTH}\" height=\"{HEIGHT}\"/>\n",
            escaped(&self.title),
            escaped(&self.description),
        );
        self.grid(&mut svg);
        for (place, curve) in self.curves.iter().take(CURVES_MAX).enumerate() {
            self.curve(&mut svg, place, curve);
        }
        svg.push_str("</svg>\n");
        svg
    }

    fn grid(&self, svg: &mut String) {
        let (right, bottom) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
        for (value, words) in &self.x.ticks {
            let x = self.at_x(*value);
            add(svg, format_args!("<line class=\"grid\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{TOP}\" y2=\"{bottom}\"/>"));
            let y = bottom + 16.0;
            add(svg, format_args!("<text x=\"{x:.1}\" y=\"{y}\" text-anchor=\"middle\">{}</text>\n", escaped(words)));
        }
        for (value, words) in &self.y.ticks {
            let y = self.at_y(*value);
            add(svg, format_args!("<line class=\"grid\" x1=\"{LEFT}\" x2=\"{right}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>"));
            let (x, y) = (LEFT - 6.0, y + 4.0);
            add(svg, format_args!("<text x=\"{x}\" y=\"{y:.1}\" text-anchor=\"end\">{}</text>\n", escaped(words)));
        }
        let (width, height) = (right - LEFT, bottom - TOP);
        add(
            svg,
            format_args!("<rect class=\"frame\" x=\"{LEFT}\" y=\"{TOP}\" width=\"{width}\" height=\"{height}\"/>"),
        );
        let (x, y) = (LEFT + width / 2.0, HEIGHT - 10.0);
        add(svg, format_args!("<text x=\"{x}\" y=\"{y}\" text-anchor=\"middle\">{}</text>", escaped(&self.x.label)));
        let y = TOP + height / 2.0;
        let label = escaped(&self.y.label);
        add(
            svg,
            format_args!(
                "<text x=\"14\" y=\"{y}\" text-anchor=\"middle\" transform=\"rotate(-90 14 {y})\">{label}</text>\n"
            ),
        );
    }

    fn curve(&self, svg: &mut String, place: usize, curve: &Curve) {
        add(svg, format_args!("<polyline class=\"c{place}\" points=\""));
        for (x, y) in curve.points.iter().filter(|(x, y)| x.is_finite() && y.is_finite()) {
            add(svg, format_args!("{:.1},{:.1} ", self.at_x(*x), self.at_y(*y)));
        }
        svg.push_str("\"/>");
        // The key stands above, a column for each.
        let column = (WIDTH - LEFT - RIGHT) / self.curves.len().clamp(1, CURVES_MAX) as f64;
        let (from, y) = (LEFT + column * place as f64, TOP - 14.0);
        let (to, words) = (from + 28.0, from + 34.0);
        add(svg, format_args!("<line class=\"key c{place}\" x1=\"{from:.1}\" x2=\"{to:.1}\" y1=\"{y}\" y2=\"{y}\"/>"));
        add(svg, format_args!("<text x=\"{words:.1}\" y=\"{}\">{}</text>\n", y + 4.0, escaped(&curve.name)));
    }

    fn at_x(&self, value: f64) -> f64 {
        LEFT + self.x.share(value) * (WIDTH - LEFT - RIGHT)
    }

    fn at_y(&self, value: f64) -> f64 {
        HEIGHT - BOTTOM - self.y.share(value) * (HEIGHT - TOP - BOTTOM)
    }
}

fn add(svg: &mut String, words: std::fmt::Arguments) {
    // Writing to a string does not fail.
    let _ = svg.write_fmt(words);
}

/// Words as they may stand in an element or an attribute.
pub(crate) fn escaped(words: &str) -> String {
    let mut safe = String::with_capacity(words.len());
    for letter in words.chars() {
        match letter {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            other => safe.push(other),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plot(curves: Vec<Curve>) -> Plot {
        let (x, y) = (Axis::linear("load (%)", 100.0), Axis::linear("taken (%)", 100.0));
        Plot { name: "taken", title: "Taken & <more>".into(), description: "It grows.".into(), x, y, curves }
    }

    #[test]
    fn a_curve_goes_from_corner_to_corner() {
        let points = vec![(0.0, 0.0), (f64::NAN, 1.0), (50.0, 100.0), (100.0, 0.0)];
        let svg = plot(vec![Curve { name: "a \"b\"".into(), points }]).svg();
        assert!(svg.contains("<polyline class=\"c0\" points=\"64.0,252.0 382.0,34.0 700.0,252.0 \"/>"), "{svg}");
        assert!(svg.contains("<title id=\"taken-title\">Taken &amp; &lt;more&gt;</title>"), "{svg}");
        assert!(svg.contains("aria-labelledby=\"taken-title taken-desc\"") && svg.contains("It grows."), "{svg}");
        assert!(svg.contains("a &quot;b&quot;") && svg.contains(">load (%)<") && svg.contains(">taken (%)<"), "{svg}");
        assert!(svg.contains("prefers-color-scheme:dark"));
    }

    #[test]
    fn no_more_curves_are_drawn_than_can_be_told_apart() {
        let curve = |place: usize| Curve { name: format!("curve {place}"), points: vec![(0.0, 0.0)] };
        let svg = plot((0..9).map(curve).collect()).svg();
        assert_eq!(svg.matches("<polyline").count(), CURVES_MAX);
    }
}
