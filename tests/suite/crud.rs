//! One row at a time.

use storehaus::prelude::*;
use storehaus::{Postgres, Sqlite};

use crate::models::{Article, Grade, Item, User, article, grade, item, user};
use crate::world::suite;

suite! {
    every fn a_row_is_created_read_updated_and_deleted(world) {
        world.haus.create_missing_tables::<(User,)>().await.unwrap();
        let users = world.haus.store::<User>();

        let ada = users.create(user("ada")).await.unwrap();
        assert!(!ada.id.is_nil());
        assert_eq!(ada, User { id: ada.id, ..user("ada") });
        for _ in 0..3 {
            assert_eq!(users.get_by_id(&ada.id).await.unwrap(), Some(ada.clone()));
            world.settle().await;
        }

        let changed = User { name: "Ada L.".into(), age: Some(36), ..ada.clone() };
        assert_eq!(users.update(&ada.id, changed.clone()).await.unwrap(), changed);
        for _ in 0..3 {
            assert_eq!(users.get_by_id(&ada.id).await.unwrap(), Some(changed.clone()));
            world.settle().await;
        }

        assert!(users.delete(&ada.id).await.unwrap());
        assert_eq!(users.get_by_id(&ada.id).await.unwrap(), None);
        assert!(!users.delete(&ada.id).await.unwrap());
        assert_eq!(world.number("SELECT COUNT(*) FROM users").await, 0);
    }

    every fn an_upsert_inserts_then_updates(world) {
        world.haus.create_missing_tables::<(Item, Grade)>().await.unwrap();
        let items = world.haus.store::<Item>();
        assert_eq!(items.upsert(item(7, "a")).await.unwrap(), item(7, "a"));
        assert_eq!(items.get_by_id(&7i64).await.unwrap(), Some(item(7, "a")));
        world.settle().await;
        assert_eq!(items.upsert(item(7, "b")).await.unwrap(), item(7, "b"));
        assert_eq!(items.get_by_id(&7i64).await.unwrap(), Some(item(7, "b")));
        assert_eq!(items.count().await.unwrap(), 1);
        // Without a key it is an insert, and a conflict with another unique value stays one.
        let error = items.upsert(item(0, "b")).await.unwrap_err();
        assert!(matches!(error, StorehausError::Conflict(_)), "{error}");

        let grades = world.haus.store::<Grade>();
        grades.upsert(grade(1, "art", 3)).await.unwrap();
        assert_eq!(grades.get_by_id(&(1i64, "art".to_owned())).await.unwrap(), Some(grade(1, "art", 3)));
        world.settle().await;
        grades.upsert(grade(1, "art", 4)).await.unwrap();
        assert_eq!(grades.get_by_id(&(1i64, "art".to_owned())).await.unwrap(), Some(grade(1, "art", 4)));
    }

    every fn times_readonly_and_generated_columns(world) {
        world.haus.create_missing_tables::<(Article,)>().await.unwrap();
        let articles = world.haus.store::<Article>();
        let before = Utc::now() - Duration::from_millis(1);
        let first = articles.create(article("First")).await.unwrap();
        let after = Utc::now();
        assert!(first.created_at >= before && first.created_at <= after, "{first:?}");
        assert_eq!(first.updated_at, Some(first.created_at.naive_utc()));
        assert_eq!((first.slug.as_str(), first.origin.as_str()), ("first", "import"));
        assert_eq!(articles.get_by_id(&first.id).await.unwrap(), Some(first.clone()));
        world.settle().await;
        assert_eq!(articles.get_by_id(&first.id).await.unwrap(), Some(first.clone()));

        let sent = Article {
            title: "SECOND".into(),
            origin: "forged".into(),
            created_at: DateTime::UNIX_EPOCH,
            slug: "forged".into(),
            ..first.clone()
        };
        let second = articles.update(&first.id, sent.clone()).await.unwrap();
        assert_eq!((second.title.as_str(), second.slug.as_str(), second.origin.as_str()), ("SECOND", "second", "import"));
        assert_eq!(second.created_at, first.created_at);
        assert!(second.updated_at > first.updated_at, "{second:?}");
        assert_eq!(articles.get_by_id(&first.id).await.unwrap(), Some(second.clone()));

        let third = articles.upsert(Article { title: "Third".into(), ..sent }).await.unwrap();
        assert_eq!((third.slug.as_str(), third.origin.as_str(), third.created_at), ("third", "import", first.created_at));
        let fourth =
            articles.update_many(vec![(first.id, Article { title: "Fourth".into(), ..third.clone() })]).await.unwrap();
        assert_eq!((fourth[0].slug.as_str(), fourth[0].created_at), ("fourth", first.created_at));
        assert!(fourth[0].updated_at > third.updated_at);
        assert_eq!(articles.get_by_id(&first.id).await.unwrap(), Some(fourth[0].clone()));
    }

    every fn an_update_of_nothing_is_not_found(world) {
        world.haus.create_missing_tables::<(Item,)>().await.unwrap();
        let items = world.haus.store::<Item>();
        let error = items.update(&5i64, item(5, "x")).await.unwrap_err();
        assert!(matches!(error, StorehausError::NotFound(_)), "{error}");
        assert_eq!(error.to_string(), "update on table items: no row has this key");
        assert_eq!((error.table(), error.is_unchanged(), error.is_transient()), (Some("items"), true, false));
        let error = items.require(&5i64).await.unwrap_err();
        assert_eq!(error.to_string(), "require on table items: no row has this key");
    }

    every fn a_conflict_names_its_constraint_and_changes_nothing(world) {
        world.haus.create_missing_tables::<(User,)>().await.unwrap();
        let users = world.haus.store::<User>();
        let ada = users.create(user("ada")).await.unwrap();
        let bob = users.create(user("bob")).await.unwrap();
        let constraint = if world.is_sqlite() { "users.email" } else { "users_email_key" };

        let error = users.create(user("ada")).await.unwrap_err();
        assert!(matches!(error, StorehausError::Conflict(_)), "{error}");
        assert_eq!((error.constraint(), error.is_unchanged()), (Some(constraint), true));
        assert!(!error.to_string().contains("ada@"), "the error quotes a row: {error}");

        assert_eq!(users.get_by_id(&bob.id).await.unwrap(), Some(bob.clone()));
        let taken = User { email: ada.email.clone(), ..bob.clone() };
        let error = users.update(&bob.id, taken).await.unwrap_err();
        assert_eq!(error.constraint(), Some(constraint), "{error}");
        assert_eq!(users.get_by_id(&bob.id).await.unwrap(), Some(bob));

        let error = users.create(User { email: "new@example.org".into(), ..ada }).await.unwrap_err();
        let constraint = if world.is_sqlite() { "users.id" } else { "users_pkey" };
        assert_eq!(error.constraint(), Some(constraint), "{error}");
        assert_eq!(users.count().await.unwrap(), 2);
    }

    every fn a_foreign_key_refuses(world) {
        world.haus.create_missing_tables::<(Item,)>().await.unwrap();
        world.sql("CREATE TABLE parts (id BIGINT PRIMARY KEY, item BIGINT NOT NULL REFERENCES items (id))").await;
        let (items, parts) = (world.haus.store::<Item>(), world.haus.store::<Part>());
        items.create(item(1, "a")).await.unwrap();
        let error = parts.create(Part { id: 1, item: 2 }).await.unwrap_err();
        assert!(matches!(error, StorehausError::ForeignKey(_)), "{error}");
        assert_eq!((error.table(), error.is_unchanged()), (Some("parts"), true));
        parts.create(Part { id: 1, item: 1 }).await.unwrap();
        assert_eq!(items.get_by_id(&1i64).await.unwrap(), Some(item(1, "a")));
        let error = items.delete(&1i64).await.unwrap_err();
        assert!(matches!(error, StorehausError::ForeignKey(_)), "{error}");
        assert_eq!(items.get_by_id(&1i64).await.unwrap(), Some(item(1, "a")));
        let error = parts.update(&1i64, Part { id: 1, item: 9 }).await.unwrap_err();
        assert!(matches!(error, StorehausError::ForeignKey(_)), "{error}");
        let error = parts.create_many(vec![Part { id: 2, item: 1 }, Part { id: 3, item: 4 }]).await.unwrap_err();
        assert!(matches!(error, StorehausError::ForeignKey(_)), "{error}");
        assert_eq!((error.row(), parts.count().await.unwrap()), (Some(1), 1));
    }

    every fn the_table_of_a_model_is_missing(world) {
        let error = world.haus.store::<User>().create(user("ada")).await.unwrap_err();
        assert!(matches!(error, StorehausError::SchemaMismatch(_)), "{error}");
        let error = world.haus.store::<User>().get_by_id(&Uuid::max()).await.unwrap_err();
        assert!(matches!(error, StorehausError::SchemaMismatch(_)), "{error}");
        assert_eq!(error.table(), Some("users"));
    }
}

#[derive(Debug, Clone, PartialEq, Model)]
#[model(table = "parts")]
struct Part {
    #[key]
    id: i64,
    item: i64,
}

/// What the type of a model promises to callers: stores are shared between tasks.
#[test]
fn stores_are_send_sync_and_static() {
    fn check<T: Send + Sync + Clone + 'static>() {}
    check::<GenericStore<User>>();
    check::<GenericStore<User, Sqlite>>();
    check::<StoreHaus<Postgres>>();
    check::<CacheManager>();
}
