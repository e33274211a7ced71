//! The manual cache API, statistics, health.

use storehaus::prelude::*;
use storehaus::{Failure, StoreStats};

use crate::models::{Doc, Item, doc, item};
use crate::world::{PATIENCE, Tiers, suite};

suite! {
    cached fn a_record_set_by_hand_is_what_the_store_reads(world) {
        world.haus.create_missing_tables::<(Item, Doc)>().await.unwrap();
        let (items, docs, manager) = (world.haus.store::<Item>(), world.haus.store::<Doc>(), world.manager());
        items.create(item(1, "a")).await.unwrap();
        world.statements();
        assert!(manager.set_record("items", "1", &item(1, "by hand"), 60).await.unwrap());
        assert_eq!(items.get_by_id(&1i64).await.unwrap(), Some(item(1, "by hand")));
        assert_eq!(manager.get_record::<Item>("items", "1").await.unwrap(), Some(item(1, "by hand")));
        assert!(manager.set_record("docs", "a:b *", &doc("a:b *", "by hand"), Duration::from_secs(60)).await.unwrap());
        assert_eq!(docs.get_by_id("a:b *").await.unwrap(), Some(doc("a:b *", "by hand")));
        assert_eq!(world.statements(), Vec::<String>::new());

        // A write is the last word, whoever put the entry there.
        items.update(&1i64, item(1, "b")).await.unwrap();
        assert_eq!(items.get_by_id(&1i64).await.unwrap(), Some(item(1, "b")));
        world.settle().await;
        assert_eq!(manager.get_record::<Item>("items", "1").await.unwrap(), Some(item(1, "b")));
        // Over a value that is there.
        assert!(manager.set_record("items", "1", &item(1, "again"), 60).await.unwrap());
        assert_eq!(items.get_by_id(&1i64).await.unwrap(), Some(item(1, "again")));
        assert!(manager.delete_record("items", "1").await.unwrap());
        assert!(!manager.delete_record("items", "1").await.unwrap());
        assert_eq!(items.get_by_id(&1i64).await.unwrap(), Some(item(1, "b")));
    }

    cached fn values_of_any_type_under_any_id(world) {
        let manager = world.manager();
        assert_eq!(manager.get_record::<String>("notes", "x").await.unwrap(), None);
        assert!(!manager.exists("notes", "x").await.unwrap());
        assert_eq!(manager.ttl("notes", "x").await.unwrap(), None);
        for id in ["x", "", "a:b", "*", "🦀"] {
            assert!(manager.set_record("notes", id, &format!("value of {id}"), 30).await.unwrap());
        }
        for id in ["x", "", "a:b", "*", "🦀"] {
            assert_eq!(manager.get_record::<String>("notes", id).await.unwrap(), Some(format!("value of {id}")));
            assert!(manager.exists("notes", id).await.unwrap());
            let left = manager.ttl("notes", id).await.unwrap().unwrap();
            assert!(left <= Duration::from_secs(30) && left > Duration::from_secs(10), "{left:?}");
        }
        assert!(manager.set_record("notes", "x", &Json(vec![Some(1.5), None]), 30).await.unwrap());
        assert_eq!(manager.get_record::<Json<Vec<Option<f64>>>>("notes", "x").await.unwrap().unwrap().0, [Some(1.5), None]);
        let error = manager.get_record::<String>("notes", "x").await.unwrap_err();
        let CacheError::SerializationError(Failure { operation, store, .. }) = &error else { panic!("{error:?}") };
        assert_eq!((*operation, store.as_str()), ("get_record", "notes"));
        assert_eq!(error.to_string(), "cache get_record on notes failed: the entry is of another type");

        let error = manager.set_record("notes", "x", &"🦀".repeat(1 << 18), 30).await.unwrap_err();
        assert!(matches!(error, CacheError::TooLarge(_)), "{error}");
        for error in [
            manager.set_record("no tes", "x", &1i64, 30).await.unwrap_err(),
            manager.set_record("notes", "x", &1i64, 0).await.unwrap_err(),
            manager.delete_pattern("").await.unwrap_err(),
            manager.invalidate_queries("").await.unwrap_err(),
        ] {
            assert!(matches!(error, CacheError::Configuration(_)), "{error}");
        }
    }

    cached fn a_pattern_stays_inside_its_store_and_prefix(world) {
        let manager = world.manager();
        let stranger = world.behind(CacheConfig::in_process(60, "x")).cache().unwrap().clone();
        let all = || async {
            let mut left = Vec::new();
            for (store, id) in [("sessions", "42:a"), ("sessions", "42:b"), ("sessions", "420:a"), ("session", "42:c"), ("notes", "42:a")] {
                if manager.exists(store, id).await.unwrap() {
                    left.push(format!("{store}/{id}"));
                }
            }
            left
        };
        for (store, id) in [("sessions", "42:a"), ("sessions", "42:b"), ("sessions", "420:a"), ("session", "42:c"), ("notes", "42:a")] {
            manager.set_record(store, id, &1i64, 60).await.unwrap();
            stranger.set_record(store, id, &1i64, 60).await.unwrap();
        }
        assert_eq!(manager.delete_pattern("sessions:42:*").await.unwrap(), 2);
        assert_eq!(all().await, ["sessions/420:a", "session/42:c", "notes/42:a"]);
        // A star in an id is not a wildcard of the pattern, and a question mark never is.
        assert_eq!(manager.delete_pattern("notes:4?:a").await.unwrap(), 0);
        assert_eq!(manager.invalidate_queries("sessions").await.unwrap(), 1);
        assert_eq!(all().await, ["session/42:c", "notes/42:a"]);
        assert_eq!(manager.delete_pattern("*").await.unwrap(), 2);
        assert_eq!(all().await, Vec::<String>::new());
        assert!(stranger.exists("sessions", "42:a").await.unwrap());
    }

    cached fn a_pattern_removes_what_stores_cached(world) {
        world.haus.create_missing_tables::<(Item, Doc)>().await.unwrap();
        let (items, docs) = (world.haus.store::<Item>(), world.haus.store::<Doc>());
        items.create(item(1, "a")).await.unwrap();
        docs.create_many(vec![doc("a:1", "x"), doc("b:1", "y")]).await.unwrap();
        items.get_by_id(&1i64).await.unwrap();
        docs.get_many(&["a:1".to_owned(), "b:1".to_owned()]).await.unwrap();
        world.settle().await;
        world.sql("UPDATE items SET code = 'changed'; UPDATE docs SET body = 'changed'").await;
        assert_eq!(world.manager().delete_pattern("docs:a:*").await.unwrap(), 1);
        assert_eq!(docs.get_by_id("a:1").await.unwrap(), Some(doc("a:1", "changed")));
        assert_eq!(docs.get_by_id("b:1").await.unwrap(), Some(doc("b:1", "y")));
        assert_eq!(world.manager().invalidate_queries("items").await.unwrap(), 1);
        assert_eq!(items.get_by_id(&1i64).await.unwrap(), Some(item(1, "changed")));
        // Without an entry under it, too, the next read asks the database.
        assert_eq!(world.manager().invalidate_queries("docs").await.unwrap(), 2);
        assert_eq!(docs.get_by_id("b:1").await.unwrap(), Some(doc("b:1", "changed")));
    }

    cached fn the_statistics_are_exact(world) {
        world.haus.create_missing_tables::<(Item, Doc)>().await.unwrap();
        let (items, docs) = (world.haus.store::<Item>(), world.haus.store::<Doc>());
        items.create_many((1..=10).map(|n| item(n, &n.to_string())).collect()).await.unwrap();
        docs.create(doc("a", "x")).await.unwrap();
        for id in 1..=4i64 {
            items.get_by_id(&id).await.unwrap();
            world.settle().await;
            items.get_by_id(&id).await.unwrap();
        }
        items.get_many(&[1, 2, 5, 6, 7, 99]).await.unwrap();
        world.settle().await;
        items.update(&1i64, item(1, "x")).await.unwrap();
        items.delete_many(&[2, 3]).await.unwrap();
        docs.get_by_id("a").await.unwrap();
        world.settle().await;

        let stats = world.manager().get_stats().await.unwrap();
        assert_eq!((stats.connection_errors, stats.retries, stats.pending_invalidations), (0, 0, 0), "{stats}");
        let names: Vec<&str> = stats.stores.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["docs", "items"]);
        let mut expected = StoreStats::default();
        (expected.misses, expected.loads, expected.fills) = (8, 8, 7);
        (expected.l1_hits, expected.l2_hits) = if world.tiers == Tiers::Redis { (0, 6) } else { (6, 0) };
        expected.invalidations = 10 + 1 + 2;
        expected.intents_placed = if world.has_redis() { expected.invalidations } else { 0 };
        assert_eq!(stats.stores[1].1, expected);
        assert_eq!((stats.stores[0].1.misses, stats.stores[0].1.fills, stats.stores[0].1.invalidations), (1, 1, 1));
        assert_eq!((stats.hits, stats.misses, stats.total.loads), (6, 9, 9));
        assert_eq!(stats.hit_rate(), 0.4);
        assert!(stats.to_string().contains("hit rate 40.00 %"), "{stats}");
    }

    cached fn the_health_check_says_whether_redis_answers(world) {
        let health = world.manager().health_check().await.unwrap();
        assert_eq!((health.redis, health.bypassed), (world.has_redis(), false));
        assert!(health.response_time < PATIENCE);
    }
}

/// A hit by whichever way it came counts once, and rates are hits per read.
#[tokio::test]
async fn a_manager_that_served_nothing_has_rate_zero() {
    let manager = CacheManager::new(CacheConfig::in_process(Ttl::SHORT, "app")).unwrap();
    let stats = manager.get_stats().await.unwrap();
    assert_eq!((stats.hits, stats.misses, stats.hit_rate()), (0, 0, 0.0));
    assert_eq!(stats, CacheStats::default());
}
