//! The commands of this repository. `cargo xtask` lists them.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command-line program speaks on its standard streams")]

mod commands;
mod run;
mod servers;
mod supervisor;

use std::env;
use std::process::ExitCode;

use run::{Failure, Outcome};

struct Command {
    name: &'static str,
    usage: &'static str,
    about: &'static str,
    run: fn(&[String]) -> Outcome,
}

const COMMANDS: [Command; 8] = [
    Command {
        name: "test",
        usage: "test [-- ARGS]",
        about: "every test against real servers, and each feature set compiled; ARGS go to cargo test",
        run: commands::test::run,
    },
    Command {
        name: "tidy",
        usage: "tidy",
        about: "formatting, clippy, docs, dependencies, feature sets, rules of the source",
        run: commands::tidy::run,
    },
    Command {
        name: "race",
        usage: "race [--seconds N]",
        about: "readers and writers race; no read may be stale; writes target/xtask/race.json",
        run: commands::programs::race,
    },
    Command {
        name: "outage",
        usage: "outage [--seconds N]",
        about: "the cache server fails in every way; writes target/xtask/outage.json",
        run: commands::programs::outage,
    },
    Command {
        name: "prove",
        usage: "prove [NAME] [OPTIONS]",
        about: "programs that prove or refute what is promised, listed without a name; each writes target/xtask/NAME.json",
        run: commands::programs::prove,
    },
    Command {
        name: "bench",
        usage: "bench [--quick] [--only NAME…] [--json FILE]",
        about: "StoreHaus beside what people write without it, in one run; writes target/xtask/bench.json",
        run: commands::bench::run,
    },
    Command {
        name: "fuzz",
        usage: "fuzz [--seconds N]",
        about: "hostile bytes against the entry header and the codec (nightly toolchain)",
        run: commands::fuzz::run,
    },
    Command {
        name: "servers",
        usage: "servers -- CMD…",
        about: "runs CMD with DATABASE_URL and REDIS_URL set to servers that live as long as it",
        run: commands::servers::run,
    },
];

fn main() -> ExitCode {
    let args: Vec<String> = env::args().skip(1).collect();
    let Some(command) = args.first().and_then(|name| COMMANDS.iter().find(|command| command.name == name)) else {
        return usage(args.first());
    };
    match (command.run)(&args[1..]) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Usage(text)) => {
            eprintln!("xtask {}: {text}; usage: cargo xtask {}", command.name, command.usage);
            ExitCode::from(2)
        }
        Err(Failure::Failed(text)) => {
            eprintln!("xtask {}: {text}", command.name);
            ExitCode::FAILURE
        }
        // The command that failed has said why.
        Err(Failure::Status(code)) => ExitCode::from(code),
    }
}

fn usage(unknown: Option<&String>) -> ExitCode {
    let known = unknown.is_none_or(|name| ["help", "--help", "-h"].contains(&name.as_str()));
    if let Some(name) = unknown.filter(|_| !known) {
        eprintln!("xtask: there is no command `{name}`; these exist:");
    }
    for command in &COMMANDS {
        eprintln!("  cargo xtask {:<22} {}", command.usage, command.about);
    }
    ExitCode::from(if known { 0 } else { 2 })
}
