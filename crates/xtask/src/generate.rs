//! The generated files under `contract/`: written by the executable itself, committed, and checked fresh.

use std::{fs, process::Command};

use anyhow::{Context, Result, ensure};

use crate::{output, root};

/// File under `contract/` and what the executable is asked for.
const FILES: &[(&str, &str)] = &[("openapi.json", "openapi"), ("cli.md", "cli"), ("config.md", "config")];

/// Writes every generated file, or checks that each is what would be written.
pub(crate) fn run(check: bool) -> Result<()> {
    let mut stale = Vec::new();
    for (file, what) in FILES {
        let text = print(what)?;
        put(file, &text, check, &mut stale)?;
    }
    let problems: serde_json::Value =
        serde_json::from_str(&print("problems")?).context("the problem pages are not JSON")?;
    let pages = problems.as_object().context("the problem pages are no object")?;
    for (code, page) in pages {
        put(&format!("problems/{code}.md"), page.as_str().unwrap_or_default(), check, &mut stale)?;
    }
    ensure!(stale.is_empty(), "not fresh: {}\n\nhint: run `cargo xtask generate`", stale.join(", "));
    Ok(())
}

fn print(what: &str) -> Result<String> {
    output(Command::new("cargo").args(["run", "--quiet", "--locked", "--package", "gregal", "--", "contract", what]))
}

fn put(file: &str, text: &str, check: bool, stale: &mut Vec<String>) -> Result<()> {
    let path = root().join("contract").join(file);
    if check {
        if fs::read_to_string(&path).ok().as_deref() != Some(text) {
            stale.push(format!("contract/{file}"));
        }
        return Ok(());
    }
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write(&path, text).with_context(|| format!("could not write `{}`", path.display()))
}
