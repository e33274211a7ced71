//! Every interleaving of a model of the coherence protocol.
//!
//! The protocol of one key is written down as states and steps (`state`, `step`), and `explore` visits every state
//! that the bounds of a configuration (`setup`, `catalogue`) allow, breadth first, so that the way to a broken promise
//! is the shortest one. Nothing here calls the code of the cache: the model says what the rules are worth, the other
//! programs say whether the code follows them.
//!
//! # What is modelled
//! - **Database**: one row; versions in the order of COMMIT, 0 may be "no such row"; a row lock; statements that read
//!   the newest committed version; COMMIT whose reply is lost, applied or not; rollback.
//! - **Redis**: one key that holds nothing, a value, a lease or a set of intents; each command of the protocol as one
//!   atomic step; replies lost after the command was applied; a command held back for any time; expiry of whatever
//!   stands there, eviction and flush, a copy taken at any time and a failover to it (a restart from a snapshot is the
//!   same), lack of memory, a lost connection of one instance.
//! - **Readers**: lease, SELECT and fill as three steps with anything between them; failed loads, dead loads; a
//!   refresh whose permission is the value it saw. Reads that hit, or that join a load, are checked in every state and
//!   need no state: their number is not bounded.
//! - **Writers**: intent and change in either order, COMMIT, clearing of Redis, of the in-process tier, the message to
//!   others, the acknowledgement; publication of the row instead of the deletion; death at any of these steps (its
//!   intent stays until it expires; its transaction rolls back unless it was committed); refusal, or the journal, when
//!   Redis cannot be reached; a deletion before COMMIT when the intent is refused for lack of memory.
//! - **In-process tier**: entries, flights, the fence; alone, on one instance, on two with entries that end by age, on
//!   two with a bus of ordered messages that are late or lost, heartbeats, and ticks of time.
//!
//! A caller that goes away after COMMIT was sent leaves a write that goes on without it; the end of a write counts
//! whether or not anybody is told, so this is the same run.
//!
//! # What must hold
//! - **R**: a read that begins after a write has ended returns that write or a later one, at every tier. A write ends
//!   with its acknowledgement, with the report that its outcome is unknown, or with the death of its writer. For a
//!   dead writer configurations say whether its commit must be seen at once or once no tier holds an entry (the TTL).
//!   For entries of another instance's in-process tier, the write has ended `DELTA` ticks ago. A write
//!   whose invalidation the journal owes counts on its own instance until the replay.
//! - **M**: reads are monotonic across instances, where a configuration says so.
//! - **C**: nothing uncommitted is in Redis, ever.
//! - **Nothing is stuck**: from each state orderly steps lead to rest, without a lease, an intent, a write or a load
//!   under way. Each state has a step that lowers a rank, so leases and intents end. A rollback, which is possible
//!   whenever a write is open, counts as orderly.
//! - An absent marker never hides a row: version 0 is then "no such row", and R forbids serving it.
//!
//! # Bounds
//! Two writers with up to two writes each, two or three loads at a time (and a refresher) of any number, one failover,
//! one lost connection, one lack of memory; two messages on the bus. Loads of one instance, and writers of one, are
//! interchangeable. A `GET` that finds nothing and the `SET NX GET` that follows are one step, as are the reply to a
//! SELECT and the end of the read: moving the beginning of a read later and its end earlier only asks for more.
//!
//! # What is not modelled
//! More than one key (batches, unique keys, queries), keys in transactions of several writes, replicas that serve
//! reads or a partition with two primaries, clocks that jump, a process that dies with its journal, an in-process tier
//! on both sides of a lost connection, values that do not decode.

mod catalogue;
mod event;
mod explore;
mod setup;
mod state;
mod step;
#[cfg(test)]
mod tests;

use std::fmt::Write as _;
use std::io::{self, Write as _};

use catalogue::{Case, Expected};
use explore::{Findings, explore};

use crate::options::Options;
use crate::parallel;
use crate::report::Report;

/// More states than this in one configuration are not explored, and the configuration counts as unproven.
const MOST_STATES: usize = 25_000_000;

/// Explores every configuration; prints the shortest way to each broken promise.
///
/// # Errors
/// When there are options, as the exploration is complete and has no choices, or when nothing can be printed.
pub async fn run(options: Options) -> Result<Report, Box<dyn std::error::Error>> {
    if options != Options::default() {
        return Err("the exploration is complete; it has no duration and no seed".into());
    }
    let cases: Vec<Case> =
        catalogue::good().into_iter().chain(catalogue::limits()).chain(catalogue::broken()).collect();
    let findings = tokio::task::spawn_blocking({
        let cases = cases.clone();
        move || parallel::each(&cases, |case| explore(&case.setup, MOST_STATES))
    })
    .await?;
    let mut report = Report::new("model");
    let mut traces = String::new();
    for (case, found) in cases.iter().zip(&findings) {
        traces.push_str(&told(case, found)?);
        let target = match case.expected {
            Expected::Broken => "broken",
            Expected::Holds => "holds",
        };
        report.row(case.setup.name, figure(found), target, is_as_expected(case, found));
    }
    let sum = |states: fn(&Findings) -> u64| findings.iter().map(states).sum::<u64>();
    let (states, steps) = (sum(|found| found.states as u64), sum(|found| found.transitions));
    report.row("all", format!("{states} states, {steps} steps"), "complete", findings.iter().all(|f| !f.cut_short));
    io::stdout().write_all(traces.as_bytes())?;
    Ok(report)
}

/// Complete and without a violation, or with one.
fn is_as_expected(case: &Case, found: &Findings) -> bool {
    match case.expected {
        Expected::Broken => found.violation.is_some(),
        Expected::Holds => found.violation.is_none() && !found.cut_short,
    }
}

fn figure(found: &Findings) -> String {
    let seconds = found.elapsed.as_secs_f64();
    let outcome = match &found.violation {
        Some(violation) => format!("{} broken in {} steps", violation.breach.rule.letter(), violation.trace.len()),
        None if found.cut_short => "too many states".to_owned(),
        None => format!("holds to depth {}", found.depth),
    };
    format!("{outcome}; {} states, {seconds:.2} s", found.states)
}

/// The shortest way to the broken promise.
fn told(case: &Case, found: &Findings) -> Result<String, std::fmt::Error> {
    let mut text = String::new();
    let Some(violation) = &found.violation else { return Ok(text) };
    writeln!(text, "{}:", case.setup.name)?;
    for (at, step) in violation.trace.iter().enumerate() {
        writeln!(text, "  {:>2}. {step}", at + 1)?;
    }
    writeln!(text, "   => {}\n", violation.breach)?;
    Ok(text)
}
