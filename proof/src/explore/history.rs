//! What was acknowledged and what was read, and whether that fits.

use std::fmt;
use std::time::Duration;

use tokio::time::Instant;

use super::database::{Content, Database};

/// What a read must not be older than: the place of a commit in the history of its row.
pub(super) type Floor = usize;

/// A broken promise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Breach {
    /// R or M: a read returned less than it had to.
    Stale { instance: u8, key: u8, got: Content, place: usize, floor: Floor },
    /// C: a read returned what nobody committed.
    Uncommitted { instance: u8, key: u8, got: Content },
    /// An entry that any instance would be served is older than an acknowledged write.
    StaleEntry { key: u8, got: Content, place: usize, floor: Floor },
    /// Nothing can happen any more and somebody still waits.
    Stuck(String),
    /// A task panicked.
    Panicked,
    /// The real server answered otherwise than the one in memory.
    Differs(String),
}

impl fmt::Display for Breach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stale { instance, key, got, place, floor } => write!(
                f,
                "stale read: instance {instance} read {} of row {key}, commit {place}; commit {floor} was due",
                Shown(*got)
            ),
            Self::Uncommitted { instance, key, got } => {
                write!(f, "uncommitted read: instance {instance} read {} of row {key}", Shown(*got))
            }
            Self::StaleEntry { key, got, place, floor } => write!(
                f,
                "stale entry: the server holds {} of row {key}, commit {place}; commit {floor} was acknowledged",
                Shown(*got)
            ),
            Self::Stuck(what) => write!(f, "stuck: {what}"),
            Self::Panicked => f.write_str("a task panicked"),
            Self::Differs(what) => write!(f, "the real server differs: {what}"),
        }
    }
}

/// A row's content in words.
pub(super) struct Shown(pub(super) Content);

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(version) => write!(f, "version {version}"),
            None => f.write_str("no row"),
        }
    }
}

/// What the promises say of a scenario.
#[derive(Clone, Copy, Debug)]
pub(super) struct Promise {
    /// M: reads do not go back, whoever reads.
    pub(super) monotonic: bool,
    /// Other instances may be this late: their in-process tiers keep entries.
    pub(super) late: Duration,
    /// What is committed after its writer gave up counts so long after it happened.
    pub(super) undecided: Duration,
    /// R holds for what a killed instance committed, too.
    pub(super) killed: bool,
    /// R holds for what an instance could not clear, too.
    pub(super) owed: bool,
}

/// The ends of writes and reads of every row.
#[derive(Debug)]
pub(super) struct History {
    ended: Vec<Ended>,
    /// The latest commit that a read of each row returned.
    seen: Vec<Floor>,
    promise: Promise,
}

#[derive(Clone, Copy, Debug)]
struct Ended {
    key: u8,
    place: usize,
    by: u8,
    /// It counts from then on.
    at: Instant,
    /// The instance remembers that it could not clear the cache: other instances are not served yet.
    owed: bool,
}

impl History {
    pub(super) fn new(keys: usize, promise: Promise) -> Self {
        Self { ended: Vec::new(), seen: vec![0; keys], promise }
    }

    pub(super) fn is_monotonic(&self) -> bool {
        self.promise.monotonic
    }

    pub(super) fn counts_killed(&self) -> bool {
        self.promise.killed
    }

    /// The write of the commit at `place` has ended on instance `by`.
    pub(super) fn end_write(&mut self, key: u8, place: usize, by: u8, owed: bool) {
        self.ended.push(Ended { key, place, by, at: Instant::now(), owed });
    }

    /// The commit at `place` happened after its writer had given up.
    pub(super) fn commit_late(&mut self, key: u8, place: usize, by: u8) {
        self.ended.push(Ended { key, place, by, at: Instant::now() + self.promise.undecided, owed: false });
    }

    /// How long it takes until everything counts that was committed.
    pub(super) fn undecided(&self) -> Duration {
        let now = Instant::now();
        self.ended.iter().map(|ended| ended.at.saturating_duration_since(now)).max().unwrap_or_default()
    }

    /// An instance has delivered what it owed.
    pub(super) fn delivered(&mut self, by: u8) {
        self.ended.iter_mut().filter(|ended| ended.by == by).for_each(|ended| ended.owed = false);
    }

    /// Whether an instance owes anything.
    pub(super) fn owes(&self, by: u8) -> bool {
        self.ended.iter().any(|ended| ended.by == by && ended.owed)
    }

    /// What a read that begins now must not be older than.
    pub(super) fn floor(&self, instance: u8, key: u8) -> Floor {
        let now = Instant::now();
        let counts = |ended: &&Ended| {
            let is_late = now - ended.at < self.promise.late;
            let elsewhere = ended.by != instance && (self.is_excused(ended) || is_late);
            ended.key == key && ended.at <= now && !elsewhere
        };
        let ended = self.ended.iter().filter(counts).map(|ended| ended.place).max().unwrap_or(0);
        if self.promise.monotonic { ended.max(self.seen[usize::from(key)]) } else { ended }
    }

    /// What an entry of the server must not be older than: everything whose writer was confirmed.
    pub(super) fn floor_of_entries(&self, key: u8) -> Floor {
        let now = Instant::now();
        let counts = |ended: &&Ended| ended.key == key && ended.at <= now && !self.is_excused(ended);
        let confirmed = self.ended.iter().filter(counts);
        confirmed.map(|ended| ended.place).max().unwrap_or(0)
    }

    fn is_excused(&self, ended: &Ended) -> bool {
        ended.owed && !self.promise.owed
    }

    /// A read that had to return `floor` or later returned this.
    pub(super) fn end_read(
        &mut self,
        database: &Database,
        instance: u8,
        key: u8,
        floor: Floor,
        got: Content,
    ) -> Result<(), Breach> {
        let Some(place) = database.place(key, got) else { return Err(Breach::Uncommitted { instance, key, got }) };
        if place < floor {
            return Err(Breach::Stale { instance, key, got, place, floor });
        }
        let seen = &mut self.seen[usize::from(key)];
        *seen = place.max(*seen);
        Ok(())
    }
}
