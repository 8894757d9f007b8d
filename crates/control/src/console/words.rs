//! Numbers as people read them. Everything stays whole numbers until it is text.

use gregal_core::{energy::Millijoules, meter::Meter, money::Nano, time::Time};

/// A time, to the second: `2026-11-22 09:30:00`. All times are UTC; pages say so once.
pub(crate) fn when(time: Time) -> String {
    time.to_string().get(..19).unwrap_or_default().replace('T', " ")
}

/// A time that may not have come.
pub(crate) fn when_any(time: Option<Time>) -> String {
    time.map_or_else(|| "–".to_owned(), when)
}

/// A span: `850 ms`, `42 s`, `3 min 5 s`, `2 h 4 min`.
pub(crate) fn span(millis: i64) -> String {
    let seconds = millis.max(0) / 1000;
    match seconds {
        0 => format!("{} ms", millis.max(0)),
        1..60 => format!("{seconds} s"),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        _ => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
    }
}

/// A count with its thousands apart: `1 234 567`.
pub(crate) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push('\u{a0}');
        }
        text.push(digit);
    }
    text
}

/// Bytes, in the unit that leaves one to three digits before the point.
pub(crate) fn bytes(bytes: u64) -> String {
    scaled(bytes, 1024, &["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"])
}

/// Floating-point operations.
pub(crate) fn flop(flop: u64) -> String {
    scaled(flop, 1000, &["FLOP", "kFLOP", "MFLOP", "GFLOP", "TFLOP", "PFLOP", "EFLOP"])
}

/// A large number of something without a unit of its own: `1.8 M`.
pub(crate) fn rough(number: u64) -> String {
    scaled(number, 1000, &["", "k", "M", "G", "T", "P", "E"]).trim_end().to_owned()
}

/// With one decimal, cut, not rounded; whole in the smallest unit.
fn scaled(number: u64, step: u64, units: &[&str]) -> String {
    let (mut whole, mut rest, mut unit) = (number, 0, 0);
    while whole >= step && unit + 1 < units.len() {
        (whole, rest) = (whole / step, whole % step);
        unit += 1;
    }
    let name = units.get(unit).copied().unwrap_or_default();
    if unit == 0 { format!("{whole} {name}") } else { format!("{whole}.{} {name}", rest * 10 / step) }
}

/// Money that is still counting, in euro with four decimals, cut towards nothing.
pub(crate) fn euro(nano: i64) -> String {
    let text = Nano::new(nano).to_string();
    text[..text.len() - 5].to_owned()
}

/// A price in euro, without the zeros at its end.
pub(crate) fn price(nano: u64) -> String {
    let text = format!("{}.{:09}", nano / 1_000_000_000, nano % 1_000_000_000);
    let text = text.trim_end_matches('0');
    text.strip_suffix('.').unwrap_or(text).to_owned()
}

/// What was counted, in the unit people think in.
pub(crate) fn quantity(meter: Meter, quantity: u64) -> String {
    const HOUR_MS: u64 = 3_600_000;
    let hours = |unit: &str| {
        format!(
            "{}.{:04} {unit}",
            count(quantity / HOUR_MS),
            u128::from(quantity % HOUR_MS) * 10_000 / u128::from(HOUR_MS)
        )
    };
    match meter {
        Meter::ComputeCore | Meter::ReplicaCore | Meter::ReservedCore | Meter::CoveredCore => hours("core-hours"),
        Meter::Accelerator | Meter::ReservedAccelerator | Meter::CoveredAccelerator => hours("accelerator-hours"),
        Meter::TokensIn | Meter::TokensOut => format!("{} tokens", count(quantity)),
        Meter::Energy => Millijoules::new(quantity).to_string(),
    }
}

/// A meter by the name people call it.
pub(crate) const fn meter(meter: Meter) -> &'static str {
    match meter {
        Meter::ComputeCore => "CPU cores",
        Meter::Accelerator => "Accelerators",
        Meter::ReplicaCore => "CPU cores of served models",
        Meter::ReservedCore => "Reserved CPU cores",
        Meter::ReservedAccelerator => "Reserved accelerators",
        Meter::CoveredCore => "CPU cores used in reservations",
        Meter::CoveredAccelerator => "Accelerators used in reservations",
        Meter::TokensIn => "Tokens read",
        Meter::TokensOut => "Tokens written",
        Meter::Energy => "Energy",
    }
}

/// The beginning of a digest, enough to tell it from others.
pub(crate) fn digest(hex: &str) -> String {
    hex.get(..16).map_or_else(|| hex.to_owned(), |start| format!("{start}…"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_as_people_write_them() {
        assert_eq!(count(1_234_567).replace('\u{a0}', " "), "1 234 567");
        assert_eq!((count(0).as_str(), count(999).as_str()), ("0", "999"));
        assert_eq!((bytes(1023), bytes(1536), bytes(u64::MAX)), ("1023 B".into(), "1.5 KiB".into(), "15.9 EiB".into()));
        assert_eq!(flop(1_234_000_000_000_000), "1.2 PFLOP");
        assert_eq!((rough(950), rough(1_800_000)), ("950".into(), "1.8 M".into()));
        assert_eq!(
            (span(850), span(42_000), span(185_000), span(7_440_000)),
            ("850 ms".into(), "42 s".into(), "3 min 5 s".into(), "2 h 4 min".into())
        );
        assert_eq!((euro(1_234_567_890), euro(-1)), ("1.2345".into(), "-0.0000".into()));
        assert_eq!((price(40_000_000), price(2_000_000_000)), ("0.04".into(), "2".into()));
        assert_eq!(quantity(Meter::ComputeCore, 5_400_000), "1.5000 core-hours");
        assert_eq!(quantity(Meter::Energy, 3_600_000_000), "1.000000 kWh");
    }
}
