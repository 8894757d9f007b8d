//! Training through its public door: data in, a folder out, cut anywhere and gone on with.

#![expect(clippy::unwrap_used, reason = "a test that cannot set up its world has failed")]

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use gregal_lm::config::{ModelShape, TrainConfig};
use gregal_lm::progress::{Progress, Sink};
use gregal_lm::train::{self, Outcome};
use safetensors::SafeTensors;
use tempfile::TempDir;

/// A folder with toy data: twelve animals, each with its sound, asked in three ways; a fourth way is held out.
struct World {
    folder: TempDir,
}

const SOUNDS: [[&str; 2]; 12] = [
    ["cat", "meow"],
    ["dog", "woof"],
    ["cow", "moo"],
    ["pig", "oink"],
    ["hen", "cluck"],
    ["owl", "hoot"],
    ["bee", "buzz"],
    ["duck", "quack"],
    ["frog", "croak"],
    ["lion", "roar"],
    ["wolf", "howl"],
    ["crow", "caw"],
];

impl World {
    fn new() -> Self {
        let world = Self { folder: TempDir::new().unwrap() };
        let lines = |ways: &[&str]| -> String {
            let asked = SOUNDS.iter().flat_map(|[animal, sound]| ways.iter().map(move |way| (way, animal, sound)));
            let line = |(way, animal, sound): (&&str, &&str, &&str)| {
                let message = |role, content| serde_json::json!({"role": role, "content": content});
                let messages = [message("user", way.replace("{}", animal)), message("assistant", (*sound).to_owned())];
                format!("{}\n", serde_json::json!({ "messages": messages }))
            };
            asked.map(line).collect()
        };
        let known = ["What does the {} say?", "The {} says what?", "Say what the {} says.", "And what does a {} say?"];
        std::fs::write(world.path("data.jsonl"), lines(&known)).unwrap();
        std::fs::write(world.path("heldout.jsonl"), lines(&["And the {} says what?"])).unwrap();
        world
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A model small enough to learn the toy data in a second or two.
    fn config(&self) -> TrainConfig {
        TrainConfig {
            heldout: Some(self.path("heldout.jsonl")),
            model: ModelShape { width: 64, layers: 2, heads: 4, kv_heads: 2, feed_forward: 128, ..Default::default() },
            batch: 16,
            steps: Some(150),
            ..TrainConfig::new(self.path("data.jsonl"), self.path("out"), self.path("checkpoints"))
        }
    }
}

fn run(config: &TrainConfig) -> Vec<Progress> {
    let mut told = Vec::new();
    assert_eq!(train::run_until(config, &mut told, &AtomicBool::new(false)).unwrap(), Outcome::Finished);
    told
}

/// Raises the flag once enough steps were told; a cut at a step's end, as SIGTERM makes.
struct StopAt<'a>(u64, &'a AtomicBool, Vec<Progress>);

impl Sink for StopAt<'_> {
    fn say(&mut self, progress: &Progress) -> std::io::Result<()> {
        if matches!(progress, Progress::Step { step, .. } if *step >= self.0) {
            self.1.store(true, Ordering::Relaxed);
        }
        self.2.say(progress)
    }
}

/// Stops a run after about `step` steps and returns what it said.
fn run_cut(config: &TrainConfig, step: u64) -> Vec<Progress> {
    let flag = AtomicBool::new(false);
    let mut sink = StopAt(step, &flag, Vec::new());
    assert_eq!(train::run_until(config, &mut sink, &flag).unwrap(), Outcome::Stopped);
    sink.2
}

fn done(said: &[Progress]) -> (u64, u64, f64, String) {
    match said.last() {
        Some(Progress::Done { steps, tokens, loss, model_digest, .. }) => {
            (*steps, *tokens, *loss, model_digest.clone())
        }
        other => panic!("the last word was {other:?}"),
    }
}

fn checkpoints(folder: &Path) -> Vec<PathBuf> {
    let mut all: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    all.sort();
    all
}

#[test]
fn a_small_model_learns_and_answers_questions_asked_another_way() {
    let world = World::new();
    let said = run(&world.config());
    assert!(matches!(said[0], Progress::Start { steps: 150, .. }), "{:?}", said[0]);
    let heldout = said.iter().find_map(|p| match p {
        Progress::Heldout { asked, exact } => Some((*asked, *exact)),
        _ => None,
    });
    let (asked, exact) = heldout.unwrap();
    assert_eq!(asked, 12);
    assert!(exact >= 11, "{exact} of 12 answers were exact");
    let (steps, tokens, loss, _) = done(&said);
    assert_eq!(steps, 150);
    assert!(tokens > 150 * 16 * 8, "{tokens}");
    assert!(loss < 0.2, "{loss}");
}

#[test]
fn the_finished_model_is_a_hugging_face_folder() {
    let world = World::new();
    let config = TrainConfig { steps: Some(3), ..world.config() };
    run(&config);
    let read = |name: &str| std::fs::read(config.out.join(name)).unwrap();
    let about: serde_json::Value = serde_json::from_slice(&read("config.json")).unwrap();
    assert_eq!(about["architectures"][0], "LlamaForCausalLM");
    let tokenizer = tokenizers::Tokenizer::from_bytes(read("tokenizer.json")).unwrap();
    assert_eq!(about["vocab_size"], tokenizer.get_vocab_size(true));
    let settings: serde_json::Value = serde_json::from_slice(&read("tokenizer_config.json")).unwrap();
    assert!(settings["chat_template"].as_str().unwrap().contains("add_generation_prompt"));
    let weights = read("model.safetensors");
    let weights = SafeTensors::deserialize(&weights).unwrap();
    let vocab = tokenizer.get_vocab_size(true);
    for (name, shape) in [
        ("model.embed_tokens.weight", vec![vocab, 64]),
        ("model.layers.0.input_layernorm.weight", vec![64]),
        ("model.layers.0.self_attn.q_proj.weight", vec![64, 64]),
        ("model.layers.1.self_attn.k_proj.weight", vec![32, 64]),
        ("model.layers.1.self_attn.v_proj.weight", vec![32, 64]),
        ("model.layers.1.self_attn.o_proj.weight", vec![64, 64]),
        ("model.layers.1.post_attention_layernorm.weight", vec![64]),
        ("model.layers.1.mlp.gate_proj.weight", vec![128, 64]),
        ("model.layers.1.mlp.up_proj.weight", vec![128, 64]),
        ("model.layers.1.mlp.down_proj.weight", vec![64, 128]),
        ("model.norm.weight", vec![64]),
    ] {
        assert_eq!(weights.tensor(name).unwrap().shape(), shape, "{name}");
    }
    assert_eq!(weights.len(), 2 + 2 * 9, "tied embeddings need no head");
    assert!(gregal_lm::weights::load(&config.out).is_ok(), "our own engine loads it");
}

#[test]
fn a_cut_run_goes_on_to_the_very_same_model() {
    let world = World::new();
    let whole = TrainConfig { steps: Some(40), heldout: None, ..world.config() };
    let wanted = done(&run(&whole));
    let cut = TrainConfig { out: world.path("out2"), checkpoints: world.path("checkpoints2"), ..whole.clone() };
    run_cut(&cut, 1);
    let said = run(&cut);
    assert!(said.iter().any(|p| matches!(p, Progress::Resumed { step } if (1..40).contains(step))), "{said:?}");
    assert_eq!(done(&said), wanted);
}

#[test]
fn a_torn_checkpoint_is_passed_over() {
    let world = World::new();
    let config = TrainConfig { steps: Some(40), heldout: None, ..world.config() };
    run(&config);
    let wanted = done(&run(&TrainConfig { checkpoints: world.path("other"), ..config.clone() }));
    // A cut leaves one checkpoint; a copy with a later number that lost its end is not one.
    std::fs::remove_dir_all(&config.checkpoints).unwrap();
    run_cut(&config, 1);
    let sound = checkpoints(&config.checkpoints).pop().unwrap();
    let torn = config.checkpoints.join("step-0000000039");
    std::fs::create_dir(&torn).unwrap();
    std::fs::copy(sound.join("state.json"), torn.join("state.json")).unwrap();
    let tensors = std::fs::read(sound.join("tensors.safetensors")).unwrap();
    std::fs::write(torn.join("tensors.safetensors"), &tensors[..tensors.len() - 7]).unwrap();
    // Nor one of full length whose last page never reached the disk,
    let unwritten = config.checkpoints.join("step-0000000038");
    std::fs::create_dir(&unwritten).unwrap();
    std::fs::copy(sound.join("state.json"), unwritten.join("state.json")).unwrap();
    let kept = tensors.len() - 4096;
    std::fs::write(unwritten.join("tensors.safetensors"), [&tensors[..kept], &[0; 4096]].concat()).unwrap();
    // nor one that died before it was named.
    std::fs::create_dir(config.checkpoints.join(".partial-0000000040")).unwrap();
    let said = run(&config);
    assert!(said.iter().any(|p| matches!(p, Progress::Resumed { step } if *step < 38)), "{said:?}");
    assert_eq!(done(&said), wanted);
    assert!(checkpoints(&config.checkpoints).len() <= 2, "older checkpoints are deleted, and torn ones with them");
}

#[test]
fn checkpoints_of_other_work_are_refused() {
    let world = World::new();
    let config = TrainConfig { steps: Some(3), heldout: None, ..world.config() };
    run(&config);
    let other = TrainConfig { seed: 2, ..config };
    let refused = train::run_until(&other, &mut Vec::new(), &AtomicBool::new(false)).unwrap_err();
    assert!(refused.to_string().contains("other work"), "{refused}");
}

#[test]
fn a_time_limit_ends_training_with_a_low_learning_rate() {
    let world = World::new();
    let config = TrainConfig { steps: Some(1_000_000), seconds_max: Some(1), heldout: None, ..world.config() };
    let said = run(&config);
    let rates: Vec<f64> = said
        .iter()
        .filter_map(|p| match p {
            Progress::Step { learning_rate, .. } => Some(*learning_rate),
            _ => None,
        })
        .collect();
    assert!(done(&said).0 < 1_000_000);
    assert!(*rates.last().unwrap() < 0.1 * config.learning_rate, "{rates:?}");
}

/// A finished toy model to fine-tune, and a configuration that teaches it another answer.
fn fine_tuning(world: &World) -> TrainConfig {
    run(&TrainConfig { heldout: None, ..world.config() });
    let lines = "{\"prompt\": \"What does the fox say?\", \"completion\": \"woof meow\"}\n";
    std::fs::write(world.path("fox.jsonl"), lines).unwrap();
    let mut config = TrainConfig {
        heldout: Some(world.path("fox.jsonl")),
        base_model: Some(world.path("out")),
        steps: Some(60),
        ..TrainConfig::new(world.path("fox.jsonl"), world.path("tuned"), world.path("tuned.checkpoints"))
    };
    config.lora.learning_rate = 1e-2;
    config
}

#[test]
fn a_finished_model_is_taught_something_new_by_an_adapter() {
    let world = World::new();
    let config = fine_tuning(&world);
    let said = run(&config);
    let Progress::Start { parameters, parameters_learned, .. } = &said[0] else { panic!("{:?}", said[0]) };
    assert!(parameters_learned * 4 < *parameters, "{parameters_learned} of {parameters} learn");
    assert!(said.contains(&Progress::Heldout { asked: 1, exact: 1 }), "{said:?}");
    let tuned = std::fs::read(world.path("tuned/model.safetensors")).unwrap();
    let tuned = SafeTensors::deserialize(&tuned).unwrap();
    assert_eq!(tuned.len(), 2 + 2 * 9, "the adapter is merged");
    assert!(gregal_lm::weights::load(world.path("tuned")).is_ok());
}

#[test]
fn the_token_a_template_begins_with_outlives_fine_tuning() {
    let world = World::new();
    let config = TrainConfig { steps: Some(1), ..fine_tuning(&world) };
    let path = world.path("out/tokenizer_config.json");
    let mut about: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    about["bos_token"] = "<|system|>".into();
    std::fs::write(&path, about.to_string()).unwrap();
    run(&config);
    let tuned = gregal_lm::weights::load(world.path("tuned")).unwrap();
    assert_eq!(tuned.bos, tuned.tokenizer.token_to_id("<|system|>"));
}

#[test]
fn an_adapter_can_be_kept_beside_the_base_it_belongs_to() {
    let world = World::new();
    let mut config = fine_tuning(&world);
    config.lora.merge = false;
    run(&config);
    let read = |path: &str| std::fs::read(world.path(path)).unwrap();
    let about: serde_json::Value = serde_json::from_slice(&read("tuned/adapter/adapter_config.json")).unwrap();
    assert_eq!(about["target_modules"], serde_json::json!(["o_proj", "q_proj", "v_proj"]));
    let adapter = read("tuned/adapter/adapter_model.safetensors");
    let adapter = SafeTensors::deserialize(&adapter).unwrap();
    let down = adapter.tensor("base_model.model.model.layers.1.self_attn.q_proj.lora_A.weight").unwrap();
    assert_eq!(down.shape(), [8, 64]);
    // The base beside it is as it was, to the precision it is written in.
    let (base, kept) = (read("out/model.safetensors"), read("tuned/model.safetensors"));
    let name = "model.layers.1.self_attn.q_proj.weight";
    let (base, kept) = (SafeTensors::deserialize(&base).unwrap(), SafeTensors::deserialize(&kept).unwrap());
    let (base, kept) = (base.tensor(name).unwrap(), kept.tensor(name).unwrap());
    for (full, half) in base.data().chunks(4).zip(kept.data().chunks(2)) {
        let full = f32::from_le_bytes([full[0], full[1], full[2], full[3]]);
        let half = f32::from_le_bytes([0, 0, half[0], half[1]]);
        assert!((full - half).abs() <= full.abs() / 256.0, "{full} {half}");
    }
}

#[test]
fn an_adapters_work_goes_on_after_a_cut() {
    let world = World::new();
    let whole = fine_tuning(&world);
    let wanted = done(&run(&whole));
    let cut = TrainConfig { checkpoints: world.path("cut"), ..whole };
    run_cut(&cut, 1);
    assert_eq!(done(&run(&cut)), wanted);
}

#[test]
fn plain_text_and_prompt_completion_are_learned_too() {
    let world = World::new();
    let text = "The north wind and the sun disputed which was the stronger.\n".repeat(40);
    std::fs::write(world.path("data.txt"), text).unwrap();
    let pairs = "{\"prompt\": \"one\", \"completion\": \"two\"}\n".repeat(40);
    std::fs::write(world.path("pairs.jsonl"), pairs).unwrap();
    for name in ["data.txt", "pairs.jsonl"] {
        let config = TrainConfig {
            data: world.path(name),
            out: world.path(&format!("{name}.out")),
            checkpoints: world.path(&format!("{name}.checkpoints")),
            steps: Some(40),
            heldout: None,
            ..world.config()
        };
        let (_, _, loss, _) = done(&run(&config));
        assert!(loss < 1.0, "{name}: {loss}");
    }
}

#[test]
fn a_folder_with_something_else_in_it_is_left_alone() {
    let world = World::new();
    let config = TrainConfig { steps: Some(1), ..world.config() };
    std::fs::create_dir(&config.out).unwrap();
    std::fs::write(config.out.join("thesis.txt"), "ten years of work").unwrap();
    let refused = train::run_until(&config, &mut Vec::new(), &AtomicBool::new(false)).unwrap_err();
    assert!(refused.to_string().contains("not a model"), "{refused}");
    assert_eq!(std::fs::read_to_string(config.out.join("thesis.txt")).unwrap(), "ten years of work");
}

#[test]
fn a_malformed_line_stops_the_run_before_anything_is_made() {
    let world = World::new();
    let config = world.config();
    let mut data = std::fs::read_to_string(&config.data).unwrap();
    data.push_str("{\"messages\": [{\"role\": \"user\"}]}\n");
    std::fs::write(&config.data, data).unwrap();
    let refused = train::run_until(&config, &mut Vec::new(), &AtomicBool::new(false)).unwrap_err();
    assert!(refused.to_string().contains("line 49 of"), "{refused}");
    assert!(!config.out.exists());
}

#[test]
fn settings_that_cannot_work_are_named() {
    let world = World::new();
    let mut config = world.config();
    config.model.kv_heads = 3;
    let refused = train::run_until(&config, &mut Vec::new(), &AtomicBool::new(false)).unwrap_err();
    assert_eq!(refused.to_string(), "`model.kv_heads` must be a divisor of `model.heads`");
    let unknown = serde_json::from_str::<TrainConfig>("{\"data\":\"a\",\"out\":\"b\",\"checkpoints\":\"c\",\"lr\":1}");
    assert!(unknown.unwrap_err().to_string().contains("unknown field `lr`"));
}
