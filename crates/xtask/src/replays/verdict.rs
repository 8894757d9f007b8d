//! Whether a figure reaches what it is held against, and by how much it does not.

/// What came of one target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Reached.
    Met,
    /// Missed, and by how much.
    Missed(String),
}

impl Verdict {
    /// At most so much.
    pub(super) fn at_most(found: f64, most: f64, unit: &str) -> Self {
        if found <= most { Self::Met } else { Self::missed(found - most, most, unit) }
    }

    /// At least so much.
    pub(super) fn at_least(found: f64, least: f64, unit: &str) -> Self {
        if found >= least { Self::Met } else { Self::missed(least - found, least, unit) }
    }

    /// Met if all are; else what is missed of each.
    pub(super) fn all(of: impl IntoIterator<Item = (String, Self)>) -> Self {
        let missed: Vec<String> = of
            .into_iter()
            .filter_map(|(what, verdict)| match verdict {
                Self::Met => None,
                Self::Missed(by) => Some(format!("{what} {by}").trim().to_owned()),
            })
            .collect();
        if missed.is_empty() { Self::Met } else { Self::Missed(missed.join("; ")) }
    }

    /// As it stands in a table.
    pub(super) fn said(&self) -> String {
        match self {
            Self::Met => "met".to_owned(),
            Self::Missed(by) => format!("**missed**: {by}"),
        }
    }

    fn missed(by: f64, aim: f64, unit: &str) -> Self {
        let unit = if unit.is_empty() { String::new() } else { format!(" {unit}") };
        let percent = if aim > 0.0 { format!(" ({:.1} %)", 100.0 * by / aim) } else { String::new() };
        Self::Missed(format!("by {}{unit}{percent}", number(by)))
    }
}

/// A number as people read it: two places below 1,000, else whole with commas.
pub(super) fn number(value: f64) -> String {
    if value.abs() < 1000.0 {
        let text = format!("{value:.2}");
        return text.strip_suffix(".00").map_or_else(|| text.clone(), str::to_owned);
    }
    let digits = format!("{value:.0}");
    let (sign, digits) = digits.strip_prefix('-').map_or(("", digits.as_str()), |digits| ("-", digits));
    let mut said = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            said.push(',');
        }
        said.push(digit);
    }
    format!("{sign}{said}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_miss_says_by_how_much() {
        assert_eq!(Verdict::at_most(9000.0, 9000.0, "s"), Verdict::Met);
        assert_eq!(Verdict::at_most(11_105.0, 9000.0, "s"), Verdict::Missed("by 2,105 s (23.4 %)".into()));
        assert_eq!(Verdict::at_least(95.5, 95.5, ""), Verdict::Met);
        assert_eq!(Verdict::at_least(95.0, 96.0, "points"), Verdict::Missed("by 1 points (1.0 %)".into()));
        assert_eq!(Verdict::at_most(2.0, 0.0, ""), Verdict::Missed("by 2".into()));
        // Not a number reaches nothing.
        assert!(matches!(Verdict::at_most(f64::NAN, 1.0, ""), Verdict::Missed(_)));
    }

    #[test]
    fn one_miss_is_a_miss_of_all() {
        let both = [("a".to_owned(), Verdict::Met), ("b".to_owned(), Verdict::at_most(3.0, 2.0, ""))];
        assert_eq!(Verdict::all(both), Verdict::Missed("b by 1 (50.0 %)".into()));
        assert_eq!(Verdict::all([]), Verdict::Met);
    }

    #[test]
    fn numbers_read_well() {
        let said = [0.0, 1.5, 999.99, 1000.0, 1_234_567.4, -2105.0].map(number);
        assert_eq!(said, ["0", "1.50", "999.99", "1,000", "1,234,567", "-2,105"]);
    }
}
