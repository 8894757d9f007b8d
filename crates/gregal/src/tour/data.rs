//! What the tour trains on: its own facts, or the user's file.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::{Map, Value, json};

use super::facts::{self, Fact};

/// Held-out examples of a user's file, at most.
const HELD_OUT_MAX: usize = 100;
/// Steps in which a base model learns the invented facts; the loss is near zero from about the 60th on.
const INVENTED_STEPS: u32 = 100;
/// A user's file needs this many examples before some are held out.
const HELD_OUT_FROM: usize = 20;

/// Examples to train on, and what to ask afterwards.
pub(crate) struct TourData {
    /// The bytes to train on.
    pub train: Vec<u8>,
    /// The bytes held out, if any.
    pub heldout: Option<Vec<u8>>,
    /// How many examples are trained on.
    pub examples: usize,
    /// Questions for the served model, the first one shown; answers where they are known.
    pub questions: Vec<(String, Option<String>)>,
    /// A model to fine-tune instead of starting from nothing.
    pub base_model: Option<PathBuf>,
    /// Settings of the training.
    pub settings: Map<String, Value>,
    /// The SKU to ask for.
    pub sku: String,
    /// The least share of held-out answers that must be exact for the tour to have held.
    pub exact_min: f64,
}

impl TourData {
    /// The tour's own facts, or invented ones if a base model is given that may know the others.
    pub(crate) fn own(base_model: Option<PathBuf>) -> Self {
        let (train, heldout) = if base_model.is_some() {
            (facts::invented_trained(), facts::invented_held_out())
        } else {
            (facts::trained(), facts::held_out())
        };
        // Spread over all attributes and countries, in an order that is the same every time.
        let stride = (heldout.len() / 8).max(1);
        let questions = heldout
            .iter()
            .skip(11 % heldout.len())
            .step_by(stride)
            .map(|fact| (fact.question.clone(), Some(fact.answer.clone())))
            .collect();
        Self {
            train: facts::jsonl(&train),
            heldout: Some(facts::jsonl(&heldout)),
            examples: train.len(),
            questions,
            sku: sku(base_model.as_deref()),
            settings: settings(base_model.is_some().then_some(INVENTED_STEPS)),
            base_model,
            exact_min: 0.95,
        }
    }

    /// The user's own file, checked line by line before anything is made.
    pub(crate) fn of_file(path: &Path, base_model: Option<PathBuf>) -> Result<Self> {
        gregal_lm::data::validate(path).with_context(|| format!("`{}` cannot be trained on", path.display()))?;
        let text = std::fs::read_to_string(path).with_context(|| format!("could not read `{}`", path.display()))?;
        let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
        let facts: Option<Vec<Fact>> = lines.iter().map(|line| fact(line)).collect();
        let mut data = Self {
            train: text.clone().into_bytes(),
            heldout: None,
            examples: lines.len(),
            questions: Vec::new(),
            sku: sku(base_model.as_deref()),
            base_model,
            settings: settings(None),
            exact_min: 0.0,
        };
        match facts {
            Some(facts) if !facts.is_empty() => data.hold_out(&lines, &facts),
            // Plain text: the served model goes on from the first words.
            _ => data.questions.push((text.split_whitespace().take(6).collect::<Vec<_>>().join(" "), None)),
        }
        Ok(data)
    }

    /// Sets every tenth example aside, if there are enough of them.
    fn hold_out(&mut self, lines: &[&str], facts: &[Fact]) {
        if lines.len() < HELD_OUT_FROM {
            self.questions =
                facts.iter().take(3).map(|fact| (fact.question.clone(), Some(fact.answer.clone()))).collect();
            return;
        }
        let held = |index: usize| index % 10 == 9 && index / 10 < HELD_OUT_MAX;
        let pick = |wanted: bool| -> String {
            let chosen = lines.iter().enumerate().filter(|(index, _)| held(*index) == wanted);
            chosen.flat_map(|(_, line)| [*line, "\n"]).collect()
        };
        self.examples = (0..lines.len()).filter(|index| !held(*index)).count();
        self.train = pick(false).into_bytes();
        self.heldout = Some(pick(true).into_bytes());
        let questions = facts.iter().enumerate().filter(|(index, _)| held(*index)).take(3);
        self.questions = questions.map(|(_, fact)| (fact.question.clone(), Some(fact.answer.clone()))).collect();
    }
}

/// Checkpoints come often: a tour is short, and should lose little to a crash.
fn settings(steps: Option<u32>) -> Map<String, Value> {
    let mut settings = Map::from_iter([("checkpoint_every_s".to_owned(), json!(3))]);
    if let Some(steps) = steps {
        settings.insert("steps".into(), json!(steps));
    }
    settings
}

/// Fine-tuning a real model wants more memory than the smallest shape has.
fn sku(base_model: Option<&Path>) -> String {
    if base_model.is_some() { "cpu.2".into() } else { "cpu.1".into() }
}

/// The question and answer of one line, in either of the two JSON shapes; none for plain text.
fn fact(line: &str) -> Option<Fact> {
    let value: Value = serde_json::from_str(line).ok()?;
    if let (Some(prompt), Some(completion)) = (value["prompt"].as_str(), value["completion"].as_str()) {
        return Some(Fact { question: prompt.into(), answer: completion.trim().into() });
    }
    let messages = value["messages"].as_array()?;
    let said = |role: &str| {
        let found = messages.iter().find(|message| message["role"] == json!(role))?;
        found["content"].as_str().map(str::to_owned)
    };
    Some(Fact { question: said("user")?, answer: said("assistant")?.trim().into() })
}
