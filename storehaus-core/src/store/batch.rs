//! Writes of many rows: all or nothing, and in a number of statements that does not grow with the rows (on SQLite: in
//! one per 32,766 parameters).

use std::collections::HashMap;

use chrono::Utc;

use super::write::{Write, is_assigned};
use super::{GenericStore, statement};
use crate::backend::{Backend, Dialect};
use crate::error::{Context, Result, StorehausError};
use crate::model::{Model, Persist};
use crate::sql::{Insert, Statements};
use crate::tx::Unit;

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
    /// One statement (two where only some of the keys are unset) and, with Redis, two awaited round trips; from 100 rows on,
    /// the first of these beside the statement, which is one of three then: BEGIN and COMMIT are the others.
    pub async fn create_many(&self, rows: Vec<T>) -> Result<Vec<T>> {
        self.write(InsertMany::create(rows)?).await
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
        self.write(InsertMany::upsert(rows)?).await
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
    /// Three statements, BEGIN and COMMIT among them, and, with Redis, two awaited round trips: one beside the statements,
    /// one after them.
    pub async fn update_many(&self, rows: Vec<(T::Key, T)>) -> Result<Vec<T>> {
        self.write(UpdateMany::new(rows)?).await
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
    /// As [`create_many`](Self::create_many).
    pub async fn delete_many(&self, ids: &[T::Key]) -> Result<u64> {
        self.write(DeleteMany::new(ids)).await
    }
}

pub(super) struct InsertMany<T> {
    context: Context,
    rows: Split<T>,
}

impl<T: Model> InsertMany<T> {
    pub(super) fn create(rows: Vec<T>) -> Result<Self> {
        Self::new("create_many", rows, Insert::Keyed)
    }

    pub(super) fn upsert(rows: Vec<T>) -> Result<Self> {
        Self::new("upsert_many", rows, Insert::Upsert)
    }

    fn new(operation: &'static str, mut rows: Vec<T>, insert: Insert) -> Result<Self> {
        let context = Context::write(T::TABLE.name, operation);
        let now = Utc::now();
        rows.iter_mut().for_each(|row| row.before_create(now));
        if insert == Insert::Upsert {
            refuse_twice(&context, rows.iter().map(T::key).enumerate().filter(|(_, key)| !is_assigned(key)))?;
        }
        Ok(Self { context, rows: Split::new(rows, insert) })
    }
}

impl<T: Persist<DB>, DB: Backend> Write<T, DB> for InsertMany<T> {
    type Done = Vec<T>;

    fn context(&self) -> Context {
        self.context
    }

    fn keys(&self) -> Vec<T::Key> {
        self.rows.keyed.iter().map(T::key).collect()
    }

    fn nothing(&self) -> Option<Vec<T>> {
        (self.rows.len() == 0).then(Vec::new)
    }

    fn is_batch(&self) -> bool {
        true
    }

    fn is_several(&self) -> bool {
        self.rows.statements::<DB>() > 1
    }

    async fn run(&self, conn: &mut DB::Connection, sql: &Statements<T, DB>, context: Context) -> Result<Vec<T>> {
        self.rows.insert(conn, sql, self.rows.len()).await.map_err(|error| context.error(&error))
    }

    fn assigned(&self, done: &Vec<T>) -> Vec<T::Key> {
        self.rows.assigned.iter().map(|at| done[*at].key()).collect()
    }

    async fn locate(
        &self,
        conn: &mut DB::Connection,
        sql: &Statements<T, DB>,
        error: StorehausError,
    ) -> StorehausError {
        // Each trial draws further keys from a sequence of Postgres, so that a conflict of keys moves with it.
        if matches!(error, StorehausError::Conflict(_))
            && DB::DIALECT == Dialect::Postgres
            && !self.rows.assigned.is_empty()
        {
            return error;
        }
        located(conn, sql, error, self).await
    }
}

pub(super) struct UpdateMany<T> {
    context: Context,
    rows: Vec<T>,
}

impl<T: Model> UpdateMany<T> {
    pub(super) fn new(rows: Vec<(T::Key, T)>) -> Result<Self> {
        let context = Context::write(T::TABLE.name, "update_many");
        if let Some(at) = rows.iter().position(|(id, row)| row.key() != *id) {
            let reason = "the id passed is not the key of the row passed; pass the row's own key";
            return Err(StorehausError::KeyMismatch(context.failed(reason)).at_row(at));
        }
        let mut rows: Vec<T> = rows.into_iter().map(|(_, row)| row).collect();
        refuse_twice(&context, rows.iter().map(T::key).enumerate())?;
        let now = Utc::now();
        rows.iter_mut().for_each(|row| row.before_update(now));
        Ok(Self { context, rows })
    }
}

impl<T: Persist<DB>, DB: Backend> Write<T, DB> for UpdateMany<T> {
    type Done = Vec<T>;

    fn context(&self) -> Context {
        self.context
    }

    fn keys(&self) -> Vec<T::Key> {
        self.rows.iter().map(T::key).collect()
    }

    fn nothing(&self) -> Option<Vec<T>> {
        self.rows.is_empty().then(Vec::new)
    }

    fn is_batch(&self) -> bool {
        true
    }

    fn is_several(&self) -> bool {
        true
    }

    async fn run(&self, conn: &mut DB::Connection, sql: &Statements<T, DB>, context: Context) -> Result<Vec<T>> {
        let updated = statement::update_many(conn, sql, &self.rows).await.map_err(|error| context.error(&error))?;
        match updated.iter().position(Option::is_none) {
            Some(missing) => Err(StorehausError::NotFound(context.failed("no row has this key")).at_row(missing)),
            None => Ok(updated.into_iter().flatten().collect()),
        }
    }

    async fn locate(
        &self,
        conn: &mut DB::Connection,
        sql: &Statements<T, DB>,
        error: StorehausError,
    ) -> StorehausError {
        located(conn, sql, error, self).await
    }
}

pub(super) struct DeleteMany<T: Model> {
    context: Context,
    keys: Vec<T::Key>,
}

impl<T: Model> DeleteMany<T> {
    pub(super) fn new(ids: &[T::Key]) -> Self {
        Self { context: Context::write(T::TABLE.name, "delete_many"), keys: ids.to_vec() }
    }
}

impl<T: Persist<DB>, DB: Backend> Write<T, DB> for DeleteMany<T> {
    /// How many rows there were.
    type Done = u64;

    fn context(&self) -> Context {
        self.context
    }

    fn keys(&self) -> Vec<T::Key> {
        self.keys.clone()
    }

    fn nothing(&self) -> Option<u64> {
        self.keys.is_empty().then_some(0)
    }

    fn is_batch(&self) -> bool {
        true
    }

    fn is_several(&self) -> bool {
        statement::statements::<T, DB>(self.keys.len(), T::TABLE.key.len()) > 1
    }

    async fn run(&self, conn: &mut DB::Connection, sql: &Statements<T, DB>, context: Context) -> Result<u64> {
        statement::delete_many(conn, sql, &self.keys).await.map_err(|error| context.error(&error))
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

impl<T: Model> Split<T> {
    fn new(rows: Vec<T>, insert: Insert) -> Self {
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
trait Attempt<T: Persist<DB>, DB: Backend>: Sync {
    fn rows(&self) -> usize;

    fn attempt(
        &self,
        conn: &mut DB::Connection,
        sql: &Statements<T, DB>,
        rows: usize,
    ) -> impl Future<Output = Result<(), sqlx::Error>> + Send;
}

impl<T: Persist<DB>, DB: Backend> Attempt<T, DB> for InsertMany<T> {
    fn rows(&self) -> usize {
        self.rows.len()
    }

    async fn attempt(
        &self,
        conn: &mut DB::Connection,
        sql: &Statements<T, DB>,
        rows: usize,
    ) -> Result<(), sqlx::Error> {
        self.rows.insert(conn, sql, rows).await.map(drop)
    }
}

impl<T: Persist<DB>, DB: Backend> Attempt<T, DB> for UpdateMany<T> {
    fn rows(&self) -> usize {
        self.rows.len()
    }

    async fn attempt(
        &self,
        conn: &mut DB::Connection,
        sql: &Statements<T, DB>,
        rows: usize,
    ) -> Result<(), sqlx::Error> {
        statement::update_many(conn, sql, &self.rows[..rows]).await.map(drop)
    }
}

/// The error with the place of the row it is about: the first without which the batch would pass, found by binary search
/// over its prefixes, each tried inside a transaction that is rolled back. Without one when the failure is not about a
/// row, when it shows at COMMIT only, when a trial fails otherwise, or when the search itself fails.
async fn located<T: Persist<DB>, DB: Backend>(
    conn: &mut DB::Connection,
    sql: &Statements<T, DB>,
    error: StorehausError,
    batch: &impl Attempt<T, DB>,
) -> StorehausError {
    let about_a_row =
        matches!(error, StorehausError::Conflict(_) | StorehausError::ForeignKey(_) | StorehausError::InvalidInput(_));
    if !about_a_row {
        return error;
    }
    match first_to_fail(conn, sql, &error, batch).await {
        Ok(Some(row)) => error.at_row(row),
        Ok(None) => error,
        Err(search) => {
            tracing::debug!(%search, "the row that failed was not found");
            error
        }
    }
}

async fn first_to_fail<T: Persist<DB>, DB: Backend>(
    conn: &mut DB::Connection,
    sql: &Statements<T, DB>,
    error: &StorehausError,
    batch: &impl Attempt<T, DB>,
) -> Result<Option<usize>, sqlx::Error> {
    let context = Context::read("", "");
    // Invariant: the first `passes` rows pass, the first `fails` rows fail.
    let (mut passes, mut fails) = (0, batch.rows());
    let mut next = fails;
    loop {
        let mut unit = Unit::<DB>::begin(&mut *conn).await?;
        let tried = batch.attempt(unit.conn(), sql, next).await.map_err(|error| context.error(&error));
        unit.undo().await?;
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

fn refuse_twice<K: std::hash::Hash + Eq>(context: &Context, keys: impl Iterator<Item = (usize, K)>) -> Result<()> {
    let mut seen = HashMap::with_capacity(keys.size_hint().1.unwrap_or_default());
    for (at, key) in keys {
        if let Some(first) = seen.insert(key, at) {
            let reason = format!("the key of row {first} stands here again; pass each key once");
            return Err(StorehausError::InvalidInput(context.failed(reason)).at_row(at));
        }
    }
    Ok(())
}
