//! Data as users bring it, and what is said about a line that cannot be used.

#![expect(clippy::unwrap_used, reason = "a test that cannot set up its world has failed")]

use gregal_lm::data::{self, Dataset, Format, Found};

fn validate(name: &str, content: &[u8]) -> Result<Found, String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    std::fs::write(&path, content).unwrap();
    let found = data::validate(&path).map_err(|error| error.to_string().replace(&path.display().to_string(), "FILE"));
    assert_eq!(found.is_ok(), data::read(&path).is_ok(), "what is valid can be read, what is not cannot");
    found
}

const GOOD: &str = "{\"prompt\": \"a\", \"completion\": \"b\"}\n";

#[test]
fn a_malformed_line_is_named_by_number_with_what_was_expected() {
    let line = "a JSON object with `messages`, or with `prompt` and `completion`";
    let cases: [(&str, String); 12] = [
        ("{\"prompt\": ", format!("expected {line}, found no JSON at column 10")),
        ("[1]", format!("expected {line}, found a list")),
        ("{\"text\": \"x\"}", format!("expected {line}, found an object with neither")),
        ("{\"prompt\": \"a\"}", "expected `completion` beside `prompt`, found none".into()),
        ("{\"prompt\": 3, \"completion\": \"b\"}", "expected `prompt` to be a text, found a number".into()),
        (
            "{\"prompt\": \"a\", \"completion\": \" \"}",
            "expected `completion` to be a text that is not empty, found an empty one".into(),
        ),
        (
            "{\"messages\": {}}",
            "expected `messages`, a list of `{\"role\", \"content\"}`, found `messages` that is an object".into(),
        ),
        (
            "{\"messages\": [{\"role\": \"robot\", \"content\": \"x\"}]}",
            "expected `role` to be `system`, `user` or `assistant`, found another".into(),
        ),
        (
            "{\"messages\": [{\"role\": \"user\", \"content\": null}]}",
            "expected `content` to be a text, found nothing".into(),
        ),
        (
            "{\"messages\": [{\"role\": \"user\", \"content\": \"x\"}]}",
            "expected a message of role `assistant` that answers, found none".into(),
        ),
        (
            "{\"messages\": [{\"role\": \"assistant\", \"content\": \"x\"}]}",
            "expected a message of role `user`, found none".into(),
        ),
        ("{\"messages\": [], \"prompt\": \"x\"}", format!("expected {line}, found both")),
    ];
    for (bad, said) in cases {
        let found = validate("x.jsonl", format!("{GOOD}\n{bad}\n{GOOD}").as_bytes());
        assert_eq!(found, Err(format!("line 3 of `FILE`: {said}")), "{bad}");
    }
}

#[test]
fn bytes_that_are_no_text_are_named() {
    let found = validate("x.jsonl", b"{\"prompt\": \"a\", \"completion\": \"b\"}\n{\"prompt\": \"\xff\"}");
    assert_eq!(found, Err("line 2 of `FILE`: expected UTF-8, found another byte at 13".to_owned()));
}

#[test]
fn a_line_without_end_is_refused_early() {
    let found = validate("x.jsonl", &vec![b'{'; data::LINE_BYTES_MAX + 1]);
    assert_eq!(found, Err("line 1 of `FILE`: expected at most 1048576 bytes, found a longer line".to_owned()));
}

#[test]
fn the_content_of_a_bad_line_is_not_repeated() {
    let found = validate("x.jsonl", b"{\"messages\": [{\"role\": \"s3cret\", \"content\": \"s3cret\"}]}").unwrap_err();
    assert!(!found.contains("s3cret"), "{found}");
}

#[test]
fn the_form_follows_from_the_name_or_the_first_line() {
    let form = |name, content: &str| validate(name, content.as_bytes()).map(|found| (found.format, found.examples));
    assert_eq!(form("x.jsonl", GOOD), Ok((Format::JsonLines, 1)));
    assert_eq!(form("blob", GOOD), Ok((Format::JsonLines, 1)));
    assert_eq!(form("blob", &format!("\u{feff}\n{GOOD}{GOOD}")), Ok((Format::JsonLines, 2)));
    assert_eq!(form("blob", "Once upon a time\n\nthere was.\n"), Ok((Format::Text, 2)));
    assert_eq!(form("x.txt", "{ is a brace\n"), Ok((Format::Text, 1)));
}

#[test]
fn nothing_is_not_data() {
    for content in ["", "\n \n"] {
        assert_eq!(validate("x.jsonl", content.as_bytes()), Err("`FILE` holds no examples".to_owned()));
    }
    assert!(data::validate("/nowhere/at/all".as_ref()).is_err());
}

#[test]
fn text_is_kept_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.txt");
    std::fs::write(&path, "One\r\n\n  two").unwrap();
    assert_eq!(data::read(&path).unwrap(), Dataset::Text("One\r\n\n  two".to_owned()));
}
