//! Writes of many rows: all or nothing, and in a number of statements that does not grow with the rows (on SQLite: in
//! one per 32,766 parameters).

use std::collections::HashMap;

use chrono::Utc;
use sqlx::{Connection as _, SqlStr, Transaction};

use super::write::is_assigned;
use super::{GenericStore, statement};
use crate::backend::{Backend, Dialect};
use crate::error::{Context, Result, StorehausError};
use crate::model::Persist;
use crate::sql::{Insert, Statements};

impl<T: Persist<DB>, DB: Backend> GenericStore<T, DB> {
    /// Inserts rows, all or none; the rows as the database has them then, in the order given.
    ///
    /// # Errors
    /// As [`create`](Self::create), with the place of the row that failed in [`StorehausError::row`]. To find it, the
    /// batch is tried again in halves inside transactions that are rolled back. On Postgres a conflict of a batch with keys
    /// that the database assigns names no row.
    ///
    /// # Consistency
    /// As [`create`](Self::create), for all rows together.
    ///
    /// # Cost
    /// One statement (two where only some of the keys are unset) and, with Redis, one awaited round trip.
    pub async fn create_many(&self, rows: Vec<T>) -> Result<Vec<T>> {
        self.insert_many("create_many", rows, Insert::Keyed).await
    }

    /// Inserts rows or updates those that have their keys, all or none; the rows as the database has them then, in the
    /// order given.
    ///
    /// # Errors
    /// As [`create_many`](Self::create_many); [`StorehausError::InvalidInput`] when a key stands twice.
    ///
    /// # Consistency
    /// As [`create`](Self::create), for all rows together.
    ///
    /// # Cost
    /// As [`create_many`](Self::create_many).
    pub async fn upsert_many(&self, rows: Vec<T>) -> Result<Vec<T>> {
        self.insert_many("upsert_many", rows, Insert::Upsert).await
    }

    /// Updates rows, all or none; the rows as the database has them then, in the order given.
    ///
    /// # Errors
    /// [`StorehausError::NotFound`] when one of them does not exist, [`StorehausError::KeyMismatch`] when an id is not
    /// the key of its row, [`StorehausError::InvalidInput`] when a key stands twice; else as
    /// [`update`](Self::update). [`StorehausError::row`] names the row.
    ///
    /// # Consistency
    /// As [`update`](Self::update), for all rows together: no reader of the database sees some of them changed.
    ///
    /// # Cost
    /// Three statements, BEGIN and COMMIT among them, and, with Redis, one awaited round trip.
    pub async fn update_many(&self, rows: Vec<(T::Key, T)>) -> Result<Vec<T>> {
        let context = Context::write(T::TABLE.name, "update_many");
        if let Some(at) = rows.iter().position(|(id, row)| row.key() != *id) {
            let reason = "the id passed is not the key of the row passed; pass the row's own key";
            return Err(StorehausError::KeyMismatch(context.failed(reason)).at_row(at));
        }
        let (keys, mut rows): (Vec<_>, Vec<_>) = rows.into_iter().unzip();
        refuse_twice(&context, &keys)?;
        let now = Utc::now();
        rows.iter_mut().for_each(|row| row.before_update(now));
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        self.write(context, keys, move |table| async move {
            let before = context.unchanged();
            let mut conn = table.pool.acquire().await.map_err(|error| before.error(&error))?;
            let mut tx = conn.begin_with(DB::BEGIN).await.map_err(|error| before.error(&error))?;
            let updated = match statement::update_many(&mut *tx, &table.sql, &rows).await {
                Ok(updated) => updated,
                Err(error) => {
                    let error = before.error(&error);
                    roll_back(tx).await.map_err(|_| error.clone())?;
                    return Err(located(&mut *conn, error, &Updating { rows: &rows, sql: &table.sql }).await);
                }
            };
            if let Some(missing) = updated.iter().position(Option::is_none) {
                roll_back(tx).await.map_err(|error| before.error(&error))?;
                return Err(StorehausError::NotFound(context.failed("no row has this key")).at_row(missing));
            }
            tx.commit().await.map_err(|error| context.error(&error))?;
            Ok((updated.into_iter().flatten().collect(), Vec::new()))
        })
        .await
    }

    /// Deletes the rows with these keys; how many there were.
    ///
    /// # Errors
    /// As [`delete`](Self::delete).
    ///
    /// # Consistency
    /// As [`delete`](Self::delete), for all rows together.
    ///
    /// # Cost
    /// One statement and, with Redis, one awaited round trip.
    pub async fn delete_many(&self, ids: &[T::Key]) -> Result<u64> {
        let context = Context::write(T::TABLE.name, "delete_many");
        if ids.is_empty() {
            return Ok(0);
        }
        let keys = ids.to_vec();
        self.write(context, ids.to_vec(), move |table| async move {
            let before = context.unchanged();
            let mut conn = table.pool.acquire().await.map_err(|error| before.error(&error))?;
            let deleted = if statement::statements::<T, DB>(keys.len(), T::TABLE.key.len()) > 1 {
                let mut tx = conn.begin_with(DB::BEGIN).await.map_err(|error| before.error(&error))?;
                match statement::delete_many(&mut *tx, &table.sql, &keys).await {
                    Ok(deleted) => {
                        tx.commit().await.map_err(|error| context.error(&error))?;
                        deleted
                    }
                    Err(error) => {
                        let error = before.error(&error);
                        roll_back(tx).await.map_err(|_| error.clone())?;
                        return Err(error);
                    }
                }
            } else {
                statement::delete_many(&mut *conn, &table.sql, &keys).await.map_err(|error| context.error(&error))?
            };
            Ok((deleted, Vec::new()))
        })
        .await
    }

    async fn insert_many(&self, operation: &'static str, mut rows: Vec<T>, insert: Insert) -> Result<Vec<T>> {
        let context = Context::write(T::TABLE.name, operation);
        let now = Utc::now();
        rows.iter_mut().for_each(|row| row.before_create(now));
        if rows.is_empty() {
            return Ok(rows);
        }
        let keys: Vec<_> = rows.iter().map(T::key).filter(|key| !is_assigned(key)).collect();
        if insert == Insert::Upsert {
            refuse_twice(&context, &keys)?;
        }
        let batch = Split::new(rows, insert);
        self.write(context, keys, move |table| async move {
            let before = context.unchanged();
            let mut conn = table.pool.acquire().await.map_err(|error| before.error(&error))?;
            let written = if batch.statements::<DB>() > 1 {
                let mut tx = conn.begin_with(DB::BEGIN).await.map_err(|error| before.error(&error))?;
                match batch.insert(&mut *tx, &table.sql, batch.len()).await {
                    Ok(written) => {
                        tx.commit().await.map_err(|error| context.error(&error))?;
                        Ok(written)
                    }
                    Err(error) => {
                        let error = before.error(&error);
                        roll_back(tx).await.map_err(|_| error.clone())?;
                        Err(error)
                    }
                }
            } else {
                batch.insert(&mut *conn, &table.sql, batch.len()).await.map_err(|error| context.error(&error))
            };
            match written {
                Ok(rows) => {
                    let assigned = batch.assigned.iter().map(|at| rows[*at].key()).collect();
                    Ok((rows, assigned))
                }
                // Each trial draws further keys from a sequence of Postgres, so that a conflict of keys moves with it.
                Err(error @ StorehausError::Conflict(_))
                    if DB::DIALECT == Dialect::Postgres && !batch.assigned.is_empty() =>
                {
                    Err(error)
                }
                Err(error) => Err(located(&mut *conn, error, &Inserting { batch: &batch, sql: &table.sql }).await),
            }
        })
        .await
    }
}

/// Rows to insert, those whose key the database makes apart from those that carry theirs.
struct Split<T> {
    auto: Vec<T>,
    keyed: Vec<T>,
    /// Where the rows of `auto` stand in the order given.
    assigned: Vec<usize>,
    insert: Insert,
}

impl<T> Split<T> {
    fn new<DB: Backend>(rows: Vec<T>, insert: Insert) -> Self
    where
        T: Persist<DB>,
    {
        let (mut auto, mut keyed, mut assigned) = (Vec::new(), Vec::with_capacity(rows.len()), Vec::new());
        for (at, row) in rows.into_iter().enumerate() {
            if is_assigned(&row.key()) {
                auto.push(row);
                assigned.push(at);
            } else {
                keyed.push(row);
            }
        }
        Self { auto, keyed, assigned, insert }
    }

    fn len(&self) -> usize {
        self.auto.len() + self.keyed.len()
    }

    fn statements<DB: Backend>(&self) -> usize
    where
        T: Persist<DB>,
    {
        let count =
            |rows: usize, insert| statement::statements::<T, DB>(rows, Statements::<T, DB>::inserted(insert).len());
        count(self.auto.len(), Insert::Auto) + count(self.keyed.len(), self.insert)
    }

    /// Inserts the first `n` rows of the order given; they come back in that order.
    async fn insert<DB: Backend>(
        &self,
        conn: &mut DB::Connection,
        sql: &Statements<T, DB>,
        n: usize,
    ) -> Result<Vec<T>, sqlx::Error>
    where
        T: Persist<DB>,
    {
        let autos = self.assigned.partition_point(|at| *at < n);
        let (auto, keyed) = (&self.auto[..autos], &self.keyed[..n - autos]);
        let mut keyed = match keyed {
            [] => Vec::new(),
            rows => statement::insert_many(conn, sql, self.insert, rows).await?,
        }
        .into_iter();
        let mut auto = match auto {
            [] => Vec::new(),
            rows => statement::insert_many(conn, sql, Insert::Auto, rows).await?,
        }
        .into_iter();
        let mut assigned = self.assigned.iter().peekable();
        let rows: Vec<T> = (0..n)
            .filter_map(|at| match assigned.next_if(|next| **next == at) {
                Some(_) => auto.next(),
                None => keyed.next(),
            })
            .collect();
        if rows.len() == n { Ok(rows) } else { Err(statement::not_returned::<T>()) }
    }
}

/// A batch of which the first rows alone can be tried.
trait Attempt<DB: Backend>: Sync {
    fn rows(&self) -> usize;

    fn attempt(&self, conn: &mut DB::Connection, rows: usize) -> impl Future<Output = Result<(), sqlx::Error>> + Send;
}

struct Inserting<'a, T, DB> {
    batch: &'a Split<T>,
    sql: &'a Statements<T, DB>,
}

impl<T: Persist<DB>, DB: Backend> Attempt<DB> for Inserting<'_, T, DB> {
    fn rows(&self) -> usize {
        self.batch.len()
    }

    async fn attempt(&self, conn: &mut DB::Connection, rows: usize) -> Result<(), sqlx::Error> {
        self.batch.insert(conn, self.sql, rows).await.map(drop)
    }
}

struct Updating<'a, T, DB> {
    rows: &'a [T],
    sql: &'a Statements<T, DB>,
}

impl<T: Persist<DB>, DB: Backend> Attempt<DB> for Updating<'_, T, DB> {
    fn rows(&self) -> usize {
        self.rows.len()
    }

    async fn attempt(&self, conn: &mut DB::Connection, rows: usize) -> Result<(), sqlx::Error> {
        statement::update_many(conn, self.sql, &self.rows[..rows]).await.map(drop)
    }
}

/// The error with the place of the row it is about: the first without which the batch would pass, found by binary search
/// over its prefixes, each tried inside a transaction that is rolled back. Without one when the failure is not about a
/// row, when it shows at COMMIT only, when a trial fails otherwise, or when the search itself fails.
async fn located<DB: Backend>(
    conn: &mut DB::Connection,
    error: StorehausError,
    batch: &impl Attempt<DB>,
) -> StorehausError {
    let about_a_row =
        matches!(error, StorehausError::Conflict(_) | StorehausError::ForeignKey(_) | StorehausError::InvalidInput(_));
    if !about_a_row {
        return error;
    }
    match first_to_fail(conn, &error, batch).await {
        Ok(Some(row)) => error.at_row(row),
        Ok(None) => error,
        Err(search) => {
            tracing::debug!(%search, "the row that failed was not found");
            error
        }
    }
}

async fn first_to_fail<DB: Backend>(
    conn: &mut DB::Connection,
    error: &StorehausError,
    batch: &impl Attempt<DB>,
) -> Result<Option<usize>, sqlx::Error> {
    let context = Context::read("", "");
    // Invariant: the first `passes` rows pass, the first `fails` rows fail.
    let (mut passes, mut fails) = (0, batch.rows());
    let mut next = fails;
    loop {
        let mut tx = conn.begin_with(DB::BEGIN).await?;
        let tried = batch.attempt(&mut *tx, next).await.map_err(|error| context.error(&error));
        roll_back(tx).await?;
        match tried {
            Ok(()) if next == batch.rows() => return Ok(None),
            Ok(()) => passes = next,
            Err(other) if !is_same(&other, error) => return Ok(None),
            Err(_) => fails = next,
        }
        if fails - passes <= 1 {
            return Ok(Some(passes));
        }
        next = passes + (fails - passes) / 2;
    }
}

fn is_same(left: &StorehausError, right: &StorehausError) -> bool {
    std::mem::discriminant(left) == std::mem::discriminant(right) && left.constraint() == right.constraint()
}

/// SQLite ends a transaction by itself for some errors (a full disk, a trigger's `RAISE(ROLLBACK)`). sqlx goes on
/// counting it, and the connection would never begin another; so it is given one to end where that happened.
async fn roll_back<DB: Backend>(mut tx: Transaction<'_, DB>) -> Result<(), sqlx::Error> {
    if DB::DIALECT == Dialect::Sqlite {
        // Refused where the transaction is still open.
        DB::run(&mut *tx, SqlStr::from_static("BEGIN")).await.ok();
    }
    tx.rollback().await
}

fn refuse_twice<K: std::hash::Hash + Eq>(context: &Context, keys: &[K]) -> Result<()> {
    let mut seen = HashMap::with_capacity(keys.len());
    for (at, key) in keys.iter().enumerate() {
        if let Some(first) = seen.insert(key, at) {
            let reason = format!("the key of row {first} stands here again; pass each key once");
            return Err(StorehausError::InvalidInput(context.failed(reason)).at_row(at));
        }
    }
    Ok(())
}
