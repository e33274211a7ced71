//! The generic store: the operations on one model, on one database, behind one cache.

mod batch;
mod cache;
mod gather;
mod loader;
mod on;
mod read;
mod statement;
mod write;

use std::fmt;
use std::sync::Arc;

use sqlx::Pool;
use storehaus_cache::record::{RecordCache, StoreInfo, Tiers};
use storehaus_cache::{CacheManager, CacheParams};

use crate::backend::{Backend, DefaultBackend};
use crate::error::{Result, StorehausError};
use crate::lend::Lender;
use crate::model::{CacheMode, Persist};
use crate::outbox::Target;
pub use cache::StoreCache;
use loader::TableLoader;
pub use on::TxStore;

/// The rows of one model: create, read, update, delete, one at a time or in batches.
///
/// Reads by key come from the cache where there is one; every write invalidates what it changed, in every tier and
/// for every store on the same table, before it returns. Cheap to clone; clones share everything.
///
/// # Consistency
/// A read that starts after a write returned sees that write or a later one: on this instance always, on other
/// instances too while Redis can be reached by the writer (or to the bound chosen with
/// [`L1::Bounded`](storehaus_cache::L1::Bounded)).
///
/// # Cancel safety
/// A write runs to its end, invalidation included, when its future is dropped after its first poll: on a task of its
/// own. Reads may be dropped at any time.
pub struct GenericStore<T: Persist<DB>, DB: Backend = DefaultBackend> {
    inner: Arc<Inner<T, DB>>,
}

/// The cache of a store.
type Cache<T, DB> = RecordCache<TableLoader<T, DB>>;

struct Inner<T: Persist<DB>, DB: Backend> {
    table: TableLoader<T, DB>,
    /// The cache, or why there is none that works: each call of the store then fails with this.
    cache: Option<Result<Cache<T, DB>>>,
}

/// Will carry the events of a store. No value of it exists; pass `None` to [`GenericStore::new`].
#[derive(Clone, Copy, Debug)]
pub enum SignalManager {}

impl<T: Persist<DB>, DB: Backend> GenericStore<T, DB> {
    /// A store on `pool`, behind the cache of `cache`.
    ///
    /// Operations hand a connection of the pool from one to the next, so that its hooks (`before_acquire`,
    /// `after_release`) run when a connection leaves or enters the pool and not for each operation. What nobody wants for
    /// half a second goes back; while the pool has none left, one goes back every 10 ms.
    ///
    /// Without a cache every read asks the database, and writes invalidate nothing. To switch caching off for one
    /// store while its writes still invalidate the other stores on its table, pass
    /// [`CacheParams::disabled`](storehaus_cache::CacheParams::disabled).
    ///
    /// Parameters that are not allowed, such as a prefix that another model uses, make every call of the store fail
    /// with [`StorehausError::Cache`].
    pub fn new(pool: Pool<DB>, signals: Option<Arc<SignalManager>>, cache: Option<CacheParams>) -> Self {
        if let Some(signals) = signals {
            match *signals {}
        }
        Self::lent(Lender::new(pool), cache)
    }

    /// A store that shares what lends the connections.
    pub(crate) fn lent(lender: Lender<DB>, cache: Option<CacheParams>) -> Self {
        let table = TableLoader::new(lender);
        let cache = cache.map(|params| {
            let name = T::TABLE
                .schema
                .map_or_else(|| T::TABLE.name.to_owned(), |schema| format!("{schema}.{}", T::TABLE.name));
            let info = StoreInfo {
                table: &name,
                prefix: T::TABLE.prefix.unwrap_or(T::TABLE.name),
                ttl: T::TABLE.ttl,
                tiers: match T::TABLE.cache {
                    CacheMode::Shared => Tiers::All,
                    CacheMode::Local => Tiers::Local,
                    CacheMode::Never => Tiers::None,
                },
            };
            RecordCache::new(table.clone(), params, &info).map_err(StorehausError::Cache)
        });
        Self { inner: Arc::new(Inner { table, cache }) }
    }

    /// The manager of this store's cache.
    ///
    /// # Errors
    /// [`StorehausError::CacheDisabled`] when the store was made without one.
    pub fn cache_manager(&self) -> Result<&CacheManager> {
        match &self.inner.cache {
            Some(Ok(cache)) => Ok(cache.manager()),
            Some(Err(error)) => Err(error.clone()),
            None => Err(StorehausError::CacheDisabled(T::TABLE.name)),
        }
    }

    /// The key under which Redis holds a row.
    ///
    /// # Errors
    /// [`StorehausError::CacheDisabled`] when the store was made without a manager.
    pub fn cache_key<Q>(&self, id: &Q) -> Result<String>
    where
        Q: storehaus_cache::KeyRef<Owned = T::Key> + ?Sized,
    {
        match self.records()? {
            Some(cache) => Ok(cache.key(id)),
            None => Err(StorehausError::CacheDisabled(T::TABLE.name)),
        }
    }

    /// The pool.
    pub fn pool(&self) -> &Pool<DB> {
        self.inner.table.lender.pool()
    }

    /// Whether both are clones of one store.
    pub(crate) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.inner, &other.inner)
    }

    /// Where changes of the table that are made past this store go.
    pub(crate) fn target(&self) -> Result<Arc<dyn Target>> {
        match self.records()? {
            Some(cache) => Ok(Arc::new(cache.clone())),
            None => Err(StorehausError::CacheDisabled(T::TABLE.name)),
        }
    }

    /// The cache, if the store has one.
    pub(crate) fn records(&self) -> Result<Option<&Cache<T, DB>>> {
        match &self.inner.cache {
            None => Ok(None),
            Some(Ok(cache)) => Ok(Some(cache)),
            Some(Err(error)) => Err(error.clone()),
        }
    }
}

impl<T: Persist<DB>, DB: Backend> Clone for GenericStore<T, DB> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner) }
    }
}

impl<T: Persist<DB>, DB: Backend> fmt::Debug for GenericStore<T, DB> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GenericStore")
            .field("table", &T::TABLE.name)
            .field("database", &DB::NAME)
            .field("cached", &self.inner.cache.is_some())
            .finish_non_exhaustive()
    }
}
