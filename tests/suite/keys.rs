//! Every kind of key, and every odd text in one.

use storehaus::prelude::*;

use crate::models::{Doc, Grade, Item, User, doc, grade, item, user};
use crate::world::suite;

/// A newtype around a key is a key.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Column)]
struct OrderId(Uuid);

#[derive(Debug, Clone, PartialEq, Model)]
#[model(table = "orders")]
struct Order {
    #[key]
    id: OrderId,
    total: i64,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, Column)]
struct Sku(String);

#[derive(Debug, Clone, PartialEq, Model)]
#[model(table = "products")]
struct Product {
    #[key]
    sku: Sku,
    price: Decimal,
}

#[derive(Debug, Clone, PartialEq, Model)]
#[model(table = "notes")]
struct Note {
    #[key]
    id: i32,
    text: String,
}

#[derive(Debug, Clone, PartialEq, Model)]
#[model(table = "cells")]
struct Cell {
    #[key]
    sheet: Uuid,
    #[key]
    row: i16,
    #[key]
    column: i32,
    #[key]
    layer: String,
    value: Option<String>,
}

const ODD: [&str; 24] = [
    "",
    " ",
    "plain",
    "with:colon",
    "::",
    "a*",
    "*",
    "?[a-z]^",
    "{tag}",
    "{}",
    "~h:0",
    "%3a",
    "a,b",
    "two words",
    "line\nbreak\ttab",
    "it's \"quoted\"",
    "\\u0041",
    "'; DROP TABLE docs; --",
    "é",
    "e\u{301}",
    "🦀",
    "UPPER",
    "upper",
    "\u{feff}bom",
];

suite! {
    every fn odd_texts_are_keys_of_their_own(world) {
        world.haus.create_missing_tables::<(Doc,)>().await.unwrap();
        let docs = world.haus.store::<Doc>();
        let rows: Vec<Doc> = ODD.iter().enumerate().map(|(n, id)| doc(id, &format!("first {n}"))).collect();
        assert_eq!(docs.create_many(rows.clone()).await.unwrap(), rows);
        for _ in 0..2 {
            for row in &rows {
                assert_eq!(docs.get_by_id(row.id.as_str()).await.unwrap().as_ref(), Some(row), "{:?}", row.id);
            }
            world.settle().await;
        }
        // Each write reaches the entry of its own key and of no other.
        for (n, id) in ODD.iter().enumerate() {
            let changed = doc(id, &format!("second {n}"));
            assert_eq!(docs.update(*id, changed.clone()).await.unwrap(), changed);
            assert_eq!(docs.get_by_id(*id).await.unwrap(), Some(changed), "{id:?}");
            if let Some(next) = ODD.get(n + 1) {
                assert_eq!(docs.get_by_id(*next).await.unwrap(), Some(doc(next, &format!("first {}", n + 1))));
            }
        }
        world.settle().await;
        let ids: Vec<String> = ODD.iter().map(ToString::to_string).collect();
        let found = docs.get_many(&ids).await.unwrap();
        assert!(found.iter().enumerate().all(|(n, row)| *row == Some(doc(ODD[n], &format!("second {n}")))), "{found:?}");
        for id in ODD {
            assert!(docs.delete(id).await.unwrap(), "{id:?}");
            assert_eq!(docs.get_by_id(id).await.unwrap(), None, "{id:?}");
        }
    }

    every fn a_key_of_a_megabyte(world) {
        world.haus.create_missing_tables::<(Doc,)>().await.unwrap();
        let docs = world.haus.store::<Doc>();
        let (one, two) = ("x".repeat(1 << 20), format!("{}y", "x".repeat((1 << 20) - 1)));
        if world.is_sqlite() {
            docs.create_many(vec![doc(&one, "one"), doc(&two, "two")]).await.unwrap();
            for _ in 0..2 {
                assert_eq!(docs.get_by_id(&one).await.unwrap().unwrap().body, "one");
                assert_eq!(docs.get_by_id(&two).await.unwrap().unwrap().body, "two");
                world.settle().await;
            }
            docs.update(&one, doc(&one, "three")).await.unwrap();
            assert_eq!(docs.get_by_id(&one).await.unwrap().unwrap().body, "three");
            assert_eq!(docs.get_by_id(&two).await.unwrap().unwrap().body, "two");
            assert!(docs.delete(&one).await.unwrap());
            assert_eq!(docs.get_by_id(&one).await.unwrap(), None);
        } else {
            // An index of Postgres holds keys of some 2,700 bytes.
            let error = docs.create(doc(&one, "one")).await.unwrap_err();
            assert!(error.to_string().len() < 300, "the error quotes the key");
            assert_eq!(docs.get_by_id(&one).await.unwrap(), None);
            let long: String = (0..650).map(|n| char::from(b'a' + (n * 7 % 26) as u8)).collect();
            docs.create(doc(&long, "long")).await.unwrap();
            for _ in 0..2 {
                assert_eq!(docs.get_by_id(&long).await.unwrap().unwrap().body, "long");
                world.settle().await;
            }
            docs.update(&long, doc(&long, "changed")).await.unwrap();
            assert_eq!(docs.get_by_id(&long).await.unwrap().unwrap().body, "changed");
        }
    }

    every fn a_nul_in_a_key(world) {
        world.haus.create_missing_tables::<(Doc,)>().await.unwrap();
        let docs = world.haus.store::<Doc>();
        if world.is_sqlite() {
            docs.create_many(vec![doc("a\0b", "one"), doc("a", "two")]).await.unwrap();
            for _ in 0..2 {
                assert_eq!(docs.get_by_id("a\0b").await.unwrap(), Some(doc("a\0b", "one")));
                assert_eq!(docs.get_by_id("a").await.unwrap(), Some(doc("a", "two")));
                world.settle().await;
            }
        } else {
            for error in [docs.create(doc("a\0b", "one")).await.unwrap_err(), docs.get_by_id("a\0b").await.unwrap_err()] {
                assert!(matches!(error, StorehausError::InvalidInput(_)), "{error}");
                assert!(error.to_string().contains("NUL"), "{error}");
            }
            docs.create(doc("a", "two")).await.unwrap();
            assert_eq!(docs.get_by_id("a").await.unwrap(), Some(doc("a", "two")));
        }
    }

    every fn integers_to_the_ends_of_their_range(world) {
        world.haus.create_missing_tables::<(Item, Note)>().await.unwrap();
        let items = world.haus.store::<Item>();
        // Ids that are equal in their low 32 or 53 bits stay apart.
        let ids = [i64::MIN, i64::MAX, -1, 1, 1 << 32, (1 << 32) + 1, 1 << 53, (1 << 53) + 1];
        let rows: Vec<Item> = ids.iter().map(|id| item(*id, &id.to_string())).collect();
        items.create_many(rows.clone()).await.unwrap();
        for _ in 0..2 {
            for row in &rows {
                assert_eq!(items.get_by_id(&row.id).await.unwrap().as_ref(), Some(row));
            }
            world.settle().await;
        }
        assert!(items.delete(&i64::MIN).await.unwrap());
        assert_eq!(items.get_many(&ids).await.unwrap().iter().flatten().count(), ids.len() - 1);

        let notes = world.haus.store::<Note>();
        let first = notes.create(Note { id: 0, text: "a".into() }).await.unwrap();
        let second = notes.create(Note { id: 0, text: "b".into() }).await.unwrap();
        assert!(first.id > 0 && second.id > first.id);
        notes.create(Note { id: i32::MIN, text: "c".into() }).await.unwrap();
        for _ in 0..2 {
            assert_eq!(notes.get_by_id(&i32::MIN).await.unwrap().unwrap().text, "c");
            assert_eq!(notes.get_by_id(&second.id).await.unwrap(), Some(second.clone()));
            world.settle().await;
        }
    }

    every fn a_uuid_is_made_in_the_order_of_time_or_kept(world) {
        world.haus.create_missing_tables::<(User, Order)>().await.unwrap();
        let users = world.haus.store::<User>();
        let first = users.create(user("first")).await.unwrap();
        let second = users.create(user("second")).await.unwrap();
        assert_eq!(first.id.get_version_num(), 7);
        assert!(first.id < second.id);
        let id = Uuid::from_u128(0x1234);
        let given = users.create(User { id, ..user("given") }).await.unwrap();
        assert_eq!(given.id, id);
        assert_eq!(users.get_by_id(&id).await.unwrap(), Some(given));

        let orders = world.haus.store::<Order>();
        let order = orders.create(Order { id: OrderId(Uuid::nil()), total: 5 }).await.unwrap();
        assert_eq!(order.id.0.get_version_num(), 7);
        for _ in 0..2 {
            assert_eq!(orders.get_by_id(&order.id).await.unwrap(), Some(order.clone()));
            world.settle().await;
        }
        let changed = Order { total: 6, ..order.clone() };
        orders.update(&order.id, changed.clone()).await.unwrap();
        assert_eq!(orders.get_by_id(&order.id).await.unwrap(), Some(changed));
    }

    every fn newtypes_and_composite_keys(world) {
        world.haus.create_missing_tables::<(Product, Grade, Cell)>().await.unwrap();
        let products = world.haus.store::<Product>();
        let sku = Sku("a:b*".into());
        let product = Product { sku: sku.clone(), price: Decimal::new(1_50, 2) };
        products.create(product.clone()).await.unwrap();
        for _ in 0..2 {
            assert_eq!(products.get_by_id(&sku).await.unwrap(), Some(product.clone()));
            world.settle().await;
        }
        products.upsert_many(vec![Product { price: Decimal::new(2, 0), ..product }]).await.unwrap();
        assert_eq!(products.get_by_id(&sku).await.unwrap().unwrap().price, Decimal::new(2, 0));

        // The parts of a key do not run into each other.
        let grades = world.haus.store::<Grade>();
        let rows = vec![grade(1, "1,a", 1), grade(1, "1", 2), grade(11, "a", 3), grade(11, ",a", 4), grade(1, "", 5)];
        grades.create_many(rows.clone()).await.unwrap();
        for _ in 0..2 {
            for row in &rows {
                assert_eq!(grades.get_by_id(&(row.student, row.course.clone())).await.unwrap().as_ref(), Some(row));
            }
            world.settle().await;
        }
        assert!(grades.delete(&(1, "1".to_owned())).await.unwrap());
        assert_eq!(grades.get_by_id(&(1, "1".to_owned())).await.unwrap(), None);
        assert_eq!(grades.get_by_id(&(1, "1,a".to_owned())).await.unwrap(), Some(grade(1, "1,a", 1)));

        let cells = world.haus.store::<Cell>();
        let key = (Uuid::from_u128(7), -1, i32::MAX, "top".to_owned());
        let cell = Cell { sheet: key.0, row: key.1, column: key.2, layer: key.3.clone(), value: Some("x".into()) };
        cells.create_many(vec![cell.clone(), Cell { row: 2, value: None, ..cell.clone() }]).await.unwrap();
        for _ in 0..2 {
            assert_eq!(cells.get_by_id(&key).await.unwrap(), Some(cell.clone()));
            world.settle().await;
        }
        let changed = Cell { value: None, ..cell };
        assert_eq!(cells.update_many(vec![(key.clone(), changed.clone())]).await.unwrap(), std::slice::from_ref(&changed));
        assert_eq!(cells.get_many(&[key.clone(), key.clone()]).await.unwrap(), [Some(changed.clone()), Some(changed)]);
        assert_eq!(cells.delete_many(std::slice::from_ref(&key)).await.unwrap(), 1);
        assert_eq!(cells.get_by_id(&key).await.unwrap(), None);
    }
}
