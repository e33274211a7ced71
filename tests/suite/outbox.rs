//! Changes past the stores, and invalidations whose writer is gone: recorded in the database, delivered by relays.

mod postgres;

use std::num::NonZeroU32;

use storehaus::outbox::{Relay, RelayOptions};
use storehaus::prelude::*;

use crate::models::{Doc, Grade, Item, User, doc, grade, item, user};
use crate::server::Server;
use crate::world::{Tiers, World, patient, suite, until};

/// Where nobody listens.
const NOWHERE: &str = "redis://127.0.0.1:1/";

/// Texts that a key or an array of keys might be mistaken in.
const ODD: [&str; 16] = [
    "",
    " ",
    "NULL",
    "null",
    "{}",
    "{a,b}",
    "a,b",
    "\"",
    "it's \"quoted\"",
    "back\\slash\\\"",
    "with:colon",
    "line\nbreak\ttab",
    "'; DROP TABLE docs; --",
    "é",
    "e\u{301}🦀",
    "%2c",
];

fn often() -> RelayOptions {
    RelayOptions::default().with_interval(Duration::from_millis(5))
}

/// Waits until everything recorded is delivered.
async fn drained<DB: storehaus::outbox::Outbox>(haus: &StoreHaus<DB>) {
    until("delivery", || async { haus.outbox_backlog().await.unwrap().rows == 0 }).await;
}

async fn backlog<DB: storehaus::outbox::Outbox>(haus: &StoreHaus<DB>) -> u64 {
    haus.outbox_backlog().await.unwrap().rows
}

/// Waits until the cache holds what was read.
async fn cached<T, DB>(world: &World<DB>, store: &GenericStore<T, DB>, id: &T::Key)
where
    T: storehaus::model::Persist<DB>,
    DB: storehaus::backend::Backend,
{
    store.get_by_id(id).await.unwrap();
    world.settle().await;
}

suite! {
    cached fn what_another_program_changes_is_delivered(world) {
        world.haus.create_missing_tables::<(Item,)>().await.unwrap();
        world.haus.install_outbox::<(Item,)>().await.unwrap();
        let items = world.haus.store_with::<Item>(|cache| cache.with_prefix("remembers").with_negative_ttl(60));
        items.create_many(vec![item(1, "a"), item(2, "b"), item(3, "c"), item(4, "d")]).await.unwrap();
        // Nobody took what the store itself changed.
        assert_eq!(backlog(&world.haus).await, 4);
        let read = || async { items.get_many(&[1, 2, 3, 4, 5, 6]).await.unwrap() };
        let before = read().await;
        world.settle().await;

        world.sql("UPDATE items SET code = 'x' WHERE id = 1; DELETE FROM items WHERE id = 2").await;
        world.sql("INSERT INTO items (id, code, stock) VALUES (5, 'e', 1)").await;
        // The key of a row is a column like any other to somebody else.
        world.sql("UPDATE items SET id = 6 WHERE id = 3").await;
        // Without the relay each read is served the older row, or that there is none.
        assert_eq!(read().await, before);
        assert_eq!(backlog(&world.haus).await, 4 + 5);
        assert!(world.haus.outbox_backlog().await.unwrap().oldest.is_some());

        let relay = world.haus.start_relay::<(Item,)>(often()).await.unwrap();
        drained(&world.haus).await;
        assert_eq!(world.haus.outbox_backlog().await.unwrap().oldest, None);
        let after = [Some(item(1, "x")), None, None, Some(item(4, "d")), Some(item(5, "e")), Some(item(6, "c"))];
        assert_eq!(read().await, after);
        let stats = relay.stats();
        assert_eq!(stats.failures, 0, "{stats:?}");
        until("the count", || async { relay.stats().delivered == 9 }).await;

        // And while it runs.
        world.settle().await;
        world.sql("UPDATE items SET code = 'y' WHERE id = 1").await;
        until("the new row", || async { items.get_by_id(&1i64).await.unwrap() == Some(item(1, "y")) }).await;
        drained(&world.haus).await;
        // What is recorded after the end of the relay stays.
        relay.stop().await;
        world.sql("UPDATE items SET code = 'z' WHERE id = 1").await;
        assert_eq!(backlog(&world.haus).await, 1);
    }

    redis fn every_kind_of_key_is_read_back(world) {
        world.haus.create_missing_tables::<(User, Item, Doc, Grade)>().await.unwrap();
        world.haus.install_outbox::<(User, Item, Doc, Grade)>().await.unwrap();
        let (users, items) = (world.haus.store::<User>(), world.haus.store::<Item>());
        let (docs, grades) = (world.haus.store::<Doc>(), world.haus.store::<Grade>());
        let ada = users.create(user("ada")).await.unwrap();
        items.create(item(-7, "a")).await.unwrap();
        docs.create_many(ODD.iter().map(|id| doc(id, "old")).collect()).await.unwrap();
        docs.create(doc(&"long ".repeat(400), "old")).await.unwrap();
        grades.create_many(ODD.iter().map(|course| grade(-1, course, 1)).collect()).await.unwrap();
        let relay = world.haus.start_relay::<(User, Item, Doc, Grade)>(often()).await.unwrap();
        drained(&world.haus).await;

        let doc_ids: Vec<String> = docs.list_all().await.unwrap().into_iter().map(|doc| doc.id).collect();
        let grade_ids: Vec<(i64, String)> = ODD.iter().map(|course| (-1, (*course).to_owned())).collect();
        users.get_by_id(&ada.id).await.unwrap();
        items.get_by_id(&-7i64).await.unwrap();
        docs.get_many(&doc_ids).await.unwrap();
        grades.get_many(&grade_ids).await.unwrap();
        world.settle().await;
        let loads = world.stats().await.loads;

        world.sql("UPDATE users SET name = 'new'; UPDATE items SET code = 'new'").await;
        world.sql("UPDATE docs SET body = 'new'; UPDATE grades SET points = 2").await;
        drained(&world.haus).await;
        assert_eq!(users.get_by_id(&ada.id).await.unwrap().unwrap().name, "new");
        assert_eq!(items.get_by_id(&-7i64).await.unwrap(), Some(item(-7, "new")));
        for row in docs.get_many(&doc_ids).await.unwrap() {
            assert_eq!(row.unwrap().body, "new");
        }
        for row in grades.get_many(&grade_ids).await.unwrap() {
            assert_eq!(row.unwrap().points, 2);
        }
        let rows = 2 + doc_ids.len() as u64 + grade_ids.len() as u64;
        assert_eq!(world.stats().await.loads - loads, rows);
        assert_eq!(relay.stats().failures, 0);
    }

    cached fn what_is_rolled_back_is_not_recorded(world) {
        world.haus.create_missing_tables::<(Item,)>().await.unwrap();
        world.haus.install_outbox::<(Item,)>().await.unwrap();
        world.sql("BEGIN; INSERT INTO items (id, code, stock) VALUES (1, 'a', 1); ROLLBACK").await;
        assert_eq!(backlog(&world.haus).await, 0);
        let items = world.haus.store::<Item>();
        items.create(item(1, "a")).await.unwrap();
        items.create(item(1, "a")).await.unwrap_err();
        assert_eq!(backlog(&world.haus).await, 1);
    }

    /// The triggers are the database's work: a store sends what it sends without them.
    cached fn a_store_sends_no_statement_more(world) {
        world.haus.create_missing_tables::<(Item,)>().await.unwrap();
        world.haus.install_outbox::<(Item,)>().await.unwrap();
        let items = world.haus.store::<Item>();
        world.statements();
        items.create(item(1, "a")).await.unwrap();
        items.update(&1i64, item(1, "b")).await.unwrap();
        items.upsert(item(1, "c")).await.unwrap();
        items.create_many((2..100).map(|id| item(id, &id.to_string())).collect()).await.unwrap();
        items.delete(&1i64).await.unwrap();
        let sent = world.statements();
        let verbs: Vec<&str> = sent.iter().filter_map(|text| text.split_whitespace().next()).collect();
        assert_eq!(verbs, ["INSERT", "UPDATE", "INSERT", "INSERT", "DELETE"]);
        assert!(sent.iter().all(|text| !text.contains("outbox")), "{sent:?}");
        // An upsert of a row that is there inserts nothing.
        assert_eq!(backlog(&world.haus).await, 4 + 98);
    }

    cached fn it_is_installed_once_and_removed(world) {
        world.haus.create_missing_tables::<(Item, Doc)>().await.unwrap();
        let error = world.haus.start_relay::<(Item,)>(often()).await.unwrap_err();
        assert!(matches!(error, StorehausError::SchemaMismatch(_)), "{error}");
        world.haus.install_outbox::<(Item, Doc)>().await.unwrap();
        world.statements();
        world.haus.install_outbox::<(Item, Doc)>().await.unwrap();
        let changes: Vec<String> = world.statements().into_iter().filter(|text| text.contains("CREATE")).collect();
        assert_eq!(changes, Vec::<String>::new());
        // Several instances that start at once.
        let neighbour = world.neighbour();
        let both = futures_util::future::join(
            world.haus.install_outbox::<(Item, Doc)>(),
            neighbour.install_outbox::<(Doc, Item)>(),
        );
        assert!(matches!(both.await, (Ok(()), Ok(()))));
        world.haus.check_schema::<(Item, Doc)>().await.unwrap();

        world.sql("INSERT INTO items (id, code, stock) VALUES (1, 'a', 1)").await;
        assert_eq!(backlog(&world.haus).await, 1);
        world.haus.remove_outbox::<(Item,)>().await.unwrap();
        world.haus.remove_outbox::<(Item,)>().await.unwrap();
        world.sql("UPDATE items SET stock = 2; INSERT INTO docs (id, body) VALUES ('a', 'b')").await;
        assert_eq!(backlog(&world.haus).await, 2);
        let error = world.haus.start_relay::<(Doc, Item)>(often()).await.unwrap_err();
        assert_eq!(error.table(), Some("items"), "{error}");
        // A relay leaves alone what it does not serve.
        let relay = world.haus.start_relay::<(Doc,)>(often()).await.unwrap();
        until("one", || async { relay.stats().delivered == 1 }).await;
        assert_eq!(backlog(&world.haus).await, 1);
        world.haus.install_outbox::<(Item,)>().await.unwrap();
        let _relay = world.haus.start_relay::<(Item,)>(often()).await.unwrap();
        drained(&world.haus).await;
    }

    /// A key that is read as another model's key would be another row's.
    once fn changes_recorded_by_another_key_are_refused(world) {
        let haus = world.behind(CacheConfig::in_process(60, "app"));
        haus.create_missing_tables::<(Item,)>().await.unwrap();
        haus.install_outbox::<(Item,)>().await.unwrap();
        let error = haus.start_relay::<(ItemByCode,)>(often()).await.unwrap_err();
        assert!(error.to_string().contains("not recorded by its key for the cache app"), "{error}");
        let error = world.haus.install_outbox::<(Item,)>().await.unwrap_err();
        assert!(matches!(error, StorehausError::CacheDisabled(_)), "{error}");
        world.sql("CREATE VIEW docs AS SELECT code AS id, code AS body FROM items").await;
        assert!(haus.install_outbox::<(Doc,)>().await.is_err());
        assert!(haus.install_outbox::<(Grade,)>().await.is_err());
    }

    /// Programs whose caches have other prefixes each have their changes.
    redis fn each_cache_has_its_own_changes(world) {
        world.haus.create_missing_tables::<(Item,)>().await.unwrap();
        let other = world.behind(patient(&crate::world::redis_url(), &format!("{}.other-cache-of-a-long-name", world.name)));
        world.haus.install_outbox::<(Item,)>().await.unwrap();
        other.install_outbox::<(Item,)>().await.unwrap();
        let (items, others) = (world.haus.store::<Item>(), other.store::<Item>());
        items.create(item(1, "a")).await.unwrap();
        assert_eq!((backlog(&world.haus).await, backlog(&other).await), (1, 1));
        cached(&world, &items, &1).await;
        others.get_by_id(&1i64).await.unwrap();
        other.cache().unwrap().settle().await;
        // A store of the one knows nothing of the other's cache.
        items.update(&1i64, item(1, "b")).await.unwrap();
        assert_eq!(others.get_by_id(&1i64).await.unwrap(), Some(item(1, "a")));
        let _relay = other.start_relay::<(Item,)>(often()).await.unwrap();
        drained(&other).await;
        assert_eq!(others.get_by_id(&1i64).await.unwrap(), Some(item(1, "b")));
        assert_eq!(backlog(&world.haus).await, 2);
        other.remove_outbox::<(Item,)>().await.unwrap();
        world.sql("UPDATE items SET stock = 3").await;
        assert_eq!((backlog(&world.haus).await, backlog(&other).await), (3, 0));
    }

    /// The writer reaches no Redis and is gone before one could be told; another instance's relay delivers.
    redis fn a_writer_that_reaches_no_redis_is_caught_up_with(world) {
        world.haus.create_missing_tables::<(Item,)>().await.unwrap();
        world.haus.install_outbox::<(Item,)>().await.unwrap();
        let items = world.haus.store::<Item>();
        items.create(item(1, "a")).await.unwrap();
        cached(&world, &items, &1).await;
        let lonely = world.behind(CacheConfig::new(NOWHERE, 60, &world.name).with_timeout(50).with_retry_attempts(1));
        lonely.store::<Item>().update(&1i64, item(1, "b")).await.unwrap();
        drop(lonely);
        assert_eq!(items.get_by_id(&1i64).await.unwrap(), Some(item(1, "a")));
        let _relay = world.neighbour().start_relay::<(Item,)>(often()).await.unwrap();
        drained(&world.haus).await;
        if world.tiers == Tiers::Redis {
            assert_eq!(items.get_by_id(&1i64).await.unwrap(), Some(item(1, "b")));
        }
        assert_eq!(world.neighbour().store::<Item>().get_by_id(&1i64).await.unwrap(), Some(item(1, "b")));
    }

    /// A row leaves the outbox when Redis confirmed, and not before.
    once fn nothing_is_taken_from_the_outbox_while_redis_is_away(world) {
        let server = Server::start();
        let away = world.behind(patient(&server.url(), "app").with_timeout(100).with_retry_attempts(1));
        let haus = world.behind(patient(&server.url(), "app"));
        haus.create_missing_tables::<(Item,)>().await.unwrap();
        haus.install_outbox::<(Item,)>().await.unwrap();
        let items = haus.store::<Item>();
        items.create(item(1, "a")).await.unwrap();
        let relay = away.start_relay::<(Item,)>(often()).await.unwrap();
        drained(&haus).await;
        items.get_by_id(&1i64).await.unwrap();
        haus.cache().unwrap().settle().await;

        server.signal("-STOP");
        world.sql("UPDATE items SET code = 'b'").await;
        until("failures", || async { relay.stats().failures >= 2 }).await;
        assert!(relay.stats().last_error.is_some());
        assert_eq!((relay.stats().delivered, backlog(&haus).await), (1, 1));
        // The relay's instance knows that Redis holds an older row.
        assert_eq!(away.store::<Item>().get_by_id(&1i64).await.unwrap(), Some(item(1, "b")));
        server.signal("-CONT");
        drained(&haus).await;
        assert_eq!(items.get_by_id(&1i64).await.unwrap(), Some(item(1, "b")));
        until("the end of the outage", || async { relay.stats().last_error.is_none() }).await;
    }

    /// Each row is delivered, and where the database lets relays share the work, once.
    redis fn relays_share_the_work(world) {
        world.haus.create_missing_tables::<(Item,)>().await.unwrap();
        world.haus.install_outbox::<(Item,)>().await.unwrap();
        let items = world.haus.store::<Item>();
        let ids: Vec<i64> = (1..=300).collect();
        items.create_many(ids.iter().map(|id| item(*id, &id.to_string())).collect()).await.unwrap();
        items.get_many(&ids).await.unwrap();
        world.settle().await;
        let small = often().with_batch(NonZeroU32::new(7).unwrap());
        // In process too, only the instance whose relay delivers a row hears of it at once.
        let reader = world.behind(patient(&crate::world::redis_url(), &world.name)).store::<Item>();
        let mut relays: Vec<Relay> = Vec::new();
        for _ in 0..3 {
            relays.push(world.neighbour().start_relay::<(Item,)>(small).await.unwrap());
        }
        for id in &ids {
            world.sql(&format!("UPDATE items SET code = 'n{id}' WHERE id = {id}")).await;
        }
        drained(&world.haus).await;
        for (id, row) in ids.iter().zip(reader.get_many(&ids).await.unwrap()) {
            assert_eq!(row, Some(item(*id, &format!("n{id}"))));
        }
        let mut delivered = 0;
        for relay in relays {
            assert_eq!(relay.stats().failures, 0, "{:?}", relay.stats());
            let shared = relay.stats();
            relay.stop().await;
            delivered += shared.delivered;
        }
        if !world.is_sqlite() {
            assert_eq!(delivered, 600);
        }
        assert!(delivered >= 600, "{delivered}");
    }
}

/// The table of [`Item`], by another of its columns.
#[derive(Debug, Clone, PartialEq, Model)]
#[model(table = "items", prefix = "items_by_code")]
struct ItemByCode {
    #[key]
    code: String,
    stock: i32,
}
