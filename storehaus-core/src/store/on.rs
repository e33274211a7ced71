//! A store inside a transaction.

use std::borrow::Borrow;
use std::collections::HashMap;

use std::future::ready;

use futures_util::future::{BoxFuture, join};
use storehaus_cache::KeyRef;

use super::batch::{DeleteMany, InsertMany, UpdateMany};
use super::write::{DeleteOne, InsertOne, UpdateOne, Write, run};
use super::{GenericStore, statement};
use crate::backend::{Backend, Dialect};
use crate::error::{Context, Result, StorehausError};
use crate::model::Persist;
use crate::sql::Statements;
use crate::tx::{DROPPED, REFUSED, Tx};

/// The operations of a store inside a transaction: [`GenericStore::on`].
///
/// Each does what the method of [`GenericStore`] of its name does, with the same errors, on the transaction's connection.
/// The database takes an error for final more often than outside a transaction; see [`Tx`]. So does a store that was told
/// not to write without Redis ([`Coherence::Strict`](storehaus_cache::Coherence::Strict),
/// [`OnCacheDown::Refuse`](storehaus_cache::OnCacheDown::Refuse)): its write runs while it is announced, and when Redis does
/// not take the announcement it fails with [`StorehausError::Unavailable`], and the transaction, or the savepoint it is in,
/// can only be rolled back.
///
/// # Consistency
/// Reads see the transaction, and neither ask nor fill any cache. See [`Tx`].
///
/// # Cancel safety
/// See [`Tx`].
#[derive(Debug)]
pub struct TxStore<'t, T: Persist<DB>, DB: Backend> {
    store: &'t GenericStore<T, DB>,
    tx: &'t mut Tx<DB>,
}

impl<T: Persist<DB>, DB: Backend> GenericStore<T, DB> {
    /// This store inside a transaction, which must be one on the store's database.
    pub fn on<'t>(&'t self, tx: &'t mut Tx<DB>) -> TxStore<'t, T, DB> {
        TxStore { store: self, tx }
    }
}

impl<T: Persist<DB>, DB: Backend> TxStore<'_, T, DB> {
    /// The row with this key, or `None`.
    ///
    /// # Errors
    /// As [`GenericStore::get_by_id`].
    ///
    /// # Cost
    /// One statement.
    pub async fn get_by_id<Q>(&mut self, id: &Q) -> Result<Option<T>>
    where
        T::Key: Borrow<Q>,
        Q: KeyRef<Owned = T::Key> + ?Sized,
    {
        let key = id.to_key();
        self.read("get_by_id", async |conn, sql| statement::select_one(conn, sql, &key).await).await
    }

    /// As [`get_by_id`](Self::get_by_id), where a missing row is an error.
    ///
    /// # Errors
    /// As [`GenericStore::require`]. A row that is missing does not end the transaction.
    ///
    /// # Cost
    /// One statement.
    pub async fn require<Q>(&mut self, id: &Q) -> Result<T>
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
    /// As [`GenericStore::get_many`].
    ///
    /// # Cost
    /// One statement; on SQLite one per 32,766 key parts.
    pub async fn get_many(&mut self, ids: &[T::Key]) -> Result<Vec<Option<T>>> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let rows = self.read("get_many", async |conn, sql| statement::select_many(conn, sql, ids).await).await?;
        let rows: HashMap<_, _> = rows.into_iter().map(|row| (row.key(), row)).collect();
        Ok(ids.iter().map(|id| rows.get(id).cloned()).collect())
    }

    /// Whether there is a row with this key.
    ///
    /// # Errors
    /// As [`GenericStore::exists`].
    ///
    /// # Cost
    /// One statement.
    pub async fn exists<Q>(&mut self, id: &Q) -> Result<bool>
    where
        T::Key: Borrow<Q>,
        Q: KeyRef<Owned = T::Key> + ?Sized,
    {
        let key = id.to_key();
        self.read("exists", async |conn, sql| statement::exists(conn, sql, &key).await).await
    }

    /// How many rows there are.
    ///
    /// # Errors
    /// As [`GenericStore::count`].
    ///
    /// # Cost
    /// One statement, which reads the whole table on Postgres.
    pub async fn count(&mut self) -> Result<u64> {
        self.read("count", async |conn, sql| statement::count(conn, sql).await).await
    }

    /// Every row, in key order, all in memory at once.
    ///
    /// # Errors
    /// As [`GenericStore::list_all`].
    ///
    /// # Cost
    /// One statement.
    pub async fn list_all(&mut self) -> Result<Vec<T>> {
        self.read("list_all", async |conn, sql| statement::select_all(conn, sql).await).await
    }

    /// Inserts a row; the row as the database has it then.
    ///
    /// # Errors
    /// As [`GenericStore::create`].
    ///
    /// # Cost
    /// One statement and, with Redis, one command at the same time.
    pub async fn create(&mut self, row: T) -> Result<T> {
        self.write(InsertOne::create(row)).await
    }

    /// Inserts rows, all or none; the rows as the database has them then, in the order given.
    ///
    /// # Errors
    /// As [`GenericStore::create_many`]; the transaction goes on without them.
    ///
    /// # Cost
    /// Three statements (a savepoint, the rows, its release) and, with Redis, one round trip at the same time.
    pub async fn create_many(&mut self, rows: Vec<T>) -> Result<Vec<T>> {
        self.write(InsertMany::create(rows)?).await
    }

    /// Inserts a row, or updates the one that has its key; the row as the database has it then.
    ///
    /// # Errors
    /// As [`GenericStore::upsert`].
    ///
    /// # Cost
    /// As [`create`](Self::create).
    pub async fn upsert(&mut self, row: T) -> Result<T> {
        self.write(InsertOne::upsert(row)).await
    }

    /// Inserts rows or updates those that have their keys, all or none; the rows as the database has them then, in the
    /// order given.
    ///
    /// # Errors
    /// As [`GenericStore::upsert_many`]; the transaction goes on without them.
    ///
    /// # Cost
    /// As [`create_many`](Self::create_many).
    pub async fn upsert_many(&mut self, rows: Vec<T>) -> Result<Vec<T>> {
        self.write(InsertMany::upsert(rows)?).await
    }

    /// Writes every column of a row that an update may change; the row as the database has it then.
    ///
    /// # Errors
    /// As [`GenericStore::update`]. A row that is missing does not end the transaction.
    ///
    /// # Cost
    /// As [`create`](Self::create).
    pub async fn update<Q>(&mut self, id: &Q, row: T) -> Result<T>
    where
        T::Key: Borrow<Q>,
        Q: KeyRef<Owned = T::Key> + ?Sized,
    {
        self.write(UpdateOne::new(id, row)?).await
    }

    /// Updates rows, all or none; the rows as the database has them then, in the order given.
    ///
    /// # Errors
    /// As [`GenericStore::update_many`]; the transaction goes on without them.
    ///
    /// # Cost
    /// As [`create_many`](Self::create_many).
    pub async fn update_many(&mut self, rows: Vec<(T::Key, T)>) -> Result<Vec<T>> {
        self.write(UpdateMany::new(rows)?).await
    }

    /// Deletes the row with this key; whether there was one.
    ///
    /// # Errors
    /// As [`GenericStore::delete`].
    ///
    /// # Cost
    /// As [`create`](Self::create).
    pub async fn delete<Q>(&mut self, id: &Q) -> Result<bool>
    where
        T::Key: Borrow<Q>,
        Q: KeyRef<Owned = T::Key> + ?Sized,
    {
        self.write(DeleteOne::new(id)).await
    }

    /// Deletes the rows with these keys; how many there were.
    ///
    /// # Errors
    /// As [`GenericStore::delete_many`]; the transaction goes on as it was.
    ///
    /// # Cost
    /// As [`create_many`](Self::create_many).
    pub async fn delete_many(&mut self, ids: &[T::Key]) -> Result<u64> {
        self.write(DeleteMany::new(ids)).await
    }

    /// Says that SQL sent on the connection of the transaction changes this row; see [`Tx::touch`].
    ///
    /// # Errors
    /// As a write that the cache refuses.
    ///
    /// # Cost
    /// With Redis, one awaited command.
    pub async fn touch<Q>(&mut self, id: &Q) -> Result<()>
    where
        T::Key: Borrow<Q>,
        Q: KeyRef<Owned = T::Key> + ?Sized,
    {
        self.touch_many(&[id.to_key()]).await
    }

    /// As [`touch`](Self::touch), for many rows.
    ///
    /// # Errors
    /// As [`touch`](Self::touch).
    ///
    /// # Cost
    /// With Redis, one awaited round trip.
    pub async fn touch_many(&mut self, ids: &[T::Key]) -> Result<()> {
        let context = Context::read(T::TABLE.name, "touch");
        self.tx.ready(context).await?;
        let (_, level) = self.tx.parts(context)?;
        level.broken = Some(DROPPED);
        let announced = match level.changes.of(self.store).await? {
            Some(change) => change.announce(ids.to_vec()).await,
            None => Ok(()),
        };
        level.broken = announced.is_err().then_some(REFUSED);
        announced.map_err(|error| context.refused(&error))
    }

    async fn read<R>(
        &mut self,
        operation: &'static str,
        work: impl AsyncFnOnce(&mut DB::Connection, &Statements<T, DB>) -> Result<R, sqlx::Error>,
    ) -> Result<R> {
        let context = Context::read(T::TABLE.name, operation);
        self.store.records()?;
        self.tx.ready(context).await?;
        let was_doubtful = std::mem::replace(&mut self.tx.is_doubtful, true);
        let (conn, _) = self.tx.parts(context)?;
        let rows = Box::pin(work(conn, &self.store.inner.table.sql)).await.map_err(|error| context.error(&error))?;
        self.tx.is_doubtful = was_doubtful;
        Ok(rows)
    }

    /// The one way every write inside a transaction takes: announced while it is run.
    fn write<W: Write<T, DB>>(&mut self, write: W) -> BoxFuture<'_, Result<W::Done>> {
        Box::pin(async move {
            if let Some(done) = write.nothing() {
                return Ok(done);
            }
            let context = write.context().unchanged();
            self.tx.ready(context).await?;
            if self.tx.is_read_only() {
                return Err(StorehausError::InvalidInput(context.failed("the transaction is read-only")));
            }
            let (conn, level) = self.tx.parts(context)?;
            let mut change = level.changes.of(self.store).await?;
            level.broken = Some(DROPPED);
            let announce = async {
                match &mut change {
                    Some(change) => change.announce(write.keys()).await,
                    None => Ok(()),
                }
            };
            // The announcement is polled first: what is sent to the database is known to the change.
            let (announced, done) = join(
                announce,
                run(&write, conn, &self.store.inner.table.sql, context, write.is_batch(), ready(Ok(()))),
            )
            .await;
            if let (Some(change), Ok(done)) = (change, &done) {
                change.add(write.assigned(done));
            }
            level.broken = announced.is_err().then_some(REFUSED);
            // A row that is missing is no failure of the database.
            if done.as_ref().is_err_and(|error| !matches!(error, StorehausError::NotFound(_))) {
                self.tx.is_doubtful = true;
                if DB::DIALECT == Dialect::Sqlite {
                    // At once, as SQL of the caller's own may follow.
                    self.tx.verify(context).await.ok();
                }
            }
            announced.map_err(|error| context.refused(&error))?;
            done
        })
    }
}
