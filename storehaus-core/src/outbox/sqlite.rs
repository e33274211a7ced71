//! The outbox of SQLite: row triggers. For a file that other programs write too.

use sqlx::{Pool, SqlSafeStr as _, Sqlite};

use super::{Outbox, Queue, Recorded, Taken, Watch};
use crate::backend::Backend as _;
use crate::sql_text::sql;

/// `AUTOINCREMENT`, because the id of a row that another relay removed must not come back with another change.
const SET_UP: &str = "\
CREATE TABLE storehaus_outbox (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    cache TEXT NOT NULL,
    relation TEXT NOT NULL,
    key TEXT,
    recorded_at REAL NOT NULL DEFAULT (julianday('now'))
) STRICT";

const TAKE: &str = "
    SELECT id, relation, key FROM storehaus_outbox
    WHERE cache = ?1 AND relation IN (SELECT value FROM json_each(?2)) ORDER BY id LIMIT ?3";

const DONE: &str = "DELETE FROM storehaus_outbox WHERE id IN (SELECT value FROM json_each(?1))";

const BACKLOG: &str = "
    SELECT count(*), (julianday('now') - min(recorded_at)) * 86400.0 FROM storehaus_outbox WHERE cache = ?1";

impl Outbox for Sqlite {
    /// Two relays may have the same rows: each delivers them, and either removes them.
    type Hold = (Pool<Self>, Vec<i64>);

    async fn set_up(conn: &mut Self::Connection) -> Result<bool, sqlx::Error> {
        match definition(conn, "storehaus_outbox").await? {
            Some(found) => Ok(found == SET_UP),
            None => Self::run(conn, SET_UP.into_sql_str()).await.map(|()| true),
        }
    }

    async fn record(conn: &mut Self::Connection, cache: &str, watch: &Watch) -> Result<(), sqlx::Error> {
        for (name, text) in triggers(cache, watch) {
            match definition(conn, &name).await? {
                Some(found) if found == text => continue,
                Some(_) => Self::run(conn, sql(format!("DROP TRIGGER {}", quoted(&name)))).await?,
                None => {}
            }
            Self::run(conn, sql(text)).await?;
        }
        Ok(())
    }

    async fn forget(conn: &mut Self::Connection, cache: &str, watch: &Watch) -> Result<(), sqlx::Error> {
        for (name, _) in triggers(cache, watch) {
            Self::run(conn, sql(format!("DROP TRIGGER IF EXISTS {}", quoted(&name)))).await?;
        }
        Ok(())
    }

    async fn recorded_as(
        conn: &mut Self::Connection,
        cache: &str,
        watch: &Watch,
    ) -> Result<Option<String>, sqlx::Error> {
        for (name, text) in triggers(cache, watch) {
            if definition(conn, &name).await?.as_ref() != Some(&text) {
                return Ok(None);
            }
        }
        Ok(Some(watch.table.to_owned()))
    }

    async fn take(pool: &Pool<Self>, queue: &Queue) -> Result<Option<Taken<Self>>, sqlx::Error> {
        let take = sqlx::query_as(TAKE).bind(&queue.cache).bind(json(&queue.relations)?).bind(queue.batch);
        let rows: Vec<(i64, String, Option<String>)> = take.fetch_all(pool).await?;
        if rows.is_empty() {
            return Ok(None);
        }
        let ids = rows.iter().map(|row| row.0).collect();
        let recorded = rows.into_iter().map(|(_, relation, key)| {
            // What is no list of texts is the key of no model, and stands for whichever row.
            let key = key.and_then(|key| serde_json::from_str(&key).ok());
            Recorded { relation, key }
        });
        Ok(Some((recorded.collect(), (pool.clone(), ids))))
    }

    async fn done((pool, ids): Self::Hold) -> Result<(), sqlx::Error> {
        sqlx::query(DONE).bind(json(&ids)?).execute(&pool).await.map(drop)
    }

    async fn backlog(pool: &Pool<Self>, cache: &str) -> Result<(i64, Option<f64>), sqlx::Error> {
        sqlx::query_as(BACKLOG).bind(cache).fetch_one(pool).await
    }
}

/// The statement that made a table or trigger.
async fn definition(conn: &mut sqlx::SqliteConnection, name: &str) -> Result<Option<String>, sqlx::Error> {
    sqlx::query_scalar("SELECT sql FROM sqlite_schema WHERE name = ?1").bind(name).fetch_optional(conn).await
}

/// The names and statements of the triggers of a table.
fn triggers(cache: &str, watch: &Watch) -> [(String, String); 3] {
    let table = &watch.name;
    let key = |row: &str| {
        let part = |column: &&str| {
            let column = format!("{row}.{}", quoted(column));
            format!("CASE typeof({column}) WHEN 'blob' THEN hex({column}) ELSE CAST({column} AS TEXT) END")
        };
        format!("json_array({})", watch.key.iter().map(part).collect::<Vec<_>>().join(", "))
    };
    let (old, new) = (key("OLD"), key("NEW"));
    let (cache_text, relation) = (literal(cache), literal(watch.table));
    let insert = |key: &str, condition: &str| {
        format!(
            "INSERT INTO storehaus_outbox (cache, relation, key) SELECT {cache_text}, {relation}, {key}{condition};"
        )
    };
    let trigger = |event: &str, body: String| {
        let name = format!("storehaus_{cache}_{}_{event}", watch.table);
        let event = event.to_ascii_uppercase();
        let text = format!("CREATE TRIGGER {} AFTER {event} ON {table} BEGIN {body} END", quoted(&name));
        (name, text)
    };
    [
        trigger("insert", insert(&new, "")),
        trigger("update", format!("{} {}", insert(&old, ""), insert(&new, &format!(" WHERE {new} IS NOT {old}")))),
        trigger("delete", insert(&old, "")),
    ]
}

fn quoted(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

fn json<T: serde::Serialize>(value: &T) -> Result<String, sqlx::Error> {
    serde_json::to_string(value).map_err(|error| sqlx::Error::Encode(error.into()))
}
