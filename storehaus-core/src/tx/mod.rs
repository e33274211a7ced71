//! Transactions: what they do to the database, and what the cache hears of it.

mod level;
mod options;
mod run;
mod savepoint;
mod unit;

use std::fmt;

use sqlx::{SqlStr, Transaction};
#[cfg(storehaus_broken)]
use storehaus_cache::broken::{self, Bug};

use crate::backend::{Backend, DefaultBackend, Dialect};
use crate::error::{Context, Result, StorehausError};
use crate::haus::StoreHaus;
use crate::model::Persist;
use level::Changes;
pub(crate) use level::Level;
pub use options::{Isolation, TxOptions};
pub(crate) use unit::Unit;

/// A transaction that is under way: [`StoreHaus::transaction`], [`StoreHaus::begin`].
///
/// [`GenericStore::on`](crate::GenericStore::on) gives the operations of a store inside it. Dropped without
/// [`commit`](Self::commit), it is rolled back.
///
/// # Consistency
/// Reads through it see the database as the transaction does, and neither ask nor fill any cache. What it writes is
/// announced to the cache as it is written and invalidated after COMMIT, before [`commit`](Self::commit) returns: a read
/// that starts after that sees it. Nothing of it is cached, or seen through a cache, before.
///
/// A call of a store that is *not* made through the transaction does not see it: such a call runs on another connection.
/// On a pool of one connection, as for SQLite in memory, it waits for the transaction to end, and times out.
///
/// # When a statement fails
/// On Postgres the transaction, or the savepoint the statement is in, can then only be rolled back: every further
/// statement, and COMMIT, fails with [`StorehausError::Aborted`]. Run a statement that may fail inside a
/// [`savepoint`](Self::savepoint). The batches (`create_many` and so on) are one: a batch that fails changes nothing and
/// leaves the transaction as it was. On SQLite a statement that fails changes nothing, and the transaction goes on.
///
/// # Cancel safety
/// A write whose future is dropped before it ends leaves the transaction, or the savepoint it is in, fit for a rollback
/// only: it is not known whether it took place. Reads may be dropped at any time.
pub struct Tx<DB: Backend = DefaultBackend> {
    haus: StoreHaus<DB>,
    /// `None` once it is being ended.
    sql: Option<Transaction<'static, DB>>,
    /// The transaction itself, and each savepoint inside the one before. Never empty.
    levels: Vec<Level>,
    read_only: bool,
    /// Whether a statement may have failed, so that the database may have given the transaction up.
    pub(crate) is_doubtful: bool,
}

impl<DB: Backend> StoreHaus<DB> {
    /// Begins a transaction as the database does by default.
    ///
    /// # Errors
    /// [`StorehausError::Timeout`] when no connection is free in time, [`StorehausError::Unavailable`] when the database
    /// cannot be reached. On SQLite [`StorehausError::Timeout`] while another transaction writes.
    ///
    /// # Cost
    /// One statement; holds a connection of the pool until it ends. On SQLite it takes the write lock at once
    /// (`BEGIN IMMEDIATE`), unless it is [`read_only`](TxOptions::read_only).
    pub async fn begin(&self) -> Result<Tx<DB>> {
        self.begin_with(TxOptions::new()).await
    }

    /// Begins a transaction.
    ///
    /// # Errors
    /// As [`begin`](Self::begin).
    ///
    /// # Cost
    /// As [`begin`](Self::begin).
    pub async fn begin_with(&self, options: TxOptions) -> Result<Tx<DB>> {
        let context = Context::read("", "begin");
        let pool = self.pool().clone();
        self.lender().make_room();
        // On a task of its own: sqlx does not roll back a BEGIN whose future is dropped before its answer came.
        let begun = tokio::spawn(async move { pool.begin_with(options.begin::<DB>()).await });
        let lost = || StorehausError::Unavailable(context.failed("the runtime was shut down"));
        let sql = begun.await.map_err(|_| lost())?.map_err(|error| context.error(&error))?;
        Ok(Tx {
            haus: self.clone(),
            sql: Some(sql),
            levels: vec![Level::default()],
            read_only: options.read_only,
            is_doubtful: false,
        })
    }
}

impl<DB: Backend> Tx<DB> {
    /// Commits, and invalidates what was changed.
    ///
    /// # Errors
    /// With any of these nothing was changed:
    /// - [`StorehausError::Aborted`] when a statement failed or was dropped before, so that there is nothing to commit;
    /// - [`StorehausError::Conflict`], [`StorehausError::ForeignKey`] when a deferred constraint refuses it;
    /// - [`StorehausError::Serialization`] when a concurrent transaction stands in the way;
    /// - [`StorehausError::Unavailable`] when the connection was lost before COMMIT was sent, or Redis away for so long that
    ///   a store that was told not to write without it must not go on; see [`OnCacheDown`](storehaus_cache::OnCacheDown).
    ///
    /// [`StorehausError::OutcomeUnknown`] when the connection broke after COMMIT was sent: it may have taken place, or take
    /// place yet. The rows are invalidated, and read from the database until that is decided.
    ///
    /// [`StorehausError::NotInvalidated`] when it took place and Redis did not confirm that older rows are gone; only stores
    /// that ask for it fail so: [`Coherence::Strict`](storehaus_cache::Coherence::Strict).
    ///
    /// # Consistency
    /// When it returns, the changes are durable as the database is configured, and no read that starts afterwards is served
    /// an older row from a tier that confirmed the invalidation.
    ///
    /// # Cancel safety
    /// After its first poll it runs to its end, on a task of its own.
    ///
    /// # Cost
    /// One statement; on Postgres a second one where a statement failed or [`connection`](Self::connection) was used. With
    /// Redis, one awaited round trip for all tables together, and one or two before COMMIT where it was not heard of lately.
    pub async fn commit(self) -> Result<()> {
        let context = Context::write("", "commit");
        let lost = || StorehausError::OutcomeUnknown(context.failed("the runtime was shut down during COMMIT"));
        tokio::spawn(self.end_by_commit(context)).await.unwrap_or_else(|_| Err(lost()))
    }

    /// Undoes everything.
    ///
    /// # Errors
    /// [`StorehausError::Unavailable`] when the connection is lost; the database rolls back all the same.
    ///
    /// # Cancel safety
    /// After its first poll it runs to its end, on a task of its own.
    ///
    /// # Cost
    /// One statement and, with Redis, one round trip behind the caller's back.
    pub async fn rollback(mut self) -> Result<()> {
        let context = Context::read("", "rollback");
        let (Some(sql), changes) = self.take() else { return Ok(()) };
        let lost = || StorehausError::Unavailable(context.failed("the runtime was shut down"));
        let end = async move { end_by_rollback(sql, changes).await.map_err(|error| context.error(&error)) };
        tokio::spawn(end).await.unwrap_or_else(|_| Err(lost()))
    }

    /// The connection, for SQL of your own. Name the rows it changes by [`touch`](Self::touch).
    ///
    /// Do not send BEGIN, COMMIT, ROLLBACK or SAVEPOINT on it; sqlx's own `begin` makes a savepoint and is fine.
    ///
    /// # Errors
    /// [`StorehausError::Aborted`] when the transaction can only be rolled back.
    pub fn connection(&mut self) -> Result<&mut DB::Connection> {
        let context = Context::read("", "connection");
        // What is sent is not seen here.
        self.is_doubtful = true;
        self.parts(context).map(|(conn, _)| conn)
    }

    /// [`connection`](Self::connection), where it is one of Postgres and the transaction can go on.
    #[cfg(feature = "postgres")]
    pub fn as_postgres(&mut self) -> Option<&mut sqlx::PgConnection> {
        self.connection().ok().and_then(|conn| DB::as_any(conn).downcast_mut())
    }

    /// [`connection`](Self::connection), where it is one of SQLite and the transaction can go on.
    #[cfg(feature = "sqlite")]
    pub fn as_sqlite(&mut self) -> Option<&mut sqlx::SqliteConnection> {
        self.connection().ok().and_then(|conn| DB::as_any(conn).downcast_mut())
    }

    /// Says that SQL sent on the [`connection`](Self::connection) changes this row: it is invalidated as if a store had
    /// changed it. Best said before the SQL is sent.
    ///
    /// Concerns every store on the table of this manager; for a table that only stores with another manager cache, use
    /// [`TxStore::touch`](crate::TxStore::touch).
    ///
    /// # Errors
    /// As a write that the cache refuses; see [`TxStore`](crate::TxStore).
    ///
    /// # Cost
    /// With Redis, one awaited command.
    pub async fn touch<T: Persist<DB>>(&mut self, id: &T::Key) -> Result<()> {
        let store = self.haus.store::<T>();
        store.on(self).touch(id).await
    }

    /// Refuses what cannot go on. After a statement that may have failed, SQLite is asked whether it ended the transaction:
    /// what is sent then would be committed at once. On Postgres it would fail.
    pub(crate) async fn ready(&mut self, context: Context) -> Result<()> {
        self.parts(context)?;
        if self.is_doubtful && DB::DIALECT == Dialect::Sqlite {
            self.verify(context).await?;
        }
        Ok(())
    }

    /// The connection and the innermost savepoint.
    pub(crate) fn parts(&mut self, context: Context) -> Result<(&mut DB::Connection, &mut Level)> {
        match (&mut self.sql, self.levels.last_mut()) {
            (Some(sql), Some(level)) => match level.broken {
                None => Ok((&mut *sql, level)),
                Some(why) => Err(StorehausError::Aborted(context.failed(why))),
            },
            _ => Err(StorehausError::Aborted(context.failed("the transaction is over"))),
        }
    }

    pub(crate) fn is_read_only(&self) -> bool {
        self.read_only
    }

    /// Makes sure that the database has not given the transaction up.
    pub(crate) async fn verify(&mut self, context: Context) -> Result<()> {
        self.break_all(DROPPED);
        let Some(sql) = &mut self.sql else { return self.parts(context).map(drop) };
        let is_open = is_open::<DB>(sql).await.map_err(|error| context.unchanged().error(&error))?;
        self.levels.iter_mut().for_each(|level| level.broken = (!is_open).then_some(GIVEN_UP));
        self.is_doubtful = false;
        self.parts(context).map(drop)
    }

    fn break_all(&mut self, why: &'static str) {
        self.levels.iter_mut().for_each(|level| level.broken = Some(why));
    }

    async fn end_by_commit(mut self, context: Context) -> Result<()> {
        let ready = self.ready_to_commit(context).await;
        let (Some(sql), changes) = self.take() else { return ready };
        if let Err(error) = ready {
            // The error says more.
            end_by_rollback(sql, changes).await.ok();
            return Err(error);
        }
        #[cfg(storehaus_broken)]
        let changes = match broken::is(Bug::SettleBeforeCommit) {
            true => changes.settle().await.map(|()| Changes::default()).unwrap_or_default(),
            false => changes,
        };
        match unit::commit(sql).await.map_err(|error| context.error(&error)) {
            Ok(()) => changes.settle().await,
            Err(error) if error.is_unchanged() => {
                changes.withdraw().await;
                Err(error)
            }
            Err(error) => {
                changes.doubt().await;
                Err(error)
            }
        }
    }

    async fn ready_to_commit(&mut self, context: Context) -> Result<()> {
        self.parts(context)?;
        if self.is_doubtful {
            // Postgres answers COMMIT with a rollback, and no error, where a statement failed before.
            self.verify(context).await?;
        }
        for level in &mut self.levels {
            level.changes.confirm().await?;
        }
        Ok(())
    }

    fn take(&mut self) -> (Option<Transaction<'static, DB>>, Changes) {
        let mut changes = Changes::default();
        self.levels.drain(..).for_each(|level| changes.merge(level.changes));
        (self.sql.take(), changes)
    }
}

impl<DB: Backend> Drop for Tx<DB> {
    fn drop(&mut self) {
        // Without a runtime sqlx closes the connection, and each change remembers what it announced.
        if let (Some(sql), changes) = self.take()
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            runtime.spawn(end_by_rollback(sql, changes));
        }
    }
}

impl<DB: Backend> fmt::Debug for Tx<DB> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tx")
            .field("database", &DB::NAME)
            .field("savepoints", &self.levels.len().saturating_sub(1))
            .finish_non_exhaustive()
    }
}

async fn end_by_rollback<DB: Backend>(sql: Transaction<'static, DB>, changes: Changes) -> Result<(), sqlx::Error> {
    let ended = unit::roll_back(sql).await;
    changes.withdraw().await;
    ended
}

/// Whether a transaction that sqlx counts is still open, and can still be committed.
async fn is_open<DB: Backend>(conn: &mut DB::Connection) -> Result<bool, sqlx::Error> {
    match DB::DIALECT {
        Dialect::Postgres => match DB::run(conn, SqlStr::from_static("SELECT 1")).await {
            Err(sqlx::Error::Database(error)) if error.code().as_deref() == Some("25P02") => Ok(false),
            done => done.map(|()| true),
        },
        // Refused inside a transaction. Where it is not, sqlx has one to end.
        Dialect::Sqlite => match DB::run(conn, SqlStr::from_static("BEGIN")).await {
            Err(sqlx::Error::Database(_)) => Ok(true),
            done => done.map(|()| false),
        },
    }
}

pub(crate) const DROPPED: &str = "a call of the transaction was dropped before it ended; roll back";
const GIVEN_UP: &str = "the database gave the transaction up after an earlier statement failed; roll back";
const NOT_UNDONE: &str = "a savepoint could not be rolled back; roll back";
pub(crate) const REFUSED: &str = "the cache refused an earlier write of the transaction; roll back";
