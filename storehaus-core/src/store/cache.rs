//! The cache of one store, by hand.

use std::fmt;

use storehaus_cache::{Explanation, KeyRef};

use super::{Cache, GenericStore};
use crate::backend::{Backend, DefaultBackend};
use crate::error::{Result, StorehausError};
use crate::model::{Model, Persist};

impl<T: Persist<DB>, DB: Backend> GenericStore<T, DB> {
    /// The cache of this store, to put rows into it, to remove them, and to ask what it holds.
    pub fn cache(&self) -> StoreCache<'_, T, DB> {
        StoreCache { store: self }
    }
}

/// The cache of one store: [`GenericStore::cache`].
///
/// Every call fails with [`StorehausError::CacheDisabled`] when the store was made without a cache, and with
/// [`StorehausError::Cache`] when its cache parameters are not allowed.
pub struct StoreCache<'a, T: Persist<DB>, DB: Backend = DefaultBackend> {
    store: &'a GenericStore<T, DB>,
}

impl<T: Persist<DB>, DB: Backend> StoreCache<'_, T, DB> {
    /// Replaces whatever the cache holds under the key of `row` by the row that the database has now; whether that is
    /// `row`. For a row that was changed by other means than the store, and for one about to be read often.
    ///
    /// `false` says that `row` is out of date, or that there is no such row any more, or that it cannot be encoded.
    ///
    /// # Errors
    /// As [`get_by_id`](GenericStore::get_by_id). A failing cache is none.
    ///
    /// # Consistency
    /// The database is read after every tier was invalidated, under a lease as by every read that fills: `row` itself is
    /// never stored, so one that was read long ago takes the place of no newer one.
    ///
    /// # Cancel safety
    /// Dropped after its first poll, the row is invalidated, and cached or not.
    ///
    /// # Cost
    /// As [`invalidate`](Self::invalidate) and a missed [`get_by_id`](GenericStore::get_by_id).
    pub async fn put(&self, row: &T) -> Result<bool> {
        self.records()?.put(&row.key(), row).await
    }

    /// Removes a row from every tier of every store on the table. For a row that was changed by other means than the
    /// store: once the change is committed.
    ///
    /// # Errors
    /// None beyond those of every call. What Redis does not confirm is remembered, and removed before this instance reads
    /// from Redis again.
    ///
    /// # Consistency
    /// When it returns, no read of this instance that starts afterwards is served an older row; where Redis confirmed, no
    /// read anywhere is.
    ///
    /// # Cancel safety
    /// Dropping the future after its first poll ends the wait for Redis and nothing else.
    ///
    /// # Cost
    /// With Redis, one awaited command.
    pub async fn invalidate<Q: KeyRef<Owned = T::Key> + ?Sized>(&self, id: &Q) -> Result<()> {
        self.records()?.invalidate(&[id.to_key()]).await;
        Ok(())
    }

    /// What every tier holds under the key of a row, who filled it and when, how long it stays, and what invalidated it
    /// last. Holds nothing of the row; prints as one line. Changes nothing and counts as no read.
    ///
    /// # Errors
    /// None beyond those of every call: what Redis fails with stands in the answer.
    ///
    /// # Consistency
    /// A look at each tier, one after the other; together they are no snapshot.
    ///
    /// # Cost
    /// With Redis, two commands sent together, one of which transfers the entry.
    pub async fn explain<Q: KeyRef<Owned = T::Key> + ?Sized>(&self, id: &Q) -> Result<Explanation> {
        Ok(self.records()?.explain(id).await)
    }

    fn records(&self) -> Result<&Cache<T, DB>> {
        self.store.records()?.ok_or(StorehausError::CacheDisabled(<T as Model>::TABLE.name))
    }
}

impl<T: Persist<DB>, DB: Backend> fmt::Debug for StoreCache<'_, T, DB> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreCache").field("store", self.store).finish()
    }
}
