//! Creates, extends and checks tables.
//!
//! SQLite runs in memory. Postgres runs where `DATABASE_URL` names one, in a schema of each test's own.
#![cfg(all(feature = "postgres", feature = "sqlite"))]

use chrono::{DateTime, Utc};
use rust_decimal::Decimal;
use sqlx::{AssertSqlSafe, Connection, PgConnection, Postgres, SqlSafeStr, SqlStr, Sqlite, SqliteConnection};
use storehaus_cache::codec::{Cacheable, DecodeError, Decoder, EncodeError, Encoder};
use storehaus_cache::{CacheField, Json};
use storehaus_core::backend::{Backend, BindError};
use storehaus_core::column::{Column, SqlType, null_column, text};
use storehaus_core::model::{CacheMode, ColumnDef, IndexDef, Model, Persist, Role, TableDef};
use storehaus_core::schema::{Difference, Inspect, SchemaError, check, create_missing};
use uuid::Uuid;

#[macro_use]
#[path = "schema/model.rs"]
mod model;
#[path = "schema/gaps.rs"]
mod gaps;
#[path = "schema/views.rs"]
mod views;

fn sql(text: impl Into<String>) -> SqlStr {
    AssertSqlSafe(text.into()).into_sql_str()
}

#[expect(clippy::print_stderr, reason = "says that nothing was checked, and why")]
async fn postgres(schema: &str) -> Option<PgConnection> {
    let Some(url) = std::env::var("DATABASE_URL").ok().filter(|url| url.starts_with("postgres")) else {
        eprintln!("skipped on Postgres: DATABASE_URL names none");
        return None;
    };
    let mut conn = PgConnection::connect(&url).await.unwrap();
    run::<Postgres>(&mut conn, &format!("DROP SCHEMA IF EXISTS {schema} CASCADE")).await;
    run::<Postgres>(&mut conn, &format!("CREATE SCHEMA {schema}")).await;
    run::<Postgres>(&mut conn, &format!("SET search_path = {schema}")).await;
    Some(conn)
}

async fn sqlite() -> SqliteConnection {
    SqliteConnection::connect("sqlite::memory:").await.unwrap()
}

async fn run<DB: Backend>(conn: &mut DB::Connection, text: &str) {
    DB::run(conn, sql(text)).await.unwrap();
}

const fn unique(columns: &'static [usize]) -> IndexDef {
    IndexDef { columns, unique: true }
}

const fn index(columns: &'static [usize]) -> IndexDef {
    IndexDef { columns, unique: false }
}

// The names are reserved words where they may be: identifiers are always quoted.
model!(User, "user", schema None, key (id): i64 = [0], {
    id: i64 = Role::Key,
    email: String = Role::Plain,
    order: Option<i32> = Role::Plain,
    balance: Decimal = Role::Plain,
    doc: Json<Vec<i64>> = Role::Plain,
    tags: Vec<String> = Role::Plain,
    created: DateTime<Utc> = Role::InsertOnly,
    double: i64 = Role::Generated(Some("id * 2")),
}, [unique(&[1]), index(&[2, 1])]);

// The same table before some columns and indexes were added.
model!(OldUser, "user", schema None, key (id): i64 = [0], { id: i64 = Role::Key, email: String = Role::Plain }, []);

model!(Member, "member", schema Some("club"), key (club, person): (Uuid, String) = [0, 2], {
    club: Uuid = Role::Key,
    since: DateTime<Utc> = Role::Plain,
    person: String = Role::Key,
}, [unique(&[1, 2])]);

model!(Computed, "computed", schema None, key (id): String = [0], {
    id: String = Role::Key,
    total: Option<i64> = Role::Generated(None),
}, []);

async fn differences<DB: Backend + Inspect, T: Persist<DB>>(conn: &mut DB::Connection) -> Vec<String> {
    check::<DB, T>(conn).await.unwrap().iter().map(ToString::to_string).collect()
}

async fn created_tables_have_no_difference<DB: Backend + Inspect>(conn: &mut DB::Connection)
where
    User: Persist<DB>,
    Member: Persist<DB>,
{
    assert!(
        matches!(&*check::<DB, User>(conn).await.unwrap(), [Difference::TableMissing { table }] if table == "user")
    );
    // The second time there is nothing to do.
    for _ in 0..2 {
        create_missing::<DB, User>(conn).await.unwrap();
        create_missing::<DB, Member>(conn).await.unwrap();
        assert_eq!(differences::<DB, User>(conn).await, [""; 0]);
        assert_eq!(differences::<DB, Member>(conn).await, [""; 0]);
    }
}

#[tokio::test]
async fn created_tables_have_no_difference_on_sqlite() {
    created_tables_have_no_difference::<Sqlite>(&mut sqlite().await).await;
}

#[tokio::test]
async fn created_tables_have_no_difference_on_postgres() {
    let Some(mut conn) = postgres("sh_created").await else { return };
    run::<Postgres>(&mut conn, "DROP SCHEMA IF EXISTS club CASCADE").await;
    created_tables_have_no_difference::<Postgres>(&mut conn).await;
}

async fn a_created_table_works<DB: Backend + Inspect>(conn: &mut DB::Connection)
where
    User: Persist<DB>,
    i64: Column<DB>,
{
    create_missing::<DB, User>(conn).await.unwrap();
    let insert = |n: i64| {
        let user = User {
            id: 0,
            email: format!("{n}"),
            order: None,
            balance: Decimal::new(n, 2),
            doc: Json(vec![n]),
            tags: vec![],
            created: DateTime::UNIX_EPOCH,
            double: 0,
        };
        let mut args = DB::Arguments::default();
        (1..7).for_each(|column| user.bind(column, &mut args).unwrap());
        let statement = "INSERT INTO \"user\" (email, \"order\", balance, doc, tags, created) \
                         VALUES ($1, $2, $3, $4, $5, $6) RETURNING *";
        (sql(statement), args)
    };
    let mut ids = Vec::new();
    for n in 1..=2 {
        let (statement, args) = insert(n);
        let row = DB::fetch_optional(conn, statement, args).await.unwrap().unwrap();
        let user = User::from_row(&row).unwrap();
        assert_eq!((user.double, user.doc.0), (user.id * 2, vec![n]));
        ids.push(user.id);
        run::<DB>(conn, &format!("DELETE FROM \"user\" WHERE id = {}", user.id)).await;
    }
    assert!(ids[0] < ids[1], "the id of a deleted row was given again: {ids:?}");

    let (statement, args) = insert(3);
    DB::execute(conn, statement, args).await.unwrap();
    let (statement, args) = insert(3);
    let error = DB::execute(conn, statement, args).await.unwrap_err();
    assert!(error.as_database_error().unwrap().is_unique_violation(), "{error}");
}

#[tokio::test]
async fn a_created_table_works_on_sqlite() {
    a_created_table_works::<Sqlite>(&mut sqlite().await).await;
}

#[tokio::test]
async fn a_created_table_works_on_postgres() {
    let Some(mut conn) = postgres("sh_works").await else { return };
    a_created_table_works::<Postgres>(&mut conn).await;
}

fn refusal(result: Result<(), SchemaError>) -> String {
    let error = result.unwrap_err();
    assert!(matches!(error, SchemaError::Refused { .. }), "{error:?}");
    error.to_string()
}

async fn tables_are_only_added_to<DB: Backend + Inspect>(conn: &mut DB::Connection)
where
    User: Persist<DB>,
    OldUser: Persist<DB>,
    Computed: Persist<DB>,
{
    create_missing::<DB, OldUser>(conn).await.unwrap();
    let found = differences::<DB, User>(conn).await;
    assert_eq!(found.len(), 8, "{found:?}");
    assert!(found[0].starts_with("table user: column order is missing; add it: ALTER TABLE \"user\" ADD COLUMN"));
    assert!(found[6].starts_with("table user: the unique constraint on email is missing; add it: CREATE UNIQUE INDEX"));

    // To a table without rows everything can be added; what the model does not know stays.
    run::<DB>(conn, "ALTER TABLE \"user\" ADD COLUMN other TEXT").await;
    create_missing::<DB, User>(conn).await.unwrap();
    assert_eq!(differences::<DB, User>(conn).await, [""; 0]);
    assert_eq!(differences::<DB, OldUser>(conn).await.len(), 4, "balance, doc, tags and created must not be NULL");
    run::<DB>(conn, "SELECT other FROM \"user\"").await;

    // To a table with rows a NOT NULL column cannot, nor a unique constraint the rows violate.
    run::<DB>(conn, "DROP TABLE \"user\"").await;
    create_missing::<DB, OldUser>(conn).await.unwrap();
    run::<DB>(conn, "INSERT INTO \"user\" (email) VALUES ('secret'), ('secret')").await;
    let refused = refusal(create_missing::<DB, User>(conn).await);
    assert!(refused.starts_with("table user: column balance: it is missing, must not be NULL"), "{refused}");
    assert_eq!(differences::<DB, OldUser>(conn).await, [""; 0], "refused before anything was done");

    let refused = refusal(create_missing::<DB, Computed>(conn).await);
    assert!(refused.starts_with("table computed: column total: the database generates it"), "{refused}");
}

#[tokio::test]
async fn tables_are_only_added_to_on_sqlite() {
    tables_are_only_added_to::<Sqlite>(&mut sqlite().await).await;
}

#[tokio::test]
async fn tables_are_only_added_to_on_postgres() {
    let Some(mut conn) = postgres("sh_added").await else { return };
    tables_are_only_added_to::<Postgres>(&mut conn).await;
}

model!(UniqueUser, "user", schema None, key (id): i64 = [0],
    { id: i64 = Role::Key, email: String = Role::Plain }, [unique(&[1])]);

async fn indexes_over_rows<DB: Backend + Inspect>(conn: &mut DB::Connection)
where
    OldUser: Persist<DB>,
    UniqueUser: Persist<DB>,
{
    create_missing::<DB, OldUser>(conn).await.unwrap();
    run::<DB>(conn, "INSERT INTO \"user\" (email) VALUES ('secret'), ('secret')").await;
    let error = create_missing::<DB, UniqueUser>(conn).await.unwrap_err();
    assert!(!format!("{error:?}").contains("secret"));
    assert!(error.to_string().contains("column email: rows repeat a value"), "{error}");

    run::<DB>(conn, "DELETE FROM \"user\"").await;
    run::<DB>(conn, "CREATE INDEX user_email_key ON \"user\" (id)").await;
    let refused = refusal(create_missing::<DB, UniqueUser>(conn).await);
    assert!(refused.contains("another index is named user_email_key"), "{refused}");
    run::<DB>(conn, "DROP INDEX user_email_key").await;
    run::<DB>(conn, "CREATE UNIQUE INDEX user_email_key ON \"user\" (email) WHERE id > 7").await;
    refusal(create_missing::<DB, UniqueUser>(conn).await);
    run::<DB>(conn, "DROP INDEX user_email_key").await;
    create_missing::<DB, UniqueUser>(conn).await.unwrap();
    assert_eq!(differences::<DB, UniqueUser>(conn).await, [""; 0]);
}

#[tokio::test]
async fn indexes_over_rows_on_sqlite() {
    indexes_over_rows::<Sqlite>(&mut sqlite().await).await;
}

#[tokio::test]
async fn indexes_over_rows_on_postgres() {
    let Some(mut conn) = postgres("sh_indexes").await else { return };
    indexes_over_rows::<Postgres>(&mut conn).await;
}

async fn every_difference_is_named<DB: Backend + Inspect>(conn: &mut DB::Connection, types: [&str; 2])
where
    User: Persist<DB>,
{
    let [number, text] = types;
    run::<DB>(
        conn,
        &format!(
            "CREATE TABLE \"user\" (id {number} NOT NULL, email {text}, \"order\" {text} NOT NULL, \
             balance {number} NOT NULL GENERATED ALWAYS AS (id + 1) STORED, unknown {number} NOT NULL, \
             fine {number} NOT NULL DEFAULT 1, free {text}, double {number}, PRIMARY KEY (unknown, id))"
        ),
    )
    .await;
    let found = check::<DB, User>(conn).await.unwrap();
    let names: Vec<String> = found
        .iter()
        .map(|difference| {
            let shown = format!("{difference:?}");
            let kind = shown.split(' ').next().unwrap().to_owned();
            let text = difference.to_string();
            let column = text.split("column ").nth(1).and_then(|rest| rest.split(' ').next());
            format!("{kind} {}", column.unwrap_or("-"))
        })
        .collect();
    let want = [
        "KeyNotAssigned id",
        "NullabilityDiffers email",
        "TypeDiffers order",
        "NullabilityDiffers order",
        "TypeDiffers balance",
        "GeneratedInDatabase balance",
        "ColumnMissing doc",
        "ColumnMissing tags",
        "ColumnMissing created",
        "KeyDiffers -",
        "IndexMissing -",
        "IndexMissing -",
        "ColumnUnknown unknown",
    ];
    assert_eq!(names, want);
}

#[tokio::test]
async fn every_difference_is_named_on_sqlite() {
    every_difference_is_named::<Sqlite>(&mut sqlite().await, ["INTEGER", "TEXT"]).await;
}

#[tokio::test]
async fn every_difference_is_named_on_postgres() {
    let Some(mut conn) = postgres("sh_named").await else { return };
    every_difference_is_named::<Postgres>(&mut conn, ["BIGINT", "TEXT"]).await;
}

/// A column of a Postgres enum type.
#[derive(Clone)]
struct Mood;

const MOOD: Option<&str> = Some("\"mood\"");

impl CacheField for Mood {
    const LAYOUT: u64 = 1;

    fn encode(&self, _out: &mut Encoder) -> Result<(), EncodeError> {
        Ok(())
    }

    fn decode(_input: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Ok(Self)
    }
}

impl<DB: text::TextColumn> Column<DB> for Mood {
    const TYPE: SqlType = text::sql_type::<DB>(MOOD);

    fn bind(&self, args: &mut DB::Arguments) -> Result<(), BindError> {
        text::bind_label::<DB>("happy", MOOD, args)
    }

    fn bind_null(args: &mut DB::Arguments) -> Result<(), BindError> {
        text::bind_null::<DB>(MOOD, args)
    }

    fn bind_array<'v>(
        values: impl Iterator<Item = Option<&'v Self>>,
        args: &mut DB::Arguments,
    ) -> Result<(), BindError> {
        text::bind_labels::<DB>(values.map(|value| value.map(|_| "happy")), MOOD, args)
    }

    fn read(row: &DB::Row, index: usize) -> Result<Option<Self>, sqlx::Error> {
        Ok(text::read_label::<DB>(row, index)?.map(|_| Self))
    }
}

model!(Day, "day", schema None, key (id): String = [0], { id: String = Role::Key, mood: Mood = Role::Plain }, []);

#[tokio::test]
async fn an_enum_type_must_exist_on_postgres() {
    let Some(mut conn) = postgres("sh_mood").await else { return };
    let refused = refusal(create_missing::<Postgres, Day>(&mut conn).await);
    assert!(refused.starts_with("table day: column mood: the type \"mood\" does not exist"), "{refused}");
    run::<Postgres>(&mut conn, "CREATE TYPE mood AS ENUM ('happy')").await;
    create_missing::<Postgres, Day>(&mut conn).await.unwrap();
    assert_eq!(differences::<Postgres, Day>(&mut conn).await, [""; 0]);
}

#[tokio::test]
async fn enums_are_text_on_sqlite() {
    let mut conn = sqlite().await;
    create_missing::<Sqlite, Day>(&mut conn).await.unwrap();
    assert_eq!(differences::<Sqlite, Day>(&mut conn).await, [""; 0]);
}

#[tokio::test]
async fn many_processes_create_a_table_at_once_on_postgres() {
    if postgres("sh_race").await.is_none() {
        return;
    }
    let url = std::env::var("DATABASE_URL").unwrap();
    let create = |url: String| async move {
        let mut conn = PgConnection::connect(&url).await.unwrap();
        run::<Postgres>(&mut conn, "SET search_path = sh_race").await;
        run::<Postgres>(&mut conn, "BEGIN").await;
        create_missing::<Postgres, User>(&mut conn).await.unwrap();
        run::<Postgres>(&mut conn, "COMMIT").await;
        differences::<Postgres, User>(&mut conn).await
    };
    let tasks: Vec<_> = (0..8).map(|_| tokio::spawn(create(url.clone()))).collect();
    for task in tasks {
        assert_eq!(task.await.unwrap(), [""; 0]);
    }
}

#[tokio::test]
async fn a_table_in_a_schema_that_exists_needs_no_right_to_create_schemas() {
    let Some(mut conn) = postgres("sh_rights").await else { return };
    for statement in [
        "DROP SCHEMA IF EXISTS rights CASCADE",
        "DO $$ BEGIN CREATE ROLE sh_rights_role; EXCEPTION WHEN duplicate_object THEN NULL; END $$",
        "CREATE SCHEMA rights",
        "GRANT USAGE, CREATE ON SCHEMA rights TO sh_rights_role",
        "SET ROLE sh_rights_role",
    ] {
        run::<Postgres>(&mut conn, statement).await;
    }
    create_missing::<Postgres, Guest>(&mut conn).await.unwrap();
    assert_eq!(differences::<Postgres, Guest>(&mut conn).await, [""; 0]);
}

model!(Guest, "guest", schema Some("rights"), key (id): String = [0], { id: String = Role::Key }, []);
