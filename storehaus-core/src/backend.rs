//! The databases StoreHaus runs on.
//!
//! [`Backend`] is written once per database by a macro, so that the bounds sqlx's generic code needs (executors,
//! argument lifetimes) never surface: a caller of generic store code writes `T: Persist<DB>, DB: Backend` and no more.

use std::any::Any;
use std::future::Future;

use futures_core::stream::BoxStream;
use futures_util::{StreamExt as _, stream};
use sqlx::database::HasStatementCache;
use sqlx::query::Query;
use sqlx::{Connection, Database, IntoArguments, Pool, SqlStr};
use tokio::sync::mpsc;

use crate::sql_text::Sql;

/// Why a value could not be bound.
pub type BindError = sqlx::error::BoxDynError;

/// A database StoreHaus runs on: `Postgres` or `Sqlite`, each behind the feature of its name.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a database StoreHaus runs on",
    note = "use `Postgres` or `Sqlite`, and switch on the feature of that name"
)]
pub trait Backend: sealed::Sealed + Database {
    /// Which SQL it speaks.
    const DIALECT: Dialect;

    /// How many parameters one statement may have.
    const MAX_BINDS: usize;

    /// What starts a transaction that will write: on SQLite it takes the write lock at once, so that two of them
    /// wait for each other instead of failing.
    const BEGIN: &'static str;

    /// A connection as what it is, for code that knows which database it may be.
    fn as_any(conn: &mut Self::Connection) -> &mut dyn Any;

    /// Opens a pool with the defaults StoreHaus recommends.
    ///
    /// On Postgres 14 and later a connection of it ends within a second of its client, even while it waits for a lock, so
    /// that no statement of a dead process is committed after the intents of its write ended
    /// ([`with_intent_ttl`](storehaus_cache::CacheConfig::with_intent_ttl)). A pool of your own needs
    /// `client_connection_check_interval` set for that, on the role, the database or the server. The server learns of the
    /// end of a process, not of a machine or a network: there it takes TCP keepalive.
    fn open(url: &str) -> impl Future<Output = Result<Pool<Self>, sqlx::Error>> + Send;

    /// Runs a statement; the number of rows it affected.
    fn execute(
        conn: &mut Self::Connection,
        sql: impl Into<Sql> + Send,
        args: Self::Arguments,
    ) -> impl Future<Output = Result<u64, sqlx::Error>> + Send;

    /// Runs a statement that has no parameters and is not worth preparing, such as DDL.
    fn run(conn: &mut Self::Connection, sql: SqlStr) -> impl Future<Output = Result<(), sqlx::Error>> + Send;

    /// Runs a statement that yields at most one row.
    fn fetch_optional(
        conn: &mut Self::Connection,
        sql: impl Into<Sql> + Send,
        args: Self::Arguments,
    ) -> impl Future<Output = Result<Option<Self::Row>, sqlx::Error>> + Send;

    /// Runs a statement that yields rows.
    fn fetch_all(
        conn: &mut Self::Connection,
        sql: impl Into<Sql> + Send,
        args: Self::Arguments,
    ) -> impl Future<Output = Result<Vec<Self::Row>, sqlx::Error>> + Send;

    /// The number a `SELECT COUNT(*)` yields.
    ///
    /// # Errors
    /// When the row is of another shape.
    fn count(row: &Self::Row) -> Result<u64, sqlx::Error>;

    /// Runs a statement without parameters and hands out its rows as they arrive, on a connection it holds until they are
    /// all read or the stream is dropped.
    fn fetch(pool: &Pool<Self>, sql: Sql) -> BoxStream<'static, Result<Self::Row, sqlx::Error>>;
}

/// Which SQL a backend speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// PostgreSQL.
    Postgres,
    /// SQLite.
    Sqlite,
}

/// The backend of a store whose second type parameter is left out.
#[cfg(feature = "postgres")]
pub type DefaultBackend = sqlx::Postgres;

/// The backend of a store whose second type parameter is left out.
#[cfg(all(feature = "sqlite", not(feature = "postgres")))]
pub type DefaultBackend = sqlx::Sqlite;

#[cfg(not(any(feature = "postgres", feature = "sqlite")))]
compile_error!("storehaus needs a database: switch on the feature `postgres` or `sqlite`");

mod sealed {
    #[expect(unnameable_types, reason = "sealing needs a trait nobody can name")]
    pub trait Sealed {}

    #[cfg(feature = "postgres")]
    impl Sealed for sqlx::Postgres {}

    #[cfg(feature = "sqlite")]
    impl Sealed for sqlx::Sqlite {}
}

macro_rules! backend {
    ($db:ident, $module:ident, $binds:literal, $begin:literal) => {
        impl Backend for sqlx::$db {
            const DIALECT: Dialect = Dialect::$db;
            const MAX_BINDS: usize = $binds;
            const BEGIN: &'static str = $begin;

            fn as_any(conn: &mut Self::Connection) -> &mut dyn Any {
                conn
            }

            async fn open(url: &str) -> Result<Pool<Self>, sqlx::Error> {
                $module::open(url).await
            }

            async fn execute(
                conn: &mut Self::Connection,
                sql: impl Into<Sql> + Send,
                args: Self::Arguments,
            ) -> Result<u64, sqlx::Error> {
                let done = query(sql.into(), args).execute(&mut *conn).await;
                Ok(fresh(conn, done).await?.rows_affected())
            }

            async fn run(conn: &mut Self::Connection, sql: SqlStr) -> Result<(), sqlx::Error> {
                sqlx::raw_sql(sql).execute(conn).await.map(drop)
            }

            async fn fetch_optional(
                conn: &mut Self::Connection,
                sql: impl Into<Sql> + Send,
                args: Self::Arguments,
            ) -> Result<Option<Self::Row>, sqlx::Error> {
                // To its end: on SQLite sqlx' own `fetch_optional` stops at the row, and drops the error of a COMMIT that
                // fails afterwards (a deferred constraint, a full disk).
                Ok(Self::fetch_all(conn, sql, args).await?.into_iter().next())
            }

            async fn fetch_all(
                conn: &mut Self::Connection,
                sql: impl Into<Sql> + Send,
                args: Self::Arguments,
            ) -> Result<Vec<Self::Row>, sqlx::Error> {
                let rows = query(sql.into(), args).fetch_all(&mut *conn).await;
                fresh(conn, rows).await
            }

            fn count(row: &Self::Row) -> Result<u64, sqlx::Error> {
                use sqlx::Row as _;
                row.try_get::<i64, _>(0).map(i64::unsigned_abs)
            }

            fn fetch(pool: &Pool<Self>, sql: Sql) -> BoxStream<'static, Result<Self::Row, sqlx::Error>> {
                let pool = pool.clone();
                sent_by(move |sender| async move {
                    let mut conn = match pool.acquire().await {
                        Ok(conn) => conn,
                        Err(error) => return drop(sender.send(Err(error)).await),
                    };
                    let mut is_first_try = true;
                    loop {
                        let mut rows = query::<Self>(sql.clone(), Self::Arguments::default()).fetch(&mut *conn);
                        loop {
                            match rows.next().await {
                                None => return,
                                Some(Err(sqlx::Error::Database(error)))
                                    if is_first_try && is_stale_plan(error.message()) =>
                                {
                                    break;
                                }
                                Some(row) => {
                                    if sender.send(row).await.is_err() {
                                        // Nobody reads any more.
                                        return;
                                    }
                                    is_first_try = false;
                                }
                            }
                        }
                        drop(rows);
                        // Prepared anew, the statement is tried once more.
                        is_first_try = false;
                        if let Err(error) = conn.clear_cached_statements().await {
                            return drop(sender.send(Err(error)).await);
                        }
                    }
                })
            }
        }
    };
}

fn query<DB>(sql: Sql, args: DB::Arguments) -> Query<'static, DB, DB::Arguments>
where
    DB: Database + HasStatementCache,
    DB::Arguments: IntoArguments<DB>,
{
    sqlx::query_with(sql.text, args).persistent(sql.reusable)
}

/// A stream of what a task sends. The task starts with the first poll and ends soon after the stream is dropped.
fn sent_by<R, F>(work: impl FnOnce(mpsc::Sender<R>) -> F + Send + 'static) -> BoxStream<'static, R>
where
    R: Send + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    let start = async move {
        let (sender, receiver) = mpsc::channel(ROWS_AHEAD);
        tokio::spawn(work(sender));
        stream::unfold(receiver, |mut receiver| async move { receiver.recv().await.map(|sent| (sent, receiver)) })
    };
    stream::once(start).flatten().boxed()
}

/// How many rows a stream reads ahead of its reader.
const ROWS_AHEAD: usize = 64;

/// Forgets the prepared statements of a connection where a table was altered under one of them: Postgres would refuse
/// it until the connection is closed.
async fn fresh<C: Connection, R>(conn: &mut C, result: Result<R, sqlx::Error>) -> Result<R, sqlx::Error>
where
    C::Database: HasStatementCache,
{
    if let Err(sqlx::Error::Database(error)) = &result
        && is_stale_plan(error.message())
    {
        conn.clear_cached_statements().await?;
    }
    result
}

/// Whether an error says that a prepared statement's columns have other types now.
pub(crate) fn is_stale_plan(message: &str) -> bool {
    message == "cached plan must not change result type"
}

/// Refuses the URL of another database, which sqlx would read as one of its own.
fn of_scheme(url: &str, schemes: &[&str]) -> Result<(), sqlx::Error> {
    if schemes.iter().any(|scheme| url.starts_with(scheme)) {
        return Ok(());
    }
    Err(sqlx::Error::Configuration(format!("the URL does not start with {}", schemes.join(" or ")).into()))
}

#[cfg(feature = "postgres")]
backend!(Postgres, postgres, 65_535, "BEGIN");

#[cfg(feature = "sqlite")]
backend!(Sqlite, sqlite, 32_766, "BEGIN IMMEDIATE");

#[cfg(feature = "postgres")]
mod postgres {
    use std::str::FromStr;
    use std::time::Duration;

    use sqlx::Connection;
    use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};

    /// A connection idle for longer than this is pinged before it is used.
    const PING_AFTER_IDLE: Duration = Duration::from_secs(1);

    /// Not by a parameter at start-up: a server that does not know it, or a pooler, would refuse the connection. Sets
    /// nothing where the setting does not exist, or was chosen.
    const WATCH_CLIENT: &str = "SELECT set_config('client_connection_check_interval', '1000', false) \
                                WHERE current_setting('client_connection_check_interval', true) = '0'";

    pub(super) async fn open(url: &str) -> Result<PgPool, sqlx::Error> {
        super::of_scheme(url, &["postgres://", "postgresql://"])?;
        PgPoolOptions::new()
            .max_connections(16)
            .acquire_timeout(Duration::from_secs(2))
            .test_before_acquire(false)
            .before_acquire(|conn, meta| {
                Box::pin(async move {
                    if meta.idle_for > PING_AFTER_IDLE { conn.ping().await.map(|()| true) } else { Ok(true) }
                })
            })
            .after_connect(|conn, _| {
                Box::pin(async move {
                    if let Err(error) = sqlx::raw_sql(WATCH_CLIENT).execute(conn).await {
                        tracing::debug!(%error, "the server does not watch its clients");
                    }
                    Ok(())
                })
            })
            .connect_with(PgConnectOptions::from_str(url)?)
            .await
    }
}

#[cfg(feature = "sqlite")]
mod sqlite {
    use std::str::FromStr;
    use std::time::Duration;

    use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions};

    pub(super) async fn open(url: &str) -> Result<SqlitePool, sqlx::Error> {
        super::of_scheme(url, &["sqlite:"])?;
        let options = SqliteConnectOptions::from_str(url)?
            .busy_timeout(Duration::from_secs(5))
            .foreign_keys(true)
            .journal_mode(SqliteJournalMode::Wal);
        // Every connection to an in-memory database, or to one without a name, is a database of its own.
        let is_unnamed = options.get_filename().as_os_str().is_empty();
        let in_memory = url.contains(":memory:") || url.contains("mode=memory") || is_unnamed;
        let pool = SqlitePoolOptions::new().acquire_timeout(Duration::from_secs(5));
        let pool = if in_memory {
            pool.max_connections(1).idle_timeout(None).max_lifetime(None)
        } else {
            pool.max_connections(8)
        };
        pool.connect_with(options).await
    }
}
