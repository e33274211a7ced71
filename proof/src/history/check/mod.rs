//! The checker: what was promised to readers, held against what they saw.
//!
//! The database wrote down every version that was committed, so nothing has to be guessed: the check is one sort and
//! running maxima per key. Intervals are closed: operations that overlap by any amount may have happened in either order.
//!
//! | rule | a violation is |
//! |---|---|
//! | I1 | a read older than a write that was acknowledged before the read began |
//! | I2 | a read of something that nobody wrote, of another key, or of a transaction that was not committed |
//! | I3 | a read older than what a read that ended before saw |
//! | I4 | as I1, by the task that made the write |
//! | I5 | an acknowledged write that the database has no trace of, a failed one that it has |
//! | I7 | a row read after its delete was acknowledged |
//! | I8 | the absence of a row read after its creation was acknowledged |
//! | I10 | an operation that did not end, or not in time |
//! | END | after everything has come to rest, a read that is not what the database has |
//!
//! Each row of a batch is checked as if it had been read alone (I9).

mod collect;
mod facts;
mod histogram;
#[cfg(test)]
mod oracle;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::fmt;

pub use collect::{History, Hits, Process, Read, Write};
pub use histogram::Histogram;

use crate::history::event::{Call, Outcome, Seen};
use crate::history::table::Ground;
use facts::{Fact, Facts, Highest, lay_out};

/// What readers are promised. Times in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Promise {
    /// How far the clocks of two processes may differ.
    pub slack: u64,
    /// How late a read may see what another process acknowledged; nothing is promised without it.
    pub others: Option<u64>,
    /// Who never sees an older version after a later one.
    pub monotonic: Monotonic,
    /// How long after its end a write of unknown outcome that was applied, or one whose process was killed, may stay
    /// unseen.
    pub unknown: u64,
    /// How long an operation may take.
    pub budget: u64,
}

/// Who never sees an older version after a later one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Monotonic {
    /// Everybody, whoever saw the later one.
    Everybody,
    /// Nobody.
    Nobody,
    /// Each task by itself.
    Task,
}

/// Which promise was broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rule {
    /// I1.
    Stale,
    /// I2.
    Invented,
    /// I3.
    BackInTime,
    /// I4.
    OwnWrite,
    /// I5.
    LostWrite,
    /// I7.
    Undeleted,
    /// I8.
    Absent,
    /// I10.
    Late,
    /// END.
    Unconverged,
}

impl Rule {
    /// Every rule.
    pub const ALL: [Self; 9] = [
        Self::Stale,
        Self::Invented,
        Self::BackInTime,
        Self::OwnWrite,
        Self::LostWrite,
        Self::Undeleted,
        Self::Absent,
        Self::Late,
        Self::Unconverged,
    ];

    /// What a violation of it is, in few words.
    pub fn about(self) -> &'static str {
        match self {
            Self::Stale => "older than acknowledged",
            Self::Invented => "never committed",
            Self::BackInTime => "older than seen before",
            Self::OwnWrite => "older than its own write",
            Self::LostWrite => "lost or phantom writes",
            Self::Undeleted => "seen after its delete",
            Self::Absent => "absent after its creation",
            Self::Late => "too late",
            Self::Unconverged => "wrong at the end",
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Stale => "I1",
            Self::Invented => "I2",
            Self::BackInTime => "I3",
            Self::OwnWrite => "I4",
            Self::LostWrite => "I5",
            Self::Undeleted => "I7",
            Self::Absent => "I8",
            Self::Late => "I10",
            Self::Unconverged => "END",
        })
    }
}

/// A promise that was broken.
#[derive(Clone, Debug)]
pub struct Violation {
    /// Which.
    pub rule: Rule,
    /// Of which row.
    pub key: i64,
    /// How old what was read was, in nanoseconds since it was to be seen no more.
    pub staleness: Option<u64>,
    /// What happened.
    pub story: String,
}

impl Violation {
    fn of_write(rule: Rule, key: i64, write: &Write, why: &str) -> Self {
        let Write { op, call, begin, end, .. } = write;
        let story = format!("{call:?} {op:#x} of process {} ({begin} to {end}): {why}", write.process());
        Self { rule, key, staleness: None, story }
    }

    fn of_read(rule: Rule, read: &Read, seen: &Seen, staleness: Option<u64>, why: &str) -> Self {
        let Read { process, task, call, at, end, .. } = read;
        let row = seen.ver.map_or_else(|| "no row".to_owned(), |ver| format!("version {ver} of {:#x}", seen.writer));
        let story = format!("{call:?} of task {task} of process {process} ({at} to {end}) saw {row}: {why}");
        Self { rule, key: seen.key, staleness, story }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} key {}: {}", self.rule, self.key, self.story)?;
        match self.staleness {
            Some(nanos) => write!(f, " ({:.3} ms)", nanos as f64 / 1e6),
            None => Ok(()),
        }
    }
}

/// What the check found.
#[derive(Clone, Debug, Default)]
pub struct Verdict {
    /// The broken promises.
    pub violations: Vec<Violation>,
    /// How old the reads were that were older than the last acknowledged write, allowed or not.
    pub staleness: Histogram,
    /// How many rows were read.
    pub rows: u64,
    /// The longest operation, in nanoseconds.
    pub slowest: u64,
    /// How long after a kill a read still saw what a write of the killed process had replaced, in nanoseconds.
    pub incoherent: u64,
    /// How many writes of killed processes were applied without an acknowledgement.
    pub orphans: u64,
}

/// Checks a history against what was committed.
pub fn check(history: &History, ground: &Ground, promise: &Promise) -> Verdict {
    let mut verdict = Verdict::default();
    let keys = lay_out(history, ground, promise, &mut verdict.violations);
    check_order(history, &keys, promise, &mut verdict);
    let mut reads: HashMap<i64, Vec<(&Read, &Seen)>> = HashMap::new();
    for read in &history.reads {
        for seen in &read.seen {
            reads.entry(seen.key).or_default().push((read, seen));
            verdict.rows += 1;
        }
    }
    let none = Facts::default();
    for (key, reads) in &reads {
        KeyCheck { facts: keys.get(key).unwrap_or(&none), promise }.reads(reads, &mut verdict);
    }
    check_ends(history, promise, &mut verdict);
    check_orphans(history, &keys, &reads, &mut verdict);
    verdict.violations.sort_by_key(|violation| (violation.rule, violation.key));
    verdict
}

struct KeyCheck<'a> {
    facts: &'a Facts,
    promise: &'a Promise,
}

impl KeyCheck<'_> {
    fn reads(&self, reads: &[(&Read, &Seen)], verdict: &mut Verdict) {
        let mut saw: HashMap<(u16, u16), Vec<Fact>> = HashMap::new();
        let mut right = Vec::new();
        for (read, seen) in reads {
            match self.read(read, seen, verdict) {
                Ok(ver) => {
                    let who = (read.process, read.task);
                    let scope = if self.promise.monotonic == Monotonic::Task { who } else { (0, 0) };
                    saw.entry(scope).or_default().push(Fact { at: read.end, ver, gone: seen.ver.is_none(), who });
                    right.push((*read, *seen, scope));
                }
                Err(violation) => verdict.violations.push(violation),
            }
        }
        if self.promise.monotonic == Monotonic::Nobody {
            return;
        }
        let saw: HashMap<_, _> = saw.into_iter().map(|(scope, facts)| (scope, Highest::new(facts))).collect();
        for (read, seen, scope) in right {
            let Some(highest) = saw.get(&scope) else { continue };
            let Some(fact) = highest.before(read.at.saturating_sub(self.promise.slack)) else { continue };
            let newest = seen.ver.or_else(|| self.facts.absences(read.end + self.promise.slack).last()).unwrap_or(0);
            if newest < fact.ver {
                let since = highest.since(newest).map(|since| read.at - since);
                let why = format!("task {} of process {} had seen version {}", fact.who.1, fact.who.0, fact.ver);
                verdict.violations.push(Violation::of_read(Rule::BackInTime, read, seen, since, &why));
            }
        }
    }

    /// What a read saw at least, when it broke no promise.
    fn read(&self, read: &Read, seen: &Seen, verdict: &mut Verdict) -> Result<i64, Violation> {
        let (facts, promise) = (self.facts, self.promise);
        let violation = |rule, staleness, why: &str| Violation::of_read(rule, read, seen, staleness, why);
        if !seen.whole {
            return Err(violation(Rule::Invented, None, "the row is of another key, or its parts of different writes"));
        }
        let began = read.at.saturating_sub(promise.slack);
        let ended = read.end.saturating_add(promise.slack);
        if let Some(ver) = seen.ver {
            let Some(place) = facts.place(ver).filter(|place| facts.versions[*place].writer == Some(seen.writer))
            else {
                return Err(violation(Rule::Invented, None, "this was never committed"));
            };
            if facts.versions[place].hidden {
                return Err(violation(Rule::Invented, None, "a later version of the same transaction hides this one"));
            }
            if facts.begun[place] > ended {
                return Err(violation(Rule::Invented, None, "this was written only later"));
            }
        }
        let newest = seen.ver.or_else(|| facts.absences(ended).last()).unwrap_or(0);
        if let Some(since) = facts.all.since(newest).filter(|since| *since < began) {
            verdict.staleness.add(began - since);
        }
        let others = promise.others.and_then(|late| facts.all.before(began.saturating_sub(late)));
        let own = facts.own.get(&read.process).and_then(|own| own.before(began));
        let least = others.into_iter().chain(own).max_by_key(|fact| fact.ver);
        if let Some(fact) = least.filter(|fact| newest < fact.ver) {
            let rule = match fact {
                _ if read.call == Call::Sweep => Rule::Unconverged,
                Fact { gone: true, .. } if seen.ver.is_some() => Rule::Undeleted,
                Fact { gone: false, .. } if seen.ver.is_none() => Rule::Absent,
                Fact { who, .. } if who == (read.process, read.task) => Rule::OwnWrite,
                _ => Rule::Stale,
            };
            let known = [&facts.all].into_iter().chain(facts.own.get(&read.process));
            let since = known.filter_map(|known| known.since(newest)).min();
            let why = format!("version {} of process {} was acknowledged", fact.ver, fact.who.0);
            return Err(violation(rule, since.map(|since| read.at.saturating_sub(since)), &why));
        }
        if read.call == Call::Sweep {
            self.swept(seen).map_err(|why| violation(Rule::Unconverged, None, &why))?;
        }
        let least = least.map_or(0, |fact| fact.ver);
        Ok(seen.ver.or_else(|| facts.absences(ended).find(|ver| *ver >= least)).unwrap_or(0))
    }

    /// Whether a read at the very end saw what the database has.
    fn swept(&self, seen: &Seen) -> Result<(), String> {
        let last = self.facts.versions.last();
        match last.filter(|last| last.writer.is_some()).map(|last| last.ver) {
            has if has == seen.ver => Ok(()),
            None => Err("the database has no row".to_owned()),
            Some(ver) => Err(format!("the database has version {ver}")),
        }
    }
}

/// The order of versions is that of the writes: the database's own promise, without which nothing above means anything.
fn check_order(history: &History, keys: &HashMap<i64, Facts>, promise: &Promise, verdict: &mut Verdict) {
    for write in history.writes.iter().filter(|write| write.outcome == Outcome::Done) {
        for (key, ver) in &write.wrote {
            let Some(facts) = keys.get(key) else { continue };
            let before = facts.all.before(write.begin.saturating_sub(promise.slack));
            if let Some(fact) = before.filter(|fact| fact.ver >= *ver) {
                let why = format!("it made version {ver}, and version {} was acknowledged before it began", fact.ver);
                verdict.violations.push(Violation::of_write(Rule::LostWrite, *key, write, &why));
            }
        }
    }
}

fn check_ends(history: &History, promise: &Promise, verdict: &mut Verdict) {
    for write in &history.writes {
        let key = write.writes.iter().chain(&write.deletes).next().copied().unwrap_or(0);
        if write.end == u64::MAX {
            verdict.violations.push(Violation::of_write(Rule::Late, key, write, "it never ended"));
            continue;
        }
        let took = write.end.saturating_sub(write.begin);
        verdict.slowest = verdict.slowest.max(took);
        if took > promise.budget {
            verdict.violations.push(Violation::of_write(Rule::Late, key, write, "it took too long"));
        }
    }
    for (at, end) in history.reads.iter().map(|read| (read.at, read.end)).chain(history.failed.iter().copied()) {
        let took = end.saturating_sub(at);
        verdict.slowest = verdict.slowest.max(took);
        if took > promise.budget {
            let story = format!("a read ({at} to {end}) took too long");
            verdict.violations.push(Violation { rule: Rule::Late, key: 0, staleness: None, story });
        }
    }
}

/// How long what the last writes of killed processes replaced was still read.
fn check_orphans(
    history: &History,
    keys: &HashMap<i64, Facts>,
    reads: &HashMap<i64, Vec<(&Read, &Seen)>>,
    verdict: &mut Verdict,
) {
    for write in history.writes.iter().filter(|write| write.outcome == Outcome::Unknown) {
        let Some(killed) = history.kills.get(&write.process()).filter(|killed| write.end == **killed) else { continue };
        for key in &write.writes {
            let Some(facts) = keys.get(key) else { continue };
            let made = facts.versions.iter().rev().find(|version| version.writer == Some(write.op));
            let Some(made) = made else { continue };
            verdict.orphans += 1;
            for (read, seen) in reads.get(key).map_or(&[][..], Vec::as_slice) {
                if read.at > *killed && seen.ver.is_some_and(|ver| ver < made.ver) {
                    verdict.incoherent = verdict.incoherent.max(read.at - killed);
                }
            }
        }
    }
}
