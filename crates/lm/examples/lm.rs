//! The engine's subcommands without the rest of the executable: for tests of this room and for measuring.

use std::process::ExitCode;

const USAGE: &str = "usage: lm train --config FILE
       lm serve --model PATH --listen unix:PATH|127.0.0.1:PORT [--name NAME] [--threads N] [--max-batch N] [--context N]
       lm bench --model PATH [--threads N]";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (verb, rest) = arguments.split_first().map_or(("", &[][..]), |(verb, rest)| (verb.as_str(), rest));
    let done = match verb {
        "train" => train(rest),
        "serve" => serve(rest),
        "bench" => bench(rest),
        _ => Err(USAGE.into()),
    };
    done.unwrap_or_else(|error| {
        eprintln!("error: {error}");
        let mut cause = error.source();
        while let Some(inner) = cause {
            eprintln!("  because: {inner}");
            cause = inner.source();
        }
        ExitCode::FAILURE
    })
}

type Done = Result<ExitCode, Box<dyn std::error::Error>>;

/// The value after a flag.
fn flag<'a>(arguments: &'a [String], name: &str) -> Option<&'a str> {
    arguments.iter().position(|a| a == name).and_then(|at| arguments.get(at + 1)).map(String::as_str)
}

fn train(arguments: &[String]) -> Done {
    use gregal_lm::{progress, train};
    let config = train::config_from(flag(arguments, "--config").ok_or("`--config FILE` is missing")?.as_ref())?;
    let outcome = train::run(&config, &mut progress::Lines(std::io::stdout()))?;
    Ok(if outcome == train::Outcome::Finished { ExitCode::SUCCESS } else { ExitCode::from(train::EXIT_STOPPED) })
}

/// The number after a flag, if it is there.
fn number(arguments: &[String], name: &str) -> Result<Option<usize>, Box<dyn std::error::Error>> {
    let Some(text) = flag(arguments, name) else { return Ok(None) };
    text.parse().map(Some).map_err(|_| format!("`{name} {text}` is not a number").into())
}

fn serve(arguments: &[String]) -> Done {
    use gregal_lm::serve;
    let listen = flag(arguments, "--listen").ok_or("`--listen unix:PATH` is missing")?.parse()?;
    let mut options = serve::Options::new(flag(arguments, "--model").ok_or("`--model PATH` is missing")?, listen);
    options.name = flag(arguments, "--name").map(str::to_owned);
    options.threads = number(arguments, "--threads")?.unwrap_or(options.threads);
    options.batch_max = number(arguments, "--max-batch")?.unwrap_or(options.batch_max);
    options.context = number(arguments, "--context")?;
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .worker_threads(1)
        .build()?
        .block_on(serve::run(options))?;
    Ok(ExitCode::SUCCESS)
}

fn bench(arguments: &[String]) -> Done {
    use gregal_lm::bench;
    let model = flag(arguments, "--model").ok_or("`--model PATH` is missing")?.into();
    let options =
        bench::Options { threads: number(arguments, "--threads")?.unwrap_or(1), ..bench::Options::new(model) };
    let report = bench::run(&options)?;
    eprint!("{report}");
    println!("{}", serde_json::to_string(&report)?);
    Ok(ExitCode::SUCCESS)
}
