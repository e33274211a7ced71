//! One statement each, on a connection: what pool calls and transactions have in common.

use std::collections::HashMap;

use sqlx::Arguments as _;

use crate::backend::{Backend, BindError, Dialect};
use crate::model::{Model, Persist};
use crate::sql::{Insert, Statements};
use crate::sql_text::Sql;

type Args<DB> = <DB as sqlx::Database>::Arguments;

pub(super) async fn select_one<T: Persist<DB>, DB: Backend>(
    conn: &mut DB::Connection,
    sql: &Statements<T, DB>,
    key: &T::Key,
) -> Result<Option<T>, sqlx::Error> {
    let row = DB::fetch_optional(conn, sql.select_one.clone(), key_args::<T, DB>(key)?).await?;
    row.as_ref().map(read_row).transpose()
}

/// The rows that exist, in any order.
pub(super) async fn select_many<T: Persist<DB>, DB: Backend>(
    conn: &mut DB::Connection,
    sql: &Statements<T, DB>,
    keys: &[T::Key],
) -> Result<Vec<T>, sqlx::Error> {
    let mut rows = Vec::with_capacity(keys.len());
    for keys in keys.chunks(Statements::<T, DB>::rows_per_statement(T::TABLE.key.len())) {
        let found = DB::fetch_all(conn, sql.select_many(keys.len()), keys_args::<T, DB>(keys)?).await?;
        for row in &found {
            rows.push(read_row(row)?);
        }
    }
    Ok(rows)
}

pub(super) async fn exists<T: Persist<DB>, DB: Backend>(
    conn: &mut DB::Connection,
    sql: &Statements<T, DB>,
    key: &T::Key,
) -> Result<bool, sqlx::Error> {
    Ok(DB::fetch_optional(conn, sql.exists.clone(), key_args::<T, DB>(key)?).await?.is_some())
}

pub(super) async fn count<T: Persist<DB>, DB: Backend>(
    conn: &mut DB::Connection,
    sql: &Statements<T, DB>,
) -> Result<u64, sqlx::Error> {
    match DB::fetch_optional(conn, sql.count.clone(), Args::<DB>::default()).await? {
        Some(row) => DB::count(&row),
        None => Err(sqlx::Error::RowNotFound),
    }
}

/// Every row, in key order.
pub(super) async fn select_all<T: Persist<DB>, DB: Backend>(
    conn: &mut DB::Connection,
    sql: &Statements<T, DB>,
) -> Result<Vec<T>, sqlx::Error> {
    let rows = DB::fetch_all(conn, sql.select_all.clone(), Args::<DB>::default()).await?;
    rows.iter().map(read_row).collect()
}

/// Inserts a row, or with [`Insert::Upsert`] replaces the one that has its key; the row as the database has it then.
pub(super) async fn insert<T: Persist<DB>, DB: Backend>(
    conn: &mut DB::Connection,
    sql: &Statements<T, DB>,
    insert: Insert,
    row: &T,
) -> Result<T, sqlx::Error> {
    let statement = match insert {
        Insert::Auto => &sql.insert_auto,
        Insert::Keyed => &sql.insert,
        Insert::Upsert => &sql.upsert,
    };
    let mut args = Args::<DB>::default();
    bind(row, &Statements::<T, DB>::inserted(insert), &mut args)?;
    returned(DB::fetch_optional(conn, statement.clone(), args).await?)
}

/// Updates the row that has this key; `None` when there is none.
pub(super) async fn update<T: Persist<DB>, DB: Backend>(
    conn: &mut DB::Connection,
    sql: &Statements<T, DB>,
    row: &T,
) -> Result<Option<T>, sqlx::Error> {
    let mut args = Args::<DB>::default();
    bind(row, &Statements::<T, DB>::updated(), &mut args)?;
    T::bind_key(&row.key(), &mut args).map_err(sqlx::Error::Encode)?;
    let row = DB::fetch_optional(conn, sql.update.clone(), args).await?;
    row.as_ref().map(read_row).transpose()
}

/// Inserts rows in their order; the rows as the database has them, in that order.
pub(super) async fn insert_many<T: Persist<DB>, DB: Backend>(
    conn: &mut DB::Connection,
    sql: &Statements<T, DB>,
    insert: Insert,
    rows: &[T],
) -> Result<Vec<T>, sqlx::Error> {
    let columns = Statements::<T, DB>::inserted(insert);
    let written = batch(conn, rows, &columns, |rows| sql.insert_many(insert, rows)).await?;
    if insert == Insert::Auto {
        return Ok(written);
    }
    Ok(in_order_of(rows, written).into_iter().flatten().collect())
}

/// Updates the rows that have these keys; each row as the database has it then, `None` where there is none.
pub(super) async fn update_many<T: Persist<DB>, DB: Backend>(
    conn: &mut DB::Connection,
    sql: &Statements<T, DB>,
    rows: &[T],
) -> Result<Vec<Option<T>>, sqlx::Error> {
    let columns = Statements::<T, DB>::key_and_updated();
    let written = batch(conn, rows, &columns, |rows| sql.update_many(rows)).await?;
    Ok(in_order_of(rows, written))
}

/// How many rows there were.
pub(super) async fn delete_many<T: Persist<DB>, DB: Backend>(
    conn: &mut DB::Connection,
    sql: &Statements<T, DB>,
    keys: &[T::Key],
) -> Result<u64, sqlx::Error> {
    let mut deleted = 0;
    for keys in keys.chunks(Statements::<T, DB>::rows_per_statement(T::TABLE.key.len())) {
        deleted += DB::execute(conn, sql.delete_many(keys.len()), keys_args::<T, DB>(keys)?).await?;
    }
    Ok(deleted)
}

/// How many statements [`insert_many`] or [`delete_many`] needs.
pub(super) fn statements<T: Persist<DB>, DB: Backend>(rows: usize, columns: usize) -> usize {
    rows.div_ceil(Statements::<T, DB>::rows_per_statement(columns))
}

/// Reads a row. An error names the column, of which the driver knows the place alone.
pub(super) fn read_row<T: Persist<DB>, DB: Backend>(row: &DB::Row) -> Result<T, sqlx::Error> {
    T::from_row(row).map_err(|error| match error {
        sqlx::Error::ColumnDecode { index, source } => {
            let column = index.parse().ok().and_then(|at: usize| T::TABLE.columns.get(at));
            sqlx::Error::ColumnDecode { index: column.map_or(index, |column| column.name.to_owned()), source }
        }
        error => error,
    })
}

pub(super) fn key_args<T: Persist<DB>, DB: Backend>(key: &T::Key) -> Result<Args<DB>, sqlx::Error> {
    let mut args = Args::<DB>::default();
    T::bind_key(key, &mut args).map_err(sqlx::Error::Encode)?;
    Ok(args)
}

fn keys_args<T: Persist<DB>, DB: Backend>(keys: &[T::Key]) -> Result<Args<DB>, sqlx::Error> {
    let mut args = Args::<DB>::default();
    match DB::DIALECT {
        Dialect::Postgres => T::bind_key_arrays(keys, &mut args),
        Dialect::Sqlite => keys.iter().try_for_each(|key| T::bind_key(key, &mut args)),
    }
    .map_err(sqlx::Error::Encode)?;
    Ok(args)
}

async fn batch<T: Persist<DB>, DB: Backend>(
    conn: &mut DB::Connection,
    rows: &[T],
    columns: &[usize],
    sql: impl Fn(usize) -> Sql,
) -> Result<Vec<T>, sqlx::Error> {
    let mut written = Vec::with_capacity(rows.len());
    for rows in rows.chunks(Statements::<T, DB>::rows_per_statement(columns.len())) {
        let mut args = Args::<DB>::default();
        match DB::DIALECT {
            Dialect::Postgres => {
                for column in columns {
                    T::bind_array(rows, *column, &mut args).map_err(|error| unbound::<T>(*column, &error))?;
                }
            }
            Dialect::Sqlite => rows.iter().try_for_each(|row| bind(row, columns, &mut args))?,
        }
        for row in &DB::fetch_all(conn, sql(rows.len()), args).await? {
            written.push(read_row(row)?);
        }
    }
    Ok(written)
}

fn bind<T: Persist<DB>, DB: Backend>(row: &T, columns: &[usize], args: &mut Args<DB>) -> Result<(), sqlx::Error> {
    args.reserve(columns.len(), 0);
    columns.iter().try_for_each(|column| row.bind(*column, args).map_err(|error| unbound::<T>(*column, &error)))
}

fn unbound<T: Model>(column: usize, error: &BindError) -> sqlx::Error {
    sqlx::Error::Encode(format!("field {}: {error}", T::TABLE.columns[column].field).into())
}

fn returned<T: Persist<DB>, DB: Backend>(row: Option<DB::Row>) -> Result<T, sqlx::Error> {
    read_row(&row.ok_or_else(|| not_returned::<T>())?)
}

/// The error when the database took rows without an error and did not return them: a trigger or rule dropped them,
/// wrote them elsewhere, or changed their keys.
pub(super) fn not_returned<T: Model>() -> sqlx::Error {
    let table = T::TABLE.name;
    sqlx::Error::Decode(format!("{table} did not return each row it took; look at its triggers and rules").into())
}

/// Puts what the database returned into the order of what was sent, by key.
fn in_order_of<T: Model>(sent: &[T], returned: Vec<T>) -> Vec<Option<T>> {
    if sent.len() == returned.len() && sent.iter().zip(&returned).all(|(sent, row)| sent.key() == row.key()) {
        return returned.into_iter().map(Some).collect();
    }
    let mut returned: HashMap<_, _> = returned.into_iter().map(|row| (row.key(), row)).collect();
    sent.iter().map(|row| returned.remove(&row.key())).collect()
}
