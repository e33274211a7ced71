//! Reads of whole tables, and of what is absent.

use futures_util::TryStreamExt as _;
use storehaus::prelude::*;

use crate::models::{Grade, Item, User, grade, item, user};
use crate::world::suite;

suite! {
    every fn whole_tables_are_read_in_key_order(world) {
        world.haus.create_missing_tables::<(Item, Grade)>().await.unwrap();
        let items = world.haus.store::<Item>();
        assert_eq!(items.list_all().await.unwrap(), []);
        assert_eq!(items.count().await.unwrap(), 0);
        items.create_many(vec![item(3, "c"), item(-1, "z"), item(2, "b")]).await.unwrap();
        let expected = [item(-1, "z"), item(2, "b"), item(3, "c")];
        assert_eq!(items.list_all().await.unwrap(), expected);
        assert_eq!(items.stream().try_collect::<Vec<_>>().await.unwrap(), expected);
        assert_eq!(items.count().await.unwrap(), 3);

        // A stream that is dropped gives its connection back.
        for _ in 0..10 {
            assert_eq!(items.stream().try_next().await.unwrap(), Some(item(-1, "z")));
        }

        let grades = world.haus.store::<Grade>();
        grades.create_many(vec![grade(2, "a", 1), grade(1, "b", 2), grade(1, "a", 3)]).await.unwrap();
        assert_eq!(grades.list_all().await.unwrap(), [grade(1, "a", 3), grade(1, "b", 2), grade(2, "a", 1)]);
    }

    every fn existence_is_asked_of_the_database(world) {
        world.haus.create_missing_tables::<(Item,)>().await.unwrap();
        let items = world.haus.store::<Item>();
        items.create(item(1, "a")).await.unwrap();
        items.get_by_id(&1i64).await.unwrap();
        world.settle().await;
        assert!(items.exists(&1i64).await.unwrap());
        assert!(!items.exists(&2i64).await.unwrap());
        world.sql("DELETE FROM items").await;
        assert!(!items.exists(&1i64).await.unwrap());
        assert_eq!(items.count().await.unwrap(), 0);
    }

    every fn a_shared_row_is_the_same_row(world) {
        world.haus.create_missing_tables::<(User,)>().await.unwrap();
        let users = world.haus.store::<User>();
        let ada = users.create(user("ada")).await.unwrap();
        let first = users.get_arc(&ada.id).await.unwrap().unwrap();
        world.settle().await;
        let second = users.get_arc(&ada.id).await.unwrap().unwrap();
        assert_eq!((&*first, &*second), (&ada, &ada));
        let in_process = matches!(world.tiers, crate::world::Tiers::InProcess | crate::world::Tiers::Both);
        assert_eq!(Arc::ptr_eq(&first, &second), in_process);
        assert_eq!(users.require(&ada.id).await.unwrap(), ada);
        assert!(users.get_arc(&Uuid::max()).await.unwrap().is_none());
    }

    every fn an_absent_row_is_seen_as_soon_as_it_exists(world) {
        world.haus.create_missing_tables::<(Item,)>().await.unwrap();
        let items = world.haus.store::<Item>();
        for _ in 0..2 {
            assert_eq!(items.get_by_id(&7i64).await.unwrap(), None);
            world.settle().await;
        }
        items.create(item(7, "a")).await.unwrap();
        assert_eq!(items.get_by_id(&7i64).await.unwrap(), Some(item(7, "a")));
        if world.is_cached() {
            // What is absent is not remembered unless that is asked for.
            assert_eq!(world.stats().await.loads, 3);
        }
    }

    /// A thousand tasks read and write twenty rows; each reads at least what was acknowledged before it began.
    every fn readers_see_every_acknowledged_write(world) {
        world.haus.create_missing_tables::<(Item,)>().await.unwrap();
        let items = world.haus.store::<Item>();
        items.create_many((1..=20).map(|n| item(n, &n.to_string())).collect()).await.unwrap();
        let acknowledged: Arc<Vec<std::sync::atomic::AtomicI32>> = Arc::new((0..=20).map(|_| 1.into()).collect());
        let mut tasks = tokio::task::JoinSet::new();
        for id in 1..=20i64 {
            let (items, acknowledged) = (items.clone(), Arc::clone(&acknowledged));
            tasks.spawn(async move {
                for stock in 2..=10 {
                    items.update(&id, Item { stock, ..item(id, &id.to_string()) }).await.unwrap();
                    acknowledged[id as usize].store(stock, std::sync::atomic::Ordering::SeqCst);
                }
            });
        }
        for n in 0..980i64 {
            let (items, acknowledged) = (items.clone(), Arc::clone(&acknowledged));
            tasks.spawn(async move {
                let id = n % 20 + 1;
                let least = acknowledged[id as usize].load(std::sync::atomic::Ordering::SeqCst);
                let seen = items.get_by_id(&id).await.unwrap().unwrap().stock;
                assert!(seen >= least, "read {seen} after {least} was acknowledged");
            });
        }
        while let Some(done) = tasks.join_next().await {
            done.unwrap();
        }
        for id in 1..=20i64 {
            assert_eq!(items.get_by_id(&id).await.unwrap().unwrap().stock, 10);
        }
    }
}
