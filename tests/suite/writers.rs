//! What becomes of a write when Redis does not take part, and when its process does not live to its end.

use storehaus::backend::Backend as _;
use storehaus::prelude::*;
use storehaus::sqlx::{AssertSqlSafe, Executor as _, Row as _, SqlSafeStr as _};

use crate::models::{Item, item};
use crate::server::Server;
use crate::world::{Tiers, World, patient, run, suite, until};

suite! {
    once fn a_refused_write_does_not_reach_the_database(world) {
        world.haus.create_missing_tables::<(Item,)>().await.unwrap();
        world.haus.store::<Item>().create(item(1, "a")).await.unwrap();
        for strict in [false, true] {
            let mut server = Server::start();
            let config = patient(&server.url(), "app").with_timeout(400);
            let haus = world.behind(match strict {
                true => config.with_coherence(Coherence::Strict),
                false => config.with_on_cache_down(OnCacheDown::Refuse),
            });
            let items = haus.store::<Item>();
            assert_eq!(items.get_by_id(&1i64).await.unwrap(), Some(item(1, "a")));
            haus.cache().unwrap().settle().await;
            server.kill();
            world.statements();
            let errors = [
                items.update(&1i64, item(1, "b")).await.map(drop),
                items.delete(&1i64).await.map(drop),
                items.create(item(2, "b")).await.map(drop),
                items.create_many(vec![item(3, "c")]).await.map(drop),
                items.upsert(item(1, "d")).await.map(drop),
                items.update_many(vec![(1, item(1, "e"))]).await.map(drop),
            ];
            for error in errors {
                let error = error.unwrap_err();
                assert!(matches!(error, StorehausError::Unavailable(_)) && error.is_unchanged(), "{error:?}");
                assert!(error.to_string().contains("nothing was changed"), "{error}");
            }
            assert_eq!(world.statements(), Vec::<String>::new());
            assert_eq!(items.list_all().await.unwrap(), [item(1, "a")]);
            let stats = haus.cache().unwrap().get_stats().await.unwrap();
            assert_eq!((stats.total.intents_refused, stats.pending_invalidations), (6, 0));

            // Back again, it is asked again.
            server.restart();
            until("a write", || async { items.update(&1i64, item(1, "a")).await.is_ok() }).await;
        }
    }

    /// The user of this Redis may mark, and may not clear.
    once fn a_strict_write_that_is_not_cleared_says_that_it_is_committed(world) {
        world.haus.create_missing_tables::<(Item,)>().await.unwrap();
        let server = Server::start();
        let mut admin = server.admin().await;
        let url = server.url().replace("redis://", "redis://app:pw@");
        for (coherence, n) in [(Coherence::Strict, 1), (Coherence::CrashSafe, 2)] {
            // One connection: further ones would be opened while it may not clear.
            let config = patient(&url, &format!("app{n}")).with_pool_size(1);
            let haus = world.behind(config.with_coherence(coherence));
            let items = haus.store::<Item>();
            // A connection is refused from the beginning where it may not clear; this one may, at first.
            admin.run::<()>(&["ACL", "SETUSER", "app", "on", ">pw", "~*", "&*", "+@all"]).await;
            assert_eq!(items.get_by_id(&n).await.unwrap(), None);
            // The lease of the read is given back by then.
            haus.cache().unwrap().settle().await;
            admin.run::<()>(&["ACL", "SETUSER", "app", "-del"]).await;
            let created = items.create(item(n, &n.to_string())).await;
            match coherence {
                Coherence::Strict => {
                    let error = created.unwrap_err();
                    assert!(matches!(error, StorehausError::NotInvalidated(_)) && !error.is_unchanged(), "{error:?}");
                    assert!(error.to_string().contains("the change is committed"), "{error}");
                }
                _ => assert_eq!(created.unwrap(), item(n, &n.to_string())),
            }
            assert_eq!(items.get_by_id(&n).await.unwrap(), Some(item(n, &n.to_string())));
            assert_eq!(haus.cache().unwrap().get_stats().await.unwrap().pending_invalidations, 1);
        }
    }

    /// The runtime of the writer ends while its statement waits for a lock, which is committed all the same: as at the
    /// death of its process, nobody clears. What others have cached is not served from then on.
    once fn a_writer_that_does_not_live_to_clear_leaves_nothing_old(world) {
        if world.is_sqlite() {
            return;
        }
        world.haus.create_missing_tables::<(Item,)>().await.unwrap();
        let server = Server::start();
        let reader = world.behind(patient(&server.url(), "app")).store::<Item>();
        reader.create(item(1, "old")).await.unwrap();
        let old = reader.require(&1i64).await.unwrap();
        reader.cache_manager().unwrap().settle().await;
        let hits = || async { reader.cache_manager().unwrap().get_stats().await.unwrap().hits };
        assert_eq!(reader.require(&1i64).await.unwrap(), old);
        assert_eq!(hits().await, 1);

        let mut lock = world.haus.pool().begin().await.unwrap();
        DB::run(&mut *lock, AssertSqlSafe("SELECT * FROM items FOR UPDATE").into_sql_str()).await.unwrap();
        let holder = world.number_on(&mut *lock, "SELECT pg_backend_pid()::bigint").await;
        // Connections of its own: one that waits here is of no use to anybody else.
        let items = world.fresh_behind(patient(&server.url(), "app")).await.store::<Item>();
        let doomed = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        doomed.spawn(async move { items.update(&1i64, item(1, "new")).await });
        let blocked = format!("SELECT count(*) FROM pg_stat_activity WHERE {holder} = ANY(pg_blocking_pids(pid))");
        let waits = || async { world.number(&blocked).await == 1 };
        until("the statement waits", waits).await;
        doomed.shutdown_background();
        lock.rollback().await.unwrap();
        until("the commit", || async { reader.list_all().await.unwrap() == [item(1, "new")] }).await;
        for _ in 0..3 {
            assert_eq!(reader.require(&1i64).await.unwrap(), item(1, "new"));
        }
    }

    /// A pool opened by URL has the server end the statement of a client that is gone.
    once fn the_statement_of_a_dead_client_is_not_committed(world) {
        if world.is_sqlite() {
            return;
        }
        world.haus.create_missing_tables::<(Item,)>().await.unwrap();
        let items = world.haus.store::<Item>();
        items.create(item(1, "old")).await.unwrap();
        let schema = world.name.replace('-', "_");
        let mut lock = world.haus.pool().begin().await.unwrap();
        DB::run(&mut *lock, AssertSqlSafe("SELECT * FROM items FOR UPDATE").into_sql_str()).await.unwrap();

        let doomed = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let name = format!("doomed-{schema}");
        let url = std::env::var("DATABASE_URL").unwrap();
        let url = format!("{url}{}application_name={name}", if url.contains('?') { '&' } else { '?' });
        doomed.spawn(async move {
            let haus = StoreHaus::<Postgres>::open(&url).await.unwrap();
            let text = AssertSqlSafe(format!("UPDATE {schema}.items SET code = 'late'"));
            haus.pool().execute(text).await.unwrap();
        });
        let backends = |state: &str| {
            format!("SELECT count(*) FROM pg_stat_activity WHERE application_name = '{name}'{state}")
        };
        until("the statement waits", || async { world.number(&backends(" AND wait_event_type = 'Lock'")).await == 1 }).await;
        doomed.shutdown_background();
        until("its end", || async { world.number(&backends("")).await == 0 }).await;
        lock.rollback().await.unwrap();
        assert_eq!(items.list_all().await.unwrap(), [item(1, "old")]);

        // What was chosen stays.
        for (options, expected) in [("", "1s"), ("options=-c%20client_connection_check_interval=7s", "7s")] {
            let url = std::env::var("DATABASE_URL").unwrap();
            let url = format!("{url}{}{options}", if url.contains('?') { '&' } else { '?' });
            let haus = StoreHaus::<Postgres>::open(&url).await.unwrap();
            let row = haus.pool().fetch_one("SHOW client_connection_check_interval").await.unwrap();
            assert_eq!(row.get::<String, _>(0), expected);
        }
    }
}

/// The rows of a batch are announced while it begins. When it cannot, the announcement is taken back, and nobody else is
/// kept from the cache by something that might still have to be removed.
#[test]
fn a_batch_that_cannot_begin_owes_nothing() {
    run(Tiers::None, |world: World<Sqlite>| async move {
        world.haus.create_missing_tables::<(Item,)>().await.unwrap();
        let server = Server::start();
        let options = (*world.haus.pool().connect_options()).clone().busy_timeout(Duration::ZERO);
        let haus = StoreHaus::builder()
            .database(storehaus::sqlx::Pool::<Sqlite>::connect_with(options).await.unwrap())
            .cache(patient(&server.url(), "app"))
            .build()
            .await
            .unwrap();
        let items = haus.store::<Item>();
        items.create(item(1, "a")).await.unwrap();
        let lock = world.haus.pool().begin_with("BEGIN IMMEDIATE").await.unwrap();
        let error = items.update_many(vec![(1, item(1, "b"))]).await.unwrap_err();
        assert!(matches!(error, StorehausError::Timeout(_)) && error.is_unchanged(), "{error:?}");
        lock.rollback().await.unwrap();
        haus.cache().unwrap().settle().await;
        let stats = haus.cache().unwrap().get_stats().await.unwrap();
        assert_eq!((stats.breaker_opened, stats.pending_invalidations, stats.total.intents_placed), (0, 0, 2));
        let explained = items.cache().explain(&1i64).await.unwrap();
        assert!(format!("{explained:?}").contains("state: Nothing"), "{explained:?}");
        items.update_many(vec![(1, item(1, "b"))]).await.unwrap();
    });
}
