//! What differs between a model and its table.

use std::fmt;

use super::{Inspect, Kind, Plan, SchemaError, Table, ddl, quote};
use crate::backend::{Backend, Dialect};
use crate::model::Persist;

/// A difference between a model and its table. Its `Display` names it and the fix.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Difference {
    /// The table has no such column.
    ColumnMissing {
        /// The table.
        table: String,
        /// The column.
        column: String,
        /// The statement that adds it, when one can.
        fix: Option<String>,
    },
    /// The table has a column that the model does not know, that must not be NULL and has no default: inserts fail.
    ColumnUnknown {
        /// The table.
        table: String,
        /// The column.
        column: String,
    },
    /// The database generates a column that the model writes: writes fail.
    GeneratedInDatabase {
        /// The table.
        table: String,
        /// The column.
        column: String,
    },
    /// A column that the model writes is an identity column that refuses given values: writes that give one fail.
    IdentityAlways {
        /// The table.
        table: String,
        /// The column.
        column: String,
        /// The statement that lets values be given.
        fix: String,
    },
    /// An index or unique constraint is missing.
    IndexMissing {
        /// The table.
        table: String,
        /// Its columns.
        columns: Vec<String>,
        /// Whether it is unique.
        unique: bool,
        /// The statement that adds it.
        fix: String,
    },
    /// The primary key, or a unique constraint on the same columns, is `DEFERRABLE`: upserts fail.
    KeyDeferrable {
        /// The table.
        table: String,
        /// The constraint.
        constraint: String,
        /// The statement that replaces it.
        fix: String,
    },
    /// The primary key has other columns, or their order differs.
    KeyDiffers {
        /// The table.
        table: String,
        /// The model's key.
        want: Vec<String>,
        /// The table's key; empty when it has none.
        have: Vec<String>,
    },
    /// The database is to make the key, but the column has no default.
    KeyNotAssigned {
        /// The table.
        table: String,
        /// The column.
        column: String,
    },
    /// A column of the key may be NULL.
    KeyNullable {
        /// The table.
        table: String,
        /// The column.
        column: String,
        /// The statement that forbids it, where there is one.
        fix: Option<String>,
    },
    /// The model leaves a column to the database, which must not be NULL, and nothing makes its value: inserts fail.
    NothingGenerates {
        /// The table.
        table: String,
        /// The column.
        column: String,
    },
    /// One of model and table allows NULL, the other does not.
    NullabilityDiffers {
        /// The table.
        table: String,
        /// The column.
        column: String,
        /// Whether the table allows NULL.
        nullable: bool,
    },
    /// There is no such table.
    TableMissing {
        /// The table.
        table: String,
    },
    /// A column has another type.
    TypeDiffers {
        /// The table.
        table: String,
        /// The column.
        column: String,
        /// The model's type.
        want: String,
        /// The table's type.
        have: String,
    },
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ColumnMissing { table, column, fix: Some(fix) } => {
                write!(f, "table {table}: column {column} is missing; add it: {fix}")
            }
            Self::ColumnMissing { table, column, fix: None } => {
                write!(f, "table {table}: column {column} is missing; add it by a migration")
            }
            Self::ColumnUnknown { table, column } => write!(
                f,
                "table {table}: column {column} must not be NULL, has no default and no field; add the field, a \
                 default or DROP NOT NULL"
            ),
            Self::GeneratedInDatabase { table, column } => {
                write!(f, "table {table}: column {column} is generated; put #[generated] on the field")
            }
            Self::IdentityAlways { table, column, fix } => {
                write!(f, "table {table}: column {column} is an identity column that refuses given values; run: {fix}")
            }
            Self::IndexMissing { table, columns, unique, fix } => {
                let what = if *unique { "unique constraint" } else { "index" };
                write!(f, "table {table}: the {what} on {} is missing; add it: {fix}", columns.join(", "))
            }
            Self::KeyDeferrable { table, constraint, fix } => write!(
                f,
                "table {table}: the constraint {constraint} on the key is deferrable, which an upsert cannot use; \
                 replace it: {fix}"
            ),
            Self::KeyDiffers { table, want, have } => {
                let have = if have.is_empty() { "none".to_owned() } else { have.join(", ") };
                write!(f, "table {table}: the primary key is {have}, the model's is {}", want.join(", "))
            }
            Self::KeyNotAssigned { table, column } => write!(
                f,
                "table {table}: column {column} is a key that the database is to make, but has no default; make it an \
                 identity column (INTEGER PRIMARY KEY on SQLite)"
            ),
            Self::KeyNullable { table, column, fix: Some(fix) } => {
                write!(f, "table {table}: column {column} is of the key but may be NULL; run: {fix}")
            }
            Self::KeyNullable { table, column, fix: None } => write!(
                f,
                "table {table}: column {column} is of the key but may be NULL; rebuild the table with NOT NULL on it \
                 by a migration"
            ),
            Self::NothingGenerates { table, column } => write!(
                f,
                "table {table}: column {column} must not be NULL and its field is #[generated], but nothing makes its \
                 value; give it a default or a generation expression, or remove #[generated]"
            ),
            Self::NullabilityDiffers { table, column, nullable: true } => {
                write!(f, "table {table}: column {column} may be NULL; make the field an `Option` or SET NOT NULL")
            }
            Self::NullabilityDiffers { table, column, nullable: false } => {
                write!(f, "table {table}: column {column} must not be NULL, the field is an `Option`; DROP NOT NULL")
            }
            Self::TableMissing { table } => {
                write!(f, "table {table} is missing; create it by a migration or create_missing_tables")
            }
            Self::TypeDiffers { table, column, want, have } => {
                write!(f, "table {table}: column {column} is {have}, the field needs {want}")
            }
        }
    }
}

/// Every difference between a model and its table. Columns that the model does not know are none when an insert can
/// leave them out.
///
/// Lengths and precisions (`VARCHAR(40)`, `NUMERIC(12, 2)`) are not compared, nor are the labels of enum types. On
/// SQLite the affinity of the declared type is. Of a view the columns and their types are compared, where they are
/// known; of a materialized view the indexes too.
///
/// # Errors
/// When the database fails.
pub async fn check<DB: Backend + Inspect, T: Persist<DB>>(
    conn: &mut DB::Connection,
) -> Result<Vec<Difference>, SchemaError> {
    let plan = Plan::of::<DB, T>();
    let found = DB::table(conn, &plan.name()).await.map_err(SchemaError::database(plan.table))?;
    let Some(found) = found else {
        return Ok(vec![Difference::TableMissing { table: plan.table.name.to_owned() }]);
    };

    let mut out = Vec::new();
    for at in plan.columns() {
        compare_column(&plan, &found, at, &mut out);
    }
    if found.kind == Kind::Table {
        compare_key(&plan, &found, &mut out);
    }
    if found.kind != Kind::View {
        compare_indexes(&plan, &found, &mut out);
    }
    if found.kind == Kind::Table {
        find_unknown_columns(&plan, &found, &mut out);
    }
    Ok(out)
}

fn compare_column(plan: &Plan<'_>, found: &Table, at: usize, out: &mut Vec<Difference>) {
    let table = || plan.table.name.to_owned();
    let (ty, column) = (&plan.types[at], plan.table.columns[at].name.to_owned());
    let (is_key, is_generated) = (plan.table.key.contains(&at), plan.is_generated(at));
    let Some(have) = plan.find(found, at) else {
        let can_add = found.kind == Kind::Table && !is_key;
        let fix = ddl::add_column(plan, at).ok().filter(|_| can_add);
        out.push(Difference::ColumnMissing { table: table(), column, fix });
        return;
    };
    if is_known_type(plan.dialect, found.kind, &have.sql_type) && !is_same_type(plan.dialect, ty.name, &have.sql_type) {
        let (want, have) = (ty.name.to_owned(), have.sql_type.clone());
        out.push(Difference::TypeDiffers { table: table(), column: column.clone(), want, have });
    }
    if found.kind != Kind::Table {
        return;
    }
    let nullable = have.nullable;
    if is_key && nullable {
        let fix = ddl::set_not_null(plan, at);
        out.push(Difference::KeyNullable { table: table(), column: column.clone(), fix });
    } else if nullable != ty.nullable && !is_generated {
        // A generated column is never written; that it is nominally NULLable says nothing about its values.
        out.push(Difference::NullabilityDiffers { table: table(), column: column.clone(), nullable });
    }
    if is_generated && !nullable && !have.has_default && !have.generated && !found.filled_by_trigger {
        out.push(Difference::NothingGenerates { table: table(), column: column.clone() });
    }
    if have.generated && !is_generated {
        out.push(Difference::GeneratedInDatabase { table: table(), column: column.clone() });
    }
    if have.identity_always && !is_generated {
        let fix = ddl::accept_given(plan, at);
        out.push(Difference::IdentityAlways { table: table(), column: column.clone(), fix });
    }
    if plan.assigned && is_key && !have.has_default {
        out.push(Difference::KeyNotAssigned { table: table(), column });
    }
}

fn compare_key(plan: &Plan<'_>, found: &Table, out: &mut Vec<Difference>) {
    let table = || plan.table.name.to_owned();
    let want: Vec<String> = plan.table.key.iter().map(|at| plan.table.columns[*at].name.to_owned()).collect();
    let is_key = want.len() == found.key.len() && want.iter().zip(&found.key).all(|(a, b)| plan.is_same(a, b));
    if !is_key {
        out.push(Difference::KeyDiffers { table: table(), want, have: found.key.clone() });
    }
    for (index, constraint) in plan.deferrable_keys(found) {
        let fix = ddl::replace_constraint(plan, index, constraint);
        out.push(Difference::KeyDeferrable { table: table(), constraint: constraint.to_owned(), fix });
    }
}

fn compare_indexes(plan: &Plan<'_>, found: &Table, out: &mut Vec<Difference>) {
    for index in plan.table.indexes.iter().filter(|index| !plan.has_index(found, index)) {
        out.push(Difference::IndexMissing {
            table: plan.table.name.to_owned(),
            columns: index.columns.iter().map(|at| plan.table.columns[*at].name.to_owned()).collect(),
            unique: index.unique,
            fix: ddl::create_index(plan, index).text,
        });
    }
}

fn find_unknown_columns(plan: &Plan<'_>, found: &Table, out: &mut Vec<Difference>) {
    for have in found.columns.iter().filter(|have| !have.nullable && !have.has_default && !have.generated) {
        if !plan.table.columns.iter().any(|column| plan.is_same(column.name, &have.name)) {
            let (table, column) = (plan.table.name.to_owned(), have.name.clone());
            out.push(Difference::ColumnUnknown { table, column });
        }
    }
}

/// Whether the type a database names says what the column holds. SQLite gives the computed columns of a view none, or
/// one that stands for the lack of it.
fn is_known_type(dialect: Dialect, kind: Kind, have: &str) -> bool {
    dialect == Dialect::Postgres || kind == Kind::Table || !matches!(have, "" | "BLOB" | "NUM")
}

fn is_same_type(dialect: Dialect, want: &str, have: &str) -> bool {
    match dialect {
        Dialect::Postgres => {
            // A user's type is printed with quotes only where it needs them, and with its schema where that is not
            // searched.
            let own = want.strip_prefix('"').and_then(|name| name.strip_suffix('"'));
            own.map_or_else(
                || canonical(want) == canonical(have),
                |own| {
                    [own, &quote(own)]
                        .iter()
                        .any(|own| have.strip_suffix(*own).is_some_and(|rest| rest.is_empty() || rest.ends_with('.')))
                },
            )
        }
        // NUMERIC keeps integers as they are: BOOLEAN is declared so.
        Dialect::Sqlite => match (affinity(want), affinity(have)) {
            ("INTEGER", "NUMERIC") => true,
            (want, have) => want == have,
        },
    }
}

/// A type of Postgres as `format_type` spells it, without length and precision.
fn canonical(name: &str) -> String {
    let mut name = name.to_ascii_lowercase();
    if let (Some(open), Some(close)) = (name.find('('), name.find(')')) {
        name.replace_range(open..=close, "");
    }
    let (item, array) = name.strip_suffix("[]").map_or((name.as_str(), ""), |item| (item, "[]"));
    let item = match item {
        "character varying" | "citext" => "text",
        "time" => "time without time zone",
        "timestamp" => "timestamp without time zone",
        "timestamptz" => "timestamp with time zone",
        other => other,
    };
    format!("{item}{array}")
}

/// SQLite's rules, in its order.
fn affinity(declared: &str) -> &'static str {
    let declared = declared.to_ascii_uppercase();
    let has = |parts: &[&str]| parts.iter().any(|part| declared.contains(part));
    if has(&["INT"]) {
        "INTEGER"
    } else if has(&["CHAR", "CLOB", "TEXT"]) {
        "TEXT"
    } else if declared.is_empty() || has(&["BLOB"]) {
        "BLOB"
    } else if has(&["REAL", "FLOA", "DOUB"]) {
        "REAL"
    } else {
        "NUMERIC"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_of_postgres_are_compared_by_meaning() {
        let same = |want, have| is_same_type(Dialect::Postgres, want, have);
        for (want, have) in [
            ("TEXT", "text"),
            ("TEXT", "character varying(40)"),
            ("TEXT[]", "character varying(40)[]"),
            ("TIMESTAMPTZ", "timestamp(3) with time zone"),
            ("TIME", "time without time zone"),
            ("NUMERIC", "numeric(12,2)"),
            ("DOUBLE PRECISION", "double precision"),
            ("\"mood\"", "mood"),
            ("\"Mood\"", "\"Mood\""),
            ("\"mood\"", "app.mood"),
        ] {
            assert!(same(want, have), "{want} and {have}");
        }
        for (want, have) in [
            ("JSONB", "json"),
            ("BIGINT", "integer"),
            ("TEXT", "text[]"),
            ("TEXT", "character(8)"),
            ("TIMESTAMPTZ", "timestamp without time zone"),
            ("\"mood\"", "text"),
            ("\"mood\"", "goodmood"),
        ] {
            assert!(!same(want, have), "{want} and {have}");
        }
    }

    #[test]
    fn types_of_sqlite_are_compared_by_affinity() {
        let same = |want, have| is_same_type(Dialect::Sqlite, want, have);
        assert!(same("INTEGER", "BIGINT") && same("INTEGER", "BOOLEAN") && same("TEXT", "VARCHAR(9)"));
        assert!(same("BLOB", "") && same("REAL", "DOUBLE PRECISION"));
        assert!(!same("TEXT", "DATETIME") && !same("TEXT", "BLOB") && !same("REAL", "INTEGER"));
    }
}
