//! What is known of one key: which versions were committed, when each was begun, and when it was acknowledged.

use std::collections::HashMap;

use super::collect::{History, Write};
use super::{Promise, Rule, Violation};
use crate::history::event::{Op, Outcome, task_of};
use crate::history::table::{Ground, Version};

/// The highest version known at each time.
#[derive(Clone, Debug, Default)]
pub(super) struct Highest(Vec<Fact>);

/// From this time on, this version or a later one is to be seen.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fact {
    pub(super) at: u64,
    pub(super) ver: i64,
    /// Whether the version is a delete.
    pub(super) gone: bool,
    /// The process and task that know.
    pub(super) who: (u16, u16),
}

impl Highest {
    /// Keeps of `facts` those that were higher than all before.
    pub(super) fn new(mut facts: Vec<Fact>) -> Self {
        facts.sort_by_key(|fact| fact.at);
        let mut most = 0;
        facts.retain(|fact| {
            let higher = fact.ver > most;
            most = most.max(fact.ver);
            higher
        });
        Self(facts)
    }

    /// The highest that was known before `at`.
    pub(super) fn before(&self, at: u64) -> Option<Fact> {
        self.0[..self.0.partition_point(|fact| fact.at < at)].last().copied()
    }

    /// Since when something higher than `ver` is known.
    pub(super) fn since(&self, ver: i64) -> Option<u64> {
        self.0.get(self.0.partition_point(|fact| fact.ver <= ver)).map(|fact| fact.at)
    }
}

/// What is known of one key.
#[derive(Debug, Default)]
pub(super) struct Facts {
    /// What was committed, in order.
    pub(super) versions: Vec<Version>,
    /// Before when each version cannot have been there, in the same order. `u64::MAX`: nobody wrote it.
    pub(super) begun: Vec<u64>,
    /// What everybody has to see.
    pub(super) all: Highest,
    /// What each process has to see of its own writes.
    pub(super) own: HashMap<u16, Highest>,
}

impl Facts {
    /// The place of a version.
    pub(super) fn place(&self, ver: i64) -> Option<usize> {
        self.versions.binary_search_by_key(&ver, |version| version.ver).ok()
    }

    /// The versions that were the absence of a row and whose write began before `end`, in order; 0 is the first.
    pub(super) fn absences(&self, end: u64) -> impl Iterator<Item = i64> {
        let deletes = self.versions.iter().zip(&self.begun);
        let deletes = deletes.filter(move |(version, begun)| is_delete(version) && !version.hidden && **begun <= end);
        std::iter::once(0).chain(deletes.map(|(version, _)| version.ver))
    }
}

fn is_delete(version: &Version) -> bool {
    version.writer.is_none()
}

/// Lays out the writes of a history beside what was committed, by key. Adds what does not fit to `violations`.
pub(super) fn lay_out(
    history: &History,
    ground: &Ground,
    promise: &Promise,
    violations: &mut Vec<Violation>,
) -> HashMap<i64, Facts> {
    let mut keys: HashMap<i64, Facts> = ground
        .iter()
        .map(|(key, versions)| {
            let begun = vec![u64::MAX; versions.len()];
            (*key, Facts { versions: versions.clone(), begun, ..Facts::default() })
        })
        .collect();
    let mut made: HashMap<(Op, i64), Vec<i64>> = HashMap::new();
    for (key, versions) in ground {
        for version in versions {
            if let Some(writer) = version.writer {
                made.entry((writer, *key)).or_default().push(version.ver);
            }
        }
    }
    let mut by_key: HashMap<i64, Vec<&Write>> = HashMap::new();
    for write in &history.writes {
        for key in &write.writes {
            keys.entry(*key).or_default();
        }
        let mut touched: Vec<_> = write.writes.iter().chain(&write.deletes).copied().collect();
        touched.sort_unstable();
        touched.dedup();
        touched.into_iter().for_each(|key| by_key.entry(key).or_default().push(write));
    }
    for (key, writes) in by_key {
        let facts = keys.entry(key).or_default();
        let mut acks = Vec::new();
        place_writes(key, &writes, &made, facts, &mut acks, violations);
        place_deletes(key, &writes, &made, facts, &mut acks, violations);
        settle(facts, &acks, promise);
    }
    keys
}

/// A write and the version it made of a key.
struct Ack<'a> {
    write: &'a Write,
    ver: i64,
    gone: bool,
}

fn place_writes<'a>(
    key: i64,
    writes: &[&'a Write],
    made: &HashMap<(Op, i64), Vec<i64>>,
    facts: &mut Facts,
    acks: &mut Vec<Ack<'a>>,
    violations: &mut Vec<Violation>,
) {
    let mut lost = |write: &Write, why: &str| violations.push(Violation::of_write(Rule::LostWrite, key, write, why));
    for write in writes.iter().filter(|write| write.writes.contains(&key)) {
        let versions = made.get(&(write.op, key)).map_or(&[][..], Vec::as_slice);
        for ver in versions {
            if let Some(place) = facts.place(*ver) {
                facts.begun[place] = write.begin;
            }
        }
        let returned = write.wrote.iter().find(|(wrote, _)| *wrote == key).map(|(_, ver)| *ver);
        match (write.outcome, versions.last()) {
            (Outcome::Done | Outcome::Committed, None) => {
                lost(write, "acknowledged, and the database has no trace of it")
            }
            (Outcome::Failed, Some(_)) => lost(write, "failed with nothing changed, and the database was changed"),
            (_, Some(ver)) => {
                if returned.is_some_and(|returned| returned != *ver) {
                    lost(write, "returned another version than the database wrote down");
                }
                acks.push(Ack { write, ver: *ver, gone: false });
            }
            (Outcome::Failed | Outcome::Unknown, None) => {}
        }
    }
}

/// A delete does not sign what it deletes. Which versions it may have made follows from the process and from the writes
/// before and after it; it counts as the earliest of those.
fn place_deletes<'a>(
    key: i64,
    writes: &[&'a Write],
    made: &HashMap<(Op, i64), Vec<i64>>,
    facts: &mut Facts,
    acks: &mut Vec<Ack<'a>>,
    violations: &mut Vec<Violation>,
) {
    let known = Highest::new(acks.iter().filter(|ack| ack.write.outcome != Outcome::Unknown).map(Ack::fact).collect());
    let mut later: Vec<(u64, i64)> = acks.iter().map(|ack| (ack.write.begin, ack.ver)).collect();
    later.sort_unstable();
    // The lowest of the versions that were begun at this time or later.
    for at in (1..later.len()).rev() {
        later[at - 1].1 = later[at - 1].1.min(later[at].1);
    }
    let mut windows = Vec::new();
    for write in writes.iter().filter(|write| write.deletes.contains(&key) && write.outcome != Outcome::Failed) {
        let own = made.get(&(write.op, key)).and_then(|versions| versions.last().copied()).unwrap_or(0);
        let low = known.before(write.begin).map_or(0, |fact| fact.ver).max(own);
        let high = match write.outcome {
            Outcome::Unknown => i64::MAX,
            _ => later.get(later.partition_point(|(begin, _)| *begin <= write.end)).map_or(i64::MAX, |(_, ver)| *ver),
        };
        let from = facts.versions.partition_point(|version| version.ver <= low);
        let between = facts.versions[from..].iter().enumerate().take_while(|(_, version)| version.ver < high);
        let process = Some(write.process());
        let may_be: Vec<usize> = between
            .filter(|(_, version)| is_delete(version) && version.process == process)
            .map(|(at, _)| from + at)
            .collect();
        windows.push((*write, may_be));
    }
    let mut claims = vec![0; facts.versions.len()];
    for (write, may_be) in &windows {
        for place in may_be {
            claims[*place] += 1;
            facts.begun[*place] = facts.begun[*place].min(write.begin);
        }
    }
    for (write, may_be) in windows {
        let deleted_all = write.outcome == Outcome::Done && write.deleted as usize == write.deletes.len();
        let made = match write.outcome {
            Outcome::Unknown => may_be.iter().find(|place| claims[**place] == 1),
            _ if deleted_all || write.outcome == Outcome::Committed => may_be.first(),
            _ => None,
        };
        match made {
            Some(place) => acks.push(Ack { write, ver: facts.versions[*place].ver, gone: true }),
            None if deleted_all => {
                let why = "acknowledged a delete, and the database has no trace of it";
                violations.push(Violation::of_write(Rule::LostWrite, key, write, why));
            }
            None => {}
        }
    }
    let mut latest = 0;
    for (version, begun) in facts.versions.iter().zip(&mut facts.begun) {
        if *begun == u64::MAX {
            let story =
                format!("version {} was committed, and no write that did not fail can have made it", version.ver);
            violations.push(Violation { rule: Rule::LostWrite, key, staleness: None, story });
            continue;
        }
        // A version is there only after those before it.
        latest = latest.max(*begun);
        *begun = latest;
    }
}

impl Ack<'_> {
    fn fact(&self) -> Fact {
        let who = (self.write.process(), task_of(self.write.op));
        Fact { at: self.write.end, ver: self.ver, gone: self.gone, who }
    }
}

/// From when on each acknowledged version is to be seen, by whom.
fn settle(facts: &mut Facts, acks: &[Ack<'_>], promise: &Promise) {
    let (mut all, mut own) = (Vec::new(), HashMap::<u16, Vec<Fact>>::new());
    for ack in acks {
        let mut fact = ack.fact();
        match ack.write.outcome {
            Outcome::Done => {
                all.push(fact);
                own.entry(fact.who.0).or_default().push(fact);
            }
            Outcome::Committed => own.entry(fact.who.0).or_default().push(fact),
            Outcome::Unknown => {
                fact.at = fact.at.saturating_add(promise.unknown);
                all.push(fact);
            }
            Outcome::Failed => {}
        }
    }
    facts.all = Highest::new(all);
    facts.own = own.into_iter().map(|(process, facts)| (process, Highest::new(facts))).collect();
}
