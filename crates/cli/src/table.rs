//! Plain aligned text: tables for lists, facts for one thing.

/// A table that is clear without color or lines.
#[derive(Debug)]
pub(crate) struct Table {
    head: Vec<&'static str>,
    right: Vec<usize>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new<const N: usize>(head: [&'static str; N]) -> Self {
        Self { head: head.into(), right: Vec::new(), rows: Vec::new() }
    }

    /// Columns (from 0) that hold numbers.
    #[must_use]
    pub(crate) fn right<const N: usize>(mut self, columns: [usize; N]) -> Self {
        self.right = columns.into();
        self
    }

    pub(crate) fn row<const N: usize>(&mut self, cells: [String; N]) {
        debug_assert_eq!(N, self.head.len(), "a row has a cell for every column");
        self.rows.push(cells.map(|cell| shown(&cell)).into());
    }

    /// Its text, a line a row. Nothing at all if there are no rows.
    pub(crate) fn text(&self) -> String {
        if self.rows.is_empty() {
            return String::new();
        }
        let head: Vec<String> = self.head.iter().map(|name| name.to_uppercase()).collect();
        let all: Vec<&Vec<String>> = std::iter::once(&head).chain(&self.rows).collect();
        let width =
            |column: usize| all.iter().filter_map(|row| row.get(column)).map(|cell| wide(cell)).max().unwrap_or(0);
        let widths: Vec<usize> = (0..head.len()).map(width).collect();
        let mut text = String::new();
        for row in all {
            let mut line = String::new();
            for (column, cell) in row.iter().enumerate() {
                let gap = " ".repeat(widths[column].saturating_sub(wide(cell)));
                let between = if column == 0 { "" } else { "  " };
                if self.right.contains(&column) {
                    line.extend([between, &gap, cell]);
                } else {
                    line.extend([between, cell, &gap]);
                }
            }
            text.extend([line.trim_end(), "\n"]);
        }
        text
    }
}

/// What is known of one thing, a line a fact.
#[derive(Debug, Default)]
pub(crate) struct Facts(Vec<(&'static str, String)>);

impl Facts {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Adds a fact.
    #[must_use]
    #[expect(clippy::needless_pass_by_value, reason = "callers give texts, ids and numbers alike")]
    pub(crate) fn with(mut self, name: &'static str, value: impl ToString) -> Self {
        self.0.push((name, shown(&value.to_string())));
        self
    }

    /// Adds a fact that may be missing; a missing one is left out.
    #[must_use]
    pub(crate) fn maybe(self, name: &'static str, value: Option<impl ToString>) -> Self {
        match value {
            Some(value) => self.with(name, value),
            None => self,
        }
    }

    pub(crate) fn text(&self) -> String {
        let width = self.0.iter().map(|(name, _)| wide(name)).max().unwrap_or(0);
        let lines: Vec<String> = self.0.iter().map(|(name, value)| format!("{name:width$}  {value}\n")).collect();
        lines.concat()
    }
}

/// A cell: one line, never empty, so that columns can be counted.
fn shown(text: &str) -> String {
    let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let line = line.trim();
    if line.is_empty() { "-".into() } else { line.into() }
}

fn wide(text: &str) -> usize {
    text.chars().count()
}
