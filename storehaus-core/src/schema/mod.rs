//! Tables from models: creates what is missing, names what differs.
//!
//! [`create_missing`] only ever adds. It neither drops nor alters, and refuses by name what cannot be added.
//! [`check`] changes nothing.

mod ddl;
mod diff;
mod inspect;

pub use diff::{Difference, check};
pub use inspect::{Column, Index, Inspect, Kind, Table};

use storehaus_cache::codec::layout;
use thiserror::Error;

use crate::backend::{Backend, Dialect};
use crate::model::{AssignedBy, IndexDef, ModelKey, Persist, Role, TableDef};
use crate::sql_text::sql;

/// Why a table was not created, extended or inspected.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SchemaError {
    /// The database refused.
    #[error("table {table}: {source}")]
    Database {
        /// The table.
        table: String,
        /// What the database said.
        #[source]
        source: sqlx::Error,
    },
    /// The table cannot be brought to the model by adding to it.
    #[error("table {table}: column {column}: {reason}")]
    Refused {
        /// The table.
        table: String,
        /// The column, or the columns of an index.
        column: String,
        /// Why, and what to do.
        reason: String,
    },
}

impl SchemaError {
    fn database(table: &TableDef) -> impl Fn(sqlx::Error) -> Self + Copy + use<> {
        let table = table.name;
        move |source| Self::Database { table: table.to_owned(), source }
    }

    fn refused(table: &TableDef, column: &str, reason: impl Into<String>) -> Self {
        Self::Refused { table: table.name.to_owned(), column: column.to_owned(), reason: reason.into() }
    }
}

/// Creates the table of a model, or adds to it the columns, unique constraints and indexes that are missing.
///
/// Run it inside a transaction: then it happens as a whole or not at all, and several processes that start at once do
/// it one after another.
///
/// # Errors
/// [`SchemaError::Refused`] when something cannot be added: a column that must not be NULL to a table with rows, a
/// part of the key, a generated column without its expression, a unique constraint that rows violate, an enum type
/// that does not exist, anything at all to a view. [`SchemaError::Database`] when the database fails.
pub async fn create_missing<DB: Backend + Inspect, T: Persist<DB>>(
    conn: &mut DB::Connection,
) -> Result<(), SchemaError> {
    let plan = Plan::<'_>::of::<DB, T>();
    let failed = SchemaError::database(plan.table);
    let name = plan.name();
    DB::lock(conn, &name).await.map_err(failed)?;

    let statements = match DB::table(conn, &name).await.map_err(failed)? {
        None => {
            refuse_missing_types::<DB>(conn, &plan, |_| true).await?;
            let has_schema = match plan.table.schema {
                Some(schema) => DB::has_schema(conn, schema).await.map_err(failed)?,
                None => true,
            };
            ddl::create(&plan, has_schema)?
        }
        Some(found) if found.kind != Kind::Table => {
            refuse_view(&plan, &found)?;
            Vec::new()
        }
        Some(found) => {
            let missing = |column: usize| plan.find(&found, column).is_none();
            refuse_missing_types::<DB>(conn, &plan, missing).await?;
            let has_rows = plan.columns().any(missing) && DB::has_rows(conn, &name).await.map_err(failed)?;
            ddl::extend(&plan, &found, has_rows)?
        }
    };
    if statements.is_empty() {
        return Ok(());
    }
    for statement in statements {
        DB::run(conn, sql(statement.text)).await.map_err(|error| match statement.unique {
            Some(columns) if is_duplicate(&error) => {
                let reason = "rows repeat a value that must be unique; remove the duplicates first";
                SchemaError::refused(plan.table, &columns, reason)
            }
            _ => failed(error),
        })?;
    }

    // `IF NOT EXISTS` goes by the name alone, so an index of that name on other columns would pass for ours.
    let found = DB::table(conn, &name).await.map_err(failed)?.unwrap_or_default();
    if let Some(index) = plan.table.indexes.iter().find(|index| !plan.has_index(&found, index)) {
        let reason = format!("another index is named {}; rename it", index_name(plan.table, index));
        return Err(SchemaError::refused(plan.table, &plan.list(index.columns), reason));
    }
    Ok(())
}

/// Refuses a view that lacks something: what it has is its query's to say.
fn refuse_view(plan: &Plan<'_>, found: &Table) -> Result<(), SchemaError> {
    let what = if found.kind == Kind::MaterializedView { "materialized view" } else { "view" };
    if let Some(column) = plan.columns().find(|column| plan.find(found, *column).is_none()) {
        let reason = format!("it is missing from the {what}, which is not altered; add it to the query by a migration");
        return Err(SchemaError::refused(plan.table, plan.table.columns[column].name, reason));
    }
    if let Some(index) = plan.table.indexes.iter().find(|index| !plan.has_index(found, index)) {
        let fix = match found.kind {
            Kind::MaterializedView => "add it by a migration",
            Kind::Table | Kind::View => "declare it on the model of the table beneath",
        };
        let reason = format!("the index is missing from the {what}, which is not altered; {fix}");
        return Err(SchemaError::refused(plan.table, &plan.list(index.columns), reason));
    }
    Ok(())
}

async fn refuse_missing_types<DB: Backend + Inspect>(
    conn: &mut DB::Connection,
    plan: &Plan<'_>,
    wanted: impl Fn(usize) -> bool,
) -> Result<(), SchemaError> {
    for column in plan.columns().filter(|column| plan.types[*column].cast && wanted(*column)) {
        let name = plan.types[column].name;
        if !DB::has_type(conn, name).await.map_err(SchemaError::database(plan.table))? {
            let reason = format!("the type {name} does not exist; create it: CREATE TYPE {name} AS ENUM (…)");
            return Err(SchemaError::refused(plan.table, plan.table.columns[column].name, reason));
        }
    }
    Ok(())
}

/// Whether rows violate a unique index; the database's own message about it may quote them.
fn is_duplicate(error: &sqlx::Error) -> bool {
    error.as_database_error().is_some_and(sqlx::error::DatabaseError::is_unique_violation)
}

/// What a model wants of its table.
struct Plan<'t> {
    dialect: Dialect,
    table: &'t TableDef,
    types: &'t [crate::column::SqlType],
    /// Whether the database makes the key.
    assigned: bool,
}

impl Plan<'static> {
    fn of<DB: Backend, T: Persist<DB>>() -> Self {
        let table: &'static TableDef = &T::TABLE;
        let assigned = T::Key::ASSIGNED_BY == AssignedBy::Database && table.key.len() == 1;
        Self { dialect: DB::DIALECT, table, types: T::TYPES, assigned }
    }
}

impl Plan<'_> {
    fn columns(&self) -> impl Iterator<Item = usize> + use<> {
        0..self.table.columns.len()
    }

    fn name(&self) -> String {
        table_name(self.table, self.dialect)
    }

    fn is_generated(&self, column: usize) -> bool {
        matches!(self.table.columns[column].role, Role::Generated(_))
    }

    /// The columns' names, for messages.
    fn list(&self, columns: &[usize]) -> String {
        columns.iter().map(|column| self.table.columns[*column].name).collect::<Vec<_>>().join(", ")
    }

    /// The columns, for SQL.
    fn quoted(&self, columns: &[usize]) -> String {
        columns.iter().map(|column| quote(self.table.columns[*column].name)).collect::<Vec<_>>().join(", ")
    }

    /// Whether two column names are the same to the database.
    fn is_same(&self, left: &str, right: &str) -> bool {
        match self.dialect {
            Dialect::Postgres => left == right,
            Dialect::Sqlite => left.eq_ignore_ascii_case(right),
        }
    }

    fn find<'f>(&self, found: &'f Table, column: usize) -> Option<&'f Column> {
        found.columns.iter().find(|have| self.is_same(&have.name, self.table.columns[column].name))
    }

    /// The deferrable constraints, with their indexes, by which an upsert would find its row. Postgres takes every
    /// unique index of just the key's columns, in any order; those of other columns do not hinder it.
    fn deferrable_keys<'f>(&self, found: &'f Table) -> impl Iterator<Item = (&'f Index, &'f str)> {
        let is_part = |name: &String| self.table.key.iter().any(|at| self.is_same(name, self.table.columns[*at].name));
        found
            .indexes
            .iter()
            .filter(move |have| have.unique && have.columns.len() == self.table.key.len())
            .filter(move |have| have.columns.iter().all(is_part))
            .filter_map(|have| Some((have, have.deferrable.as_deref()?)))
    }

    /// Whether an index serves: the same columns in any order for a unique one, else one that starts with them.
    fn has_index(&self, found: &Table, index: &IndexDef) -> bool {
        let wanted = |at: usize| self.table.columns[index.columns[at]].name;
        if index.unique {
            found.indexes.iter().filter(|have| have.unique).map(|have| &have.columns).any(|have| {
                have.len() == index.columns.len()
                    && (0..have.len()).all(|at| have.iter().any(|name| self.is_same(name, wanted(at))))
            })
        } else {
            found.indexes.iter().map(|have| &have.columns).any(|have| {
                have.len() >= index.columns.len()
                    && (0..index.columns.len()).all(|at| self.is_same(&have[at], wanted(at)))
            })
        }
    }
}

/// A name as an identifier of SQL.
pub(crate) fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A table as SQL names it. SQLite has no schemas.
pub(crate) fn table_name(table: &TableDef, dialect: Dialect) -> String {
    match (table.schema, dialect) {
        (Some(schema), Dialect::Postgres) => format!("{}.{}", quote(schema), quote(table.name)),
        _ => quote(table.name),
    }
}

/// Postgres cuts longer names silently.
const NAME_BYTES: usize = 63;

/// The name of an index or unique constraint: `<table>_<columns>_key` or `_idx`. With a hash where that is too long or
/// another index of the table gets the same name.
fn index_name(table: &TableDef, index: &IndexDef) -> String {
    let columns = |index: &IndexDef, separator: &str| {
        index.columns.iter().map(|column| table.columns[*column].name).collect::<Vec<_>>().join(separator)
    };
    let suffix = |index: &IndexDef| if index.unique { "_key" } else { "_idx" };
    let stem = |index: &IndexDef| format!("{}_{}", table.name, columns(index, "_"));
    let plain = format!("{}{}", stem(index), suffix(index));
    let same = |other: &&IndexDef| other.unique == index.unique && stem(other) == stem(index);
    if plain.len() <= NAME_BYTES && table.indexes.iter().filter(same).count() <= 1 {
        return plain;
    }
    let hash = layout(&format!("{}({})", table.name, columns(index, ","))) as u32;
    let suffix = format!("_{hash:08x}{}", suffix(index));
    let mut stem = stem(index);
    while stem.len() + suffix.len() > NAME_BYTES {
        stem.pop();
    }
    stem + &suffix
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{CacheMode, ColumnDef};

    const fn column(name: &'static str) -> ColumnDef {
        ColumnDef { field: name, name, role: Role::Plain }
    }

    const TABLE: TableDef = TableDef {
        model: "T",
        schema: Some("a\"b"),
        name: "order",
        columns: &[
            column("a_b"),
            column("a"),
            column("b"),
            column("a_name_that_is_fifty_bytes_long_0123456789_0123456"),
        ],
        key: &[0],
        indexes: &[
            IndexDef { columns: &[0], unique: true },
            IndexDef { columns: &[1, 2], unique: true },
            IndexDef { columns: &[1], unique: false },
            IndexDef { columns: &[3, 3], unique: false },
            IndexDef { columns: &[3, 3, 1], unique: false },
        ],
        cache: CacheMode::Shared,
        prefix: None,
        ttl: None,
    };

    #[test]
    fn identifiers_are_quoted() {
        assert_eq!(table_name(&TABLE, Dialect::Postgres), r#""a""b"."order""#);
        assert_eq!(table_name(&TABLE, Dialect::Sqlite), r#""order""#);
    }

    #[test]
    fn index_names_are_distinct_and_fit() {
        let names: Vec<String> = TABLE.indexes.iter().map(|index| index_name(&TABLE, index)).collect();
        assert_eq!(names[2], "order_a_idx");
        assert!(names.iter().all(|name| name.len() <= NAME_BYTES), "{names:?}");
        let distinct: std::collections::BTreeSet<_> = names.iter().collect();
        assert_eq!(distinct.len(), names.len(), "{names:?}");
        assert!(names[0].starts_with("order_a_b_") && names[0].ends_with("_key"), "{names:?}");
    }
}
