//! What if nodes leave for a while: when, how many, and why.

/// The latest time an absence may speak of, in milliseconds: a century.
const MILLIS_MAX: u64 = 100 * 366 * 86_400_000;
/// The greatest load, in thousandths of the accelerators there are.
const LOAD_MILLI_MAX: u64 = 100_000;

/// Why nodes leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// They go down unannounced: runs on them lose what they did since they last started. The scheduler is not told when they
    /// come back.
    Down,
    /// They are set aside for somebody else, announced: work is saved in time and kept, at the cost that the policy counts for
    /// saving and loading it. The scheduler is told when they come back.
    Reserved,
}

/// Nodes that leave and come back. Which: of those that go down the last ones, of those that are reserved the ones with the fewest
/// accelerators in use, and the last among equals.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Absence {
    /// When they leave: milliseconds since the first submission where time passes, else thousandths of the load that has come.
    pub from: u64,
    /// When they come back.
    pub until: u64,
    /// How many.
    pub nodes: u32,
    /// Why.
    pub why: Why,
}

impl Absence {
    /// Reads `FROM..UNTIL:N`, times being whole numbers with `s` (or nothing), `m`, `h` or `d` behind.
    pub fn in_time(text: &str, why: Why) -> Result<Self, String> {
        let wrong = "expected `FROM..UNTIL:N`, such as `36h..2d:4`: times in s, m, h or d, UNTIL after FROM";
        Self::read(text, why, millis).ok_or_else(|| wrong.to_owned())
    }

    /// Reads `FROM..UNTIL:N`, in whole percent of the accelerators there are.
    pub fn in_load(text: &str, why: Why) -> Result<Self, String> {
        let wrong =
            "expected `FROM..UNTIL:N`, such as `60..90:100`: the load that has come in percent, UNTIL after FROM";
        let milli = |text: &str| whole(text)?.checked_mul(10).filter(|milli| *milli <= LOAD_MILLI_MAX);
        Self::read(text, why, milli).ok_or_else(|| wrong.to_owned())
    }

    fn read(text: &str, why: Why, unit: impl Fn(&str) -> Option<u64>) -> Option<Self> {
        let (span, nodes) = text.rsplit_once(':')?;
        let (from, until) = span.split_once("..")?;
        let (from, until) = (unit(from)?, unit(until)?);
        let nodes = u32::try_from(whole(nodes)?).ok().filter(|nodes| *nodes > 0)?;
        (from < until).then_some(Self { from, until, nodes, why })
    }
}

/// Digits alone: `parse` would also take a sign.
fn whole(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

fn millis(text: &str) -> Option<u64> {
    let units = [('s', 1000), ('m', 60_000), ('h', 3_600_000), ('d', 86_400_000)];
    let unit = units.into_iter().find_map(|(unit, millis)| Some((text.strip_suffix(unit)?, millis)));
    let (number, unit) = unit.unwrap_or((text, 1000));
    whole(number)?.checked_mul(unit).filter(|millis| *millis <= MILLIS_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_read_as_people_write_them() {
        let span = |from, until, nodes| Ok(Absence { from, until, nodes, why: Why::Down });
        let in_time = |text| Absence::in_time(text, Why::Down);
        assert_eq!(in_time("0..90:1"), span(0, 90_000, 1));
        assert_eq!(in_time("36h..2d:4"), span(129_600_000, 172_800_000, 4));
        assert_eq!(in_time("5m..6m:12"), span(300_000, 360_000, 12));
        assert_eq!(Absence::in_load("60..90:100", Why::Down), span(600, 900, 100));
        let bad = ["", "1..2", "2..1:1", "1..1:1", "1..2:0", "1..2:x", "..2:1", "+1..2:1", "1..2:+1", "1w..2w:1"];
        for bad in bad.into_iter().chain(["1..99999999999d:1", "1..99999999999999999999:1"]) {
            assert!(in_time(bad).is_err_and(|why| why.contains("FROM..UNTIL:N")), "{bad}");
        }
        assert!(Absence::in_load("1h..2h:1", Why::Down).is_err() && Absence::in_load("1..10001:1", Why::Down).is_err());
    }
}
