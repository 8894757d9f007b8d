//! The tokenizer that a GGUF file carries, rebuilt as the `tokenizers` crate's byte-level BPE.

use std::collections::BTreeSet;

use tokenizers::models::bpe::{BPE, Vocab};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::digits::Digits;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::processors::template::TemplateProcessing;
use tokenizers::{AddedToken, PreTokenizerWrapper, SplitDelimiterBehavior, Tokenizer};

use super::reader::Value;
use super::{Error, Meta};
use crate::config::ModelConfig;

/// Control tokens that end a turn, whatever the metadata says of them: converters record only one of several.
const ENDS: [&str; 6] = ["<|endoftext|>", "<|im_end|>", "<|eot_id|>", "<|end_of_text|>", "<|eom_id|>", "</s>"];

/// ggml's token types: control (never written as text) and user-defined (matched as a whole).
const CONTROL: i128 = 3;
const USER_DEFINED: i128 = 4;

/// The splitting pattern of Llama 3 and of those that copied it.
const LLAMA_3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// Builds the tokenizer and says which ids end a generation.
pub(super) fn tokenizer(meta: &Meta<'_>, config: &ModelConfig) -> Result<(Tokenizer, Vec<u32>), Error> {
    let model = meta.text("tokenizer.ggml.model").unwrap_or("");
    if model != "gpt2" {
        return Err(meta.unsupported(format!("its tokenizer is `{model}`, only byte-level BPE (`gpt2`) is known")));
    }
    let (Some(Value::Texts(tokens)), Some(Value::Texts(merges))) =
        (meta.values.get("tokenizer.ggml.tokens"), meta.values.get("tokenizer.ggml.merges"))
    else {
        return Err(meta.malformed("it has no tokens or no merges"));
    };
    if tokens.len() > config.vocab_size {
        return Err(meta.malformed(format!("{} tokens for {} embeddings", tokens.len(), config.vocab_size)));
    }
    let kinds = match meta.values.get("tokenizer.ggml.token_type") {
        Some(Value::Wholes(kinds)) if kinds.len() == tokens.len() => kinds.as_slice(),
        None => &[],
        Some(_) => return Err(meta.malformed("`tokenizer.ggml.token_type` does not match the tokens")),
    };

    let vocab: Vocab = tokens.iter().cloned().zip(0..).collect();
    let merges = merges.iter().map(|line| line.split_once(' ').map(|(a, b)| (a.to_owned(), b.to_owned())));
    let merges: Option<Vec<_>> = merges.collect();
    let merges = merges.ok_or_else(|| meta.malformed("a merge is not two words"))?;
    let bpe =
        BPE::builder().vocab_and_merges(vocab, merges).build().map_err(|error| meta.malformed(error.to_string()))?;

    let mut tokenizer = Tokenizer::new(bpe);
    tokenizer.with_pre_tokenizer(Some(pre_tokenizer(meta)?));
    tokenizer.with_decoder(Some(ByteLevel::new(false, true, true)));
    for (text, kind) in tokens.iter().zip(kinds) {
        let token = AddedToken::from(text.clone(), *kind == CONTROL).normalized(false);
        let added = match *kind {
            CONTROL => tokenizer.add_special_tokens([token]),
            USER_DEFINED => tokenizer.add_tokens([token]),
            _ => continue,
        };
        added.map_err(|error| meta.malformed(error.to_string()))?;
    }
    add_bos(meta, config, tokens, &mut tokenizer)?;

    let mut eos: BTreeSet<u32> = ENDS.iter().filter_map(|text| tokenizer.token_to_id(text)).collect();
    let named = ["eos_token_id", "eot_token_id", "eom_token_id"];
    eos.extend(named.iter().filter_map(|key| meta.id(&format!("tokenizer.ggml.{key}"))));
    Ok((tokenizer, eos.into_iter().collect()))
}

/// How text is cut before merging; the names are llama.cpp's.
fn pre_tokenizer(meta: &Meta<'_>) -> Result<PreTokenizerWrapper, Error> {
    let name = meta.text("tokenizer.ggml.pre").unwrap_or("default");
    Ok(match name {
        "gpt-2" | "gpt2" | "default" => ByteLevel::new(false, true, true).into(),
        "smollm" | "starcoder" | "refact" | "command-r" | "codeshell" => {
            Sequence::new(vec![Digits::new(true).into(), ByteLevel::new(false, true, true).into()]).into()
        }
        "llama-bpe" | "llama3" | "llama-v3" | "smaug-bpe" => {
            let split = Split::new(SplitPattern::Regex(LLAMA_3.to_owned()), SplitDelimiterBehavior::Isolated, false)
                .map_err(|error| meta.malformed(error.to_string()))?;
            Sequence::new(vec![split.into(), ByteLevel::new(false, true, false).into()]).into()
        }
        other => return Err(meta.unsupported(format!("its text is pre-split by `{other}`"))),
    })
}

/// Has every encoded text begin with the begin-of-text token, where the file asks for that.
fn add_bos(meta: &Meta<'_>, config: &ModelConfig, tokens: &[String], tokenizer: &mut Tokenizer) -> Result<(), Error> {
    if !meta.flag("tokenizer.ggml.add_bos_token") {
        return Ok(());
    }
    let Some((id, text)) = config.bos_token_id.and_then(|id| Some((id, tokens.get(id as usize)?))) else {
        return Err(meta.malformed("it asks for a begin-of-text token and names none"));
    };
    let template = TemplateProcessing::builder()
        .try_single(format!("{text}:0 $A:0"))
        .map_err(|error| meta.malformed(error.clone()))?
        .special_tokens(vec![(text.clone(), id)])
        .build()
        .map_err(|error| meta.malformed(error.to_string()))?;
    tokenizer.with_post_processor(Some(template));
    Ok(())
}
