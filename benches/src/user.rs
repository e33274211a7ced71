//! What people write by hand to read and write rows.

use redis::aio::MultiplexedConnection;
use storehaus::prelude::*;
use storehaus::sqlx::postgres::PgRow;
use storehaus::sqlx::{self, FromRow, Row as _};
use storehaus_cache::codec::{from_bytes, to_bytes};

use crate::harness::Failure;
pub(crate) use crate::row::{User, mix};

impl FromRow<'_, PgRow> for User {
    fn from_row(row: &PgRow) -> Result<Self, sqlx::Error> {
        Ok(Self {
            id: row.try_get("id")?,
            version: row.try_get("version")?,
            email: row.try_get("email")?,
            name: row.try_get("name")?,
            city: row.try_get("city")?,
            about: row.try_get("about")?,
            active: row.try_get("active")?,
            score: row.try_get("score")?,
            joined: row.try_get("joined")?,
        })
    }
}

pub(crate) async fn select(pool: &PgPool, id: Uuid) -> Result<User, sqlx::Error> {
    sqlx::query_as(SELECT).bind(id).fetch_one(pool).await
}

pub(crate) async fn select_many(pool: &PgPool, ids: &[Uuid]) -> Result<Vec<User>, sqlx::Error> {
    sqlx::query_as(SELECT_MANY).bind(ids).fetch_all(pool).await
}

pub(crate) async fn update(pool: &PgPool, user: &User) -> Result<(), Failure> {
    let query = sqlx::query(UPDATE).bind(user.id).bind(user.version).bind(&user.email).bind(&user.name);
    let query = query.bind(&user.city).bind(&user.about).bind(user.active).bind(user.score).bind(user.joined);
    one(query.execute(pool).await?.rows_affected(), 1)
}

/// Inserts or updates many rows in one statement and returns them.
pub(crate) async fn unnest(pool: &PgPool, sql: &'static str, users: &[User]) -> Result<Vec<User>, Failure> {
    fn column<'a, T>(users: &'a [User], of: impl Fn(&'a User) -> T) -> Vec<T> {
        users.iter().map(of).collect()
    }
    let query = sqlx::query_as(sql)
        .bind(column(users, |user| user.id))
        .bind(column(users, |user| user.version))
        .bind(column(users, |user| user.email.as_str()))
        .bind(column(users, |user| user.name.as_str()))
        .bind(column(users, |user| user.city.as_str()))
        .bind(column(users, |user| user.about.as_str()))
        .bind(column(users, |user| user.active))
        .bind(column(users, |user| user.score))
        .bind(column(users, |user| user.joined));
    let returned: Vec<User> = query.fetch_all(pool).await?;
    one(returned.len() as u64, users.len())?;
    Ok(returned)
}

fn one(affected: u64, wanted: usize) -> Result<(), Failure> {
    if affected == wanted as u64 { Ok(()) } else { Err(format!("{affected} rows were written, not {wanted}").into()) }
}

/// Cache-aside as people write it: look, ask the database, store.
pub(crate) async fn read_aside(
    redis: &mut MultiplexedConnection,
    pool: &PgPool,
    key: &str,
    id: Uuid,
) -> Result<User, Failure> {
    let bytes: Option<Vec<u8>> = redis::cmd("GET").arg(key).query_async(redis).await?;
    if let Some(bytes) = bytes {
        return Ok(from_bytes(&bytes)?);
    }
    let user = select(pool, id).await?;
    let () = redis::cmd("SET").arg(key).arg(to_bytes(&user)?).arg("EX").arg(TTL).query_async(redis).await?;
    Ok(user)
}

/// Writes the row, then deletes the key.
pub(crate) async fn write_aside(
    redis: &mut MultiplexedConnection,
    pool: &PgPool,
    key: &str,
    user: &User,
) -> Result<(), Failure> {
    update(pool, user).await?;
    Ok(redis::cmd("DEL").arg(key).query_async(redis).await?)
}

/// Seconds an entry of ours or theirs may live: longer than a run.
pub(crate) const TTL: u64 = 3_600;

pub(crate) const SELECT: &str = "SELECT id, version, email, name, city, about, active, score, joined \
                      FROM storehaus_bench_users WHERE id = $1";
const SELECT_MANY: &str = "SELECT id, version, email, name, city, about, active, score, joined \
                           FROM storehaus_bench_users WHERE id = ANY($1)";
const UPDATE: &str = "UPDATE storehaus_bench_users SET version = $2, email = $3, name = $4, city = $5, about = $6, \
                      active = $7, score = $8, joined = $9 WHERE id = $1";
pub(crate) const INSERT_MANY: &str = "INSERT INTO storehaus_bench_users (id, version, email, name, city, about, active, score, joined) \
     SELECT * FROM UNNEST($1::uuid[], $2::int8[], $3::text[], $4::text[], $5::text[], $6::text[], $7::bool[], \
     $8::float8[], $9::timestamptz[]) RETURNING id, version, email, name, city, about, active, score, joined";
pub(crate) const UPDATE_MANY: &str = "UPDATE storehaus_bench_users AS t SET version = s.version, email = s.email, name = s.name, city = s.city, \
     about = s.about, active = s.active, score = s.score, joined = s.joined \
     FROM UNNEST($1::uuid[], $2::int8[], $3::text[], $4::text[], $5::text[], $6::text[], $7::bool[], $8::float8[], \
     $9::timestamptz[]) AS s (id, version, email, name, city, about, active, score, joined) WHERE t.id = s.id \
     RETURNING t.id, t.version, t.email, t.name, t.city, t.about, t.active, t.score, t.joined";
