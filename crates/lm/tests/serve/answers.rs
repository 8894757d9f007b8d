//! Answers: their shape, and that nothing but the request decides their words.

use serde_json::{Value, json};

use crate::client::{Server, chat, text};

#[tokio::test]
async fn an_answer_has_openais_shape_and_counts_its_tokens() {
    let server = Server::start(|_| {}).await;
    let answer = server.chat("Hello", json!({"temperature": 0, "max_tokens": 9})).await;
    let keys: Vec<_> = answer.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(keys, ["id", "object", "created", "model", "choices", "usage"]);
    assert!(answer["id"].as_str().unwrap().starts_with("chatcmpl-"));
    assert_eq!((&answer["object"], &answer["model"]), (&json!("chat.completion"), &json!("tiny")));
    assert_eq!(answer["choices"][0]["finish_reason"], "length");
    assert_eq!(answer["choices"][0]["message"]["role"], "assistant");
    // One token a byte: `<|im_start|>` `user\n` `Hello` `<|im_end|>` `\n` `<|im_start|>` `assistant\n`.
    let prompt = 1 + 5 + 5 + 1 + 1 + 1 + 10;
    assert_eq!(answer["usage"]["prompt_tokens"], prompt);
    assert_eq!(answer["usage"]["completion_tokens"], 9);
    assert_eq!(answer["usage"]["total_tokens"], prompt + 9);
}

#[tokio::test]
async fn a_stream_says_the_same_as_a_whole_answer() {
    let server = Server::start(|_| {}).await;
    let with = |more: Value| {
        let mut with = json!({"seed": 5, "temperature": 0.9, "max_tokens": 60});
        with.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        with
    };
    let whole = server.chat("Grüße", with(json!({}))).await;
    let body = chat("Grüße", with(json!({"stream": true, "stream_options": {"include_usage": true}})));
    let chunks = server.stream("/v1/chat/completions", &body).await;

    assert_eq!(chunks[0]["choices"][0]["delta"]["role"], "assistant");
    let said: String = chunks.iter().filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str()).collect();
    assert_eq!(said, text(&whole));
    let [.., ending, counting] = chunks.as_slice() else { panic!("too few chunks") };
    assert_eq!(ending["choices"][0], json!({"index": 0, "delta": {}, "logprobs": null, "finish_reason": "length"}));
    assert_eq!(counting["choices"], json!([]));
    assert_eq!(counting["usage"], whole["usage"]);
    for chunk in &chunks {
        assert_eq!(chunk["object"], "chat.completion.chunk");
        assert_eq!(chunk["id"], chunks[0]["id"]);
        assert_eq!(chunk["usage"].is_null(), chunk != counting);
    }
}

#[tokio::test]
async fn usage_is_not_streamed_unless_asked_for() {
    let server = Server::start(|_| {}).await;
    let chunks = server.stream("/v1/chat/completions", &chat("Hi", json!({"stream": true}))).await;
    assert!(chunks.iter().all(|chunk| chunk.get("usage").is_none()));
    assert!(chunks.iter().all(|chunk| !chunk["choices"].as_array().unwrap().is_empty()));
}

#[tokio::test]
async fn the_same_seed_says_the_same_alone_and_in_company() {
    let server = Server::start(|_| {}).await;
    let with = json!({"seed": 42, "temperature": 1.0, "top_p": 0.9, "max_tokens": 80});
    let alone = server.chat("One question", with.clone()).await;
    let long = "a long prompt that takes several pieces ".repeat(9);
    let company = (0..9).map(|n| server.chat(&long[n * 30..], json!({"seed": n, "max_tokens": 90})));
    let (again, _) = tokio::join!(server.chat("One question", with), futures_util::future::join_all(company));
    assert_eq!(text(&again), text(&alone));
    let other = server.chat("One question", json!({"seed": 43, "temperature": 1.0, "max_tokens": 80})).await;
    assert_ne!(text(&other), text(&alone));
}

#[tokio::test]
async fn a_stop_string_ends_the_answer_before_it() {
    let server = Server::start(|_| {}).await;
    let with = json!({"temperature": 0, "max_tokens": 100});
    let free = server.chat("Tell", with).await;
    let letters: Vec<char> = text(&free).chars().collect();
    let stop: String = letters[letters.len() / 2..letters.len() / 2 + 3].iter().collect();
    let body = chat("Tell", json!({"temperature": 0, "max_tokens": 100, "stop": ["never said", stop], "stream": true}));
    let chunks = server.stream("/v1/chat/completions", &body).await;
    let said: String = chunks.iter().filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str()).collect();
    assert_eq!(said, text(&free).split(&stop).next().unwrap());
    assert_eq!(chunks.last().unwrap()["choices"][0]["finish_reason"], "stop");
}

#[tokio::test]
async fn the_models_own_end_is_neither_said_nor_counted() {
    let server = Server::start(|_| {}).await;
    // Hot enough that the end comes sooner or later; with these seeds, it did.
    let answers = futures_util::future::join_all((0..8).map(|seed| {
        let with = json!({"temperature": 2, "max_tokens": 480, "seed": seed, "stream": true, "stream_options": {"include_usage": true}});
        let body = chat("Hi", with);
        let server = &server;
        async move { server.stream("/v1/chat/completions", &body).await }
    }))
    .await;
    let ended: Vec<_> =
        answers.iter().filter(|chunks| chunks[chunks.len() - 2]["choices"][0]["finish_reason"] == "stop").collect();
    assert!(!ended.is_empty(), "no answer ended by itself");
    for chunks in ended {
        let said: String = chunks.iter().filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str()).collect();
        assert!(!said.contains("<|im_end|>"));
        assert!(chunks.last().unwrap()["usage"]["completion_tokens"].as_u64().unwrap() < 480);
    }
}

#[tokio::test]
async fn plain_text_and_token_ids_are_completed_too() {
    let server = Server::start(|_| {}).await;
    let ask = async |prompt: Value| {
        let body = json!({"model": "tiny", "prompt": prompt, "temperature": 0});
        let (status, answer) = server.post("/v1/completions", &body).await;
        assert_eq!(status, 200, "{answer}");
        answer
    };
    let answer = ask(json!("!!")).await;
    assert_eq!(answer["object"], "text_completion");
    assert_eq!(answer["usage"]["prompt_tokens"], 2);
    assert_eq!(answer["usage"]["completion_tokens"], 16, "OpenAI's default");
    // `!` is the first letter of the alphabet, so its id is 0.
    assert_eq!(ask(json!([0, 0])).await["choices"], answer["choices"]);

    let body = json!({"model": "tiny", "prompt": "!!", "temperature": 0, "stream": true});
    let chunks = server.stream("/v1/completions", &body).await;
    let said: String = chunks.iter().filter_map(|chunk| chunk["choices"][0]["text"].as_str()).collect();
    assert_eq!(said, answer["choices"][0]["text"].as_str().unwrap());
}

#[tokio::test]
async fn the_model_is_listed() {
    let server = Server::start(|_| {}).await;
    let (_, list) = server.get("/v1/models").await;
    assert_eq!((&list["object"], &list["data"][0]["id"]), (&json!("list"), &json!("tiny")));
    assert_eq!(server.get("/v1/models/tiny").await.1, list["data"][0]);
    assert_eq!(server.get("/v1/models/other").await.0, 404);
}
