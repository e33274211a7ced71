//! Models of views: what a view cannot answer is no difference, and a view is not altered.

use super::*;

model!(Base, "base", schema None, key (id): i64 = [0], {
    id: i64 = Role::Key,
    name: String = Role::Plain,
    nick: Option<String> = Role::Plain,
}, []);

model!(Shown, "shown", schema None, key (id): i64 = [0], {
    id: i64 = Role::Key,
    name: String = Role::Plain,
    double: i64 = Role::Generated(None),
}, []);

model!(Indexed, "shown", schema None, key (id): i64 = [0], {
    id: i64 = Role::Key,
    name: String = Role::Plain,
}, [index(&[1])]);

const WHOLE: &str = "SELECT id, name, id + id AS double FROM base";

async fn views_are_read<DB: Backend + Inspect>(conn: &mut DB::Connection)
where
    Base: Persist<DB>,
    Shown: Persist<DB>,
    Indexed: Persist<DB>,
{
    create_missing::<DB, Base>(conn).await.unwrap();
    run::<DB>(conn, "INSERT INTO base (name) VALUES ('a')").await;
    let query = sql("SELECT id, name, double FROM shown");

    run::<DB>(conn, &format!("CREATE VIEW shown AS {WHOLE}")).await;
    let row = DB::fetch_optional(conn, query, DB::Arguments::default()).await.unwrap().unwrap();
    let shown = Shown::from_row(&row).unwrap();
    assert_eq!((&*shown.name, shown.double), ("a", shown.id * 2));
    assert_eq!(differences::<DB, Shown>(conn).await, [""; 0]);
    // A view has no index; there is nothing to add but that.
    assert_eq!(differences::<DB, Indexed>(conn).await, [""; 0]);
    create_missing::<DB, Shown>(conn).await.unwrap();
    let refused = refusal(create_missing::<DB, Indexed>(conn).await);
    let want = "table shown: column name: the index is missing from the view, which is not altered; declare it on the \
                model of the table beneath";
    assert_eq!(refused, want);

    // Its columns and their types are compared.
    run::<DB>(conn, "DROP VIEW shown").await;
    run::<DB>(conn, "CREATE VIEW shown AS SELECT id, id AS name FROM base").await;
    let found = check::<DB, Shown>(conn).await.unwrap();
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(matches!(&found[0], Difference::TypeDiffers { column, .. } if column == "name"), "{found:?}");
    assert_eq!(found[1].to_string(), "table shown: column double is missing; add it by a migration");
    let refused = refusal(create_missing::<DB, Shown>(conn).await);
    let want = "table shown: column double: it is missing from the view, which is not altered; add it to the query by \
                a migration";
    assert_eq!(refused, want);
    // Nothing was done to it, and a plain column has no statement that adds it either.
    run::<DB>(conn, "DROP VIEW shown").await;
    run::<DB>(conn, "CREATE VIEW shown AS SELECT id, id + id AS double FROM base").await;
    let want = ["table shown: column name is missing; add it by a migration"];
    assert_eq!(differences::<DB, Shown>(conn).await, want);
}

#[tokio::test]
async fn views_are_read_on_sqlite() {
    views_are_read::<Sqlite>(&mut sqlite().await).await;
}

#[tokio::test]
async fn views_are_read_on_postgres() {
    let Some(mut conn) = postgres("sh_views").await else { return };
    views_are_read::<Postgres>(&mut conn).await;
}

#[tokio::test]
async fn computed_columns_of_a_view_have_any_type_on_sqlite() {
    let mut conn = sqlite().await;
    create_missing::<Sqlite, Base>(&mut conn).await.unwrap();
    for view in [
        "SELECT 1 AS id, 'a' AS name, COUNT(*) AS double FROM base",
        "SELECT id, name || 'a' AS name, CAST(id AS INTEGER) AS double FROM base",
        "SELECT id, CAST(id AS TEXT) AS name, CAST('2' AS INTEGER) AS double FROM base UNION ALL \
         SELECT 1, lower('A'), 2",
        "SELECT id, name, id AS double FROM base UNION ALL SELECT 1, coalesce(nick, name), abs(id) FROM base",
        "SELECT id, (SELECT max(name) FROM base) AS name, CASE id WHEN 1 THEN 2 ELSE 3 END AS double FROM base",
    ] {
        run::<Sqlite>(&mut conn, &format!("CREATE VIEW shown AS {view}")).await;
        assert_eq!(differences::<Sqlite, Shown>(&mut conn).await, [""; 0], "{view}");
        run::<Sqlite>(&mut conn, "DROP VIEW shown").await;
    }
    // The declared type of a column that the view hands on, and of a cast, is known.
    for view in
        ["SELECT id, id AS name, id AS double FROM base", "SELECT id, CAST(id AS REAL) AS name, 1 AS double FROM base"]
    {
        run::<Sqlite>(&mut conn, &format!("CREATE VIEW shown AS {view}")).await;
        let found = check::<Sqlite, Shown>(&mut conn).await.unwrap();
        assert!(matches!(&*found, [Difference::TypeDiffers { column, .. }] if column == "name"), "{view}: {found:?}");
        run::<Sqlite>(&mut conn, "DROP VIEW shown").await;
    }
}

#[tokio::test]
async fn a_temporary_name_comes_first_on_sqlite() {
    let mut conn = sqlite().await;
    create_missing::<Sqlite, Base>(&mut conn).await.unwrap();
    // A view hides the table of its name, a table the view.
    run::<Sqlite>(&mut conn, "CREATE TABLE shown (id INTEGER PRIMARY KEY)").await;
    run::<Sqlite>(&mut conn, &format!("CREATE TEMP VIEW Shown AS {WHOLE}")).await;
    assert_eq!(differences::<Sqlite, Shown>(&mut conn).await, [""; 0]);
    run::<Sqlite>(&mut conn, "DROP VIEW temp.shown").await;
    run::<Sqlite>(&mut conn, "DROP TABLE shown").await;
    run::<Sqlite>(&mut conn, &format!("CREATE VIEW shown AS {WHOLE}")).await;
    run::<Sqlite>(&mut conn, "CREATE TEMP TABLE shown (id INTEGER, name TEXT NOT NULL, double INTEGER)").await;
    let found = differences::<Sqlite, Shown>(&mut conn).await;
    assert_eq!(found.len(), 3, "may be NULL, not assigned, no key: {found:?}");
}

#[tokio::test]
async fn an_updatable_view_is_written_on_postgres() {
    let Some(mut conn) = postgres("sh_updatable").await else { return };
    for statement in [
        "CREATE DOMAIN title AS TEXT NOT NULL",
        "CREATE TABLE base (id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name title, more title DEFAULT 'm')",
        "CREATE VIEW shown AS SELECT id, name, id + id AS double, more FROM base",
    ] {
        run::<Postgres>(&mut conn, statement).await;
    }
    let statement = sql("INSERT INTO shown (name) VALUES ('a') RETURNING id, name, double");
    let row = Postgres::fetch_optional(&mut conn, statement, Default::default()).await.unwrap().unwrap();
    let shown = <Shown as Persist<Postgres>>::from_row(&row).unwrap();
    assert_eq!((&*shown.name, shown.double), ("a", shown.id * 2));
    assert_eq!(differences::<Postgres, Shown>(&mut conn).await, [""; 0]);
}

#[tokio::test]
async fn a_materialized_view_has_indexes_on_postgres() {
    let Some(mut conn) = postgres("sh_materialized").await else { return };
    create_missing::<Postgres, Base>(&mut conn).await.unwrap();
    run::<Postgres>(&mut conn, &format!("CREATE MATERIALIZED VIEW shown AS {WHOLE}")).await;
    assert_eq!(differences::<Postgres, Shown>(&mut conn).await, [""; 0]);
    create_missing::<Postgres, Shown>(&mut conn).await.unwrap();

    let found = differences::<Postgres, Indexed>(&mut conn).await;
    let fix = "CREATE INDEX IF NOT EXISTS \"shown_name_idx\" ON \"shown\" (\"name\")";
    assert_eq!(found, [format!("table shown: the index on name is missing; add it: {fix}")]);
    let refused = refusal(create_missing::<Postgres, Indexed>(&mut conn).await);
    let want = "table shown: column name: the index is missing from the materialized view, which is not altered; add \
                it by a migration";
    assert_eq!(refused, want);
    run::<Postgres>(&mut conn, fix).await;
    assert_eq!(differences::<Postgres, Indexed>(&mut conn).await, [""; 0]);
    create_missing::<Postgres, Indexed>(&mut conn).await.unwrap();
}
