//! Futures that are dropped, and loaders that panic: X3, X4.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::task::Poll;
use std::time::Duration;

use storehaus::prelude::*;
use storehaus_cache::loader::{Aborted, Loader};
use storehaus_cache::record::{RecordCache, StoreInfo, Tiers};
use tokio::time::timeout;

use super::item::Item;
use super::{Failure, Findings, PREFIX, Rig, patience, until};
use crate::server::Server;

/// No call takes this long unless something is stuck.
const STUCK: Duration = Duration::from_secs(3);
/// Rows that exist: each trial has one of its own, and those before and after it.
const ROWS: i64 = 4_000;

type Operation = fn(GenericStore<Item>, i64) -> Call;
type Call = Pin<Box<dyn Future<Output = storehaus::Result<()>> + Send>>;

/// The operations of a store, each on the row it is given.
const CALLS: [(&str, Operation); 11] = [
    ("get_by_id", |store, id| Box::pin(async move { store.get_by_id(&id).await.map(drop) })),
    ("get_by_id, cached", |store, id| Box::pin(async move { store.get_by_id(&id).await.map(drop) })),
    ("get_many", |store, id| Box::pin(async move { store.get_many(&[id, id + 1]).await.map(drop) })),
    ("update", |store, id| Box::pin(async move { store.update(&id, Item::new(id)).await.map(drop) })),
    ("update_many", |store, id| {
        let rows = [id, id + 1].map(|id| (id, Item::new(id))).to_vec();
        Box::pin(async move { store.update_many(rows).await.map(drop) })
    }),
    ("upsert", |store, id| Box::pin(async move { store.upsert(Item::new(id)).await.map(drop) })),
    ("upsert_many", |store, id| {
        Box::pin(async move { store.upsert_many(vec![Item::new(id), Item::new(id + 1)]).await.map(drop) })
    }),
    ("create", |store, id| Box::pin(async move { store.create(Item::new(id + ROWS)).await.map(drop) })),
    ("create_many", |store, id| {
        let rows = vec![Item::new(id + ROWS), Item::new(id + ROWS + 1)];
        Box::pin(async move { store.create_many(rows).await.map(drop) })
    }),
    ("delete", |store, id| Box::pin(async move { store.delete(&id).await.map(drop) })),
    ("delete_many", |store, id| Box::pin(async move { store.delete_many(&[id, id + 1]).await.map(drop) })),
];

/// Every operation is polled k times and dropped, for every k up to its end.
pub(super) async fn dropped(rig: &Rig, findings: &mut Findings<'_>) -> Result<(), Failure> {
    let redis = Server::start().await?;
    rig.reset(ROWS).await?;
    let in_both =
        patience(CacheConfig::new(redis.url(), 600u64, PREFIX)).with_l1(L1::Bounded(Duration::from_secs(600)));
    let one = rig.patient(&redis.url()).await?;
    let both = rig.instance_with(in_both).await?;
    let mut at = 1;
    for (name, call) in CALLS {
        let (mut dropped, mut stuck, mut wrong, mut cold) = (0, 0, 0, 0);
        for haus in [&one, &both] {
            let store = haus.store_with::<Item>(|params| params.with_negative_ttl(600u64));
            for polls in 0.. {
                at += 2;
                let rows = [at, at + 1, at + ROWS, at + ROWS + 1];
                if name.ends_with("cached") || !name.starts_with("get") {
                    for id in rows {
                        store.get_by_id(&id).await?;
                    }
                    haus.cache()?.settle().await;
                }
                let done = poll_times(call(store.clone(), at), polls).await;
                // A write goes on by itself: sooner or later the rows are right, and cached, and stay so.
                let (mut is_stuck, mut differ, mut loaded) = (false, 0, 0);
                let right = until(STUCK, async || {
                    (differ, loaded) = (0, 0);
                    is_stuck =
                        timeout(STUCK, rig.is_right(haus, &store, &rows, &mut differ, &mut loaded)).await.is_err();
                    !is_stuck && differ == 0 && loaded == 0
                });
                right.await;
                stuck += u64::from(is_stuck);
                wrong += differ;
                cold += loaded;
                if done {
                    break;
                }
                dropped += 1;
            }
        }
        let figure = format!("{stuck}, {wrong}, {cold} after {dropped} drops");
        let ok = (stuck, wrong, cold) == (0, 0, 0) && dropped > 0;
        findings.add(format_args!("{name} dropped: stuck, wrong, not cached again"), figure, "0, 0, 0", ok);
    }
    for haus in [&one, &both] {
        let free = until(STUCK, async || haus.pool().num_idle() as u32 == haus.pool().size()).await;
        findings.add("dropped: connections all back", free, "true", free);
    }
    Ok(())
}

impl Rig {
    /// Compares rows with the database, and counts which of them are loaded once more when they are read again.
    async fn is_right(
        &self,
        haus: &StoreHaus<Postgres>,
        store: &GenericStore<Item>,
        rows: &[i64],
        differ: &mut u64,
        loaded: &mut u64,
    ) {
        let alone = self.alone.store::<Item>();
        let loads = async || match haus.cache() {
            Ok(manager) => {
                manager.settle().await;
                manager.get_stats().await.map_or(0, |stats| stats.total.loads)
            }
            Err(_) => 0,
        };
        for id in rows {
            let (read, row) = (store.get_by_id(id).await, alone.get_by_id(id).await);
            *differ += u64::from(read.is_err() || read.ok() != row.ok());
        }
        let before = loads().await;
        for id in rows {
            *differ += u64::from(store.get_by_id(id).await.is_err());
        }
        *loaded += loads().await - before;
    }
}

/// Polls so many times, then drops; whether it was over before.
async fn poll_times(mut call: Call, polls: u32) -> bool {
    let mut left = polls;
    poll_fn(|context| {
        if left == 0 {
            return Poll::Ready(false);
        }
        left -= 1;
        match call.as_mut().poll(context) {
            Poll::Ready(_) => Poll::Ready(true),
            Poll::Pending if left == 0 => Poll::Ready(false),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

/// A loader that does as it is told.
#[derive(Clone, Default)]
struct Chaos(Arc<Told>);

#[derive(Default)]
struct Told {
    what: AtomicU8,
    loads: AtomicU64,
}

const SUCCEED: u8 = 0;
const FAIL: u8 = 1;
const PANIC: u8 = 2;
const HANG: u8 = 3;

impl Chaos {
    async fn act(&self) -> Result<(), String> {
        self.0.loads.fetch_add(1, Ordering::SeqCst);
        // Everybody who asks in the meantime waits for this load.
        tokio::time::sleep(Duration::from_millis(5)).await;
        match self.0.what.load(Ordering::SeqCst) {
            SUCCEED => Ok(()),
            FAIL => Err("told to fail".to_owned()),
            PANIC => panic!("told to panic"),
            _ => std::future::pending().await,
        }
    }
}

impl Loader for Chaos {
    type Key = i64;
    type Value = i64;
    type Error = String;

    async fn load(&self, key: &i64) -> Result<Option<i64>, String> {
        self.act().await.map(|()| Some(*key))
    }

    async fn load_many(&self, keys: &[i64]) -> Result<Vec<(i64, i64)>, String> {
        self.act().await.map(|()| keys.iter().map(|key| (*key, *key)).collect())
    }

    fn aborted(&self, why: Aborted) -> String {
        format!("{why:?}")
    }
}

/// The load that everybody waits for fails, panics, or never ends.
pub(super) async fn chaos(_: &Rig, findings: &mut Findings<'_>) -> Result<(), Failure> {
    let redis = Server::start().await?;
    let limit = Duration::from_millis(200);
    let config = |config: CacheConfig| config.with_load_timeout(limit);
    let shared = || config(patience(CacheConfig::new(redis.url(), 600u64, PREFIX)));
    let both = || shared().with_l1(L1::Bounded(Duration::from_secs(600)));
    let told_to_panic = std::panic::take_hook();
    // What is caught is not printed.
    std::panic::set_hook(Box::new(|_| ()));
    let mut found = Vec::new();
    for (tiers, config) in
        [("in process", config(CacheConfig::in_process(600u64, PREFIX))), ("redis", shared()), ("both", both())]
    {
        found.push((tiers, chaos_on(tiers, config).await));
    }
    std::panic::set_hook(told_to_panic);
    for (tiers, found) in found {
        for (told, wrong, slowest) in found? {
            let figure = format!("{wrong} (slowest {slowest:.0?})");
            let ok = wrong == 0 && slowest <= limit + Duration::from_secs(1);
            findings.add(format_args!("{told} loader, {tiers}: wrong outcomes"), figure, "0", ok);
        }
    }
    Ok(())
}

async fn chaos_on(tiers: &str, config: CacheConfig) -> Result<Vec<(&'static str, u64, Duration)>, Failure> {
    let manager = CacheManager::new(config)?;
    let loader = Chaos::default();
    let prefix = tiers.replace(' ', "-");
    let info = StoreInfo { table: "chaos", prefix: &prefix, ttl: None, tiers: Tiers::All };
    let cache = RecordCache::new(loader.clone(), CacheParams::new(manager.clone()), &info)?;
    let (mut found, mut key) = (Vec::new(), 0);
    for (told, name) in [(FAIL, "failing"), (PANIC, "panicking"), (HANG, "hanging")] {
        let (mut wrong, mut slowest) = (0, Duration::ZERO);
        for _ in 0..10 {
            key += 10;
            loader.0.what.store(told, Ordering::SeqCst);
            let started = std::time::Instant::now();
            let waiting: Vec<_> = (0..32)
                .map(|waiter| {
                    let cache = cache.clone();
                    tokio::spawn(async move {
                        if waiter % 8 == 0 {
                            cache.get_many(&[key, key + 1]).await.map(drop)
                        } else {
                            cache.get(&key).await.map(drop)
                        }
                    })
                })
                .collect();
            for waiter in waiting {
                // A panic of the loader is an error of the reader, not its panic.
                wrong += u64::from(!waiter.await.is_ok_and(|outcome| outcome.is_err()));
            }
            slowest = slowest.max(started.elapsed());
            loader.0.what.store(SUCCEED, Ordering::SeqCst);
            wrong += u64::from(!cache.get(&key).await.is_ok_and(|row| row.as_deref() == Some(&key)));
            wrong += u64::from(cache.get_many(&[key, key + 1]).await.is_err());
            manager.settle().await;
            let loads = loader.0.loads.load(Ordering::SeqCst);
            wrong += u64::from(!cache.get(&key).await.is_ok_and(|row| row.as_deref() == Some(&key)));
            wrong += loader.0.loads.load(Ordering::SeqCst) - loads;
        }
        found.push((name, wrong, slowest));
    }
    Ok(found)
}
