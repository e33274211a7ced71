//! What the tiers hold under one key, and how it came there.

use std::fmt;
use std::time::Duration;

pub use crate::codec::header::Mismatch;
use crate::codec::header::Token;
use crate::l2::Incarnation;

/// What every tier holds under the key of one row, where it came from and how long it will stay: the answer of
/// `store.cache().explain(&id)`.
///
/// Prints as one line. Neither the fields nor the text hold anything of the row or of its key: the key is named by a
/// digest, which is equal wherever the same key is named.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Explanation {
    /// The store segment of the key.
    pub store: String,
    /// The digest of the full key.
    pub digest: u64,
    /// What this process holds; `None` when the store keeps nothing in process.
    pub in_process: Option<Held>,
    /// What Redis holds; `None` when the store does not use Redis.
    pub redis: Option<Held>,
    /// Whether reads of this process go past Redis at the moment, whatever it holds.
    pub bypassed: bool,
    /// The last invalidation of the row that this process took part in, if it is among the last few hundred of the table.
    /// Removals by pattern are not remembered.
    pub last_invalidation: Option<Invalidation>,
}

/// What one tier holds under a key.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Held {
    /// What it is.
    pub state: State,
    /// How long ago it was filled, by the filler's clock; in process, how long ago its load began.
    pub age: Option<Duration>,
    /// How long until it expires by itself.
    pub ttl: Option<Duration>,
    /// How long until it should be refreshed ahead of its expiry.
    pub refresh: Option<Duration>,
    /// Who filled it, or holds the lease.
    pub filler: Option<Filler>,
    /// The incarnation of the server it was filled on.
    pub incarnation: Option<Incarnation>,
    /// The incarnation of the server that holds it now. A value of another one is a miss.
    pub server: Option<Incarnation>,
    /// How many bytes it takes in Redis, header included.
    pub size: Option<u64>,
}

/// What stands under a key.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum State {
    /// The knowledge that there is no such row.
    Absent,
    /// Nothing that would be served, and so many writers change the row.
    Intents(usize),
    /// Nothing that would be served, and somebody loads the row.
    Lease,
    /// Nothing.
    Nothing,
    /// The tier did not say; why.
    Unknown(String),
    /// Something that is not served; why.
    Unusable(Mismatch),
    /// A row.
    Value,
}

/// Who filled an entry or holds a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Filler {
    /// The random id of the store that did.
    pub instance: u64,
    /// Its counter: both together are never used twice.
    pub serial: u64,
    /// Whether it is the store that was asked.
    pub this_store: bool,
}

/// An invalidation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Invalidation {
    /// How long ago.
    pub age: Duration,
    /// By what.
    pub by: InvalidatedBy,
}

/// What invalidated a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum InvalidatedBy {
    /// A write of another process that told of it.
    Bus,
    /// A call of the manual API.
    Hand,
    /// A write of this process, or a call that stands for one.
    Write,
    /// As `Write`, and Redis had not confirmed when it ended: the removal was remembered, to be made before this process
    /// reads from Redis again.
    WriteUnconfirmed,
}

impl Filler {
    pub(crate) fn new(token: Token, asked: u64) -> Self {
        let Token { instance, serial } = token;
        Self { instance, serial, this_store: instance == asked }
    }
}

impl Held {
    pub(crate) fn of(state: State) -> Self {
        Self { state, age: None, ttl: None, refresh: None, filler: None, incarnation: None, server: None, size: None }
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "key {:016x} of {}: ", self.digest, self.store)?;
        match (&self.redis, &self.in_process) {
            (None, None) => f.write_str("the store caches nothing")?,
            (Some(redis), None) => write!(f, "redis holds {redis}")?,
            (None, Some(here)) => write!(f, "this process holds {here}")?,
            (Some(redis), Some(here)) => write!(f, "redis holds {redis}; this process holds {here}")?,
        }
        if self.bypassed {
            f.write_str("; redis is bypassed")?;
        }
        match &self.last_invalidation {
            Some(last) => write!(f, "; invalidated {} ago by {}", Short(last.age), last.by),
            None => f.write_str("; no invalidation remembered"),
        }
    }
}

impl fmt::Display for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.state)?;
        if let Some(size) = self.size {
            write!(f, " of {size} bytes")?;
        }
        if let Some(age) = self.age {
            write!(f, ", {} old", Short(age))?;
        }
        if let Some(Filler { instance, serial, this_store }) = self.filler {
            let who = if this_store { "this store" } else { "another store" };
            write!(f, ", by {who} (token {instance:016x}.{serial})")?;
        }
        match (self.incarnation, self.server) {
            (Some(incarnation), Some(server)) if incarnation == server => {
                write!(f, ", on this server ({server:016x})")?;
            }
            (Some(incarnation), Some(server)) => {
                write!(f, ", on another server ({incarnation:016x}) than this one ({server:016x})")?;
            }
            _ => {}
        }
        if let Some(refresh) = self.refresh {
            write!(f, ", to be refreshed in {}", Short(refresh))?;
        }
        match self.ttl {
            Some(Duration::MAX) => f.write_str(", without expiry"),
            Some(ttl) => write!(f, ", expires in {}", Short(ttl)),
            None => Ok(()),
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Absent => "the knowledge that there is no such row",
            Self::Intents(writers) => return write!(f, "the intents of {writers} writers"),
            Self::Lease => "a lease: somebody loads",
            Self::Nothing => "nothing",
            Self::Unknown(why) => return write!(f, "what it does not say ({why})"),
            Self::Unusable(why) => {
                return write!(
                    f,
                    "what is not served ({})",
                    match why {
                        Mismatch::Checksum => "damaged",
                        Mismatch::Codec => "not to be decoded",
                        Mismatch::Expired => "expired",
                        Mismatch::Format => "no entry of this version",
                        Mismatch::Identity => "the entry of another key",
                        Mismatch::Incarnation => "filled on another server",
                        Mismatch::Schema => "of another version of the model",
                    }
                );
            }
            Self::Value => "a row",
        })
    }
}

impl fmt::Display for InvalidatedBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bus => "a write of another process",
            Self::Hand => "hand",
            Self::Write => "a write of this process",
            Self::WriteUnconfirmed => "a write of this process that redis had not confirmed",
        })
    }
}

/// A duration in seconds with three decimals.
struct Short(Duration);

impl fmt::Display for Short {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.3} s", self.0.as_secs_f64())
    }
}
