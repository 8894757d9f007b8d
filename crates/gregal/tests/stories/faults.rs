//! What goes wrong before or around the cloud is said clearly, with a hint, and loses nothing.

use std::{
    fs,
    io::{BufRead, BufReader},
    net::TcpListener,
    process::Stdio,
    time::Duration,
};

use crate::program::{Running, complaint, finish, gregal};

const FREE: [&str; 4] = ["--control-listen", "127.0.0.1:0", "--site-listen", "127.0.0.1:0"];

#[test]
fn a_port_in_use_is_named_with_the_way_out() {
    let folder = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let dir = folder.path().to_str().unwrap();
    let output =
        finish(&mut gregal(&["up", "--data-dir", dir, "--control-listen", &address, "--site-listen", "127.0.0.1:0"]));
    assert_eq!(output.status.code(), Some(1));
    let said = complaint(&output);
    assert!(said.contains(&address) && said.contains("--control-listen 127.0.0.1:0"), "{said}");
}

#[test]
fn a_data_folder_that_cannot_be_written_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "not a folder").unwrap();
    let output = finish(gregal(&["up", "--data-dir", file.join("cloud").to_str().unwrap()]).args(FREE));
    assert_eq!(output.status.code(), Some(1));
    assert!(complaint(&output).contains("--data-dir"), "{}", complaint(&output));
}

#[test]
fn a_corrupt_or_misspelt_settings_file_is_refused_with_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("gregal.toml");
    let dir = folder.path().join("cloud");
    for (text, words) in [
        ("[control\nlisten = 1", "not valid TOML"),
        ("[site]\nnmae = \"x\"", "did you mean `site.name`?"),
        ("[control]\nlisten = \"nowhere\"", "control.listen"),
    ] {
        fs::write(&file, text).unwrap();
        let output = finish(
            gregal(&["up", "--config", file.to_str().unwrap(), "--data-dir", dir.to_str().unwrap()])
                .args(["--site-listen", "127.0.0.1:0"]),
        );
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(complaint(&output).contains(words), "{text}: {}", complaint(&output));
    }
    assert!(!dir.exists(), "refused settings left a data folder behind");
}

#[test]
fn a_corrupt_store_is_refused_and_left_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("control.sqlite");
    let noise = vec![0x5a_u8; 64 * 1024];
    fs::write(&store, &noise).unwrap();
    let output = finish(gregal(&["up", "--data-dir", folder.path().to_str().unwrap()]).args(FREE));
    assert_eq!(output.status.code(), Some(1));
    assert!(complaint(&output).contains("control.sqlite"), "{}", complaint(&output));
    assert_eq!(fs::read(&store).unwrap(), noise);
}

#[test]
fn two_clouds_never_share_a_data_folder() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().to_str().unwrap();
    let mut first = up(dir);
    let output = finish(gregal(&["up", "--data-dir", dir]).args(FREE));
    assert_eq!(output.status.code(), Some(1), "a second cloud started on the same folder");
    first.signal("TERM");
    assert_eq!(first.wait(Duration::from_mins(1)).0, Some(0));
}

#[test]
fn ctrl_c_drains_and_the_admin_key_is_shown_once() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().to_str().unwrap();
    for (round, shown) in [(1, true), (2, false)] {
        let mut child = Running::start(gregal(&["up", "--data-dir", dir]).args(FREE).stdout(Stdio::piped()));
        let mut lines = BufReader::new(child.0.stdout.take().unwrap()).lines();
        let admin = lines.find_map(|line| line.ok().filter(|line| line.starts_with("admin"))).unwrap();
        assert_eq!(admin.contains("gk_"), shown, "start {round}: {}", admin.replace("gk_", "gk_..."));
        child.signal("INT");
        // The pipe ends with the process.
        lines.for_each(drop);
        assert_eq!(child.0.wait().unwrap().code(), Some(0));
    }
}

/// A cloud that has said where it listens.
fn up(dir: &str) -> Running {
    let mut child = Running::start(gregal(&["up", "--data-dir", dir]).args(FREE));
    let stdout = child.0.stdout.take().unwrap();
    let mut lines = BufReader::new(stdout);
    let mut line = String::new();
    while !line.starts_with("admin") {
        line.clear();
        assert!(lines.read_line(&mut line).unwrap() > 0, "the cloud ended before it was up");
    }
    child.0.stdout = Some(lines.into_inner());
    child
}
