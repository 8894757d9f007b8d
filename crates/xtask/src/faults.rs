//! Faults that are planted one by one, to show that the tests of a property notice when it is broken.
//!
//! A fault is data (`faults.toml`): a text that stands once in a file, what stands there instead, and the tests that must fail
//! then. It is planted in a copy under `target/faults`, never in the tree one works in. Random tests draw from a fixed seed,
//! so that a run says the same as the one before. A fault whose text or test is gone is an error: nothing rots in silence.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use serde::Deserialize;

use crate::{output, root};

/// What random tests draw from here, so that a fault is caught today as it was yesterday.
const SEED: &str = "20261122";

/// Which faults.
#[derive(Debug, Args)]
pub(crate) struct FaultsArgs {
    /// Only the faults whose names contain one of these
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Say which there are, and plant none
    #[arg(long)]
    list: bool,
}

/// All faults, as they stand in the file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Book {
    fault: Vec<Fault>,
}

/// One fault.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Fault {
    name: String,
    /// The property that does not hold with it.
    breaks: String,
    /// The crate whose tests are run.
    package: String,
    /// From the repository's root.
    file: PathBuf,
    /// Stands there once.
    text: String,
    /// Stands there instead.
    planted: String,
    /// Tests that fail with it, each: `lib` or the name of a test target, then the test's whole name.
    tests: Vec<String>,
}

impl Fault {
    /// The file with the fault in it.
    fn plant(&self, root: &Path) -> Result<String> {
        let text = fs::read_to_string(root.join(&self.file))
            .with_context(|| format!("`{}`: could not read {}", self.name, self.file.display()))?;
        let times = text.matches(&self.text).count();
        ensure!(times == 1, "`{}`: its text stands {times} times in {}, not once", self.name, self.file.display());
        ensure!(self.text != self.planted, "`{}` changes nothing", self.name);
        Ok(text.replace(&self.text, &self.planted))
    }

    fn tests(&self) -> Result<Tests> {
        let mut tests = Tests::new();
        for test in &self.tests {
            let (target, name) = test.split_once(' ').with_context(|| format!("`{test}` names no target"))?;
            tests.entry((self.package.clone(), target.into())).or_default().insert(name.into());
        }
        ensure!(!tests.is_empty(), "`{}` names no test", self.name);
        Ok(tests)
    }
}

/// Names of tests by package and target.
type Tests = BTreeMap<(String, String), BTreeSet<String>>;

/// Entry of `cargo xtask faults`.
pub(crate) fn run(args: &FaultsArgs) -> Result<()> {
    let faults = read()?;
    let wanted = |fault: &&Fault| args.only.is_empty() || args.only.iter().any(|part| fault.name.contains(part));
    let faults: Vec<&Fault> = faults.iter().filter(wanted).collect();
    ensure!(!faults.is_empty(), "no fault has such a name; `cargo xtask faults --list` says which there are");
    if args.list {
        for fault in faults {
            println!("{:<44} {}", fault.name, fault.breaks);
        }
        return Ok(());
    }
    let copy = Copy::of(&root().canonicalize()?)?;
    let mut all = Tests::new();
    for fault in &faults {
        for (target, names) in fault.tests()? {
            all.entry(target).or_default().extend(names);
        }
    }
    eprintln!("== without a fault");
    let failed = copy.failed(&all)?;
    ensure!(failed.is_empty(), "these fail without any fault: {}", listed(&failed));
    let mut survived = Vec::new();
    println!("{:<44} {:<9} broken", "fault", "");
    for fault in faults {
        eprintln!("== {}", fault.name);
        let missed = copy.missed_by(fault)?;
        println!("{:<44} {:<9} {}", fault.name, if missed.is_empty() { "caught" } else { "SURVIVES" }, fault.breaks);
        if !missed.is_empty() {
            survived.push(format!("`{}` is not noticed by {}", fault.name, listed(&missed)));
        }
    }
    ensure!(survived.is_empty(), "{}", survived.join("\n"));
    Ok(())
}

/// Every fault, looked at as far as that takes no build.
fn read() -> Result<Vec<Fault>> {
    let path = root().join("crates/xtask/faults.toml");
    let text = fs::read_to_string(&path).with_context(|| format!("could not read {}", path.display()))?;
    let book: Book = toml::from_str(&text).with_context(|| format!("could not understand {}", path.display()))?;
    let mut wrong = Vec::new();
    let mut names = BTreeSet::new();
    for fault in &book.fault {
        wrong.extend(fault.plant(&root()).and_then(|_| fault.tests()).err().map(|error| format!("{error:#}")));
        if !names.insert(&fault.name) {
            wrong.push(format!("`{}` stands there twice", fault.name));
        }
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(book.fault)
}

/// A copy of what git would commit, to plant faults in.
struct Copy {
    root: PathBuf,
    target: PathBuf,
}

impl Copy {
    /// Brings the copy up to the tree. What is alike is left alone, so that it is not built again.
    fn of(from: &Path) -> Result<Self> {
        let copy = Self { root: from.join("target/faults"), target: from.join("target") };
        let listed =
            output(Command::new("git").args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]))?;
        let files: BTreeSet<&Path> = listed.split('\0').filter(|name| !name.is_empty()).map(Path::new).collect();
        copy.forget(&copy.root, &files)?;
        for file in files {
            // What was deleted and not committed is still listed.
            let Ok(content) = fs::read(from.join(file)) else { continue };
            copy.write(file, &content)?;
        }
        Ok(copy)
    }

    fn write(&self, file: &Path, content: &[u8]) -> Result<()> {
        let path = self.root.join(file);
        if fs::read(&path).is_ok_and(|there| there == content) {
            return Ok(());
        }
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(&path, content).with_context(|| format!("could not write {}", path.display()))
    }

    /// Removes what is in the tree no more: cargo finds tests by looking.
    fn forget(&self, folder: &Path, files: &BTreeSet<&Path>) -> Result<()> {
        let Ok(entries) = fs::read_dir(folder) else { return Ok(()) };
        for entry in entries {
            let path = entry?.path();
            if path.is_dir() {
                self.forget(&path, files)?;
            } else if !files.contains(path.strip_prefix(&self.root)?) {
                fs::remove_file(&path)?;
            }
        }
        Ok(())
    }

    /// The tests a fault names that pass with it.
    fn missed_by(&self, fault: &Fault) -> Result<BTreeSet<String>> {
        let sound = fs::read(self.root.join(&fault.file))?;
        self.write(&fault.file, fault.plant(&self.root)?.as_bytes())?;
        let tests = fault.tests()?;
        let failed = self.failed(&tests).with_context(|| format!("`{}` planted", fault.name));
        self.write(&fault.file, &sound)?;
        let named: BTreeSet<String> = tests.into_values().flatten().collect();
        Ok(named.difference(&failed?).cloned().collect())
    }

    /// Which of these tests fail. Each of them must be there, and what they test must compile.
    fn failed(&self, tests: &Tests) -> Result<BTreeSet<String>> {
        let mut failed = BTreeSet::new();
        for ((package, target), names) in tests {
            let which = if target == "lib" { vec!["--lib"] } else { vec!["--test", target] };
            let cargo = || {
                let mut cargo = Command::new("cargo");
                cargo.args(["test", "--locked", "--quiet", "--package", package]).args(&which).current_dir(&self.root);
                cargo.env("CARGO_TARGET_DIR", &self.target).env("PROPTEST_RNG_SEED", SEED).env("RUST_BACKTRACE", "0");
                cargo
            };
            crate::run(cargo().arg("--no-run")).context("it does not compile")?;
            let mut tests = cargo();
            tests.args(["--", "--format", "pretty", "--exact"]).args(names);
            let done = tests.stderr(Stdio::null()).output().with_context(|| format!("could not start {tests:?}"))?;
            let said = String::from_utf8_lossy(&done.stdout);
            let ends = |end: &str| -> BTreeSet<String> {
                let name = |line: &str| Some(line.strip_prefix("test ")?.strip_suffix(end)?.trim_end().to_owned());
                said.lines().filter_map(name).collect()
            };
            let (bad, good) = (ends("... FAILED"), ends("... ok"));
            let gone: BTreeSet<String> =
                names.iter().filter(|name| !bad.contains(*name) && !good.contains(*name)).cloned().collect();
            if !gone.is_empty() {
                bail!("`{package}` has no such tests in `{target}`, or they did not end: {}", listed(&gone));
            }
            failed.extend(bad);
        }
        Ok(failed)
    }
}

fn listed(names: &BTreeSet<String>) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_planted_fault_stands_where_it_says_it_does() {
        let faults = read().unwrap_or_else(|error| panic!("{error:#}"));
        assert!(!faults.is_empty());
    }
}
