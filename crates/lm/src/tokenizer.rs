//! Text to tokens for training: makes a byte-level BPE from the data, and turns conversations into tokens exactly as an
//! engine that serves the model will, through the model's own chat template.

use std::path::Path;

use serde_json::json;
use tokenizers::models::TrainerWrapper;
use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{AddedToken, Tokenizer};

use crate::chat_template::{self, Template};
use crate::data::{Conversation, Dataset, Message, Role};

/// Ends a message; a model says it when its answer is complete.
pub const END: &str = "<|end|>";
/// Fills the short sequences of a batch; never learned.
pub const PAD: &str = "<|pad|>";
/// One token opens a message, instead of several that spell the role: half the tokens of a short conversation.
const ROLES: [&str; 3] = ["<|system|>", "<|user|>", "<|assistant|>"];
/// Special tokens of an own tokenizer; they have the first ids.
pub(crate) const SPECIAL: u32 = 2 + ROLES.len() as u32;
/// How a conversation is written for a model made from nothing.
const CHAT_TEMPLATE: &str = "{% for message in messages %}\
    {{ '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}\
    {% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}";
/// A model of plain text continues what it is given.
const TEXT_TEMPLATE: &str = "{% for message in messages %}{{ message['content'] }}{% endfor %}";

/// Why text could not be turned into tokens.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The tokenizer refused.
    #[error("the tokenizer failed: {0}")]
    Tokenizer(String),
    /// The chat template could not be rendered.
    #[error(transparent)]
    Template(#[from] chat_template::Error),
    /// The template writes an answer differently from the question that asks for it.
    #[error("the model's chat template does not continue its own prompt, so answers cannot be told from questions")]
    TemplateNotPrefix,
    /// The model has no chat template and the data are conversations.
    #[error("the base model has no chat template; use an instruct model")]
    NoTemplate,
}

/// What is learned from: tokens, and which of them are the model's to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Example {
    pub(crate) ids: Vec<u32>,
    /// Positions of learned tokens, ascending; never 0.
    pub(crate) learned: Vec<u32>,
}

/// A tokenizer with the template and the ends that belong to it.
pub(crate) struct Encoder {
    pub(crate) tokenizer: Tokenizer,
    /// The chat template as written, and parsed.
    pub(crate) template: Option<(String, Template)>,
    /// Ids that end an answer.
    pub(crate) ends: Vec<u32>,
    pub(crate) pad: u32,
    /// What the template knows as `bos_token`.
    pub(crate) begin: Option<u32>,
}

/// Makes a tokenizer of at most `vocab` entries from the data. The same data make the same tokenizer.
pub(crate) fn train(data: &Dataset, vocab: usize) -> Result<Tokenizer, Error> {
    let failed = |e: tokenizers::Error| Error::Tokenizer(e.to_string());
    let special = [END, PAD].into_iter().chain(ROLES).map(|token| AddedToken::from(token, true)).collect();
    let trainer = BpeTrainer::builder()
        .vocab_size(vocab)
        .min_frequency(2)
        .show_progress(false)
        .special_tokens(special)
        .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
        .build();
    let mut tokenizer = Tokenizer::new(BPE::default());
    tokenizer.with_pre_tokenizer(Some(ByteLevel::new(false, false, true)));
    tokenizer.with_decoder(Some(ByteLevel::new(false, false, true)));
    let mut trainer = TrainerWrapper::BpeTrainer(trainer);
    match data {
        Dataset::Conversations(all) => {
            let texts = all.iter().flat_map(|c| &c.messages).map(|m| m.content.as_str());
            tokenizer.train(&mut trainer, texts).map_err(failed)?;
        }
        Dataset::Text(text) => {
            tokenizer.train(&mut trainer, text.split_inclusive('\n')).map_err(failed)?;
        }
    }
    Ok(tokenizer)
}

impl Encoder {
    /// The encoder of a model made from nothing.
    pub(crate) fn own(tokenizer: Tokenizer, data: &Dataset) -> Result<Self, Error> {
        let id = |token| tokenizer.token_to_id(token).ok_or_else(|| Error::Tokenizer(format!("`{token}` is missing")));
        let (end, pad) = (id(END)?, id(PAD)?);
        let template = if matches!(data, Dataset::Text(_)) { TEXT_TEMPLATE } else { CHAT_TEMPLATE };
        let template = Some((template.to_owned(), Template::new(template, "", END)?));
        Ok(Self { tokenizer, template, ends: vec![end], pad, begin: None })
    }

    /// The encoder of a finished model.
    pub(crate) fn of_base(base: &crate::weights::Loaded) -> Result<Self, Error> {
        let ends = base.eos.clone();
        let Some(&pad) = ends.first() else {
            return Err(Error::Tokenizer("the base model names no token that ends an answer".to_owned()));
        };
        let token = |id: Option<u32>| id.and_then(|id| base.tokenizer.id_to_token(id)).unwrap_or_default();
        let template = match &base.chat_template {
            Some(source) => Some((source.clone(), Template::new(source, &token(base.bos), &token(Some(pad)))?)),
            None => None,
        };
        Ok(Self { tokenizer: base.tokenizer.clone(), template, ends, pad, begin: base.bos })
    }

    /// Tokens of a text, special tokens recognised, none added.
    pub(crate) fn encode(&self, text: &str) -> Result<Vec<u32>, Error> {
        let encoding = self.tokenizer.encode(text, false).map_err(|e| Error::Tokenizer(e.to_string()))?;
        Ok(encoding.get_ids().to_vec())
    }

    /// The text of an answer.
    pub(crate) fn decode(&self, ids: &[u32]) -> Result<String, Error> {
        self.tokenizer.decode(ids, true).map_err(|e| Error::Tokenizer(e.to_string()))
    }

    fn render(&self, messages: &[Message], ask: bool) -> Result<String, Error> {
        let (_, template) = self.template.as_ref().ok_or(Error::NoTemplate)?;
        Ok(template.render(messages, ask)?)
    }

    /// The tokens a server gives the model to have the next message of a conversation said.
    pub(crate) fn prompt(&self, messages: &[Message]) -> Result<Vec<u32>, Error> {
        self.encode(&self.render(messages, true)?)
    }

    /// Tokens of a conversation. Prompts and answers are encoded apart, because a server encodes a prompt alone: a token
    /// that spans both would be one the model never meets again.
    pub(crate) fn conversation(&self, conversation: &Conversation) -> Result<Example, Error> {
        let messages = &conversation.messages;
        let (mut ids, mut learned) = (Vec::new(), Vec::new());
        let mut written = String::new();
        for (index, message) in messages.iter().enumerate() {
            if message.role != Role::Assistant {
                continue;
            }
            let asked = self.render(&messages[..index], true)?;
            let answered = self.render(&messages[..=index], false)?;
            let prompt = asked.strip_prefix(&written).ok_or(Error::TemplateNotPrefix)?;
            let answer = answered.strip_prefix(&asked).ok_or(Error::TemplateNotPrefix)?;
            ids.extend(self.encode(prompt)?);
            let start = ids.len();
            ids.extend(self.encode(answer)?);
            // What a template writes after the end (a line break) is not the model's to say.
            let end = ids[start..].iter().position(|id| self.ends.contains(id)).map_or(ids.len(), |at| start + at + 1);
            learned.extend((start.max(1)..end).map(|at| at as u32));
            written = answered;
        }
        // Nothing after the last learned token is learned from.
        ids.truncate(learned.last().map_or(0, |&last| last as usize + 1));
        Ok(Example { ids, learned })
    }

    /// Windows of plain text, of at most `context` tokens, every token learned; the text ends with an end.
    pub(crate) fn windows(&self, text: &str, context: usize) -> Result<Vec<Example>, Error> {
        let mut ids = self.encode(text)?;
        ids.extend(self.ends.first());
        // Windows share one token, so that each token but the first is learned once.
        let mut windows = Vec::new();
        let mut start = 0;
        while start + 1 < ids.len() {
            let window = &ids[start..ids.len().min(start + context)];
            windows.push(Example { ids: window.to_vec(), learned: (1..window.len() as u32).collect() });
            start += context - 1;
        }
        Ok(windows)
    }

    /// Writes `tokenizer.json` and `tokenizer_config.json`, which other engines load.
    pub(crate) fn write(&self, folder: &Path, context: usize) -> Result<(), std::io::Error> {
        let json = self.tokenizer.to_string(true).map_err(std::io::Error::other)?;
        std::fs::write(folder.join("tokenizer.json"), json)?;
        let mut config = json!({
            "tokenizer_class": "PreTrainedTokenizerFast",
            "model_max_length": context,
            "clean_up_tokenization_spaces": false,
        });
        for (name, id) in
            [("bos_token", self.begin.as_ref()), ("eos_token", self.ends.first()), ("pad_token", Some(&self.pad))]
        {
            if let Some(token) = id.and_then(|&id| self.tokenizer.id_to_token(id)) {
                config[name] = json!(token);
            }
        }
        if let Some((source, _)) = &self.template {
            config["chat_template"] = json!(source);
        }
        std::fs::write(folder.join("tokenizer_config.json"), serde_json::to_vec_pretty(&config)?)
    }
}
