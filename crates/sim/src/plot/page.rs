//! A report as one page of HTML that needs nothing beside it: figures in a table, plots below.

use super::{Plot, escaped};

/// One line of a table: what it says, and a value for each run.
pub type Row = (String, Vec<String>);

/// A report.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Page {
    /// Its heading.
    pub title: String,
    /// What was replayed, in words.
    pub about: Vec<String>,
    /// What the runs are called.
    pub runs: Vec<String>,
    /// The figures of all runs.
    pub figures: Vec<Row>,
    /// The plots, in order.
    pub plots: Vec<Plot>,
}

const STYLE: &str = "\
:root{color-scheme:light dark}body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1f2328;background:#fff}\
table{border-collapse:collapse;margin:1rem 0}th,td{padding:.2rem .8rem;border-bottom:1px solid #d8dde3;text-align:right}\
th:first-child{text-align:left;font-weight:normal;white-space:nowrap}thead th{font-weight:600}.wide{overflow-x:auto}figure{margin:2rem 0}figcaption{font-weight:600}\
figure p{margin:.2rem 0}svg{width:100%;height:auto}\
@media(prefers-color-scheme:dark){body{color:#e6edf3;background:#14181d}th,td{border-color:#343b44}}";

impl Page {
    /// The page.
    pub fn html(&self) -> String {
        let title = escaped(&self.title);
        let about = each(&self.about, |words| format!("<p>{}</p>\n", escaped(words)));
        let heads = each(&self.runs, |run| format!("<th scope=\"col\">{}</th>", escaped(run)));
        let rows = each(&self.figures, row);
        let plots = each(&self.plots, figure);
        format!(
            "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
             <title>{title}</title><style>{STYLE}</style></head>\n<body><h1>{title}</h1>\n{about}<div class=\"wide\"><table>\
             <thead><tr><th scope=\"col\">Figure</th>{heads}</tr></thead>\n<tbody>\n{rows}</tbody></table></div>\n{plots}</body></html>\n"
        )
    }

    /// The figures as text: a column for each run, under its name if there are several.
    pub fn text(&self) -> String {
        let head = (String::new(), self.runs.clone());
        let head = Some(&head).filter(|_| self.runs.len() > 1);
        let rows: Vec<&Row> = head.into_iter().chain(&self.figures).collect();
        let width = |cell: &str| cell.chars().count();
        let label = rows.iter().map(|(label, _)| width(label)).max().unwrap_or(0);
        let columns: Vec<usize> = (0..self.runs.len())
            .map(|run| {
                rows.iter().filter_map(|(_, values)| values.get(run)).map(|value| width(value)).max().unwrap_or(0)
            })
            .collect();
        let mut text = String::new();
        for (name, values) in rows {
            let cells = values.iter().zip(&columns).map(|(value, column)| format!("  {value:>column$}"));
            let line = format!("{name:label$}{}", cells.collect::<String>());
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

fn each<T>(things: &[T], say: impl Fn(&T) -> String) -> String {
    things.iter().map(say).collect()
}

fn row((label, values): &Row) -> String {
    let cells = each(values, |value| format!("<td>{}</td>", escaped(value)));
    format!("<tr><th scope=\"row\">{}</th>{cells}</tr>\n", escaped(label))
}

fn figure(plot: &Plot) -> String {
    let (title, description) = (escaped(&plot.title), escaped(&plot.description));
    format!("<figure><figcaption>{title}</figcaption><p>{description}</p>\n{}</figure>\n", plot.svg())
}

/// A number as people read it: two places below 1,000, else whole with commas.
pub fn number(value: f64) -> String {
    if value.abs() < 1000.0 {
        let text = format!("{value:.2}");
        return text.strip_suffix(".00").map_or_else(|| text.clone(), str::to_owned);
    }
    let digits = format!("{:.0}", value.abs());
    let mut said = String::from(if value < 0.0 { "-" } else { "" });
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            said.push(',');
        }
        said.push(digit);
    }
    said
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(runs: &[&str]) -> Page {
        let figures = vec![
            ("wait, mean (s)".to_owned(), runs.iter().map(|_| "1,234".to_owned()).collect()),
            ("digest".to_owned(), runs.iter().map(|_| "<a>".to_owned()).collect()),
        ];
        let runs = runs.iter().map(|run| (*run).to_owned()).collect();
        Page { title: "A & B".into(), about: vec!["x<y".into()], runs, figures, plots: Vec::new() }
    }

    #[test]
    fn what_others_wrote_is_words_and_never_markup() {
        let html = page(&["<script>"]).html();
        for part in ["<title>A &amp; B</title>", "<p>x&lt;y</p>", "&lt;script&gt;", "<td>&lt;a&gt;</td>"] {
            assert!(html.contains(part), "{part}: {html}");
        }
    }

    #[test]
    fn several_runs_stand_side_by_side() {
        assert_eq!(page(&["fifo"]).text(), "wait, mean (s)  1,234\ndigest            <a>\n");
        let both =
            "                default  without\nwait, mean (s)    1,234    1,234\ndigest              <a>      <a>\n";
        assert_eq!(page(&["default", "without"]).text(), both);
    }

    #[test]
    fn numbers_read_well() {
        let said = [0.0, 1.5, 999.99, 1000.0, 1_234_567.4, -2105.0].map(number);
        assert_eq!(said, ["0", "1.50", "999.99", "1,000", "1,234,567", "-2,105"]);
    }
}
