//! Processes are killed in the middle of their writes.
//!
//! A process that dies between the COMMIT of a write and the end of its invalidation leaves a row in the cache that the
//! database no longer has. What it announced before makes every other process stop serving that row: at once, or when
//! the announcement expires, which is the bound of this run.

use std::time::Duration;

use tokio::time::sleep;

use crate::history::check::{Rule, Verdict, check};
use crate::history::event::Outcome;
use crate::history::plan::Variant;
use crate::history::rig::Rig;
use crate::history::{PROCESSES, Run, agree, story, table};
use crate::options::Options;
use crate::report::Report;
use crate::rng::Rng;

type Failure = Box<dyn std::error::Error>;

/// Kills as many processes as asked for, with each seed anew.
///
/// # Errors
/// When servers or processes cannot be started, or a process fails by itself.
pub async fn run(options: Options) -> Result<Report, Failure> {
    let mut report = Report::new("kill");
    for seed in options.seed..options.seed + options.seeds {
        let run = kill(seed, options.kills, None).await?;
        judge(&mut report, &run);
        if run.broken() {
            story::write(&run)?;
        }
    }
    Ok(report)
}

/// Kills processes at random, then lets everything come to rest. With a bug, if it is named.
///
/// # Errors
/// As [`run`].
pub async fn kill(seed: u64, kills: u64, bug: Option<&str>) -> Result<Run, Failure> {
    let variant = Variant::Kill;
    let mut rng = Rng::new(seed, 0x6b11);
    let mut rig = Rig::start(variant, seed, PROCESSES, bug).await?;
    sleep(WARM).await;
    for _ in 0..kills {
        sleep(Duration::from_millis(100 + rng.below(500))).await;
        rig.kill(rng.below(PROCESSES as u64) as usize).await?;
    }
    sleep(variant.settles_within() + WARM).await;
    rig.stop().await?;
    sleep(variant.settles_within()).await;
    rig.sweep().await?;
    let (history, ground) = (rig.history()?, table::ground(&rig.pool).await?);
    agree(&ground, &table::rows(&rig.pool).await?)?;
    let verdict = check(&history, &ground, &variant.promise());
    Ok(Run { variant, seed, script: Vec::new(), history, ground, verdict, hit_rates: (None, None) })
}

fn judge(report: &mut Report, run: &Run) {
    let Run { seed, history, verdict, variant, .. } = run;
    let Verdict { rows, orphans, incoherent, violations, slowest, .. } = verdict;
    let name = format!("kill (seed {seed})");
    let (bound, budget) = (variant.settles_within(), Duration::from_nanos(variant.promise().budget));
    let done = history.writes.iter().filter(|write| write.outcome == Outcome::Done).count();
    let kills = history.kills.len();
    report.row(format_args!("{name}: kills"), kills, "> 0", kills > 0);
    report.row(format_args!("{name}: load"), format_args!("{rows} rows read, {done} writes"), "some", done > 0);
    report.row(format_args!("{name}: applied, not acknowledged"), orphans, "> 0", *orphans > 0);
    for rule in Rule::ALL {
        let count = violations.iter().filter(|violation| violation.rule == rule).count();
        report.row(format_args!("{name}: {rule} {}", rule.about()), count, "0", count == 0);
    }
    let worst = Duration::from_nanos(*incoherent);
    let target = format!("<= {bound:?}");
    report.row(format_args!("{name}: slowest to coherence"), format_args!("{worst:.2?}"), target, worst <= bound);
    let slowest = Duration::from_nanos(*slowest);
    let target = format!("<= {budget:?}");
    report.row(format_args!("{name}: slowest operation"), format_args!("{slowest:.2?}"), target, slowest <= budget);
}

/// Before the first kill the cache fills; after the last one the groups of keys have their turns.
const WARM: Duration = Duration::from_secs(3);
