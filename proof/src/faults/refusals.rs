//! Redis that answers, and says no: R7 to R12.

use std::time::Duration;

use super::absence::{ends, returns};
use super::fake::Parrot;
use super::item::Item;
use super::load::{Load, Shape};
use super::warnings::Warnings;
use super::{Failure, Findings, Rig, until};
use crate::proxy::Proxy;
use crate::server::{Server, free_port, url_of};

/// A read past a Redis that refuses may take this much longer than one of the database alone.
const BYPASS_MAY_ADD: Duration = Duration::from_millis(1);
/// How soon reads are served from Redis again once it no longer refuses.
const BACK_WITHIN: Duration = Duration::from_millis(500);
/// What must not be found in any text.
const SECRET: &str = "c0rrect-horse-battery";

/// What a server says that has no room.
const NO_ROOM: &str = "max number of clients";

pub(super) type Admin = redis::aio::MultiplexedConnection;

pub(super) async fn say(admin: &mut Admin, command: &str) -> redis::RedisResult<()> {
    let mut words = command.split_whitespace();
    let mut sent = redis::cmd(words.next().unwrap_or_default());
    sent.arg(words.collect::<Vec<_>>()).exec_async(admin).await
}

/// The server is there and cannot serve just now.
pub(super) async fn not_now(rig: &Rig, findings: &mut Findings<'_>) -> Result<(), Failure> {
    loading(rig, findings).await?;
    busy_and_without_master(rig, findings).await?;
    of_clusters(rig, findings).await
}

async fn loading(rig: &Rig, findings: &mut Findings<'_>) -> Result<(), Failure> {
    let options =
        ["--key-load-delay", "4000", "--loading-process-events-interval-bytes", "1024", "--rdbcompression", "no"];
    let mut redis = Server::start_with(&options).await?;
    let one = rig.instance(&redis.url()).await?;
    let load = rig.load(Shape::PACED, &[&one]).await?;
    let mut admin = redis.connect().await?;
    let mut filling = redis::pipe();
    for at in 0..1_000 {
        filling.cmd("SET").arg(format!("filler:{at}")).arg("x".repeat(2_000)).ignore();
    }
    filling.exec_async(&mut admin).await?;
    say(&mut admin, "SAVE").await?;
    redis.kill()?;
    redis.relaunch()?;
    // It takes connections within milliseconds, and four seconds to load.
    refuses(&load, findings, "LOADING", &["LOADING"], Duration::from_secs(2)).await?;
    redis.answers().await?;
    let loaded = async || match redis.connect().await {
        Ok(mut admin) => say(&mut admin, "GET filler:1").await.is_ok(),
        Err(_) => false,
    };
    until(Duration::from_secs(10), loaded).await;
    returns(&load, findings, "loaded", BACK_WITHIN).await;
    ends(load, findings).await
}

async fn busy_and_without_master(rig: &Rig, findings: &mut Findings<'_>) -> Result<(), Failure> {
    let redis = Server::start_with(&["--busy-reply-threshold", "10", "--replica-serve-stale-data", "no"]).await?;
    let one = rig.instance(&redis.url()).await?;
    let load = rig.load(Shape::PACED, &[&one]).await?;
    let mut admin = redis.connect().await?;
    load.watch(rig.load_for / 8).await.is_sound(findings, "before");

    let mut looping = redis.connect().await?;
    let script = tokio::spawn(async move {
        redis::cmd("EVAL").arg("while true do end").arg(0).exec_async(&mut looping).await.is_err()
    });
    refuses(&load, findings, "BUSY", &["BUSY"], rig.load_for / 2).await?;
    say(&mut admin, "SCRIPT KILL").await?;
    script.await?;
    returns(&load, findings, "script ended", BACK_WITHIN).await;

    say(&mut admin, &format!("REPLICAOF 127.0.0.1 {}", free_port()?)).await?;
    // A command that writes is told of the lesser lack.
    refuses(&load, findings, "MASTERDOWN", &["MASTERDOWN", "READONLY"], rig.load_for / 2).await?;
    say(&mut admin, "REPLICAOF NO ONE").await?;
    returns(&load, findings, "master again", BACK_WITHIN).await;
    ends(load, findings).await
}

/// Refusals of a cluster, which this server is not: by a server that says nothing else.
async fn of_clusters(rig: &Rig, findings: &mut Findings<'_>) -> Result<(), Failure> {
    let redis = Server::start().await?;
    let proxy = Proxy::start(redis.addr()).await?;
    let one = rig.instance(&url_of(proxy.addr())).await?;
    let load = rig.load(Shape::PACED, &[&one]).await?;
    for (code, text) in [
        ("CLUSTERDOWN", "-CLUSTERDOWN Hash slot not served\r\n"),
        ("TRYAGAIN", "-TRYAGAIN Multiple keys request during rehashing of slot\r\n"),
    ] {
        let parrot = Parrot::saying(text.as_bytes()).await?;
        proxy.retarget(parrot.addr());
        proxy.cut();
        refuses(&load, findings, code, &[code], rig.load_for / 2).await?;
        proxy.retarget(redis.addr());
        proxy.cut();
        returns(&load, findings, &format!("{code} over"), BACK_WITHIN).await;
    }
    ends(load, findings).await
}

/// A while of load on a server that refuses: nothing fails, and the reads are as quick as the database.
async fn refuses(
    load: &Load,
    findings: &mut Findings<'_>,
    when: &str,
    causes: &[&str],
    lasts: Duration,
) -> Result<(), Failure> {
    let open = until(Duration::from_secs(1), async || load.is_bypassed(0).await).await;
    findings.add(format_args!("{when}: bypassed"), open, "true, within 1s", open);
    // Whoever was under way when it began may still pay.
    tokio::time::sleep(Duration::from_millis(100)).await;
    let phase = load.watch(lasts).await;
    phase.is_sound(findings, when);
    phase.p99_within(findings, when, BYPASS_MAY_ADD);
    names(load, findings, when, causes).await;
    Ok(())
}

/// The health check says why, and no secret.
async fn names(load: &Load, findings: &mut Findings<'_>, when: &str, causes: &[&str]) {
    let mut text = String::new();
    // On a busy machine the first answer may be that there is none in time.
    until(Duration::from_secs(3), async || {
        text = match load.manager(0).health_check().await {
            Ok(health) => format!("healthy, bypassed {}", health.bypassed),
            Err(error) => error.to_string(),
        };
        causes.iter().any(|cause| text.contains(cause))
    })
    .await;
    let said = causes.iter().any(|cause| text.contains(cause)) && !text.contains(SECRET);
    let short: String = text.rsplit("failed: ").next().unwrap_or_default().chars().take(70).collect();
    findings.add(format_args!("{when}: health says"), short, causes.join(" or "), said);
}

/// The server refuses until somebody changes something.
pub(super) async fn not_you(rig: &Rig, findings: &mut Findings<'_>) -> Result<(), Failure> {
    let redis = Server::start_with(&["--requirepass", SECRET]).await?;
    let proxy = Proxy::start(redis.addr()).await?;
    let url = |user: &str| format!("redis://{user}:{SECRET}@{}", proxy.addr());
    let mut admin =
        redis::Client::open(format!("redis://:{SECRET}@{}", redis.addr()))?.get_multiplexed_async_connection().await?;
    say(&mut admin, &format!("ACL SETUSER app on >{SECRET} ~* &* +@all")).await?;
    let kill = "CLIENT KILL TYPE normal SKIPME yes";

    let one = rig.instance(&url("")).await?;
    let load = rig.load(Shape::PACED, &[&one]).await?;
    load.watch(rig.load_for / 4).await.is_sound(findings, "before");
    drop(Warnings::heard().take());
    say(&mut admin, "CONFIG SET requirepass another").await?;
    say(&mut admin, kill).await?;
    needs_help(rig, &load, findings, &proxy, "password changed", &["WRONGPASS", "NOAUTH"]).await?;
    say(&mut admin, &format!("CONFIG SET requirepass {SECRET}")).await?;
    returns(&load, findings, "password accepted", Duration::from_millis(1500)).await;
    ends(load, findings).await?;

    say(&mut admin, "FLUSHALL").await?;
    let one = rig.instance(&url("app")).await?;
    let load = rig.load(Shape::PACED, &[&one]).await?;
    load.watch(rig.load_for / 4).await.is_sound(findings, "allowed");
    say(&mut admin, "ACL SETUSER app -@all").await?;
    needs_help(rig, &load, findings, &proxy, "rights revoked", &["NOPERM"]).await?;
    say(&mut admin, "ACL SETUSER app +@all").await?;
    returns(&load, findings, "rights granted", Duration::from_millis(1500)).await;

    say(&mut admin, "CONFIG SET maxclients 1").await?;
    say(&mut admin, kill).await?;
    needs_help(rig, &load, findings, &proxy, "too many clients", &[NO_ROOM]).await?;
    say(&mut admin, "CONFIG SET maxclients 1000").await?;
    returns(&load, findings, "room again", Duration::from_millis(1500)).await;
    ends(load, findings).await
}

async fn needs_help(
    rig: &Rig,
    load: &Load,
    findings: &mut Findings<'_>,
    proxy: &Proxy,
    when: &str,
    causes: &[&str],
) -> Result<(), Failure> {
    let open = until(Duration::from_secs(1), async || load.is_bypassed(0).await).await;
    findings.add(format_args!("{when}: bypassed"), open, "true, within 1s", open);
    tokio::time::sleep(Duration::from_millis(300)).await;
    let (before, lasts) = (proxy.accepted(), rig.load_for.max(Duration::from_secs(3)));
    let phase = load.watch(lasts).await;
    let opened = proxy.accepted() - before;
    phase.is_sound(findings, when);
    phase.p99_within(findings, when, BYPASS_MAY_ADD);
    // A server that hangs up is listened to once more, to hear why.
    let per_second = if causes == [NO_ROOM] { 2 } else { 1 };
    let may_open = (lasts.as_secs() + 1) * per_second;
    findings.add(
        format_args!("{when}: connections opened in {lasts:?}"),
        opened,
        format_args!("{may_open}, {per_second} a second"),
        opened <= may_open,
    );
    names(load, findings, when, causes).await;
    let (said, listened) = Warnings::heard().take();
    // That the server does not tell its replication id is said once and concerns something else.
    let outages = said.iter().filter(|line| line.contains("bypassed")).count() as u64;
    let may_say = 1 + listened.as_secs() / 10;
    let ok = outages <= may_say && !said.iter().any(|line| line.contains(SECRET));
    findings.add(format_args!("{when}: warnings"), outages, format_args!("{may_say}, without the secret"), ok);
    Ok(())
}

/// No memory for anything that stores.
pub(super) async fn out_of_memory(rig: &Rig, findings: &mut Findings<'_>) -> Result<(), Failure> {
    let redis = Server::start_with(&["--maxmemory-policy", "noeviction"]).await?;
    let (one, other) = (rig.thorough(&redis.url()).await?, rig.thorough(&redis.url()).await?);
    let load = rig.load(Shape::HOT, &[&one, &other]).await?;
    load.watch(rig.load_for / 2).await.is_sound(findings, "before");
    let mut admin = redis.connect().await?;
    say(&mut admin, "CONFIG SET maxmemory 1").await?;
    load.watch(rig.load_for).await.is_sound(findings, "no memory");
    load.only_read(true);
    // Whatever is left is served; nothing is stored.
    let fills = async |load: &Load| load.stats().await.iter().map(|stats| stats.total.fills).sum::<u64>();
    tokio::time::sleep(Duration::from_millis(100)).await;
    let before = fills(&load).await;
    load.watch(rig.load_for / 4).await.is_sound(findings, "no memory, no writes");
    let stored = fills(&load).await - before;
    findings.add("no memory: rows stored", stored, "0", stored == 0);
    load.only_read(false);
    say(&mut admin, "CONFIG SET maxmemory 0").await?;
    returns(&load, findings, "memory again", BACK_WITHIN).await;
    load.watch(rig.load_for / 2).await.is_sound(findings, "memory again");
    ends(load, findings).await
}

/// Whatever is stored soon makes room for something else, leases included.
pub(super) async fn evicting(rig: &Rig, findings: &mut Findings<'_>) -> Result<(), Failure> {
    let redis = Server::start_with(&["--maxmemory-policy", "allkeys-lru"]).await?;
    let (one, other) = (rig.thorough(&redis.url()).await?, rig.thorough(&redis.url()).await?);
    let load = rig.load(Shape { keys: 4096, ..Shape::HOT }, &[&one, &other]).await?;
    load.watch(rig.load_for / 4).await.is_sound(findings, "before");
    let mut admin = redis.connect().await?;
    let used = info(&mut admin, "memory", "used_memory").await?;
    // Room for a few hundred rows beside what the server itself needs.
    say(&mut admin, &format!("CONFIG SET maxmemory {}", used.saturating_sub(100_000))).await?;
    let before = info(&mut admin, "stats", "evicted_keys").await?;
    load.watch(rig.load_for).await.is_sound(findings, "evicting");
    let evicted = info(&mut admin, "stats", "evicted_keys").await? - before;
    findings.add("evicting: keys evicted", evicted, "many", evicted > 500);
    ends(load, findings).await
}

pub(super) async fn info(admin: &mut Admin, section: &str, field: &str) -> Result<u64, Failure> {
    let text: String = redis::cmd("INFO").arg(section).query_async(admin).await?;
    let line = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    Ok(line.ok_or("INFO lacks a field")?.trim().parse()?)
}

/// Reads are served and nothing can be removed.
pub(super) async fn read_only(rig: &Rig, findings: &mut Findings<'_>) -> Result<(), Failure> {
    let redis = Server::start().await?;
    let (writing, reading) = (rig.instance(&redis.url()).await?, rig.instance(&redis.url()).await?);
    let mut admin = redis.connect().await?;
    let nobody = free_port()?;
    let states = [
        ("READONLY", format!("REPLICAOF 127.0.0.1 {nobody}"), "REPLICAOF NO ONE"),
        ("NOREPLICAS", "CONFIG SET min-replicas-to-write 1".to_owned(), "CONFIG SET min-replicas-to-write 0"),
        ("MISCONF", String::new(), "CONFIG SET stop-writes-on-bgsave-error no"),
    ];
    for (state, refuse, accept) in states {
        rig.reset(64).await?;
        say(&mut admin, "FLUSHALL").await?;
        let load = Load::start(Shape::HOT, &[&writing, &reading], &rig.alone, rig.seed);
        load.watch(rig.load_for / 4).await.is_sound_alone(findings, &format!("{state}: before"));
        if state == "MISCONF" {
            // Saving fails without the directory, and the server takes no writes any more.
            std::fs::remove_dir_all(redis.dir())?;
            say(&mut admin, "CONFIG SET stop-writes-on-bgsave-error yes").await?;
            redis::cmd("CONFIG").arg("SET").arg("save").arg("3600 1").exec_async(&mut admin).await?;
            say(&mut admin, "BGSAVE").await?;
        } else {
            say(&mut admin, &refuse).await?;
        }
        let refused =
            until(Duration::from_secs(2), async || say(&mut admin.clone(), "SET probe x").await.is_err()).await;
        findings.add(format_args!("{state}: refuses writes"), refused, "true", refused);
        // Both write, so both find out; nothing may be served by either afterwards.
        tokio::time::sleep(Duration::from_millis(300)).await;
        load.watch(rig.load_for / 2).await.is_sound_alone(findings, state);
        say(&mut admin, accept).await?;
        returns(&load, findings, &format!("{state} over"), BACK_WITHIN).await;
        load.watch(rig.load_for / 4).await.is_sound_alone(findings, &format!("{state} over"));
        ends(load, findings).await?;
    }
    Ok(())
}

/// A user that may read and store, and not remove.
pub(super) async fn no_removal(rig: &Rig, findings: &mut Findings<'_>) -> Result<(), Failure> {
    let redis = Server::start().await?;
    let mut admin = redis.connect().await?;
    say(&mut admin, &format!("ACL SETUSER app on >{SECRET} ~* &* +@all -del -unlink")).await?;
    let one = rig.instance(&format!("redis://app:{SECRET}@{}", redis.addr())).await?;
    rig.reset(16).await?;
    let store = one.store::<Item>();
    for id in 1..=16 {
        store.get_by_id(&id).await?;
    }
    store.update(&1, Item::new(1)).await?;
    let load = Load::start_after(Shape { keys: 16, ..Shape::HOT }, &[&one], &rig.alone, rig.seed, &[(1, 1)]);
    let hits = load.hits().await;
    load.watch(rig.load_for / 2).await.is_sound(findings, "DEL forbidden");
    let served = load.hits().await - hits;
    findings.add("DEL forbidden: reads served from redis after the first write", served, "0", served == 0);
    say(&mut admin, "ACL SETUSER app +del +unlink").await?;
    returns(&load, findings, "DEL allowed", Duration::from_millis(1500)).await;
    load.watch(rig.load_for / 4).await.is_sound(findings, "DEL allowed");
    ends(load, findings).await
}
