//! What goes wrong, told apart without string matching.

use std::fmt;

use storehaus_cache::CacheError;
use thiserror::Error;

use crate::backend;
use crate::model::Model;
use crate::schema::{Difference, SchemaError};

/// The result of most calls.
pub type Result<T, E = StorehausError> = std::result::Result<T, E>;

/// What a call on a store failed with. Names table and operation, and for a batch the row; never row contents.
///
/// ```
/// # use storehaus_core::StorehausError;
/// fn status(error: &StorehausError) -> u16 {
///     match error {
///         StorehausError::NotFound { .. } => 404,
///         StorehausError::Conflict { .. } | StorehausError::ForeignKey { .. } => 409,
///         StorehausError::InvalidInput { .. } | StorehausError::KeyMismatch { .. } => 422,
///         error if error.is_transient() => 503,
///         _ => 500,
///     }
/// }
/// ```
#[derive(Clone, Debug, Error)]
#[non_exhaustive]
pub enum StorehausError {
    /// An earlier statement of the transaction failed, or was dropped before it ended: the transaction can only be
    /// rolled back, or the savepoint it was in. Nothing of it is or will be committed.
    #[error("{0}")]
    Aborted(Box<Failed>),
    /// A call of the manual cache API failed. Reads and writes of a store never fail with it.
    #[error(transparent)]
    Cache(#[from] CacheError),
    /// The store has no cache manager.
    #[error("the store of {0} has no cache manager; give it CacheParams when it is made")]
    CacheDisabled(&'static str),
    /// A unique or exclusion constraint refused the row. Nothing was changed.
    #[error("{0}")]
    Conflict(Box<Failed>),
    /// The database failed in a way that has no name here.
    #[error("{0}")]
    Database(Box<Failed>),
    /// A foreign key refused the change. Nothing was changed.
    #[error("{0}")]
    ForeignKey(Box<Failed>),
    /// The backend cannot hold the value, or a NOT NULL or CHECK constraint refused it. Nothing was changed.
    #[error("{0}")]
    InvalidInput(Box<Failed>),
    /// The id that was passed is not the key of the row that was passed. Nothing was changed.
    #[error("{0}")]
    KeyMismatch(Box<Failed>),
    /// There is no such row. Nothing was changed.
    #[error("{0}")]
    NotFound(Box<Failed>),
    /// The change was committed, but the cache did not confirm that older rows are gone: other instances may serve them
    /// until it does. Only stores that ask for it fail so.
    #[error("{0}")]
    NotInvalidated(Box<Failed>),
    /// The connection was lost after the change was sent: it may have been applied or not. Caches were invalidated.
    #[error("{0}")]
    OutcomeUnknown(Box<Failed>),
    /// Table and struct differ. A write may have been applied all the same, where its result could not be read; caches
    /// were invalidated.
    #[error("{0}")]
    SchemaMismatch(Box<Failed>),
    /// The database gave up the transaction because of a concurrent one. Nothing was changed; try again.
    #[error("{0}")]
    Serialization(Box<Failed>),
    /// No connection became free, or the statement or lock took too long. Nothing was changed.
    #[error("{0}")]
    Timeout(Box<Failed>),
    /// The database cannot be reached or does not accept work. Nothing was changed.
    #[error("{0}")]
    Unavailable(Box<Failed>),
}

impl StorehausError {
    /// The error for a row that is not there, for code that looks rows up by its own means.
    pub fn not_found<T: Model>() -> Self {
        Self::NotFound(Failed::new(T::TABLE.name, "read", "no row has this key"))
    }

    /// The table the call was about, where it was about one.
    pub fn table(&self) -> Option<&'static str> {
        match self {
            Self::CacheDisabled(table) => Some(table),
            _ => self.failed().map(|failed| failed.table),
        }
    }

    /// The place in the batch of the row that failed, counted from 0.
    pub fn row(&self) -> Option<usize> {
        self.failed()?.row
    }

    /// The constraint that refused the change, as the database names it: on SQLite the columns, `table.column`.
    pub fn constraint(&self) -> Option<&str> {
        self.failed()?.constraint.as_deref()
    }

    /// Whether the same call may succeed later.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Cache(error) => error.is_transient(),
            Self::Serialization(_) | Self::Timeout(_) | Self::Unavailable(_) => true,
            _ => false,
        }
    }

    /// Whether it is certain that the database was not changed.
    pub fn is_unchanged(&self) -> bool {
        !matches!(
            self,
            Self::Cache(_)
                | Self::Database(_)
                | Self::NotInvalidated(_)
                | Self::OutcomeUnknown(_)
                | Self::SchemaMismatch(_)
        )
    }

    pub(crate) fn at_row(mut self, row: usize) -> Self {
        if let Some(failed) = self.failed_mut() {
            failed.row = Some(row);
        }
        self
    }

    fn failed(&self) -> Option<&Failed> {
        failed!(self)
    }

    fn failed_mut(&mut self) -> Option<&mut Failed> {
        failed!(self)
    }
}

/// The [`Failed`] of an error that has one, by shared or exclusive reference as the error is.
macro_rules! failed {
    ($error:expr) => {
        match $error {
            StorehausError::Cache(_) | StorehausError::CacheDisabled(_) => None,
            StorehausError::Aborted(failed)
            | StorehausError::Conflict(failed)
            | StorehausError::Database(failed)
            | StorehausError::ForeignKey(failed)
            | StorehausError::InvalidInput(failed)
            | StorehausError::KeyMismatch(failed)
            | StorehausError::NotFound(failed)
            | StorehausError::NotInvalidated(failed)
            | StorehausError::OutcomeUnknown(failed)
            | StorehausError::SchemaMismatch(failed)
            | StorehausError::Serialization(failed)
            | StorehausError::Timeout(failed)
            | StorehausError::Unavailable(failed) => Some(failed),
        }
    };
}
use failed;

impl From<sqlx::Error> for StorehausError {
    /// For an application's own statements: what they may have changed is not known.
    fn from(error: sqlx::Error) -> Self {
        Context { table: "", operation: "sql", phase: Phase::Write }.error(&error)
    }
}

/// Where a call failed, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Failed {
    /// The table; empty for an application's own statement.
    pub table: &'static str,
    /// The method.
    pub operation: &'static str,
    /// The place of the row in the batch, counted from 0.
    pub row: Option<usize>,
    /// The constraint that refused the change.
    pub constraint: Option<String>,
    /// The database's error code: an SQLSTATE on Postgres, the extended result code on SQLite.
    pub code: Option<String>,
    /// Why. Holds no row contents.
    pub reason: String,
}

impl Failed {
    pub(crate) fn new(table: &'static str, operation: &'static str, reason: impl Into<String>) -> Box<Self> {
        Box::new(Self { table, operation, row: None, constraint: None, code: None, reason: reason.into() })
    }
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.operation)?;
        if !self.table.is_empty() {
            write!(f, " on table {}", self.table)?;
        }
        if let Some(row) = self.row {
            write!(f, ", row {row} of the batch")?;
        }
        write!(f, ": {}", self.reason)?;
        if let Some(constraint) = &self.constraint {
            write!(f, " (constraint {constraint})")?;
        }
        Ok(())
    }
}

/// How far a statement had come when it failed: decides what a lost connection means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// It changes nothing, or only inside a transaction that is not committed.
    Unchanged,
    /// It commits by itself, or it is the COMMIT.
    Write,
}

/// What to say about an error of the driver.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Context {
    pub(crate) table: &'static str,
    pub(crate) operation: &'static str,
    pub(crate) phase: Phase,
}

impl Context {
    pub(crate) fn read(table: &'static str, operation: &'static str) -> Self {
        Self { table, operation, phase: Phase::Unchanged }
    }

    pub(crate) fn write(table: &'static str, operation: &'static str) -> Self {
        Self { table, operation, phase: Phase::Write }
    }

    /// The same call before anything was sent, or inside a transaction.
    pub(crate) fn unchanged(self) -> Self {
        Self { phase: Phase::Unchanged, ..self }
    }

    pub(crate) fn failed(&self, reason: impl Into<String>) -> Box<Failed> {
        Failed::new(self.table, self.operation, reason)
    }

    pub(crate) fn error(&self, error: &sqlx::Error) -> StorehausError {
        match error {
            sqlx::Error::Database(error) => self.database(&**error),
            sqlx::Error::PoolTimedOut => StorehausError::Timeout(self.failed(
                "no connection became free or could be made within the acquire timeout; see whether the database is \
                 up, raise the pool's size, or look for a connection that is held too long",
            )),
            sqlx::Error::PoolClosed => StorehausError::Unavailable(self.failed("the connection pool is closed")),
            sqlx::Error::Io(_) | sqlx::Error::Tls(_) | sqlx::Error::Protocol(_) | sqlx::Error::WorkerCrashed => {
                match self.phase {
                    Phase::Unchanged => StorehausError::Unavailable(self.failed(format!("connection lost: {error}"))),
                    Phase::Write => StorehausError::OutcomeUnknown(self.failed(format!(
                        "connection lost after the statement was sent, so it may have been applied or not: {error}"
                    ))),
                }
            }
            sqlx::Error::RowNotFound => StorehausError::NotFound(self.failed("no row has this key")),
            sqlx::Error::ColumnNotFound(_)
            | sqlx::Error::ColumnIndexOutOfBounds { .. }
            | sqlx::Error::ColumnDecode { .. }
            | sqlx::Error::TypeNotFound { .. }
            | sqlx::Error::Decode(_) => StorehausError::SchemaMismatch(self.failed(error.to_string())),
            sqlx::Error::Encode(_) => StorehausError::InvalidInput(self.failed(error.to_string())),
            _ => StorehausError::Database(self.failed(error.to_string())),
        }
    }

    fn database(&self, error: &dyn sqlx::error::DatabaseError) -> StorehausError {
        use sqlx::error::ErrorKind;

        let code = error.code().map(|code| code.into_owned()).unwrap_or_default();
        let constraint = error.constraint().map(str::to_owned);
        let failed = |reason: String| {
            Box::new(Failed { constraint: constraint.clone(), code: Some(code.clone()), ..*self.failed(reason) })
        };
        let message = error.message();
        match error.kind() {
            ErrorKind::UniqueViolation => {
                // SQLite names the columns in the message and nowhere else.
                let columns = message.strip_prefix("UNIQUE constraint failed: ").map(str::to_owned);
                let mut failed = failed("another row has the same unique value".into());
                failed.constraint = failed.constraint.or(columns);
                return StorehausError::Conflict(failed);
            }
            ErrorKind::ForeignKeyViolation => {
                return StorehausError::ForeignKey(failed(
                    "a foreign key has no row to point at, or a row still points here".into(),
                ));
            }
            ErrorKind::NotNullViolation | ErrorKind::CheckViolation => {
                return StorehausError::InvalidInput(failed(message.to_owned()));
            }
            _ => {}
        }
        // Codes of one to four digits are SQLite's, the kind in the low byte: https://sqlite.org/rescode.html
        if let (1..=4, Ok(code)) = (code.len(), code.parse::<u16>()) {
            let failed = failed(message.to_owned());
            return match code & 0xff {
                _ if code == 517 => StorehausError::Serialization(failed),
                5 | 6 => StorehausError::Timeout(failed),
                8 | 13 | 14 => StorehausError::Unavailable(failed),
                18 | 20 => StorehausError::InvalidInput(failed),
                // STRICT tables; the text quotes the value.
                19 if code == 3091 || code == 3089 => StorehausError::InvalidInput(Box::new(Failed {
                    reason: "a column does not take this type".into(),
                    ..*failed
                })),
                1 if message.starts_with("no such") || message.contains("has no column") => {
                    StorehausError::SchemaMismatch(failed)
                }
                _ => StorehausError::Database(failed),
            };
        }
        match code.as_str() {
            // Codes of five characters are SQLSTATEs: https://www.postgresql.org/docs/current/errcodes-appendix.html
            "0A000" if backend::is_stale_plan(message) => StorehausError::Serialization(failed(
                "the table was altered after the statement was prepared; it is prepared anew now".into(),
            )),
            // A foreign key with ON DELETE RESTRICT, from PostgreSQL 18 on.
            "23001" => StorehausError::ForeignKey(failed(
                "a foreign key has no row to point at, or a row still points here".into(),
            )),
            "23P01" => StorehausError::Conflict(failed("another row excludes this one".into())),
            "25P02" => StorehausError::Aborted(failed(
                "an earlier statement of the transaction failed; roll back, and run a statement that may fail inside a \
                 savepoint"
                    .into(),
            )),
            "25006" => StorehausError::InvalidInput(failed("the transaction is read-only".into())),
            "40001" | "40P01" => StorehausError::Serialization(failed(message.to_owned())),
            "57014" | "55P03" | "25P03" | "25P04" => StorehausError::Timeout(failed(message.to_owned())),
            "42P01" | "42703" | "42804" | "42883" | "42P10" | "3F000" | "42704" => {
                StorehausError::SchemaMismatch(failed(message.to_owned()))
            }
            // The texts of class 22 quote the value.
            code if code.starts_with("22") => {
                StorehausError::InvalidInput(failed(format!("{} ({code})", data_exception(code))))
            }
            // A proxy that lost its server says so by class 08; a server that shuts down may do so after the commit,
            // while it waits for a replica.
            code if self.phase == Phase::Write && (code.starts_with("08") || matches!(code, "57P01" | "57P02")) => {
                StorehausError::OutcomeUnknown(failed(message.to_owned()))
            }
            code if ["08", "53", "57"].iter().any(|class| code.starts_with(class)) => {
                StorehausError::Unavailable(failed(message.to_owned()))
            }
            _ => StorehausError::Database(failed(message.to_owned())),
        }
    }

    /// The cache refused to announce a write.
    pub(crate) fn refused(&self, error: &CacheError) -> StorehausError {
        StorehausError::Unavailable(self.failed(format!("nothing was changed: {error}")))
    }

    /// A committed write is not known to be invalidated.
    pub(crate) fn not_invalidated(&self, error: &CacheError) -> StorehausError {
        StorehausError::NotInvalidated(self.failed(format!("the change is committed: {error}")))
    }

    pub(crate) fn schema(&self, error: SchemaError) -> StorehausError {
        match error {
            SchemaError::Database { source, .. } => self.error(&source),
            refused => StorehausError::SchemaMismatch(self.failed(refused.to_string())),
        }
    }

    pub(crate) fn differences(&self, differences: &[Difference]) -> StorehausError {
        let list: Vec<_> = differences.iter().map(ToString::to_string).collect();
        StorehausError::SchemaMismatch(self.failed(list.join("; ")))
    }
}

fn data_exception(code: &str) -> &'static str {
    match code {
        "22001" => "a value is too long for its column",
        "22003" => "a number is out of the range of its column",
        "22007" | "22008" => "a time is out of the range of its column",
        "22021" => "a text holds a character the database cannot store, such as NUL",
        "22P05" => "a text holds a character the database encoding does not have",
        _ => "the database cannot hold a value",
    }
}
