//! What a load saw in some time, and what that says about a promise.

use std::collections::BTreeMap;
use std::time::Duration;

use storehaus::prelude::*;

use super::Findings;
use super::latency::Counted;

/// What a worker calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Op {
    Read,
    Write,
}

/// What the workers saw between two looks.
#[derive(Clone)]
pub(super) struct Phase {
    /// Reads that returned a row or an error.
    pub(super) reads: u64,
    /// Writes that returned, with success or an error.
    pub(super) writes: u64,
    /// Calls that failed, by kind of error.
    pub(super) failed: BTreeMap<(Op, &'static str), u64>,
    /// Reads of a version older than one acknowledged before the read started.
    pub(super) stale: u64,
    /// Those of a version older than one the same instance acknowledged.
    pub(super) stale_own: u64,
    /// How late the latest of the stale reads was.
    pub(super) latest: Duration,
    /// Reads that returned something that is no row of the key.
    pub(super) foreign: u64,
    /// How long reads took.
    pub(super) reading: Counted,
    /// How long reads of the database alone took.
    pub(super) alone: Counted,
    /// How late timers were.
    pub(super) lateness: Counted,
}

impl Phase {
    /// A limit on time as this machine can keep it: for each 5 ms that one timer in a hundred was late, once more. Timers
    /// of a machine with nothing else to do are a millisecond late.
    pub(super) fn allowed(&self, limit: Duration) -> Duration {
        limit * self.strain()
    }

    /// A limit as it is promised, and how many times as much is allowed here.
    pub(super) fn target(&self, limit: Duration) -> String {
        match self.strain() {
            1 => format!("{limit:?}"),
            times => format!("{limit:?}, x {times} here"),
        }
    }

    /// How many times more than on a machine with nothing else to do.
    fn strain(&self) -> u32 {
        1 + (self.lateness.permille(990).as_millis() / 5) as u32
    }

    /// How many calls failed.
    pub(super) fn failures(&self) -> u64 {
        self.failed.values().sum()
    }

    /// Finds that no call failed and no read was stale or of another row.
    pub(super) fn is_sound(&self, findings: &mut Findings<'_>, when: &str) {
        let ok = self.failures() == 0 && self.stale == 0 && self.foreign == 0 && self.reads > 0;
        findings.add(format_args!("{when}: stale, foreign, failed"), self.wrong(), "0, 0, 0", ok);
    }

    /// Finds that no call failed, and no read was of another row or older than a write of its own instance. Of the writes
    /// of others: an instance that could not remove rows goes on, and others may be served them until it does.
    pub(super) fn is_sound_alone(&self, findings: &mut Findings<'_>, when: &str) {
        let ok = self.failures() == 0 && self.stale_own == 0 && self.foreign == 0 && self.reads > 0;
        let figure = format!("{} own, {}", self.stale_own, self.wrong());
        findings.add(format_args!("{when}: stale, foreign, failed"), figure, "0 own, any of others, 0, 0", ok);
    }

    /// Finds that no read was stale or of another row, and that calls failed with these kinds of error alone.
    pub(super) fn is_strict(&self, findings: &mut Findings<'_>, when: &str, may_fail: &[(Op, &'static str)]) {
        let typed = self.failed.keys().all(|kind| may_fail.contains(kind));
        let ok = typed && self.stale == 0 && self.foreign == 0 && self.reads > 0;
        let kinds: Vec<_> = may_fail.iter().map(|(op, kind)| format!("{op:?} {kind}")).collect();
        let target = format!("0, 0, only {}", kinds.join(" or "));
        findings.add(format_args!("{when}: stale, foreign, failed"), self.wrong(), target, ok);
    }

    /// Finds that no call failed and no read was of another row, or late by more than `bound`.
    pub(super) fn is_bounded(&self, findings: &mut Findings<'_>, when: &str, bound: Duration) {
        let ok = self.failures() == 0 && self.latest <= bound && self.foreign == 0 && self.reads > 0;
        let target = format!("by up to {bound:?}, 0, 0");
        findings.add(format_args!("{when}: stale, foreign, failed"), self.wrong(), target, ok);
    }

    /// Finds that no read took longer than the slowest of the database alone and `more`.
    pub(super) fn no_read_above(&self, findings: &mut Findings<'_>, when: &str, more: Duration) {
        let (ours, alone, allowed) = (self.reading.slowest(), self.alone.slowest(), self.allowed(more));
        let figure = format!("{ours:.1?} (database alone {alone:.1?})");
        findings.add(
            format_args!("{when}: slowest read"),
            figure,
            format_args!("alone + {}", self.target(more)),
            ours <= alone + allowed,
        );
    }

    /// Finds that 99 % of the reads took no longer than twice what they take the database alone, and `more`. Twice,
    /// because both are tails of few calls on a machine that does other work.
    pub(super) fn p99_within(&self, findings: &mut Findings<'_>, when: &str, more: Duration) {
        let (ours, alone, allowed) = (self.reading.permille(990), self.alone.permille(990), self.allowed(more));
        let figure = format!("{ours:.2?} (database alone {alone:.2?})");
        let ok = ours <= alone * 2 + allowed && self.alone.calls() > 0;
        findings.add(
            format_args!("{when}: p99 of reads"),
            figure,
            format_args!("2 x alone + {}", self.target(more)),
            ok,
        );
    }

    fn wrong(&self) -> String {
        let late = if self.stale > 0 { format!(" (by up to {:.1?})", self.latest) } else { String::new() };
        let kinds: Vec<_> = self.failed.iter().map(|((op, kind), count)| format!("{count} {op:?} {kind}")).collect();
        let failed = if kinds.is_empty() { "0".to_owned() } else { kinds.join(" + ") };
        format!("{}{late}, {}, {failed} of {} reads, {} writes", self.stale, self.foreign, self.reads, self.writes)
    }
}

/// The name of the kind of an error.
pub(super) fn kind(error: &StorehausError) -> &'static str {
    match error {
        StorehausError::Cache(_) => "Cache",
        StorehausError::CacheDisabled(_) => "CacheDisabled",
        StorehausError::Conflict(_) => "Conflict",
        StorehausError::Database(_) => "Database",
        StorehausError::ForeignKey(_) => "ForeignKey",
        StorehausError::InvalidInput(_) => "InvalidInput",
        StorehausError::KeyMismatch(_) => "KeyMismatch",
        StorehausError::NotFound(_) => "NotFound",
        StorehausError::NotInvalidated(_) => "NotInvalidated",
        StorehausError::OutcomeUnknown(_) => "OutcomeUnknown",
        StorehausError::SchemaMismatch(_) => "SchemaMismatch",
        StorehausError::Serialization(_) => "Serialization",
        StorehausError::Timeout(_) => "Timeout",
        StorehausError::Unavailable(_) => "Unavailable",
        _ => "another kind",
    }
}
