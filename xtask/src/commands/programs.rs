//! `race`, `outage` and `prove`: the programs of the package `storehaus-proof`.

use std::fs;
use std::path::{Path, PathBuf};

use crate::run::{Failure, Outcome, cargo, output_dir, root, seconds, step};
use crate::servers::Servers;

/// Seconds a program runs unless told otherwise.
const SECONDS: u64 = 60;

/// Readers and writers race.
pub(crate) fn race(args: &[String]) -> Outcome {
    let seconds = seconds(args, SECONDS)?;
    program("race", seconds, Servers::start)
}

/// The cache server fails.
pub(crate) fn outage(args: &[String]) -> Outcome {
    let seconds = seconds(args, SECONDS)?;
    program("outage", seconds, Servers::for_outages)
}

/// A program that `prove` can run.
struct Proof {
    name: &'static str,
    about: &'static str,
    servers: Option<fn() -> Result<Servers, Failure>>,
    /// How it is built. Where processes wait for servers, the checks of a debug build cost nothing that matters.
    release: bool,
    /// Its options, beside their values.
    options: &'static [&'static str],
}

const PROOFS: [Proof; 5] = [
    Proof {
        name: "explore",
        about: "interleavings of the cache's own code, step by step, and some of them on real servers too",
        servers: Some(Servers::start),
        release: true,
        options: &["--replay", "--seed"],
    },
    Proof {
        name: "faults",
        about: "every fault, and what each costs",
        servers: Some(Servers::for_outages),
        release: true,
        options: &["--only", "--seconds", "--seed"],
    },
    Proof {
        name: "model",
        about: "every interleaving of a model of the protocol",
        servers: None,
        release: true,
        options: &[],
    },
    Proof {
        name: "history",
        about: "processes, faults on every link, and a checker of all they did; with --broken NAME or --broken all, \
                with a bug built in that must be found",
        servers: Some(Servers::for_outages),
        release: false,
        options: &["--seconds", "--minutes", "--seed", "--seeds", "--variant", "--broken"],
    },
    Proof {
        name: "kill",
        about: "processes are killed in the middle of their writes",
        servers: Some(Servers::for_outages),
        release: false,
        options: &["--kills", "--seed", "--seeds"],
    },
];

/// Runs a proof to its end. What follows its name is for the proof.
pub(crate) fn prove(args: &[String]) -> Outcome {
    let (proof, options) = proof(args)?;
    let broken = options.iter().any(|option| option == "--broken");
    // By this name the program reports, and where bugs are built in nobody shall take it for the other report.
    let name = if broken { format!("{}-broken", proof.name) } else { proof.name.to_owned() };
    let report = clear_report(&name)?;
    let run = |word: &str| {
        let mut command = cargo([word, "--quiet", "-p", "storehaus-proof"]);
        command.args(proof.release.then_some("--release"));
        if broken {
            command.arg("--target-dir").arg(root().join("target/broken")).env("RUSTFLAGS", "--cfg storehaus_broken");
        }
        command
    };
    // Before the servers are there: a build takes what they are to be measured with.
    step("build", &mut run("build"))?;
    println!("==> {name}");
    let mut command = run("run");
    command.arg("--").arg(proof.name).args(options);
    let outcome = match proof.servers {
        Some(servers) => servers().and_then(|mut servers| servers.run(&mut command)),
        None => match command.status().map_err(|error| Failure::new(format!("cannot run {name}: {error}"))) {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => Err(Failure::Status(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1))),
            Err(failure) => Err(failure),
        },
    };
    conclude(&name, &report, outcome)
}

/// The proof that is asked for, and its options.
fn proof(args: &[String]) -> Result<(&'static Proof, &[String]), Failure> {
    let known = || {
        let lines =
            PROOFS.iter().map(|proof| format!("\n  {:<8} {} {}", proof.name, proof.about, shown(proof.options)));
        lines.collect::<String>()
    };
    let Some((name, options)) = args.split_first() else {
        return Err(Failure::Usage(format!("name one proof; these exist:{}\n", known())));
    };
    let Some(proof) = PROOFS.iter().find(|proof| proof.name == name) else {
        return Err(Failure::Usage(format!("there is no proof `{name}`; these exist:{}\n", known())));
    };
    for pair in options.chunks(2) {
        if !proof.options.contains(&pair[0].as_str()) || pair.len() < 2 {
            let known = if proof.options.is_empty() { " no options" } else { &shown(proof.options) };
            return Err(Failure::Usage(format!("cannot read `{}`; {name} takes{known}", pair.join(" "))));
        }
    }
    Ok((proof, options))
}

fn shown(options: &[&str]) -> String {
    options.iter().map(|option| format!(" [{option} …]")).collect()
}

fn program(name: &str, seconds: u64, servers: fn() -> Result<Servers, Failure>) -> Outcome {
    let report = clear_report(name)?;
    let outcome = servers()
        .and_then(|mut servers| servers.run(cargo(program_args(name)).arg("--seconds").arg(seconds.to_string())));
    conclude(name, &report, outcome)
}

fn program_args(name: &str) -> [&str; 7] {
    ["run", "--quiet", "--release", "-p", "storehaus-proof", "--", name]
}

/// Where the report of a program will stand; an earlier one is removed.
pub(super) fn clear_report(name: &str) -> Result<PathBuf, Failure> {
    let dir = output_dir();
    let report = dir.join(format!("{name}.json"));
    let prepared = fs::create_dir_all(&dir).map(|()| fs::remove_file(&report));
    prepared.map_err(|error| Failure::new(format!("cannot use {}: {error}", dir.display())))?.ok();
    Ok(report)
}

/// Success takes both a program that ends well and a report that says so; without a report one is written.
pub(super) fn conclude(name: &str, report: &Path, outcome: Outcome) -> Outcome {
    let Ok(text) = fs::read_to_string(report) else {
        let reason = match outcome {
            Ok(()) => "the program wrote no report".to_owned(),
            Err(Failure::Status(code)) => format!("the program ended with status {code} and wrote no report"),
            Err(Failure::Failed(text) | Failure::Usage(text)) => text,
        };
        let json =
            format!("{{\n  \"name\": {},\n  \"ok\": false,\n  \"error\": {}\n}}\n", quoted(name), quoted(&reason));
        let shown = report.display();
        fs::write(report, json).map_err(|error| Failure::new(format!("{reason}; cannot write {shown}: {error}")))?;
        return Err(Failure::new(reason));
    };
    outcome?;
    if says_ok(&text) { Ok(()) } else { Err(Failure::new(format!("{} does not say \"ok\": true", report.display()))) }
}

/// Whether the report's own `ok` (two spaces deep; those of its rows are deeper) is true.
fn says_ok(json: &str) -> bool {
    json.lines().any(|line| line.trim_end().trim_end_matches(',') == "  \"ok\": true")
}

/// A JSON string.
fn quoted(text: &str) -> String {
    let mut out = String::from('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            c if c < ' ' => out.push_str(&format!("\\u{:04x}", c as u32)),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::servers::temp_dir;

    const GOOD: &str = "{\n  \"name\": \"race\",\n  \"ok\": true,\n  \"rows\": []\n}\n";

    #[test]
    fn a_program_that_dies_leaves_a_report_that_is_not_ok() {
        let dir = temp_dir().unwrap();
        let report = dir.join("race.json");
        assert!(conclude("race", &report, Err(Failure::Status(101))).is_err());
        let text = fs::read_to_string(&report).unwrap();
        assert!(text.contains("  \"ok\": false") && text.contains("status 101"), "{text}");
        assert!(conclude("race", &report, Ok(())).is_err());
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn success_takes_the_report_and_the_status() {
        let dir = temp_dir().unwrap();
        let report = dir.join("race.json");
        fs::write(&report, GOOD).unwrap();
        assert!(conclude("race", &report, Ok(())).is_ok());
        assert!(matches!(conclude("race", &report, Err(Failure::Status(1))), Err(Failure::Status(1))));
        fs::write(&report, GOOD.replace("  \"ok\": true", "  \"ok\": false")).unwrap();
        assert!(conclude("race", &report, Ok(())).is_err());
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn an_unknown_proof_or_option_is_named() {
        let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let args = words("history --seconds 5 --broken all");
        let (found, options) = proof(&args).unwrap();
        assert_eq!((found.name, options), ("history", &args[1..]));
        let wrong = [
            ("modle", "`modle`"),
            ("", "\n  model "),
            ("model --seed 1", "takes no options"),
            ("kill --kils 3", "takes [--kills …]"),
            ("kill --kills", "`--kills`"),
        ];
        for (args, wanted) in wrong {
            let Err(Failure::Usage(text)) = proof(&words(args)) else { panic!("{args}") };
            assert!(text.contains(wanted), "{text}");
        }
    }

    #[test]
    fn rows_that_are_ok_do_not_make_the_report_ok() {
        assert!(says_ok(GOOD));
        assert!(!says_ok("{\n  \"ok\": false,\n  \"rows\": [\n    {\n      \"ok\": true\n    }\n  ]\n}\n"));
    }

    #[test]
    fn strings_are_escaped() {
        assert_eq!(quoted("a\"b\\c\nd\u{1}"), r#""a\"b\\c\nd\u0001""#);
    }
}
