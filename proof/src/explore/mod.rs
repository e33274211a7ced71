//! Interleavings of the real code of the cache, chosen step by step.
//!
//! The caches of one or two instances of an application run on one thread under a clock that stands still. Each command
//! they send to the cache server, each statement that they or a writer send to the database, and each operation that
//! an actor begins waits for its leave, and so does each reply. When everybody waits, a search says who goes on. So a
//! schedule is a list of steps, every run of it is the same, and those that matter can all be run.
//!
//! | part | what it is |
//! |---|---|
//! | the code under test | `RecordCache`, `Change`, breaker, journal and in-process tier of storehaus-cache, as they are |
//! | `tier`, `instance` | the shared tier, the loader and the callers around it, with a gate at each end of each call |
//! | `memory`, `database` | the servers: few commands, exact, in memory |
//! | `twin` | real servers that execute the same beside them, and must answer the same |
//! | `mishap` | lost replies, timeouts, evictions, failover, a lost connection, a killed process |
//! | `history` | what was acknowledged and read, and what that promises |
//! | `schedule`, `search` | one schedule; which of them are run |
//! | `catalogue`, `broken` | the scenarios; mistakes made on purpose, each of which must be found |
//!
//! # What must hold
//! - **R**: a read that begins after a write has ended returns that write or a later one. Checked at the end of each
//!   read, and after each step for every entry of the cache server, as whoever reads next is served that.
//! - **M**: reads do not go back, where a scenario says so.
//! - **C**: no read returns, and no entry holds, what was not committed.
//! - What a killed instance committed counts like what it acknowledged, where a scenario says so.
//! - Nobody waits for ever, and no task panics.
//!
//! A writer whose clearing is in its instance's journal counts for other instances once the journal is delivered. A
//! write whose COMMIT has an unknown outcome counts from its report, or from its COMMIT if that comes later; where a
//! scenario says so, only once its writer's process has looked after it for the time of an intent.
//!
//! # Bounds
//! A timer fires when nothing else can happen, or when the scenario lets it fire early. A schedule lasts until no write is
//! in doubt any more; what was sent to the database is decided before that. Statements are not reordered
//! with the end of their own writer: a writer waits for its database. Writers are those of the store, statement by
//! statement, but their SQL is not: `GenericStore` is not part of this.

mod broken;
mod catalogue;
mod command;
mod database;
mod history;
mod instance;
mod intents;
mod memory;
mod mishap;
mod scenario;
mod schedule;
mod search;
mod state;
mod step;
#[cfg(test)]
mod tests;
mod tier;
mod twin;
mod world;

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::sync::Arc;
use std::time::Instant;

use scenario::{Scenario, Search};
use search::{Findings, Limits, Replay};
use twin::Twin;

use crate::options::Options;
use crate::parallel;
use crate::report::Report;

type Failure = Box<dyn std::error::Error>;

/// More schedules than this of one scenario are not run.
const MOST_SCHEDULES: u64 = 20_000;

/// Random schedules of a scenario whose systematic search is cut short.
const MORE_SCHEDULES: u64 = 5_000;

/// Fewer schedules in all are no proof.
const LEAST_SCHEDULES: u64 = 100_000;

/// Schedules of each scenario that run on real servers too.
const TWIN_SCHEDULES: u64 = 50;

/// Explores every scenario, runs some schedules of each on the servers of `DATABASE_URL` and `REDIS_URL` too, and
/// prints the way to whatever it finds. With a schedule to replay, tells that one.
///
/// # Errors
/// When the servers cannot be reached, two runs of a schedule differ, or there is no such schedule to replay.
pub async fn run(options: Options) -> Result<Report, Failure> {
    if let Some(schedule) = options.replay {
        return Ok(tokio::task::spawn_blocking(move || replay(&schedule)).await??);
    }
    let (database, redis) = (std::env::var("DATABASE_URL")?, std::env::var("REDIS_URL")?);
    let seed = options.seed;
    let explored = tokio::task::spawn_blocking(move || explore_all(&database, &redis, seed)).await??;
    io::stdout().write_all(explored.traces.as_bytes())?;
    Ok(explored.report)
}

/// A report, and the way to everything that was found.
struct Explored {
    report: Report,
    traces: String,
}

fn explore_all(database: &str, redis: &str, seed: u64) -> Result<Explored, String> {
    let scenarios = catalogue::all();
    let limits = Limits { schedules: MOST_SCHEDULES, seed };
    let started = Instant::now();
    let found = parallel::each(&scenarios, |scenario| explore(scenario, limits));
    let (mut report, mut traces) = (Report::new("explore"), String::new());
    let (mut schedules, mut steps) = (0, 0);
    for (scenario, findings) in scenarios.iter().zip(found) {
        let findings = findings.map_err(|error| format!("{}: {error}", scenario.name))?;
        schedules += findings.schedules;
        steps += findings.steps;
        add(&mut report, &mut traces, scenario, &findings)?;
    }
    let figure = format!("{schedules} schedules, {steps} steps, {:.0} s", started.elapsed().as_secs_f64());
    report.row("all", figure, format!(">= {LEAST_SCHEDULES} schedules"), schedules >= LEAST_SCHEDULES);

    let twin = Arc::new(Twin::connect(database, redis)?);
    let limits = Limits { schedules: TWIN_SCHEDULES, seed };
    let (mut schedules, mut steps) = (0, 0);
    for scenario in catalogue::sound().into_iter().filter(Scenario::runs_on_real_servers) {
        let scenario = Scenario { search: Search::Random(TWIN_SCHEDULES), ..scenario };
        let findings = search::explore(&scenario, limits, Some(&twin))?;
        schedules += findings.schedules;
        steps += findings.steps;
        if findings.found.is_some() {
            add(&mut report, &mut traces, &scenario, &findings)?;
        }
    }
    report.row(
        "on real servers too",
        format!("{schedules} schedules, {steps} steps"),
        "the same answers",
        schedules > 0,
    );
    Ok(Explored { report, traces })
}

/// Explores a scenario systematically and, where that does not come to an end, at random too.
fn explore(scenario: &Scenario, limits: Limits) -> Result<Findings, String> {
    let mut findings = search::explore(scenario, limits, None)?;
    let is_cut_short = !findings.complete && !matches!(scenario.search, Search::Random(_));
    if is_cut_short && findings.found.is_none() {
        let scenario = Scenario { search: Search::Random(MORE_SCHEDULES), ..*scenario };
        let more = search::explore(&scenario, limits, None)?;
        findings.schedules += more.schedules;
        findings.steps += more.steps;
        findings.outcomes = findings.outcomes.max(more.outcomes);
        findings.lasted += more.lasted;
        findings.found = more.found;
    }
    Ok(findings)
}

/// Adds the line of a scenario, and the way to what was found.
fn add(report: &mut Report, traces: &mut String, scenario: &Scenario, findings: &Findings) -> Result<(), String> {
    let target = if scenario.breaks { "broken" } else { "holds" };
    let label = scenario.label();
    report.row(&label, figure(findings), target, findings.found.is_some() == scenario.breaks);
    let Some(found) = &findings.found else { return Ok(()) };
    let choices = search::shorten(scenario, &found.choices)?;
    let told = tell(scenario, &choices)?;
    let list: Vec<_> = choices.iter().map(usize::to_string).collect();
    writeln!(traces, "found: {}\n{told}   --replay \"{}:{}\"\n", found.breach, label, list.join(","))
        .map_err(|e| e.to_string())
}

fn figure(findings: &Findings) -> String {
    let Findings { schedules, pruned, outcomes, complete, found, .. } = findings;
    let how = match (found, complete) {
        (Some(_), _) => "broken",
        (None, true) => "complete",
        (None, false) => "in part",
    };
    let seconds = findings.lasted.as_secs_f64();
    format!("{how}: {schedules} schedules, {pruned} pruned, {outcomes} outcomes, {seconds:.2} s")
}

/// A schedule in words.
fn tell(scenario: &Scenario, choices: &[usize]) -> Result<String, String> {
    let mut replay = Replay::new(choices);
    let ended = schedule::run(scenario, &mut replay, None, true)?;
    let mut text = format!("{}:\n", scenario.label());
    for (at, (step, notes)) in replay.told.iter().enumerate() {
        writeln!(text, "  {:>3}. {step}", at + 1).map_err(|error| error.to_string())?;
        for note in notes {
            writeln!(text, "       {note}").map_err(|error| error.to_string())?;
        }
    }
    match ended.breach {
        Some(breach) => writeln!(text, "   => {breach}"),
        None => writeln!(text, "   => nothing is broken"),
    }
    .map_err(|error| error.to_string())?;
    Ok(text)
}

/// Tells the schedule `NAME:CHOICE,CHOICE,…`.
fn replay(schedule: &str) -> Result<Report, String> {
    let unknown = || format!("cannot read `{schedule}`; a schedule is NAME:CHOICE,CHOICE,… as printed with a finding");
    let (name, list) = schedule.rsplit_once(':').ok_or_else(unknown)?;
    let choices = list.split(',').filter(|choice| !choice.is_empty()).map(str::parse);
    let choices: Vec<usize> = choices.collect::<Result<_, _>>().map_err(|_| unknown())?;
    let scenarios = catalogue::all();
    let scenario = scenarios.iter().find(|scenario| scenario.label() == name).ok_or_else(unknown)?;
    let told = tell(scenario, &choices)?;
    io::stdout().write_all(told.as_bytes()).map_err(|error| error.to_string())?;
    let mut report = Report::new("explore");
    report.row(name, "told", "told", true);
    Ok(report)
}
