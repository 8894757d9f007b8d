//! How values are spread: the same four figures for waiting times and for the times that decisions take.

use serde::{Deserialize, Serialize, Serializer};

/// How values are spread. The mean is rounded down, percentiles are by nearest rank.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Spread {
    /// Mean.
    pub mean: u64,
    /// Median.
    pub p50: u64,
    /// 99th percentile.
    pub p99: u64,
    /// Largest.
    pub max: u64,
}

impl Spread {
    /// Of values in any order; zeros of none.
    pub fn of(mut values: Vec<u64>) -> Self {
        values.sort_unstable();
        let Some(max) = values.last().copied() else { return Self::default() };
        let rank = |percent: usize| values[(values.len() * percent).div_ceil(100).max(1) - 1];
        let sum: u128 = values.iter().map(|value| u128::from(*value)).sum();
        let mean = u64::try_from(sum / values.len() as u128).unwrap_or(u64::MAX);
        Self { mean, p50: rank(50), p99: rank(99), max }
    }
}

/// Prints a spread of nanoseconds in microseconds: decisions about one node take less than one.
pub(crate) fn as_micros<S: Serializer>(nanos: &Spread, serializer: S) -> Result<S::Ok, S::Error> {
    /// The same four figures with a point.
    #[derive(Serialize)]
    struct Micros {
        mean: f64,
        p50: f64,
        p99: f64,
        max: f64,
    }
    let [mean, p50, p99, max] = [nanos.mean, nanos.p50, nanos.p99, nanos.max].map(|nanos| nanos as f64 / 1000.0);
    Micros { mean, p50, p99, max }.serialize(serializer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_occur() {
        let spread = Spread::of((1..=200).rev().collect());
        assert_eq!(spread, Spread { mean: 100, p50: 100, p99: 198, max: 200 });
        assert_eq!(Spread::of(vec![7]), Spread { mean: 7, p50: 7, p99: 7, max: 7 });
        assert_eq!(Spread::of(Vec::new()), Spread::default());
    }
}
