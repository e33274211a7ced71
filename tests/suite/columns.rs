//! Every column type, through the database and through the cache: what the cache returns is what the database returns.

use storehaus::prelude::*;
use storehaus::serde::{Deserialize, Serialize};
use storehaus::serde_json::{Value, json};

use crate::models::{Doc, doc};
use crate::world::suite;

#[derive(Debug, Clone, Copy, PartialEq, Column)]
#[column(rename_all = "snake_case")]
enum Plan {
    FreeOfCharge,
    #[column(rename = "paid, yearly \"🦀\"")]
    Yearly,
}

#[derive(Debug, Clone, Copy, PartialEq, Column)]
#[column(rename_all = "SCREAMING_SNAKE_CASE", postgres_enum = "mood")]
enum Mood {
    VeryHappy,
    Sad,
}

#[derive(Debug, Clone, PartialEq, Column)]
struct Ratio(f64);

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(crate = "storehaus::serde")]
struct Settings {
    #[serde(skip_serializing_if = "Option::is_none", default)]
    theme: Option<String>,
    sizes: Vec<(String, Option<bool>)>,
    ratio: f64,
}

#[derive(Debug, Clone, PartialEq, Model)]
#[model(table = "everything")]
struct Everything {
    #[key]
    id: i64,
    flag: bool,
    small: i16,
    middle: i32,
    large: i64,
    single: f32,
    double: f64,
    text: String,
    bytes: Vec<u8>,
    uuid: Uuid,
    date: NaiveDate,
    time: NaiveTime,
    naive: NaiveDateTime,
    utc: DateTime<Utc>,
    decimal: Decimal,
    value: Value,
    wrapped: Json<Settings>,
    #[json]
    settings: Settings,
    words: Vec<String>,
    numbers: Vec<i64>,
    uuids: Vec<Uuid>,
    plan: Plan,
    mood: Mood,
    ratio: Ratio,
    may_flag: Option<bool>,
    may_small: Option<i16>,
    may_middle: Option<i32>,
    may_large: Option<i64>,
    may_single: Option<f32>,
    may_double: Option<f64>,
    may_text: Option<String>,
    may_bytes: Option<Vec<u8>>,
    may_uuid: Option<Uuid>,
    may_date: Option<NaiveDate>,
    may_time: Option<NaiveTime>,
    may_naive: Option<NaiveDateTime>,
    may_utc: Option<DateTime<Utc>>,
    may_decimal: Option<Decimal>,
    may_value: Option<Value>,
    may_wrapped: Option<Json<Settings>>,
    may_words: Option<Vec<String>>,
    may_numbers: Option<Vec<i64>>,
    may_uuids: Option<Vec<Uuid>>,
    may_plan: Option<Plan>,
    may_mood: Option<Mood>,
    may_ratio: Option<Ratio>,
}

fn naive(text: &str) -> NaiveDateTime {
    text.parse().unwrap()
}

/// Zeros, empty texts and lists, and nothing where that is possible.
fn least() -> Everything {
    Everything {
        id: 1,
        flag: false,
        small: 0,
        middle: 0,
        large: 0,
        single: 0.0,
        double: 0.0,
        text: String::new(),
        bytes: Vec::new(),
        uuid: Uuid::nil(),
        date: NaiveDate::from_ymd_opt(1970, 1, 1).unwrap(),
        time: NaiveTime::MIN,
        naive: naive("1970-01-01T00:00:00"),
        utc: DateTime::UNIX_EPOCH,
        decimal: Decimal::ZERO,
        value: Value::Null,
        wrapped: Json(Settings::default()),
        settings: Settings::default(),
        words: Vec::new(),
        numbers: Vec::new(),
        uuids: Vec::new(),
        plan: Plan::FreeOfCharge,
        mood: Mood::VeryHappy,
        ratio: Ratio(0.0),
        may_flag: None,
        may_small: None,
        may_middle: None,
        may_large: None,
        may_single: None,
        may_double: None,
        may_text: None,
        may_bytes: None,
        may_uuid: None,
        may_date: None,
        may_time: None,
        may_naive: None,
        may_utc: None,
        may_decimal: None,
        may_value: None,
        may_wrapped: None,
        may_words: None,
        may_numbers: None,
        may_uuids: None,
        may_plan: None,
        may_mood: None,
        may_ratio: None,
    }
}

/// The ends of each range, and texts that quoting goes wrong for.
fn extreme() -> Everything {
    let words = ["", "NULL", "a,b", "{}", "\"quoted\"", "back\\slash", "🦀 é", " "].map(str::to_owned).to_vec();
    let settings = Settings {
        theme: Some("dark \u{1}\" \\ 🦀".into()),
        sizes: vec![("a".into(), None), (String::new(), Some(true))],
        ratio: f64::MIN_POSITIVE,
    };
    let value = json!({"deep": [[[{"a": [1, -0.5, 1e300, i64::MIN, u64::MAX, "🦀", null, true]}]]], "": ""});
    Everything {
        id: 2,
        flag: true,
        small: i16::MIN,
        middle: i32::MIN,
        large: i64::MIN,
        single: f32::MAX,
        double: f64::MAX,
        text: "it's \"🦀\" \\ % _ ; -- $1 ?1 \r\n\t é \u{feff}".into(),
        bytes: (0..=255).collect(),
        uuid: Uuid::max(),
        date: NaiveDate::from_ymd_opt(9999, 12, 31).unwrap(),
        time: NaiveTime::from_hms_micro_opt(23, 59, 59, 999_999).unwrap(),
        naive: naive("0001-01-01T00:00:00.000001"),
        utc: "9999-12-31T23:59:59.999999Z".parse().unwrap(),
        decimal: Decimal::MAX,
        value: value.clone(),
        wrapped: Json(settings.clone()),
        settings: settings.clone(),
        words: words.clone(),
        numbers: vec![i64::MIN, 0, i64::MAX],
        uuids: vec![Uuid::max(), Uuid::nil()],
        plan: Plan::Yearly,
        mood: Mood::Sad,
        ratio: Ratio(f64::MIN_POSITIVE),
        may_flag: Some(false),
        may_small: Some(i16::MAX),
        may_middle: Some(i32::MAX),
        may_large: Some(i64::MAX),
        may_single: Some(f32::MIN_POSITIVE),
        may_double: Some(f64::NEG_INFINITY),
        may_text: Some(String::new()),
        may_bytes: Some(vec![0]),
        may_uuid: Some(Uuid::nil()),
        may_date: Some(NaiveDate::from_ymd_opt(1, 1, 1).unwrap()),
        may_time: Some(NaiveTime::from_hms_micro_opt(0, 0, 0, 1).unwrap()),
        may_naive: Some(naive("1969-12-31T23:59:59.999999")),
        may_utc: Some("0001-01-01T00:00:00Z".parse().unwrap()),
        may_decimal: Some(Decimal::from_i128_with_scale(-1, 28)),
        may_value: Some(json!("null")),
        may_wrapped: Some(Json(settings)),
        may_words: Some(Vec::new()),
        may_numbers: Some(vec![-1]),
        may_uuids: Some(vec![Uuid::from_u128(1)]),
        may_plan: Some(Plan::FreeOfCharge),
        may_mood: Some(Mood::Sad),
        may_ratio: Some(Ratio(-1.5)),
    }
}

/// Compares also what `==` overlooks: the sign of a zero, the scale of a decimal.
fn same(left: &Everything, right: &Everything) {
    let (left, right) = (format!("{left:#?}"), format!("{right:#?}"));
    let differs = left.lines().zip(right.lines()).find(|(left, right)| left != right);
    assert_eq!(differs, None);
    assert_eq!(left.len(), right.len());
}

#[derive(Debug, Clone, Model)]
#[model(table = "floats")]
struct Floats {
    #[key]
    id: i64,
    single: f32,
    double: f64,
    may: Option<f64>,
}

suite! {
    /// The driver looks a type of the database up when it first meets it, on the connection that met it.
    once fn a_type_of_the_database_is_read_first_by_a_stream(world) {
        if !world.is_sqlite() {
            world.sql("CREATE TYPE mood AS ENUM ('VERY_HAPPY', 'SAD')").await;
        }
        world.haus.create_missing_tables::<(Everything,)>().await.unwrap();
        world.haus.store::<Everything>().create(least()).await.unwrap();
        let fresh = world.fresh().await;
        for _ in 0..2 {
            let rows = fresh.store::<Everything>().list_all().await.unwrap();
            same(&rows[0], &least());
        }
    }

    every fn every_type_comes_back_exactly_from_database_and_cache(world) {
        if !world.is_sqlite() {
            world.sql("CREATE TYPE mood AS ENUM ('VERY_HAPPY', 'SAD')").await;
        }
        world.haus.create_missing_tables::<(Everything,)>().await.unwrap();
        world.haus.check_schema::<(Everything,)>().await.unwrap();
        let store = world.haus.store::<Everything>();
        // SQLite keeps a zero without its sign.
        let zero = if world.is_sqlite() { 0.0 } else { -0.0 };
        let others = [
            Everything { id: 3, single: f32::INFINITY, double: zero, decimal: Decimal::new(1_500, 3), ..least() },
            Everything { id: 4, single: f32::MIN, double: f64::INFINITY, decimal: Decimal::MIN, ..extreme() },
            Everything { id: 5, double: 5e-324, decimal: Decimal::new(0, 4), large: i64::MAX, ..least() },
            Everything { id: 6, double: 0.1 + 0.2, decimal: Decimal::new(-1, 0), text: "x".repeat(100_000), ..extreme() },
        ];

        for row in [least(), extreme()].iter().chain(&others) {
            same(&store.create(row.clone()).await.unwrap(), row);
            same(&store.get_by_id(&row.id).await.unwrap().unwrap(), row);
            world.settle().await;
            same(&store.get_by_id(&row.id).await.unwrap().unwrap(), row);
            world.settle().await;
        }
        if world.is_cached() {
            let stats = world.stats().await;
            assert_eq!((stats.hits(), stats.misses, stats.decode_errors, stats.encode_errors), (6, 6, 0, 0));
        }

        // The same values as parts of batches, which travel as arrays on Postgres.
        let rows: Vec<Everything> = [least(), extreme()].into_iter().chain(others).collect();
        store.delete_many(&[1, 2, 3, 4, 5, 6]).await.unwrap();
        let made = store.create_many(rows.clone()).await.unwrap();
        made.iter().zip(&rows).for_each(|(left, right)| same(left, right));
        let mut turned: Vec<Everything> = rows.iter().rev().cloned().collect();
        turned.iter_mut().zip(&rows).for_each(|(row, from)| row.id = from.id);
        let changed = store.update_many(turned.iter().map(|row| (row.id, row.clone())).collect()).await.unwrap();
        changed.iter().zip(&turned).for_each(|(left, right)| same(left, right));
        let upserted = store.upsert_many(rows.clone()).await.unwrap();
        upserted.iter().zip(&rows).for_each(|(left, right)| same(left, right));
        for _ in 0..2 {
            let found = store.get_many(&[1, 2, 3, 4, 5, 6]).await.unwrap();
            found.iter().flatten().zip(&rows).for_each(|(left, right)| same(left, right));
            assert_eq!(found.iter().flatten().count(), 6);
            world.settle().await;
        }
        same(&store.update(&1i64, Everything { id: 1, ..extreme() }).await.unwrap(), &Everything { id: 1, ..extreme() });
        same(&store.upsert(Everything { id: 1, ..least() }).await.unwrap(), &least());
    }

    /// SQLite has no NaN: it would store NULL.
    every fn not_a_number(world) {
        world.haus.create_missing_tables::<(Floats,)>().await.unwrap();
        let store = world.haus.store::<Floats>();
        let rows = [
            ("single", Floats { id: 1, single: f32::NAN, double: 0.0, may: None }),
            ("double", Floats { id: 2, single: 0.0, double: f64::NAN, may: None }),
            ("may", Floats { id: 3, single: 0.0, double: 0.0, may: Some(f64::NAN) }),
        ];
        for (field, row) in rows {
            if world.is_sqlite() {
                for error in [
                    store.create(row.clone()).await.unwrap_err(),
                    store.upsert(row.clone()).await.unwrap_err(),
                    store.create_many(vec![row.clone()]).await.unwrap_err(),
                ] {
                    assert!(matches!(error, StorehausError::InvalidInput(_)), "{error}");
                    assert!(error.to_string().contains(&format!("field {field}: SQLite stores NaN as NULL")), "{error}");
                    assert!(error.is_unchanged());
                }
                continue;
            }
            store.create_many(vec![row.clone()]).await.unwrap();
            for _ in 0..2 {
                let found = store.get_by_id(&row.id).await.unwrap().unwrap();
                let is_nan = (found.single.is_nan(), found.double.is_nan(), found.may.is_some_and(f64::is_nan));
                assert_eq!(is_nan, (field == "single", field == "double", field == "may"));
                world.settle().await;
            }
        }
        assert_eq!(store.count().await.unwrap(), if world.is_sqlite() { 0 } else { 3 });
    }

    /// Postgres has no text with a NUL.
    every fn a_nul_in_a_text(world) {
        world.haus.create_missing_tables::<(Doc,)>().await.unwrap();
        let docs = world.haus.store::<Doc>();
        let row = doc("a", "before\0after");
        if world.is_sqlite() {
            docs.create(row.clone()).await.unwrap();
            for _ in 0..2 {
                assert_eq!(docs.get_by_id("a").await.unwrap(), Some(row.clone()));
                world.settle().await;
            }
            return;
        }
        docs.create(doc("a", "old")).await.unwrap();
        let rows = vec![doc("b", "fine"), doc("c", "no\0t")];
        for error in [
            docs.create(doc("b", "x\0")).await.unwrap_err(),
            docs.update("a", row.clone()).await.unwrap_err(),
            docs.upsert(row).await.unwrap_err(),
            docs.create_many(rows).await.unwrap_err(),
        ] {
            assert!(matches!(error, StorehausError::InvalidInput(_)), "{error}");
            assert!(error.to_string().contains("such as NUL"), "{error}");
            assert!(!error.to_string().contains("before") && error.is_unchanged(), "{error}");
        }
        assert_eq!(docs.list_all().await.unwrap(), [doc("a", "old")]);
    }

    /// A value beyond the limit is not kept in Redis, and everything else about it is as for any other.
    every fn a_row_larger_than_the_cache_takes(world) {
        world.haus.create_missing_tables::<(Doc,)>().await.unwrap();
        let docs = world.haus.store::<Doc>();
        let large = doc("large", &"🦀".repeat(1 << 18));
        assert_eq!(docs.create(large.clone()).await.unwrap(), large);
        for _ in 0..3 {
            assert_eq!(docs.get_by_id("large").await.unwrap(), Some(large.clone()));
            world.settle().await;
        }
        if world.tiers == crate::world::Tiers::Redis {
            let stats = world.stats().await;
            assert_eq!((stats.loads, stats.oversized, stats.fills, stats.hits()), (3, 3, 0, 0));
        }
        docs.update("large", doc("large", "small now")).await.unwrap();
        for _ in 0..2 {
            assert_eq!(docs.get_by_id("large").await.unwrap(), Some(doc("large", "small now")));
            world.settle().await;
        }
        if world.is_cached() {
            assert!(world.stats().await.hits() >= 1);
        }
    }

    /// A `NUMERIC` or time that the field cannot express is an error of the schema, not another value.
    once fn a_value_the_field_cannot_hold(world) {
        if world.is_sqlite() {
            world.haus.create_missing_tables::<(Floats,)>().await.unwrap();
            world.sql("INSERT INTO floats (id, single, double) VALUES (1, 1e300, 0)").await;
            let error = world.haus.store::<Floats>().get_by_id(&1i64).await.unwrap_err();
            assert!(matches!(error, StorehausError::SchemaMismatch(_)), "{error}");
        } else {
            world.sql("CREATE TABLE prices (id BIGINT PRIMARY KEY, price NUMERIC NOT NULL)").await;
            world.sql("INSERT INTO prices VALUES (1, 'NaN'), (2, 1e40), (3, 1.5)").await;
            let prices = world.haus.store::<Price>();
            for id in [1i64, 2] {
                let error = prices.get_by_id(&id).await.unwrap_err();
                assert!(matches!(error, StorehausError::SchemaMismatch(_)), "{error}");
            }
            assert_eq!(prices.get_by_id(&3i64).await.unwrap().unwrap().price, Decimal::new(15, 1));
        }
    }
}

#[derive(Debug, Clone, Model)]
#[model(table = "prices")]
struct Price {
    #[key]
    id: i64,
    price: Decimal,
}
