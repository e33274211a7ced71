//! Who does what on which rows, and what may break meanwhile.

use std::time::Duration;

use storehaus_cache::{Coherence, OnCacheDown};

use super::broken::Bug;
use super::database::Change;
use super::history::Promise;
use super::mishap::Mishaps;

/// A situation whose schedules are explored.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scenario {
    pub(super) name: &'static str,
    /// Which rows exist when it begins.
    pub(super) rows: &'static [bool],
    /// The tiers of each instance of the application.
    pub(super) instances: &'static [Tiers],
    /// Instances that read every row before it begins.
    pub(super) warm: &'static [u8],
    pub(super) actors: &'static [Actor],
    pub(super) mishaps: Mishaps,
    pub(super) promise: Promise,
    /// What the stores promise, and what they do without Redis.
    pub(super) coherence: Coherence,
    pub(super) on_cache_down: OnCacheDown,
    /// Whether "no such row" is cached.
    pub(super) negative: bool,
    pub(super) search: Search,
    /// The mistake that is made.
    pub(super) bug: Option<Bug>,
    /// Whether a broken promise must be found: for a mistake, or because the protocol does not promise as much.
    pub(super) breaks: bool,
}

/// The tiers of an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tiers {
    /// Redis and in process, where entries are at most this old.
    Both(Duration),
    /// In process alone.
    Local,
    /// The cache of the store is switched off.
    Off,
    /// Redis alone.
    Redis,
}

/// Somebody who does one thing after the other.
#[derive(Clone, Copy, Debug)]
pub(super) struct Actor {
    /// The instance of the application it belongs to.
    pub(super) instance: u8,
    pub(super) does: &'static [Op],
}

/// What an actor does.
#[derive(Clone, Copy, Debug)]
pub(super) enum Op {
    /// Reads a row.
    Read(u8),
    /// Reads rows at once.
    ReadMany(&'static [u8]),
    /// Changes rows in one statement.
    Write(&'static [u8], Change),
    /// Changes rows one after the other in a transaction and commits, or rolls back.
    Transaction(&'static [u8], Ends),
}

/// How a transaction ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ends {
    Commit,
    Rollback,
}

/// How schedules are chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Search {
    /// Every schedule, but one of those that differ in the order of independent steps alone.
    All,
    /// Every schedule that leaves the calm order at most so often.
    Deviations(u32),
    /// So many random ones.
    Random(u64),
}

impl Scenario {
    /// One row in Redis, one instance, nothing breaks, every schedule.
    pub(super) const BASE: Self = Self {
        name: "",
        rows: &[true],
        instances: &[Tiers::Redis],
        warm: &[],
        actors: &[],
        mishaps: Mishaps::NONE,
        promise: Promise {
            monotonic: false,
            late: Duration::ZERO,
            undecided: Duration::ZERO,
            killed: false,
            owed: false,
        },
        coherence: Coherence::CrashSafe,
        on_cache_down: OnCacheDown::Proceed,
        negative: false,
        search: Search::All,
        bug: None,
        breaks: false,
    };

    /// What it is called in reports and replays.
    pub(super) fn label(&self) -> String {
        match self.coherence {
            Coherence::Ttl if !self.breaks => format!("{}, unmarked", self.name),
            _ => self.name.to_owned(),
        }
    }

    /// Whether real servers can do what happens in it: they neither lose their memory at will nor heed the clock.
    pub(super) fn runs_on_real_servers(&self) -> bool {
        let Mishaps { failovers, full, .. } = self.mishaps;
        failovers == 0 && full == 0
    }

    /// Whether anything happens besides what the actors do.
    pub(super) fn is_disturbed(&self) -> bool {
        !self.mishaps.is_none()
    }
}

/// An actor on the first instance.
pub(super) const fn here(does: &'static [Op]) -> Actor {
    Actor { instance: 0, does }
}

/// An actor on the second instance.
pub(super) const fn there(does: &'static [Op]) -> Actor {
    Actor { instance: 1, does }
}
