//! What the database says about a table.

use std::future::Future;

use crate::backend::Backend;

/// A table as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    /// Its columns, in order.
    pub columns: Vec<Column>,
    /// The columns of its primary key, in order; empty when it has none.
    pub key: Vec<String>,
    /// Its indexes that cover every row and name columns only, the primary key's among them.
    pub indexes: Vec<Index>,
}

/// A column as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// Its type, as the database spells it.
    pub sql_type: String,
    /// Whether it may be NULL.
    pub nullable: bool,
    /// Whether an INSERT may leave it out although it must not be NULL.
    pub has_default: bool,
    /// Whether it is computed and cannot be written.
    pub generated: bool,
}

/// An index as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Index {
    /// Its columns, in order.
    pub columns: Vec<String>,
    /// Whether it is unique.
    pub unique: bool,
}

/// A backend whose tables can be described. `name` is the table's name as it stands in SQL.
pub trait Inspect: Backend {
    /// Waits until no other transaction works on the same table's definition; until the end of the transaction.
    fn lock(conn: &mut Self::Connection, name: &str) -> impl Future<Output = Result<(), sqlx::Error>> + Send;

    /// The table, when there is one.
    fn table(
        conn: &mut Self::Connection,
        name: &str,
    ) -> impl Future<Output = Result<Option<Table>, sqlx::Error>> + Send;

    /// Whether there is such a schema. Creating one takes a right that creating tables in it does not.
    fn has_schema(conn: &mut Self::Connection, schema: &str) -> impl Future<Output = Result<bool, sqlx::Error>> + Send;

    /// Whether the table has any row.
    fn has_rows(conn: &mut Self::Connection, name: &str) -> impl Future<Output = Result<bool, sqlx::Error>> + Send;

    /// Whether a user's type exists.
    fn has_type(conn: &mut Self::Connection, name: &str) -> impl Future<Output = Result<bool, sqlx::Error>> + Send;
}

#[cfg(feature = "postgres")]
mod postgres {
    use sqlx::{PgConnection, Postgres};

    use super::{Column, Index, Inspect, Table};
    use crate::sql_text::sql;

    /// A domain counts as its base type: that is how its values travel.
    const COLUMNS: &str = "
        SELECT a.attname::text,
               CASE t.typtype WHEN 'd' THEN format_type(t.typbasetype, t.typtypmod)
                              ELSE format_type(a.atttypid, a.atttypmod) END,
               NOT (a.attnotnull OR t.typnotnull),
               a.atthasdef OR a.attidentity::text <> '' OR t.typdefault IS NOT NULL,
               a.attgenerated::text <> ''
        FROM pg_catalog.pg_attribute a
        JOIN pg_catalog.pg_class c ON c.oid = a.attrelid AND c.relkind::text IN ('r', 'p', 'f', 'v', 'm')
        JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
        WHERE a.attrelid = to_regclass($1) AND a.attnum > 0 AND NOT a.attisdropped
        ORDER BY a.attnum";

    const INDEXES: &str = "
        SELECT i.indisprimary, i.indisunique,
               (SELECT array_agg(a.attname::text ORDER BY k.n)
                FROM unnest(i.indkey::int2[]) WITH ORDINALITY k (attnum, n)
                JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
                WHERE k.n <= i.indnkeyatts)
        FROM pg_catalog.pg_index i
        WHERE i.indrelid = to_regclass($1) AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL
        ORDER BY i.indexrelid";

    impl Inspect for Postgres {
        async fn lock(conn: &mut PgConnection, name: &str) -> Result<(), sqlx::Error> {
            let lock = sqlx::query("SELECT pg_advisory_xact_lock(hashtextextended('storehaus:' || $1, 0))");
            lock.bind(name).execute(conn).await.map(drop)
        }

        async fn table(conn: &mut PgConnection, name: &str) -> Result<Option<Table>, sqlx::Error> {
            let columns: Vec<(String, String, bool, bool, bool)> =
                sqlx::query_as(COLUMNS).bind(name).fetch_all(&mut *conn).await?;
            if columns.is_empty() {
                let exists = sqlx::query_scalar("SELECT to_regclass($1) IS NOT NULL").bind(name);
                let exists: bool = exists.fetch_one(conn).await?;
                return Ok(exists.then(Table::default));
            }
            let indexes: Vec<(bool, bool, Vec<String>)> = sqlx::query_as(INDEXES).bind(name).fetch_all(conn).await?;
            let key = indexes.iter().find(|index| index.0).map(|index| index.2.clone()).unwrap_or_default();
            let column = |(name, sql_type, nullable, has_default, generated)| Column {
                name,
                sql_type,
                nullable,
                has_default,
                generated,
            };
            Ok(Some(Table {
                columns: columns.into_iter().map(column).collect(),
                key,
                indexes: indexes.into_iter().map(|(_, unique, columns)| Index { columns, unique }).collect(),
            }))
        }

        async fn has_schema(conn: &mut PgConnection, schema: &str) -> Result<bool, sqlx::Error> {
            let exists = "SELECT EXISTS (SELECT 1 FROM pg_catalog.pg_namespace WHERE nspname = $1)";
            sqlx::query_scalar(exists).bind(schema).fetch_one(conn).await
        }

        async fn has_rows(conn: &mut PgConnection, name: &str) -> Result<bool, sqlx::Error> {
            sqlx::query_scalar(sql(format!("SELECT EXISTS (SELECT 1 FROM {name})"))).fetch_one(conn).await
        }

        async fn has_type(conn: &mut PgConnection, name: &str) -> Result<bool, sqlx::Error> {
            sqlx::query_scalar("SELECT to_regtype($1) IS NOT NULL").bind(name).fetch_one(conn).await
        }
    }
}

#[cfg(feature = "sqlite")]
mod sqlite {
    use sqlx::{Sqlite, SqliteConnection};

    use super::{Column, Index, Inspect, Table};
    use crate::sql_text::sql;

    const COLUMNS: &str = "
        SELECT name, type, \"notnull\", dflt_value IS NOT NULL, pk, hidden
        FROM pragma_table_xinfo($1) WHERE hidden <> 1 ORDER BY cid";

    const INDEXES: &str = "
        SELECT l.seq, l.\"unique\", i.name
        FROM pragma_index_list($1) l JOIN pragma_index_xinfo(l.name) i
        WHERE NOT l.partial AND i.key ORDER BY l.seq, i.seqno";

    impl Inspect for Sqlite {
        /// A transaction that writes is alone anyway.
        async fn lock(_conn: &mut SqliteConnection, _name: &str) -> Result<(), sqlx::Error> {
            Ok(())
        }

        async fn table(conn: &mut SqliteConnection, name: &str) -> Result<Option<Table>, sqlx::Error> {
            let name = unquoted(name);
            let rows: Vec<(String, String, bool, bool, i64, i64)> =
                sqlx::query_as(COLUMNS).bind(&name).fetch_all(&mut *conn).await?;
            if rows.is_empty() {
                return Ok(None);
            }
            let mut key: Vec<(i64, String)> =
                rows.iter().filter(|row| row.4 > 0).map(|row| (row.4, row.0.clone())).collect();
            key.sort();
            let key: Vec<String> = key.into_iter().map(|(_, name)| name).collect();
            let parts = key.len();

            let mut indexes = vec![Index { columns: key.clone(), unique: true }];
            let mut last = None;
            let entries: Vec<(i64, bool, Option<String>)> = sqlx::query_as(INDEXES).bind(&name).fetch_all(conn).await?;
            for (seq, unique, column) in entries {
                if last.replace(seq) != Some(seq) {
                    indexes.push(Index { columns: Vec::new(), unique });
                }
                // An expression has no name; the empty one equals no column.
                if let Some(index) = indexes.last_mut() {
                    index.columns.push(column.unwrap_or_default());
                }
            }
            indexes.retain(|index| !index.columns.is_empty());

            let column =
                |(name, sql_type, not_null, has_default, pk, hidden): (String, String, bool, bool, i64, i64)| {
                    // The rowid: never NULL, and made when it is left out.
                    let is_rowid = pk > 0 && parts == 1 && sql_type.eq_ignore_ascii_case("INTEGER");
                    Column {
                        name,
                        sql_type,
                        nullable: !not_null && !is_rowid,
                        has_default: has_default || is_rowid,
                        generated: hidden != 0,
                    }
                };
            Ok(Some(Table { columns: rows.into_iter().map(column).collect(), key, indexes }))
        }

        async fn has_schema(_conn: &mut SqliteConnection, _schema: &str) -> Result<bool, sqlx::Error> {
            Ok(true)
        }

        async fn has_rows(conn: &mut SqliteConnection, name: &str) -> Result<bool, sqlx::Error> {
            sqlx::query_scalar(sql(format!("SELECT EXISTS (SELECT 1 FROM {name})"))).fetch_one(conn).await
        }

        async fn has_type(_conn: &mut SqliteConnection, _name: &str) -> Result<bool, sqlx::Error> {
            Ok(true)
        }
    }

    /// The name itself: pragmas take it as a value.
    fn unquoted(name: &str) -> String {
        name.strip_prefix('"').and_then(|name| name.strip_suffix('"')).unwrap_or(name).replace("\"\"", "\"")
    }
}
