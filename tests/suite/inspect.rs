//! The cache of a store by hand, what it says of an entry, and the auditor.

use storehaus::AuditOptions;
use storehaus::explain::{InvalidatedBy, State};
use storehaus::prelude::*;

use crate::models::{Doc, Item, doc, item};
use crate::world::{suite, until};

suite! {
    cached fn a_row_put_by_hand_is_never_an_old_one(world) {
        world.haus.create_missing_tables::<(Item,)>().await.unwrap();
        let items = world.haus.store::<Item>();
        let old = items.create(item(1, "a")).await.unwrap();
        items.get_by_id(&1i64).await.unwrap();
        world.settle().await;

        // Changed by other means: the cache cannot know, until it is told.
        world.sql("UPDATE items SET code = 'b'").await;
        assert_eq!(items.get_by_id(&1i64).await.unwrap(), Some(old.clone()));
        assert!(items.cache().put(&item(1, "b")).await.unwrap());
        world.settle().await;
        world.statements();
        assert_eq!(items.get_by_id(&1i64).await.unwrap(), Some(item(1, "b")));
        assert_eq!(world.statements(), Vec::<String>::new());

        // A row read long ago takes the place of no newer one.
        assert!(!items.cache().put(&old).await.unwrap());
        assert_eq!(items.get_by_id(&1i64).await.unwrap(), Some(item(1, "b")));
        world.sql("UPDATE items SET code = 'c'").await;
        items.cache().invalidate(&1i64).await.unwrap();
        assert_eq!(items.get_by_id(&1i64).await.unwrap(), Some(item(1, "c")));

        // A row that is gone.
        items.delete(&1i64).await.unwrap();
        assert!(!items.cache().put(&item(1, "c")).await.unwrap());
        assert_eq!(items.get_by_id(&1i64).await.unwrap(), None);
    }

    cached fn an_explanation_tells_the_story_of_an_entry(world) {
        world.haus.create_missing_tables::<(Doc,)>().await.unwrap();
        let docs = world.haus.store::<Doc>();
        docs.create(doc("canary-id", "canary-body")).await.unwrap();
        let states = async |id: &str| {
            let explanation = docs.cache().explain(id).await.unwrap();
            assert_eq!(explanation.redis.is_some(), world.has_redis());
            let text = format!("{explanation} {explanation:?}");
            assert!(text.contains(" of docs: ") && !text.contains("canary"), "{text}");
            let held = explanation.redis.into_iter().chain(explanation.in_process);
            held.map(|held| held.state).collect::<Vec<_>>()
        };
        assert!(states("canary-id").await.iter().all(|state| *state == State::Nothing));
        docs.get_by_id("canary-id").await.unwrap();
        world.settle().await;
        assert!(states("canary-id").await.iter().all(|state| *state == State::Value));
        docs.update("canary-id", doc("canary-id", "canary-new")).await.unwrap();
        assert!(states("canary-id").await.iter().all(|state| *state == State::Nothing));
        let last = docs.cache().explain("canary-id").await.unwrap().last_invalidation.unwrap();
        assert_eq!(last.by, InvalidatedBy::Write);
        assert!(docs.cache().explain("never-seen").await.unwrap().last_invalidation.is_none());
    }

    cached fn the_auditor_finds_a_row_changed_behind_the_cache(world) {
        world.haus.create_missing_tables::<(Item,)>().await.unwrap();
        // In process without a bound, or straight from Redis: a bound would have to pass first.
        let items = world.haus.store_with::<Item>(|params| params.with_l1(L1::Off));
        items.create_many(vec![item(1, "a"), item(2, "b")]).await.unwrap();
        items.get_many(&[1, 2]).await.unwrap();
        world.settle().await;
        let options = AuditOptions::new(1.0).with_grace(Duration::from_millis(50)).with_max_per_second(1_000);
        world.haus.audit(options).unwrap();
        items.get_many(&[1, 2]).await.unwrap();
        let audited = async |count| world.stats().await.audited == count;
        until("two audits", || audited(2)).await;
        assert_eq!(world.stats().await.audit_violations, 0);
        world.sql("UPDATE items SET code = 'c' WHERE id = 2").await;
        items.get_many(&[1, 2]).await.unwrap();
        until("two more", || audited(4)).await;
        assert_eq!(world.stats().await.audit_violations, 1);
        assert!(world.haus.audit(AuditOptions::new(2.0)).is_err());
        world.haus.audit(AuditOptions::new(0.0)).unwrap();
    }

    once fn a_store_without_a_cache_says_so(world) {
        let items = world.haus.store::<Item>();
        let refused = |error| matches!(error, StorehausError::CacheDisabled("items"));
        assert!(refused(items.cache().put(&item(1, "a")).await.unwrap_err()));
        assert!(refused(items.cache().invalidate(&1i64).await.unwrap_err()));
        assert!(refused(items.cache().explain(&1i64).await.unwrap_err()));
        assert!(matches!(world.haus.audit(AuditOptions::new(0.5)), Err(StorehausError::CacheDisabled(_))));
    }
}
