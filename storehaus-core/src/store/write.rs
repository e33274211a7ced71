//! Writes of one row.

use std::borrow::Borrow;
use std::panic::AssertUnwindSafe;

use chrono::Utc;
use futures_util::FutureExt as _;
use storehaus_cache::KeyRef;

use super::loader::TableLoader;
use super::{GenericStore, statement};
use crate::backend::Backend;
use crate::error::{Context, Result, StorehausError};
use crate::model::{AssignedBy, ModelKey, Persist};
use crate::sql::Insert;

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
    /// after the statement was sent.
    ///
    /// # Consistency
    /// When it returns, the row is durable as the database is configured, and the key is invalidated in every tier.
    ///
    /// # Cost
    /// One statement and, with Redis, one awaited command.
    pub async fn create(&self, row: T) -> Result<T> {
        self.insert("create", row, Insert::Keyed).await
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
    /// One statement and, with Redis, one awaited command.
    pub async fn upsert(&self, row: T) -> Result<T> {
        self.insert("upsert", row, Insert::Upsert).await
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
    /// One statement and, with Redis, one awaited command.
    pub async fn update<Q>(&self, id: &Q, mut row: T) -> Result<T>
    where
        T::Key: Borrow<Q>,
        Q: KeyRef<Owned = T::Key> + ?Sized,
    {
        let context = Context::write(T::TABLE.name, "update");
        let key = id.to_key();
        if row.key() != key {
            return Err(StorehausError::KeyMismatch(
                context.failed("the id passed is not the key of the row passed; pass the row's own key"),
            ));
        }
        row.before_update(Utc::now());
        self.write(context, vec![key], move |table| async move {
            let mut conn = table.pool.acquire().await.map_err(|error| context.unchanged().error(&error))?;
            match statement::update(&mut *conn, &table.sql, &row).await.map_err(|error| context.error(&error))? {
                Some(row) => Ok((row, Vec::new())),
                None => Err(StorehausError::NotFound(context.failed("no row has this key"))),
            }
        })
        .await
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
    /// One statement and, with Redis, one awaited command.
    pub async fn delete<Q>(&self, id: &Q) -> Result<bool>
    where
        T::Key: Borrow<Q>,
        Q: KeyRef<Owned = T::Key> + ?Sized,
    {
        let context = Context::write(T::TABLE.name, "delete");
        let key = id.to_key();
        self.write(context, vec![key.clone()], move |table| async move {
            let mut conn = table.pool.acquire().await.map_err(|error| context.unchanged().error(&error))?;
            let args = statement::key_args::<T, DB>(&key).map_err(|error| context.unchanged().error(&error))?;
            let deleted =
                DB::execute(&mut *conn, table.sql.delete.clone(), args).await.map_err(|error| context.error(&error))?;
            Ok((deleted > 0, Vec::new()))
        })
        .await
    }

    async fn insert(&self, operation: &'static str, mut row: T, insert: Insert) -> Result<T> {
        let context = Context::write(T::TABLE.name, operation);
        row.before_create(Utc::now());
        let assigned = is_assigned(&row.key());
        let (insert, keys) = if assigned { (Insert::Auto, Vec::new()) } else { (insert, vec![row.key()]) };
        self.write(context, keys, move |table| async move {
            let mut conn = table.pool.acquire().await.map_err(|error| context.unchanged().error(&error))?;
            let row =
                statement::insert(&mut *conn, &table.sql, insert, &row).await.map_err(|error| context.error(&error))?;
            let key = if assigned { vec![row.key()] } else { Vec::new() };
            Ok((row, key))
        })
        .await
    }

    /// The one way every write takes: the change, then the invalidation, on a task of its own so that neither is left
    /// half done when the caller goes away.
    ///
    /// `keys` are the rows it may change; `work` yields its result and further keys. They are invalidated however the
    /// change ended, unless it certainly changed nothing.
    pub(super) async fn write<R, F>(
        &self,
        context: Context,
        keys: Vec<T::Key>,
        work: impl FnOnce(TableLoader<T, DB>) -> F + Send + 'static,
    ) -> Result<R>
    where
        R: Send + 'static,
        F: Future<Output = Result<(R, Vec<T::Key>)>> + Send,
    {
        let cache = self.cache()?.cloned();
        let table = self.inner.table.clone();
        let task = async move {
            // Announced before the first statement: a runtime that is shut down drops this task wherever it stands.
            let change = match &cache {
                Some(cache) => Some(cache.announce(keys).await.map_err(|error| context.refused(&error))?),
                None => None,
            };
            let lost = || Err(StorehausError::OutcomeUnknown(context.failed("the write ended without a result")));
            let done = AssertUnwindSafe(work(table)).catch_unwind().await.unwrap_or_else(|_| lost());
            let Some(mut change) = change else { return done.map(|(result, _)| result) };
            match done {
                Err(error) if error.is_unchanged() => {
                    change.withdraw().await;
                    Err(error)
                }
                Err(error) => {
                    // The first error says more; what Redis did not confirm is remembered.
                    change.settle().await.ok();
                    Err(error)
                }
                Ok((result, more)) => {
                    change.add(more);
                    change.settle().await.map_err(|error| context.not_invalidated(&error))?;
                    Ok(result)
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

/// Whether the database makes this key.
pub(super) fn is_assigned<K: ModelKey>(key: &K) -> bool {
    K::ASSIGNED_BY == AssignedBy::Database && key.is_unset()
}
