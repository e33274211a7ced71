//! Invalidations that survive the writer: an outbox in the database, and relays that deliver from it.
//!
//! Triggers record in the table `storehaus_outbox`, within the transaction of each change, which rows of a model's
//! table were changed: by a store, by `psql`, by any other program. A [`Relay`] removes these rows from the caches and,
//! once that is confirmed, from the outbox. So an invalidation is lost neither with the process that made the change
//! nor with a Redis it could not reach.

#[cfg(feature = "postgres")]
mod postgres;
mod relay;
#[cfg(feature = "sqlite")]
mod sqlite;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use sqlx::Pool;
use storehaus_cache::CacheError;
use storehaus_cache::key::from_parts;
use storehaus_cache::loader::Loader;
use storehaus_cache::record::RecordCache;

use crate::backend::Backend;
use crate::error::{Context, Result, StorehausError};
use crate::haus::{Models, StoreHaus};
use crate::model::Persist;
use crate::schema::{Inspect, table_name};
pub use relay::{Relay, RelayOptions, RelayStats};

impl<DB: Outbox> StoreHaus<DB> {
    /// Records every change of these models' tables from now on: creates the table `storehaus_outbox` where the
    /// connection creates tables, unless `search_path` has one, and the triggers that are missing. What is there already
    /// is left as it is, without a lock.
    ///
    /// Call it again after a migration that changes the name, the key or the children of one of the tables. The changes
    /// are recorded for the cache with the global prefix of this one; programs with other prefixes record their own.
    ///
    /// ```no_run
    /// # use storehaus_core::{StoreHaus, model::Persist, outbox::RelayOptions};
    /// # async fn example<User: Persist<sqlx::Sqlite>, Post: Persist<sqlx::Sqlite>>(haus: StoreHaus<sqlx::Sqlite>)
    /// # -> storehaus_core::Result<()> {
    /// haus.install_outbox::<(User, Post)>().await?;
    /// let relay = haus.start_relay::<(User, Post)>(RelayOptions::default()).await?;
    /// # drop(relay); Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`StorehausError::SchemaMismatch`] when a model's table is missing or is a view, and when the outbox was made by
    /// another release; [`StorehausError::CacheDisabled`] without a cache; as the database.
    ///
    /// # Cost
    /// On Postgres, a table whose triggers are made waits for the transactions that write it, and lets no other write it
    /// meanwhile.
    pub async fn install_outbox<M: Models<DB>>(&self) -> Result<()> {
        const OPERATION: &str = "install_outbox";
        let cache = self.cache()?.config().prefix();
        let context = Context::read("", OPERATION);
        if !self.set_up_outbox().await.map_err(|error| context.error(&error))? {
            return Err(StorehausError::SchemaMismatch(context.failed(
                "the table storehaus_outbox is not the outbox of this release; use the release that made it, or drop the \
                 table and its functions and install it again",
            )));
        }
        for watch in M::watches(self)? {
            let record = async {
                // One after another, so that no two tables are locked at a time.
                let mut tx = self.pool().begin_with(DB::BEGIN).await?;
                DB::lock(&mut *tx, &watch.name).await?;
                DB::record(&mut *tx, cache, &watch).await?;
                tx.commit().await
            };
            record.await.map_err(|error| Context::read(watch.table, OPERATION).error(&error))?;
        }
        Ok(())
    }

    /// Ends what [`install_outbox`](Self::install_outbox) began for these models. What is recorded already stays for the
    /// relays; so does the table `storehaus_outbox`, which other models and programs may use.
    ///
    /// # Errors
    /// [`StorehausError::CacheDisabled`] without a cache; as the database.
    ///
    /// # Cost
    /// As [`install_outbox`](Self::install_outbox).
    pub async fn remove_outbox<M: Models<DB>>(&self) -> Result<()> {
        let cache = self.cache()?.config().prefix();
        for watch in M::watches(self)? {
            let forget = async {
                let mut tx = self.pool().begin_with(DB::BEGIN).await?;
                DB::lock(&mut *tx, &watch.name).await?;
                DB::forget(&mut *tx, cache, &watch).await?;
                tx.commit().await
            };
            forget.await.map_err(|error| Context::read(watch.table, "remove_outbox").error(&error))?;
        }
        Ok(())
    }

    /// Delivers recorded changes of these models, in the background, until the [`Relay`] is dropped or the pool closed.
    ///
    /// Any number of instances may do so: on Postgres they share the work, and each change is delivered at least once.
    /// One that nobody could deliver stays recorded. Each needs its table and models to be those of all: what is recorded
    /// is removed from every store of this manager on the table, under the prefixes that they have. **Without Redis** let
    /// one process alone start a relay, as the caches of the others would not hear of what it takes from the outbox.
    ///
    /// # Errors
    /// [`StorehausError::SchemaMismatch`] when changes of a model are not recorded, or by another key;
    /// [`StorehausError::CacheDisabled`] without a cache; as the database.
    ///
    /// # Consistency
    /// A change that no store invalidated is seen by reads from any tier at most
    /// [`RelayOptions::with_interval`] and the time of delivery after its COMMIT, as long as database and Redis can be
    /// reached; another instance's tier in process follows within its own bound.
    ///
    /// # Cost
    /// One statement per interval; per batch three statements and the invalidation. A change that a store made and
    /// invalidated is invalidated once more, so that its row may be loaded twice.
    pub async fn start_relay<M: Models<DB>>(&self, options: RelayOptions) -> Result<Relay> {
        const OPERATION: &str = "start_relay";
        let cache = self.cache()?.config().prefix();
        let mut targets = Vec::new();
        let error = |error| Context::read("", OPERATION).error(&error);
        let mut conn = self.pool().acquire().await.map_err(error)?;
        for watch in M::watches(self)? {
            let context = Context::read(watch.table, OPERATION);
            let relation = DB::recorded_as(&mut *conn, cache, &watch).await.map_err(|error| context.error(&error))?;
            let Some(relation) = relation else {
                return Err(StorehausError::SchemaMismatch(context.failed(format!(
                    "its changes are not recorded by its key for the cache {cache}; call install_outbox"
                ))));
            };
            targets.push((relation, watch.target));
        }
        drop(conn);
        Ok(relay::start(self, targets, cache, options))
    }

    /// What is recorded for this cache and not delivered yet, of all tables: also of those that no relay serves.
    ///
    /// # Errors
    /// [`StorehausError::SchemaMismatch`] when there is no outbox, [`StorehausError::CacheDisabled`] without a cache; as
    /// the database.
    ///
    /// # Cost
    /// One statement, which reads all of it.
    pub async fn outbox_backlog(&self) -> Result<Backlog> {
        let cache = self.cache()?.config().prefix();
        let (rows, age) =
            DB::backlog(self.pool(), cache).await.map_err(|error| Context::read("", "outbox_backlog").error(&error))?;
        let oldest = age.map(|seconds| Duration::try_from_secs_f64(seconds).unwrap_or_default());
        Ok(Backlog { rows: rows.unsigned_abs(), oldest })
    }

    /// Whether the outbox is of this release.
    async fn set_up_outbox(&self) -> Result<bool, sqlx::Error> {
        let mut tx = self.pool().begin_with(DB::BEGIN).await?;
        DB::lock(&mut *tx, "storehaus_outbox").await?;
        let is_known = DB::set_up(&mut *tx).await?;
        tx.commit().await?;
        Ok(is_known)
    }
}

/// What is recorded and not delivered yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Backlog {
    /// How many rows of the outbox: keys, or whole tables.
    pub rows: u64,
    /// The age of the oldest, counted from its change, not from the COMMIT; `None` without any.
    pub oldest: Option<Duration>,
}

/// A backend that can record changes.
pub trait Outbox: Inspect {
    /// Rows taken from the outbox that come back when this is dropped.
    #[doc(hidden)]
    type Hold: Send;

    /// Makes the outbox where there is none; `false` when there is one of another release.
    #[doc(hidden)]
    fn set_up(conn: &mut Self::Connection) -> impl Future<Output = Result<bool, sqlx::Error>> + Send;

    /// Begins to record the changes of a table.
    #[doc(hidden)]
    fn record(
        conn: &mut Self::Connection,
        cache: &str,
        watch: &Watch,
    ) -> impl Future<Output = Result<(), sqlx::Error>> + Send;

    /// Ends it.
    #[doc(hidden)]
    fn forget(
        conn: &mut Self::Connection,
        cache: &str,
        watch: &Watch,
    ) -> impl Future<Output = Result<(), sqlx::Error>> + Send;

    /// Under which name the changes of a table are recorded; `None` when they are not.
    #[doc(hidden)]
    fn recorded_as(
        conn: &mut Self::Connection,
        cache: &str,
        watch: &Watch,
    ) -> impl Future<Output = Result<Option<String>, sqlx::Error>> + Send;

    /// The next rows that nobody else holds, oldest first.
    #[doc(hidden)]
    fn take(pool: &Pool<Self>, queue: &Queue) -> impl Future<Output = Result<Option<Taken<Self>>, sqlx::Error>> + Send;

    /// Removes rows for good.
    #[doc(hidden)]
    fn done(hold: Self::Hold) -> impl Future<Output = Result<(), sqlx::Error>> + Send;

    /// How many rows there are, and the age of the oldest in seconds.
    #[doc(hidden)]
    fn backlog(pool: &Pool<Self>, cache: &str) -> impl Future<Output = Result<(i64, Option<f64>), sqlx::Error>> + Send;
}

/// Rows of the outbox, and what holds them.
type Taken<DB> = (Vec<Recorded>, <DB as Outbox>::Hold);

/// A row of the outbox.
#[doc(hidden)]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recorded {
    pub(crate) relation: String,
    /// The parts of the key; `None` for every row of the table.
    pub(crate) key: Option<Vec<String>>,
}

/// Which rows a relay takes.
#[doc(hidden)]
#[derive(Clone, Debug)]
pub struct Queue {
    pub(crate) cache: String,
    pub(crate) relations: Vec<String>,
    pub(crate) batch: i64,
}

/// A model whose changes are recorded.
#[doc(hidden)]
pub struct Watch {
    pub(crate) table: &'static str,
    /// As SQL names it.
    pub(crate) name: String,
    pub(crate) key: Vec<&'static str>,
    pub(crate) target: Arc<dyn Target>,
}

impl Watch {
    pub(crate) fn of<T: Persist<DB>, DB: Backend>(haus: &StoreHaus<DB>) -> Result<Self> {
        Ok(Self {
            table: T::TABLE.name,
            name: table_name(&T::TABLE, DB::DIALECT),
            key: T::TABLE.key.iter().map(|at| T::TABLE.columns[*at].name).collect(),
            target: haus.store::<T>().target()?,
        })
    }
}

impl std::fmt::Debug for Watch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watch").field("name", &self.name).field("key", &self.key).finish_non_exhaustive()
    }
}

/// The stores on a table, to which the key's type is known.
pub(crate) trait Target: Send + Sync {
    /// Removes the rows with these keys, each given by the texts of its parts, from every tier.
    fn invalidate<'a>(&'a self, keys: &'a [Vec<String>]) -> BoxFuture<'a, Result<(), CacheError>>;

    /// Removes every row from every tier.
    fn invalidate_table(&self) -> BoxFuture<'_, Result<(), CacheError>>;
}

impl<Ld: Loader> Target for RecordCache<Ld> {
    fn invalidate<'a>(&'a self, keys: &'a [Vec<String>]) -> BoxFuture<'a, Result<(), CacheError>> {
        let decoded: Option<Vec<Ld::Key>> = keys.iter().map(|parts| from_parts(parts)).collect();
        match decoded {
            Some(keys) => self.invalidate_confirmed(keys).boxed(),
            // Whichever row a key stands for that is none of the model: it goes.
            None => Self::invalidate_table(self).boxed(),
        }
    }

    fn invalidate_table(&self) -> BoxFuture<'_, Result<(), CacheError>> {
        Self::invalidate_table(self).boxed()
    }
}
