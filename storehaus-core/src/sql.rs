//! The statements of a model, built once per store from what the derive says.
//!
//! Every identifier was validated at compile time and is quoted; every value is bound. On Postgres a batch is one
//! static text, whatever its length: each column travels as one array and is unnested. SQLite has no arrays, so
//! there the text grows with the rows, up to the parameter limit, and is not kept prepared.

use std::fmt::Write as _;
use std::marker::PhantomData;

use crate::backend::{Backend, Dialect};
use crate::column::SqlType;
use crate::model::{Persist, Role, TableDef};
use crate::schema::{quote, table_name};
use crate::sql_text::Sql;

/// The statements of `T` on `DB`.
pub(crate) struct Statements<T, DB> {
    pub(crate) select_one: Sql,
    pub(crate) select_all: Sql,
    pub(crate) exists: Sql,
    pub(crate) count: Sql,
    /// With the key as the caller gave it.
    pub(crate) insert: Sql,
    /// With the key left to the database.
    pub(crate) insert_auto: Sql,
    pub(crate) upsert: Sql,
    pub(crate) update: Sql,
    pub(crate) delete: Sql,
    /// The batch forms, where one text serves every length.
    batch: Option<Batch>,
    columns: String,
    table: String,
    model: PhantomData<fn() -> (T, DB)>,
}

struct Batch {
    select: Sql,
    insert: Sql,
    insert_auto: Sql,
    upsert: Sql,
    update: Sql,
    delete: Sql,
}

/// Which insert a batch is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Insert {
    /// The database makes the keys.
    Auto,
    /// The rows carry their keys.
    Keyed,
    /// The rows carry their keys, and replace rows that have them.
    Upsert,
}

impl Insert {
    /// Lets a table be named `excluded`, as the row is that an upsert proposes.
    fn alias(self) -> &'static str {
        if self == Self::Upsert { " AS t" } else { "" }
    }
}

impl<T: Persist<DB>, DB: Backend> Statements<T, DB> {
    const DEF: TableDef = T::TABLE;

    pub(crate) fn new() -> Self {
        let table = table_name(&Self::DEF, DB::DIALECT);
        let columns = list((0..Self::DEF.columns.len()).map(Self::name));
        let key = Self::DEF.key;
        let by_key = list_with(" AND ", key.iter().enumerate().map(|(n, at)| Self::equals(*at, n + 1)));
        let order = list(key.iter().map(|at| Self::name(*at)));

        let insert = Self::insert_into(&table, Insert::Keyed, &columns);
        let updated = Self::updated();
        let set = list(updated.iter().enumerate().map(|(n, at)| {
            // A model with nothing to update still takes part: its row is found, locked and returned.
            Self::equals(*at, n + 1)
        }));
        let by_key_after =
            list_with(" AND ", key.iter().enumerate().map(|(n, at)| Self::equals(*at, updated.len() + n + 1)));
        Self {
            select_one: Sql::kept(format!("SELECT {columns} FROM {table} WHERE {by_key}")),
            select_all: Sql::kept(format!("SELECT {columns} FROM {table} ORDER BY {order}")),
            exists: Sql::kept(format!("SELECT 1 FROM {table} WHERE {by_key}")),
            count: Sql::kept(format!("SELECT COUNT(*) FROM {table}")),
            insert: Sql::kept(insert),
            insert_auto: Sql::kept(Self::insert_into(&table, Insert::Auto, &columns)),
            upsert: Sql::kept(Self::insert_into(&table, Insert::Upsert, &columns)),
            update: Sql::kept(format!("UPDATE {table} SET {set} WHERE {by_key_after} RETURNING {columns}")),
            delete: Sql::kept(format!("DELETE FROM {table} WHERE {by_key}")),
            batch: match DB::DIALECT {
                Dialect::Postgres => Some(Self::unnested(&table, &columns)),
                Dialect::Sqlite => None,
            },
            columns,
            table,
            model: PhantomData,
        }
    }

    /// The columns an insert binds, in order.
    pub(crate) fn inserted(insert: Insert) -> Vec<usize> {
        (0..Self::DEF.columns.len())
            .filter(|at| match Self::DEF.columns[*at].role {
                Role::Key => insert != Insert::Auto,
                role => role.is_inserted(),
            })
            .collect()
    }

    /// The columns an update binds before the key, in order. A model without any sets its key to itself.
    pub(crate) fn updated() -> Vec<usize> {
        let updated: Vec<usize> =
            (0..Self::DEF.columns.len()).filter(|at| Self::DEF.columns[*at].role.is_updated()).collect();
        if updated.is_empty() { vec![Self::DEF.key[0]] } else { updated }
    }

    /// The columns a batch update binds: the key, then what changes.
    pub(crate) fn key_and_updated() -> Vec<usize> {
        let mut columns = Self::DEF.key.to_vec();
        columns.extend((0..Self::DEF.columns.len()).filter(|at| Self::DEF.columns[*at].role.is_updated()));
        columns
    }

    /// How many rows one statement takes when each binds `columns` parameters.
    pub(crate) fn rows_per_statement(columns: usize) -> usize {
        match DB::DIALECT {
            Dialect::Postgres => usize::MAX,
            Dialect::Sqlite => (DB::MAX_BINDS / columns.max(1)).max(1),
        }
    }

    pub(crate) fn select_many(&self, keys: usize) -> Sql {
        match &self.batch {
            Some(batch) => batch.select.clone(),
            None => Sql::once(format!("SELECT {} FROM {} WHERE {}", self.columns, self.table, Self::key_in(keys))),
        }
    }

    pub(crate) fn delete_many(&self, keys: usize) -> Sql {
        match &self.batch {
            Some(batch) => batch.delete.clone(),
            None => Sql::once(format!("DELETE FROM {} WHERE {}", self.table, Self::key_in(keys))),
        }
    }

    pub(crate) fn insert_many(&self, insert: Insert, rows: usize) -> Sql {
        let bound = Self::inserted(insert);
        if bound.is_empty() {
            return self.insert_defaults(rows);
        }
        if let Some(batch) = &self.batch {
            return match insert {
                Insert::Auto => batch.insert_auto.clone(),
                Insert::Keyed => batch.insert.clone(),
                Insert::Upsert => batch.upsert.clone(),
            };
        }
        let names = list(bound.iter().map(|at| Self::name(*at)));
        let mut text =
            format!("INSERT INTO {}{} ({names}) VALUES {}", self.table, insert.alias(), values(rows, bound.len()));
        Self::on_conflict(&mut text, insert);
        push(&mut text, format_args!(" RETURNING {}", self.columns));
        Sql::once(text)
    }

    /// Rows of which nothing is given: the database makes the key, and there is nothing else.
    fn insert_defaults(&self, rows: usize) -> Sql {
        let (table, columns) = (&self.table, &self.columns);
        match DB::DIALECT {
            Dialect::Postgres => {
                Sql::kept(format!("INSERT INTO {table} SELECT FROM generate_series(1, {rows}) RETURNING {columns}"))
            }
            Dialect::Sqlite => {
                let nulls = list((0..rows).map(|_| "(NULL)".to_owned()));
                let key = Self::name(Self::DEF.key[0]);
                Sql::once(format!("INSERT INTO {table} ({key}) VALUES {nulls} RETURNING {columns}"))
            }
        }
    }

    pub(crate) fn update_many(&self, rows: usize) -> Sql {
        if let Some(batch) = &self.batch {
            return batch.update.clone();
        }
        let bound = Self::key_and_updated();
        let names = list((0..bound.len()).map(|n| format!("c{n}")));
        Sql::once(format!(
            "WITH v({names}) AS (VALUES {}) UPDATE {} AS t SET {} FROM v WHERE {} RETURNING {}",
            values(rows, bound.len()),
            self.table,
            Self::set_from_v(&bound),
            Self::key_equals_v(&bound),
            self.columns,
        ))
    }

    fn unnested(table: &str, columns: &str) -> Batch {
        let key = Self::DEF.key;
        let insert = |insert: Insert| {
            let bound = Self::inserted(insert);
            let names = list(bound.iter().map(|at| Self::name(*at)));
            let values = list(bound.iter().enumerate().map(|(n, at)| Self::from_v(n, *at)));
            let mut text = format!(
                "INSERT INTO {table}{} ({names}) SELECT {values} FROM {} ORDER BY v.n",
                insert.alias(),
                Self::unnest(&bound, "WITH ORDINALITY AS v", ", n"),
            );
            Self::on_conflict(&mut text, insert);
            push(&mut text, format_args!(" RETURNING {columns}"));
            Sql::kept(text)
        };
        let key_in = match key {
            [at] => format!("{} = ANY($1)", Self::name(*at)),
            _ => format!(
                "({}) IN (SELECT {} FROM {})",
                list(key.iter().map(|at| Self::name(*at))),
                list(key.iter().enumerate().map(|(n, at)| Self::from_v(n, *at))),
                Self::unnest(key, "AS v", ""),
            ),
        };
        let bound = Self::key_and_updated();
        Batch {
            select: Sql::kept(format!("SELECT {columns} FROM {table} WHERE {key_in}")),
            delete: Sql::kept(format!("DELETE FROM {table} WHERE {key_in}")),
            insert: insert(Insert::Keyed),
            insert_auto: insert(Insert::Auto),
            upsert: insert(Insert::Upsert),
            update: Sql::kept(format!(
                "UPDATE {table} AS t SET {} FROM {} WHERE {} RETURNING {}",
                Self::set_from_v(&bound),
                Self::unnest(&bound, "AS v", ""),
                Self::key_equals_v(&bound),
                list((0..Self::DEF.columns.len()).map(|at| format!("t.{}", Self::name(at)))),
            )),
        }
    }

    /// `UNNEST($1::T[], …) AS v(c0, …)`.
    fn unnest(bound: &[usize], alias: &str, more: &str) -> String {
        let arrays =
            list(bound.iter().enumerate().map(|(n, at)| format!("${}::{}[]", n + 1, Self::types(*at).element)));
        let names = list((0..bound.len()).map(|n| format!("c{n}")));
        format!("UNNEST({arrays}) {alias}({names}{more})")
    }

    /// An unnested value, as the type of its column.
    fn from_v(n: usize, at: usize) -> String {
        let SqlType { name, element, .. } = Self::types(at);
        if name == element { format!("v.c{n}") } else { format!("v.c{n}::{name}") }
    }

    fn set_from_v(bound: &[usize]) -> String {
        let key = Self::DEF.key.len();
        let changed = match &bound[key..] {
            [] => &bound[..1],
            changed => changed,
        };
        let first = if bound.len() == key { 0 } else { key };
        list(
            changed
                .iter()
                .enumerate()
                .map(|(n, at)| format!("{} = {}", Self::name(*at), Self::v_value(first + n, *at))),
        )
    }

    fn key_equals_v(bound: &[usize]) -> String {
        let key = &bound[..Self::DEF.key.len()];
        list_with(
            " AND ",
            key.iter().enumerate().map(|(n, at)| format!("t.{} = {}", Self::name(*at), Self::v_value(n, *at))),
        )
    }

    fn v_value(n: usize, at: usize) -> String {
        match DB::DIALECT {
            Dialect::Postgres => Self::from_v(n, at),
            Dialect::Sqlite => format!("v.c{n}"),
        }
    }

    fn insert_into(table: &str, insert: Insert, columns: &str) -> String {
        let bound = Self::inserted(insert);
        let mut text = if bound.is_empty() {
            format!("INSERT INTO {table} DEFAULT VALUES")
        } else {
            let names = list(bound.iter().map(|at| Self::name(*at)));
            let values = list(bound.iter().enumerate().map(|(n, at)| Self::placeholder(n + 1, *at)));
            format!("INSERT INTO {table}{} ({names}) VALUES ({values})", insert.alias())
        };
        Self::on_conflict(&mut text, insert);
        push(&mut text, format_args!(" RETURNING {columns}"));
        text
    }

    fn on_conflict(text: &mut String, insert: Insert) {
        if insert != Insert::Upsert {
            return;
        }
        let key = list(Self::DEF.key.iter().map(|at| Self::name(*at)));
        let set = list(Self::updated().iter().map(|at| format!("{0} = EXCLUDED.{0}", Self::name(*at))));
        push(text, format_args!(" ON CONFLICT ({key}) DO UPDATE SET {set}"));
    }

    fn key_in(keys: usize) -> String {
        let key = Self::DEF.key;
        match key {
            [at] => format!("{} IN ({})", Self::name(*at), list((0..keys).map(|_| "?".to_owned()))),
            _ => format!("({}) IN (VALUES {})", list(key.iter().map(|at| Self::name(*at))), values(keys, key.len())),
        }
    }

    fn equals(at: usize, n: usize) -> String {
        format!("{} = {}", Self::name(at), Self::placeholder(n, at))
    }

    fn placeholder(n: usize, at: usize) -> String {
        let SqlType { name, cast, .. } = Self::types(at);
        match DB::DIALECT {
            Dialect::Postgres if cast => format!("${n}::{name}"),
            Dialect::Postgres => format!("${n}"),
            Dialect::Sqlite => format!("?{n}"),
        }
    }

    /// A column. SQLite reads a column in double quotes that a table does not have as text, so it gets backticks there.
    fn name(at: usize) -> String {
        let name = Self::DEF.columns[at].name;
        match DB::DIALECT {
            Dialect::Postgres => quote(name),
            Dialect::Sqlite => format!("`{}`", name.replace('`', "``")),
        }
    }

    fn types(at: usize) -> SqlType {
        <T as Persist<DB>>::TYPES[at]
    }
}

/// `(?, ?), (?, ?)`.
fn values(rows: usize, columns: usize) -> String {
    let row = format!("({})", list((0..columns).map(|_| "?".to_owned())));
    list((0..rows).map(|_| row.clone()))
}

fn list(items: impl Iterator<Item = String>) -> String {
    list_with(", ", items)
}

fn list_with(separator: &str, items: impl Iterator<Item = String>) -> String {
    items.enumerate().fold(String::new(), |mut all, (n, item)| {
        if n > 0 {
            all.push_str(separator);
        }
        all.push_str(&item);
        all
    })
}

fn push(text: &mut String, more: std::fmt::Arguments<'_>) {
    text.write_fmt(more).unwrap_or_else(|_| unreachable!("writing to a String cannot fail"));
}
