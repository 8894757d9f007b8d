//! Measures a model on this machine: tokens per second of processor time, reading and writing, alone and in company.
//! Processor time, not the clock on the wall: a busy neighbour must not change the figure.

use std::path::PathBuf;

use nix::sys::resource::{UsageWho, getrusage};
use serde::Serialize;

use crate::infer::{Model, Part};
use crate::sample::{Sampler, Sampling};
use crate::weights;

/// What to measure.
#[derive(Debug, Clone)]
pub struct Options {
    /// A Hugging Face folder or a GGUF file.
    pub model: PathBuf,
    /// Worker threads of a step.
    pub threads: usize,
    /// Length of each prompt, tokens.
    pub prompt_tokens: usize,
    /// Tokens written by each sequence.
    pub decode_tokens: usize,
    /// Numbers of sequences in a step; one line of the report each.
    pub sequences: Vec<usize>,
}

impl Options {
    /// The usual measure: prompts of 256 tokens, answers of 64, by 1, 4 and 8 sequences at once, on one thread.
    pub fn new(model: PathBuf) -> Self {
        Self { model, threads: 1, prompt_tokens: 256, decode_tokens: 64, sequences: vec![1, 4, 8] }
    }
}

/// What was measured.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// The model's name.
    pub model: String,
    /// Its parameters.
    pub parameters: u64,
    /// Memory its weights take, bytes.
    pub weight_bytes: usize,
    /// Worker threads.
    pub threads: usize,
    /// The instructions chosen for this processor.
    pub instructions: String,
    /// One line for each number of sequences.
    pub lines: Vec<Line>,
}

/// Rates with this many sequences in a step, all together.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Line {
    /// Sequences in a step.
    pub sequences: usize,
    /// Prompt tokens read per second of processor time.
    pub prefill_tokens_per_cpu_s: f64,
    /// Tokens written per second of processor time.
    pub decode_tokens_per_cpu_s: f64,
}

/// Why nothing could be measured.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The model could not be read.
    #[error("could not load the model")]
    Weights(#[from] weights::Error),
    /// The system does not tell processor time.
    #[error("could not read the processor time used")]
    Usage(#[from] nix::Error),
    /// The model is too short for what was asked.
    #[error("{wanted} tokens do not fit into the model's context of {context}")]
    Context {
        /// Prompt and answer, tokens.
        wanted: usize,
        /// The model's limit, tokens.
        context: usize,
    },
}

/// Loads the model and measures.
pub fn run(options: &Options) -> Result<Report, Error> {
    let loaded = weights::load(&options.model)?;
    let wanted = options.prompt_tokens + options.decode_tokens;
    let context = loaded.config.max_position_embeddings;
    if wanted > context {
        return Err(Error::Context { wanted, context });
    }
    let model = Model::new(&loaded, wanted, options.threads, |_, _| {})?;
    let lines =
        options.sequences.iter().map(|sequences| line(&model, options, *sequences)).collect::<Result<_, _>>()?;
    Ok(Report {
        model: loaded.name,
        parameters: model.config().parameters(),
        weight_bytes: model.bytes_held(),
        threads: options.threads,
        instructions: model.instructions().to_owned(),
        lines,
    })
}

fn line(model: &Model, options: &Options, sequences: usize) -> Result<Line, Error> {
    let vocab = model.config().vocab_size;
    // Any text does: the work does not depend on the words.
    let prompt: Vec<u32> = (0..options.prompt_tokens).map(|at| ((at * 7919 + 11) % vocab) as u32).collect();
    let mut caches: Vec<_> = (0..sequences).map(|_| model.cache()).collect();
    let mut sampler = Sampler::new(Sampling::GREEDY);

    let start = cpu_seconds()?;
    let mut next = vec![0u32; sequences];
    for (cache, next) in caches.iter_mut().zip(&mut next) {
        for piece in prompt.chunks(crate::infer::PIECE_TOKENS) {
            let wanted = cache.length() + piece.len() == prompt.len();
            let scores = model.step(&mut [Part { cache: &mut *cache, tokens: piece, wanted }]);
            if let Some(scores) = &scores[0] {
                *next = sampler.pick(scores);
            }
        }
    }
    let read = cpu_seconds()?;
    for _ in 0..options.decode_tokens {
        let tokens = next.clone();
        let parts = caches.iter_mut().zip(&tokens);
        let mut parts: Vec<_> =
            parts.map(|(cache, id)| Part { cache, tokens: std::slice::from_ref(id), wanted: true }).collect();
        for (next, scores) in next.iter_mut().zip(model.step(&mut parts).into_iter().flatten()) {
            *next = sampler.pick(&scores);
        }
    }
    let written = cpu_seconds()?;
    let rate = |tokens: usize, seconds: f64| (sequences * tokens) as f64 / seconds.max(1e-6);
    Ok(Line {
        sequences,
        prefill_tokens_per_cpu_s: rate(options.prompt_tokens, read - start),
        decode_tokens_per_cpu_s: rate(options.decode_tokens, written - read),
    })
}

/// Processor time of this process so far, in its own code and in the system's.
fn cpu_seconds() -> Result<f64, Error> {
    let usage = getrusage(UsageWho::RUSAGE_SELF)?;
    let seconds = |time: nix::sys::time::TimeVal| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6;
    Ok(seconds(usage.user_time()) + seconds(usage.system_time()))
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let megabytes = self.weight_bytes as f64 / 1e6;
        writeln!(
            f,
            "{}: {} parameters, {megabytes:.0} MB of weights, {} thread(s), {}",
            self.model, self.parameters, self.threads, self.instructions
        )?;
        writeln!(f, "tokens per second of processor time:")?;
        writeln!(f, "{:>10} {:>10} {:>10}", "sequences", "prefill", "decode")?;
        for line in &self.lines {
            writeln!(
                f,
                "{:>10} {:>10.1} {:>10.1}",
                line.sequences, line.prefill_tokens_per_cpu_s, line.decode_tokens_per_cpu_s
            )?;
        }
        Ok(())
    }
}
