//! The embedded language-model engine: trains and serves small Llama-style models on the CPU, as a process of its own.
//! Never here: tenants, keys, prices, policy, or anything that knows it is part of a cloud.

pub mod bench;
pub mod chat_template;
pub mod checkpoint;
pub mod config;
pub mod data;
pub mod infer;
pub mod lora;
pub mod progress;
pub mod sample;
pub mod serve;
pub mod tokenizer;
pub mod train;
pub mod weights;
