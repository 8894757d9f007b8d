//! Trains a model: from nothing, or an adapter on a finished one. A run is one function: data in, a folder out, progress
//! told on the way; killed at any moment and started again, it goes on from its last checkpoint.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use sha2::{Digest, Sha256};

use crate::checkpoint::{self, State};
use crate::config::{CONTEXT_MAX, LoraConfig, ModelConfig, SettingError, TrainConfig};
use crate::data::{self, Dataset};
use crate::progress::{DataFound, Progress, Sink};
use crate::tokenizer::{self, Encoder, Example};
use crate::weights;
use batches::Noise;
use learner::Learner;
use model::Model;
use output::Precision;
use random::Random;
use schedule::{Enough, Plan};

mod answers;
mod batches;
mod learner;
pub(crate) mod model;
pub(crate) mod ops;
pub(crate) mod optimizer;
mod output;
pub(crate) mod random;
mod schedule;

/// Seconds between two lines of progress.
const SAY_EVERY_S: f64 = 0.5;
/// Part of training, at its end, over which noise in prompts fades out.
const NOISE_FADES: f64 = 0.3;
/// Weight of the newest step in the loss that is reported at the end.
const LOSS_NEWEST: f64 = 0.1;
/// Exit status of a process whose training was stopped by SIGTERM, as shells count it.
pub const EXIT_STOPPED: u8 = 143;

/// Why training did not finish.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A setting cannot be used.
    #[error(transparent)]
    Setting(#[from] SettingError),
    /// The configuration file is not one.
    #[error("`{}` is not a training configuration", path.display())]
    ConfigFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it, and where.
        #[source]
        source: serde_json::Error,
    },
    /// The data cannot be used.
    #[error(transparent)]
    Data(#[from] data::Error),
    /// Text could not be turned into tokens.
    #[error(transparent)]
    Tokenizer(#[from] tokenizer::Error),
    /// The base model could not be read.
    #[error("could not load the base model")]
    Base(#[from] weights::Error),
    /// A checkpoint or the finished model could not be written or read.
    #[error(transparent)]
    Checkpoint(#[from] checkpoint::Error),
    /// A computation failed.
    #[error("a computation failed")]
    Compute(#[from] candle_core::Error),
    /// Every example is longer than the context.
    #[error("every example is longer than the context of {context} tokens; the shortest has {shortest}")]
    AllTooLong {
        /// Context of the model.
        context: usize,
        /// Tokens in the shortest example.
        shortest: usize,
    },
    /// The folder for the model holds something else.
    #[error("`{}` holds something that is not a model; choose an empty or a new folder", path.display())]
    OutputTaken {
        /// The folder.
        path: PathBuf,
    },
    /// The loss stopped being a number.
    #[error("training diverged at step {step}: the loss is not a number; try a lower learning rate")]
    Diverged {
        /// The step.
        step: u64,
    },
    /// Nobody takes the progress any more.
    #[error("could not tell progress")]
    Progress(#[source] std::io::Error),
    /// Threads or signal handlers could not be set up.
    #[error("could not set up the process")]
    Process(#[source] std::io::Error),
}

/// How a run ended, when nothing failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The model is written.
    Finished,
    /// It was asked to stop; what was done is in a checkpoint.
    Stopped,
}

/// Trains as configured, telling progress. SIGTERM and SIGINT stop it at the next step, with a checkpoint.
pub fn run(config: &TrainConfig, sink: &mut dyn Sink) -> Result<Outcome, Error> {
    let stop = stop_on_signals().map_err(Error::Process)?;
    run_until(config, sink, &stop)
}

/// As [`run`], stopped by a flag instead of signals.
pub fn run_until(config: &TrainConfig, sink: &mut dyn Sink, stop: &AtomicBool) -> Result<Outcome, Error> {
    config.check()?;
    output::check(&config.out)?;
    std::fs::create_dir_all(&config.checkpoints).map_err(checkpoint::failed("create", &config.checkpoints))?;
    // Matrix products run on the threads of the pool they are called from.
    let pool = rayon::ThreadPoolBuilder::new().num_threads(config.threads).build();
    let pool = pool.map_err(|e| Error::Process(std::io::Error::other(e)))?;
    pool.install(|| Run::prepare(config)?.go(sink, stop))
}

/// A flag that SIGTERM and SIGINT raise. The first signal asks; the process ends when training has written its checkpoint.
fn stop_on_signals() -> std::io::Result<Arc<AtomicBool>> {
    use tokio::signal::unix::{SignalKind, signal};
    let stop = Arc::new(AtomicBool::new(false));
    let raised = Arc::clone(&stop);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let (mut terminate, mut interrupt) = {
        let _inside = runtime.enter();
        (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?)
    };
    std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
        runtime.block_on(async {
            tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
        });
        raised.store(true, Ordering::Relaxed);
    })?;
    Ok(stop)
}

/// Everything a run works with.
struct Run<'a> {
    config: &'a TrainConfig,
    learner: Learner,
    encoder: Encoder,
    examples: Vec<Example>,
    found: DataFound,
    heldout: Vec<data::Conversation>,
    plan: Plan,
    noise: Noise,
    batch: usize,
    base_name: Option<String>,
    work: String,
}

impl<'a> Run<'a> {
    fn prepare(config: &'a TrainConfig) -> Result<Self, Error> {
        let data = data::read(&config.data)?;
        let heldout = config.heldout.as_deref().map(data::read_conversations).transpose()?.unwrap_or_default();
        let base = config.base_model.as_deref().map(weights::load).transpose()?;
        let base_name = base.as_ref().map(|base| base.name.clone());
        let encoder = match &base {
            Some(base) => Encoder::of_base(base)?,
            None => Encoder::own(tokenizer::train(&data, config.model.vocab)?, &data)?,
        };
        let limit = match &base {
            Some(base) => base.config.max_position_embeddings.min(CONTEXT_MAX),
            None => config.model.context.unwrap_or(CONTEXT_MAX),
        };
        let (examples, found) = examples(&encoder, &data, limit, config.model.context)?;
        let longest = examples.iter().map(|example| example.ids.len()).max().unwrap_or(0);
        let work = work(config, &encoder, &examples, base_name.as_deref());
        let mut random = Random::child(config.seed, "weights", 0);
        let (learner, batch, rate) = if let Some(base) = base {
            let model = base_model(&base)?;
            drop(base);
            let learner = Learner::adapted(model, &config.lora, &mut random)?;
            (learner, config.lora.batch, config.lora.learning_rate)
        } else {
            let model = Model::random(new_config(config, &encoder, longest), &mut random)?;
            (Learner::whole(model), config.batch, config.learning_rate)
        };
        let enough = if learner.lora.is_some() { Enough::ADAPTER } else { Enough::NEW };
        let plan = schedule::plan(config, examples.len(), batch, rate, enough);
        // A finished model knows its words.
        let share = if learner.lora.is_some() { 0.0 } else { config.prompt_noise };
        let vocab = learner.model.config.vocab_size as u32;
        let noise = Noise { share, special: tokenizer::SPECIAL, vocab };
        Ok(Self { config, learner, encoder, examples, found, heldout, plan, noise, batch, base_name, work })
    }

    fn go(mut self, sink: &mut dyn Sink, stop: &AtomicBool) -> Result<Outcome, Error> {
        let mut state = State::new(self.work.clone());
        let saved = checkpoint::newest(&self.config.checkpoints, &self.work)?;
        say(sink, &self.start())?;
        if let Some(saved) = saved {
            state = saved.state;
            self.learner.restore(saved.tensors)?;
            say(sink, &Progress::Resumed { step: state.step })?;
        }
        if self.train(&mut state, sink, stop)? == Outcome::Stopped {
            return Ok(Outcome::Stopped);
        }
        let precision = if self.base_name.is_some() { Precision::Brain } else { Precision::Full };
        let out = &self.config.out;
        let base = self.base_name.as_deref();
        let model_digest = output::write(out, &self.learner, &self.encoder, &self.config.lora, base, precision)?;
        if !self.heldout.is_empty() {
            let Some((asked, exact)) = answers::ask(&self.learner.model, &self.encoder, &self.heldout, stop)? else {
                return Ok(Outcome::Stopped);
            };
            say(sink, &Progress::Heldout { asked, exact })?;
        }
        let parameters = self.learner.model.config.parameters();
        let done = Progress::Done {
            steps: state.step,
            tokens: state.tokens,
            seconds: state.elapsed_s,
            flop: flop(parameters, self.learner.parameters_learned(), self.learner.lora.is_some(), state.tokens),
            loss: state.loss,
            parameters,
            model_dir: out.display().to_string(),
            model_digest,
        };
        say(sink, &done)?;
        Ok(Outcome::Finished)
    }

    fn start(&self) -> Progress {
        Progress::Start {
            parameters: self.learner.model.config.parameters(),
            parameters_learned: self.learner.parameters_learned(),
            steps: self.plan.steps,
            tokens_per_epoch: self.found.tokens,
            data: self.found.clone(),
        }
    }

    /// Makes steps until the plan is fulfilled or `stop` is raised; either way the last step is in a checkpoint.
    fn train(&mut self, state: &mut State, sink: &mut dyn Sink, stop: &AtomicBool) -> Result<Outcome, Error> {
        let begun = Instant::now();
        let before = state.elapsed_s;
        let mut saved = (state.step, before);
        let mut said = Said { step: state.step, tokens: state.tokens, elapsed_s: before, loss: 0.0 };
        let (mut pass, mut batches) = (u64::MAX, Vec::new());
        loop {
            let fraction = self.plan.fraction(state.step, state.elapsed_s);
            let ends = fraction >= 1.0 || stop.load(Ordering::Relaxed);
            if saved.0 != state.step && (ends || state.elapsed_s - saved.1 >= self.config.checkpoint_every_s as f64) {
                self.save(state, sink)?;
                saved = (state.step, state.elapsed_s);
            }
            if ends {
                return Ok(if fraction >= 1.0 { Outcome::Finished } else { Outcome::Stopped });
            }
            if pass != state.step / self.plan.steps_per_pass {
                pass = state.step / self.plan.steps_per_pass;
                batches = batches::pass(&self.examples, self.batch, self.config.seed, pass);
            }
            let chosen = &batches[(state.step % self.plan.steps_per_pass) as usize];
            let chosen = self.disturbed(chosen, state.step, fraction);
            let rate = self.plan.rate(fraction);
            let stepped = self.learner.step(chosen, self.encoder.pad, state.step + 1, rate)?;
            if !stepped.loss.is_finite() {
                return Err(Error::Diverged { step: state.step + 1 });
            }
            state.took(stepped.loss, stepped.tokens);
            state.elapsed_s = before + begun.elapsed().as_secs_f64();
            said.loss += stepped.loss;
            let last = self.plan.fraction(state.step, state.elapsed_s) >= 1.0;
            if last || state.step == 1 || state.elapsed_s - said.elapsed_s >= SAY_EVERY_S {
                say(sink, &said.line(state, &self.plan, rate))?;
                said = Said { step: state.step, tokens: state.tokens, elapsed_s: state.elapsed_s, loss: 0.0 };
            }
        }
    }

    /// The chosen examples with noise in their prompts; the last part of training fades it out.
    fn disturbed(&self, chosen: &[usize], step: u64, fraction: f64) -> Vec<Example> {
        let noise = Noise { share: self.noise.share * ((1.0 - fraction) / NOISE_FADES).min(1.0), ..self.noise };
        let mut random = Random::child(self.config.seed, "noise", step);
        let mut chosen: Vec<Example> = chosen.iter().map(|&index| self.examples[index].clone()).collect();
        for example in &mut chosen {
            noise.disturb(example, &mut random);
        }
        chosen
    }

    fn save(&self, state: &State, sink: &mut dyn Sink) -> Result<(), Error> {
        let folder = &self.config.checkpoints;
        let (path, bytes) =
            self.learner.save(|tensors| checkpoint::write(folder, state.clone(), tensors.into_iter()))??;
        say(sink, &Progress::Checkpoint { step: state.step, path: path.display().to_string(), bytes })
    }
}

/// What the last line of progress said, and the losses since.
struct Said {
    step: u64,
    tokens: u64,
    elapsed_s: f64,
    loss: f64,
}

impl Said {
    fn line(&self, state: &State, plan: &Plan, learning_rate: f64) -> Progress {
        let seconds = (state.elapsed_s - self.elapsed_s).max(1e-9);
        Progress::Step {
            step: state.step,
            steps: plan.steps,
            loss: self.loss / (state.step - self.step) as f64,
            learning_rate,
            tokens: state.tokens,
            tokens_per_s: (state.tokens - self.tokens) as f64 / seconds,
            elapsed_s: state.elapsed_s,
            fraction: plan.fraction(state.step, state.elapsed_s),
        }
    }
}

impl State {
    fn new(work: String) -> Self {
        Self { format: 0, work, step: 0, tokens: 0, elapsed_s: 0.0, loss: 0.0, tensors_sha256: String::new() }
    }

    fn took(&mut self, loss: f64, tokens: u64) {
        self.loss = if self.step == 0 { loss } else { self.loss + LOSS_NEWEST * (loss - self.loss) };
        self.step += 1;
        self.tokens += tokens;
    }
}

fn say(sink: &mut dyn Sink, progress: &Progress) -> Result<(), Error> {
    sink.say(progress).map_err(Error::Progress)
}

/// Turns data into examples no longer than `limit` tokens. Text is cut into windows of `window` tokens.
fn examples(
    encoder: &Encoder,
    data: &Dataset,
    limit: usize,
    window: Option<usize>,
) -> Result<(Vec<Example>, DataFound), Error> {
    /// Window of plain text when the configuration names none, in tokens.
    const WINDOW: usize = 256;
    let mut all = match data {
        Dataset::Conversations(list) => list.iter().map(|c| encoder.conversation(c)).collect::<Result<Vec<_>, _>>()?,
        Dataset::Text(text) => encoder.windows(text, window.unwrap_or(WINDOW).min(limit))?,
    };
    let (count, shortest) = (all.len(), all.iter().map(|e| e.ids.len()).min().unwrap_or(0));
    all.retain(|example| example.ids.len() <= limit && !example.learned.is_empty());
    if all.is_empty() {
        return Err(Error::AllTooLong { context: limit, shortest });
    }
    let too_long = (count - all.len()) as u64;
    if too_long > 0 {
        tracing::warn!(too_long, context = limit, "examples longer than the context are left out");
    }
    let tokens = all.iter().map(|example| example.ids.len() as u64).sum();
    let found = DataFound { examples: all.len() as u64, tokens, too_long };
    Ok((all, found))
}

/// The shape of a model made from nothing. Its context has room for twice the longest example, for longer questions.
fn new_config(config: &TrainConfig, encoder: &Encoder, longest: usize) -> ModelConfig {
    let shape = &config.model;
    let context = shape.context.unwrap_or_else(|| (2 * longest).next_power_of_two().clamp(128, CONTEXT_MAX));
    ModelConfig {
        architectures: vec!["LlamaForCausalLM".to_owned()],
        model_type: "llama".to_owned(),
        vocab_size: encoder.tokenizer.get_vocab_size(true),
        hidden_size: shape.width,
        intermediate_size: shape.feed_forward,
        num_hidden_layers: shape.layers,
        num_attention_heads: shape.heads,
        num_key_value_heads: shape.kv_heads,
        max_position_embeddings: context,
        rms_norm_eps: 1e-5,
        rope_theta: 10_000.0,
        tie_word_embeddings: true,
        bos_token_id: None,
        eos_token_id: encoder.ends.clone(),
        torch_dtype: "float32".to_owned(),
    }
}

fn base_model(base: &weights::Loaded) -> Result<Model, Error> {
    Model::from_named(base.config.clone(), |name| -> Result<_, Error> {
        let (values, shape) = base.tensor_f32(name)?;
        Ok(ops::tensor(values, shape)?)
    })
}

/// Names the work that a checkpoint belongs to: everything that decides what is learned, in which order.
fn work(config: &TrainConfig, encoder: &Encoder, examples: &[Example], base_name: Option<&str>) -> String {
    let mut hash = Sha256::new();
    let lora = LoraConfig { merge: true, ..config.lora.clone() };
    let learned_by = if base_name.is_some() { format!("{lora:?}") } else { format!("{:?}", config.model) };
    let limits = (config.batch, config.learning_rate.to_bits(), config.steps, config.epochs, config.seed);
    let limits = (limits, config.prompt_noise.to_bits());
    hash.update(format!("{base_name:?} {learned_by} {limits:?}"));
    hash.update(encoder.template.as_ref().map_or("", |(source, _)| source));
    for example in examples {
        for id in example.ids.iter().chain(&example.learned) {
            hash.update(id.to_le_bytes());
        }
        hash.update([0xff; 4]);
    }
    checkpoint::hex(&hash.finalize())
}

/// See [`Progress::Done`] for the rule.
fn flop(parameters: u64, learned: u64, frozen: bool, tokens: u64) -> u64 {
    let a_token = if frozen { 4 * parameters + 6 * learned } else { 6 * parameters };
    a_token.saturating_mul(tokens)
}

/// Reads a training configuration from a file.
pub fn config_from(path: &Path) -> Result<TrainConfig, Error> {
    let bytes = std::fs::read(path).map_err(checkpoint::failed("read", path))?;
    serde_json::from_slice(&bytes).map_err(|e| Error::ConfigFile { path: path.to_owned(), source: e })
}
