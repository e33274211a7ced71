//! Several processes on one server: what each of them keeps in process, and how it hears of the others.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use storehaus_cache::loader::{Aborted, Loader, Rows};
use storehaus_cache::record::{RecordCache, StoreInfo, Tiers};
use storehaus_cache::{CacheConfig, CacheManager, CacheParams, L1};
use tokio::time::timeout;

use crate::server::{Server, calls, cost, run, sent};

const PATIENCE: Duration = Duration::from_secs(20);
const INFO: StoreInfo<'static> = StoreInfo { table: "rows", prefix: "rows", ttl: None, tiers: Tiers::All };

/// The table `rows`: a version per id.
#[derive(Clone, Default)]
struct Table(Arc<Mutex<HashMap<i64, i64>>>);

impl Table {
    fn set(&self, id: i64, version: i64) {
        self.0.lock().unwrap().insert(id, version);
    }
}

impl Loader for Table {
    type Key = i64;
    type Value = i64;
    type Error = Aborted;

    async fn load(&self, id: &i64) -> Result<Option<i64>, Aborted> {
        Ok(self.0.lock().unwrap().get(id).copied())
    }

    async fn load_many(&self, ids: &[i64]) -> Result<Rows<Self>, Aborted> {
        let rows = self.0.lock().unwrap();
        Ok(ids.iter().filter_map(|id| rows.get(id).map(|version| (*id, *version))).collect())
    }

    fn aborted(&self, why: Aborted) -> Aborted {
        why
    }
}

/// A manager and a store, as a process has them.
#[derive(Clone)]
struct Process {
    cache: RecordCache<Table>,
    table: Table,
}

impl Process {
    fn new(url: &str, table: &Table, l1: L1) -> Self {
        let config = CacheConfig::new(url, 60, "app").with_l1(l1).with_read_budget(PATIENCE).with_timeout(PATIENCE);
        let manager = CacheManager::new(config.with_pool_size(1)).unwrap();
        let cache = RecordCache::new(table.clone(), CacheParams::new(manager), &INFO).unwrap();
        Self { cache, table: table.clone() }
    }

    async fn near(url: &str, table: &Table) -> Self {
        let process = Self::new(url, table, L1::Bounded(Duration::from_secs(60)));
        assert!(process.cache.manager().listen().await, "no heartbeat came back");
        process
    }

    async fn read(&self, id: i64) -> i64 {
        *self.cache.get(&id).await.unwrap().unwrap()
    }

    async fn write(&self, id: i64, version: i64) {
        self.table.set(id, version);
        self.cache.invalidate(&[id]).await;
    }

    /// Reads until it is this version, and then until it is served in process.
    async fn reads(&self, id: i64, version: i64) {
        let wait = async {
            while self.read(id).await != version {}
            let hits = self.l1_hits().await;
            while self.l1_hits().await == hits {
                assert_eq!(self.read(id).await, version);
            }
        };
        timeout(PATIENCE, wait).await.expect("the new version is not seen");
    }

    async fn l1_hits(&self) -> u64 {
        self.cache.manager().get_stats().await.unwrap().total.l1_hits
    }

    async fn beats(&self) -> bool {
        self.cache.manager().get_stats().await.unwrap().bus.beat_age.is_some()
    }
}

#[tokio::test]
async fn a_hit_in_process_costs_nothing_and_a_write_elsewhere_ends_it() {
    let (server, table) = (Server::start(&[]), Table::default());
    let (reader, writer) = (Process::near(&server.url(), &table).await, Process::new(&server.url(), &table, L1::Off));
    let admin = &mut server.admin().await;
    table.set(1, 0);
    for version in 1..20 {
        reader.reads(1, version - 1).await;
        // The fill, which is on its way behind the read.
        reader.cache.manager().settle().await;
        let mut spent = cost(admin, async {
            for _ in 0..100 {
                assert_eq!(reader.read(1).await, version - 1);
            }
        })
        .await;
        // The heartbeats.
        spent.retain(|(name, _)| name != "publish");
        assert_eq!(spent, sent(&[]));
        writer.write(1, version).await;
    }
    reader.reads(1, 19).await;
    let stats = reader.cache.manager().get_stats().await.unwrap();
    assert_eq!((stats.bus.received, stats.bus.gaps, stats.bus.ignored), (19, 0, 0));
    let health = reader.cache.manager().health_check().await.unwrap();
    assert!(health.beat_age.unwrap() < PATIENCE);
    assert_eq!(writer.cache.manager().health_check().await.unwrap().beat_age, None);
}

#[tokio::test]
async fn a_validated_hit_is_one_small_command_whoever_wrote() {
    let (server, table) = (Server::start(&[]), Table::default());
    let processes = [0, 1].map(|_| Process::new(&server.url(), &table, L1::Validated));
    let admin = &mut server.admin().await;
    table.set(1, 0);
    for version in 1..20 {
        let (reader, writer) = (&processes[version as usize % 2], &processes[(version as usize + 1) % 2]);
        reader.reads(1, version - 1).await;
        let spent = cost(admin, async { assert_eq!(reader.read(1).await, version - 1) }).await;
        assert_eq!(spent, sent(&[("getrange", 1)]));
        writer.write(1, version).await;
        assert_eq!((reader.read(1).await, writer.read(1).await), (version, version));
        reader.cache.manager().settle().await;
        writer.cache.manager().settle().await;
    }
    // The value is gone, or another one: what is held is not served.
    processes[0].reads(1, 19).await;
    table.set(1, 20);
    run(admin, "FLUSHALL").await;
    assert_eq!(processes[0].read(1).await, 20);
    processes[0].reads(1, 20).await;
    table.set(1, 21);
    run(admin, "SET app:rows:1 another").await;
    assert_eq!(processes[0].read(1).await, 21);
    assert!(calls(admin).await.iter().all(|(name, _)| name != "subscribe"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_is_validated_is_never_older_than_an_acknowledged_write() {
    const KEYS: usize = 4;
    let (server, table) = (Server::start(&[]), Table::default());
    let processes: Vec<_> = (0..3).map(|_| Process::new(&server.url(), &table, L1::Validated)).collect();
    let acknowledged: Arc<[AtomicU64; KEYS]> = Arc::default();
    let written: Arc<[tokio::sync::Mutex<i64>; KEYS]> = Arc::default();
    (0..KEYS as i64).for_each(|id| table.set(id, 0));
    let mut tasks = tokio::task::JoinSet::new();
    for (n, process) in processes.iter().enumerate() {
        let (process, acknowledged, written) = (process.clone(), Arc::clone(&acknowledged), Arc::clone(&written));
        tasks.spawn(async move {
            for round in 0..300 {
                let id = (round + n) % KEYS;
                // Versions are committed in order, as rows that are locked.
                let version = {
                    let mut last = written[id].lock().await;
                    *last += 1;
                    process.table.set(id as i64, *last);
                    *last
                };
                process.cache.invalidate(&[id as i64]).await;
                acknowledged[id].fetch_max(version as u64, Ordering::SeqCst);
            }
        });
    }
    for process in processes.iter().flat_map(|process| [process, process]) {
        let (process, acknowledged) = (process.clone(), Arc::clone(&acknowledged));
        tasks.spawn(async move {
            for round in 0..2_000 {
                let id = round % KEYS;
                let floor = acknowledged[id].load(Ordering::SeqCst);
                let read = process.read(id as i64).await as u64;
                assert!(read >= floor, "read {read} after {floor} was acknowledged");
            }
        });
    }
    while let Some(ended) = tasks.join_next().await {
        ended.unwrap();
    }
    let mut hits = 0;
    for process in &processes {
        hits += process.l1_hits().await;
    }
    assert!(hits > 0);
}

#[tokio::test]
async fn a_killed_subscription_serves_nothing_until_there_is_another() {
    let (server, table) = (Server::start(&[]), Table::default());
    let (reader, writer) = (Process::near(&server.url(), &table).await, Process::new(&server.url(), &table, L1::Off));
    let admin = &mut server.admin().await;
    table.set(1, 0);
    for version in 1..20 {
        reader.reads(1, version - 1).await;
        // Its message finds no subscriber, or one that is about to hear that it was cut off.
        run(admin, "CLIENT KILL TYPE pubsub").await;
        writer.write(1, version).await;
        reader.reads(1, version).await;
    }
    let stats = reader.cache.manager().get_stats().await.unwrap();
    assert!(stats.bus.flushes >= 19, "{:?}", stats.bus);
    assert_eq!((stats.connection_errors, stats.breaker_opened), (0, 0), "the other connections live on");
}

#[tokio::test]
async fn without_the_channels_rows_are_served_from_redis() {
    let (server, table) = (Server::start(&[]), Table::default());
    let admin = &mut server.admin().await;
    run(admin, "ACL SETUSER app reset on >pw ~app:* +@all resetchannels").await;
    let url = format!("redis://app:pw@127.0.0.1:{}/", server.port);
    let (reader, writer) =
        (Process::new(&url, &table, L1::Bounded(Duration::from_secs(60))), Process::new(&url, &table, L1::Off));
    table.set(1, 0);
    for version in 1..20 {
        assert_eq!(reader.read(1).await, version - 1);
        writer.write(1, version).await;
    }
    assert_eq!((reader.l1_hits().await, reader.beats().await), (0, false));
    // Nobody waits for messages that are refused.
    timeout(PATIENCE, writer.cache.manager().settle()).await.unwrap();
    let stats = writer.cache.manager().get_stats().await.unwrap();
    assert_eq!((stats.bus.sent, stats.connection_errors), (0, 0));
    run(admin, "ACL SETUSER app &app:bus*").await;
    assert!(reader.cache.manager().listen().await, "the rights are there");
    reader.reads(1, 19).await;
}

#[tokio::test]
async fn the_subscription_is_a_connection_of_its_own_that_ends_with_the_manager() {
    let (server, table) = (Server::start(&[]), Table::default());
    let reader = Process::near(&server.url(), &table).await;
    let admin = &mut server.admin().await;
    let subscribers = async |admin: &mut redis::aio::MultiplexedConnection| {
        let (_, count): (String, u64) = redis::from_redis_value(run(admin, "PUBSUB NUMSUB app:bus").await).unwrap();
        count
    };
    assert_eq!(subscribers(admin).await, 1);
    drop(reader);
    timeout(PATIENCE, async { while subscribers(admin).await > 0 {} }).await.expect("the subscription lives on");
}
