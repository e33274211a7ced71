//! Defects that cached repositories had, each with the test that keeps it out.
//!
//! | defect | test |
//! |---|---|
//! | deletes and batch writes leave the cached row | [`every_write_reaches_the_cached_row`], `batch::changed_and_deleted_batches_are_seen_at_once` |
//! | the key is written in one form and deleted in another, so text keys are never invalidated | [`every_write_reaches_the_cached_row`], `keys::odd_texts_are_keys_of_their_own` |
//! | a read fails because the cache does | `outage::redis_was_never_there` |
//! | one restart of Redis ends caching, or reading, for good | `outage::a_restart_of_redis_does_not_end_caching` |
//! | pool size, timeout and retries are accepted and not applied | `outage::each_option_of_the_connection_does_what_it_says` |
//! | a slow reader stores the row it read before a write | `record` of storehaus-cache; `reads::readers_see_every_acknowledged_write` |
//! | a failed invalidation is swallowed | `outage::an_invalidation_that_cannot_be_delivered_is_not_lost` |
//! | a deploy that adds a field makes cached rows fail | [`two_versions_of_a_model_share_a_cache`] |
//! | `KEYS` on every write | `cost::no_write_searches_for_keys` |
//! | statistics, health, patterns, TTLs, prefixes documented and absent | `manual`, `options` |
//! | an update ignores its id and changes another row | [`an_update_changes_the_row_of_its_id_or_none`] |
//! | models with text keys do not compile | [`crate::models::Doc`] |
//! | names are spliced into SQL unquoted | [`reserved_words_are_names`] |
//! | placeholders beyond the ninth are confused; values are bound by guessed types | [`texts_that_look_like_other_types`], `columns::every_type_comes_back_exactly_from_database_and_cache` |
//! | fields without a mark have no column | [`every_field_has_a_column`] |
//! | the database makes another key than the one given | `keys::a_uuid_is_made_in_the_order_of_time_or_kept` |
//! | unique and index marks are parsed and not applied | `crud::a_conflict_names_its_constraint_and_changes_nothing`, `schema::tables_are_only_ever_added_to` |
//! | users must name sqlx and other crates themselves | the package `tests/standalone` |
//! | setting a table up drops it | `schema::tables_are_only_ever_added_to` |
//! | a wrong configuration is noticed late, or needs a file that is not there | `options::what_is_not_allowed_is_said_before_anything_is_contacted` |
//! | ids are truncated | `keys::integers_to_the_ends_of_their_range` |
//! | a write whose caller went away leaves the cached row | [`a_write_whose_caller_went_away_is_invalidated`] |
//! | a write whose result cannot be read leaves the cached row | [`a_write_whose_result_cannot_be_read_is_invalidated`] |

use storehaus::prelude::*;

use crate::models::{Doc, Item, doc, item};
use crate::world::{Tiers, suite, until};

#[derive(Debug, Clone, PartialEq, Model)]
#[model(table = "order")]
struct Order {
    #[key]
    select: i64,
    #[unique]
    r#type: String,
    #[model(rename = "group")]
    grouped: Option<i32>,
    #[index]
    user: String,
    #[model(rename = "CamelCase")]
    camel: bool,
    primary: i16,
}

#[derive(Debug, Clone, PartialEq, Model)]
#[model(table = "notes")]
struct NoteOne {
    #[key]
    id: i64,
    text: String,
}

/// The same table after a deploy that added a column and swapped two meanings.
#[derive(Debug, Clone, PartialEq, Model)]
#[model(table = "notes")]
struct NoteTwo {
    #[key]
    id: i64,
    author: Option<String>,
    text: String,
}

/// A column that is NULL where the row says so, and a field that cannot be.
#[derive(Debug, Clone, PartialEq, Model)]
#[model(table = "ratios")]
struct RatioRow {
    #[key]
    id: i64,
    part: i64,
    whole: i64,
    #[generated("part / NULLIF(whole, 0)")]
    ratio: i64,
}

suite! {
    every fn every_write_reaches_the_cached_row(world) {
        world.haus.create_missing_tables::<(Doc,)>().await.unwrap();
        let docs = world.haus.store::<Doc>();
        let (one, two) = (doc("it's \"a\" key", "1"), doc("b", "1"));
        let ids = [one.id.clone(), two.id.clone()];
        let with = |row: &Doc, body: &str| Doc { body: body.into(), ..row.clone() };
        docs.create_many(vec![one.clone(), two.clone()]).await.unwrap();
        for write in ["update", "upsert", "update_many", "upsert_many", "delete", "create", "delete_many", "create_many"] {
            docs.get_many(&ids).await.unwrap();
            world.settle().await;
            docs.get_many(&ids).await.unwrap();
            let (a, b) = (with(&one, write), with(&two, write));
            match write {
                "update" => drop((docs.update(&ids[0], a.clone()).await.unwrap(), docs.update(&ids[1], b.clone()).await.unwrap())),
                "upsert" => drop((docs.upsert(a.clone()).await.unwrap(), docs.upsert(b.clone()).await.unwrap())),
                "update_many" => drop(docs.update_many(vec![(ids[0].clone(), a.clone()), (ids[1].clone(), b.clone())]).await.unwrap()),
                "upsert_many" => drop(docs.upsert_many(vec![b.clone(), a.clone()]).await.unwrap()),
                "delete" => assert!(docs.delete(&ids[0]).await.unwrap() && docs.delete("b").await.unwrap()),
                "create" => drop((docs.create(a.clone()).await.unwrap(), docs.create(b.clone()).await.unwrap())),
                "delete_many" => assert_eq!(docs.delete_many(&ids).await.unwrap(), 2),
                _ => drop(docs.create_many(vec![a.clone(), b.clone()]).await.unwrap()),
            }
            let expected = if write.starts_with("delete") { [None, None] } else { [Some(a), Some(b)] };
            assert_eq!(docs.get_by_id(&ids[0]).await.unwrap(), expected[0], "{write}");
            assert_eq!(docs.get_many(&ids).await.unwrap(), expected, "{write}");
        }
    }

    every fn an_update_changes_the_row_of_its_id_or_none(world) {
        world.haus.create_missing_tables::<(Item,)>().await.unwrap();
        let items = world.haus.store::<Item>();
        items.create_many(vec![item(1, "a"), item(2, "b")]).await.unwrap();
        let error = items.update(&1i64, item(2, "x")).await.unwrap_err();
        assert!(matches!(error, StorehausError::KeyMismatch(_)), "{error}");
        assert_eq!(error.to_string(), "update on table items: the id passed is not the key of the row passed; pass the row's own key");
        assert_eq!(items.list_all().await.unwrap(), [item(1, "a"), item(2, "b")]);
    }

    redis fn two_versions_of_a_model_share_a_cache(world) {
        world.haus.create_missing_tables::<(NoteTwo,)>().await.unwrap();
        let next = world.neighbour();
        let (old, new) = (world.haus.store::<NoteOne>(), next.store::<NoteTwo>());
        old.create(NoteOne { id: 1, text: "a".into() }).await.unwrap();
        for n in 0..3 {
            // Each version fills the entry the other finds.
            let text = format!("text {n}");
            assert!(old.get_by_id(&1i64).await.unwrap().is_some());
            world.settle().await;
            assert!(new.get_by_id(&1i64).await.unwrap().is_some());
            next.cache().unwrap().settle().await;
            let changed = NoteTwo { id: 1, author: Some("b".into()), text: text.clone() };
            new.update(&1i64, changed.clone()).await.unwrap();
            assert_eq!(new.get_by_id(&1i64).await.unwrap(), Some(changed));
            if world.tiers == Tiers::Redis {
                assert_eq!(old.get_by_id(&1i64).await.unwrap(), Some(NoteOne { id: 1, text }));
            }
        }
        let stats = next.cache().unwrap().get_stats().await.unwrap().total;
        assert!(stats.outdated > 0 && stats.decode_errors == 0, "{stats:?}");
    }

    /// Two instances on one Redis: what one acknowledged the other reads.
    redis fn a_neighbour_reads_what_was_acknowledged_here(world) {
        world.haus.create_missing_tables::<(Item,)>().await.unwrap();
        let (config, neighbour) = (world.config().unwrap().with_l1(L1::Off), world.neighbour());
        let here = world.haus.store::<Item>();
        let there = if world.tiers == Tiers::Redis { neighbour } else { world.behind(config) }.store::<Item>();
        here.create(item(1, "0")).await.unwrap();
        for n in 1..20 {
            assert_eq!(there.get_by_id(&1i64).await.unwrap(), Some(item(1, &(n - 1).to_string())));
            here.update(&1i64, item(1, &n.to_string())).await.unwrap();
            assert_eq!(there.get_by_id(&1i64).await.unwrap(), Some(item(1, &n.to_string())));
        }
    }

    once fn reserved_words_are_names(world) {
        world.haus.create_missing_tables::<(Order,)>().await.unwrap();
        world.haus.check_schema::<(Order,)>().await.unwrap();
        let orders = world.haus.store::<Order>();
        let row = Order { select: 0, r#type: "a".into(), grouped: None, user: "u".into(), camel: true, primary: 1 };
        let made = orders.create(row.clone()).await.unwrap();
        let changed = Order { grouped: Some(1), ..made.clone() };
        assert_eq!(orders.update(&made.select, changed.clone()).await.unwrap(), changed);
        assert_eq!(orders.upsert_many(vec![made.clone()]).await.unwrap(), std::slice::from_ref(&made));
        assert_eq!(orders.update_many(vec![(made.select, changed.clone())]).await.unwrap(), std::slice::from_ref(&changed));
        assert_eq!(orders.get_many(&[made.select]).await.unwrap(), [Some(changed)]);
        assert!(orders.exists(&made.select).await.unwrap());
        let error = orders.create(row).await.unwrap_err();
        assert!(matches!(error, StorehausError::Conflict(_)), "{error}");
        assert_eq!(orders.delete_many(&[made.select]).await.unwrap(), 1);
    }

    every fn texts_that_look_like_other_types(world) {
        world.haus.create_missing_tables::<(Doc,)>().await.unwrap();
        let docs = world.haus.store::<Doc>();
        let texts = ["6f1d7f4e-8a3b-4c5d-9e6f-7a8b9c0d1e2f", "2024-01-02T03:04:05Z", "1", "1e5", "null", "true", "[1]", "$1", "{1,2}"];
        let rows: Vec<Doc> = texts.iter().map(|text| doc(text, text)).collect();
        assert_eq!(docs.create_many(rows.clone()).await.unwrap(), rows);
        for _ in 0..2 {
            for row in &rows {
                assert_eq!(docs.get_by_id(&row.id).await.unwrap().as_ref(), Some(row));
                world.settle().await;
            }
        }
    }

    once fn every_field_has_a_column(world) {
        world.haus.create_missing_tables::<(Order, Item)>().await.unwrap();
        let columns = if world.is_sqlite() {
            "SELECT COUNT(*) FROM pragma_table_info('order')"
        } else {
            "SELECT COUNT(*) FROM information_schema.columns WHERE table_schema = current_schema() AND table_name = 'order'"
        };
        assert_eq!(world.number(columns).await, 6);
    }

    every fn a_write_whose_caller_went_away_is_invalidated(world) {
        world.haus.create_missing_tables::<(Item,)>().await.unwrap();
        let items = world.haus.store::<Item>();
        items.create(item(1, "0")).await.unwrap();
        for n in 1..20 {
            items.get_by_id(&1i64).await.unwrap();
            world.settle().await;
            let code = n.to_string();
            // Polled once, then dropped.
            drop(futures_util::FutureExt::now_or_never(items.update(&1i64, item(1, &code))));
            let done = || async { world.number(&format!("SELECT COUNT(*) FROM items WHERE code = '{code}'")).await == 1 };
            until("the write", done).await;
            world.settle().await;
            assert_eq!(items.get_by_id(&1i64).await.unwrap(), Some(item(1, &code)));
        }
    }

    cached fn a_write_whose_result_cannot_be_read_is_invalidated(world) {
        world.sql(
            "CREATE TABLE ratios (id BIGINT PRIMARY KEY, part BIGINT NOT NULL, whole BIGINT NOT NULL,
             ratio BIGINT GENERATED ALWAYS AS (part / NULLIF(whole, 0)) STORED)",
        ).await;
        let rows = world.haus.store::<RatioRow>();
        let row = |id, whole| RatioRow { id, part: 6, whole, ratio: 0 };
        rows.create_many(vec![row(1, 2), row(2, 2), row(3, 2)]).await.unwrap();
        for id in 1..=3i64 {
            assert_eq!(rows.get_by_id(&id).await.unwrap().unwrap().ratio, 3);
        }
        world.settle().await;
        // The statement takes effect; its result has a NULL that the field does not take.
        for (id, error) in [
            (1i64, rows.update(&1i64, row(1, 0)).await.unwrap_err()),
            (2, rows.upsert(row(2, 0)).await.unwrap_err()),
            (3, rows.upsert_many(vec![row(3, 0)]).await.unwrap_err()),
        ] {
            assert!(matches!(error, StorehausError::SchemaMismatch(_)), "{error}");
            assert!(!error.is_unchanged(), "{error}");
            world.sql(&format!("UPDATE ratios SET whole = 3 WHERE id = {id} AND whole = 0")).await;
            assert_eq!(rows.get_by_id(&id).await.unwrap().unwrap().ratio, 2, "the write of row {id} is not seen");
        }
    }
}
