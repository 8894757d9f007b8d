//! What a training run says while it works: one JSON object a line on stdout. The site's agent reads these.

use std::{fmt, io::Write};

use serde::{Deserialize, Serialize};

/// One line of progress. The field `gregal` says which kind it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "gregal", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Progress {
    /// Data and model are ready; training begins. Said again after a resume.
    Start {
        /// Parameters of the model (frozen ones too).
        parameters: u64,
        /// Parameters that learn; fewer than `parameters` with an adapter.
        parameters_learned: u64,
        /// Steps planned; fewer are made when a time limit comes first.
        steps: u64,
        /// Tokens in one pass over the data, without padding.
        tokens_per_epoch: u64,
        /// What was found in the data.
        data: DataFound,
    },
    /// Work of an earlier run was found and goes on.
    Resumed {
        /// Steps already made.
        step: u64,
    },
    /// Some steps were made.
    Step {
        /// Steps made so far.
        step: u64,
        /// Steps planned.
        steps: u64,
        /// Mean cross-entropy of the learned tokens, in nats, over the steps since the last line.
        loss: f64,
        /// Learning rate of the last step.
        learning_rate: f64,
        /// Tokens read so far in training, without padding, counting earlier runs of the same work.
        tokens: u64,
        /// Tokens a second of wall time since the last line.
        tokens_per_s: f64,
        /// Seconds of training so far, counting earlier runs up to their last checkpoint.
        elapsed_s: f64,
        /// How far training is, 0 to 1: by steps or by time, whichever is further.
        fraction: f64,
    },
    /// The work so far can survive the end of this process.
    Checkpoint {
        /// Steps the checkpoint holds.
        step: u64,
        /// Folder of the checkpoint.
        path: String,
        /// Its size on disk.
        bytes: u64,
    },
    /// The finished model answered the held-out prompts.
    Heldout {
        /// Prompts asked.
        asked: u64,
        /// Answers equal to the expected one, spaces at the ends aside.
        exact: u64,
    },
    /// The model is written.
    Done {
        /// Steps made.
        steps: u64,
        /// Tokens trained on, without padding.
        tokens: u64,
        /// Seconds of training, counting earlier runs up to their last checkpoint.
        seconds: f64,
        /// Floating-point operations by the usual convention: 6 a parameter and token; with frozen weights 4 a frozen
        /// parameter and 6 a learned one, and token (no gradient is made for what is frozen).
        flop: u64,
        /// Mean cross-entropy of the last steps, in nats.
        loss: f64,
        /// Parameters of the model.
        parameters: u64,
        /// Folder of the finished model.
        model_dir: String,
        /// `sha256:` and the digest of the model's files: of the lines `<sha256 of file>  <name>\n`, in the order of names.
        model_digest: String,
    },
}

/// Words for people; what a job's log shows.
impl fmt::Display for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Start { parameters, parameters_learned, steps, data, .. } => write!(
                f,
                "training begins: {} examples, {} tokens; {parameters} parameters, {parameters_learned} of them learn; {steps} steps planned",
                data.examples, data.tokens
            ),
            Self::Resumed { step } => write!(f, "took up the work of an earlier run at step {step}"),
            Self::Step { step, steps, loss, tokens_per_s, elapsed_s, .. } => {
                write!(f, "step {step}/{steps}  loss {loss:.4}  {tokens_per_s:.0} tokens/s  {elapsed_s:.1} s")
            }
            Self::Checkpoint { step, bytes, .. } => write!(f, "checkpoint at step {step}, {bytes} bytes"),
            Self::Heldout { asked, exact } => write!(f, "held-out: {exact} of {asked} answers exact"),
            Self::Done { steps, seconds, loss, model_digest, .. } => {
                write!(f, "done: {steps} steps in {seconds:.1} s, loss {loss:.4}, model {model_digest}")
            }
        }
    }
}

/// What was found in the data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataFound {
    /// Conversations, or pieces of plain text.
    pub examples: u64,
    /// Tokens in them.
    pub tokens: u64,
    /// Examples left out because they are longer than the model's context.
    pub too_long: u64,
}

/// Where progress goes.
pub trait Sink: Send {
    /// Takes one line of progress.
    fn say(&mut self, progress: &Progress) -> std::io::Result<()>;
}

/// Writes each progress as one line of JSON, and flushes it.
#[derive(Debug)]
pub struct Lines<W>(pub W);

impl<W: Write + Send> Sink for Lines<W> {
    fn say(&mut self, progress: &Progress) -> std::io::Result<()> {
        let mut line = serde_json::to_vec(progress)?;
        line.push(b'\n');
        self.0.write_all(&line)?;
        self.0.flush()
    }
}

/// Writes each progress as JSON to the first and in words to the second: the agent reads one, people the other.
#[derive(Debug)]
pub struct Told<W, L>(pub Lines<W>, pub L);

impl<W: Write + Send, L: Write + Send> Sink for Told<W, L> {
    fn say(&mut self, progress: &Progress) -> std::io::Result<()> {
        writeln!(self.1, "{progress}")?;
        self.0.say(progress)
    }
}

/// Keeps everything, for tests.
impl Sink for Vec<Progress> {
    fn say(&mut self, progress: &Progress) -> std::io::Result<()> {
        self.push(progress.clone());
        Ok(())
    }
}
