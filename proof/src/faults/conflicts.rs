//! Transactions that cannot go on, and SQLite: P4, P5, P9.

use std::time::Duration;

use storehaus::prelude::*;
use storehaus::sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use storehaus::sqlx::sqlite::{SqliteConnectOptions, SqlitePoolOptions};
use storehaus::sqlx::{self, Connection, PgConnection};

use super::absence::ends;
use super::item::Item;
use super::load::Shape;
use super::phase::kind;
use super::{Failure, Findings, PREFIX, Rig, patience};
use crate::account::Account;
use crate::rng::Rng;
use crate::server::{Server, temp_dir};

/// Timeouts, deadlocks and serialization failures, each from the database.
pub(super) async fn gives_up(rig: &Rig, findings: &mut Findings<'_>) -> Result<(), Failure> {
    let redis = Server::start().await?;
    let instance = async |settings: &[(&str, &str)]| {
        let options: PgConnectOptions = rig.database.parse()?;
        let pool = PgPoolOptions::new().max_connections(16).connect_with(options.options(settings.iter().copied()));
        let config = patience(CacheConfig::new(redis.url(), 600u64, PREFIX));
        Ok::<_, Failure>(StoreHaus::<Postgres>::builder().database(pool.await?).cache(config).build().await?)
    };
    rig.reset(KEYS).await?;
    let (store, alone) = (instance(&[]).await?.store::<Item>(), rig.alone.store::<Item>());
    for (setting, when) in [("lock_timeout", "lock timeout"), ("statement_timeout", "statement timeout")] {
        let impatient = instance(&[(setting, "150")]).await?.store::<Item>();
        impatient.get_by_id(&1).await?;
        let mut holder = PgConnection::connect(&rig.database).await?;
        let mut tx = holder.begin().await?;
        sqlx::query("SELECT 1 FROM proof_faults WHERE id = 1 FOR UPDATE").execute(&mut *tx).await?;
        let error = impatient.update(&1, Item::new(1)).await.err();
        let same = impatient.get_by_id(&1).await? == alone.get_by_id(&1).await?;
        tx.rollback().await?;
        let kind = error.as_ref().map_or("success", kind);
        findings.add(format_args!("{when}: the write ends in"), kind, "Timeout", kind == "Timeout");
        findings.add(format_args!("{when}: the cache has the row of the database"), same, "true", same);
    }

    let quick = [("deadlock_timeout", "10ms")];
    let deadlocking = instance(&quick).await?.store::<Item>();
    let (acknowledged, failed) = contend(rig, &deadlocking, 40).await?;
    lost(rig, &[&store, &deadlocking], findings, "deadlocks", acknowledged, failed).await?;

    let repeatable = [("default_transaction_isolation", "repeatable read")];
    let serializing = instance(&repeatable).await?.store::<Item>();
    let (acknowledged, failed) = contend(rig, &serializing, 1).await?;
    lost(rig, &[&store, &serializing], findings, "serialization failures", acknowledged, failed).await
}

/// Eight tasks update the same few rows, `batch` at a time in an order of their own, and read them; how many updates of a
/// row were acknowledged, and what the others ended in.
async fn contend(rig: &Rig, store: &GenericStore<Item>, batch: usize) -> Result<(i64, Vec<&'static str>), Failure> {
    rig.reset(KEYS).await?;
    for id in 1..=KEYS {
        // What the rows before the reset left in the cache goes.
        store.update(&id, Item::new(id)).await?;
    }
    let tasks: Vec<_> = (0..8)
        .map(|task| {
            let (store, mut rng) = (store.clone(), Rng::new(rig.seed, task));
            tokio::spawn(async move {
                let (mut acknowledged, mut failed) = (0, Vec::new());
                for _ in 0..40 {
                    let mut ids: Vec<i64> = (1..=KEYS).collect();
                    (1..ids.len()).rev().for_each(|at| ids.swap(at, rng.below(at as u64 + 1) as usize));
                    let rows: Vec<_> = if batch == 1 {
                        vec![Item::new(1 + rng.below(2) as i64)]
                    } else {
                        ids.iter().take(batch).map(|&id| Item::new(id)).collect()
                    };
                    let (first, count) = (rows[0].id, rows.len() as i64);
                    match store.update_many(rows.into_iter().map(|row| (row.id, row)).collect()).await {
                        Ok(_) => acknowledged += count,
                        Err(error) => failed.push(kind(&error)),
                    }
                    if store.get_by_id(&first).await.is_err() {
                        failed.push("a failed read");
                    }
                }
                (acknowledged, failed)
            })
        })
        .collect();
    let (mut acknowledged, mut failed) = (KEYS, Vec::new());
    for task in tasks {
        let (more, said) = task.await?;
        acknowledged += more;
        failed.extend(said);
    }
    Ok((acknowledged, failed))
}

/// Every update acknowledged is in the database once, and the cache has what the database has.
async fn lost(
    rig: &Rig,
    stores: &[&GenericStore<Item>],
    findings: &mut Findings<'_>,
    when: &str,
    acknowledged: i64,
    failed: Vec<&'static str>,
) -> Result<(), Failure> {
    let typed = failed.iter().all(|kind| *kind == "Serialization");
    findings.add(
        format_args!("{when}: writes that ended so"),
        failed.len(),
        "some, all as Serialization",
        typed && !failed.is_empty(),
    );
    let sum = sqlx::query_scalar::<_, i64>("SELECT sum(version)::bigint FROM proof_faults");
    let applied = sum.fetch_one(rig.alone.pool()).await?;
    let figure = format!("{applied} applied, {acknowledged} acknowledged");
    findings.add(format_args!("{when}: updates"), figure, "equal", applied == acknowledged);
    let mut differ = 0;
    for id in 1..=KEYS {
        let row = rig.alone.store::<Item>().get_by_id(&id).await?;
        for store in stores {
            differ += u64::from(store.get_by_id(&id).await? != row);
        }
    }
    findings.add(format_args!("{when}: rows that differ"), differ, "0", differ == 0);
    Ok(())
}

/// Transactions change rows and end without a commit: rolled back, dropped, or ended by the server.
pub(super) async fn uncommitted(rig: &Rig, findings: &mut Findings<'_>) -> Result<(), Failure> {
    let redis = Server::start().await?;
    let (one, other) = (rig.thorough(&redis.url()).await?, rig.thorough(&redis.url()).await?);
    let load = rig.load(Shape { writes: 2, ..Shape::HOT }, &[&one, &other]).await?;
    let options: PgConnectOptions = rig.database.parse()?;
    let options = options.options([("idle_in_transaction_session_timeout", "30")]);
    let pool = PgPoolOptions::new().max_connections(4).connect_with(options).await?;
    let (mut rng, mut ended, mut killed) = (Rng::new(rig.seed, 77), 0, 0);
    drop(load.take());
    let over = std::time::Instant::now() + rig.load_for;
    while std::time::Instant::now() < over {
        let id = 1 + rng.below(8) as i64;
        let (how, idle) = (rng.below(3), Duration::from_millis(60));
        let transaction = async {
            let mut tx = pool.begin().await?;
            // No row of any key has such a note.
            sqlx::query("UPDATE proof_faults SET note = 'uncommitted' WHERE id = $1")
                .bind(id)
                .execute(&mut *tx)
                .await?;
            match how {
                0 => tx.rollback().await?,
                1 => drop(tx),
                _ => {
                    tokio::time::sleep(idle).await;
                    sqlx::query("SELECT 1").execute(&mut *tx).await?;
                }
            }
            Ok::<_, sqlx::Error>(())
        };
        ended += 1;
        killed += u64::from(transaction.await.is_err());
    }
    load.take().is_sound(findings, &format!("{ended} transactions not committed"));
    findings.add("of those ended by the server", killed, "some", killed > 0);
    ends(load, findings).await
}

/// Rows are changed and read in a transaction, read past it meanwhile, and rolled back.
pub(super) async fn rolled_back(rig: &Rig, findings: &mut Findings<'_>) -> Result<(), Failure> {
    let redis = Server::start().await?;
    let one = rig.patient(&redis.url()).await?;
    rig.reset(KEYS).await?;
    let store = one.store::<Item>();
    for id in 1..=KEYS {
        // Half of the rows are cached before, the others during.
        if id % 2 == 0 {
            store.get_by_id(&id).await?;
        }
    }
    one.cache()?.settle().await;
    let mut wrong = 0;
    for id in 1..=KEYS {
        let mut tx = one.pool().begin().await?;
        sqlx::query("UPDATE proof_faults SET note = 'uncommitted' WHERE id = $1").bind(id).execute(&mut *tx).await?;
        wrong += u64::from(!store.get_by_id(&id).await?.is_some_and(|row| row.is_of(id) && row.version == 0));
        tx.rollback().await?;
    }
    one.cache()?.settle().await;
    let loads = one.cache()?.get_stats().await?.total.loads;
    for id in 1..=KEYS {
        wrong += u64::from(!store.get_by_id(&id).await?.is_some_and(|row| row.is_of(id) && row.version == 0));
    }
    let lost = one.cache()?.get_stats().await?.total.loads - loads;
    findings.add("rolled back: wrong rows", format_args!("{wrong} of {}", KEYS * 2), "0", wrong == 0);
    findings.add("rolled back: cached rows lost", lost, "0", lost == 0);
    Ok(())
}

/// SQLite: another writer holds the database, and the disk is full.
pub(super) async fn sqlite(_: &Rig, findings: &mut Findings<'_>) -> Result<(), Failure> {
    let dir = temp_dir("sqlite")?;
    let found = sqlite_in(&dir.join("faults.db"), findings).await;
    std::fs::remove_dir_all(&dir)?;
    found
}

async fn sqlite_in(file: &std::path::Path, findings: &mut Findings<'_>) -> Result<(), Failure> {
    let options = SqliteConnectOptions::new()
        .filename(file)
        .create_if_missing(true)
        .journal_mode(sqlx::sqlite::SqliteJournalMode::Wal)
        .busy_timeout(Duration::from_millis(150));
    let open = async |pages: u32| {
        let options = options.clone().pragma("max_page_count", pages.to_string());
        let pool = SqlitePoolOptions::new().max_connections(2).connect_with(options).await?;
        let config = CacheConfig::in_process(600u64, PREFIX);
        Ok::<_, Failure>(StoreHaus::<Sqlite>::builder().database(pool).cache(config).build().await?)
    };
    let haus = open(30).await?;
    haus.create_missing_tables::<(Account,)>().await?;
    let store = haus.store::<Account>();
    store.create(Account::new(1, 0)).await?;
    store.get_by_id(&1).await?;

    let mut holder = sqlx::SqliteConnection::connect_with(&options).await?;
    let tx = holder.begin_with("BEGIN IMMEDIATE").await?;
    let error = store.update(&1, Account::new(1, 1)).await.err();
    let kind_of = error.as_ref().map_or("success", kind);
    findings.add("another writer: the write ends in", kind_of, "Timeout", kind_of == "Timeout");
    let version = store.require(&1).await?.version;
    findings.add("another writer: the row", format_args!("version {version}"), "version 0", version == 0);
    tx.rollback().await?;
    let version = store.update(&1, Account::new(1, 2)).await?.version;
    findings.add("another writer gone: the write", format_args!("version {version}"), "version 2", version == 2);

    let (mut acknowledged, mut kinds) = (vec![Account::new(1, 2)], Vec::new());
    for id in 2..2_000 {
        match store.create(Account::new(id, 0)).await {
            Ok(row) => acknowledged.push(row),
            Err(error) => kinds.push(kind(&error)),
        }
        if kinds.len() == 20 {
            break;
        }
    }
    let full = kinds.len() == 20 && kinds.iter().all(|kind| *kind == "Unavailable");
    kinds.dedup();
    findings.add("disk full: writes end in", kinds.join(", "), "Unavailable", full);
    let mut lost = 0;
    for row in &acknowledged {
        lost += u64::from(store.get_by_id(&row.id).await?.as_ref() != Some(row));
    }
    haus.shutdown(Duration::from_secs(5)).await?;
    let haus = open(100_000).await?;
    let store = haus.store::<Account>();
    for row in &acknowledged {
        lost += u64::from(store.get_by_id(&row.id).await?.as_ref() != Some(row));
    }
    let count = store.count().await?;
    let figure = format!("{lost} of {}; {count} rows", acknowledged.len());
    findings.add(
        "disk full: acknowledged writes lost",
        figure,
        "0, as many rows",
        lost == 0 && count == acknowledged.len() as u64,
    );
    let again = store.create(Account::new(9_999, 0)).await.is_ok();
    findings.add("room again: a write succeeds", again, "true", again);
    haus.shutdown(Duration::from_secs(5)).await?;
    Ok(())
}

const KEYS: i64 = 64;
