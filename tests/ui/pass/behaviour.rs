//! What the generated code does, as far as it needs no database.

use storehaus::__private::cache::{CacheField, Cacheable, codec, key};
use storehaus::__private::chrono::{DateTime, NaiveDateTime, Utc};
use storehaus::model::{AssignedBy, Model as _, ModelKey};
use storehaus::{Column, Model};

#[derive(Clone, Debug, PartialEq, Eq, Hash, Column)]
struct Id(i64);

#[derive(Clone, Debug, PartialEq, Eq, Hash, Column)]
struct Name(String);

#[derive(Clone, Copy, Debug, PartialEq, Column)]
enum Kind {
    First,
    Second,
}

#[derive(Clone, Copy, Debug, PartialEq, Column)]
#[column(rename_all = "lowercase")]
enum Renamed {
    First,
    Second,
}

#[derive(Clone, Debug, PartialEq, Model)]
#[model(table = "users", schema = "app")]
struct User {
    #[key]
    id: Id,
    name: Option<Name>,
    kind: Kind,
    kinds: Option<Kind>,
    #[json]
    json: Vec<(String, Option<u64>)>,
    #[created_at]
    created: DateTime<Utc>,
    #[updated_at]
    updated: Option<NaiveDateTime>,
}

#[derive(Clone, Debug, PartialEq, Model)]
#[model(table = "users")]
struct Composite {
    #[key]
    a: Name,
    b: f64,
    #[key]
    c: Id,
}

/// As `Composite`, but with two columns in the other order.
#[derive(Clone, Debug, PartialEq, Model)]
#[model(table = "users")]
struct Reordered {
    b: f64,
    #[key]
    a: Name,
    #[key]
    c: Id,
}

/// As `Composite`, but with another column name.
#[derive(Clone, Debug, PartialEq, Model)]
#[model(table = "users")]
struct RenamedColumn {
    #[key]
    a: Name,
    #[model(rename = "other")]
    b: f64,
    #[key]
    c: Id,
}

fn time(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(seconds, 0).unwrap()
}

fn main() {
    let mut user = User {
        id: Id(0),
        name: Some(Name("a".into())),
        kind: Kind::Second,
        kinds: None,
        json: vec![("x".into(), None), ("y".into(), Some(7))],
        created: time(0),
        updated: None,
    };

    // The cache gives back what was put in.
    let bytes = codec::to_bytes(&user).unwrap();
    assert_eq!(codec::from_bytes::<User>(&bytes).unwrap(), user);

    // Times are set when their attribute says so, keys of the database are left to it.
    user.before_create(time(5));
    assert_eq!((user.created, user.updated), (time(5), Some(time(5).naive_utc())));
    assert_eq!(user.id, Id(0));
    user.before_update(time(9));
    assert_eq!((user.created, user.updated), (time(5), Some(time(9).naive_utc())));

    // A newtype is a key like the type inside it.
    assert_eq!((Id::ASSIGNED_BY, Name::ASSIGNED_BY), (AssignedBy::Database, AssignedBy::Caller));
    assert!(Id(0).is_unset() && !Id(1).is_unset());
    let key = key::encode_id(&Name("a:b".into()));
    assert_eq!((key.as_str(), key::decode_id(&key)), ("a%3ab", Some(Name("a:b".into()))));

    // A composite key has its parts in field order.
    let composite = Composite { a: Name("x".into()), b: 1.5, c: Id(3) };
    assert_eq!(composite.key(), (Name("x".into()), Id(3)));
    assert_eq!(Composite::TABLE.key, [0, 2]);
    assert_eq!(key::encode_id(&composite.key()), "x,3");

    // Another shape has another fingerprint; an entry of it is a miss.
    let schemas = [User::SCHEMA, Composite::SCHEMA, Reordered::SCHEMA, RenamedColumn::SCHEMA];
    assert!((1..4).all(|i| !schemas[..i].contains(&schemas[i])));
    assert_eq!(<Id as CacheField>::LAYOUT, <i64 as CacheField>::LAYOUT);
    assert_ne!(<Kind as CacheField>::LAYOUT, <Renamed as CacheField>::LAYOUT);
    let _ = (Renamed::First, Renamed::Second, Kind::First);
}
