//! What the database says about a table.

use std::future::Future;

use crate::backend::Backend;

/// A table as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    /// What it is.
    pub kind: Kind,
    /// Its columns, in order.
    pub columns: Vec<Column>,
    /// The columns of its primary key, in order; empty when it has none.
    pub key: Vec<String>,
    /// Its indexes that cover every row and name columns only, the primary key's among them.
    pub indexes: Vec<Index>,
    /// Whether a trigger runs before a row is inserted, and may fill columns that the statement leaves out.
    pub filled_by_trigger: bool,
}

/// What a name of a table stands for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// A view that is stored: it has columns and indexes; nothing says whether they may be NULL.
    MaterializedView,
    /// A table.
    #[default]
    Table,
    /// A view: it has columns, but no key, index or default, and nothing says whether they may be NULL.
    View,
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
    /// Whether it is an identity column that refuses the values given to it (`GENERATED ALWAYS AS IDENTITY`).
    pub identity_always: bool,
}

/// An index as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Index {
    /// Its columns, in order.
    pub columns: Vec<String>,
    /// Whether it is unique.
    pub unique: bool,
    /// Whether it is the primary key's.
    pub primary: bool,
    /// The name of its constraint, when that is `DEFERRABLE`: an upsert by these columns fails.
    pub deferrable: Option<String>,
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

    use super::{Column, Index, Inspect, Kind, Table};
    use crate::sql_text::sql;

    const TABLE: &str = "
        SELECT c.relkind::text,
               EXISTS (SELECT 1 FROM pg_catalog.pg_trigger g
                       WHERE g.tgrelid = c.oid AND NOT g.tgisinternal AND g.tgenabled::text <> 'D'
                             AND g.tgtype & 7 = 7)
        FROM pg_catalog.pg_class c WHERE c.oid = to_regclass($1)";

    /// A domain counts as its base type, through every level: that is how its values travel. Each level may forbid
    /// NULL; the default is the outermost one's, which copied its base's when it was made.
    const COLUMNS: &str = "
        SELECT a.attname::text,
               format_type(base.type, base.typmod),
               NOT (a.attnotnull OR base.not_null),
               a.atthasdef OR a.attidentity::text <> '' OR t.typdefault IS NOT NULL,
               a.attgenerated::text <> '',
               a.attidentity::text = 'a'
        FROM pg_catalog.pg_attribute a
        JOIN pg_catalog.pg_class c ON c.oid = a.attrelid AND c.relkind::text IN ('r', 'p', 'f', 'v', 'm')
        JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
        CROSS JOIN LATERAL (
            WITH RECURSIVE level (n, type, typmod, not_null) AS (
                SELECT 0, a.atttypid, a.atttypmod, false
                UNION ALL
                SELECT l.n + 1, d.typbasetype, d.typtypmod, l.not_null OR d.typnotnull
                FROM level l JOIN pg_catalog.pg_type d ON d.oid = l.type AND d.typtype = 'd'
            )
            SELECT type, typmod, not_null FROM level ORDER BY n DESC LIMIT 1
        ) base
        WHERE a.attrelid = to_regclass($1) AND a.attnum > 0 AND NOT a.attisdropped
        ORDER BY a.attnum";

    const INDEXES: &str = "
        SELECT i.indisprimary, i.indisunique,
               (SELECT c.relname::text FROM pg_catalog.pg_class c WHERE c.oid = i.indexrelid AND NOT i.indimmediate),
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
            let table: Option<(String, bool)> = sqlx::query_as(TABLE).bind(name).fetch_optional(&mut *conn).await?;
            let Some((kind, filled_by_trigger)) = table else {
                return Ok(None);
            };
            let columns: Vec<(String, String, bool, bool, bool, bool)> =
                sqlx::query_as(COLUMNS).bind(name).fetch_all(&mut *conn).await?;
            let indexes: Vec<(bool, bool, Option<String>, Vec<String>)> =
                sqlx::query_as(INDEXES).bind(name).fetch_all(conn).await?;

            let key = indexes.iter().find(|index| index.0).map(|index| index.3.clone()).unwrap_or_default();
            let column = |(name, sql_type, nullable, has_default, generated, identity_always)| Column {
                name,
                sql_type,
                nullable,
                has_default,
                generated,
                identity_always,
            };
            let index = |(primary, unique, deferrable, columns)| Index { columns, unique, primary, deferrable };
            Ok(Some(Table {
                kind: match kind.as_str() {
                    "m" => Kind::MaterializedView,
                    "v" => Kind::View,
                    _ => Kind::Table,
                },
                columns: columns.into_iter().map(column).collect(),
                key,
                indexes: indexes.into_iter().map(index).collect(),
                filled_by_trigger,
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

    use super::{Column, Index, Inspect, Kind, Table};
    use crate::sql_text::sql;

    /// A name stands for a temporary table first, then for one of the main database.
    const KIND: &str = "
        SELECT type FROM pragma_table_list($1) ORDER BY schema <> 'temp', schema <> 'main' LIMIT 1";

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
            let kind: Option<String> = sqlx::query_scalar(KIND).bind(&name).fetch_optional(&mut *conn).await?;
            let kind = if kind.as_deref() == Some("view") { Kind::View } else { Kind::Table };

            let mut key: Vec<(i64, String)> =
                rows.iter().filter(|row| row.4 > 0).map(|row| (row.4, row.0.clone())).collect();
            key.sort();
            let key: Vec<String> = key.into_iter().map(|(_, name)| name).collect();
            let parts = key.len();

            let mut indexes = vec![Index { columns: key.clone(), unique: true, primary: true, deferrable: None }];
            let mut last = None;
            let entries: Vec<(i64, bool, Option<String>)> = sqlx::query_as(INDEXES).bind(&name).fetch_all(conn).await?;
            for (seq, unique, column) in entries {
                if last.replace(seq) != Some(seq) {
                    indexes.push(Index { columns: Vec::new(), unique, primary: false, deferrable: None });
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
                        identity_always: false,
                    }
                };
            let columns = rows.into_iter().map(column).collect();
            // No trigger can change the row that is inserted.
            Ok(Some(Table { kind, columns, key, indexes, filled_by_trigger: false }))
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
