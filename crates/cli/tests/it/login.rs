//! Signing in as a person: by a code, by a browser on this machine; renewing once, and out again.

use std::os::unix::fs::PermissionsExt as _;

use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::fake::{Fake, Said, type_in, type_in_and};

fn given(number: u32, seconds: u32) -> serde_json::Value {
    json!({
        "access_token": format!("gk_{number}"), "token_type": "Bearer", "expires_in": seconds,
        "refresh_token": format!("gr_{number}"),
    })
}

async fn typed(fake: &Fake, args: &[&str]) -> Said {
    let all: Vec<&str> = args.iter().copied().chain(["--url", &fake.url]).collect();
    let said = type_in(&all, Some(fake.state.path()), "", true).await;
    for secret in ["gk_1", "gk_2", "gr_1", "gr_2", "gd_1"] {
        assert!(!said.out.contains(secret) && !said.err.contains(secret), "a verb showed {secret}: {said:?}");
    }
    said
}

fn sent(fake: &Fake, what: &str) -> Vec<String> {
    fake.asked(what).iter().map(|asked| String::from_utf8(asked.bytes.to_vec()).unwrap()).collect()
}

#[tokio::test]
async fn a_device_asks_until_it_is_given_and_renews_its_key_with_each_credential_once() {
    let fake = Fake::start().await;
    let asked = json!({
        "device_code": "gd_1", "user_code": "BCDF-GHJK", "verification_uri": "http://cloud/console/device",
        "verification_uri_complete": "http://cloud/console/device?code=BCDF-GHJK", "expires_in": 600, "interval": 0,
    });
    fake.on("POST /api/v1/device", &asked);
    let pending = json!({ "error": "authorization_pending" }).to_string();
    fake.on_text("POST /api/v1/token", 400, "application/json", &pending);
    fake.on("POST /api/v1/token", &given(1, 30));
    fake.on("POST /api/v1/token", &given(2, 900));
    fake.on("POST /api/v1/token/revoke", &json!({}));

    let said = typed(&fake, &["login", "--device"]).await;
    assert_eq!(said.exit, 0, "{said:?}");
    assert!(said.err.contains("BCDF-GHJK") && said.err.contains("signed in for org_"), "{said:?}");
    let files: Vec<_> = std::fs::read_dir(fake.state.path().join("sign-in")).unwrap().flatten().collect();
    for file in &files {
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{file:?}");
    }
    assert_eq!(fake.asked("GET /api/v1/whoami").last().unwrap().key, "Bearer gk_1");

    // Nearly over: renewed before it is used, and only then.
    assert_eq!(typed(&fake, &["whoami"]).await.exit, 0);
    assert_eq!(fake.asked("GET /api/v1/whoami").last().unwrap().key, "Bearer gk_2");
    assert!(sent(&fake, "POST /api/v1/token").last().unwrap().contains("refresh_token=gr_1"));
    assert_eq!(typed(&fake, &["whoami"]).await.exit, 0);
    assert_eq!(sent(&fake, "POST /api/v1/token").len(), 3);
    // A key that is given goes before the sign-in.
    typed(&fake, &["whoami", "--key", "gk_mine"]).await;
    assert_eq!(fake.asked("GET /api/v1/whoami").last().unwrap().key, "Bearer gk_mine");

    assert_eq!(typed(&fake, &["logout"]).await.exit, 0);
    assert_eq!(sent(&fake, "POST /api/v1/token/revoke"), ["token=gr_2"]);
    assert!(typed(&fake, &["whoami"]).await.err.contains("no key was given"));
}

#[tokio::test]
async fn a_sign_in_that_has_ended_says_so_and_is_forgotten() {
    let fake = Fake::start().await;
    let asked = json!({
        "device_code": "gd_1", "user_code": "BCDF-GHJK", "verification_uri": "x", "verification_uri_complete": "x",
        "expires_in": 600, "interval": 0,
    });
    fake.on("POST /api/v1/device", &asked).on("POST /api/v1/token", &given(1, 30));
    assert_eq!(typed(&fake, &["login", "--device"]).await.exit, 0);
    fake.forget("POST /api/v1/token");
    fake.on_text("POST /api/v1/token", 400, "application/json", r#"{"error":"invalid_grant"}"#);
    let said = typed(&fake, &["whoami"]).await;
    assert!(
        said.exit == 1 && said.err.contains("the sign-in has ended") && said.err.contains("gregal login"),
        "{said:?}"
    );
    assert!(typed(&fake, &["whoami"]).await.err.contains("no key was given"));
    for (error, words) in [("access_denied", "said no"), ("expired_token", "in time")] {
        fake.forget("POST /api/v1/token");
        fake.on_text("POST /api/v1/token", 400, "application/json", &json!({ "error": error }).to_string());
        let said = typed(&fake, &["login", "--device"]).await;
        assert!(said.exit == 1 && said.err.contains(words), "{said:?}");
    }
}

/// Asks the command line's own little listener, as a browser would.
async fn browse(port: &str, path: &str) -> String {
    let mut stream = tokio::net::TcpStream::connect(format!("127.0.0.1:{port}")).await.unwrap();
    stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n").as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn a_browser_comes_back_with_the_state_it_was_sent_with_or_is_not_heard() {
    let fake = Fake::start().await;
    fake.on("POST /api/v1/token", &given(1, 900));
    let args = ["login", "--url", &fake.url];
    let said = type_in_and(&args, fake.state.path(), "code_challenge_method=S256", async |shown| {
        let between = |before: &str, after: &str| {
            let rest = shown.split(before).nth(1).unwrap();
            rest.split(after).next().unwrap().to_owned()
        };
        let (port, state) = (between("127.0.0.1%3A", "%2Fcallback"), between("&state=", "&"));
        let wrong = "0".repeat(64);
        for path in [format!("/callback?code=stolen&state={wrong}"), "/callback?code=stolen".into(), "/x".into()] {
            assert!(browse(&port, &path).await.starts_with("HTTP/1.1 404"), "{path}");
        }
        assert!(browse(&port, &format!("/callback?code=mine&state={state}")).await.contains("Signed in."));
    })
    .await;
    assert_eq!(said.exit, 0, "{said:?}");
    let sent = sent(&fake, "POST /api/v1/token");
    assert!(sent.len() == 1 && sent[0].contains("code=mine") && sent[0].contains("code_verifier="), "{sent:?}");
    assert_eq!(fake.asked("GET /api/v1/whoami").last().unwrap().key, "Bearer gk_1");
}
