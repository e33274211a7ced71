//! Redis away, restarted, silent. Reads and writes of stores go on; no read is older than an acknowledged write.

use storehaus::prelude::*;
use tokio::time::Instant;

use crate::models::{Item, item};
use crate::server::Server;
use crate::world::{PATIENCE, patient, suite, until};

/// Where nobody listens.
const NOWHERE: &str = "redis://127.0.0.1:1/";

suite! {
    once fn redis_was_never_there(world) {
        world.haus.create_missing_tables::<(Item,)>().await.unwrap();
        let haus = world.behind(CacheConfig::new(NOWHERE, 60, "app").with_timeout(100).with_retry_attempts(1));
        let items = haus.store::<Item>();
        assert_eq!(items.create(item(1, "a")).await.unwrap(), item(1, "a"));
        assert_eq!(items.create_many(vec![item(2, "b"), item(3, "c")]).await.unwrap().len(), 2);
        for n in 0..20 {
            assert_eq!(items.get_by_id(&1i64).await.unwrap(), Some(item(1, &if n == 0 { "a".to_owned() } else { format!("a{n}") })));
            items.update(&1i64, item(1, &format!("a{}", n + 1))).await.unwrap();
        }
        assert_eq!(items.get_many(&[3, 2, 9]).await.unwrap(), [Some(item(3, "c")), Some(item(2, "b")), None]);
        items.upsert(item(2, "x")).await.unwrap();
        items.update_many(vec![(3, item(3, "y"))]).await.unwrap();
        assert_eq!(items.get_many(&[2, 3]).await.unwrap(), [Some(item(2, "x")), Some(item(3, "y"))]);
        assert!(items.delete(&1i64).await.unwrap());
        assert_eq!(items.delete_many(&[2, 3]).await.unwrap(), 2);
        assert_eq!(items.get_by_id(&1i64).await.unwrap(), None);

        let manager = haus.cache().unwrap();
        let stats = manager.get_stats().await.unwrap();
        assert!(stats.connection_errors > 0 && stats.pending_invalidations > 0, "{stats}");
        assert_eq!((stats.hits, stats.breaker_opened), (0, 1), "{stats}");
        let errors = [
            manager.health_check().await.map(drop),
            manager.set_record("items", "1", &item(1, "a"), 60).await.map(drop),
            manager.get_record::<Item>("items", "1").await.map(drop),
            manager.delete_record("items", "1").await.map(drop),
            manager.delete_pattern("items:*").await.map(drop),
            manager.exists("items", "1").await.map(drop),
        ];
        for error in errors {
            let error = error.unwrap_err();
            assert!(matches!(error, CacheError::ConnectionError(_) | CacheError::Timeout(_)), "{error:?}");
            assert!(error.is_transient());
        }
    }

    once fn a_restart_of_redis_does_not_end_caching(world) {
        world.haus.create_missing_tables::<(Item,)>().await.unwrap();
        let mut server = Server::start();
        let haus = world.behind(patient(&server.url(), "app").with_timeout(200));
        let (items, manager) = (haus.store::<Item>(), haus.cache().unwrap().clone());
        items.create(item(1, "a")).await.unwrap();
        for round in 0..3 {
            let hits = manager.get_stats().await.unwrap().hits;
            let served = || async {
                assert!(items.get_by_id(&1i64).await.unwrap().is_some());
                manager.settle().await;
                manager.get_stats().await.unwrap().hits > hits
            };
            until("a hit", served).await;
            server.kill();
            assert!(items.get_by_id(&1i64).await.unwrap().is_some());
            let changed = item(1, &format!("round {round}"));
            items.update(&1i64, changed.clone()).await.unwrap();
            assert_eq!(items.get_by_id(&1i64).await.unwrap(), Some(changed.clone()));
            server.restart();
            assert_eq!(items.get_by_id(&1i64).await.unwrap(), Some(changed));
        }
        until("health", || async { manager.health_check().await.is_ok_and(|health| !health.bypassed) }).await;
        assert_eq!(manager.get_stats().await.unwrap().pending_invalidations, 0);
    }

    /// The write is acknowledged although its invalidation cannot be delivered; what stands in Redis then is not served
    /// by this instance, and removed before Redis is used again.
    once fn an_invalidation_that_cannot_be_delivered_is_not_lost(world) {
        world.haus.create_missing_tables::<(Item,)>().await.unwrap();
        let server = Server::start();
        let haus = world.behind(patient(&server.url(), "app").with_timeout(150).with_retry_attempts(1));
        let (items, manager) = (haus.store::<Item>(), haus.cache().unwrap().clone());
        items.create_many(vec![item(1, "a"), item(2, "b")]).await.unwrap();
        // With so short a timeout a busy machine may have to try more than once.
        let served = || async {
            items.get_many(&[1, 2]).await.unwrap();
            manager.settle().await;
            manager.get_stats().await.unwrap().hits >= 2
        };
        until("two hits", served).await;

        server.signal("-STOP");
        items.update(&1i64, item(1, "new")).await.unwrap();
        assert!(items.delete(&2i64).await.unwrap());
        let stats = manager.get_stats().await.unwrap();
        assert_eq!(stats.pending_invalidations, 2, "{stats}");
        assert_eq!(items.get_by_id(&1i64).await.unwrap(), Some(item(1, "new")));
        let error = manager.get_record::<Item>("items", "1").await.unwrap_err();
        assert!(error.is_transient(), "{error}");

        server.signal("-CONT");
        let delivered = || async {
            // Never the old row, at whatever moment.
            assert_eq!(items.get_by_id(&1i64).await.unwrap(), Some(item(1, "new")));
            assert_eq!(items.get_by_id(&2i64).await.unwrap(), None);
            manager.get_stats().await.unwrap().pending_invalidations == 0
        };
        until("delivery", delivered).await;
        let neighbour = world.behind(patient(&server.url(), "app"));
        assert_eq!(neighbour.store::<Item>().get_many(&[1, 2]).await.unwrap(), [Some(item(1, "new")), None]);
    }

    once fn a_silent_redis_delays_nobody_for_long(world) {
        world.haus.create_missing_tables::<(Item,)>().await.unwrap();
        let server = Server::start();
        let haus = world.behind(CacheConfig::new(server.url(), 60, "app").with_timeout(200));
        let items = haus.store::<Item>();
        items.create(item(1, "a")).await.unwrap();
        items.get_by_id(&1i64).await.unwrap();
        haus.cache().unwrap().settle().await;
        server.signal("-STOP");
        let start = Instant::now();
        for _ in 0..200 {
            assert_eq!(items.get_by_id(&1i64).await.unwrap(), Some(item(1, "a")));
        }
        let took = start.elapsed();
        // One read waits for its budget of 40 ms, the others for nothing: 200 waits would be 8 s.
        assert!(took < Duration::from_secs(4), "{took:?}");
        assert!(haus.cache().unwrap().get_stats().await.unwrap().total.bypassed > 100);
        server.signal("-CONT");
    }

    once fn each_option_of_the_connection_does_what_it_says(world) {
        world.haus.create_missing_tables::<(Item,)>().await.unwrap();
        world.haus.store::<Item>().create(item(1, "a")).await.unwrap();
        let server = Server::start();
        let mut admin = server.admin().await;
        admin.run::<i64>(&["CLIENT", "ID"]).await;
        for size in [1usize, 3] {
            let haus = world.behind(patient(&server.url(), "app").with_pool_size(size));
            let items = haus.store::<Item>();
            let all_open = || async {
                let reads = (0..50).map(|_| items.get_by_id(&1i64));
                futures_util::future::join_all(reads).await.into_iter().for_each(|row| assert!(row.unwrap().is_some()));
                let mut admin = server.admin().await;
                let list: String = admin.run(&["CLIENT", "LIST", "TYPE", "normal"]).await;
                let open = list.lines().filter(|line| !line.contains("cmd=client")).count();
                assert!(open <= size, "{open} connections of {size}");
                open == size
            };
            until("as many connections as asked for", all_open).await;
            haus.cache().unwrap().settle().await;
            admin.run::<i64>(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]).await;
        }

        // A call of the manual API is tried that often, and each attempt lasts that long.
        server.signal("-STOP");
        let config = patient(&server.url(), "app").with_timeout(60).with_retry_attempts(4).with_retry_delay(1);
        let manager = CacheManager::new(config).unwrap();
        let start = Instant::now();
        let error = manager.delete_record("items", "1").await.unwrap_err();
        let took = start.elapsed();
        assert!(matches!(error, CacheError::Timeout(_) | CacheError::ConnectionError(_)), "{error:?}");
        assert!(took >= Duration::from_millis(4 * 60) && took < PATIENCE, "{took:?}");
        let stats = manager.get_stats().await.unwrap();
        assert_eq!((stats.retries, stats.connection_errors), (3, 4), "{stats}");
        server.signal("-CONT");
    }
}
