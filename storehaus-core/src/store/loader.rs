//! The database as the cache's loader.

use std::collections::HashMap;
use std::sync::Arc;

use storehaus_cache::loader::{Aborted, Loader};
use tokio::sync::oneshot;

use super::gather::{First, Gather, Gathered, Part};
use super::statement;
use crate::backend::{Backend, Dialect};
use crate::error::{Context, Result, StorehausError};
use crate::lend::Lender;
use crate::model::{AssignedBy, Model, ModelKey as _, Persist};
use crate::sql::Statements;

type Row<T> = Result<Option<T>>;

/// Loads rows on a connection of the pool, outside any transaction.
pub(crate) struct TableLoader<T: Model, DB: Backend> {
    pub(super) lender: Lender<DB>,
    pub(super) sql: Arc<Statements<T, DB>>,
    gather: Gather<T::Key, Row<T>>,
}

impl<T: Persist<DB>, DB: Backend> TableLoader<T, DB> {
    pub(super) fn new(lender: Lender<DB>) -> Self {
        Self { lender, sql: Arc::new(Statements::new()), gather: Gather::new(MOST) }
    }
}

impl<T: Persist<DB>, DB: Backend> TableLoader<T, DB> {
    async fn select_one(&self, context: Context, key: &T::Key) -> Result<Option<T>> {
        let mut asked = false;
        loop {
            match self.read(context, asked, async |conn, sql| statement::select_one(conn, sql, key).await).await {
                // Lost under the statement: another connection may be had, and a read may be repeated.
                Err(StorehausError::Unavailable(_)) if !asked => asked = true,
                row => return row,
            }
        }
    }

    async fn select_many(&self, context: Context, keys: &[T::Key]) -> Result<Vec<(T::Key, T)>> {
        let mut asked = false;
        loop {
            match self.read(context, asked, async |conn, sql| statement::select_many(conn, sql, keys).await).await {
                Err(StorehausError::Unavailable(_)) if !asked => asked = true,
                rows => return Ok(rows?.into_iter().map(|row| (row.key(), row)).collect()),
            }
        }
    }

    /// Sends one statement for all reads that come together. Ends with the last of them: a database that does not answer
    /// keeps no connection that nobody waits for.
    async fn send(self, context: Context, first: First<T::Key, Row<T>>) {
        let Some(mut reads) = first.gathered().await else { return };
        let keys: Vec<_> = reads.iter().map(|(key, _)| key.clone()).collect();
        let are_gone = async {
            for (_, read) in &mut reads {
                read.closed().await;
            }
        };
        let rows = tokio::select! {
            rows = self.select_many(context, &keys) => rows,
            () = are_gone => return,
        };
        hand_out(reads, rows);
    }

    /// Reads on a lent connection, with `asked` on one that answered just now. Dropped before its end, it closes the
    /// connection.
    pub(super) async fn read<R>(
        &self,
        context: Context,
        asked: bool,
        work: impl AsyncFnOnce(&mut DB::Connection, &Statements<T, DB>) -> Result<R, sqlx::Error>,
    ) -> Result<R> {
        let mut loan = self.lender.acquire(asked).await.map_err(|error| context.error(&error))?;
        let mut conn = loan.cancellable();
        let done = work(&mut *conn, &self.sql).await.map_err(|error| context.error(&error));
        conn.over();
        loan.done(&done);
        done
    }
}

impl<T: Model, DB: Backend> Clone for TableLoader<T, DB> {
    fn clone(&self) -> Self {
        Self { lender: self.lender.clone(), sql: Arc::clone(&self.sql), gather: self.gather.clone() }
    }
}

impl<T: Persist<DB>, DB: Backend> Loader for TableLoader<T, DB> {
    type Key = T::Key;
    type Value = T;
    type Error = StorehausError;

    const EXACT_KEYS: bool = has_exact_keys::<T>();

    async fn load(&self, key: &T::Key) -> Result<Option<T>> {
        let context = Context::read(T::TABLE.name, "get_by_id");
        // A statement for many has arrays on Postgres, and SQLite is no journey away.
        if DB::DIALECT == Dialect::Sqlite {
            return self.select_one(context, key).await;
        }
        let (_under_way, part) = self.gather.join(|| key.clone());
        if let Some(Part { first, answer }) = part {
            if let Some(first) = first {
                tokio::spawn(self.clone().send(context, first));
            }
            if let Ok(row) = answer.await {
                return row;
            }
        }
        self.select_one(context, key).await
    }

    async fn load_many(&self, keys: &[T::Key]) -> Result<Vec<(T::Key, T)>> {
        self.select_many(Context::read(T::TABLE.name, "get_many"), keys).await
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

/// How many reads share a statement: more make a row no cheaper, and the first would wait for the last.
const MOST: usize = 64;

/// Hands the rows of a statement out to who asked for them. Silent where the statement does not say what one for a single
/// row would.
fn hand_out<T: Model>(reads: Gathered<T::Key, Row<T>>, rows: Result<Vec<(T::Key, T)>>) {
    let mut rows: HashMap<_, _> = match rows {
        Ok(rows) => rows.into_iter().collect(),
        // About the connections, and neither the statement nor one of the rows.
        Err(error) if is_of_connections(&error) => {
            return reads.into_iter().for_each(|(_, read)| tell(read, Err(error.clone())));
        }
        Err(_) => return,
    };
    let mut by_key: HashMap<_, Vec<_>> = HashMap::with_capacity(reads.len());
    reads.into_iter().for_each(|(key, read)| by_key.entry(key).or_default().push(read));
    for (key, mut reads) in by_key {
        let row = rows.remove(&key);
        // The database may take texts for equal that are not: the row then came under its own key.
        if row.is_none() && !has_exact_keys::<T>() {
            continue;
        }
        let last = reads.pop();
        reads.into_iter().for_each(|read| tell(read, Ok(row.clone())));
        if let Some(last) = last {
            tell(last, Ok(row));
        }
    }
}

/// Whether no key is a text, or has one for a part.
const fn has_exact_keys<T: Model>() -> bool {
    !matches!(T::Key::ASSIGNED_BY, AssignedBy::Caller)
}

/// Whether each read would fail in the same way. A statement that was cancelled, as for its time, may have been too large.
fn is_of_connections(error: &StorehausError) -> bool {
    match error {
        StorehausError::Unavailable(_) => true,
        StorehausError::Timeout(failed) => failed.code.is_none(),
        _ => false,
    }
}

fn tell<T>(read: oneshot::Sender<Row<T>>, row: Row<T>) {
    // Who went away is not told.
    read.send(row).ok();
}
