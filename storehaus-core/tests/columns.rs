//! Every column type round-trips exactly through every backend.
//!
//! SQLite runs in memory. Postgres runs where `DATABASE_URL` names one.
#![cfg(all(feature = "postgres", feature = "sqlite"))]

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt::Debug;

use chrono::{DateTime, NaiveDate, NaiveDateTime, NaiveTime, TimeDelta, Utc};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use rust_decimal::Decimal;
use serde_json::{Value, json};
use sqlx::postgres::PgArguments;
use sqlx::sqlite::SqliteArguments;
use sqlx::{AssertSqlSafe, Connection, PgConnection, Postgres, SqlSafeStr, SqlStr, Sqlite, SqliteConnection};
use storehaus_cache::Json;
use storehaus_core::backend::{Backend, BindError};
use storehaus_core::column::text::{self, TextColumn};
use storehaus_core::column::{Column, SqlType, json, null_column};
use tokio::runtime::Runtime;
use uuid::Uuid;

type Doc = Json<BTreeMap<String, Option<f64>>>;

const TYPES: u32 = 19;

fn sql(text: impl Into<String>) -> SqlStr {
    AssertSqlSafe(text.into()).into_sql_str()
}

#[expect(clippy::print_stderr, reason = "says that nothing was checked, and why")]
fn postgres_url() -> Option<String> {
    let url = std::env::var("DATABASE_URL").ok().filter(|url| url.starts_with("postgres"));
    if url.is_none() {
        eprintln!("skipped on Postgres: DATABASE_URL names none");
    }
    url
}

/// What is done with each type. `lossless` tells whether two values are the same.
trait Visitor {
    fn visit<T>(&mut self, values: BoxedStrategy<T>, lossless: fn(&T, &T) -> bool)
    where
        T: Column<Postgres> + Column<Sqlite> + Clone + Debug + 'static;
}

/// Visits each type with values the backend can hold: microseconds and no U+0000 on Postgres; nanoseconds of the years
/// 0 to 9999 and no NaN on SQLite.
fn every_type(postgres: bool, visitor: &mut impl Visitor) {
    let text = move || {
        let tricky = ["", "NULL", "null", "{}", "{", "}", ",", "\"", "\\", "a\"b\\\"c\\", " a ", "\n\t", "é漢🦀", "'"];
        prop_oneof![
            prop::sample::select(tricky.to_vec()).prop_map(str::to_owned),
            any::<String>().prop_map(move |text| if postgres { text.replace('\0', "") } else { text }),
        ]
    };
    let (first, last, step) = if postgres {
        (-200_000_000_000i64, 8_000_000_000_000i64, 1000u32)
    } else {
        (-62_167_219_200, 253_402_300_799, 1)
    };
    let time = move || {
        (first..=last, 0..1_000_000_000 / step)
            .prop_map(move |(secs, nanos)| DateTime::<Utc>::from_timestamp(secs, nanos * step).unwrap())
    };
    let finite = || any::<f64>().prop_filter("finite", |x| x.is_finite());
    let number = prop_oneof![
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        finite().prop_map(Value::from),
        (-400i32..400).prop_map(|n| Value::from(f64::from(n) * 1e17)),
    ];
    let leaf =
        prop_oneof![Just(Value::Null), any::<bool>().prop_map(Value::from), number, text().prop_map(Value::from)];
    let json = leaf.prop_recursive(3, 24, 4, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(text(), inner, 0..4).prop_map(|map| map.into_iter().collect::<Value>()),
        ]
    });
    let doc = prop::collection::btree_map(text(), prop::option::of(finite()), 0..4).prop_map(Json);
    let decimal =
        (any::<[u32; 3]>(), any::<bool>(), 0u32..=28, 0usize..=3).prop_map(|(mut part, minus, scale, keep)| {
            part[keep..].fill(0);
            let value = Decimal::from_parts(part[0], part[1], part[2], minus, scale);
            if value.is_zero() { value.abs() } else { value }
        });

    visitor.visit(any::<bool>().boxed(), |a, b| a == b);
    visitor.visit(any::<i16>().boxed(), |a, b| a == b);
    visitor.visit(any::<i32>().boxed(), |a, b| a == b);
    visitor.visit(any::<i64>().boxed(), |a, b| a == b);
    let (narrow, wide) = (any::<u32>().prop_map(f32::from_bits), any::<u64>().prop_map(f64::from_bits));
    if postgres {
        visitor.visit(narrow.boxed(), |a, b| a.to_bits() == b.to_bits());
        visitor.visit(wide.boxed(), |a, b| a.to_bits() == b.to_bits());
    } else {
        visitor.visit(narrow.prop_filter("a number", |x| !x.is_nan()).boxed(), |a, b| a == b);
        visitor.visit(wide.prop_filter("a number", |x| !x.is_nan()).boxed(), |a, b| a == b);
    }
    visitor.visit(text().boxed(), |a, b| a == b);
    visitor.visit(any::<Vec<u8>>().boxed(), |a, b| a == b);
    visitor.visit(any::<u128>().prop_map(Uuid::from_u128).boxed(), |a, b| a == b);
    visitor.visit(time().prop_map(|time| time.date_naive()).boxed(), |a, b| a == b);
    visitor.visit(time().prop_map(|time| time.time()).boxed(), |a, b| a == b);
    visitor.visit(time().prop_map(|time| time.naive_utc()).boxed(), |a, b| a == b);
    visitor.visit(time().boxed(), |a, b| a == b);
    visitor.visit(decimal.boxed(), |a, b| a == b && a.scale() == b.scale());
    visitor.visit(json.boxed(), |a, b| a == b);
    visitor.visit::<Doc>(doc.boxed(), |a, b| a == b);
    visitor.visit(prop::collection::vec(text(), 0..5).boxed(), |a, b| a == b);
    visitor.visit(any::<Vec<i64>>().boxed(), |a, b| a == b);
    let ids = any::<Vec<u128>>().prop_map(|ids| ids.into_iter().map(Uuid::from_u128).collect::<Vec<_>>());
    visitor.visit(ids.boxed(), |a, b| a == b);
}

fn same<T: Debug>(back: &[Option<T>], values: &[Option<T>], lossless: fn(&T, &T) -> bool) {
    assert_eq!(back.len(), values.len());
    for (back, value) in back.iter().zip(values) {
        match (back, value) {
            (None, None) => {}
            (Some(back), Some(value)) if lossless(back, value) => {}
            _ => panic!("wrote {value:?}, read {back:?} as a {}", std::any::type_name::<T>()),
        }
    }
}

/// The statements name the type in a comment: sqlx prepares a text once, with the types of its first parameters.
async fn create<DB: Backend, T: Column<DB>>(conn: &mut DB::Connection, suffix: &str) {
    DB::run(conn, sql("DROP TABLE IF EXISTS v")).await.unwrap();
    let name = T::TYPE.name;
    let number = if suffix.is_empty() { "BIGINT" } else { "INTEGER" };
    DB::run(conn, sql(format!("CREATE TEMP TABLE v (n {number} NOT NULL, v {name}){suffix}"))).await.unwrap();
}

async fn insert<DB: Backend, T: Column<DB>>(conn: &mut DB::Connection, values: &[Option<T>])
where
    i64: Column<DB>,
{
    let cast = if T::TYPE.cast { format!("::{}", T::TYPE.name) } else { String::new() };
    for (n, value) in values.iter().enumerate() {
        let mut args = DB::Arguments::default();
        Column::<DB>::bind(&(n as i64), &mut args).unwrap();
        value.bind(&mut args).unwrap();
        DB::execute(conn, sql(format!("INSERT INTO v (n, v) VALUES ($1, $2{cast}) /* {} */", T::TYPE.name)), args)
            .await
            .unwrap();
    }
}

async fn insert_as_array<T: Column<Postgres>>(conn: &mut PgConnection, values: &[Option<T>]) {
    let ty = <T as Column<Postgres>>::TYPE;
    let cast = if ty.element == ty.name { String::new() } else { format!("::{}", ty.name) };
    let from = format!("UNNEST($1, $2::{}[]) AS u (n, v)", ty.element);
    let numbers: Vec<i64> = (0..values.len() as i64).collect();
    let mut args = PgArguments::default();
    <i64 as Column<Postgres>>::bind_array(numbers.iter().map(Some), &mut args).unwrap();
    Option::<T>::bind_array(values.iter().map(Some), &mut args).unwrap();
    let statement = sql(format!("INSERT INTO v (n, v) SELECT u.n, u.v{cast} FROM {from} /* {} */", ty.name));
    assert_eq!(Postgres::execute(conn, statement, args).await.unwrap(), values.len() as u64);
}

async fn read_all<DB: Backend, T: Column<DB>>(conn: &mut DB::Connection, order: &str) -> Vec<Option<T>> {
    let statement = sql(format!("SELECT v FROM v /* {} */ ORDER BY {order}", T::TYPE.name));
    let rows = DB::fetch_all(conn, statement, DB::Arguments::default()).await.unwrap();
    rows.iter().map(|row| <Option<T> as Column<DB>>::read(row, 0).unwrap().unwrap()).collect()
}

async fn read_as<DB: Backend, T: Column<DB>>(conn: &mut DB::Connection, expr: &str) -> Result<Option<T>, sqlx::Error> {
    let row = DB::fetch_optional(conn, sql(format!("SELECT {expr}")), DB::Arguments::default()).await.unwrap();
    T::read(&row.unwrap(), 0)
}

fn runner() -> TestRunner {
    TestRunner::new(Config { cases: 24, failure_persistence: None, ..Config::default() })
}

struct OnSqlite(Runtime, SqliteConnection, u32);

impl Visitor for OnSqlite {
    fn visit<T>(&mut self, values: BoxedStrategy<T>, lossless: fn(&T, &T) -> bool)
    where
        T: Column<Postgres> + Column<Sqlite> + Clone + Debug + 'static,
    {
        let Self(runtime, conn, seen) = self;
        let conn = RefCell::new(conn);
        let outcome = runner().run(&prop::collection::vec(prop::option::weighted(0.9, values), 1..20), |values| {
            let conn = &mut **conn.borrow_mut();
            runtime.block_on(async {
                create::<Sqlite, T>(conn, " STRICT").await;
                insert::<Sqlite, T>(conn, &values).await;
                same(&read_all::<Sqlite, T>(conn, "n").await, &values, lossless);
            });
            Ok(())
        });
        outcome.unwrap();
        *seen += 1;
    }
}

struct OnPostgres(Runtime, PgConnection, u32);

impl Visitor for OnPostgres {
    fn visit<T>(&mut self, values: BoxedStrategy<T>, lossless: fn(&T, &T) -> bool)
    where
        T: Column<Postgres> + Column<Sqlite> + Clone + Debug + 'static,
    {
        let Self(runtime, conn, seen) = self;
        let conn = RefCell::new(conn);
        let outcome = runner().run(&prop::collection::vec(prop::option::weighted(0.9, values), 0..20), |values| {
            let conn = &mut **conn.borrow_mut();
            runtime.block_on(async {
                create::<Postgres, T>(conn, "").await;
                insert::<Postgres, T>(conn, &values).await;
                same(&read_all::<Postgres, T>(conn, "n").await, &values, lossless);
                Postgres::run(conn, sql("TRUNCATE v")).await.unwrap();
                insert_as_array(conn, &values).await;
                same(&read_all::<Postgres, T>(conn, "n").await, &values, lossless);
            });
            Ok(())
        });
        outcome.unwrap();
        *seen += 1;
    }
}

#[test]
fn every_type_round_trips_on_sqlite() {
    let runtime = Runtime::new().unwrap();
    let conn = runtime.block_on(SqliteConnection::connect("sqlite::memory:")).unwrap();
    let mut visitor = OnSqlite(runtime, conn, 0);
    every_type(false, &mut visitor);
    assert_eq!(visitor.2, TYPES);
}

#[test]
fn every_type_round_trips_on_postgres() {
    let Some(url) = postgres_url() else { return };
    let runtime = Runtime::new().unwrap();
    let conn = runtime.block_on(PgConnection::connect(&url)).unwrap();
    let mut visitor = OnPostgres(runtime, conn, 0);
    every_type(true, &mut visitor);
    assert_eq!(visitor.2, TYPES);
}

fn refused<DB: Backend, T: Column<DB>>(value: T) -> String {
    value.bind(&mut DB::Arguments::default()).unwrap_err().to_string()
}

#[test]
fn what_sqlite_cannot_hold_is_refused_at_bind() {
    assert!(refused::<Sqlite, _>(f64::NAN).contains("NaN"));
    assert!(refused::<Sqlite, _>(Some(f32::NAN)).contains("NaN"));
    for (year, month, day) in [(10_000, 1, 1), (-1, 12, 31)] {
        let date = NaiveDate::from_ymd_opt(year, month, day).unwrap();
        assert!(refused::<Sqlite, _>(date).contains("year"));
        assert!(refused::<Sqlite, _>(date.and_time(NaiveTime::MIN)).contains("year"));
        assert!(refused::<Sqlite, _>(date.and_time(NaiveTime::MIN).and_utc()).contains("year"));
    }
    let mut args = SqliteArguments::default();
    let no_arrays = |result: Result<(), BindError>| result.unwrap_err().to_string() == "SQLite has no arrays";
    assert!(no_arrays(<i64 as Column<Sqlite>>::bind_array([Some(&1)].into_iter(), &mut args)));
    assert!(no_arrays(<Vec<i64> as Column<Sqlite>>::bind_array([None].into_iter(), &mut args)));
    assert!(no_arrays(<Value as Column<Sqlite>>::bind_array([None].into_iter(), &mut args)));
    assert!(no_arrays(text::bind_labels::<Sqlite>([Some("a")].into_iter(), None, &mut args)));
}

#[test]
fn leap_seconds_are_refused_at_bind() {
    let time = NaiveTime::from_hms_nano_opt(23, 59, 59, 1_500_000_000).unwrap();
    let date_time = NaiveDate::from_ymd_opt(2016, 12, 31).unwrap().and_time(time);
    assert!(refused::<Sqlite, _>(time).contains("leap second"));
    assert!(refused::<Sqlite, _>(date_time).contains("leap second"));
    assert!(refused::<Sqlite, _>(date_time.and_utc()).contains("leap second"));
    assert!(refused::<Postgres, _>(time).contains("leap second"));
    assert!(refused::<Postgres, _>(date_time).contains("leap second"));
    assert!(refused::<Postgres, _>(Some(date_time.and_utc())).contains("leap second"));
}

async fn in_order<T: Column<Sqlite> + PartialEq + Debug>(conn: &mut SqliteConnection, values: &[Option<T>]) {
    create::<Sqlite, T>(conn, " STRICT").await;
    insert::<Sqlite, T>(conn, values).await;
    assert_eq!(read_all::<Sqlite, T>(conn, "v").await, values);
}

#[tokio::test]
async fn text_times_sort_as_time_on_sqlite() {
    let mut conn = SqliteConnection::connect("sqlite::memory:").await.unwrap();
    let times: Vec<DateTime<Utc>> = [
        "0000-01-01T00:00:00Z",
        "2024-01-01T00:00:00Z",
        "2024-01-01T00:00:00.000000001Z",
        "2024-01-01T00:00:00.5Z",
        "2024-01-01T00:00:00.500001Z",
        "2024-01-01T00:00:01Z",
        "2024-01-01T00:01:00.1Z",
        "9999-12-31T23:59:59.999999999Z",
    ]
    .map(|text| text.parse().unwrap())
    .to_vec();
    in_order(&mut conn, &times.iter().copied().map(Some).collect::<Vec<_>>()).await;
    in_order(&mut conn, &times.iter().map(|time| Some(time.naive_utc())).collect::<Vec<_>>()).await;
    in_order(&mut conn, &times[1..].iter().map(|time| Some(time.time())).collect::<Vec<_>>()).await;
}

#[tokio::test]
async fn errors_do_not_quote_what_is_stored() {
    let conn = &mut SqliteConnection::connect("sqlite::memory:").await.unwrap();
    let errors = [
        read_as::<Sqlite, DateTime<Utc>>(conn, "'secret'").await.unwrap_err(),
        read_as::<Sqlite, NaiveTime>(conn, "'secret'").await.unwrap_err(),
        read_as::<Sqlite, NaiveDate>(conn, "x'00'").await.unwrap_err(),
        read_as::<Sqlite, Decimal>(conn, "'secret'").await.unwrap_err(),
        read_as::<Sqlite, Vec<i64>>(conn, "'[\"secret\"]'").await.unwrap_err(),
        read_as::<Sqlite, Doc>(conn, "'{\"a\": \"secret\"}'").await.unwrap_err(),
        read_as::<Sqlite, i16>(conn, "70000").await.unwrap_err(),
        read_as::<Sqlite, f32>(conn, "1e300").await.unwrap_err(),
        text::unknown_label(0, "Mood"),
        null_column(0, "email"),
    ];
    for error in errors {
        assert!(matches!(error, sqlx::Error::ColumnDecode { .. }), "{error:?}");
        assert!(!format!("{error} {error:?}").contains("secret"), "{error}");
    }
    assert!(null_column(3, "email").to_string().contains("`email` is NULL"));
}

#[tokio::test]
async fn a_json_column_is_not_null() {
    let mut conn = SqliteConnection::connect("sqlite::memory:").await.unwrap();
    let rows = Sqlite::fetch_all(&mut conn, sql("SELECT 'null', NULL"), Default::default()).await.unwrap();
    assert_eq!(json::read::<Sqlite, Option<i64>>(&rows[0], 0).unwrap(), None);
    assert!(json::read::<Sqlite, Option<i64>>(&rows[0], 1).is_err());
    assert_eq!(<Option<Value> as Column<Sqlite>>::read(&rows[0], 0).unwrap(), Some(Some(Value::Null)));
    assert_eq!(<Option<Value> as Column<Sqlite>>::read(&rows[0], 1).unwrap(), Some(None));
    assert_eq!(<Value as Column<Sqlite>>::read(&rows[0], 1).unwrap(), None);
}

/// What the derive writes for an enum.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Mood(&'static str);

const MOOD: Option<&str> = Some("\"Mood\"");
const MOODS: [Option<Mood>; 3] = [Some(Mood("so so")), None, Some(Mood("happy"))];

impl<DB: TextColumn> Column<DB> for Mood {
    const TYPE: SqlType = text::sql_type::<DB>(MOOD);

    fn bind(&self, args: &mut DB::Arguments) -> Result<(), BindError> {
        text::bind_label::<DB>(self.0, MOOD, args)
    }

    fn bind_null(args: &mut DB::Arguments) -> Result<(), BindError> {
        text::bind_null::<DB>(MOOD, args)
    }

    fn bind_array<'v>(
        values: impl Iterator<Item = Option<&'v Self>>,
        args: &mut DB::Arguments,
    ) -> Result<(), BindError> {
        text::bind_labels::<DB>(values.map(|value| value.map(|mood| mood.0)), MOOD, args)
    }

    fn read(row: &DB::Row, index: usize) -> Result<Option<Self>, sqlx::Error> {
        let Some(label) = text::read_label::<DB>(row, index)? else { return Ok(None) };
        let known = ["happy", "so so"].into_iter().find(|known| *known == label);
        known.map(|label| Some(Self(label))).ok_or_else(|| text::unknown_label(index, "Mood"))
    }
}

#[tokio::test]
async fn labels_round_trip_on_sqlite() {
    let conn = &mut SqliteConnection::connect("sqlite::memory:").await.unwrap();
    create::<Sqlite, Mood>(conn, " STRICT").await;
    insert::<Sqlite, Mood>(conn, &MOODS).await;
    assert_eq!(read_all::<Sqlite, Mood>(conn, "n").await, MOODS);
    let error = read_as::<Sqlite, Mood>(conn, "'secret'").await.unwrap_err();
    assert!(error.to_string().ends_with("the label is no variant of `Mood`"), "{error}");
}

#[tokio::test]
async fn labels_of_an_enum_type_round_trip_on_postgres() {
    let Some(url) = postgres_url() else { return };
    let conn = &mut PgConnection::connect(&url).await.unwrap();
    Postgres::run(conn, sql("CREATE TYPE pg_temp.\"Mood\" AS ENUM ('happy', 'so so')")).await.unwrap();
    create::<Postgres, Mood>(conn, "").await;
    insert::<Postgres, Mood>(conn, &MOODS).await;
    assert_eq!(read_all::<Postgres, Mood>(conn, "n").await, MOODS);
    Postgres::run(conn, sql("TRUNCATE v")).await.unwrap();
    insert_as_array(conn, &MOODS).await;
    assert_eq!(read_all::<Postgres, Mood>(conn, "n").await, MOODS);
}

#[tokio::test]
async fn what_a_field_cannot_express_is_an_error_on_postgres() {
    let Some(url) = postgres_url() else { return };
    let conn = &mut PgConnection::connect(&url).await.unwrap();
    for infinite in ["'infinity'", "'-infinity'"] {
        read_as::<Postgres, DateTime<Utc>>(conn, &format!("{infinite}::timestamptz")).await.unwrap_err();
        read_as::<Postgres, NaiveDateTime>(conn, &format!("{infinite}::timestamp")).await.unwrap_err();
        read_as::<Postgres, NaiveDate>(conn, &format!("{infinite}::date")).await.unwrap_err();
        read_as::<Postgres, Decimal>(conn, &format!("{infinite}::numeric")).await.unwrap_err();
    }
    read_as::<Postgres, NaiveTime>(conn, "'24:00:00'::time").await.unwrap_err();
    read_as::<Postgres, NaiveDateTime>(conn, "'294000-01-01'::timestamp").await.unwrap_err();
    read_as::<Postgres, Decimal>(conn, "'NaN'::numeric").await.unwrap_err();
    read_as::<Postgres, Decimal>(conn, "1e29::numeric").await.unwrap_err();
    read_as::<Postgres, Decimal>(conn, "0.12345678901234567890123456789::numeric").await.unwrap_err();
    let long = read_as::<Postgres, Decimal>(conn, "7e28::numeric(60, 30)").await.unwrap().unwrap();
    assert_eq!(long.to_string(), "70000000000000000000000000000");

    for year in [-5000, -250_000] {
        create::<Postgres, NaiveDate>(conn, "").await;
        let mut args = PgArguments::default();
        Column::<Postgres>::bind(&NaiveDate::from_ymd_opt(year, 1, 1).unwrap(), &mut args).unwrap();
        Postgres::execute(conn, sql("INSERT INTO v (n, v) VALUES (1, $1)"), args).await.unwrap_err();
    }
}

#[tokio::test]
async fn postgres_cuts_times_to_microseconds_towards_the_past() {
    let Some(url) = postgres_url() else { return };
    let conn = &mut PgConnection::connect(&url).await.unwrap();
    let time: DateTime<Utc> = "1969-12-31T23:59:59.9999999Z".parse().unwrap();
    create::<Postgres, DateTime<Utc>>(conn, "").await;
    insert::<Postgres, DateTime<Utc>>(conn, &[Some(time)]).await;
    let back = read_all::<Postgres, DateTime<Utc>>(conn, "n").await[0].unwrap();
    assert_eq!(time - back, TimeDelta::nanoseconds(900));
}

#[tokio::test]
async fn json_floats_stay_floats_on_postgres() {
    let Some(url) = postgres_url() else { return };
    let conn = &mut PgConnection::connect(&url).await.unwrap();
    let value = json!([1e16, -1e16, 1.8e19, 1e20, 5e-324, 1.7976931348623157e308, 0.1, 1e15, 2500000000000000.5]);
    create::<Postgres, Value>(conn, "").await;
    insert::<Postgres, Value>(conn, &[Some(value.clone())]).await;
    assert_eq!(read_all::<Postgres, Value>(conn, "n").await, [Some(value)]);
}
