//! What a [`Remote`](super::Remote) counts and reports.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::l2::L2Error;

/// Counts since the start. The probe's own failures are not among them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RemoteStats {
    /// How often the tier went down.
    pub breaker_opened: u64,
    /// Commands without an answer for lack of a connection.
    pub connection_errors: u64,
    /// Invalidations that were remembered and delivered later.
    pub journal_replayed: u64,
    /// Commands the server refused for lack of memory.
    pub oom: u64,
    /// Keys whose removal is remembered now.
    pub pending_invalidations: u64,
    /// Commands the server refused for any other reason that concerns the whole server.
    pub refused: u64,
    /// Further attempts of invalidations and manual operations.
    pub retries: u64,
    /// Commands without an answer in time.
    pub timeouts: u64,
    /// Commands on keys that hold a value of another type.
    pub wrong_type: u64,
}

/// Whether the tier is in use.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RemoteState {
    /// Whether reads go to the tier.
    pub up: bool,
    /// The last error, also when it is over.
    pub last_error: Option<String>,
}

#[derive(Default)]
pub(super) struct Counters {
    breaker_opened: AtomicU64,
    connection_errors: AtomicU64,
    journal_replayed: AtomicU64,
    oom: AtomicU64,
    refused: AtomicU64,
    retries: AtomicU64,
    timeouts: AtomicU64,
    wrong_type: AtomicU64,
}

impl Counters {
    pub(super) fn count(&self, error: &L2Error) {
        let counter = match error {
            L2Error::Connection(_) => &self.connection_errors,
            L2Error::Refused { code, .. } if code == "OOM" => &self.oom,
            L2Error::Refused { .. } => &self.refused,
            L2Error::Timeout(_) => &self.timeouts,
            L2Error::WrongType => &self.wrong_type,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn breaker_opened(&self) {
        self.breaker_opened.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn replayed(&self, entries: u64) {
        self.journal_replayed.fetch_add(entries, Ordering::Relaxed);
    }

    pub(super) fn retried(&self) {
        self.retries.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn snapshot(&self, pending_invalidations: u64) -> RemoteStats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        RemoteStats {
            breaker_opened: read(&self.breaker_opened),
            connection_errors: read(&self.connection_errors),
            journal_replayed: read(&self.journal_replayed),
            oom: read(&self.oom),
            pending_invalidations,
            refused: read(&self.refused),
            retries: read(&self.retries),
            timeouts: read(&self.timeouts),
            wrong_type: read(&self.wrong_type),
        }
    }
}
