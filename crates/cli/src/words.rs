//! How amounts, sizes and times read. Money is never rounded further than it is counted.

use gregal_core::{id::IdError, money::Nano};

/// Nano-euro with as many decimals as it takes, two at least.
pub(crate) fn euro(nano: i64) -> String {
    let text = Nano::new(nano).to_string();
    let (whole, decimals) = text.split_once('.').unwrap_or((&text, "00"));
    let kept = decimals.trim_end_matches('0').len().max(2);
    format!("{whole}.{} EUR", &decimals[..kept])
}

/// A size in bytes, with one decimal of the largest unit that fits.
pub(crate) fn size(bytes: u64) -> String {
    for (unit, name) in [(1u64 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")] {
        if bytes >= unit {
            let tenths = u128::from(bytes) * 10 / u128::from(unit);
            return format!("{}.{} {name}", tenths / 10, tenths % 10);
        }
    }
    format!("{bytes} B")
}

/// Thousandths of a core as cores.
pub(crate) fn cores(milli: u32) -> String {
    if milli.is_multiple_of(1000) {
        return (milli / 1000).to_string();
    }
    format!("{}.{:03}", milli / 1000, milli % 1000).trim_end_matches('0').into()
}

/// Milliseconds as seconds.
pub(crate) fn seconds(millis: i64) -> String {
    format!("{}.{} s", millis / 1000, (millis % 1000).abs() / 100)
}

/// Millijoules as kilowatt-hours.
pub(crate) fn kwh(millijoules: u64) -> String {
    format!("{} kWh", gregal_api::model::kwh(millijoules))
}

/// A whole number with a thin structure a person can count: groups of three.
pub(crate) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Text or a dash.
pub(crate) fn dash<T: ToString>(value: Option<T>) -> String {
    value.map_or_else(String::new, |value| value.to_string())
}

/// An amount in euro, typed by a person, as cents.
pub(crate) fn cents(text: &str) -> Result<i64, String> {
    let wrong = || format!("`{text}` is not an amount in euro, one looks like `25` or `99.50`");
    let (whole, decimals) = text.split_once('.').unwrap_or((text, "00"));
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(decimals) || decimals.len() > 2 {
        return Err(wrong());
    }
    let whole: i64 = whole.parse().map_err(|_| wrong())?;
    let part: i64 = format!("{decimals:0<2}").parse().map_err(|_| wrong())?;
    whole.checked_mul(100).and_then(|cents| cents.checked_add(part)).ok_or_else(wrong)
}

/// An amount in euro, typed by a person, as nano-euro: `2.40`, `0.0375`.
pub(crate) fn nano(text: &str) -> Result<u64, String> {
    let wrong = || format!("`{text}` is not an amount in euro, one looks like `2.40` or `0.0375`");
    let (whole, decimals) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(decimals) || decimals.len() > 9 {
        return Err(wrong());
    }
    let whole: u64 = whole.parse().map_err(|_| wrong())?;
    let part: u64 = format!("{decimals:0<9}").parse().map_err(|_| wrong())?;
    whole.checked_mul(1_000_000_000).and_then(|nano| nano.checked_add(part)).ok_or_else(wrong)
}

/// A stretch of time, typed by a person, in seconds: `90`, `90s`, `15m`, `12h`, `30d`.
pub(crate) fn stretch(text: &str) -> Result<u32, String> {
    let wrong = || format!("`{text}` is not a time span, one looks like `90s`, `15m`, `12h` or `30d`");
    let (number, unit) = match text.char_indices().last() {
        Some((at, 's')) => (&text[..at], 1),
        Some((at, 'm')) => (&text[..at], 60),
        Some((at, 'h')) => (&text[..at], 3600),
        Some((at, 'd')) => (&text[..at], 86_400),
        _ => (text, 1),
    };
    let number: u32 = number.parse().map_err(|_| wrong())?;
    number.checked_mul(unit).filter(|seconds| *seconds > 0).ok_or_else(wrong)
}

/// Cores, typed by a person, as thousandths: `16`, `0.5`.
pub(crate) fn cores_milli(text: &str) -> Result<u32, String> {
    let wrong = || format!("`{text}` is no number of cores, one looks like `16` or `0.5`");
    let (whole, decimals) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(decimals) || decimals.len() > 3 {
        return Err(wrong());
    }
    let whole: u32 = whole.parse().map_err(|_| wrong())?;
    let part: u32 = format!("{decimals:0<3}").parse().map_err(|_| wrong())?;
    whole.checked_mul(1000).and_then(|milli| milli.checked_add(part)).ok_or_else(wrong)
}

/// A size, typed by a person, in bytes: `512MiB`, `180 GiB`, `2TiB`.
pub(crate) fn bytes(text: &str) -> Result<u64, String> {
    let wrong = || format!("`{text}` is not a size, one looks like `512MiB`, `180GiB` or `2TiB`");
    let units = [("KiB", 1_u64 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("TiB", 1 << 40)];
    let found = units.iter().find_map(|(name, unit)| Some((text.strip_suffix(name)?.trim_end(), *unit)));
    let (number, unit) = found.ok_or_else(wrong)?;
    if number.is_empty() || !number.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(wrong());
    }
    number.parse().ok().and_then(|number: u64| number.checked_mul(unit)).ok_or_else(wrong)
}

/// A label made of any text: 1 to 63 of `a-z`, `0-9`, `-` and what `extra` adds, beginning with a letter.
pub(crate) fn label(text: &str, extra: &str, otherwise: &str) -> String {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || extra.contains(c);
    let made: String = text.to_lowercase().chars().map(|c| if fits(c) { c } else { '-' }).collect();
    let made = made.trim_start_matches(|c: char| !c.is_ascii_lowercase()).trim_end_matches(['-', '.']);
    let made: String = made.chars().take(63).collect();
    if made.is_empty() { otherwise.into() } else { made }
}

/// Whether a text has the shape of an id of some kind; a name has not.
pub(crate) fn is_id<T: std::str::FromStr<Err = IdError>>(text: &str) -> bool {
    text.parse::<T>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn money_shows_every_decimal_it_has_and_two_at_least() {
        assert_eq!(euro(0), "0.00 EUR");
        assert_eq!(euro(1_500_000_000), "1.50 EUR");
        assert_eq!(euro(-1), "-0.000000001 EUR");
        assert_eq!(euro(12_345_000_000), "12.345 EUR");
    }

    #[test]
    fn typed_amounts_and_spans_are_exact_or_refused() {
        assert_eq!(cents("25"), Ok(2500));
        assert_eq!(cents("99.5"), Ok(9950));
        assert_eq!(cents("0.07"), Ok(7));
        for bad in ["", "1.234", "-1", "1,5", ".5", "1.", "92233720368547759"] {
            assert!(cents(bad).is_err(), "{bad}");
        }
        assert_eq!(stretch("30d"), Ok(2_592_000));
        assert_eq!(stretch("90"), Ok(90));
        for bad in ["", "0", "h", "1w", "-1s", "99999d9"] {
            assert!(stretch(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn typed_cores_and_sizes_are_exact_or_refused() {
        assert_eq!((cores_milli("16"), cores_milli("0.5"), cores_milli("1.025")), (Ok(16_000), Ok(500), Ok(1_025)));
        assert_eq!((bytes("512MiB"), bytes("180 GiB")), (Ok(512 << 20), Ok(180 << 30)));
        for bad in ["", ".5", "1.", "-1", "1.0005", "4294968", "1e3"] {
            assert!(cores_milli(bad).is_err(), "{bad}");
        }
        assert_eq!((nano("2.40"), nano("0.0375"), nano("3")), (Ok(2_400_000_000), Ok(37_500_000), Ok(3_000_000_000)));
        for bad in ["", "-1", "1.", ".5", "1,5", "0.0000000001", "99999999999"] {
            assert!(nano(bad).is_err(), "{bad}");
        }
        for bad in ["", "1", "GiB", "1.5GiB", "-1GiB", "1GB", "99999999999TiB"] {
            assert!(bytes(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_label_is_made_of_any_file_name() {
        assert_eq!(label("My Facts (v2).JSONL", "-.", "data"), "my-facts--v2-.jsonl");
        assert_eq!(label("2026.csv", "-.", "data"), "csv");
        assert_eq!(label("....", "-.", "data"), "data");
    }

    #[test]
    fn numbers_read_in_groups_and_sizes_in_units() {
        assert_eq!(count(0), "0");
        assert_eq!(count(1_234_567), "1,234,567");
        assert_eq!(size(1023), "1023 B");
        assert_eq!(size(1536), "1.5 KiB");
        assert_eq!(cores(1500), "1.5");
        assert_eq!(cores(10_000), "10");
    }
}
