//! Many rows at a time.

use storehaus::prelude::*;

use crate::models::{Grade, Item, User, grade, item, user};
use crate::world::suite;

suite! {
    every fn many_rows_are_created_in_the_order_given(world) {
        world.haus.create_missing_tables::<(User, Item, Grade)>().await.unwrap();
        let users = world.haus.store::<User>();
        let names = ["zoe", "ada", "mia", "bob"];
        let made = users.create_many(names.map(user).to_vec()).await.unwrap();
        assert_eq!(made.iter().map(|user| user.name.as_str()).collect::<Vec<_>>(), names);
        assert!(made.windows(2).all(|pair| pair[0].id < pair[1].id), "UUIDv7 keys ascend");
        let ids: Vec<Uuid> = made.iter().map(|user| user.id).collect();
        for _ in 0..2 {
            assert_eq!(users.get_many(&ids).await.unwrap(), made.iter().cloned().map(Some).collect::<Vec<_>>());
            world.settle().await;
        }

        // Keys of the caller's and of the database's making side by side.
        let items = world.haus.store::<Item>();
        let rows = vec![item(0, "a"), item(1000, "b"), item(0, "c"), item(-5, "d"), item(0, "e")];
        let made = items.create_many(rows).await.unwrap();
        assert_eq!(made.iter().map(|item| item.code.as_str()).collect::<Vec<_>>(), ["a", "b", "c", "d", "e"]);
        assert_eq!((made[1].id, made[3].id), (1000, -5));
        assert!(made[0].id != 0 && made[0].id < made[2].id && made[2].id < made[4].id, "{made:?}");
        for row in &made {
            assert_eq!(items.get_by_id(&row.id).await.unwrap().as_ref(), Some(row));
        }

        let grades = world.haus.store::<Grade>();
        let rows = vec![grade(2, "b", 1), grade(1, "b", 2), grade(2, "a", 3)];
        assert_eq!(grades.create_many(rows.clone()).await.unwrap(), rows);
        let keys: Vec<_> = rows.iter().map(|row| (row.student, row.course.clone())).collect();
        assert_eq!(grades.get_many(&keys).await.unwrap(), rows.into_iter().map(Some).collect::<Vec<_>>());
    }

    every fn many_rows_are_read_in_order_with_repetitions_and_gaps(world) {
        world.haus.create_missing_tables::<(Item,)>().await.unwrap();
        let items = world.haus.store::<Item>();
        items.create_many(vec![item(1, "a"), item(2, "b"), item(3, "c")]).await.unwrap();
        let wanted = vec![Some(item(3, "c")), None, Some(item(1, "a")), Some(item(3, "c")), None, Some(item(2, "b"))];
        items.get_by_id(&2i64).await.unwrap();
        world.settle().await;
        for _ in 0..3 {
            assert_eq!(items.get_many(&[3, 9, 1, 3, 9, 2]).await.unwrap(), wanted);
            world.settle().await;
        }
        assert_eq!(items.get_many(&[]).await.unwrap(), []);
        if world.is_cached() {
            // The three rows, and the absent one each time.
            assert_eq!(world.stats().await.loads, 3 + 3);
        }
    }

    every fn a_batch_of_nothing_sends_nothing(world) {
        world.haus.create_missing_tables::<(Item,)>().await.unwrap();
        let items = world.haus.store::<Item>();
        world.statements();
        assert_eq!(items.create_many(Vec::new()).await.unwrap(), []);
        assert_eq!(items.upsert_many(Vec::new()).await.unwrap(), []);
        assert_eq!(items.update_many(Vec::new()).await.unwrap(), []);
        assert_eq!(items.delete_many(&[]).await.unwrap(), 0);
        assert_eq!(items.get_many(&[]).await.unwrap(), []);
        assert_eq!(world.statements(), Vec::<String>::new());
    }

    every fn a_failed_batch_changes_nothing_and_names_the_row(world) {
        world.haus.create_missing_tables::<(Item,)>().await.unwrap();
        let items = world.haus.store::<Item>();
        items.create_many(vec![item(9001, "a"), item(9002, "b")]).await.unwrap();
        let constraint = if world.is_sqlite() { "items.code" } else { "items_code_key" };

        for at in [0usize, 3, 6] {
            for auto in [true, false] {
                let rows = (0..7).map(|n| item(if auto { 0 } else { 9100 + n }, &format!("new{n}")));
                let mut rows: Vec<Item> = rows.collect();
                rows[at].code = "a".into();
                let error = items.create_many(rows.clone()).await.unwrap_err();
                assert!(matches!(error, StorehausError::Conflict(_)), "{error}");
                // Looking for the row would draw further keys from a sequence of Postgres.
                let named = (world.is_sqlite() || !auto).then_some(at);
                assert_eq!((error.row(), error.constraint()), (named, Some(constraint)), "{error}");
                assert_eq!(error.to_string().contains(&format!("row {at} of the batch")), named.is_some(), "{error}");
                if !auto {
                    let error = items.upsert_many(rows).await.unwrap_err();
                    assert_eq!((error.row(), error.constraint()), (Some(at), Some(constraint)), "{error}");
                }
            }
        }
        // Against each other: the second of them is the one too many.
        let mixed = vec![item(0, "x"), item(9050, "y"), item(0, "y"), item(9051, "z")];
        let error = items.create_many(mixed).await.unwrap_err();
        assert_eq!(error.row(), world.is_sqlite().then_some(2), "{error}");

        items.get_many(&[9001, 9002]).await.unwrap();
        world.settle().await;
        let rows = vec![(9001, item(9001, "c")), (9002, item(9002, "c"))];
        let error = items.update_many(rows).await.unwrap_err();
        assert!(matches!(error, StorehausError::Conflict(_)), "{error}");
        assert_eq!(error.row(), Some(1), "{error}");
        let error = items.update_many(vec![(9001, item(9001, "d")), (9, item(9, "e")), (8, item(8, "f"))]).await.unwrap_err();
        assert!(matches!(error, StorehausError::NotFound(_)), "{error}");
        assert_eq!(error.row(), Some(1), "{error}");
        assert_eq!(items.list_all().await.unwrap(), [item(9001, "a"), item(9002, "b")]);
        assert_eq!(items.get_many(&[9001, 9002]).await.unwrap(), [Some(item(9001, "a")), Some(item(9002, "b"))]);
    }

    every fn a_key_that_stands_twice_is_refused(world) {
        world.haus.create_missing_tables::<(Item,)>().await.unwrap();
        let items = world.haus.store::<Item>();
        items.create(item(1, "a")).await.unwrap();
        let error = items.update_many(vec![(1, item(1, "x")), (1, item(1, "y"))]).await.unwrap_err();
        assert!(matches!(error, StorehausError::InvalidInput(_)), "{error}");
        assert_eq!(error.row(), Some(1));
        assert!(error.to_string().contains("the key of row 0 stands here again"), "{error}");
        let error = items.upsert_many(vec![item(2, "x"), item(3, "y"), item(2, "z")]).await.unwrap_err();
        assert!(matches!(error, StorehausError::InvalidInput(_)), "{error}");
        assert_eq!(error.row(), Some(2));
        let error = items.create_many(vec![item(2, "x"), item(2, "y")]).await.unwrap_err();
        assert!(matches!(error, StorehausError::Conflict(_)), "{error}");
        assert_eq!(error.row(), Some(1));
        assert_eq!(items.list_all().await.unwrap(), [item(1, "a")]);
        // Deleted once, however often it is named.
        assert_eq!(items.delete_many(&[1, 1, 7]).await.unwrap(), 1);
    }

    every fn an_id_that_is_not_the_key_of_its_row_is_refused(world) {
        world.haus.create_missing_tables::<(Item,)>().await.unwrap();
        let items = world.haus.store::<Item>();
        items.create_many(vec![item(1, "a"), item(2, "b"), item(3, "c")]).await.unwrap();
        let rows = vec![(1, item(1, "x")), (2, item(3, "y"))];
        let error = items.update_many(rows).await.unwrap_err();
        assert!(matches!(error, StorehausError::KeyMismatch(_)), "{error}");
        assert_eq!((error.row(), error.is_unchanged()), (Some(1), true));
        assert_eq!(items.list_all().await.unwrap(), [item(1, "a"), item(2, "b"), item(3, "c")]);
    }

    every fn changed_and_deleted_batches_are_seen_at_once(world) {
        world.haus.create_missing_tables::<(Item, Grade)>().await.unwrap();
        let items = world.haus.store::<Item>();
        let rows: Vec<Item> = (1..=20).map(|n| item(n, &format!("code{n}"))).collect();
        items.create_many(rows.clone()).await.unwrap();
        let ids: Vec<i64> = (1..=20).collect();
        items.get_many(&ids).await.unwrap();
        world.settle().await;

        // In an order of its own, with values swapped under a unique constraint where the database checks at the end.
        let changed: Vec<(i64, Item)> = ids.iter().rev().map(|id| (*id, Item { stock: 9, ..item(*id, &format!("new{id}")) })).collect();
        let expected: Vec<Item> = changed.iter().map(|(_, row)| row.clone()).collect();
        assert_eq!(items.update_many(changed).await.unwrap(), expected);
        for row in &expected {
            assert_eq!(items.get_by_id(&row.id).await.unwrap().as_ref(), Some(row));
        }
        world.settle().await;

        let upserted: Vec<Item> = (11..=25).map(|n| item(n, &format!("up{n}"))).collect();
        assert_eq!(items.upsert_many(upserted.clone()).await.unwrap(), upserted);
        let ids: Vec<i64> = (11..=25).collect();
        assert_eq!(items.get_many(&ids).await.unwrap(), upserted.into_iter().map(Some).collect::<Vec<_>>());
        world.settle().await;

        assert_eq!(items.delete_many(&ids).await.unwrap(), 15);
        assert!(items.get_many(&ids).await.unwrap().iter().all(Option::is_none));
        assert_eq!(items.count().await.unwrap(), 10);

        let grades = world.haus.store::<Grade>();
        grades.create_many(vec![grade(1, "a", 1), grade(1, "b", 2)]).await.unwrap();
        let keys = [(1, "a".to_owned()), (1, "b".to_owned()), (2, "a".to_owned())];
        grades.get_many(&keys).await.unwrap();
        world.settle().await;
        let rows = vec![(keys[1].clone(), grade(1, "b", 5)), (keys[0].clone(), grade(1, "a", 4))];
        assert_eq!(grades.update_many(rows).await.unwrap(), [grade(1, "b", 5), grade(1, "a", 4)]);
        assert_eq!(grades.get_many(&keys).await.unwrap(), [Some(grade(1, "a", 4)), Some(grade(1, "b", 5)), None]);
        world.settle().await;
        assert_eq!(grades.delete_many(&keys).await.unwrap(), 2);
        assert_eq!(grades.get_many(&keys).await.unwrap(), [None, None, None]);
    }

    /// SQLite takes 32,766 parameters in a statement: a batch beyond that is several statements, and still one change.
    once fn a_batch_beyond_the_parameter_limit_is_one_change(world) {
        world.haus.create_missing_tables::<(Item,)>().await.unwrap();
        let items = world.haus.store::<Item>();
        let count = 17_000;
        let rows: Vec<Item> = (1..=count).map(|n| item(n, &n.to_string())).collect();
        let mut clash = rows.clone();
        clash[16_999].code = "1".into();
        let error = items.create_many(clash).await.unwrap_err();
        assert_eq!(error.row(), Some(16_999), "{error}");
        assert_eq!(items.count().await.unwrap(), 0);

        assert_eq!(items.create_many(rows.clone()).await.unwrap(), rows);
        let ids: Vec<i64> = (1..=count).rev().collect();
        let found = items.get_many(&ids).await.unwrap();
        assert!(found.into_iter().flatten().eq(rows.iter().rev().cloned()));
        let missing: Vec<(i64, Item)> = (1..=count).map(|n| (n + 1, item(n + 1, &format!("n{n}")))).collect();
        let error = items.update_many(missing).await.unwrap_err();
        assert_eq!(error.row(), Some(16_999), "{error}");
        assert_eq!(items.get_by_id(&2i64).await.unwrap(), Some(item(2, "2")));
        assert_eq!(items.delete_many(&ids).await.unwrap(), 17_000);
    }
}
