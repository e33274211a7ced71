//! Writes the rows into their tables.

use std::time::Duration;

use storehaus::model::Persist;
use storehaus::schema::Inspect;
use storehaus::{GenericStore, Result, StorehausError};

use crate::input::{Bad, Table};
use crate::model::Record;
use crate::progress::Progress;

/// Rows per statement.
const BATCH: usize = 1_000;

/// A table after its import.
pub(crate) struct Imported<R> {
    pub(crate) name: &'static str,
    /// The rows the database took.
    pub(crate) rows: Vec<R>,
    pub(crate) took: Duration,
    /// Those that the file or the database refused.
    pub(crate) bad: Vec<Bad>,
}

/// Writes a table in batches: inserts into an empty table, else inserts or replaces. A row that the database refuses is
/// left out, the others of its batch are written.
pub(crate) async fn import<R, DB>(table: Table<R>, store: &GenericStore<R, DB>) -> Result<Imported<R>>
where
    R: Record + Persist<DB>,
    DB: Inspect,
{
    let Table { name, file, rows, mut bad } = table;
    let is_empty = store.count().await? == 0;
    let mut progress = Progress::new(name, rows.len());
    let mut taken = Vec::with_capacity(rows.len());
    let mut rows = rows.into_iter().peekable();
    while rows.peek().is_some() {
        let (mut lines, mut batch): (Vec<_>, Vec<_>) = rows.by_ref().take(BATCH).unzip();
        let size = batch.len();
        while !batch.is_empty() {
            let written =
                if is_empty { store.create_many(batch.clone()).await } else { store.upsert_many(batch.clone()).await };
            match written {
                Ok(_) => break,
                Err(error) => {
                    let Some(at) = refused(&error) else { return Err(error) };
                    bad.push(Bad::new(&file, lines.remove(at), error.to_string()));
                    batch.remove(at);
                }
            }
        }
        taken.append(&mut batch);
        progress.add(size);
    }
    Ok(Imported { name, rows: taken, took: progress.finish(), bad })
}

/// The place of the row that the database refused for what it holds.
fn refused(error: &StorehausError) -> Option<usize> {
    match error {
        StorehausError::Conflict(_) | StorehausError::InvalidInput(_) => error.row(),
        _ => None,
    }
}
