//! The executable, started as a user would.

use std::{
    io::Read,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use serde_json::Value;

/// Where the executable lies; without it there is nothing to test.
pub(crate) fn program() -> PathBuf {
    std::env::var_os("GREGAL_TEST_PROGRAM").expect("run this through `cargo xtask test --only tour`").into()
}

/// Two loopback ports nobody uses now.
pub(crate) fn free_ports() -> (u16, u16) {
    let (a, b) = (TcpListener::bind("127.0.0.1:0").unwrap(), TcpListener::bind("127.0.0.1:0").unwrap());
    (a.local_addr().unwrap().port(), b.local_addr().unwrap().port())
}

/// A command with a clean environment of our variables.
pub(crate) fn gregal(arguments: &[&str]) -> Command {
    let mut command = Command::new(program());
    command.args(arguments).stdin(Stdio::null());
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("GREGAL_")) {
        command.env_remove(name);
    }
    command
}

/// Runs to the end and answers with everything it said.
pub(crate) fn finish(command: &mut Command) -> Output {
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).output().unwrap()
}

/// What it said on stderr.
pub(crate) fn complaint(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The JSON it printed on stdout.
pub(crate) fn printed(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("no JSON on stdout ({error}); it said:\n{}", complaint(output)))
}

/// A child that is killed if the test forgets it.
pub(crate) struct Running(pub(crate) Child);

impl Running {
    /// Starts a command whose words are not kept.
    pub(crate) fn start(command: &mut Command) -> Self {
        Self(command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap())
    }

    /// SIGKILL, and waits until it is gone.
    pub(crate) fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }

    /// Asks it to end with a signal by name.
    pub(crate) fn signal(&self, name: &str) {
        let done = Command::new("kill").args(["-s", name, &self.0.id().to_string()]).status().unwrap();
        assert!(done.success());
    }

    /// Waits for its end, at most this long; everything it printed on stdout comes with the exit code, unless somebody
    /// reads that already.
    pub(crate) fn wait(&mut self, most: Duration) -> (Option<i32>, String) {
        let stdout = self.0.stdout.take();
        let reader = std::thread::spawn(move || {
            let mut text = String::new();
            if let Some(mut stdout) = stdout {
                stdout.read_to_string(&mut text).unwrap();
            }
            text
        });
        let watch = Instant::now();
        let status = loop {
            if let Some(status) = self.0.try_wait().unwrap() {
                break status;
            }
            assert!(watch.elapsed() < most, "it did not end within {most:?}");
            std::thread::sleep(Duration::from_millis(50));
        };
        (status.code(), reader.join().unwrap())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Ok(None) = self.0.try_wait() {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }
}

/// Files below a folder, by path.
pub(crate) fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    if let Ok(entries) = std::fs::read_dir(folder) {
        for entry in entries.flatten() {
            let path = entry.path();
            if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
        }
    }
    found
}
