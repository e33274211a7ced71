//! Redis that is not there, or might as well not be: R1 to R6.

use std::time::{Duration, Instant};

use super::item::Item;
use super::latency::Latencies;
use super::load::{Load, Shape};
use super::{Failure, Findings, Rig};
use crate::proxy::{Delay, Proxy};
use crate::server::{Server, free_port, url_of};

/// What the budget of a cached read may add to a read, with room for late timers.
const READ_MAY_ADD: Duration = Duration::from_millis(50);
/// Reads this slow paid for the fault, unless the database alone was as slow.
const PAID: Duration = Duration::from_millis(30);

/// How long a server that flaps is down, and how long up, and how often.
const TURN: Duration = Duration::from_secs(2);
const TURNS: u32 = 3;

/// Nothing listens where Redis should be.
pub(super) async fn never_there(rig: &Rig, findings: &mut Findings<'_>) -> Result<(), Failure> {
    rig.reset(16).await?;
    let nobody = format!("redis://127.0.0.1:{}", free_port()?);
    let started = Instant::now();
    let haus = rig.instance(&nobody).await?;
    let built = started.elapsed();
    let limit = Duration::from_millis(200);
    findings.add("absent at start: build", format_args!("{built:.1?}"), format_args!("{limit:?}"), built <= limit);

    // In turn, so that all three see the same machine; the two of the database differ by chance alone.
    let (ours, one, other) = (Latencies::default(), Latencies::default(), Latencies::default());
    let (cached, alone) = (haus.store::<Item>(), rig.alone.store::<Item>());
    let mut failed = 0;
    for turn in 0..5_000 {
        let id = turn % 16 + 1;
        for (store, took) in [(&alone, &one), (&cached, &ours), (&alone, &other)] {
            let started = Instant::now();
            let read = store.get_by_id(&id).await;
            took.add(started.elapsed());
            failed += u64::from(!read.is_ok_and(|row| row.is_some_and(|row| row.is_of(id))));
        }
    }
    findings.add("absent at start: failed", format_args!("{failed} of 15000 reads"), "0", failed == 0);
    let (ours, one, other) = (ours.take(), one.take(), other.take());
    for (name, permille, more) in [("median", 500, 100), ("p99.9", 999, 100)] {
        let (ours, one, other) = (ours.permille(permille), one.permille(permille), other.permille(permille));
        let allowed = one.max(other) * if permille == 500 { 1 } else { 2 } + Duration::from_micros(more);
        let figure = format!("{ours:.0?} (database alone {one:.0?} and {other:.0?})");
        let target = if permille == 500 { "alone + 0.1 ms" } else { "2 x alone + 0.1 ms" };
        findings.add(format_args!("absent at start: {name} of reads"), figure, target, ours <= allowed);
    }
    Ok(())
}

/// The process is killed and later started again, empty.
pub(super) async fn killed(rig: &Rig, findings: &mut Findings<'_>) -> Result<(), Failure> {
    let mut redis = Server::start().await?;
    let (one, other) = (rig.instance(&redis.url()).await?, rig.instance(&redis.url()).await?);
    let load = rig.load(Shape::PACED, &[&one, &other]).await?;
    load.watch(rig.load_for / 2).await.is_sound_alone(findings, "before");
    redis.kill()?;
    let down = load.watch(rig.load_for).await;
    down.is_sound_alone(findings, "killed");
    down.no_read_above(findings, "killed", Duration::from_millis(5));
    redis.restart().await?;
    returns(&load, findings, "started again", Duration::from_millis(150)).await;
    load.watch(rig.load_for / 2).await.is_sound_alone(findings, "started again");
    ends(load, findings).await
}

/// The process stands still; connections stay open.
pub(super) async fn hung(rig: &Rig, findings: &mut Findings<'_>) -> Result<(), Failure> {
    let redis = Server::start().await?;
    let (one, other) = (rig.instance(&redis.url()).await?, rig.instance(&redis.url()).await?);
    let load = rig.load(Shape::PACED, &[&one, &other]).await?;
    load.watch(rig.load_for / 2).await.is_sound_alone(findings, "before");
    redis.freeze()?;
    stands_still(&load, findings, "stopped", rig.load_for).await;
    redis.thaw()?;
    returns(&load, findings, "goes on", Duration::from_millis(500)).await;
    load.watch(rig.load_for / 2).await.is_sound_alone(findings, "goes on");
    ends(load, findings).await
}

/// Packets vanish in both directions and nobody says so.
pub(super) async fn silent(rig: &Rig, findings: &mut Findings<'_>) -> Result<(), Failure> {
    let redis = Server::start().await?;
    let proxy = Proxy::start(redis.addr()).await?;
    let (one, other) = (rig.instance(&url_of(proxy.addr())).await?, rig.instance(&url_of(proxy.addr())).await?);
    let load = rig.load(Shape::PACED, &[&one, &other]).await?;
    load.watch(rig.load_for / 2).await.is_sound_alone(findings, "before");
    let before = proxy.accepted();
    proxy.drop_silently(true);
    stands_still(&load, findings, "silent", rig.load_for).await;
    proxy.drop_silently(false);
    returns(&load, findings, "speaks again", Duration::from_secs(1)).await;
    let opened = proxy.accepted() - before;
    findings.add("silent: connections replaced", opened, "at least 2", opened >= 2);
    load.watch(rig.load_for / 2).await.is_sound_alone(findings, "speaks again");
    ends(load, findings).await
}

/// Replies come late, a little or a lot.
pub(super) async fn slow(rig: &Rig, findings: &mut Findings<'_>) -> Result<(), Failure> {
    let redis = Server::start().await?;
    let proxy = Proxy::start(redis.addr()).await?;
    let (one, other) = (rig.instance(&url_of(proxy.addr())).await?, rig.instance(&url_of(proxy.addr())).await?);
    let load = rig.load(Shape::PACED, &[&one, &other]).await?;
    for millis in [5, 40, 200] {
        proxy.delay_replies(Some(Delay { probability: 1.0, millis: millis / 2..=millis * 3 / 2, seed: rig.seed }));
        let phase = load.watch(rig.load_for * 2 / 3).await;
        let when = format!("replies {millis} ms late");
        phase.is_sound_alone(findings, &when);
        phase.p99_within(findings, &when, READ_MAY_ADD);
    }
    proxy.delay_replies(None);
    returns(&load, findings, "in time again", Duration::from_secs(1)).await;
    ends(load, findings).await
}

/// Down and up and down again. While it is down new connections are accepted and reset, so that they can be counted.
pub(super) async fn flapping(rig: &Rig, findings: &mut Findings<'_>) -> Result<(), Failure> {
    let redis = Server::start().await?;
    let proxies = [Proxy::start(redis.addr()).await?, Proxy::start(redis.addr()).await?];
    let one = rig.instance(&url_of(proxies[0].addr())).await?;
    let other = rig.instance(&url_of(proxies[1].addr())).await?;
    let load = rig.load(Shape::PACED, &[&one, &other]).await?;
    load.watch(rig.load_for / 4).await.is_sound_alone(findings, "before");
    let loads = async |load: &Load| load.stats().await.iter().map(|stats| stats.total.loads).sum::<u64>();
    let (before, dialled) = (loads(&load).await, proxies.each_ref().map(Proxy::accepted));
    let started = Instant::now();
    for _ in 0..TURNS {
        for down in [true, false] {
            for proxy in &proxies {
                proxy.reset_new(down);
                if down {
                    proxy.cut();
                }
            }
            tokio::time::sleep(TURN).await;
        }
    }
    let lasted = started.elapsed();
    let (phase, loaded) = (load.take(), loads(&load).await - before);
    let when = format!("{TURNS} times {TURN:?} down, {TURN:?} up");
    phase.is_sound_alone(findings, &when);
    for (proxy, before) in proxies.iter().zip(dialled) {
        let rate = (proxy.accepted() - before) as f64 / lasted.as_secs_f64();
        findings.add("connections opened by an instance", format_args!("{rate:.1}/s"), "10/s", rate <= 10.0);
    }
    let per_read = loaded as f64 / phase.reads.max(1) as f64;
    findings.add("rows loaded per read", format_args!("{per_read:.2}"), "1.1", per_read <= 1.1);
    returns(&load, findings, "up for good", Duration::from_secs(1)).await;
    ends(load, findings).await
}

/// The load while commands are sent and nothing comes back: each worker may pay once.
async fn stands_still(load: &Load, findings: &mut Findings<'_>, when: &str, lasts: Duration) {
    let first = load.watch(lasts / 2).await;
    first.is_sound_alone(findings, when);
    first.no_read_above(findings, when, READ_MAY_ADD);
    let paid = first.reading.slower_than(PAID.max(first.alone.slowest()));
    findings.add(format_args!("{when}: reads that paid"), paid, "64, the workers", paid <= 64);
    let then = load.watch(lasts / 2).await;
    then.is_sound_alone(findings, "then");
    then.p99_within(findings, "then", Duration::from_micros(10));
}

/// The fault is over: how long until the first hit.
pub(super) async fn returns(load: &Load, findings: &mut Findings<'_>, when: &str, limit: Duration) {
    drop(load.take());
    let first = load.first_hit(Duration::from_secs(10)).await;
    let phase = load.take();
    let figure = first.map_or_else(|| "none".to_owned(), |after| format!("after {after:.0?}"));
    let ok = first.is_some_and(|after| after <= phase.allowed(limit));
    findings.add(format_args!("{when}: first hit"), figure, phase.target(limit), ok);
}

/// The last check of a load: what the instances have is what the database has.
pub(super) async fn ends(load: Load, findings: &mut Findings<'_>) -> Result<(), Failure> {
    let differ = load.end_and_compare().await?;
    findings.add("in the end: rows that differ", differ, "0", differ == 0);
    Ok(())
}
