//! Comma-separated values with a header that names the columns, in any order: what people write by hand or export.

/// Why a table cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TableError {
    /// The first line does not name the columns it must, names one that is not known, or names one twice.
    #[error("line 1: expected the columns {expected}")]
    Header {
        /// The columns that must be there, and those that may be.
        expected: String,
    },
    /// A line has another number of fields than the header.
    #[error("line {line}: expected {expected} fields, found {found}")]
    Fields {
        /// Which line, from 1.
        line: usize,
        /// How many fields it should have.
        expected: usize,
        /// How many it has.
        found: usize,
    },
    /// A field is not what it should be.
    #[error("line {line}: `{field}` is not {expected}")]
    Field {
        /// Which line, from 1.
        line: usize,
        /// Which field.
        field: &'static str,
        /// What it should be.
        expected: &'static str,
    },
}

/// Columns of a table.
pub(crate) struct Columns {
    /// Those that must be there.
    pub(crate) required: &'static [&'static str],
    /// Those that may be.
    pub(crate) optional: &'static [&'static str],
}

impl Columns {
    fn said(&self) -> String {
        let [required, optional] = [self.required, self.optional].map(|names| names.join(","));
        if optional.is_empty() {
            format!("`{required}`, in any order")
        } else {
            format!("`{required}` and, if wanted, `{optional}`, in any order")
        }
    }
}

/// One line, by column.
pub(crate) struct Row<'a> {
    /// Which line, from 1.
    pub(crate) line: usize,
    header: &'a [&'a str],
    fields: Vec<&'a str>,
}

/// Walks over the lines. Empty ones are passed over.
pub(crate) fn rows<E: From<TableError>>(
    text: &str,
    columns: &Columns,
    mut each: impl FnMut(&Row) -> Result<(), E>,
) -> Result<(), E> {
    let mut lines = (1..).zip(text.lines());
    let header: Vec<&str> = lines.next().map_or("", |(_, line)| line).split(',').map(str::trim).collect();
    let known = |name: &&str| columns.required.contains(name) || columns.optional.contains(name);
    let once = |name: &&str| header.iter().filter(|other| *other == name).count() == 1;
    let complete = columns.required.iter().all(|name| header.contains(name));
    if !complete || !header.iter().all(|name| known(name) && once(name)) {
        return Err(TableError::Header { expected: columns.said() }.into());
    }
    for (line, text) in lines.filter(|(_, text)| !text.trim().is_empty()) {
        let fields: Vec<&str> = text.split(',').map(str::trim).collect();
        let (expected, found) = (header.len(), fields.len());
        if found != expected {
            return Err(TableError::Fields { line, expected, found }.into());
        }
        each(&Row { line, header: &header, fields })?;
    }
    Ok(())
}

impl<'a> Row<'a> {
    /// What the line says in a column; none if there is no such column or nothing in it.
    pub(crate) fn said(&self, column: &str) -> Option<&'a str> {
        let at = self.header.iter().position(|name| *name == column)?;
        self.fields.get(at).copied().filter(|text| !text.is_empty())
    }

    /// A whole number within bounds, and another where nothing is said.
    pub(crate) fn number(
        &self,
        field: &'static str,
        absent: Option<u64>,
        within: std::ops::RangeInclusive<u64>,
        expected: &'static str,
    ) -> Result<u64, TableError> {
        let number = self.said(field).map_or(absent, |text| text.parse().ok().filter(|number| within.contains(number)));
        number.ok_or_else(|| self.bad(field, expected))
    }

    /// A field of this line is not what it should be.
    pub(crate) fn bad(&self, field: &'static str, expected: &'static str) -> TableError {
        TableError::Field { line: self.line, field, expected }
    }
}
