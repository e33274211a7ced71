//! The outbox of Postgres: statement triggers, and relays that share the work by row locks.

use sqlx::{Pool, Postgres, SqlSafeStr as _, Transaction};

use super::{Outbox, Queue, Recorded, Taken, Watch};
use crate::backend::Backend as _;

/// The same text as `migrations/postgres/0002_outbox.sql`.
const SET_UP: &str = include_str!("postgres.sql");

/// The comment on the table.
const VERSION: &str = "StoreHaus outbox, version 1";

const FOUND: &str = "
    SELECT coalesce(obj_description(o, 'pg_class'), '') FROM to_regclass('storehaus_outbox') o WHERE o IS NOT NULL";

/// Whether the table's mark leads to a function that records by this key.
const RECORDED_AS: &str = "
    SELECT storehaus_outbox_name(m.target)
    FROM (SELECT $2::text::regclass AS target) m
    WHERE EXISTS (
        SELECT FROM storehaus_outbox_triggers($1, m.target) w
        JOIN pg_catalog.pg_trigger t ON t.tgrelid = w.relation AND t.tgname = w.name AND t.tgenabled IN ('O', 'A')
        JOIN pg_catalog.pg_proc f ON f.oid = t.tgfoid
        WHERE w.is_mark AND f.prosrc = storehaus_outbox_body($1, m.target, $3)
    )";

const ANY: &str = "
    SELECT 1 FROM storehaus_outbox WHERE cache = $1 AND relation = ANY($2) ORDER BY id LIMIT 1";

/// Rows leave by being deleted, so one whose transaction commits late is as good as any other. `ANY(ARRAY(…))` because
/// an `IN` may be evaluated more than once, and then takes more than the limit.
const TAKE: &str = "
    DELETE FROM storehaus_outbox WHERE id = ANY(ARRAY(
        SELECT id FROM storehaus_outbox WHERE cache = $1 AND relation = ANY($2)
        ORDER BY id LIMIT $3 FOR UPDATE SKIP LOCKED
    )) RETURNING relation, key";

const BACKLOG: &str = "
    SELECT count(*), extract(epoch FROM clock_timestamp() - min(recorded_at))::float8
    FROM storehaus_outbox WHERE cache = $1";

/// A stricter default would have relays fail each other.
const BEGIN: &str = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE";

impl Outbox for Postgres {
    type Hold = Transaction<'static, Self>;

    async fn set_up(conn: &mut Self::Connection) -> Result<bool, sqlx::Error> {
        let found: Option<String> = sqlx::query_scalar(FOUND).fetch_optional(&mut *conn).await?;
        match found {
            Some(version) => Ok(version == VERSION),
            None => Self::run(conn, SET_UP.into_sql_str()).await.map(|()| true),
        }
    }

    async fn record(conn: &mut Self::Connection, cache: &str, watch: &Watch) -> Result<(), sqlx::Error> {
        let add = sqlx::query("SELECT storehaus_outbox_add($1, $2::text::regclass, $3)");
        add.bind(cache).bind(&watch.name).bind(&watch.key).execute(conn).await.map(drop)
    }

    async fn forget(conn: &mut Self::Connection, cache: &str, watch: &Watch) -> Result<(), sqlx::Error> {
        let remove = sqlx::query("SELECT storehaus_outbox_remove($1, $2::text::regclass)");
        remove.bind(cache).bind(&watch.name).execute(conn).await.map(drop)
    }

    async fn recorded_as(
        conn: &mut Self::Connection,
        cache: &str,
        watch: &Watch,
    ) -> Result<Option<String>, sqlx::Error> {
        let name = sqlx::query_scalar(RECORDED_AS).bind(cache).bind(&watch.name).bind(&watch.key);
        name.fetch_optional(conn).await
    }

    async fn take(pool: &Pool<Self>, queue: &Queue) -> Result<Option<Taken<Self>>, sqlx::Error> {
        let any = sqlx::query(ANY).bind(&queue.cache).bind(&queue.relations);
        if any.fetch_optional(pool).await?.is_none() {
            return Ok(None);
        }
        let mut tx = pool.begin_with(BEGIN).await?;
        let take = sqlx::query_as(TAKE).bind(&queue.cache).bind(&queue.relations).bind(queue.batch);
        let rows: Vec<(String, Option<Vec<String>>)> = take.fetch_all(&mut *tx).await?;
        if rows.is_empty() {
            // Others have them.
            tx.rollback().await?;
            return Ok(None);
        }
        Ok(Some((rows.into_iter().map(|(relation, key)| Recorded { relation, key }).collect(), tx)))
    }

    async fn done(hold: Self::Hold) -> Result<(), sqlx::Error> {
        hold.commit().await
    }

    async fn backlog(pool: &Pool<Self>, cache: &str) -> Result<(i64, Option<f64>), sqlx::Error> {
        sqlx::query_as(BACKLOG).bind(cache).fetch_one(pool).await
    }
}
