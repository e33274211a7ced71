//! Programs that try to break the promises of StoreHaus against real servers.

#![expect(clippy::print_stderr, reason = "a command-line program speaks on its standard streams")]

use std::env;
use std::pin::Pin;
use std::process::ExitCode;

use storehaus_proof::options::Options;
use storehaus_proof::report::Report;
use storehaus_proof::{explore, faults, history, kill, model, outage, race};

type Failure = Box<dyn std::error::Error>;

/// A program under way.
type Running = Pin<Box<dyn Future<Output = Result<Report, Failure>>>>;

/// A program: its name, what it does, and how it runs.
struct Program {
    name: &'static str,
    about: &'static str,
    run: fn(Options) -> Running,
}

const PROGRAMS: &[Program] = &[
    Program {
        name: "race",
        about: "readers and writers race; no read may be older than the last acknowledged write",
        run: |options| Box::pin(race::run(options)),
    },
    Program {
        name: "outage",
        about: "Redis is killed, stopped and locked under load; no call may fail or wait long",
        run: |options| Box::pin(outage::run(options)),
    },
    Program {
        name: "faults",
        about: "every fault of the matrix, each with the figure it must reach",
        run: |options| Box::pin(faults::run(options)),
    },
    Program {
        name: "model",
        about: "every interleaving of a model of the coherence protocol; needs no server",
        run: |options| Box::pin(model::run(options)),
    },
    Program {
        name: "explore",
        about: "interleavings of the cache's own code, step by step, and some of them on real servers too",
        run: |options| Box::pin(explore::run(options)),
    },
    Program {
        name: "history",
        about: "processes, faults on every link, and a checker of all they did",
        run: |options| Box::pin(history::run(options)),
    },
    Program {
        name: "kill",
        about: "processes are killed in the middle of their writes; the others read nothing stale for long",
        run: |options| Box::pin(kill::run(options)),
    },
];

#[tokio::main]
async fn main() -> ExitCode {
    let args: Vec<String> = env::args().skip(1).collect();
    if let [worker] = args.as_slice()
        && [faults::WORKER, history::worker::NAME].contains(&worker.as_str())
    {
        return Box::pin(work(worker)).await;
    }
    let Some(program) = args.first().and_then(|name| PROGRAMS.iter().find(|program| program.name == name)) else {
        return usage();
    };
    let options = match Options::parse(&args[1..]) {
        Ok(options) => options,
        Err(text) => {
            eprintln!("{}: {text}", program.name);
            return ExitCode::from(2);
        }
    };
    let finished = async {
        let report = (program.run)(options).await?;
        report.finish()?;
        Ok::<_, Failure>(report.ok())
    };
    match finished.await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(failure) => {
            eprintln!("{}: {failure}", program.name);
            ExitCode::FAILURE
        }
    }
}

/// One process of another program's run.
async fn work(name: &str) -> ExitCode {
    let worked = if name == faults::WORKER {
        Box::pin(faults::worker()).await
    } else {
        Box::pin(history::worker::run()).await.map_err(|error| error as Failure)
    };
    match worked {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("{name}: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn usage() -> ExitCode {
    eprintln!("usage: storehaus-proof PROGRAM [--seconds N] [--seed N] […]");
    for program in PROGRAMS {
        eprintln!("  {:<8} {}", program.name, program.about);
    }
    ExitCode::from(2)
}
