//! What this room's tests start: a sandbox stage like the shipped executable, and small programs to try its walls with.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use gregal_engine::inventory::Driver;
use gregal_engine::local::{Local, LocalOptions};
use gregal_engine::{Engine, Protection, Workload};

fn main() -> ExitCode {
    if let Some(code) = gregal_engine::sandbox::run_if_asked() {
        return code;
    }
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let outcome = match args.as_slice() {
        ["connect", address] => TcpStream::connect(address).map(drop).map_err(|e| e.to_string()),
        ["listen", path] => listen(path),
        ["eat", mib] => eat(mib),
        ["breed", count] => breed(count),
        ["run", state_dir, workload] => run(LocalOptions::new(own(), state_dir), workload, false),
        ["hold", state_dir, workload] => run(LocalOptions::new(own(), state_dir), workload, true),
        ["hold", state_dir, workload, "without-namespaces"] => {
            let without = [Protection::Processes].into();
            run(LocalOptions { without, ..LocalOptions::new(own(), state_dir) }, workload, true)
        }
        [verb @ ("run" | "hold"), state_dir, workload, "with-driver", library, devices] => {
            let driver = Driver { library: library.into(), devices: devices.into(), ..Driver::default() };
            run(LocalOptions { driver, ..LocalOptions::new(own(), state_dir) }, workload, *verb == "hold")
        }
        _ => Err("unknown command".to_owned()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            writeln!(std::io::stderr(), "{why}").ok();
            ExitCode::FAILURE
        }
    }
}

fn own() -> PathBuf {
    std::env::current_exe().unwrap_or_default()
}

fn say(line: &str) -> Result<(), String> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").and_then(|()| out.flush()).map_err(|e| e.to_string())
}

/// Answers one connection with what it said.
fn listen(path: &str) -> Result<(), String> {
    let text = |e: std::io::Error| e.to_string();
    let listener = UnixListener::bind(path).map_err(text)?;
    let (mut stream, _) = listener.accept().map_err(text)?;
    let mut said = [0; 4];
    stream.read_exact(&mut said).map_err(text)?;
    stream.write_all(&said).map_err(text)
}

/// Holds so much memory, MiB by MiB, each of it really written to.
fn eat(mib: &str) -> Result<(), String> {
    let mut held = Vec::new();
    for _ in 0..mib.parse::<usize>().map_err(|e| e.to_string())? {
        held.push(vec![7_u8; 1 << 20]);
        std::thread::sleep(Duration::from_millis(1));
    }
    say(&format!("ate {}", held.len()))
}

/// Starts processes until it is refused, but never more than asked: a wall that fails must not cost the machine.
fn breed(count: &str) -> Result<(), String> {
    let mut children = Vec::new();
    for _ in 0..count.parse::<usize>().map_err(|e| e.to_string())? {
        match Command::new("sleep").arg("30").stdin(Stdio::null()).spawn() {
            Ok(child) => children.push(child),
            Err(_) => break,
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    say(&format!("bred {}", children.len()))
}

/// Runs one workload on an engine of this process, and prints how it ended; or holds it for ever.
fn run(options: LocalOptions, workload: &str, hold: bool) -> Result<(), String> {
    let workload: Workload = serde_json::from_str(workload).map_err(|e| e.to_string())?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(|e| e.to_string())?;
    let engine = Local::open(options).map_err(|e| e.to_string())?;
    runtime.block_on(async {
        let id = workload.id.clone();
        engine.start(workload).await.map_err(|e| e.to_string())?;
        loop {
            let seen = engine.observe(&id).await.map_err(|e| e.to_string())?;
            if let Some(exit) = seen.exit().filter(|_| !hold) {
                return say(&serde_json::to_string(exit).map_err(|e| e.to_string())?);
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
}
