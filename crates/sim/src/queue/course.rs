//! The course of a replay: how full the machines were and how many waited, over time. What plots are drawn from.

/// What holds from one moment to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// When, in milliseconds since the first submission.
    pub at_ms: u64,
    /// Accelerators that jobs hold, those that save or load their work included.
    pub taken: u64,
    /// Accelerators of nodes that are down or reserved.
    pub away: u64,
    /// Jobs that wait.
    pub waiting: u64,
}

/// Every moment at which something changed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Course {
    /// Accelerators of all nodes.
    pub gpus: u64,
    /// The moments, in order.
    pub moments: Vec<Moment>,
}

impl Course {
    /// Notes how things stand; a moment that changes nothing is left out, of two at one time the later holds.
    pub(super) fn note(&mut self, moment: Moment) {
        let state = |moment: &Moment| (moment.taken, moment.away, moment.waiting);
        match self.moments.last_mut() {
            Some(last) if last.at_ms == moment.at_ms => *last = moment,
            Some(last) if state(last) == state(&moment) => {}
            _ => self.moments.push(moment),
        }
    }

    /// Until when it goes, in milliseconds.
    pub fn end_ms(&self) -> u64 {
        self.moments.last().map_or(0, |moment| moment.at_ms)
    }

    /// Accelerator-milliseconds that were away until some time.
    pub(super) fn away_gpu_ms(&self, until_ms: u64) -> u128 {
        let next = self.moments.iter().skip(1).map(|moment| moment.at_ms).chain([u64::MAX]);
        let lasts = self.moments.iter().zip(next).map(|(moment, next)| {
            u128::from(moment.away) * u128::from(next.min(until_ms).saturating_sub(moment.at_ms))
        });
        lasts.sum()
    }
}
