//! The main job.

use std::{fmt::Write as _, fs};

use crate::program::{complaint, files, finish, gregal, printed};

const FREE: [&str; 4] = ["--control-listen", "127.0.0.1:0", "--site-listen", "127.0.0.1:0"];

#[test]
fn the_tour_trains_serves_answers_refuses_bills_and_proves() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("cloud");
    let output =
        finish(gregal(&["tour", "--exit", "--json", "--keep", "--data-dir", dir.to_str().unwrap()]).args(FREE));
    let summary = printed(&output);
    assert!(output.status.success(), "{}", complaint(&output));
    assert_eq!(summary["ok"], true);
    let exact = summary["training"]["heldout_exact"].as_f64().unwrap();
    assert!(exact >= 0.95, "only {exact} of the held-out answers were exact");
    assert!(summary["training"]["heldout_asked"].as_u64().unwrap() >= 100);
    assert!(summary["training"]["tokens_per_s"].as_f64().unwrap() > 0.0);
    assert_eq!(summary["chat"]["answer"], summary["chat"]["expected"]);
    assert!(summary["chat"]["chunks"].as_u64().unwrap() > 1, "the answer did not come as a stream");
    assert_eq!(summary["residency"]["refused_by"], "residency.site_jurisdiction");
    let meters: Vec<&str> =
        summary["usage"].as_array().unwrap().iter().map(|sum| sum["meter"].as_str().unwrap()).collect();
    for meter in ["compute_core", "replica_core", "tokens_in", "tokens_out", "energy"] {
        assert!(meters.contains(&meter), "no usage of {meter}");
    }
    assert_eq!(summary["invoice"]["total_eur"], summary["invoice"]["recomputed_eur"]);
    assert!(summary["audit"]["verified"].as_bool().unwrap() && summary["audit"]["entries"].as_u64().unwrap() > 10);
    assert!(dir.is_dir(), "--keep did not keep the data folder");
    content_never_left_its_site(&dir);
}

/// Control's own store holds no word of the training data and no word of an answer.
fn content_never_left_its_site(dir: &std::path::Path) {
    let control: Vec<u8> = files(dir)
        .into_iter()
        .filter(|path| path.file_name().unwrap().to_string_lossy().starts_with("control.sqlite"))
        .flat_map(|path| fs::read(path).unwrap())
        .collect();
    assert!(!control.is_empty());
    for word in ["Reykjavik", "capital of", "hryvnia"] {
        assert!(!holds(&control, word.as_bytes()), "control's store holds `{word}`, which is content");
    }
    // At rest the site holds the data only encrypted.
    for path in files(&dir.join("site").join("objects")) {
        assert!(!holds(&fs::read(&path).unwrap(), b"Reykjavik"), "{} holds content in the clear", path.display());
    }
}

fn holds(bytes: &[u8], word: &[u8]) -> bool {
    bytes.windows(word.len()).any(|window| window == word)
}

#[test]
fn a_users_own_file_is_trained_on_and_the_folder_the_tour_made_goes_away() {
    let folder = tempfile::tempdir().unwrap();
    let (data, dir) = (folder.path().join("mine.jsonl"), folder.path().join("cloud"));
    let mut lines = String::new();
    for room in (0..30).map(|n| n % 6) {
        let code = room * 7;
        writeln!(lines, r#"{{"prompt":"What is the code of room {room}?","completion":"R{code}"}}"#).unwrap();
    }
    fs::write(&data, lines).unwrap();
    let output = finish(
        gregal(&["tour", "--exit", "--json", "--data", data.to_str().unwrap(), "--data-dir", dir.to_str().unwrap()])
            .args(FREE),
    );
    let summary = printed(&output);
    assert!(output.status.success(), "{}", complaint(&output));
    assert_eq!(summary["training"]["heldout_asked"], 3);
    assert!(!dir.exists(), "the tour left its folder behind without --keep");
}

#[test]
fn a_malformed_line_is_named_and_nothing_half_made_stays() {
    let folder = tempfile::tempdir().unwrap();
    let (data, dir) = (folder.path().join("bad.jsonl"), folder.path().join("cloud"));
    fs::write(&data, "{\"prompt\":\"a\",\"completion\":\"b\"}\n{\"prompt\":\"a\"}\n").unwrap();
    let output = finish(
        gregal(&["tour", "--exit", "--data", data.to_str().unwrap(), "--data-dir", dir.to_str().unwrap()]).args(FREE),
    );
    assert_eq!(output.status.code(), Some(1));
    let said = complaint(&output);
    assert!(said.contains("line 2") && said.contains("completion"), "{said}");
    assert!(!dir.exists(), "a refused file left a data folder behind");
}
