//! The entry point: one database, one cache, and the stores on them.

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sqlx::Pool;
use storehaus_cache::{AuditOptions, CacheConfig, CacheManager, CacheParams, Ttl};

use crate::backend::{Backend, DefaultBackend};
use crate::error::{Context, Result, StorehausError};
use crate::lend::{Connections, Lender};
use crate::model::Persist;
use crate::outbox::Watch;
use crate::schema::{self, Inspect};
use crate::store::GenericStore;

/// One database and one cache, and the stores on them. Cheap to clone; clones share everything.
pub struct StoreHaus<DB: Backend = DefaultBackend> {
    inner: Arc<Inner<DB>>,
}

struct Inner<DB: Backend> {
    lender: Lender<DB>,
    cache: Option<CacheManager>,
    /// The stores handed out by [`StoreHaus::store`], so that all callers share their in-process tier. Guards the map
    /// alone.
    stores: Mutex<HashMap<TypeId, Box<dyn Any + Send + Sync>>>,
}

impl<DB: Backend> StoreHaus<DB> {
    /// Opens a database by its URL, with a cache in this process: one hour TTL, 10,000 rows per store.
    ///
    /// For Redis, or a pool of your own, use [`builder`](Self::builder).
    ///
    /// # Errors
    /// [`StorehausError::Unavailable`] when the database cannot be reached, [`StorehausError::Database`] when the URL is
    /// wrong.
    pub async fn open(url: &str) -> Result<Self> {
        Self::builder().url(url).cache(CacheConfig::in_process(Ttl::MEDIUM, "storehaus")).build().await
    }

    /// Says step by step which database and which cache.
    pub fn builder() -> Builder<DB> {
        Builder { database: None, cache: None }
    }

    /// The store of a model, with the cache's defaults. Every call yields the same store.
    pub fn store<T: Persist<DB>>(&self) -> GenericStore<T, DB> {
        let mut stores = self.inner.stores.lock().unwrap_or_else(PoisonError::into_inner);
        let store = stores.entry(TypeId::of::<T>()).or_insert_with(|| Box::new(self.new_store::<T>(|params| params)));
        match store.downcast_ref::<GenericStore<T, DB>>() {
            Some(store) => store.clone(),
            // The entry of T's type id holds a store of T.
            None => self.new_store(|params| params),
        }
    }

    /// A store of a model with cache parameters of its own.
    ///
    /// Each call makes another store with an in-process tier of its own; keep it and clone it.
    pub fn store_with<T: Persist<DB>>(&self, params: impl FnOnce(CacheParams) -> CacheParams) -> GenericStore<T, DB> {
        self.new_store(params)
    }

    /// Creates what is missing in the database for these models: tables, columns, unique constraints, indexes. Never
    /// drops or alters anything that is there.
    ///
    /// ```no_run
    /// # use storehaus_core::{StoreHaus, model::Persist};
    /// # async fn example<User: Persist<sqlx::Sqlite>, Post: Persist<sqlx::Sqlite>>(haus: StoreHaus<sqlx::Sqlite>)
    /// # -> storehaus_core::Result<()> {
    /// haus.create_missing_tables::<(User, Post)>().await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`StorehausError::SchemaMismatch`] when a column cannot be added, with the reason and the fix.
    pub async fn create_missing_tables<M: Models<DB>>(&self) -> Result<()> {
        M::create_missing(self).await
    }

    /// Compares these models with the tables of the database.
    ///
    /// # Errors
    /// [`StorehausError::SchemaMismatch`] with every difference that would make reads or writes fail or be wrong.
    pub async fn check_schema<M: Models<DB>>(&self) -> Result<()> {
        M::check(self).await
    }

    /// The cache manager.
    ///
    /// # Errors
    /// [`StorehausError::CacheDisabled`] when it was built without a cache.
    pub fn cache(&self) -> Result<&CacheManager> {
        self.inner.cache.as_ref().ok_or(StorehausError::CacheDisabled("every model"))
    }

    /// Begins to compare a share of the cache hits of all stores with the database: see
    /// [`CacheManager::audit`].
    ///
    /// ```no_run
    /// # use storehaus_cache::AuditOptions;
    /// # fn example(haus: storehaus_core::StoreHaus<sqlx::Sqlite>) -> storehaus_core::Result<()> {
    /// haus.audit(AuditOptions::new(0.01))?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`StorehausError::CacheDisabled`] when it was built without a cache, [`StorehausError::Cache`] for options that are
    /// not allowed, and outside a tokio runtime.
    pub fn audit(&self, options: AuditOptions) -> Result<()> {
        Ok(self.cache()?.audit(options)?)
    }

    /// The pool.
    pub fn pool(&self) -> &Pool<DB> {
        self.inner.lender.pool()
    }

    /// How the connections of the pool are used now. For metrics: where operations wait for long, the pool is too small or
    /// the database too slow.
    pub fn connections(&self) -> Connections {
        self.inner.lender.connections()
    }

    /// Waits until writes and fills under way are done, then closes the pool; at most `limit` long.
    ///
    /// # Errors
    /// [`StorehausError::Timeout`] when something was still under way after `limit`.
    pub async fn shutdown(&self, limit: Duration) -> Result<()> {
        let end = async {
            if let Some(cache) = &self.inner.cache {
                cache.settle().await;
            }
            let close = self.pool().close();
            self.inner.lender.give_back();
            close.await;
        };
        tokio::time::timeout(limit, end).await.map_err(|_| {
            let context = Context::read("", "shutdown");
            StorehausError::Timeout(context.failed(format!("work was still under way after {limit:?}")))
        })
    }

    /// What lends the connections of the pool to the stores.
    pub(crate) fn lender(&self) -> &Lender<DB> {
        &self.inner.lender
    }

    fn new_store<T: Persist<DB>>(&self, params: impl FnOnce(CacheParams) -> CacheParams) -> GenericStore<T, DB> {
        let cache = self.inner.cache.as_ref().map(|manager| params(CacheParams::new(manager)));
        GenericStore::lent(self.inner.lender.clone(), cache)
    }
}

impl<DB: Backend> Clone for StoreHaus<DB> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner) }
    }
}

impl<DB: Backend> fmt::Debug for StoreHaus<DB> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreHaus")
            .field("database", &DB::NAME)
            .field("cache", &self.inner.cache)
            .finish_non_exhaustive()
    }
}

/// Builds a [`StoreHaus`].
#[must_use]
pub struct Builder<DB: Backend = DefaultBackend> {
    database: Option<Database<DB>>,
    cache: Option<Cache>,
}

enum Database<DB: Backend> {
    Url(String),
    Pool(Pool<DB>),
}

enum Cache {
    Config(CacheConfig),
    Manager(CacheManager),
}

impl<DB: Backend> Builder<DB> {
    /// Opens this URL. On Postgres: 16 connections, 2 s to acquire one, a ping only for one idle longer than a second.
    /// On SQLite: WAL, foreign keys on, 8 connections (one for `:memory:`), 5 s busy timeout.
    pub fn url(mut self, url: impl Into<String>) -> Self {
        self.database = Some(Database::Url(url.into()));
        self
    }

    /// Uses this pool.
    pub fn database(mut self, pool: Pool<DB>) -> Self {
        self.database = Some(Database::Pool(pool));
        self
    }

    /// Caches as configured. Without this or [`cache_manager`](Self::cache_manager) nothing is cached.
    pub fn cache(mut self, config: CacheConfig) -> Self {
        self.cache = Some(Cache::Config(config));
        self
    }

    /// Caches through a manager made before.
    pub fn cache_manager(mut self, manager: impl Into<CacheManager>) -> Self {
        self.cache = Some(Cache::Manager(manager.into()));
        self
    }

    /// Opens the database. Does not contact Redis: a cache that is down delays nothing.
    ///
    /// # Errors
    /// [`StorehausError::InvalidInput`] when no database was named, [`StorehausError::Cache`] when the cache
    /// configuration is not allowed; else as [`StoreHaus::open`].
    pub async fn build(self) -> Result<StoreHaus<DB>> {
        let context = Context::read("", "open");
        let cache = match self.cache {
            None => None,
            Some(Cache::Manager(manager)) => Some(manager),
            Some(Cache::Config(config)) => Some(CacheManager::new(config)?),
        };
        let pool = match self.database {
            Some(Database::Pool(pool)) => pool,
            Some(Database::Url(url)) => DB::open(&url).await.map_err(|error| match error {
                // Nothing else holds a connection of a new pool.
                sqlx::Error::PoolTimedOut => {
                    StorehausError::Unavailable(context.failed("the database accepted no connection in time"))
                }
                error => context.error(&error),
            })?,
            None => {
                return Err(StorehausError::InvalidInput(
                    context.failed("no database was named; call url(…) or database(pool) on the builder"),
                ));
            }
        };
        Ok(StoreHaus { inner: Arc::new(Inner { lender: Lender::new(pool), cache, stores: Mutex::default() }) })
    }
}

impl<DB: Backend> fmt::Debug for Builder<DB> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The URL may carry a password.
        f.debug_struct("Builder")
            .field("database", &self.database.is_some())
            .field("cache", &self.cache.is_some())
            .finish_non_exhaustive()
    }
}

/// Models by their types, as a tuple: `(User, Post)`; a single one as `(User,)`.
pub trait Models<DB: Backend>: sealed::Sealed {
    #[doc(hidden)]
    fn create_missing(haus: &StoreHaus<DB>) -> impl Future<Output = Result<()>> + Send;

    #[doc(hidden)]
    fn check(haus: &StoreHaus<DB>) -> impl Future<Output = Result<()>> + Send;

    #[doc(hidden)]
    fn watches(haus: &StoreHaus<DB>) -> Result<Vec<Watch>>;
}

mod sealed {
    #[expect(unnameable_types, reason = "sealing needs a trait nobody can name")]
    pub trait Sealed {}
}

macro_rules! models {
    ($($model:ident)*) => {
        impl<$($model),*> sealed::Sealed for ($($model,)*) {}

        impl<DB: Inspect, $($model: Persist<DB>),*> Models<DB> for ($($model,)*) {
            async fn create_missing(haus: &StoreHaus<DB>) -> Result<()> {
                let context = |table| Context::read(table, "create_missing_tables");
                let mut tx = haus.pool().begin_with(DB::BEGIN).await.map_err(|error| context("").error(&error))?;
                $(
                    schema::create_missing::<DB, $model>(&mut *tx)
                        .await
                        .map_err(|error| context($model::TABLE.name).schema(error))?;
                )*
                tx.commit().await.map_err(|error| context("").error(&error))
            }

            async fn check(haus: &StoreHaus<DB>) -> Result<()> {
                let context = |table| Context::read(table, "check_schema");
                let mut conn = haus.pool().acquire().await.map_err(|error| context("").error(&error))?;
                let mut differences = Vec::new();
                $(
                    differences.extend(
                        schema::check::<DB, $model>(&mut *conn)
                            .await
                            .map_err(|error| context($model::TABLE.name).schema(error))?,
                    );
                )*
                if differences.is_empty() { Ok(()) } else { Err(context("").differences(&differences)) }
            }

            fn watches(haus: &StoreHaus<DB>) -> Result<Vec<Watch>> {
                Ok(vec![$(Watch::of::<$model, DB>(haus)?),*])
            }
        }
    };
}

models!(A);
models!(A B);
models!(A B C);
models!(A B C D);
models!(A B C D E);
models!(A B C D E F);
models!(A B C D E F G);
models!(A B C D E F G H);
models!(A B C D E F G H I);
models!(A B C D E F G H I J);
models!(A B C D E F G H I J K);
models!(A B C D E F G H I J K L);
