//! What the options of a model, a store and a manager change.

use storehaus::prelude::*;

use crate::models::{Doc, Item, User, doc, item, make_caseless_docs, user};
use crate::server::Admin;
use crate::world::{PATIENCE, Tiers, redis_url, suite, until};

#[derive(Debug, Clone, PartialEq, Model)]
#[model(table = "uncached_items", cache = "never")]
struct Never {
    #[key]
    id: i64,
    name: String,
}

#[derive(Debug, Clone, PartialEq, Model)]
#[model(table = "local_items", cache = "local")]
struct Local {
    #[key]
    id: i64,
    name: String,
}

#[derive(Debug, Clone, PartialEq, Model)]
#[model(table = "short_items", prefix = "short", ttl = 7)]
struct Short {
    #[key]
    id: i64,
    name: String,
}

/// What a second instance of the model's table looks like to a store under the prefix of another model.
#[derive(Debug, Clone, PartialEq, Model)]
#[model(table = "intruders", prefix = "items")]
struct Intruder {
    #[key]
    id: i64,
    name: String,
}

suite! {
    cached fn a_disabled_store_caches_nothing_and_invalidates_the_others(world) {
        world.haus.create_missing_tables::<(Item,)>().await.unwrap();
        let cached = world.haus.store::<Item>();
        let disabled = world.haus.store_with::<Item>(CacheParams::disabled);
        disabled.create(item(1, "a")).await.unwrap();
        for _ in 0..3 {
            assert_eq!(disabled.get_by_id(&1i64).await.unwrap(), Some(item(1, "a")));
            world.settle().await;
        }
        assert_eq!(world.stats().await.hits(), 0);
        assert_eq!(cached.get_by_id(&1i64).await.unwrap(), Some(item(1, "a")));
        world.settle().await;

        disabled.update(&1i64, item(1, "b")).await.unwrap();
        assert_eq!(cached.get_by_id(&1i64).await.unwrap(), Some(item(1, "b")));
        world.settle().await;
        disabled.update_many(vec![(1, item(1, "c"))]).await.unwrap();
        assert_eq!(cached.get_by_id(&1i64).await.unwrap(), Some(item(1, "c")));
        world.settle().await;
        disabled.delete(&1i64).await.unwrap();
        assert_eq!(cached.get_by_id(&1i64).await.unwrap(), None);
    }

    cached fn the_cache_mode_of_a_model(world) {
        world.haus.create_missing_tables::<(Never, Local)>().await.unwrap();
        let (never, local) = (world.haus.store::<Never>(), world.haus.store::<Local>());
        never.create(Never { id: 1, name: "a".into() }).await.unwrap();
        local.create(Local { id: 1, name: "a".into() }).await.unwrap();
        world.statements();
        for _ in 0..3 {
            never.get_by_id(&1i64).await.unwrap().unwrap();
            local.get_by_id(&1i64).await.unwrap().unwrap();
            world.settle().await;
        }
        let statements = world.statements();
        assert_eq!(statements.iter().filter(|text| text.contains("uncached_items")).count(), 3);
        assert_eq!(statements.iter().filter(|text| text.contains("local_items")).count(), 1);
        local.update(&1i64, Local { id: 1, name: "b".into() }).await.unwrap();
        assert_eq!(local.get_by_id(&1i64).await.unwrap().unwrap().name, "b");
        if world.has_redis() {
            world.settle().await;
            let mut admin = Admin::connect(&redis_url()).await;
            for key in [never.cache_key(&1i64).unwrap(), local.cache_key(&1i64).unwrap()] {
                assert!(!admin.run::<bool>(&["EXISTS", &key]).await, "{key}");
            }
        }
    }

    redis fn keys_and_times_to_live_are_what_was_asked_for(world) {
        world.haus.create_missing_tables::<(Item, Short)>().await.unwrap();
        let mut admin = Admin::connect(&redis_url()).await;
        world.haus.store::<Item>().create(item(1, "a")).await.unwrap();
        world.haus.store::<Short>().create(Short { id: 1, name: "a".into() }).await.unwrap();

        let plain = world.haus.store::<Item>();
        let prefixed = world.haus.store_with::<Item>(|params| params.with_prefix("premium.items").with_ttl(600));
        plain.get_by_id(&1i64).await.unwrap();
        prefixed.get_by_id(&1i64).await.unwrap();
        world.haus.store::<Short>().get_by_id(&1i64).await.unwrap();
        let fine = world.haus.store_with::<Short>(|params| params.with_prefix("fine").with_ttl(Duration::from_millis(90_000)));
        fine.get_by_id(&1i64).await.unwrap();
        world.settle().await;
        assert_eq!(plain.cache_key(&1i64).unwrap(), format!("{}:items:1", world.name));
        for (key, seconds) in [
            (plain.cache_key(&1i64).unwrap(), 60),
            (format!("{}:premium.items:1", world.name), 600),
            (format!("{}:short:1", world.name), 7),
            (format!("{}:fine:1", world.name), 90),
        ] {
            let left: i64 = admin.run(&["PTTL", &key]).await;
            // Up to 5 % less, so that rows cached together do not expire together, and what has passed since.
            assert!(left <= seconds * 1000 && left >= seconds * 950 - 3_000, "{key}: {left}");
        }
    }

    cached fn a_row_ends_with_its_time(world) {
        world.haus.create_missing_tables::<(Item,)>().await.unwrap();
        let items = world.haus.store_with::<Item>(|params| params.with_ttl(Duration::from_millis(200)));
        items.create(item(1, "a")).await.unwrap();
        items.get_by_id(&1i64).await.unwrap();
        world.settle().await;
        // Behind the cache's back.
        world.sql("UPDATE items SET code = 'b'").await;
        let seen = || async { items.get_by_id(&1i64).await.unwrap() == Some(item(1, "b")) };
        until("the end of the row's time", seen).await;
        assert!(world.stats().await.hits() > 0, "the row was in the cache until then");
    }

    cached fn stores_on_one_table_invalidate_each_other(world) {
        world.haus.create_missing_tables::<(Item,)>().await.unwrap();
        let one = world.haus.store_with::<Item>(|params| params.with_prefix("one"));
        let two = world.haus.store_with::<Item>(|params| params.with_prefix("two"));
        let twin = world.haus.store_with::<Item>(|params| params.with_prefix("two"));
        let stores = [one, two, twin];
        stores[0].create_many((1..=3).map(|n| item(n, &format!("start{n}"))).collect()).await.unwrap();
        for (n, writer) in stores.iter().enumerate() {
            for reader in &stores {
                assert_eq!(reader.get_many(&[1, 2, 3]).await.unwrap().iter().flatten().count(), 3);
                world.settle().await;
            }
            let code = |id: i64| format!("by{n}-{id}");
            writer.update(&1i64, item(1, &code(1))).await.unwrap();
            writer.upsert(item(2, &code(2))).await.unwrap();
            writer.update_many(vec![(3, item(3, &code(3)))]).await.unwrap();
            for reader in &stores {
                for id in 1..=3i64 {
                    assert_eq!(reader.get_by_id(&id).await.unwrap(), Some(item(id, &code(id))));
                }
            }
        }
    }

    cached fn two_models_under_one_prefix_are_refused(world) {
        world.haus.create_missing_tables::<(Item, Intruder)>().await.unwrap();
        let items = world.haus.store::<Item>();
        items.create(item(1, "a")).await.unwrap();
        items.get_by_id(&1i64).await.unwrap();
        world.settle().await;
        let intruders = world.haus.store::<Intruder>();
        let row = || Intruder { id: 1, name: "x".into() };
        let mut stream = intruders.stream();
        let errors = [
            intruders.get_by_id(&1i64).await.unwrap_err(),
            intruders.get_arc(&1i64).await.unwrap_err(),
            intruders.require(&1i64).await.unwrap_err(),
            intruders.get_many(&[1]).await.unwrap_err(),
            intruders.exists(&1i64).await.unwrap_err(),
            intruders.count().await.unwrap_err(),
            intruders.list_all().await.unwrap_err(),
            futures_util::TryStreamExt::try_next(&mut stream).await.unwrap_err(),
            intruders.create(row()).await.unwrap_err(),
            intruders.upsert(row()).await.unwrap_err(),
            intruders.update(&1i64, row()).await.unwrap_err(),
            intruders.delete(&1i64).await.unwrap_err(),
            intruders.create_many(vec![row()]).await.unwrap_err(),
            intruders.upsert_many(vec![row()]).await.unwrap_err(),
            intruders.update_many(vec![(1, row())]).await.unwrap_err(),
            intruders.delete_many(&[1]).await.unwrap_err(),
            intruders.cache_key(&1i64).unwrap_err(),
            intruders.cache_manager().unwrap_err(),
        ];
        for error in errors {
            let StorehausError::Cache(CacheError::Configuration(reason)) = &error else { panic!("{error:?}") };
            assert!(reason.contains("the store prefix items is used by a model of table items"), "{reason}");
            assert!(reason.contains("intruders") && reason.contains("give one of them a prefix of its own"), "{reason}");
        }
        assert_eq!(world.number("SELECT COUNT(*) FROM intruders").await, 0);
        assert_eq!(items.get_by_id(&1i64).await.unwrap(), Some(item(1, "a")));
    }

    /// The row of a key may come under another spelling.
    cached fn the_absence_of_a_text_is_not_learned_beside_a_row(world) {
        if world.is_sqlite() {
            return;
        }
        make_caseless_docs(&world).await;
        let docs = world.haus.store_with::<Doc>(|params| params.with_negative_ttl(30));
        docs.create(doc("a", "1")).await.unwrap();
        docs.get_many(&["a".to_owned(), "A".to_owned()]).await.unwrap();
        world.settle().await;
        assert_eq!(docs.get_by_id("A").await.unwrap(), Some(doc("a", "1")));
    }

    cached fn an_absent_row_is_remembered_until_it_is_created(world) {
        world.haus.create_missing_tables::<(Item,)>().await.unwrap();
        let items = world.haus.store_with::<Item>(|params| params.with_negative_ttl(30));
        world.statements();
        for _ in 0..3 {
            assert_eq!(items.get_by_id(&7i64).await.unwrap(), None);
            assert_eq!(items.get_many(&[8, 7]).await.unwrap(), [None, None]);
            world.settle().await;
        }
        assert_eq!(world.statements().len(), 2, "one read of 7, one of 8");

        items.create(item(7, "a")).await.unwrap();
        assert_eq!(items.get_by_id(&7i64).await.unwrap(), Some(item(7, "a")));
        items.upsert_many(vec![item(8, "b")]).await.unwrap();
        assert_eq!(items.get_by_id(&8i64).await.unwrap(), Some(item(8, "b")));
        world.settle().await;
        items.delete_many(&[7, 8]).await.unwrap();
        assert_eq!(items.get_many(&[7, 8]).await.unwrap(), [None, None]);
        world.settle().await;

        // A key the database makes, known only after the insert.
        let last = items.create(item(0, "c")).await.unwrap().id;
        for id in last + 1..last + 4 {
            assert_eq!(items.get_by_id(&id).await.unwrap(), None);
        }
        world.settle().await;
        let made = items.create_many(vec![item(0, "d"), item(0, "e"), item(0, "f")]).await.unwrap();
        for row in made {
            assert_eq!(items.get_by_id(&row.id).await.unwrap(), Some(row));
        }
    }

    cached fn an_instance_keeps_at_most_so_many_rows(world) {
        world.haus.create_missing_tables::<(Item,)>().await.unwrap();
        let haus = world.behind(world.config().unwrap().with_l1_capacity(10));
        assert!(haus.cache().unwrap().listen().await);
        let items = haus.store::<Item>();
        items.create_many((1..=100).map(|n| item(n, &n.to_string())).collect()).await.unwrap();
        for id in 1..=100i64 {
            assert_eq!(items.get_by_id(&id).await.unwrap(), Some(item(id, &id.to_string())));
        }
        let evictions = haus.cache().unwrap().get_stats().await.unwrap().total.l1_evictions;
        assert_eq!(evictions >= 90, world.tiers != Tiers::Redis, "{evictions}");
    }

    cached fn a_load_that_takes_too_long_is_a_timeout(world) {
        world.haus.create_missing_tables::<(Item,)>().await.unwrap();
        world.haus.store::<Item>().create(item(1, "a")).await.unwrap();
        let haus = world.behind(world.config().unwrap().with_load_timeout(50));
        let items = haus.store::<Item>();
        let mut held = Vec::new();
        while held.len() < 4 {
            held.push(world.haus.pool().acquire().await.unwrap());
        }
        let error = items.get_by_id(&1i64).await.unwrap_err();
        assert!(matches!(error, StorehausError::Timeout(_)), "{error}");
        assert!(error.is_transient() && error.to_string().contains("load timeout of 50ms"), "{error}");
        drop(held);
        until("a read in time", || async { items.get_by_id(&1i64).await.is_ok_and(|row| row == Some(item(1, "a"))) }).await;
    }

    every fn shutdown_waits_for_what_is_under_way(world) {
        world.haus.create_missing_tables::<(User,)>().await.unwrap();
        let users = world.haus.store::<User>();
        users.create(user("ada")).await.unwrap();
        world.haus.shutdown(PATIENCE).await.unwrap();
        let error = users.create(user("bob")).await.unwrap_err();
        assert!(matches!(error, StorehausError::Unavailable(_)), "{error}");
        assert!(error.is_unchanged());
    }
}

#[test]
fn what_is_not_allowed_is_said_before_anything_is_contacted() {
    let nowhere = "redis://127.0.0.1:1/";
    let cases = [
        (CacheConfig::new(nowhere, 60, ""), "the global prefix is empty"),
        (CacheConfig::new(nowhere, 60, "my app"), "has the character ' '"),
        (CacheConfig::new(nowhere, 60, "x".repeat(65)), "65 bytes long"),
        (CacheConfig::new(nowhere, 0, "app"), "the default TTL is 0ns"),
        (CacheConfig::new(nowhere, 60, "app").with_timeout(0), "the timeout is 0"),
        (CacheConfig::new(nowhere, 60, "app").with_load_timeout(0), "the load timeout is 0"),
        (CacheConfig::new(nowhere, 60, "app").with_read_budget(0), "the read budget is 0"),
        (CacheConfig::new(nowhere, 60, "app").with_l1(L1::Bounded(Duration::ZERO)), "the bound of L1::Bounded"),
        (CacheConfig::new("http://user:hunter2@example.org", 60, "app"), "redis"),
    ];
    for (config, reason) in cases {
        assert!(!format!("{config:?}").contains("hunter2"));
        let error = CacheManager::new(config).unwrap_err();
        let CacheError::Configuration(text) = &error else { panic!("{error:?}") };
        assert!(text.contains(reason), "{text}");
        assert!(!text.contains("hunter2"), "{text}");
    }
}
