//! The tester tested: bugs are built in, one at a time, and each must be found.
//!
//! The cache knows the bugs by these names when it is built with `--cfg storehaus_broken`.

use std::time::{Duration, Instant};

use super::check::Rule;
use super::plan::Variant;
use super::{Failure, Run, run_variant};
use crate::kill::kill;
use crate::options::Options;
use crate::report::Report;

/// A bug, and the kind of run that shows it.
struct Bug {
    name: &'static str,
    variant: Variant,
}

const BUGS: &[Bug] = &[
    Bug { name: "acknowledge-first", variant: Variant::Ttl },
    Bug { name: "fill-anyway", variant: Variant::Links },
    Bug { name: "flight-survives", variant: Variant::Bounded },
    Bug { name: "identity-off", variant: Variant::Outages },
    Bug { name: "ignore-errors", variant: Variant::Ttl },
    Bug { name: "incarnation-off", variant: Variant::Strict },
    Bug { name: "invalidate-first", variant: Variant::Links },
    Bug { name: "keep-local", variant: Variant::Bounded },
    Bug { name: "no-intents", variant: Variant::Kill },
    Bug { name: "settle-before-commit", variant: Variant::Links },
    Bug { name: "skip-one", variant: Variant::Links },
    Bug { name: "swallow-journal", variant: Variant::Ttl },
    Bug { name: "unknown-is-nothing", variant: Variant::Ttl },
    Bug { name: "validate-nothing", variant: Variant::Validated },
];

/// Runs with the bug of this name, or with each in turn, until it is found. `all` also runs every kind of run without a
/// bug: what finds bugs where there are none finds nothing.
///
/// # Errors
/// When the bugs are not built in, there is none of this name, or a run cannot be made.
pub async fn run(name: &str, options: &Options) -> Result<Report, Failure> {
    if !cfg!(storehaus_broken) {
        return Err("this build has no bugs: build it with RUSTFLAGS=\"--cfg storehaus_broken\"".into());
    }
    let all = name == "all";
    let bugs: Vec<_> = BUGS.iter().filter(|bug| all || bug.name == name).collect();
    if bugs.is_empty() {
        let known: Vec<_> = BUGS.iter().map(|bug| bug.name).collect();
        return Err(format!("there is no bug `{name}`; these exist: all, {}", known.join(", ")).into());
    }
    let mut report = Report::new("history-broken");
    if all {
        for variant in Variant::ALL {
            let run = round(variant, options.seed, None).await?;
            let found = found(&run);
            report.row(format_args!("no bug, {}", variant.name()), &found, "nothing", found == NOTHING);
        }
    }
    for Bug { name, variant } in bugs {
        let started = Instant::now();
        let mut seed = options.seed;
        let run = loop {
            let run = round(*variant, seed, Some(name)).await?;
            if run.broken() || started.elapsed() + ROUND > LIMIT {
                break run;
            }
            seed += 1;
        };
        let figure = format!("{} after {:.0?}", found(&run), started.elapsed());
        report.row(format_args!("{name}, {}", variant.name()), figure, "found", run.broken());
    }
    Ok(report)
}

async fn round(variant: Variant, seed: u64, bug: Option<&str>) -> Result<Run, Failure> {
    match variant {
        Variant::Kill => kill(seed, KILLS, bug).await,
        _ => run_variant(variant, seed, LOAD, bug).await,
    }
}

/// The rules that were broken, and how often.
fn found(run: &Run) -> String {
    let count = |rule: Rule| run.verdict.violations.iter().filter(|violation| violation.rule == rule).count();
    let counts = Rule::ALL.into_iter().map(|rule| (rule, count(rule))).filter(|(_, count)| *count > 0);
    let counts: Vec<_> = counts.map(|(rule, count)| format!("{rule} x {count}")).collect();
    if counts.is_empty() { NOTHING.to_owned() } else { counts.join(", ") }
}

const NOTHING: &str = "nothing";

/// How long the load of one round lasts, and how many processes it kills.
const LOAD: Duration = Duration::from_secs(14);
const KILLS: u64 = 25;

/// How long a round takes, with all that is around the load; and within which time a bug is to be found.
const ROUND: Duration = Duration::from_secs(20);
const LIMIT: Duration = Duration::from_secs(60);
