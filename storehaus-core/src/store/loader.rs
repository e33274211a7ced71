//! The database as the cache's loader.

use std::sync::Arc;

use sqlx::Pool;
use sqlx::pool::PoolConnection;
use storehaus_cache::loader::{Aborted, Loader};

use super::statement;
use crate::backend::{Backend, Dialect};
use crate::error::{Context, Result, StorehausError};
use crate::model::Persist;
use crate::sql::Statements;

/// Loads rows on a connection of the pool, outside any transaction.
pub(crate) struct TableLoader<T, DB: Backend> {
    pub(super) pool: Pool<DB>,
    pub(super) sql: Arc<Statements<T, DB>>,
}

impl<T: Persist<DB>, DB: Backend> TableLoader<T, DB> {
    pub(super) fn new(pool: Pool<DB>) -> Self {
        Self { pool, sql: Arc::new(Statements::new()) }
    }
}

impl<T, DB: Backend> Clone for TableLoader<T, DB> {
    fn clone(&self) -> Self {
        Self { pool: self.pool.clone(), sql: Arc::clone(&self.sql) }
    }
}

impl<T: Persist<DB>, DB: Backend> Loader for TableLoader<T, DB> {
    type Key = T::Key;
    type Value = T;
    type Error = StorehausError;

    async fn load(&self, key: &T::Key) -> Result<Option<T>> {
        let context = Context::read(T::TABLE.name, "get_by_id");
        let mut is_first_try = true;
        loop {
            let mut conn = Borrowed::of(&self.pool).await.map_err(|error| context.error(&error))?;
            let row =
                statement::select_one(&mut *conn.conn, &self.sql, key).await.map_err(|error| context.error(&error));
            conn.give_back();
            match row {
                // Lost under the statement: another connection may be had, and a read may be repeated.
                Err(StorehausError::Unavailable(_)) if is_first_try => is_first_try = false,
                row => return row,
            }
        }
    }

    async fn load_many(&self, keys: &[T::Key]) -> Result<Vec<(T::Key, T)>> {
        let context = Context::read(T::TABLE.name, "get_many");
        let mut is_first_try = true;
        loop {
            let mut conn = Borrowed::of(&self.pool).await.map_err(|error| context.error(&error))?;
            let rows =
                statement::select_many(&mut *conn.conn, &self.sql, keys).await.map_err(|error| context.error(&error));
            conn.give_back();
            match rows {
                Err(StorehausError::Unavailable(_)) if is_first_try => is_first_try = false,
                rows => return Ok(rows?.into_iter().map(|row| (row.key(), row)).collect()),
            }
        }
    }

    fn is_key_of(&self, key: &T::Key, row: &T) -> bool {
        row.key() == *key
    }

    fn aborted(&self, why: Aborted) -> StorehausError {
        let context = Context::read(T::TABLE.name, "get_by_id");
        match why {
            Aborted::Lost => {
                StorehausError::Unavailable(context.failed("the load ended without a result; its runtime shut down"))
            }
            Aborted::TimedOut(after) => StorehausError::Timeout(
                context.failed(format!("the load took longer than the load timeout of {after:?}")),
            ),
        }
    }
}

/// A connection that is closed when a load is dropped on it: it may have stopped answering, and the pool would wait for it
/// for ever. SQLite's are no further away than this process, and one may hold a whole database in memory; they go back.
struct Borrowed<DB: Backend> {
    conn: PoolConnection<DB>,
    /// Whether it goes back to the pool.
    is_over: bool,
}

impl<DB: Backend> Borrowed<DB> {
    async fn of(pool: &Pool<DB>) -> Result<Self, sqlx::Error> {
        Ok(Self { conn: pool.acquire().await?, is_over: DB::DIALECT == Dialect::Sqlite })
    }

    fn give_back(mut self) {
        self.is_over = true;
    }
}

impl<DB: Backend> Drop for Borrowed<DB> {
    fn drop(&mut self) {
        if !self.is_over {
            self.conn.close_on_drop();
        }
    }
}
