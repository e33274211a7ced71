//! What stands in Redis, or what it says stands there, is not what was put there: R13 to R19.

use std::time::{Duration, Instant};

use storehaus::prelude::*;

use super::absence::{ends, returns};
use super::fake::Parrot;
use super::item::Item;
use super::load::{Load, Shape};
use super::refusals::say;
use super::{Failure, Findings, PREFIX, Rig, patience, thoroughness, until};
use crate::proxy::{Prank, Proxy};
use crate::server::{Server, url_of};

/// A key holds a list.
pub(super) async fn wrong_type(rig: &Rig, findings: &mut Findings<'_>) -> Result<(), Failure> {
    let redis = Server::start().await?;
    let one = rig.patient(&redis.url()).await?;
    rig.reset(64).await?;
    let (store, manager) = (one.store::<Item>(), one.cache()?);
    let mut admin = redis.connect().await?;
    for id in 1..=64 {
        store.get_by_id(&id).await?;
    }
    manager.settle().await;
    for id in 1..=64i64 {
        let key = store.cache_key(&id)?;
        say(&mut admin, &format!("DEL {key}")).await?;
        say(&mut admin, &format!("LPUSH {key} a b c")).await?;
    }
    let loads = async || manager.get_stats().await.map_or(0, |stats| stats.total.loads);
    let before = loads().await;
    let mut wrong = 0;
    for _ in 0..10 {
        for id in 1..=64 {
            wrong += u64::from(!store.get_by_id(&id).await?.is_some_and(|row| row.is_of(id)));
        }
        manager.settle().await;
    }
    let loaded = loads().await - before;
    findings.add("wrong type: wrong rows", format_args!("{wrong} of 640 reads"), "0", wrong == 0);
    findings.add("wrong type: rows loaded", format_args!("{loaded} for 64 keys"), "64, one a key", loaded == 64);

    for id in 1..=64i64 {
        let key = store.cache_key(&id)?;
        say(&mut admin, &format!("DEL {key}")).await?;
        say(&mut admin, &format!("LPUSH {key} a b c")).await?;
    }
    let before = loads().await;
    let ids: Vec<i64> = (1..=64).collect();
    for _ in 0..10 {
        let rows = store.get_many(&ids).await?;
        wrong +=
            ids.iter().zip(rows).filter(|(id, row)| !row.as_ref().is_some_and(|row| row.is_of(**id))).count() as u64;
        manager.settle().await;
    }
    let loaded = loads().await - before;
    findings.add("wrong type, batch: wrong rows", format_args!("{wrong} of 640"), "0", wrong == 0);
    findings.add("wrong type, batch: rows loaded", format_args!("{loaded} for 64 keys"), "64, one a key", loaded == 64);
    Ok(())
}

/// The replica that takes over has not heard of the last removals.
pub(super) async fn failover(rig: &Rig, findings: &mut Findings<'_>) -> Result<(), Failure> {
    let (mut master, replica) = (Server::start().await?, Server::start().await?);
    // Between the two servers, and between the instances and whichever is master.
    let (between, front) = (Proxy::start(master.addr()).await?, Proxy::start(master.addr()).await?);
    let (one, other) = (rig.thorough(&url_of(front.addr())).await?, rig.thorough(&url_of(front.addr())).await?);
    let mut second = replica.connect().await?;
    say(&mut second, &format!("REPLICAOF 127.0.0.1 {}", between.addr().port())).await?;
    let load = rig.load(Shape::HOT, &[&one, &other]).await?;
    let linked = async || {
        let text: redis::RedisResult<String> =
            redis::cmd("INFO").arg("replication").query_async(&mut second.clone()).await;
        text.is_ok_and(|text| text.contains("master_link_status:up"))
    };
    let linked = until(Duration::from_secs(10), linked).await;
    findings.add("failover: replica follows", linked, "true", linked);
    load.watch(rig.load_for / 2).await.is_sound(findings, "replicated");
    between.drop_silently(true);
    load.watch(rig.load_for / 4).await.is_sound(findings, "replica cut off");
    master.kill()?;
    say(&mut second, "REPLICAOF NO ONE").await?;
    let held: u64 = redis::cmd("DBSIZE").query_async(&mut second).await?;
    front.retarget(replica.addr());
    front.cut();
    returns(&load, findings, "replica promoted", Duration::from_millis(500)).await;
    load.watch(rig.load_for / 2).await.is_sound(findings, "replica promoted");
    findings.add("failover: rows the replica brought along", held, "some", held > 0);
    let outdated: u64 = load.stats().await.iter().map(|stats| stats.total.outdated).sum();
    findings.add("failover: rows refused for their server", outdated, "some", outdated > 0);
    ends(load, findings).await
}

/// A restart brings back what was removed after the last snapshot.
pub(super) async fn snapshot(rig: &Rig, findings: &mut Findings<'_>) -> Result<(), Failure> {
    let mut redis = Server::start().await?;
    let (one, other) = (rig.thorough(&redis.url()).await?, rig.thorough(&redis.url()).await?);
    let load = rig.load(Shape::HOT, &[&one, &other]).await?;
    let mut held = 0;
    for round in 1..=3 {
        load.watch(rig.load_for / 4).await.is_sound(findings, &format!("round {round}: before"));
        let mut admin = redis.connect().await?;
        say(&mut admin, "SAVE").await?;
        load.watch(rig.load_for / 8).await.is_sound(findings, &format!("round {round}: saved"));
        redis.kill()?;
        redis.restart().await?;
        let mut admin = redis.connect().await?;
        held += redis::cmd("DBSIZE").query_async::<u64>(&mut admin).await?;
        returns(&load, findings, &format!("round {round}: restarted"), Duration::from_millis(500)).await;
        load.watch(rig.load_for / 4).await.is_sound(findings, &format!("round {round}: restarted"));
    }
    findings.add("snapshot: rows brought back", held, "some", held > 0);
    ends(load, findings).await
}

/// Everything, the scripts, or nothing but the configuration file is flushed again and again.
pub(super) async fn flushed(rig: &Rig, findings: &mut Findings<'_>) -> Result<(), Failure> {
    let redis = Server::start().await?;
    let (one, other) = (rig.patient(&redis.url()).await?, rig.patient(&redis.url()).await?);
    let load = rig.load(Shape::HOT, &[&one, &other]).await?;
    let mut admin = redis.connect().await?;
    drop(load.take());
    let (started, mut flushes) = (Instant::now(), 0);
    while started.elapsed() < rig.load_for {
        for command in ["FLUSHALL", "SCRIPT FLUSH", "CONFIG REWRITE", "FLUSHALL ASYNC"] {
            // There is no configuration file: REWRITE fails, after it did what it does.
            let refused = say(&mut admin, command).await.is_err();
            flushes += u64::from(!refused);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
    load.take().is_sound(findings, &format!("{flushes} flushes"));
    ends(load, findings).await?;

    // Every key asked for by 64 readers at once, right after all of them are gone.
    rig.reset(64).await?;
    let stores = [one.store::<Item>(), other.store::<Item>()];
    let loads = async || {
        let (one, other) = (one.cache()?.get_stats().await?, other.cache()?.get_stats().await?);
        Ok::<_, Failure>(one.total.loads + other.total.loads)
    };
    let (mut most, mut wrong) = (0, 0);
    for _ in 0..10 {
        say(&mut admin, "FLUSHALL").await?;
        say(&mut admin, "SCRIPT FLUSH").await?;
        let before = loads().await?;
        let readers: Vec<_> = (0..64)
            .map(|reader| {
                let store = stores[reader % 2].clone();
                tokio::spawn(async move {
                    let mut wrong = 0;
                    for id in 1..=64 {
                        let read = store.get_by_id(&id).await;
                        wrong += u64::from(!read.is_ok_and(|row| row.is_some_and(|row| row.is_of(id))));
                    }
                    wrong
                })
            })
            .collect();
        for reader in readers {
            wrong += reader.await?;
        }
        one.cache()?.settle().await;
        other.cache()?.settle().await;
        most = most.max(loads().await? - before);
    }
    findings.add("stampede of 64 readers on 64 keys: wrong", wrong, "0", wrong == 0);
    let figure = format!("{most} rows at most, two instances");
    findings.add("stampede: loaded", figure, "128, one a key and instance", most <= 128);
    Ok(())
}

/// Replies are lost, repeated, cut off, spoiled, or those of another protocol altogether.
pub(super) async fn garbled(rig: &Rig, findings: &mut Findings<'_>) -> Result<(), Failure> {
    let redis = Server::start().await?;
    let proxy = Proxy::start(redis.addr()).await?;
    // One connection for all, so that a reply too many shifts everybody's.
    let config = || thoroughness(CacheConfig::new(url_of(proxy.addr()), 600u64, PREFIX)).with_pool_size(1);
    let (one, other) = (rig.instance_with(config()).await?, rig.instance_with(config()).await?);
    let load = rig.load(Shape { keys: 256, pause: 1, ..Shape::HOT }, &[&one, &other]).await?;
    let pranks = [Prank::Duplicate, Prank::Drop, Prank::Garble, Prank::CutAfter(7), Prank::Duplicate, Prank::Duplicate];
    drop(load.take());
    let (started, mut at) = (Instant::now(), 0);
    while started.elapsed() < rig.load_for * 2 {
        proxy.play(pranks[at % pranks.len()]);
        at += 1;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let phase = load.take();
    let when = format!("{} spoiled replies", proxy.played());
    findings.add("replies spoiled", proxy.played(), "many", proxy.played() > 50);
    phase.is_sound(findings, &when);
    let refused: u64 = load.stats().await.iter().map(|stats| stats.total.decode_errors).sum();
    findings.add("entries refused", refused, "some", refused > 0);
    load.end().await?;

    let one = rig.instance(&url_of(proxy.addr())).await?;
    say(&mut redis.connect().await?, "FLUSHALL").await?;
    let load = rig.load(Shape::HOT, &[&one]).await?;
    for reply in
        ["$5\r\nhello\r\n", ":1\r\n", "$1099511627776\r\n", "*1099511627776\r\n", "+OK\r\n", "HTTP/1.1 400\r\n\r\n"]
    {
        let parrot = Parrot::saying(reply.as_bytes()).await?;
        proxy.retarget(parrot.addr());
        proxy.cut();
        let phase = load.watch(rig.load_for / 8).await;
        phase.is_sound(findings, &format!("every answer {:?}", reply.trim_end()));
    }
    proxy.retarget(redis.addr());
    proxy.cut();
    returns(&load, findings, "answers make sense", Duration::from_secs(1)).await;
    ends(load, findings).await
}

/// Rows in process as well, on an instance whose link to Redis is cut while another writes.
pub(super) async fn unheard(rig: &Rig, findings: &mut Findings<'_>) -> Result<(), Failure> {
    let bound = Duration::from_millis(300);
    let redis = Server::start().await?;
    let proxy = Proxy::start(redis.addr()).await?;
    let config = |url: String| CacheConfig::new(url, 600u64, PREFIX).with_l1(L1::Bounded(bound));
    let writes = rig.instance_with(config(redis.url())).await?;
    let reads = rig.instance_with(config(url_of(proxy.addr()))).await?;
    rig.reset(64).await?;
    // What an instance cannot remove for want of a link others may still be served; so only the linked one writes.
    let load = Load::start(Shape { all_write: false, ..Shape::HOT }, &[&writes, &reads], &rig.alone, rig.seed);
    let phase = load.watch(rig.load_for / 2).await;
    phase.is_bounded(findings, "linked", bound);
    proxy.drop_silently(true);
    let phase = load.watch(rig.load_for / 2).await;
    phase.is_bounded(findings, "link silent", bound);
    proxy.drop_silently(false);
    returns(&load, findings, "link back", Duration::from_secs(1)).await;
    load.watch(rig.load_for / 4).await.is_bounded(findings, "link back", bound);
    load.only_read(true);
    tokio::time::sleep(bound).await;
    ends(load, findings).await
}

/// A fill is under way on a link that stands still while the row is changed past it.
pub(super) async fn late_fill(rig: &Rig, findings: &mut Findings<'_>) -> Result<(), Failure> {
    let redis = Server::start().await?;
    let proxy = Proxy::start(redis.addr()).await?;
    // One connection, so that its commands are counted in order: the read, the lease, the fill.
    let stalled =
        rig.instance_with(patience(CacheConfig::new(url_of(proxy.addr()), 600u64, PREFIX)).with_pool_size(1)).await?;
    let free = rig.patient(&redis.url()).await?;
    rig.reset(64).await?;
    let (slow, quick) = (stalled.store::<Item>(), free.store::<Item>());
    let (mut stale, mut held) = (0, 0);
    for trial in 0..TRIALS {
        let id = trial % 64 + 1;
        proxy.hold_requests_after(2);
        slow.get_by_id(&id).await?;
        held += u64::from(until(Duration::from_secs(1), async || proxy.holds_requests()).await);
        let acknowledged = quick.update(&id, Item::new(id)).await?.version;
        proxy.hold_requests(false);
        stalled.cache()?.settle().await;
        for store in [&quick, &slow] {
            let version = store.get_by_id(&id).await?.map_or(-1, |row| row.version);
            stale += u64::from(version < acknowledged);
        }
        // What those reads fill goes, so that the next trial of this key begins with nothing.
        stalled.cache()?.settle().await;
        free.cache()?.settle().await;
        quick.update(&id, Item::new(id)).await?;
    }
    findings.add(
        "late fill: trials with the fill held",
        format_args!("{held} of {TRIALS}"),
        "nearly all",
        held * 10 >= TRIALS as u64 * 9,
    );
    let refused = stalled.cache()?.get_stats().await?.total.fills_refused;
    findings.add("late fill: fills refused", refused, "as many", refused * 10 >= held * 9);
    findings.add("late fill: stale reads", format_args!("{stale} of {}", TRIALS * 2), "0", stale == 0);
    Ok(())
}

const TRIALS: i64 = 1_000;
