//! Writes: what they have in common, and those of one row.

use std::borrow::Borrow;
use std::future::{poll_fn, ready};
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::task::Poll;

use chrono::Utc;
use futures_util::FutureExt as _;
use futures_util::future::join;
use storehaus_cache::KeyRef;
#[cfg(storehaus_broken)]
use storehaus_cache::broken::{self, Bug};
use storehaus_cache::record::RecordCache;

use super::{GenericStore, TableLoader, statement};
use crate::backend::Backend;
use crate::error::{Context, Result, StorehausError};
use crate::model::{AssignedBy, Model, ModelKey, Persist};
use crate::sql::{Insert, Statements};
use crate::tx::Unit;

/// A write, apart from the connection it runs on: a connection of the pool, or that of a transaction.
pub(super) trait Write<T: Persist<DB>, DB: Backend>: Send + Sync + 'static {
    /// What it yields.
    type Done: Send + 'static;

    /// What its errors name.
    fn context(&self) -> Context;

    /// The rows it may change, as far as they are known before.
    fn keys(&self) -> Vec<T::Key>;

    /// What it yields without being run, when there is nothing to do.
    fn nothing(&self) -> Option<Self::Done> {
        None
    }

    /// Whether it is about many rows.
    fn is_batch(&self) -> bool {
        false
    }

    /// Whether it takes several statements, or finds out late that it must change nothing.
    fn is_several(&self) -> bool {
        false
    }

    /// Runs its statements. What an error leaves behind is undone by the caller where it [is several](Self::is_several).
    fn run(
        &self,
        conn: &mut DB::Connection,
        sql: &Statements<T, DB>,
        context: Context,
    ) -> impl Future<Output = Result<Self::Done>> + Send;

    /// The rows it changed of which the database made the keys.
    fn assigned(&self, _done: &Self::Done) -> Vec<T::Key> {
        Vec::new()
    }

    /// Finds out which row of a batch an error is about, on a connection where it changed nothing.
    fn locate(
        &self,
        _conn: &mut DB::Connection,
        _sql: &Statements<T, DB>,
        error: StorehausError,
    ) -> impl Future<Output = StorehausError> + Send {
        ready(error)
    }
}

/// Runs a write as one: entirely or not at all, in a transaction of its own or a savepoint where `as_unit`. There it is kept
/// when `announced` says so, which is awaited beside its statements; else that comes before them.
pub(super) async fn run<T: Persist<DB>, DB: Backend, W: Write<T, DB>>(
    write: &W,
    conn: &mut DB::Connection,
    sql: &Statements<T, DB>,
    context: Context,
    as_unit: bool,
    announced: impl Future<Output = Result<()>> + Send,
) -> Result<W::Done> {
    let done = if as_unit {
        let before = context.unchanged();
        let mut announced = pin!(announced);
        // Where it is refused at once, as in an outage, the database is not asked for what would be undone.
        let at_once = poll_fn(|cx| Poll::Ready(announced.as_mut().poll(cx))).await;
        if let Poll::Ready(Err(error)) = at_once {
            return Err(error);
        }
        let announced = async { if at_once.is_ready() { Ok(()) } else { announced.await } };
        let statements = async {
            let mut unit = Unit::<DB>::begin(&mut *conn).await.map_err(|error| before.error(&error))?;
            let done = write.run(unit.conn(), sql, before).await;
            Ok::<_, StorehausError>((unit, done))
        };
        // Both to their end, whatever becomes of the other: an announcement that is cut short is one to be removed.
        let (announced, ran) = join(announced, statements).await;
        let (unit, done) = ran?;
        match announced.and(done) {
            Ok(done) => {
                unit.keep().await.map_err(|error| context.error(&error))?;
                Ok(done)
            }
            Err(error) => {
                unit.undo().await.map_err(|_| error.clone())?;
                Err(error)
            }
        }
    } else {
        announced.await?;
        write.run(&mut *conn, sql, context).await
    };
    match done {
        Ok(done) => Ok(done),
        Err(error) => Err(write.locate(conn, sql, error).await),
    }
}

pub(super) struct InsertOne<T> {
    context: Context,
    row: T,
    insert: Insert,
}

impl<T: Model> InsertOne<T> {
    pub(super) fn create(row: T) -> Self {
        Self::new("create", row, Insert::Keyed)
    }

    pub(super) fn upsert(row: T) -> Self {
        Self::new("upsert", row, Insert::Upsert)
    }

    fn new(operation: &'static str, mut row: T, insert: Insert) -> Self {
        row.before_create(Utc::now());
        let insert = if is_assigned(&row.key()) { Insert::Auto } else { insert };
        Self { context: Context::write(T::TABLE.name, operation), row, insert }
    }
}

impl<T: Persist<DB>, DB: Backend> Write<T, DB> for InsertOne<T> {
    type Done = T;

    fn context(&self) -> Context {
        self.context
    }

    fn keys(&self) -> Vec<T::Key> {
        if self.insert == Insert::Auto { Vec::new() } else { vec![self.row.key()] }
    }

    async fn run(&self, conn: &mut DB::Connection, sql: &Statements<T, DB>, context: Context) -> Result<T> {
        statement::insert(conn, sql, self.insert, &self.row).await.map_err(|error| context.error(&error))
    }

    fn assigned(&self, done: &T) -> Vec<T::Key> {
        if self.insert == Insert::Auto { vec![done.key()] } else { Vec::new() }
    }
}

pub(super) struct UpdateOne<T> {
    context: Context,
    row: T,
}

impl<T: Model> UpdateOne<T> {
    pub(super) fn new<Q: KeyRef<Owned = T::Key> + ?Sized>(id: &Q, mut row: T) -> Result<Self> {
        let context = Context::write(T::TABLE.name, "update");
        if row.key() != id.to_key() {
            return Err(StorehausError::KeyMismatch(
                context.failed("the id passed is not the key of the row passed; pass the row's own key"),
            ));
        }
        row.before_update(Utc::now());
        Ok(Self { context, row })
    }
}

impl<T: Persist<DB>, DB: Backend> Write<T, DB> for UpdateOne<T> {
    type Done = T;

    fn context(&self) -> Context {
        self.context
    }

    fn keys(&self) -> Vec<T::Key> {
        vec![self.row.key()]
    }

    async fn run(&self, conn: &mut DB::Connection, sql: &Statements<T, DB>, context: Context) -> Result<T> {
        let row = statement::update(conn, sql, &self.row).await.map_err(|error| context.error(&error))?;
        row.ok_or_else(|| StorehausError::NotFound(context.failed("no row has this key")))
    }
}

pub(super) struct DeleteOne<T: Model> {
    context: Context,
    key: T::Key,
}

impl<T: Model> DeleteOne<T> {
    pub(super) fn new<Q: KeyRef<Owned = T::Key> + ?Sized>(id: &Q) -> Self {
        Self { context: Context::write(T::TABLE.name, "delete"), key: id.to_key() }
    }
}

impl<T: Persist<DB>, DB: Backend> Write<T, DB> for DeleteOne<T> {
    /// Whether there was such a row.
    type Done = bool;

    fn context(&self) -> Context {
        self.context
    }

    fn keys(&self) -> Vec<T::Key> {
        vec![self.key.clone()]
    }

    async fn run(&self, conn: &mut DB::Connection, sql: &Statements<T, DB>, context: Context) -> Result<bool> {
        let args = statement::key_args::<T, DB>(&self.key).map_err(|error| context.unchanged().error(&error))?;
        let deleted = DB::execute(conn, sql.delete.clone(), args).await.map_err(|error| context.error(&error))?;
        Ok(deleted > 0)
    }
}

impl<T: Persist<DB>, DB: Backend> GenericStore<T, DB> {
    /// Inserts a row; the row as the database has it then.
    ///
    /// A key that is unset is made: a nil `Uuid` becomes a UUIDv7, a zero integer is assigned by the database. On Postgres
    /// a key that the caller gives does not advance the sequence: one that the database assigns later may conflict with it.
    /// `#[created_at]` and `#[updated_at]` are set to now.
    ///
    /// # Errors
    /// [`StorehausError::Conflict`] when the key or another unique value is taken; [`StorehausError::ForeignKey`],
    /// [`StorehausError::InvalidInput`]; as the database. [`StorehausError::OutcomeUnknown`] when the connection broke
    /// after the statement was sent. Where the store was told not to write without Redis:
    /// [`StorehausError::Unavailable`] before the statement is sent, [`StorehausError::NotInvalidated`] after it; see
    /// [`Coherence`](storehaus_cache::Coherence) and [`OnCacheDown`](storehaus_cache::OnCacheDown).
    ///
    /// # Consistency
    /// When it returns, the row is durable as the database is configured, and the key is invalidated in every tier.
    ///
    /// # Cost
    /// One statement and, with Redis, two awaited round trips: one before and one after it. A key that the database
    /// assigns, and [`Coherence::Ttl`](storehaus_cache::Coherence::Ttl), take one.
    pub async fn create(&self, row: T) -> Result<T> {
        self.write(InsertOne::create(row)).await
    }

    /// Inserts a row, or updates the one that has its key; the row as the database has it then.
    ///
    /// Columns that an update does not write (`#[readonly]`, `#[created_at]`, `#[generated]`) keep what they have.
    ///
    /// # Errors
    /// As [`create`](Self::create); a conflict is one with another unique value, not with the key.
    ///
    /// # Consistency
    /// As [`create`](Self::create).
    ///
    /// # Cost
    /// As [`create`](Self::create).
    pub async fn upsert(&self, row: T) -> Result<T> {
        self.write(InsertOne::upsert(row)).await
    }

    /// Writes every column of a row that an update may change; the row as the database has it then.
    ///
    /// # Errors
    /// [`StorehausError::NotFound`] when there is no such row, [`StorehausError::KeyMismatch`] when `id` is not the key
    /// of `row`; else as [`create`](Self::create).
    ///
    /// # Consistency
    /// When it returns, the row is durable as the database is configured, and no read that starts afterwards is served
    /// an older one from a tier that confirmed the invalidation; see [`GenericStore`].
    ///
    /// # Cost
    /// As [`create`](Self::create).
    pub async fn update<Q>(&self, id: &Q, row: T) -> Result<T>
    where
        T::Key: Borrow<Q>,
        Q: KeyRef<Owned = T::Key> + ?Sized,
    {
        self.write(UpdateOne::new(id, row)?).await
    }

    /// Deletes the row with this key; whether there was one.
    ///
    /// # Errors
    /// [`StorehausError::ForeignKey`] when other rows point at it; else as [`create`](Self::create).
    ///
    /// # Consistency
    /// As [`update`](Self::update).
    ///
    /// # Cost
    /// As [`create`](Self::create).
    pub async fn delete<Q>(&self, id: &Q) -> Result<bool>
    where
        T::Key: Borrow<Q>,
        Q: KeyRef<Owned = T::Key> + ?Sized,
    {
        self.write(DeleteOne::new(id)).await
    }

    /// The one way every write outside a transaction takes: announced, run and ended on a task of its own, so that
    /// nothing is left half done when the caller goes away. What it may have changed is invalidated however it ended,
    /// unless it certainly changed nothing.
    pub(super) async fn write<W: Write<T, DB>>(&self, write: W) -> Result<W::Done> {
        if let Some(done) = write.nothing() {
            return Ok(done);
        }
        let context = write.context();
        let cache = self.records()?.cloned();
        let table = self.inner.table.clone();
        let task = async move {
            let mut change = None;
            let keys = if cache.is_some() { write.keys() } else { Vec::new() };
            // Announcing many rows takes about as long as BEGIN and COMMIT, and beside the statement no time at all.
            let is_long = keys.len() >= MANY && cache.as_ref().is_some_and(RecordCache::is_shared);
            let as_unit = write.is_several() || is_long;
            // Before anything can be committed: a runtime that is shut down drops this task wherever it stands.
            let announced = async {
                let Some(cache) = &cache else { return Ok(()) };
                change = Some(cache.announce(keys).boxed().await.map_err(|error| context.refused(&error))?);
                #[cfg(storehaus_broken)]
                if broken::is(Bug::InvalidateFirst) {
                    change = change.take().expect("just set").settle().await.ok().and(None);
                }
                Ok(())
            };
            let lost = || Err(StorehausError::OutcomeUnknown(context.failed("the write ended without a result")));
            let done = AssertUnwindSafe(on_pool(&table, &write, as_unit, announced).boxed())
                .catch_unwind()
                .await
                .unwrap_or_else(|_| lost());
            let Some(mut change) = change else { return done };
            match done {
                #[cfg(storehaus_broken)]
                Err(error) if broken::is(Bug::UnknownIsNothing) => {
                    change.withdraw().await;
                    Err(error)
                }
                Err(error) if error.is_unchanged() => {
                    change.withdraw().await;
                    Err(error)
                }
                Err(error @ StorehausError::OutcomeUnknown(_)) => {
                    change.doubt().await;
                    Err(error)
                }
                Err(error) => {
                    // The first error says more; what Redis did not confirm is remembered.
                    change.settle().await.ok();
                    Err(error)
                }
                Ok(done) => {
                    change.add(write.assigned(&done));
                    #[cfg(storehaus_broken)]
                    if broken::is(Bug::AcknowledgeFirst) {
                        drop(tokio::spawn(change.settle()));
                        return Ok(done);
                    }
                    change.settle().await.map_err(|error| context.not_invalidated(&error))?;
                    Ok(done)
                }
            }
        };
        match tokio::spawn(task).await {
            Ok(result) => result,
            Err(_) => Err(StorehausError::OutcomeUnknown(
                context.failed("the runtime was shut down while the write was under way"),
            )),
        }
    }
}

async fn on_pool<T: Persist<DB>, DB: Backend, W: Write<T, DB>>(
    table: &TableLoader<T, DB>,
    write: &W,
    as_unit: bool,
    announced: impl Future<Output = Result<()>> + Send,
) -> Result<W::Done> {
    let context = write.context();
    let acquire = || async { table.lender.acquire(false).await.map_err(|error| context.unchanged().error(&error)) };
    if !as_unit {
        // No connection is kept from others meanwhile.
        announced.await?;
        let mut conn = acquire().await?;
        let done = run(write, &mut conn, &table.sql, context, false, ready(Ok(()))).await;
        conn.done(&done);
        return done;
    }
    let mut conn = acquire().await?;
    let done = run(write, &mut conn, &table.sql, context, true, announced).await;
    conn.done(&done);
    done
}

/// From so many rows on, a batch is announced while its statement runs.
const MANY: usize = 100;

/// Whether the database makes this key.
pub(super) fn is_assigned<K: ModelKey>(key: &K) -> bool {
    K::ASSIGNED_BY == AssignedBy::Database && key.is_unset()
}
