//! Tables from models, a migration written by hand, and drift between the two.

use storehaus::prelude::*;

use crate::models::{Article, Grade, Item, User, item, user};
use crate::world::{Tiers, World, run, suite};

/// The model of `migrations/postgres/0001_suite.sql`.
#[derive(Debug, Clone, PartialEq, Model)]
#[model(table = "customers", unique(tenant, email))]
struct Customer {
    #[key]
    id: Uuid,
    tenant: i32,
    email: String,
    name: Option<String>,
    balance: Decimal,
    #[json]
    labels: Vec<String>,
    tags: Vec<String>,
    status: Status,
    #[generated]
    email_lower: String,
    #[created_at]
    created_at: DateTime<Utc>,
    #[updated_at]
    updated_at: DateTime<Utc>,
}

#[derive(Debug, Clone, Copy, PartialEq, Column)]
#[column(rename_all = "lowercase", postgres_enum = "customer_status")]
enum Status {
    Active,
    Closed,
}

const MIGRATION: &str = include_str!("../../migrations/postgres/0001_suite.sql");

fn customer(email: &str) -> Customer {
    Customer {
        id: Uuid::nil(),
        tenant: 1,
        email: email.into(),
        name: None,
        balance: Decimal::new(12_34, 2),
        labels: vec!["a".into()],
        tags: vec!["b".into(), "c".into()],
        status: Status::Active,
        email_lower: String::new(),
        created_at: DateTime::UNIX_EPOCH,
        updated_at: DateTime::UNIX_EPOCH,
    }
}

#[test]
fn a_table_made_by_a_migration_serves_the_model() {
    run(Tiers::InProcess, |world: World<Postgres>| async move {
        let error = world.haus.check_schema::<(Customer,)>().await.unwrap_err();
        assert!(error.to_string().contains("table customers is missing"), "{error}");
        world.sql(MIGRATION).await;
        world.haus.check_schema::<(Customer,)>().await.unwrap();

        let customers = world.haus.store::<Customer>();
        let made = customers.create(customer("Ada@Example.org")).await.unwrap();
        assert_eq!(made.email_lower, "ada@example.org");
        assert_eq!(customers.get_by_id(&made.id).await.unwrap(), Some(made.clone()));
        let error = customers.create(customer("Ada@Example.org")).await.unwrap_err();
        assert_eq!(error.constraint(), Some("customers_tenant_email"), "{error}");
        let error = customers.create(Customer { balance: Decimal::new(-1, 0), ..customer("b") }).await.unwrap_err();
        assert!(matches!(error, StorehausError::InvalidInput(_)), "{error}");
        assert_eq!(error.constraint(), Some("customers_balance_check"));
        let closed = Customer { status: Status::Closed, balance: Decimal::ZERO, ..made.clone() };
        let closed = customers.update(&made.id, closed).await.unwrap();
        assert_eq!(customers.get_by_id(&made.id).await.unwrap(), Some(closed.clone()));
        let many = customers.create_many(vec![customer("c"), customer("d")]).await.unwrap();
        assert_eq!(
            customers.get_many(&[many[1].id, many[0].id]).await.unwrap(),
            [Some(many[1].clone()), Some(many[0].clone())]
        );

        // What is there already is left as it is.
        world.statements();
        world.haus.create_missing_tables::<(Customer,)>().await.unwrap();
        assert_eq!(changes(&world.statements()), Vec::<String>::new());
        assert_eq!(world.number("SELECT COUNT(*) FROM customers WHERE note = 'none'").await, 3);
    });
}

#[test]
fn every_difference_to_a_migrated_table_is_named() {
    run(Tiers::None, |world: World<Postgres>| async move {
        world.sql(MIGRATION).await;
        world
            .sql(
                "ALTER TABLE customers DROP COLUMN name;
                 ALTER TABLE customers ALTER COLUMN tenant TYPE TEXT USING tenant::text;
                 ALTER TABLE customers ALTER COLUMN tags DROP NOT NULL;
                 ALTER TABLE customers DROP CONSTRAINT customers_tenant_email;
                 ALTER TABLE customers ADD COLUMN region TEXT NOT NULL",
            )
            .await;
        let error = world.haus.check_schema::<(Customer,)>().await.unwrap_err();
        assert!(matches!(error, StorehausError::SchemaMismatch(_)), "{error}");
        let text = error.to_string();
        for difference in [
            "column name is missing; add it: ALTER TABLE",
            "column tenant is text, the field needs INTEGER",
            "column tags may be NULL",
            "the unique constraint on tenant, email is missing",
            "column region must not be NULL, has no default and no field",
        ] {
            assert!(text.contains(difference), "{difference}: {text}");
        }
        assert_eq!(text.matches("table customers: ").count(), 5, "{text}");
    });
}

/// The error that stays. Each connection that has a statement prepared notices once that the table was altered.
async fn lasting<F: Future<Output = StorehausError>>(mut attempt: impl FnMut() -> F) -> StorehausError {
    for _ in 0..4 {
        let error = attempt().await;
        if !error.is_transient() {
            return error;
        }
        assert!(matches!(error, StorehausError::Serialization(_)), "{error}");
    }
    attempt().await
}

/// The statements that change something about tables or rows.
fn changes(statements: &[String]) -> Vec<String> {
    let words = ["CREATE ", "ALTER ", "DROP ", "DELETE ", "TRUNCATE ", "UPDATE ", "INSERT "];
    statements.iter().filter(|text| words.iter().any(|word| text.to_uppercase().contains(word))).cloned().collect()
}

/// The first version of a table.
#[derive(Debug, Clone, PartialEq, Model)]
#[model(table = "gadgets")]
struct Gadget {
    #[key]
    id: i64,
    name: String,
}

/// Its second version.
#[derive(Debug, Clone, PartialEq, Model)]
#[model(table = "gadgets")]
struct GadgetTwo {
    #[key]
    id: i64,
    #[unique]
    name: String,
    #[index]
    color: Option<String>,
    #[generated("upper(name)")]
    loud: String,
}

/// A version that cannot be reached by adding.
#[derive(Debug, Clone, PartialEq, Model)]
#[model(table = "gadgets")]
struct GadgetThree {
    #[key]
    id: i64,
    name: String,
    weight: i32,
}

suite! {
    once fn tables_are_only_ever_added_to(world) {
        let haus = &world.haus;
        haus.create_missing_tables::<(User, Item, Grade, Article, Gadget)>().await.unwrap();
        haus.check_schema::<(User, Item, Grade, Article, Gadget)>().await.unwrap();
        haus.store::<User>().create(user("ada")).await.unwrap();
        haus.store::<Gadget>().create(Gadget { id: 1, name: "a".into() }).await.unwrap();
        let made = world.statements();
        assert!(made.iter().any(|text| text.contains("CREATE TABLE")), "the watch sees definitions: {made:?}");
        assert!(!made.iter().any(|text| text.to_uppercase().contains("DROP ")), "{made:?}");

        // Again: nothing to do, and the rows are there.
        haus.create_missing_tables::<(User, Item, Grade, Article, Gadget)>().await.unwrap();
        assert_eq!(changes(&world.statements()), Vec::<String>::new());
        assert_eq!(haus.store::<User>().count().await.unwrap(), 1);

        let error = haus.create_missing_tables::<(GadgetThree,)>().await.unwrap_err();
        assert!(matches!(error, StorehausError::SchemaMismatch(_)), "{error}");
        assert!(error.to_string().contains("weight") && error.to_string().contains("the table has rows"), "{error}");
        let error = haus.check_schema::<(Gadget, GadgetThree)>().await.unwrap_err();
        assert!(error.to_string().contains("column weight is missing"), "{error}");
        if world.is_sqlite() {
            // SQLite adds no generated column to a table with rows.
            world.sql("DELETE FROM gadgets").await;
        }
        world.statements();
        haus.create_missing_tables::<(GadgetTwo,)>().await.unwrap();
        let made = changes(&world.statements());
        assert!(!made.iter().any(|text| text.to_uppercase().contains("DROP ")), "{made:?}");
        haus.check_schema::<(GadgetTwo, Gadget)>().await.unwrap();
        let gadgets = haus.store::<GadgetTwo>();
        let row = GadgetTwo { id: 2, name: "b".into(), color: None, loud: String::new() };
        assert_eq!(gadgets.create(row.clone()).await.unwrap().loud, "B");
        let error = gadgets.create(GadgetTwo { id: 3, ..row }).await.unwrap_err();
        assert!(matches!(error, StorehausError::Conflict(_)), "{error}");
        let index = if world.is_sqlite() {
            "SELECT COUNT(*) FROM sqlite_master WHERE type = 'index' AND name = 'gadgets_color_idx'"
        } else {
            "SELECT COUNT(*) FROM pg_indexes WHERE schemaname = current_schema() AND indexname = 'gadgets_color_idx'"
        };
        assert_eq!(world.number(index).await, 1);
    }

    once fn instances_that_start_at_once_make_the_tables_once(world) {
        let mut starts = tokio::task::JoinSet::new();
        for _ in 0..8 {
            let haus = world.haus.clone();
            starts.spawn(async move { haus.create_missing_tables::<(User, Item, Grade)>().await });
        }
        while let Some(done) = starts.join_next().await {
            done.unwrap().unwrap();
        }
        world.haus.check_schema::<(User, Item, Grade)>().await.unwrap();
    }

    /// A table that no longer fits is an error that names the column, and no row with something else in it.
    every fn drift_is_named_by_its_column(world) {
        world.haus.create_missing_tables::<(Item,)>().await.unwrap();
        let items = world.haus.store::<Item>();
        items.create(item(1, "a")).await.unwrap();
        if world.is_sqlite() {
            world.sql("DROP TABLE items; CREATE TABLE items (id INTEGER PRIMARY KEY, code TEXT, stock); INSERT INTO items VALUES (1, 'a', 'plenty')").await;
        } else {
            world.sql("ALTER TABLE items ALTER COLUMN stock TYPE TEXT USING 'plenty'").await;
        }
        for error in [
            lasting(|| async { items.get_by_id(&1i64).await.unwrap_err() }).await,
            lasting(|| async { items.get_many(&[1]).await.unwrap_err() }).await,
            items.list_all().await.unwrap_err(),
        ] {
            assert!(matches!(error, StorehausError::SchemaMismatch(_)), "{error}");
            assert_eq!(error.table(), Some("items"));
            assert!(error.to_string().contains("stock"), "{error}");
            assert!(!error.to_string().contains("plenty"), "the error quotes a row: {error}");
        }
        let error = world.haus.check_schema::<(Item,)>().await.unwrap_err();
        assert!(error.to_string().contains("column stock is"), "{error}");

        world.sql(if world.is_sqlite() {
            "UPDATE items SET stock = NULL"
        } else {
            "ALTER TABLE items ALTER COLUMN stock DROP NOT NULL; UPDATE items SET stock = NULL;
             ALTER TABLE items ALTER COLUMN stock TYPE INTEGER USING stock::integer"
        }).await;
        let error = lasting(|| async { items.get_by_id(&1i64).await.unwrap_err() }).await;
        assert!(matches!(error, StorehausError::SchemaMismatch(_)), "{error}");
        assert!(error.to_string().contains("stock") && error.to_string().contains("NULL"), "{error}");

        world.sql("ALTER TABLE items DROP COLUMN stock").await;
        let error = lasting(|| async { items.get_by_id(&1i64).await.unwrap_err() }).await;
        assert!(matches!(error, StorehausError::SchemaMismatch(_)), "{error}");
        assert!(error.to_string().contains("stock"), "{error}");
        let error = lasting(|| async { items.update(&1i64, item(1, "b")).await.unwrap_err() }).await;
        assert!(matches!(error, StorehausError::SchemaMismatch(_)), "{error}");
    }

    /// On Postgres a connection refuses a statement it prepared before the ALTER TABLE; it says so once and recovers.
    once fn a_table_altered_under_running_instances(world) {
        world.haus.create_missing_tables::<(Item,)>().await.unwrap();
        let items = world.haus.store::<Item>();
        items.create(item(1, "a")).await.unwrap();
        // The connections have the statements prepared, those for one row and those for several.
        for _ in 0..3 {
            futures_util::future::join_all((0..50).map(|_| items.get_by_id(&1i64))).await;
            items.get_by_id(&1i64).await.unwrap();
            items.list_all().await.unwrap();
        }
        world.sql(if world.is_sqlite() {
            "ALTER TABLE items ADD COLUMN note TEXT"
        } else {
            "ALTER TABLE items ALTER COLUMN code TYPE VARCHAR(50)"
        }).await;
        let mut refused = 0;
        for _ in 0..30 {
            match items.get_by_id(&1i64).await {
                Ok(row) => assert_eq!(row, Some(item(1, "a"))),
                Err(error) => {
                    assert!(matches!(error, StorehausError::Serialization(_)) && error.is_transient(), "{error}");
                    refused += 1;
                }
            }
            assert_eq!(items.list_all().await.unwrap(), [item(1, "a")]);
        }
        assert_eq!(refused >= 1, !world.is_sqlite(), "{refused}");
        assert!(refused <= 4, "{refused} refusals on 4 connections");
    }
}
