//! Which examples a step learns from: every example once a pass, in an order that follows from the seed and the number of
//! the pass alone, so that a resumed run goes on with the very batches it would have had.

use super::model::Batch;
use super::random::Random;
use crate::tokenizer::Example;

/// Batches sorted by length together: longer makes less padding, shorter a better shuffle.
const POOL_BATCHES: usize = 8;

/// The batches of one pass, each a list of indexes into `examples`.
pub(crate) fn pass(examples: &[Example], batch: usize, seed: u64, pass: u64) -> Vec<Vec<usize>> {
    let mut random = Random::child(seed, "order", pass);
    let mut order: Vec<usize> = (0..examples.len()).collect();
    random.shuffle(&mut order);
    let mut batches = Vec::with_capacity(order.len().div_ceil(batch));
    for pool in order.chunks_mut(batch * POOL_BATCHES) {
        pool.sort_by_key(|&index| examples[index].ids.len());
        let mut cut: Vec<Vec<usize>> = pool.chunks(batch).map(<[usize]>::to_vec).collect();
        random.shuffle(&mut cut);
        batches.append(&mut cut);
    }
    batches
}

/// Random tokens put in place of some of a prompt's. A small model that never met a word in training otherwise takes it for
/// anything; one that learned among noise looks past it. Answers and special tokens are never touched.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Noise {
    /// Share of the tokens replaced.
    pub(crate) share: f64,
    /// Ids below this are special.
    pub(crate) special: u32,
    /// Entries in the vocabulary.
    pub(crate) vocab: u32,
}

impl Noise {
    /// Disturbs an example. What is drawn depends on `random` alone.
    pub(crate) fn disturb(self, example: &mut Example, random: &mut Random) {
        if self.share <= 0.0 {
            return;
        }
        let mut learned = example.learned.iter().copied().peekable();
        for (at, id) in example.ids.iter_mut().enumerate() {
            if learned.next_if_eq(&(at as u32)).is_some() || *id < self.special {
                continue;
            }
            if random.unit() < self.share {
                *id = self.special + random.below((self.vocab - self.special) as usize) as u32;
            }
        }
    }
}

/// Cuts a batch into parts of at most `positions_max` padded positions each (but at least one example), so that memory
/// stays bounded whatever the data; gradients of the parts add up to the same step.
pub(crate) fn parts(mut chosen: Vec<Example>, pad: u32, positions_max: usize) -> Vec<Batch> {
    chosen.sort_by_key(|example| example.ids.len());
    let mut parts = Vec::new();
    let mut from = 0;
    while from < chosen.len() {
        let mut to = from + 1;
        while to < chosen.len() && (to + 1 - from) * chosen[to].ids.len() <= positions_max {
            to += 1;
        }
        parts.push(padded(&chosen[from..to], pad));
        from = to;
    }
    parts
}

fn padded(examples: &[Example], pad: u32) -> Batch {
    // The last token of an example is only ever an answer: nothing is predicted from it.
    let length = examples.iter().map(|example| example.ids.len() - 1).max().unwrap_or(0);
    let (mut ids, mut rows, mut targets) = (Vec::with_capacity(examples.len() * length), Vec::new(), Vec::new());
    for (sequence, example) in examples.iter().enumerate() {
        let read = &example.ids[..example.ids.len() - 1];
        ids.extend_from_slice(read);
        ids.extend(std::iter::repeat_n(pad, length - read.len()));
        for &at in &example.learned {
            rows.push((sequence * length) as u32 + at - 1);
            targets.push(example.ids[at as usize]);
        }
    }
    Batch { ids, sequences: examples.len(), rows, targets }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn examples(lengths: &[usize]) -> Vec<Example> {
        let example = |&n: &usize| Example { ids: (0..n as u32).collect(), learned: vec![n as u32 - 1] };
        lengths.iter().map(example).collect()
    }

    #[test]
    fn every_example_is_met_once_a_pass() {
        let examples = examples(&(2..103).collect::<Vec<_>>());
        let mut met: Vec<usize> = pass(&examples, 4, 7, 3).into_iter().flatten().collect();
        met.sort_unstable();
        assert_eq!(met, (0..101).collect::<Vec<_>>());
    }

    #[test]
    fn a_pass_is_the_same_each_time_and_differs_from_the_next() {
        let examples = examples(&[5; 64]);
        assert_eq!(pass(&examples, 4, 7, 3), pass(&examples, 4, 7, 3));
        assert_ne!(pass(&examples, 4, 7, 3), pass(&examples, 4, 7, 4));
    }

    #[test]
    fn parts_stay_within_their_bound_and_lose_nothing() {
        let parts = parts(examples(&[9, 3, 7, 20, 4]), 99, 16);
        assert_eq!(parts.iter().map(|p| p.sequences).sum::<usize>(), 5);
        assert!(parts.iter().all(|p| p.ids.len() <= 16 || p.sequences == 1));
        let mut targets: Vec<u32> = parts.iter().flat_map(|p| p.targets.clone()).collect();
        targets.sort_unstable();
        assert_eq!(targets, [2, 3, 6, 8, 19]);
    }

    #[test]
    fn a_row_stands_before_the_token_it_learns() {
        let examples = vec![
            Example { ids: vec![10, 11, 12, 13], learned: vec![2, 3] },
            Example { ids: vec![20, 21], learned: vec![1] },
        ];
        let batch = padded(&examples, 99);
        assert_eq!(batch.ids, [10, 11, 12, 20, 99, 99]);
        assert_eq!((batch.rows, batch.targets), (vec![1, 2, 3], vec![12, 13, 21]));
    }

    #[test]
    fn noise_disturbs_prompts_and_nothing_else() {
        let before = Example { ids: (0..1000).collect(), learned: (900..1000).collect() };
        let mut after = before.clone();
        let noise = Noise { share: 0.2, special: 5, vocab: 1000 };
        noise.disturb(&mut after, &mut Random::child(1, "noise", 0));
        assert_eq!((&after.ids[..5], &after.ids[900..]), (&before.ids[..5], &before.ids[900..]));
        let changed = after.ids.iter().zip(&before.ids).filter(|(a, b)| a != b).count();
        assert!((120..240).contains(&changed), "{changed} of 895");
    }
}
