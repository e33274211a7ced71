//! What a transaction is begun with.

use crate::backend::{Backend, Dialect};

/// What a transaction may see of those that run beside it: the levels of Postgres. SQLite has one level only,
/// serializable, whatever is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isolation {
    /// Each statement sees what was committed before it began.
    ReadCommitted,
    /// Every statement sees what was committed before the first one began. A write to a row that another transaction
    /// changed since fails with [`StorehausError::Serialization`](crate::StorehausError::Serialization).
    RepeatableRead,
    /// As if transactions ran one after the other. What would contradict that fails with
    /// [`StorehausError::Serialization`](crate::StorehausError::Serialization), at the latest at COMMIT.
    Serializable,
}

/// How a transaction is begun, and how often it is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct TxOptions {
    isolation: Option<Isolation>,
    pub(crate) read_only: bool,
    pub(crate) attempts: u32,
}

impl TxOptions {
    /// The database's own isolation level (on Postgres `default_transaction_isolation`, read committed unless it was
    /// changed), reads and writes, 5 attempts.
    pub const fn new() -> Self {
        Self { isolation: None, read_only: false, attempts: 5 }
    }

    /// The isolation level.
    pub const fn isolation(mut self, isolation: Isolation) -> Self {
        self.isolation = Some(isolation);
        self
    }

    /// Refuses writes. On SQLite such a transaction does not take the write lock, and runs beside a writer; SQL sent on
    /// its connection is not held back there.
    pub const fn read_only(mut self) -> Self {
        self.read_only = true;
        self
    }

    /// How often `transaction_with_retry` runs the transaction, the first time included; at least once.
    pub const fn attempts(mut self, attempts: u32) -> Self {
        self.attempts = attempts;
        self
    }

    /// The statement that begins it.
    pub(crate) fn begin<DB: Backend>(self) -> &'static str {
        use Isolation::{ReadCommitted, RepeatableRead, Serializable};

        match (DB::DIALECT, self.isolation, self.read_only) {
            (_, None, false) | (Dialect::Sqlite, _, false) => DB::BEGIN,
            (Dialect::Sqlite, _, true) => "BEGIN DEFERRED",
            (Dialect::Postgres, None, true) => "BEGIN READ ONLY",
            (Dialect::Postgres, Some(ReadCommitted), false) => "BEGIN ISOLATION LEVEL READ COMMITTED",
            (Dialect::Postgres, Some(ReadCommitted), true) => "BEGIN ISOLATION LEVEL READ COMMITTED READ ONLY",
            (Dialect::Postgres, Some(RepeatableRead), false) => "BEGIN ISOLATION LEVEL REPEATABLE READ",
            (Dialect::Postgres, Some(RepeatableRead), true) => "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
            (Dialect::Postgres, Some(Serializable), false) => "BEGIN ISOLATION LEVEL SERIALIZABLE",
            (Dialect::Postgres, Some(Serializable), true) => "BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY",
        }
    }
}

impl Default for TxOptions {
    fn default() -> Self {
        Self::new()
    }
}
