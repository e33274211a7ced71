//! PostgreSQL that stops, hangs, or ends a connection: P1 to P3, P6, P7.

use std::time::{Duration, Instant};

use storehaus::prelude::*;
use storehaus::sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use storehaus::sqlx::{self, Connection, PgConnection};

use super::absence::ends;
use super::item::Item;
use super::load::Shape;
use super::phase::{Op, kind};
use super::{Failure, Findings, PREFIX, Rig, patience, until};
use crate::postgres;
use crate::proxy::Proxy;
use crate::server::{Server, signal};

/// How long a call may wait for a connection: the default of a pool opened by its URL.
const ACQUIRE: Duration = Duration::from_secs(2);

/// The server is stopped at once, and started again.
pub(super) async fn stopped(rig: &Rig, findings: &mut Findings<'_>) -> Result<(), Failure> {
    let redis = Server::start().await?;
    let mut server = postgres::Postgres::start(&[]).await?;
    let rig = rig.on(&server.url()).await?;
    let one = rig.patient(&redis.url()).await?;
    rig.reset(200).await?;
    let store = one.store::<Item>();
    for id in 1..=100 {
        store.get_by_id(&id).await?;
    }
    one.cache()?.settle().await;
    server.stop()?;

    let calls = (0..16i64).map(|task| {
        let store = store.clone();
        tokio::spawn(async move {
            let (mut hits, mut kinds, mut slowest) = (0, Vec::new(), Duration::ZERO);
            for turn in 0..3 {
                for id in 1..=100 {
                    hits += u64::from(store.get_by_id(&id).await.is_ok_and(|row| row.is_some_and(|row| row.is_of(id))));
                }
                let id = 101 + task;
                let started = Instant::now();
                let error = if turn == 1 {
                    store.update(&id, Item::new(id)).await.err()
                } else {
                    store.get_by_id(&id).await.err()
                };
                slowest = slowest.max(started.elapsed());
                kinds.push(error.as_ref().map_or("success", kind));
            }
            (hits, kinds, slowest)
        })
    });
    let (mut hits, mut kinds, mut slowest) = (0, Vec::new(), Duration::ZERO);
    for call in calls.collect::<Vec<_>>() {
        let (more, said, took) = call.await?;
        hits += more;
        kinds.extend(said);
        slowest = slowest.max(took);
    }
    findings.add("database stopped: hits served", format_args!("{hits} of 4800"), "all", hits == 4_800);
    let typed = kinds.iter().all(|kind| ["Timeout", "Unavailable", "OutcomeUnknown"].contains(kind));
    kinds.sort_unstable();
    kinds.dedup();
    findings.add("database stopped: misses and writes end in", kinds.join(", "), "Timeout or Unavailable", typed);
    let limit = ACQUIRE + FOR_THE_MACHINE;
    findings.add(
        "database stopped: slowest of them",
        format_args!("{slowest:.2?}"),
        format_args!("{ACQUIRE:?} + {FOR_THE_MACHINE:?}"),
        slowest <= limit,
    );

    // Callers go on trying all the while.
    let (waiting, over) = (store.clone(), Instant::now() + Duration::from_secs(20));
    let callers: Vec<_> = (0..32i64)
        .map(|caller| {
            let store = waiting.clone();
            tokio::spawn(async move {
                while Instant::now() < over {
                    if store.get_by_id(&(101 + caller)).await.is_ok() {
                        return Some(Instant::now());
                    }
                }
                None
            })
        })
        .collect();
    server.launch()?;
    let ready = server.accepts().await?;
    let mut first = None::<Instant>;
    for caller in callers {
        first = caller.await?.into_iter().chain(first).min();
    }
    let after = first.map(|first| first.saturating_duration_since(ready));
    let figure = after.map_or_else(|| "never".to_owned(), |after| format!("after {after:.0?}"));
    let ok = after.is_some_and(|after| after <= Duration::from_millis(500));
    findings.add("database up: first success", figure, "500ms after it accepts", ok);
    Ok(())
}

/// Backends are terminated, mostly while they work.
pub(super) async fn terminated(rig: &Rig, findings: &mut Findings<'_>) -> Result<(), Failure> {
    let redis = Server::start().await?;
    let server = postgres::Postgres::start(&[]).await?;
    let rig = rig.on(&server.url()).await?;
    let (one, other) = (rig.thorough(&redis.url()).await?, rig.thorough(&redis.url()).await?);
    let load = rig.load(Shape { writes: 30, ..Shape::HOT }, &[&one, &other]).await?;
    load.watch(rig.load_for / 4).await.is_sound(findings, "before");
    let mut admin = PgConnection::connect(&server.url()).await?;
    let (started, mut killed) = (Instant::now(), 0);
    drop(load.take());
    while started.elapsed() < rig.load_for {
        let statement = "SELECT count(pg_terminate_backend(pid)) FROM (SELECT pid FROM pg_stat_activity
             WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()
             ORDER BY state = 'active' DESC, random() LIMIT 1) AS one";
        killed += sqlx::query_scalar::<_, i64>(statement).fetch_one(&mut admin).await?;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let phase = load.take();
    phase.is_strict(findings, &format!("{killed} backends terminated"), &[(Op::Write, "OutcomeUnknown")]);
    ends(load, findings).await
}

/// A backend stands still in the middle of a statement.
pub(super) async fn backend_hung(rig: &Rig, findings: &mut Findings<'_>) -> Result<(), Failure> {
    let redis = Server::start().await?;
    let server = postgres::Postgres::start(&[]).await?;
    let rig = rig.on(&server.url()).await?;
    rig.reset(16).await?;
    let deadline = Duration::from_millis(500);
    let mut reached = Vec::new();
    for _ in 0..3 {
        // One connection: whoever comes next gets it, unless it is given up.
        let pool = PgPoolOptions::new().max_connections(1).acquire_timeout(ACQUIRE).connect(&server.url()).await?;
        let process: i32 = sqlx::query_scalar("SELECT pg_backend_pid()").fetch_one(&pool).await?;
        let config = patience(CacheConfig::new(redis.url(), 600u64, PREFIX)).with_load_timeout(deadline);
        let one = StoreHaus::<Postgres>::builder().database(pool).cache(config).build().await?;
        let store = one.store::<Item>();
        let id = reached.len() as i64 + 1;
        // The pool pings what it takes back.
        until(ACQUIRE * 5, async || one.pool().num_idle() == 1).await;
        signal(process as u32, "-STOP")?;
        let started = Instant::now();
        let error = store.get_by_id(&id).await.err();
        let took = started.elapsed();
        let again = until(ACQUIRE * 5, async || store.get_by_id(&(id + 8)).await.is_ok()).await;
        signal(process as u32, "-CONT")?;
        reached.push((error.as_ref().map_or("success", kind), took, again));
    }
    let typed = reached.iter().all(|(kind, ..)| *kind == "Timeout");
    let kinds: Vec<_> = reached.iter().map(|(kind, ..)| *kind).collect();
    findings.add("backend hung: reads end in", kinds.join(", "), "Timeout", typed);
    let slowest = reached.iter().map(|(_, took, _)| *took).max().unwrap_or_default();
    let limit = deadline + Duration::from_millis(50);
    findings.add(
        "backend hung: slowest read",
        format_args!("{slowest:.0?}"),
        format_args!("{limit:?}"),
        slowest <= limit,
    );
    let given_up = reached.iter().filter(|(.., again)| *again).count();
    findings.add("backend hung: connection given up", format_args!("{given_up} of 3"), "3", given_up == 3);
    Ok(())
}

/// The reply to a write is lost on the way, after the database applied it.
pub(super) async fn reply_lost(rig: &Rig, findings: &mut Findings<'_>) -> Result<(), Failure> {
    let redis = Server::start().await?;
    let direct: PgConnectOptions = rig.database.parse()?;
    let proxy = Proxy::start(format!("{}:{}", direct.get_host(), direct.get_port()).parse()?).await?;
    let behind = direct.host("127.0.0.1").port(proxy.addr().port());
    // One connection, whose statements are prepared: then a single message applies the write.
    let pool = PgPoolOptions::new().max_connections(1).acquire_timeout(ACQUIRE).test_before_acquire(false);
    let pool = pool.connect_with(behind).await?;
    let config = patience(CacheConfig::new(redis.url(), 600u64, PREFIX));
    let one = StoreHaus::<Postgres>::builder().database(pool).cache(config).build().await?;
    let other = rig.patient(&redis.url()).await?;
    rig.reset(TRIALS + 1).await?;
    let (store, elsewhere, alone) = (one.store::<Item>(), other.store::<Item>(), rig.alone.store::<Item>());
    let (mut applied, mut unknown, mut stale) = (0, 0, 0);
    for id in 1..=TRIALS {
        // The first may meet the connection that was cut.
        until(ACQUIRE * 5, async || store.update(&(TRIALS + 1), Item::new(TRIALS + 1)).await.is_ok()).await;
        store.get_by_id(&id).await?;
        one.cache()?.settle().await;
        // The pool pings what it takes back; a reply held then would keep the connection from everybody.
        until(ACQUIRE * 5, async || one.pool().num_idle() == 1).await;
        proxy.hold_replies(true);
        let writing = tokio::spawn({
            let store = store.clone();
            async move { store.update(&id, Item::new(id)).await }
        });
        let there = async || alone.get_by_id(&id).await.is_ok_and(|row| row.is_some_and(|row| row.version == 1));
        let is_applied = until(ACQUIRE * 5, there).await;
        applied += u64::from(is_applied);
        proxy.cut();
        let ended = writing.await?;
        proxy.hold_replies(false);
        unknown += u64::from(matches!(ended, Err(StorehausError::OutcomeUnknown(_))));
        for store in [&store, &elsewhere] {
            stale += u64::from(is_applied && store.get_by_id(&id).await?.is_none_or(|row| row.version < 1));
        }
    }
    findings.add("reply lost: writes applied", format_args!("{applied} of {TRIALS}"), "all", applied == TRIALS as u64);
    findings.add("reply lost: they end in OutcomeUnknown", unknown, "all", unknown == TRIALS as u64);
    findings.add("reply lost: stale reads", format_args!("{stale} of {}", TRIALS * 2), "0", stale == 0);
    Ok(())
}

/// More connections are wanted than the server has.
pub(super) async fn crowded(rig: &Rig, findings: &mut Findings<'_>) -> Result<(), Failure> {
    let redis = Server::start().await?;
    let server = postgres::Postgres::start(&["max_connections=25"]).await?;
    let rig = rig.on(&server.url()).await?;
    rig.reset(600).await?;
    let mut clients = Vec::new();
    for _ in 0..6 {
        // Its first connection comes before the storm.
        clients.push(rig.patient(&redis.url()).await?.store::<Item>());
    }
    let over = Instant::now() + rig.load_for.max(ACQUIRE + ACQUIRE / 2);
    let calls: Vec<_> = (0..120i64)
        .map(|caller| {
            let store = clients[caller as usize % clients.len()].clone();
            tokio::spawn(async move {
                let (mut served, mut kinds, mut slowest) = (0u64, Vec::new(), Duration::ZERO);
                while Instant::now() < over {
                    // Writes ask the database whatever the cache has.
                    let id = caller + 1;
                    let started = Instant::now();
                    match store.update(&id, Item::new(id)).await {
                        Ok(_) => served += 1,
                        Err(error) => kinds.push(kind(&error)),
                    }
                    slowest = slowest.max(started.elapsed());
                }
                (served, kinds, slowest)
            })
        })
        .collect();
    let (mut served, mut kinds, mut slowest) = (0, Vec::new(), Duration::ZERO);
    for call in calls {
        let (more, said, took) = call.await?;
        served += more;
        kinds.extend(said);
        slowest = slowest.max(took);
    }
    let typed = kinds.iter().all(|kind| ["Timeout", "Unavailable"].contains(kind));
    let failed = kinds.len();
    kinds.sort_unstable();
    kinds.dedup();
    findings.add("connection storm: writes served", served, "some", served > 100);
    let figure = format!("{failed} {}", kinds.join(", "));
    findings.add("connection storm: the rest ends in", figure, "Timeout or Unavailable", typed);
    let limit = ACQUIRE + FOR_THE_MACHINE;
    findings.add(
        "connection storm: longest wait",
        format_args!("{slowest:.2?}"),
        format_args!("{ACQUIRE:?} + {FOR_THE_MACHINE:?}"),
        slowest <= limit,
    );
    Ok(())
}

const TRIALS: i64 = 50;
/// What a timer and a busy machine may add to a wait for a connection.
const FOR_THE_MACHINE: Duration = Duration::from_millis(250);
