//! Every setting and mark compiles, also through `macro_rules!`.
#![deny(warnings)]

use storehaus::model::{CacheMode, Model as _, Role};
use storehaus::{Column, Model};

macro_rules! model {
    ($name:ident, $table:literal, $ttl:literal, $key:ty) => {
        #[derive(Clone, Model)]
        #[model(table = $table, ttl = $ttl)]
        pub struct $name {
            #[key]
            pub id: $key,
        }
    };
}

model!(FromMacro, "from_macro", 60, i64);

#[derive(Clone, Debug, PartialEq, Eq, Hash, Column)]
pub struct Id(String);

#[derive(Clone, Model)]
#[model(table = "t", schema = "s", cache = "never", prefix = "p.q-r", ttl = 1, crate = ::storehaus)]
#[model(unique(a, r#type), index(b))]
pub struct All {
    #[model(key)]
    pub id: Id,
    #[model(unique)]
    pub a: i64,
    pub b: Option<i64>,
    pub r#type: i64,
    #[model(json, readonly)]
    pub json: Option<Vec<u64>>,
    #[model(generated = "a + 1")]
    pub next: i64,
    #[doc = "Other attributes are ignored."]
    #[allow(unused)]
    #[model(rename = "Select")]
    pub selected: bool,
}

fn main() {
    let table = All::TABLE;
    assert_eq!((table.schema, table.name, table.prefix), (Some("s"), "t", Some("p.q-r")));
    assert_eq!((table.cache, table.ttl), (CacheMode::Never, Some(std::time::Duration::from_secs(1))));
    assert_eq!(table.key, [0]);
    let columns: Vec<_> = table.columns.iter().map(|column| (column.field, column.name, column.role)).collect();
    assert_eq!(
        columns,
        [
            ("id", "id", Role::Key),
            ("a", "a", Role::Plain),
            ("b", "b", Role::Plain),
            ("type", "type", Role::Plain),
            ("json", "json", Role::InsertOnly),
            ("next", "next", Role::Generated(Some("a + 1"))),
            ("selected", "Select", Role::Plain),
        ]
    );
    let indexes: Vec<_> = table.indexes.iter().map(|index| (index.columns.to_vec(), index.unique)).collect();
    assert_eq!(indexes, [(vec![1], true), (vec![1, 3], true), (vec![2], false)]);
    assert_eq!(FromMacro { id: 7 }.key(), 7);
}
