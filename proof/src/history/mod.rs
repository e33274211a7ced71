//! The history run: several processes, real servers, faults on every link; every operation is written down, and a
//! checker holds what readers saw against what the database committed.
//!
//! | module | what it does |
//! |---|---|
//! | [`plan`] | the kinds of runs: their faults and what readers are promised in them |
//! | [`rig`] | starts servers, proxies and processes |
//! | [`worker`] | one process: operations of every kind |
//! | [`nemesis`] | faults, from a seed |
//! | [`event`] | what a process writes down |
//! | [`table`] | what the database writes down |
//! | [`mod@check`] | holds one against the other |
//! | [`broken`] | the same with bugs built in, which must be found |

pub mod broken;
pub mod check;
pub mod clock;
pub mod event;
pub mod nemesis;
pub mod plan;
pub mod rig;
pub mod story;
pub mod table;
mod transact;
mod work;
pub mod worker;

use std::time::Duration;

use tokio::time::sleep;

use crate::options::Options;
use crate::report::Report;
use check::{History, Rule, Verdict, check};
use clock::nanos;
use event::Outcome;
use nemesis::Step;
use plan::Variant;
use rig::Rig;
use table::Ground;

type Failure = Box<dyn std::error::Error>;

/// Runs every variant, or the one that is asked for, with each seed.
///
/// # Errors
/// When servers or processes cannot be started, or a process fails.
pub async fn run(options: Options) -> Result<Report, Failure> {
    if let Some(name) = &options.broken {
        return broken::run(name, &options).await;
    }
    let variants = match &options.variant {
        None => Variant::HISTORY.to_vec(),
        Some(name) => vec![variant(name)?],
    };
    let mut report = Report::new("history");
    let lasts = options.lasts() / u32::try_from(variants.len())?;
    for seed in options.seed..options.seed + options.seeds {
        for variant in &variants {
            let run = run_variant(*variant, seed, lasts, None).await?;
            judge(&mut report, &run);
            if run.broken() {
                story::write(&run)?;
            }
        }
    }
    Ok(report)
}

fn variant(name: &str) -> Result<Variant, String> {
    let mut all = Variant::ALL.into_iter().filter(|variant| *variant != Variant::Kill);
    let names: Vec<_> = all.clone().map(Variant::name).collect();
    all.find(|variant| variant.name() == name)
        .ok_or_else(|| format!("there is no variant `{name}`; these exist: {}", names.join(", ")))
}

/// A run that is over.
#[derive(Debug)]
pub struct Run {
    /// Which kind.
    pub variant: Variant,
    /// The seed.
    pub seed: u64,
    /// The faults.
    pub script: Vec<Step>,
    /// What happened.
    pub history: History,
    /// What was committed.
    pub ground: Ground,
    /// What the checker says.
    pub verdict: Verdict,
    /// The share of hits before the first fault, and again after the last.
    pub hit_rates: (Option<f64>, Option<f64>),
}

impl Run {
    /// Whether a promise was broken.
    pub fn broken(&self) -> bool {
        !self.verdict.violations.is_empty()
    }
}

/// Runs one variant: some calm, the faults, some calm, and at last everything at rest. With a bug, if it is named.
///
/// # Errors
/// As [`run`].
pub async fn run_variant(variant: Variant, seed: u64, lasts: Duration, bug: Option<&str>) -> Result<Run, Failure> {
    let calm = (lasts / 8).max(Duration::from_secs(3));
    let script = nemesis::script(variant, seed, PROCESSES, lasts.saturating_sub(calm * 2).max(calm));
    let mut rig = Rig::start(variant, seed, PROCESSES, bug).await?;
    let began = rig.clock.now();
    sleep(calm).await;
    let struck = rig.clock.now();
    nemesis::play(&mut rig, &script).await?;
    // What a fault interrupted, such as a pause before the next try, ends within this time.
    sleep(Duration::from_secs(1)).await;
    let healed = rig.clock.now();
    sleep(calm).await;
    let over = rig.clock.now();
    // Writes under way end with nobody knowing how, and no later write of their rows makes that good.
    rig.links.iter().for_each(|(database, _)| database.cut());
    rig.stop().await?;
    sleep(variant.settles_within()).await;
    rig.sweep().await?;
    let (history, ground) = (rig.history()?, table::ground(&rig.pool).await?);
    agree(&ground, &table::rows(&rig.pool).await?)?;
    let verdict = check(&history, &ground, &variant.promise());
    // From the middle of the first calm on: the cache was empty before.
    let hit_rates = (hit_rate(&history, began.midpoint(struck), struck), hit_rate(&history, healed, over));
    Ok(Run { variant, seed, script, history, ground, verdict, hit_rates })
}

/// The trigger and the table must tell the same story, or nothing above means anything.
pub(crate) fn agree(ground: &Ground, rows: &std::collections::BTreeMap<i64, i64>) -> Result<(), Failure> {
    for (key, versions) in ground {
        let last = versions.last().filter(|last| last.writer.is_some()).map(|last| last.ver);
        if rows.get(key).copied() != last {
            return Err(format!("the audit of key {key} ends with {last:?}, the table has {:?}", rows.get(key)).into());
        }
    }
    Ok(())
}

/// The share of hits of all processes between two times; none if there was little to count.
fn hit_rate(history: &History, from: u64, to: u64) -> Option<f64> {
    let (mut hits, mut misses) = (0, 0);
    let inside = || history.hits.iter().filter(|hits| (from..to).contains(&hits.at));
    for process in inside().map(|hits| hits.process).collect::<std::collections::BTreeSet<_>>() {
        let mut own = inside().filter(|hits| hits.process == process);
        if let (Some(first), Some(last)) = (own.next(), own.next_back()) {
            hits += last.hits - first.hits;
            misses += last.misses - first.misses;
        }
    }
    (hits + misses >= 200).then(|| hits as f64 / (hits + misses) as f64)
}

/// Adds what came out of a run to a report.
fn judge(report: &mut Report, run: &Run) {
    let Run { variant, seed, script, history, verdict, hit_rates, .. } = run;
    let name = format!("{} (seed {seed})", variant.name());
    let ended = |outcome| history.writes.iter().filter(|write| write.outcome == outcome).count();
    let done = ended(Outcome::Done);
    report.row(
        format_args!("{name}: load"),
        format_args!("{} rows read, {done} writes, {} faults", verdict.rows, script.len()),
        "some of each",
        verdict.rows > 0 && done > 0 && !script.is_empty(),
    );
    let (failed, unknown) = (ended(Outcome::Failed), ended(Outcome::Unknown) + ended(Outcome::Committed));
    report.row(
        format_args!("{name}: did not end well"),
        format_args!("writes: {failed} failed, {unknown} unknown; reads: {} failed", history.failed.len()),
        "any",
        true,
    );
    for rule in Rule::ALL {
        let count = verdict.violations.iter().filter(|violation| violation.rule == rule).count();
        report.row(format_args!("{name}: {rule} {}", rule.about()), count, "0", count == 0);
    }
    report.row(format_args!("{name}: age of stale rows, allowed or not"), &verdict.staleness, "by the rules", true);
    let budget = variant.promise().budget;
    let slowest = Duration::from_nanos(verdict.slowest);
    report.row(
        format_args!("{name}: slowest operation"),
        format_args!("{slowest:.2?}"),
        format_args!("<= {:?}", Duration::from_nanos(budget)),
        verdict.slowest <= budget,
    );
    if let (Some(before), Some(after)) = hit_rates {
        report.row(
            format_args!("{name}: hit rate before and after"),
            format_args!("{:.1} %, {:.1} %", before * 100.0, after * 100.0),
            "> 2/3 of before",
            *after > before * 2.0 / 3.0,
        );
    }
    let drift = Duration::from_nanos(history.drift);
    report.row(
        format_args!("{name}: clocks drifted"),
        format_args!("{drift:.1?}"),
        format_args!("<= {DRIFT:?}"),
        history.drift <= nanos(DRIFT),
    );
}

/// How many processes share a run.
pub(crate) const PROCESSES: usize = 3;

/// Farther apart, the wall clock was set during the run.
const DRIFT: Duration = Duration::from_micros(500);
