//! Files of strangers: the same model in both formats, and formats broken in every way we can think of.

use std::fs;

use candle_core::quantized::GgmlDType;
use gregal_lm::infer::{Model, Part};
use gregal_lm::weights::{self, Error, Loaded};

use crate::numbers::textbook;
use crate::tiny;

const PROMPT: &str = "<|im_start|>user\nHallo, wie geht's?<|im_end|>\n";

fn scores(loaded: &Loaded) -> Vec<f32> {
    let ids = loaded.tokenizer.encode(PROMPT, true).unwrap().get_ids().to_vec();
    let model = Model::new(loaded, 128, 1, |_, _| {}).unwrap();
    let mut cache = model.cache();
    model.step(&mut [Part { cache: &mut cache, tokens: &ids, wanted: true }]).remove(0).unwrap()
}

#[test]
fn a_gguf_file_is_the_same_model_as_its_folder() {
    let at = tempfile::tempdir().unwrap();
    tiny::folder(at.path());
    let folder = weights::load(at.path()).unwrap();
    tiny::gguf(&at.path().join("exact.gguf"), GgmlDType::F32);
    let exact = weights::load(at.path().join("exact.gguf")).unwrap();
    assert_eq!((&exact.eos, &exact.chat_template), (&folder.eos, &folder.chat_template));
    for (name, shape, numbers) in tiny::weights() {
        assert_eq!(exact.tensor_f32(&name).unwrap(), (numbers, shape), "{name}");
    }
    assert_eq!(scores(&exact), scores(&folder));
}

#[test]
fn quantised_weights_are_run_as_the_file_has_them() {
    let at = tempfile::tempdir().unwrap();
    for kind in [GgmlDType::Q8_0, GgmlDType::Q4_0, GgmlDType::Q4_1] {
        let path = at.path().join("model.gguf");
        tiny::gguf(&path, kind);
        let loaded = weights::load(&path).unwrap();
        let ids = loaded.tokenizer.encode(PROMPT, true).unwrap().get_ids().to_vec();
        let names = loaded.names().into_iter();
        let read: tiny::Weights = names
            .map(|name| {
                let (numbers, shape) = loaded.tensor_f32(name).unwrap();
                (name.to_owned(), shape, numbers)
            })
            .collect();
        assert_ne!(read[0].2, tiny::weights().iter().find(|weight| weight.0 == read[0].0).unwrap().2, "quantised");
        for (got, wanted) in scores(&loaded).iter().zip(textbook(&ids, &read)) {
            assert!((f64::from(*got) - wanted).abs() < 2e-3, "{kind:?}: {got} is not {wanted}");
        }
    }
}

#[test]
fn other_quantised_kinds_come_close() {
    let at = tempfile::tempdir().unwrap();
    let path = at.path().join("model.gguf");
    tiny::gguf(&path, GgmlDType::Q5_1);
    let loaded = weights::load(&path).unwrap();
    let name = "model.layers.1.mlp.down_proj.weight";
    let (read, _) = loaded.tensor_f32(name).unwrap();
    let (_, _, exact) = tiny::weights().into_iter().find(|weight| weight.0 == name).unwrap();
    for (read, exact) in read.iter().zip(&exact) {
        assert!((read - exact).abs() < 0.5 / 31.0 + 1e-3, "{read} is far from {exact}");
    }
    assert!(scores(&loaded).iter().all(|score| score.is_finite()));
}

#[test]
fn a_folder_in_several_files_is_read_whole() {
    let at = tempfile::tempdir().unwrap();
    tiny::folder(at.path());
    let single = scores(&weights::load(at.path()).unwrap());
    let file = at.path().join("model.safetensors");
    let whole = fs::read(&file).unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&whole).unwrap();
    let mut map = serde_json::Map::new();
    for (part, name) in ["a.safetensors", "b.safetensors"].iter().enumerate() {
        let mine: Vec<_> = tensors.tensors().into_iter().filter(|(name, _)| name.len() % 2 == part).collect();
        map.extend(mine.iter().map(|(tensor, _)| (tensor.clone(), (*name).into())));
        fs::write(at.path().join(name), safetensors::serialize(mine, None).unwrap()).unwrap();
    }
    fs::remove_file(&file).unwrap();
    let index = serde_json::json!({"weight_map": map});
    fs::write(at.path().join("model.safetensors.index.json"), index.to_string()).unwrap();
    assert_eq!(scores(&weights::load(at.path()).unwrap()), single);

    fs::remove_file(at.path().join("b.safetensors")).unwrap();
    assert!(matches!(weights::load(at.path()), Err(Error::Read { path, .. }) if path.ends_with("b.safetensors")));
}

#[test]
fn a_torn_or_scrambled_file_is_an_error_and_nothing_worse() {
    let at = tempfile::tempdir().unwrap();
    tiny::folder(at.path());
    tiny::gguf(&at.path().join("model.gguf"), GgmlDType::Q8_0);
    for name in ["model.gguf", "model.safetensors", "config.json", "tokenizer.json"] {
        let path = at.path().join(name);
        let load = || weights::load(if name == "model.gguf" { path.as_path() } else { at.path() });
        let sound = fs::read(&path).unwrap();
        load().unwrap();
        for keep in (0..40).chain((40..sound.len()).step_by(sound.len() / 60 + 1)) {
            fs::write(&path, &sound[..keep]).unwrap();
            assert!(load().is_err(), "{name} cut after {keep} bytes");
        }
        // Flipped bits may leave a sound file; they must not do more than that.
        for flip in (0..sound.len().min(6000)).step_by(23) {
            let mut bytes = sound.clone();
            bytes[flip] ^= 1 << (flip % 8);
            bytes[(flip * 31) % sound.len()] = 0xff;
            fs::write(&path, &bytes).unwrap();
            if let Ok(loaded) = load() {
                for name in loaded.names() {
                    let _ = loaded.tensor_f32(name);
                }
            }
        }
        fs::write(&path, &sound).unwrap();
    }
}

#[test]
fn lengths_that_cannot_be_true_ask_for_no_memory() {
    let at = tempfile::tempdir().unwrap();
    let path = at.path().join("huge.gguf");
    for claimed in [u64::MAX, 1 << 40, 65_000] {
        let mut bytes = b"GGUF\x03\0\0\0".to_vec();
        bytes.extend(claimed.to_le_bytes());
        bytes.extend(claimed.to_le_bytes());
        fs::write(&path, &bytes).unwrap();
        assert!(matches!(weights::load(&path), Err(Error::Malformed { .. })));
    }
    tiny::folder(at.path());
    let mut bytes = (1u64 << 62).to_le_bytes().to_vec();
    bytes.extend(b"{}");
    fs::write(at.path().join("model.safetensors"), bytes).unwrap();
    assert!(matches!(weights::load(at.path()), Err(Error::Malformed { .. })));
}

#[test]
fn a_model_this_engine_would_run_wrongly_is_refused() {
    let at = tempfile::tempdir().unwrap();
    tiny::folder(at.path());
    let path = at.path().join("config.json");
    let sound: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    for (field, value) in [
        ("model_type", serde_json::json!("mamba")),
        ("attention_bias", serde_json::json!(true)),
        ("rope_scaling", serde_json::json!({"rope_type": "llama3", "factor": 8.0})),
        ("hidden_act", serde_json::json!("gelu")),
        ("head_dim", serde_json::json!(32)),
    ] {
        let mut config = sound.clone();
        config[field] = value;
        fs::write(&path, config.to_string()).unwrap();
        assert!(matches!(weights::load(at.path()), Err(Error::Unsupported { .. })), "{field}");
    }
    let mut config = sound.clone();
    config["num_attention_heads"] = 0.into();
    fs::write(&path, config.to_string()).unwrap();
    assert!(matches!(weights::load(at.path()), Err(Error::Malformed { .. })));
    config["num_attention_heads"] = 8.into();
    fs::write(&path, config.to_string()).unwrap();
    assert!(matches!(weights::load(at.path()), Err(Error::Shape { .. })));
}
