//! What the processes of a run do, and what that promises.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use storehaus::prelude::*;

use super::check::{Monotonic, Promise};
use super::clock::nanos;

/// Keys are written in groups, one after the other: between its turns a group is only read, so that a row that went
/// stale in the cache is not healed by the next write before anybody has seen it.
pub const GROUPS: u64 = 10;
/// Keys of one group: few, so that writers meet.
pub const GROUP: u64 = 8;
/// How long a group is written.
pub const TURN: Duration = Duration::from_millis(1_000);

/// All keys, from 1.
pub const KEYS: i64 = (GROUPS * GROUP) as i64;

/// A kind of run: how the cache is set up, which faults there are, what is promised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Variant {
    /// Rows are kept in process too, for at most [`BOUND`]: others see a write that much later.
    Bounded,
    /// Processes are killed.
    Kill,
    /// Every link to the database fails; the cache's links are slow, its server forgets scripts.
    Links,
    /// Every link fails, and the cache server dies and comes back with what it held before. A writer that cannot reach it
    /// goes on: other processes are promised nothing meanwhile; a process that made a write sees it.
    Outages,
    /// As [`Outages`](Self::Outages), and a writer that cannot reach the cache is refused: every promise holds.
    Strict,
    /// As [`Outages`](Self::Outages), without intents.
    Ttl,
    /// As [`Links`](Self::Links), and rows are kept in process too, each validated before it is served.
    Validated,
}

/// The bound of [`Variant::Bounded`].
pub const BOUND: Duration = Duration::from_millis(300);

impl Variant {
    /// Every one.
    pub const ALL: [Self; 7] =
        [Self::Links, Self::Strict, Self::Outages, Self::Bounded, Self::Validated, Self::Ttl, Self::Kill];

    /// Those that `prove history` runs.
    pub const HISTORY: [Self; 5] = [Self::Links, Self::Strict, Self::Outages, Self::Bounded, Self::Validated];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bounded => "bounded",
            Self::Kill => "kill",
            Self::Links => "links",
            Self::Outages => "outages",
            Self::Strict => "strict",
            Self::Ttl => "ttl",
            Self::Validated => "validated",
        }
    }

    /// Whether the way to the cache server fails too, and the server dies.
    pub fn cache_fails(self) -> bool {
        matches!(self, Self::Outages | Self::Strict | Self::Ttl)
    }

    /// What its cache is like.
    pub fn cache(self, redis: &str, prefix: &str) -> CacheConfig {
        // Patient readers: on a busy machine those with the default budget would hardly ever use the cache.
        let config = CacheConfig::new(redis, 600u64, prefix)
            .with_load_timeout(Duration::from_secs(2))
            .with_read_budget(Duration::from_millis(250))
            .with_intent_ttl(INTENT);
        // Patient writers: where nothing is promised of a writer that gives up, a busy machine shall not be the reason.
        let patient = |config: CacheConfig| config.with_timeout(Duration::from_secs(5)).with_retry_attempts(20);
        // Many commands in flight on one connection, so that a reply too many meets one that it does not belong to; and
        // writers that give up before most faults are over.
        let hasty = |config: CacheConfig| config.with_pool_size(1).with_timeout(Duration::from_millis(250));
        match self {
            Self::Bounded => patient(config).with_l1(L1::Bounded(BOUND)),
            Self::Kill => patient(config).with_intent_ttl(DEAD),
            Self::Links => patient(config),
            Self::Outages => hasty(config),
            Self::Strict => hasty(config).with_coherence(Coherence::Strict).with_on_cache_down(OnCacheDown::Refuse),
            Self::Ttl => hasty(config).with_coherence(Coherence::Ttl),
            Self::Validated => patient(config).with_l1(L1::Validated),
        }
    }

    /// What its readers are promised.
    pub fn promise(self) -> Promise {
        let strict = Promise {
            slack: nanos(Duration::from_micros(50)),
            others: Some(0),
            monotonic: Monotonic::Everybody,
            unknown: nanos(self.settles_within()),
            budget: nanos(BUDGET),
        };
        match self {
            Self::Bounded => Promise { others: Some(nanos(BOUND)), monotonic: Monotonic::Task, ..strict },
            Self::Kill | Self::Links | Self::Validated => strict,
            // Where the server forgets intents, a write may be seen, and seen no more, before it is acknowledged.
            Self::Strict => Promise { monotonic: Monotonic::Nobody, ..strict },
            Self::Outages | Self::Ttl => Promise { others: None, monotonic: Monotonic::Nobody, ..strict },
        }
    }

    /// How long a write of unknown outcome that was applied may stay unseen; how long after the last write and the last
    /// fault every read is what the database has.
    pub fn settles_within(self) -> Duration {
        if self == Self::Kill { DEAD } else { UNKNOWN }
    }
}

/// How long what a writer announced stands: longer than a statement takes that lost its client.
const INTENT: Duration = Duration::from_secs(4);

/// How long a write of unknown outcome may stay unseen: as long as its intents, and whatever the last removal takes.
const UNKNOWN: Duration = Duration::from_millis(5_500);

/// The same in [`Variant::Kill`], where it is the bound.
const DEAD: Duration = Duration::from_secs(2);

/// Two seconds for a connection, two for a load or the longest fault, some for the cache, and room for a busy machine.
const BUDGET: Duration = Duration::from_secs(12);

/// What a process is told when it is started.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Plan {
    /// Its number, which no other process of the run has.
    pub number: u16,
    /// The kind of run.
    pub variant: Variant,
    /// The database, through a proxy of its own.
    pub database: String,
    /// The cache server, through a proxy of its own.
    pub redis: String,
    /// The prefix of the run.
    pub prefix: String,
    /// Where its choices start.
    pub seed: u64,
    /// Where it writes its events.
    pub log: PathBuf,
    /// How many tasks write and read.
    pub writers: u16,
    /// How many tasks only read.
    pub readers: u16,
}
