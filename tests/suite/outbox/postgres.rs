//! What only Postgres has: late commits, parts of tables, rights, statements of other kinds; and a writer that is killed.

use std::process::{Command, Stdio};

use storehaus::prelude::*;
use storehaus::sqlx;

use super::{NOWHERE, backlog, cached, drained, often};
use crate::models::{Doc, Item, doc, item};
use crate::world::{Tiers, World, run, until};

const MIGRATION: &str = include_str!("../../../migrations/postgres/0002_outbox.sql");

/// A table in parts.
#[derive(Debug, Clone, PartialEq, Model)]
#[model(table = "readings")]
struct Reading {
    #[key]
    id: i64,
    #[key]
    day: i32,
    value: i32,
}

fn reading(id: i64, day: i32, value: i32) -> Reading {
    Reading { id, day, value }
}

async fn begun(world: &World<Postgres>) -> sqlx::Transaction<'static, Postgres> {
    world.haus.pool().begin().await.unwrap()
}

#[test]
fn a_change_that_commits_late_is_delivered() {
    run(Tiers::Redis, |world: World<Postgres>| async move {
        world.haus.create_missing_tables::<(Item,)>().await.unwrap();
        world.haus.install_outbox::<(Item,)>().await.unwrap();
        let items = world.haus.store::<Item>();
        items.create_many(vec![item(1, "a"), item(2, "b")]).await.unwrap();
        let relay = world.haus.start_relay::<(Item,)>(often()).await.unwrap();
        drained(&world.haus).await;
        items.get_many(&[1, 2]).await.unwrap();
        world.settle().await;

        let (mut first, mut second) = (begun(&world).await, begun(&world).await);
        sqlx::query("UPDATE items SET code = 'x' WHERE id = 1").execute(&mut *first).await.unwrap();
        sqlx::query("UPDATE items SET code = 'y' WHERE id = 2").execute(&mut *second).await.unwrap();
        second.commit().await.unwrap();
        until("the later row", || async { relay.stats().delivered == 3 }).await;
        assert_eq!(items.get_many(&[1, 2]).await.unwrap(), [Some(item(1, "a")), Some(item(2, "y"))]);
        first.commit().await.unwrap();
        until("the earlier row", || async { relay.stats().delivered == 4 }).await;
        assert_eq!(items.get_by_id(&1i64).await.unwrap(), Some(item(1, "x")));
    });
}

#[test]
fn truncate_copy_merge_and_cascades_are_recorded() {
    run(Tiers::Both, |world: World<Postgres>| async move {
        world.haus.create_missing_tables::<(Item, Doc)>().await.unwrap();
        world
            .sql("ALTER TABLE docs ADD FOREIGN KEY (id) REFERENCES items (code) ON DELETE CASCADE ON UPDATE CASCADE")
            .await;
        world.haus.install_outbox::<(Item, Doc)>().await.unwrap();
        let (items, docs) = (world.haus.store::<Item>(), world.haus.store::<Doc>());
        let relay = world.haus.start_relay::<(Item, Doc)>(often()).await.unwrap();
        let ids: Vec<i64> = (1..=50).collect();
        items.create_many(ids.iter().map(|id| item(*id, &format!("c{id}"))).collect()).await.unwrap();
        docs.create_many(vec![doc("c1", "x"), doc("c2", "y"), doc("c3", "z")]).await.unwrap();
        drained(&world.haus).await;
        items.get_many(&ids).await.unwrap();
        let doc_ids = ["c1", "c2", "c3", "new"].map(str::to_owned);
        docs.get_many(&doc_ids).await.unwrap();
        world.settle().await;

        world.sql("DELETE FROM items WHERE id = 1; UPDATE items SET code = 'new' WHERE id = 2").await;
        drained(&world.haus).await;
        let rows = docs.get_many(&doc_ids).await.unwrap();
        assert_eq!(rows, [None, None, Some(doc("c3", "z")), Some(doc("new", "y"))]);

        world
            .sql(
                "MERGE INTO items t USING (VALUES (3, 'm3'), (99, 'm99')) v (id, code) ON t.id = v.id
                 WHEN MATCHED THEN UPDATE SET stock = 7
                 WHEN NOT MATCHED THEN INSERT (id, code, stock) VALUES (v.id, v.code, 8)",
            )
            .await;
        drained(&world.haus).await;
        assert_eq!(items.get_by_id(&3i64).await.unwrap().unwrap().stock, 7);

        let negative = world.haus.store_with::<Item>(|cache| cache.with_prefix("absent").with_negative_ttl(60));
        assert_eq!(negative.get_by_id(&77i64).await.unwrap(), None);
        world.settle().await;
        let mut conn = world.haus.pool().acquire().await.unwrap();
        let mut copy = conn.copy_in_raw("COPY items (id, code, stock) FROM STDIN").await.unwrap();
        copy.send("77\tcopied\t1\n".as_bytes()).await.unwrap();
        copy.finish().await.unwrap();
        drop(conn);
        drained(&world.haus).await;
        assert_eq!(negative.get_by_id(&77i64).await.unwrap(), Some(item(77, "copied")));

        items.get_many(&ids).await.unwrap();
        world.settle().await;
        world.sql("TRUNCATE items CASCADE").await;
        drained(&world.haus).await;
        assert!(items.get_many(&ids).await.unwrap().iter().all(Option::is_none));
        assert!(docs.get_many(&doc_ids).await.unwrap().iter().all(Option::is_none));
        assert_eq!(relay.stats().failures, 0, "{:?}", relay.stats());
    });
}

/// Whether a statement names the table or a part of it, also one that is made later.
#[test]
fn parts_of_a_table_are_recorded() {
    run(Tiers::Redis, |world: World<Postgres>| async move {
        world
            .sql(
                "CREATE TABLE readings (id BIGINT, day INTEGER, value INTEGER NOT NULL, PRIMARY KEY (id, day))
                 PARTITION BY RANGE (day);
                 CREATE TABLE readings_1 PARTITION OF readings FOR VALUES FROM (0) TO (10)",
            )
            .await;
        world.haus.install_outbox::<(Reading,)>().await.unwrap();
        world.sql("CREATE TABLE readings_2 PARTITION OF readings FOR VALUES FROM (10) TO (20)").await;
        let relay = world.haus.start_relay::<(Reading,)>(often()).await.unwrap();
        let readings = world.haus.store::<Reading>();
        let all = [(1i64, 1i32), (2, 2), (3, 11), (4, 12)];
        readings.create_many(all.iter().map(|(id, day)| reading(*id, *day, 0)).collect()).await.unwrap();
        let served = async |expected: [Option<Reading>; 4]| {
            drained(&world.haus).await;
            assert_eq!(readings.get_many(&all).await.unwrap(), expected);
            world.settle().await;
        };
        let rows = |values: [i32; 4]| {
            let mut at = 0;
            values.map(|value| {
                at += 1;
                Some(reading(all[at - 1].0, all[at - 1].1, value))
            })
        };
        served(rows([0, 0, 0, 0])).await;
        world.sql("UPDATE readings SET value = 1").await;
        served(rows([1, 1, 1, 1])).await;
        world.sql("UPDATE readings_1 SET value = 2; UPDATE readings_2 SET value = 3").await;
        served(rows([2, 2, 3, 3])).await;
        // From one part to the other.
        world.sql("UPDATE readings SET day = 13 WHERE id = 1").await;
        let [_, two, three, four] = rows([2, 2, 3, 3]);
        served([None, two, three, four]).await;
        world.sql("TRUNCATE readings_1").await;
        let [_, _, three, four] = rows([2, 2, 3, 3]);
        served([None, None, three.clone(), four.clone()]).await;
        // The trigger of the part that was made later is added, and the others are left as they are.
        world.haus.install_outbox::<(Reading,)>().await.unwrap();
        let triggers = "SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'storehaus%truncate' AND tgrelid::regclass::text LIKE 'readings%'";
        assert_eq!(world.number(triggers).await, 3);
        world.sql("TRUNCATE readings_2").await;
        served([None, None, None, None]).await;
        assert_eq!(relay.stats().failures, 0);

        // Inheritance as it was before partitions.
        world.haus.create_missing_tables::<(Item,)>().await.unwrap();
        world.haus.install_outbox::<(Item,)>().await.unwrap();
        world.sql("CREATE TABLE more_items () INHERITS (items)").await;
        world.haus.install_outbox::<(Item,)>().await.unwrap();
        let _relay = world.haus.start_relay::<(Item,)>(often()).await.unwrap();
        let items = world.haus.store::<Item>();
        world.sql("INSERT INTO more_items (id, code, stock) VALUES (1, 'a', 1)").await;
        drained(&world.haus).await;
        cached(&world, &items, &1).await;
        for statement in ["UPDATE more_items SET stock = 2", "UPDATE items SET stock = 3", "TRUNCATE more_items"] {
            world.sql(statement).await;
            drained(&world.haus).await;
            let stock = world.number("SELECT coalesce(sum(stock), 0) FROM items").await;
            let row = items.get_by_id(&1i64).await.unwrap();
            assert_eq!(row.map_or(0, |row| row.stock) as u64, stock, "{statement}");
            world.settle().await;
        }
    });
}

#[test]
fn a_table_that_is_altered_stays_recorded() {
    run(Tiers::Redis, |world: World<Postgres>| async move {
        world.haus.create_missing_tables::<(Doc,)>().await.unwrap();
        world.haus.install_outbox::<(Doc,)>().await.unwrap();
        let docs = world.haus.store::<Doc>();
        docs.create(doc("a", "0")).await.unwrap();
        let _relay = world.haus.start_relay::<(Doc,)>(often()).await.unwrap();
        let changes = [
            "ALTER TABLE docs ADD COLUMN more TEXT",
            "ALTER TABLE docs ALTER COLUMN id TYPE VARCHAR(40), ALTER COLUMN body TYPE VARCHAR(40)",
            "ALTER TABLE docs DROP COLUMN more",
            "ALTER TABLE docs RENAME TO old_docs; CREATE TABLE docs (id TEXT CONSTRAINT docs_by_id PRIMARY KEY, body TEXT NOT NULL);
             INSERT INTO docs SELECT * FROM old_docs",
            "ALTER TABLE docs RENAME COLUMN id TO key; ALTER TABLE docs RENAME COLUMN body TO id;
             ALTER TABLE docs RENAME COLUMN key TO body; ALTER TABLE docs DROP CONSTRAINT docs_by_id;
             UPDATE docs SET id = 'a'; ALTER TABLE docs ADD PRIMARY KEY (id)",
        ];
        for (n, change) in changes.into_iter().enumerate() {
            world.sql(change).await;
            if n >= 3 {
                world.haus.install_outbox::<(Doc,)>().await.unwrap();
            }
            drained(&world.haus).await;
            // Altered under a prepared statement, the first read on each connection fails.
            let read = async || {
                let mut row = docs.get_by_id("a").await;
                for _ in 0..4 {
                    if row.is_ok() {
                        break;
                    }
                    row = docs.get_by_id("a").await;
                }
                row.unwrap()
            };
            assert!(read().await.is_some());
            world.settle().await;
            world.sql(&format!("UPDATE docs SET body = '{n} new'")).await;
            drained(&world.haus).await;
            assert_eq!(read().await, Some(doc("a", &format!("{n} new"))), "{change}");
        }
        // The table that took the other's name away keeps no trigger that claims to be it.
        world.sql("UPDATE old_docs SET body = 'x'").await;
        drained(&world.haus).await;
    });
}

/// Between the invalidation and the end of the relay's transaction anything may happen: the row is delivered again.
#[test]
fn a_delivery_that_is_not_committed_is_repeated() {
    run(Tiers::Redis, |world: World<Postgres>| async move {
        world.haus.create_missing_tables::<(Item,)>().await.unwrap();
        world.haus.install_outbox::<(Item,)>().await.unwrap();
        world
            .sql(
                "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'not today'; END $$;
                 CREATE CONSTRAINT TRIGGER refuse AFTER DELETE ON storehaus_outbox DEFERRABLE INITIALLY DEFERRED
                 FOR EACH ROW EXECUTE FUNCTION refuse()",
            )
            .await;
        let items = world.haus.store::<Item>();
        items.create(item(1, "a")).await.unwrap();
        let neighbour = world.neighbour();
        let relay = neighbour.start_relay::<(Item,)>(often()).await.unwrap();
        until("a failure", || async { relay.stats().failures > 0 }).await;
        cached(&world, &items, &1).await;
        world.sql("UPDATE items SET code = 'b'").await;
        until("the new row", || async { items.get_by_id(&1i64).await.unwrap() == Some(item(1, "b")) }).await;
        assert_eq!((backlog(&world.haus).await, relay.stats().delivered), (2, 0));
        world.sql("DROP TRIGGER refuse ON storehaus_outbox").await;
        drained(&world.haus).await;
        until("the count", || async { relay.stats().delivered == 2 }).await;
    });
}

/// The script for those whose programs may not change the schema, and the rights that are left to the programs.
#[test]
fn a_migration_and_few_rights_are_enough() {
    assert_eq!(MIGRATION, include_str!("../../../storehaus-core/src/outbox/postgres.sql"));
    run(Tiers::Redis, |world: World<Postgres>| async move {
        world.haus.create_missing_tables::<(Item, Doc)>().await.unwrap();
        world.sql(MIGRATION).await;
        let name = &world.name;
        world.sql(&format!("SELECT storehaus_outbox_add('{name}', 'items', '{{id}}')")).await;
        let schema = name.replace('-', "_");
        let (program, relay_role) = (format!("{schema}_program"), format!("{schema}_relay"));
        world
            .sql(&format!(
                "CREATE ROLE {program}; GRANT USAGE ON SCHEMA {schema} TO {program};
                 GRANT SELECT, INSERT, UPDATE, DELETE, TRUNCATE ON items TO {program};
                 CREATE ROLE {relay_role}; GRANT USAGE ON SCHEMA {schema} TO {relay_role};
                 GRANT SELECT, UPDATE, DELETE ON storehaus_outbox TO {relay_role}"
            ))
            .await;
        let before = world.statements().len();
        world.haus.install_outbox::<(Item,)>().await.unwrap();
        assert!(before > 0 && world.statements().iter().all(|text| !text.contains("CREATE")));

        // Who may write the table is recorded without a right on the outbox, and has none.
        world.sql(&format!("SET ROLE {program}; INSERT INTO items VALUES (1, 'a', 1); UPDATE items SET stock = 2; TRUNCATE items; RESET ROLE")).await;
        assert_eq!(backlog(&world.haus).await, 3);
        let mut conn = world.haus.pool().acquire().await.unwrap();
        for refused in [
            "SELECT * FROM storehaus_outbox".to_owned(),
            "INSERT INTO storehaus_outbox (cache, relation) VALUES ('a', 'b')".to_owned(),
            format!("CREATE TEMPORARY TABLE mine (id INTEGER); CREATE TRIGGER mine AFTER TRUNCATE ON mine EXECUTE FUNCTION {}()",
                sqlx::query_scalar::<_, String>("SELECT tgfoid::regproc::text FROM pg_trigger WHERE tgname LIKE 'storehaus%truncate' AND tgrelid = 'items'::regclass")
                    .fetch_one(&mut *conn).await.unwrap()),
        ] {
            let text = sqlx::AssertSqlSafe(format!("SET ROLE {program}; {refused}"));
            let error = sqlx::raw_sql(text).execute(&mut *conn).await.unwrap_err();
            assert!(error.to_string().contains("permission denied"), "{error}");
            sqlx::raw_sql("RESET ROLE").execute(&mut *conn).await.unwrap();
        }
        drop(conn);

        // A relay needs no more than this.
        let options = (*world.haus.pool().connect_options()).clone().options([("role", &relay_role)]);
        let pool = sqlx::Pool::<Postgres>::connect_with(options).await.unwrap();
        let haus = StoreHaus::builder().database(pool.clone()).cache(world.config().unwrap()).build().await.unwrap();
        let relay = haus.start_relay::<(Item,)>(often()).await.unwrap();
        drained(&world.haus).await;
        assert_eq!(relay.stats().failures, 0, "{:?}", relay.stats());
        pool.close().await;
        drop(relay);
        world.sql(&format!("DROP OWNED BY {program}, {relay_role}; DROP ROLE {program}, {relay_role}")).await;

        // An outbox of another release is left alone.
        world.sql("COMMENT ON TABLE storehaus_outbox IS 'StoreHaus outbox, version 2'").await;
        let error = world.haus.install_outbox::<(Doc,)>().await.unwrap_err();
        assert!(error.to_string().contains("not the outbox of this release"), "{error}");
    });
}

/// Run by the test below in a process of its own, which is killed after its COMMIT.
#[test]
#[ignore = "the part of another test that ends its process"]
fn a_writer_without_redis() {
    let Ok(schema) = std::env::var("SUITE_SCHEMA") else { return };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let options: sqlx::postgres::PgConnectOptions = std::env::var("DATABASE_URL").unwrap().parse().unwrap();
        let pool = sqlx::Pool::<Postgres>::connect_with(options.options([("search_path", schema)])).await.unwrap();
        let config = CacheConfig::new(NOWHERE, 60, "app").with_timeout(Duration::from_secs(60));
        let haus = StoreHaus::builder().database(pool).cache(config).build().await.unwrap();
        haus.store::<Item>().update(&1i64, item(1, "b")).await.unwrap();
        std::future::pending::<()>().await;
    });
}

#[test]
fn a_writer_that_is_killed_after_its_commit_is_caught_up_with() {
    run(Tiers::Redis, |world: World<Postgres>| async move {
        world.haus.create_missing_tables::<(Item,)>().await.unwrap();
        world.haus.install_outbox::<(Item,)>().await.unwrap();
        let items = world.haus.store::<Item>();
        items.create(item(1, "a")).await.unwrap();
        cached(&world, &items, &1).await;
        let mut writer = Command::new(std::env::current_exe().unwrap())
            .args(["outbox::postgres::a_writer_without_redis", "--exact", "--ignored"])
            .env("SUITE_SCHEMA", world.name.replace('-', "_"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let committed = || async { world.number("SELECT count(*) FROM items WHERE code = 'b'").await == 1 };
        until("the write", committed).await;
        writer.kill().unwrap();
        writer.wait().unwrap();
        // Nobody told Redis.
        assert_eq!(items.get_by_id(&1i64).await.unwrap(), Some(item(1, "a")));
        let _relay = world.neighbour().start_relay::<(Item,)>(often()).await.unwrap();
        drained(&world.haus).await;
        assert_eq!(items.get_by_id(&1i64).await.unwrap(), Some(item(1, "b")));
    });
}
