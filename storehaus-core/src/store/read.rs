//! Reads.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::sync::Arc;

use futures_core::Stream;
use futures_util::{StreamExt as _, TryStreamExt as _};
use storehaus_cache::KeyRef;
use storehaus_cache::loader::Loader as _;

use super::{GenericStore, statement};
use crate::backend::Backend;
use crate::error::{Context, Result, StorehausError};
use crate::model::Persist;

impl<T: Persist<DB>, DB: Backend> GenericStore<T, DB> {
    /// The row with this key, or `None`.
    ///
    /// Takes a reference to the key, or `&str` where the key is a `String`.
    ///
    /// # Errors
    /// As the database: [`StorehausError::Unavailable`], [`StorehausError::Timeout`],
    /// [`StorehausError::SchemaMismatch`]. A failing cache is a miss, never an error.
    ///
    /// # Consistency
    /// See [`GenericStore`].
    ///
    /// # Cost
    /// A hit in process: no round trip, and a clone of the row. A hit in Redis: one command. A miss: two commands (one from
    /// the seventeenth in a row on) and one statement, and one command to fill behind the caller's back. Concurrent misses
    /// of one key share one statement. On Postgres so do those of up to 64 keys: one that finds another under way waits a
    /// turn of the runtime for company, with a cache and without. A row that does not exist then takes a statement of its
    /// own where the key has a text or several parts.
    pub async fn get_by_id<Q>(&self, id: &Q) -> Result<Option<T>>
    where
        T::Key: Borrow<Q>,
        Q: KeyRef<Owned = T::Key> + ?Sized,
    {
        match self.records()? {
            Some(cache) => Ok(cache.get(id).await?.map(Arc::unwrap_or_clone)),
            // On the heap, here and below: sqlx's futures are nested so deeply that a caller's type nears the depth
            // limit of the compiler.
            None => Box::pin(self.inner.table.load(&id.to_key())).await,
        }
    }

    /// As [`get_by_id`](Self::get_by_id), without cloning a row that is held in process.
    ///
    /// # Errors
    /// As [`get_by_id`](Self::get_by_id).
    pub async fn get_arc<Q>(&self, id: &Q) -> Result<Option<Arc<T>>>
    where
        T::Key: Borrow<Q>,
        Q: KeyRef<Owned = T::Key> + ?Sized,
    {
        match self.records()? {
            Some(cache) => cache.get(id).await,
            None => Ok(Box::pin(self.inner.table.load(&id.to_key())).await?.map(Arc::new)),
        }
    }

    /// As [`get_by_id`](Self::get_by_id), where a missing row is an error.
    ///
    /// # Errors
    /// [`StorehausError::NotFound`] when there is no such row; else as [`get_by_id`](Self::get_by_id).
    pub async fn require<Q>(&self, id: &Q) -> Result<T>
    where
        T::Key: Borrow<Q>,
        Q: KeyRef<Owned = T::Key> + ?Sized,
    {
        self.get_by_id(id).await?.ok_or_else(|| {
            StorehausError::NotFound(Context::read(T::TABLE.name, "require").failed("no row has this key"))
        })
    }

    /// Many rows, in the order of `ids`: `None` for a missing one, and a row twice for an id that is asked twice.
    ///
    /// # Errors
    /// As [`get_by_id`](Self::get_by_id).
    ///
    /// # Consistency
    /// Each row as by [`get_by_id`](Self::get_by_id); together they are no snapshot.
    ///
    /// # Cost
    /// One `MGET`; for what it lacks one round of leases, one statement, and one round of fills behind the caller's
    /// back. On SQLite one statement per 32,766 key parts.
    pub async fn get_many(&self, ids: &[T::Key]) -> Result<Vec<Option<T>>> {
        match self.records()? {
            Some(cache) => {
                let rows = cache.get_many(ids).await?;
                Ok(rows.into_iter().map(|row| row.map(Arc::unwrap_or_clone)).collect())
            }
            None => {
                let rows: HashMap<_, _> = Box::pin(self.inner.table.load_many(ids)).await?.into_iter().collect();
                Ok(ids.iter().map(|id| rows.get(id).cloned()).collect())
            }
        }
    }

    /// Whether there is a row with this key. Asks the database, not the cache.
    ///
    /// # Errors
    /// As [`get_by_id`](Self::get_by_id).
    ///
    /// # Cost
    /// One statement.
    pub async fn exists<Q>(&self, id: &Q) -> Result<bool>
    where
        T::Key: Borrow<Q>,
        Q: KeyRef<Owned = T::Key> + ?Sized,
    {
        self.records()?;
        let (context, key) = (Context::read(T::TABLE.name, "exists"), id.to_key());
        self.inner.table.read(context, false, async |conn, sql| statement::exists(conn, sql, &key).await).await
    }

    /// How many rows there are. Asks the database, not the cache.
    ///
    /// # Errors
    /// As [`get_by_id`](Self::get_by_id).
    ///
    /// # Cost
    /// One statement, which reads the whole table on Postgres.
    pub async fn count(&self) -> Result<u64> {
        self.records()?;
        let context = Context::read(T::TABLE.name, "count");
        self.inner.table.read(context, false, async |conn, sql| statement::count(conn, sql).await).await
    }

    /// Every row, in key order, all in memory at once; for large tables use [`stream`](Self::stream).
    ///
    /// # Errors
    /// As [`get_by_id`](Self::get_by_id).
    ///
    /// # Consistency
    /// A snapshot of the database. Neither reads nor fills the cache.
    ///
    /// # Cost
    /// One statement.
    pub async fn list_all(&self) -> Result<Vec<T>> {
        self.stream().try_collect().await
    }

    /// Every row, in key order, as they arrive from the database.
    ///
    /// # Errors
    /// Each item may be one, as for [`get_by_id`](Self::get_by_id); the stream ends after it.
    ///
    /// # Consistency
    /// A snapshot of the database. Neither reads nor fills the cache.
    ///
    /// # Cost
    /// One statement; holds a connection of the pool until the stream ends or is dropped.
    pub fn stream(&self) -> impl Stream<Item = Result<T>> + Send + Unpin + '_ {
        let context = Context::read(T::TABLE.name, "stream");
        let refused = self.records().err();
        self.inner.table.lender.make_room();
        let rows = DB::fetch(self.pool(), self.inner.table.sql.select_all.clone());
        let rows =
            rows.map(move |row| row.and_then(|row| statement::read_row(&row)).map_err(|error| context.error(&error)));
        let rows = rows.scan(false, |failed, row| {
            let next = (!*failed).then_some(row);
            *failed |= next.as_ref().is_some_and(Result::is_err);
            std::future::ready(next)
        });
        match refused {
            None => rows.boxed(),
            Some(error) => futures_util::stream::iter([Err(error)]).boxed(),
        }
    }
}
