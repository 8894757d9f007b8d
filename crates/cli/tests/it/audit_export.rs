//! Exports of the audit log: whatever was touched in them is found, without asking anyone.

use std::path::PathBuf;

use gregal_api::audit::{AuditRecord, WitnessKey};
use gregal_core::audit::AuditEntry;
use serde_json::{Value, json};

use crate::{
    audit::{offline, path, show},
    fake::{Fake, Said, type_in},
    log::{Log, organisation},
};

/// A cloud that shows a log of nine entries, and an export of it that also shows how it grew from five.
struct Exported {
    fake: Fake,
    log: Log,
    file: PathBuf,
    text: String,
}

async fn exported() -> Exported {
    let (fake, log) = (Fake::start().await, Log::of(3, 12));
    let file = fake.state.path().join("log.jsonl");
    show(&fake, &path(), &[log.view(9)], Some((&log, 5, 9)));
    let said = fake.run(&["audit", "export", "--from", "5", "--out", file.to_str().unwrap()]).await;
    assert_eq!(said.exit, 0, "{}", said.err);
    let text = std::fs::read_to_string(&file).unwrap();
    Exported { fake, log, file, text }
}

impl Exported {
    async fn verify(&self, text: impl AsRef<[u8]>, more: &[&str]) -> Said {
        std::fs::write(&self.file, text).unwrap();
        offline(&self.file, None, more).await
    }

    /// Verified by someone who has the log's key by another way.
    async fn trusting(&self, text: impl AsRef<[u8]>) -> Said {
        self.verify(text, &["--log-key", &self.log.verifier()]).await
    }
}

fn found(said: &Said, why: &str) {
    assert_eq!((said.exit, said.out.as_str()), (1, ""), "{said:?}");
    assert!(said.err.contains(why), "{}", said.err);
}

#[tokio::test]
async fn an_export_verifies_without_a_server() {
    let exported = exported().await;
    let said = exported.verify(&exported.text, &[]).await;
    assert_eq!((&said.json()["entries"], &said.json()["log_size"]), (&json!(6), &json!(9)));
    assert!(said.err.contains("the log's key is the one the file itself names"), "{}", said.err);
    for key in [exported.log.verifier(), exported.log.log_key()] {
        let said = exported.verify(&exported.text, &["--log-key", &key]).await;
        assert_eq!((said.exit, said.err.as_str()), (0, ""));
    }
    found(&exported.verify(&exported.text, &["--log-key", &Log::new(4).verifier()]).await, "not the expected one");
    found(&exported.verify(&exported.text, &["--log-key", "nonsense"]).await, "no key of a log");
}

#[tokio::test]
async fn a_flipped_bit_anywhere_is_found() {
    let exported = exported().await;
    for place in 0..exported.text.len() {
        let mut bytes = exported.text.clone().into_bytes();
        // Another bit at each place: digits, hex, base64, JSON's own marks and line ends all come to each of them.
        bytes[place] ^= 1 << (place % 7);
        let said = exported.trusting(&bytes).await;
        let around =
            String::from_utf8_lossy(&bytes[place.saturating_sub(40)..bytes.len().min(place + 20)]).into_owned();
        assert_eq!((said.exit, said.out.as_str()), (1, ""), "byte {place}: {around}");
    }
    assert_eq!(exported.trusting(&exported.text).await.exit, 0);
}

#[tokio::test]
async fn a_cut_is_found_wherever_it_is() {
    let exported = exported().await;
    let text = exported.text.as_bytes();
    let at_a_line = |end: usize| end > 0 && (text[end - 1] == b'\n' || text[end] == b'\n');
    for end in (0..text.len()).filter(|end| end % 5 == 0 || at_a_line(*end)) {
        let said = exported.trusting(&text[..end]).await;
        assert_eq!((said.exit, said.out.as_str()), (1, ""), "cut at {end}");
    }
    let appended = format!("{}{{}}\n", exported.text);
    found(&exported.trusting(&appended).await, "is damaged");
}

#[tokio::test]
async fn lines_swapped_doubled_or_taken_out_are_found() {
    let exported = exported().await;
    let lines: Vec<&str> = exported.text.lines().collect();
    let said = async |lines: &[&str]| exported.trusting(&(lines.join("\n") + "\n")).await;
    for place in 1..lines.len() {
        let mut without = lines.clone();
        without.remove(place);
        found(&said(&without).await, "does not verify");
        let mut doubled = lines.clone();
        doubled.insert(place, lines[place]);
        found(&said(&doubled).await, "shown twice or out of order");
    }
    for place in 1..lines.len() - 1 {
        let mut swapped = lines.clone();
        swapped.swap(place, place + 1);
        found(&said(&swapped).await, "out of order");
    }
    // Bodies swapped between places, each with the other's proof.
    let record = |line: &str| serde_json::from_str::<AuditRecord>(line).unwrap();
    let (one, other) = (record(lines[2]), record(lines[3]));
    let first = serde_json::to_string(&AuditRecord { body: other.body.clone(), ..one.clone() }).unwrap();
    let second = serde_json::to_string(&AuditRecord { body: one.body, ..other }).unwrap();
    let mut swapped = lines.clone();
    (swapped[2], swapped[3]) = (&first, &second);
    found(&said(&swapped).await, "is not in the log");
}

/// An export made of a log by its owner, who signs whatever they like.
fn forged(log: &Log, size: usize, from: Option<usize>) -> String {
    let page = log.view(size);
    // Fields stand in the order of the export's type, which is not that of `json!`.
    let fields = [
        ("format", json!("gregal-audit-v2")),
        ("view", json!(organisation().to_string())),
        ("log", json!(log.verifier())),
        ("checkpoint", json!(page.checkpoint)),
        ("view_head", json!(page.view_head)),
    ];
    let fields = fields.map(|(name, value)| format!("\"{name}\":{value}")).join(",");
    let shown = from.map(|from| serde_json::to_string(&log.consistency(from, size)).unwrap()).unwrap_or_default();
    let mut text = format!("{{{fields},\"consistency\":[{shown}]}}\n");
    for record in &page.items {
        text += &(serde_json::to_string(record).unwrap() + "\n");
    }
    text
}

#[tokio::test]
async fn an_export_is_held_against_what_was_seen_of_the_log() {
    let exported = exported().await;
    let state = exported.fake.state.path();
    let offline = async |text: &str, more: &[&str]| {
        std::fs::write(&exported.file, text).unwrap();
        offline(&exported.file, Some(state), more).await
    };
    // Exporting was a first look at nine entries.
    assert_eq!(forged(&exported.log, 9, Some(5)), exported.text, "the forger's pen writes what we write");
    let same = offline(&exported.text, &[]).await;
    assert_eq!((same.exit, same.err.as_str()), (0, ""), "the key is known, wherever the log was met");
    // It grew, and shows it, or does not.
    assert_eq!(offline(&forged(&exported.log, 12, Some(9)), &[]).await.exit, 0);
    let silent = offline(&forged(&exported.log, 12, Some(5)), &[]).await;
    found(&silent, "does not show that it continues the 9 entries seen before");
    assert!(silent.err.contains("`gregal audit export --from 9`"), "{}", silent.err);
    // An older one replayed.
    let replayed = offline(&forged(&exported.log, 7, None), &[]).await;
    found(&replayed, "a log never shrinks");
    assert!(replayed.err.contains("--older"), "{}", replayed.err);
    assert_eq!(offline(&forged(&exported.log, 7, None), &["--older"]).await.exit, 0);
    // A fork under the same key, of the same size and of a larger one.
    let mut fork = Log::of(3, 4);
    fork.push("job_other", Some(organisation()));
    fork.grow(12);
    found(&offline(&forged(&fork, 9, None), &[]).await, "the same 9 entries as before, but another root");
    found(&offline(&forged(&fork, 12, Some(9)), &[]).await, "its first 9 entries are not those seen before");
    // Another log that calls itself the same.
    let exchanged = offline(&forged(&Log::of(4, 12), 12, Some(9)), &[]).await;
    found(&exchanged, "the log's key is not the expected one");
    assert!(exchanged.err.contains("its key is not the one seen before"), "{}", exchanged.err);
}

#[tokio::test]
async fn witnesses_are_counted_and_a_cosignature_of_another_checkpoint_is_none() {
    let exported = exported().await;
    let witness = |name: &str, seed| WitnessKey::new(name, &[seed; 32]).unwrap();
    let (one, two, stranger) = (witness("w.test/1", 21), witness("w.test/2", 22), witness("w.test/3", 23));
    let folder = exported.fake.state.path();
    let kept = |name: &str, note: &str| {
        let file = folder.join(name);
        std::fs::write(&file, note).unwrap();
        file.to_str().unwrap().to_owned()
    };
    let note = exported.log.checkpoint(9);
    let first = kept("one", &one.cosign(&note, 1_700_000_000).unwrap());
    let second = kept("two", &two.cosign(&note, 1_700_000_001).unwrap());
    let out = exported.file.to_str().unwrap();
    show(&exported.fake, &path(), &[exported.log.view(9)], None);
    let export = ["audit", "export", "--out", out, "--checkpoint", &first, "--checkpoint", &second];
    let said = exported.fake.run(&export).await;
    assert_eq!(said.exit, 0, "{}", said.err);
    let queries = exported.fake.asked(&path());
    assert_eq!(queries.last().unwrap().query, "limit=500&at=9", "as of the cosigned checkpoint");
    let text = std::fs::read_to_string(out).unwrap();
    let keys = [one.verifier().to_string(), two.verifier().to_string(), stranger.verifier().to_string()];
    let verify = async |text: &str, witnesses: &[&str], more: &[&str]| {
        let mut args = vec!["--log-key".to_owned(), exported.log.verifier()];
        args.extend(witnesses.iter().flat_map(|key| ["--witness".to_owned(), (*key).to_owned()]));
        args.extend(more.iter().map(|arg| (*arg).to_owned()));
        exported.verify(text, &args.iter().map(String::as_str).collect::<Vec<_>>()).await
    };
    let [one_key, two_key, stranger_key] = &keys;
    assert_eq!(verify(&text, &[one_key, two_key], &[]).await.json()["cosigned"], 2);
    found(&verify(&text, &[one_key, stranger_key], &[]).await, "1 of the known witnesses cosigned");
    assert_eq!(verify(&text, &[one_key, stranger_key], &["--witnesses", "1"]).await.json()["cosigned"], 1);
    found(&verify(&exported.text, &[one_key], &[]).await, "0 of the known witnesses cosigned");
    found(&verify(&text, &[&exported.log.verifier()], &[]).await, "is no key of a witness");
    // The same signature under a checkpoint it was not made for: of another size, and of another log.
    let mut another = Log::of(4, 8);
    another.push("job_other", None);
    for other in [exported.log.checkpoint(7), another.checkpoint(9)] {
        let theirs = one.cosign(&other, 1_700_000_000).unwrap();
        let line = theirs.lines().last().unwrap();
        let moved = json!(format!("{note}{line}\n")).to_string();
        let forged = exported.text.replacen(&json!(note).to_string(), &moved, 1);
        assert_ne!(forged, exported.text);
        found(&verify(&forged, &[one_key], &[]).await, "0 of the known witnesses cosigned");
    }
    // A checkpoint that the log does not stand by any more.
    let mut fork = Log::of(3, 8);
    fork.push("job_other", None);
    let theirs = kept("fork", &one.cosign(&fork.checkpoint(9), 1).unwrap());
    found(&exported.fake.run(&["audit", "export", "--out", out, "--checkpoint", &theirs]).await, "another root");
    let mixed = ["audit", "export", "--out", out, "--checkpoint", &first, "--checkpoint", &theirs];
    found(&exported.fake.run(&mixed).await, "of another checkpoint than the first");
}

#[tokio::test]
async fn a_witness_cosigns_one_history_only() {
    let fake = Fake::start().await;
    let mut log = Log::of(3, 5);
    let key = fake.state.path().join("witness.key");
    let key = key.to_str().unwrap();
    let made = type_in(&["audit", "witness", "--key-file", key, "--init", "w.test/1"], None, "", true).await;
    assert!(made.exit == 0 && made.out.starts_with("w.test/1+"), "{made:?}");
    let again = type_in(&["audit", "witness", "--key-file", key, "--init", "w.test/1"], None, "", true).await;
    assert_eq!(again.exit, 1, "a key is never written over");
    let cosign = async |shown: String, grown: Option<(&Log, usize, usize)>, more: &[&str]| {
        show(&fake, "GET /api/v1/audit/checkpoint", &[], grown);
        fake.on_text("GET /api/v1/audit/checkpoint", 200, "text/plain", &shown);
        let args: Vec<&str> = ["audit", "witness", "--key-file", key].iter().chain(more).copied().collect();
        fake.run(&args).await
    };
    let trust = ["--log-key", &log.verifier()];
    found(&cosign(log.checkpoint(5), None, &[]).await, "nothing is known yet of the log");
    found(&cosign(log.checkpoint(5), None, &["--log-key", &Log::new(4).verifier()]).await, "no signature");
    let first = cosign(log.checkpoint(5), None, &trust).await;
    let witness = made.out.trim().parse().unwrap();
    assert!(gregal_api::audit::cosigned_at(&first.out, &witness).is_some(), "{first:?}");
    // It grew, it stands still, and it says the same once more.
    let before = log.clone();
    log.grow(8);
    assert_eq!(cosign(log.checkpoint(8), Some((&log, 5, 8)), &[]).await.exit, 0);
    assert_eq!(cosign(log.checkpoint(8), None, &[]).await.exit, 0);
    // Older, forked, and with a proof of another past.
    found(&cosign(before.checkpoint(5), None, &[]).await, "a log never shrinks");
    let mut fork = Log::of(3, 6);
    fork.push("job_other", None);
    fork.grow(11);
    found(&cosign(fork.checkpoint(8), None, &[]).await, "another root");
    found(&cosign(fork.checkpoint(11), Some((&fork, 8, 11)), &[]).await, "does not show that it continues the 8");
    found(&cosign(Log::of(4, 11).checkpoint(11), Some((&log, 8, 8)), &[]).await, "no signature of the log's key");
    log.grow(11);
    assert_eq!(cosign(log.checkpoint(11), Some((&log, 8, 11)), &[]).await.exit, 0);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        assert_eq!(std::fs::metadata(key).unwrap().permissions().mode() & 0o077, 0);
    }
}

/// What a tenant might call things, to write into somebody's log.
const HOSTILE: &str = "a|b=c\\d\r\nCEF:0|x|y|1|z|z|9|act=forged\u{2028}x act=forged \"],\"x\":\"\t\u{1b}[31m\0é";

async fn formatted(format: &str) -> String {
    let (fake, mut log) = (Fake::start().await, Log::new(3));
    let hostile = AuditEntry {
        actor: HOSTILE.into(),
        action: HOSTILE.into(),
        object: HOSTILE.into(),
        result: HOSTILE.into(),
        reason: Some(HOSTILE.into()),
        policy: Some(HOSTILE.into()),
        source: Some(HOSTILE.into()),
        facts: json!({ HOSTILE: HOSTILE }).as_object().unwrap().clone(),
        ..serde_json::from_value(
            json!({ "at": crate::fake::AT, "organisation": organisation(), "actor": "", "action": "",
            "object": "", "result": "", "reason": null, "policy": null, "request": null }),
        )
        .unwrap()
    };
    log.push_entry(hostile);
    log.push("job_plain", Some(organisation()));
    show(&fake, &path(), &[log.view(2)], None);
    let said = fake.run(&["audit", "export", "--out", "-", "--format", format]).await;
    assert_eq!(said.exit, 0, "{}", said.err);
    said.out
}

#[tokio::test]
async fn a_cef_line_holds_one_entry_whatever_it_is_called() {
    let text = formatted("cef").await;
    assert_eq!(text.matches('\n').count(), 2);
    assert!(!text.chars().any(|c| c != '\n' && (c.is_control() || matches!(c, '\u{2028}' | '\u{2029}'))), "{text:?}");
    let [hostile, plain] = text.lines().collect::<Vec<_>>()[..] else { panic!("two entries") };
    // Read as the format says: seven headers up to unescaped pipes, then fields up to the next unescaped equals sign.
    for line in [hostile, plain] {
        let parts = unescaped(line, '|');
        let (headers, rest) = (&parts[..7], parts[7..].join("|"));
        assert_eq!((headers[0].as_str(), headers[1].as_str(), headers.len()), ("CEF:0", "Gregal", 7));
        let names: Vec<String> = unescaped(&rest, '=')
            .iter()
            .map(|part| part.rsplit(' ').next().unwrap().to_owned())
            .filter(|name| ["act", "outcome", "suid", "cs1", "reason"].contains(&name.as_str()))
            .collect();
        let expected: &[&str] = if line == hostile {
            &["suid", "act", "outcome", "cs1", "reason"]
        } else {
            &["suid", "act", "outcome", "cs1"]
        };
        assert_eq!(names, expected, "{line}");
    }
    assert!(plain.contains("|job:create|job:create|3|rt=1795339800000 externalId=1 suid=key_"), "{plain}");
    assert!(plain.contains(" outcome=done cs1Label=object cs1=job_plain cs2Label=organisation cs2=org_"), "{plain}");
}

/// The parts between a mark where no backslash stands before it.
fn unescaped(text: &str, mark: char) -> Vec<String> {
    let (mut parts, mut escaped) = (vec![String::new()], false);
    for c in text.chars() {
        if c == mark && !escaped {
            parts.push(String::new());
            continue;
        }
        parts.last_mut().unwrap().push(c);
        escaped = c == '\\' && !escaped;
    }
    parts
}

#[tokio::test]
async fn otlp_json_holds_each_entry_as_one_record_whatever_it_is_called() {
    let text = formatted("otlp").await;
    assert_eq!(text.matches('\n').count(), 1);
    let said: Value = serde_json::from_str(&text).unwrap();
    let records = &said["resourceLogs"][0]["scopeLogs"][0]["logRecords"];
    assert_eq!(records.as_array().unwrap().len(), 2);
    assert_eq!(records[0]["body"]["stringValue"], HOSTILE);
    assert_eq!(records[1]["timeUnixNano"], "1795339800000000000");
    let object = records[0]["attributes"].as_array().unwrap().iter().find(|field| field["key"] == "audit.object");
    assert_eq!(object.unwrap()["value"]["stringValue"], HOSTILE);
}
