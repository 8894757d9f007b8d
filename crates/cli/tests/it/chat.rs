//! Chats: they go to the site's gateway with the key, stream, and say so when they are cut off.

use serde_json::json;

use crate::fake::{EP, Fake, SECRET, endpoint};

const CHAT: &str = "POST /v1/chat/completions";

fn delta(text: &str) -> String {
    format!("data: {}\n\n", json!({ "choices": [{ "delta": { "content": text }, "finish_reason": null }] }))
}

fn end() -> String {
    let stop = json!({ "choices": [{ "delta": {}, "finish_reason": "stop" }] });
    let usage = json!({ "choices": [], "usage": { "prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9 } });
    format!("data: {stop}\n\ndata: {usage}\n\ndata: [DONE]\n\n")
}

async fn served() -> Fake {
    let fake = Fake::start().await;
    fake.on(&format!("GET /api/v1/endpoints/{EP}"), &endpoint(&fake.url, "ready"));
    fake
}

#[tokio::test]
async fn an_answer_is_written_as_it_comes_and_asked_for_as_told() {
    let fake = served().await;
    fake.on_text(CHAT, 200, "text/event-stream", &format!("{}{}{}", delta("Par"), delta("is"), end()));
    let args = [
        "chat",
        EP,
        "Capital of France?",
        "--temperature",
        "0",
        "--seed",
        "7",
        "--max-tokens",
        "16",
        "--system",
        "Be short.",
    ];
    let said = fake.run(&args).await;
    assert_eq!((said.exit, said.out.as_str(), said.err.as_str()), (0, "Paris\n", ""));
    let asked = &fake.asked(CHAT)[0];
    assert_eq!(asked.key, format!("Bearer {SECRET}"));
    assert_eq!(
        asked.json(),
        json!({
            "model": EP,
            "messages": [{ "role": "system", "content": "Be short." }, { "role": "user", "content": "Capital of France?" }],
            "stream": true, "stream_options": { "include_usage": true },
            "max_tokens": 16, "temperature": 0.0, "seed": 7,
        })
    );
}

#[tokio::test]
async fn json_is_one_document_with_answer_and_usage() {
    let fake = served().await;
    fake.on_text(CHAT, 200, "text/event-stream", &format!("{}{}", delta("Paris"), end()));
    let said = fake.run(&["chat", EP, "?", "--json"]).await;
    assert_eq!(
        said.json(),
        json!({ "endpoint": "atlas", "answer": "Paris", "finish_reason": "stop",
            "usage": { "prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9 } })
    );
}

#[tokio::test]
async fn a_stream_without_an_end_is_an_error_and_what_came_is_shown() {
    let fake = served().await;
    fake.on_text(CHAT, 200, "text/event-stream", &delta("Par"));
    let said = fake.run(&["chat", EP, "?"]).await;
    assert_eq!((said.exit, said.out.as_str()), (2, "Par\n"));
    assert!(said.err.starts_with("error: the answer was cut off\n"), "{}", said.err);
}

#[tokio::test]
async fn a_model_that_breaks_while_it_answers_is_an_error() {
    let fake = served().await;
    let broken = json!({ "error": { "message": "the model stopped", "type": "server_error", "code": "unavailable" } });
    fake.on_text(CHAT, 200, "text/event-stream", &format!("{}data: {broken}\n\n", delta("Par")));
    let said = fake.run(&["chat", EP, "?"]).await;
    assert_eq!(
        (said.exit, said.out.as_str(), said.err.as_str()),
        (2, "Par\n", "error: the model stopped\n\nhint: try again in a moment\n")
    );
}

#[tokio::test]
async fn too_little_credit_says_what_to_do() {
    let fake = served().await;
    let body = json!({ "error": { "message": "this may cost 0.02 EUR, 0.01 EUR is left", "type": "insufficient_quota", "code": "insufficient_quota" } });
    fake.on_text(CHAT, 402, "application/json", &body.to_string());
    let said = fake.run(&["chat", EP, "?"]).await;
    assert_eq!(said.exit, 1);
    insta::assert_snapshot!(said.err, @r"
    error: this may cost 0.02 EUR, 0.01 EUR is left

    hint: ask for fewer tokens (`--max-tokens`); `gregal balance show` says what is available
    ");
}

#[tokio::test]
async fn a_conversation_tells_the_model_what_was_said_before() {
    let fake = served().await;
    fake.on_text(CHAT, 200, "text/event-stream", &format!("{}{}", delta("Paris"), end()));
    fake.on_text(CHAT, 200, "text/event-stream", &format!("{}{}", delta("Rome"), end()));
    let said = fake.run_with(&["chat", EP], Some("France?\nItaly?\n"), true).await;
    assert_eq!((said.exit, said.out.as_str()), (0, "Paris\nRome\n"));
    assert_eq!(said.err, "talking to `atlas`; an empty line or Ctrl-D ends\n> > > ");
    let roles = |index: usize| {
        fake.asked(CHAT)[index].json()["messages"]
            .as_array()
            .unwrap()
            .iter()
            .map(|message| message["content"].clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(roles(0), ["France?"]);
    assert_eq!(roles(1), ["France?", "Paris", "Italy?"]);
}

#[tokio::test]
async fn a_piped_prompt_is_asked_whole_and_an_empty_one_is_refused() {
    let fake = served().await;
    fake.on_text(CHAT, 200, "text/event-stream", &format!("{}{}", delta("ok"), end()));
    let said = fake.run_with(&["chat", EP], Some("two\nlines\n"), false).await;
    assert_eq!((said.exit, said.out.as_str()), (0, "ok\n"));
    assert_eq!(fake.asked(CHAT)[0].json()["messages"][0]["content"], "two\nlines\n");
    let none = fake.run_with(&["chat", EP], Some(""), false).await;
    assert_eq!(
        (none.exit, none.err.as_str()),
        (1, "error: there is nothing to ask\n\nhint: `gregal chat ENDPOINT \"a question\"`\n")
    );
}

#[tokio::test]
async fn an_endpoint_that_is_not_ready_is_not_asked() {
    let fake = Fake::start().await;
    fake.on(&format!("GET /api/v1/endpoints/{EP}"), &endpoint(&fake.url, "loading"));
    let said = fake.run(&["chat", EP, "?"]).await;
    assert_eq!(said.exit, 1);
    assert_eq!(
        said.err,
        "error: endpoint `atlas` is loading\n\nhint: `gregal endpoint show atlas` says when it is ready\n"
    );
    assert!(fake.asked(CHAT).is_empty());
}
