//! `cargo xtask matrix`: asks every route as every role, of the own, a sibling's and another organisation, and prints what each
//! was told.

use std::{fs, process::Command};

use anyhow::{Context, Result, ensure};

use crate::root;

const TEST: &str = "authorisation::every_route_lets_in_whom_it_should_and_tells_everyone_else_the_right_thing";

pub(crate) fn run() -> Result<()> {
    let file = root().join("target/matrix.txt");
    // An older run's table must not pass for this one's.
    if file.exists() {
        fs::remove_file(&file).with_context(|| format!("{} cannot be removed", file.display()))?;
    }
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let done = Command::new(cargo)
        .current_dir(root())
        .args(["test", "--quiet", "--workspace", "--test", "it", "--", "--exact", TEST])
        .env("GREGAL_MATRIX_FILE", &file)
        .stdout(std::process::Stdio::null())
        .status()
        .context("cargo cannot be started")?;
    let table = fs::read_to_string(&file).with_context(|| format!("{} was not written", file.display()))?;
    print!("{table}");
    ensure!(done.success(), "a route told somebody something else than it should; the test's words stand above");
    Ok(())
}
