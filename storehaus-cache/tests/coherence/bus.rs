//! What the bus promises, with messages that are lost, late, refused or forged.

use std::sync::atomic::Ordering;
use std::time::Duration;

use storehaus_cache::l2::L2Error;
use storehaus_cache::record::RecordCache;
use storehaus_cache::{BusStats, CacheConfig, CacheManager, CacheParams, L1};

use crate::shelf::{Cache, PATIENCE, STORE, Shelf, Table, cache, manager, name, near, reading, until};

async fn bus(manager: &CacheManager<Shelf>) -> BusStats {
    manager.get_stats().await.unwrap().bus
}

/// How often each tier was hit.
async fn hits(manager: &CacheManager<Shelf>) -> (u64, u64) {
    let total = manager.get_stats().await.unwrap().total;
    (total.l1_hits, total.l2_hits)
}

/// A process that keeps rows in process, and one that does not and writes.
struct Pair {
    shelf: Shelf,
    table: Table,
    here: CacheManager<Shelf>,
    reader: Cache,
    there: CacheManager<Shelf>,
    writer: Cache,
}

impl Pair {
    async fn new() -> Self {
        let (shelf, table) = (Shelf::default(), Table::default());
        let (here, there) = (manager(&shelf), manager(&shelf));
        let reader = near(&here, &table).await;
        let writer = cache(&there, &table);
        let pair = Self { shelf, table, here, reader, there, writer };
        pair.table.set("1", "old");
        pair.table.set("2", "two");
        pair.keep("1").await;
        pair.keep("2").await;
        pair
    }

    /// Reads a row until it is served in process.
    async fn keep(&self, id: &str) {
        until("a hit in process", async || {
            let before = hits(&self.here).await.0;
            name(&self.reader, id).await;
            hits(&self.here).await.0 > before
        })
        .await;
    }

    async fn write(&self, id: &str, to: &str) {
        self.table.set(id, to);
        self.writer.invalidate(&[id.to_owned()]).await;
    }

    async fn reads(&self, id: &str, expected: &str) {
        until("the new row", async || name(&self.reader, id).await.as_deref() == Some(expected)).await;
    }
}

#[tokio::test]
async fn a_write_of_another_process_is_heard() {
    let pair = Pair::new().await;
    pair.write("1", "new").await;
    pair.reads("1", "new").await;
    let heard = bus(&pair.here).await;
    assert_eq!((heard.received, heard.gaps, heard.ignored), (1, 0, 0));
    // The other row was left alone.
    let (in_process, shared) = hits(&pair.here).await;
    assert_eq!(name(&pair.reader, "2").await.as_deref(), Some("two"));
    assert_eq!(hits(&pair.here).await, (in_process + 1, shared));
}

#[tokio::test]
async fn a_lost_message_is_missed_by_the_next_one_and_empties_the_tier() {
    let pair = Pair::new().await;
    pair.write("2", "first").await;
    pair.reads("2", "first").await;
    pair.shelf.0.hub.lose.store(1, Ordering::SeqCst);
    pair.write("1", "new").await;
    // Nothing else is written: that it was the last message is said an interval later.
    pair.reads("1", "new").await;
    let heard = bus(&pair.here).await;
    assert_eq!((heard.received, heard.gaps, heard.flushes), (1, 1, 1));

    pair.keep("1").await;
    pair.keep("2").await;
    pair.shelf.0.hub.lose.store(1, Ordering::SeqCst);
    pair.write("1", "newer").await;
    pair.there.settle().await;
    pair.write("2", "second").await;
    pair.reads("2", "second").await;
    assert_eq!(name(&pair.reader, "1").await.as_deref(), Some("newer"));
    assert_eq!(bus(&pair.here).await.gaps, 2);
}

#[tokio::test]
async fn a_sender_whose_first_messages_were_not_heard_empties_the_tier() {
    let (shelf, table) = (Shelf::default(), Table::default());
    table.set("1", "old");
    let (early, late) = (manager(&shelf), manager(&shelf));
    let writer = cache(&early, &table);
    for _ in 0..3 {
        writer.invalidate(&["9".to_owned()]).await;
        early.settle().await;
    }
    assert_eq!(shelf.0.hub.published.load(Ordering::SeqCst), 3);
    let reader = near(&late, &table).await;
    assert_eq!(name(&reader, "1").await.as_deref(), Some("old"));
    writer.invalidate(&["9".to_owned()]).await;
    until("the message", async || bus(&late).await.received == 1).await;
    assert_eq!((bus(&late).await.gaps, bus(&late).await.flushes), (1, 1));
}

#[tokio::test]
async fn a_broken_subscription_is_replaced_and_what_was_held_is_not_served_meanwhile() {
    let pair = Pair::new().await;
    for round in 0..20 {
        pair.keep("1").await;
        let new = format!("round {round}");
        // The message finds nobody.
        pair.shelf.0.hub.cut();
        pair.write("1", &new).await;
        pair.reads("1", &new).await;
    }
    pair.keep("1").await;
    assert!(bus(&pair.here).await.flushes >= 20);
    assert!(pair.shelf.0.hub.subscriptions.load(Ordering::SeqCst) > 20);
}

#[tokio::test]
async fn a_bus_that_falls_silent_is_not_trusted() {
    let pair = Pair::new().await;
    pair.shelf.0.hub.silent.store(true, Ordering::SeqCst);
    pair.write("1", "new").await;
    pair.there.settle().await;
    // The subscription stands, and brings neither the message nor the heartbeats.
    pair.reads("1", "new").await;
    let (in_process, _) = hits(&pair.here).await;
    for _ in 0..10 {
        assert_eq!(name(&pair.reader, "1").await.as_deref(), Some("new"));
    }
    assert_eq!(hits(&pair.here).await.0, in_process, "served in process by a bus that is silent");
    pair.shelf.0.hub.silent.store(false, Ordering::SeqCst);
    pair.keep("1").await;
}

#[tokio::test]
async fn rows_are_served_from_redis_until_the_first_heartbeat_is_back() {
    let (shelf, table) = (Shelf::default(), Table::default());
    table.set("1", "row");
    shelf.0.hub.silent.store(true, Ordering::SeqCst);
    let manager = manager(&shelf);
    let params = CacheParams::new(manager.clone()).with_l1(L1::Bounded(Duration::from_secs(60)));
    let cache: Cache = RecordCache::new(table.clone(), params, &STORE).unwrap();
    assert_eq!(shelf.0.hub.subscriptions.load(Ordering::SeqCst), 0, "a store contacts nobody");
    assert_eq!(name(&cache, "1").await.as_deref(), Some("row"));
    manager.settle().await;
    until("a subscription", async || shelf.0.hub.subscriptions.load(Ordering::SeqCst) > 0).await;
    for _ in 0..5 {
        assert_eq!(name(&cache, "1").await.as_deref(), Some("row"));
    }
    assert_eq!((hits(&manager).await, table.loads()), ((0, 5), 1));
    assert_eq!(bus(&manager).await.beat_age, None);
}

#[tokio::test]
async fn a_process_without_rows_of_its_own_subscribes_to_nothing() {
    let (shelf, table) = (Shelf::default(), Table::default());
    table.set("1", "row");
    let manager = manager(&shelf);
    let cache = cache(&manager, &table);
    for _ in 0..3 {
        assert_eq!(name(&cache, "1").await.as_deref(), Some("row"));
        cache.invalidate(&["1".to_owned()]).await;
    }
    assert_eq!(shelf.0.hub.subscriptions.load(Ordering::SeqCst), 0);
    assert_eq!(bus(&manager).await.beat_age, None);
}

#[tokio::test]
async fn messages_to_nobody_are_sent_once_an_interval() {
    let shelf = Shelf::default();
    let config = CacheConfig::in_process(60, "app").with_bus_interval(PATIENCE);
    let manager = CacheManager::with_tier(config, shelf.clone()).unwrap();
    let cache = cache(&manager, &Table::default());
    let published = || shelf.0.hub.published.load(Ordering::SeqCst);
    cache.invalidate(&["0".to_owned()]).await;
    until("the first message", async || published() == 1).await;
    for id in 1..1000 {
        cache.invalidate(&[id.to_string()]).await;
        tokio::task::yield_now().await;
    }
    assert_eq!(published(), 1);
    // Who ends waits for the rest, and not for the interval.
    manager.settle().await;
    assert_eq!(published(), 2);
}

#[tokio::test]
async fn what_is_written_while_a_message_is_under_way_goes_together() {
    let pair = Pair::new().await;
    let hub = &pair.shelf.0.hub;
    hub.gate.shut();
    pair.write("2", "other").await;
    hub.gate.arrival().await;
    for n in 0..100 {
        pair.write("1", &format!("version {n}")).await;
    }
    hub.gate.open();
    pair.there.settle().await;
    assert_eq!(hub.published.load(Ordering::SeqCst), 2);
    pair.reads("1", "version 99").await;
    assert_eq!(bus(&pair.here).await.gaps, 0);
}

#[tokio::test]
async fn the_shared_tier_is_cleared_before_others_are_told() {
    let pair = Pair::new().await;
    pair.shelf.0.clears.shut();
    pair.table.set("1", "new");
    let writer = pair.writer.clone();
    let write = tokio::spawn(async move { writer.invalidate(&["1".to_owned()]).await });
    pair.shelf.0.clears.arrival().await;
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert_eq!(pair.shelf.0.hub.published.load(Ordering::SeqCst), 0);
    pair.shelf.0.clears.pass_one();
    write.await.unwrap();
    pair.reads("1", "new").await;
}

#[tokio::test]
async fn a_removal_that_is_owed_is_made_before_others_are_told() {
    let pair = Pair::new().await;
    pair.shelf.0.probes.shut();
    pair.table.set("1", "new");
    // As a write whose runtime ends after COMMIT.
    drop(pair.writer.announce(vec!["1".to_owned()]).await.unwrap());
    pair.shelf.0.probes.arrival().await;
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert_eq!(pair.shelf.0.hub.published.load(Ordering::SeqCst), 0);
    // A shutdown does not wait for a server that is away.
    tokio::time::timeout(PATIENCE, pair.there.settle()).await.expect("waits for what cannot be sent");
    pair.shelf.0.probes.open();
    pair.reads("1", "new").await;
}

#[tokio::test]
async fn a_message_that_cannot_be_sent_is_sent_later() {
    let pair = Pair::new().await;
    let gone = || L2Error::Connection("gone".to_owned());
    *pair.shelf.0.hub.refusals.lock().unwrap() = vec![gone(), gone(), gone()];
    pair.write("1", "new").await;
    pair.write("2", "newer").await;
    pair.reads("1", "new").await;
    pair.reads("2", "newer").await;
    let sent = bus(&pair.there).await;
    assert_eq!((sent.failed, bus(&pair.here).await.gaps), (3, 0));
}

#[tokio::test]
async fn a_load_under_way_when_the_message_comes_is_not_kept() {
    let pair = Pair::new().await;
    pair.table.set("3", "old");
    pair.table.0.selects.shut();
    let early = reading(&pair.reader, "3");
    pair.table.0.selects.arrival().await;
    pair.write("3", "new").await;
    until("the message", async || bus(&pair.here).await.received == 1).await;
    pair.table.0.selects.open();
    assert_eq!(early.await.unwrap().as_deref(), Some("old"), "it began before the write");
    assert_eq!(name(&pair.reader, "3").await.as_deref(), Some("new"));
}

#[tokio::test]
async fn what_is_changed_by_hand_is_heard() {
    let pair = Pair::new().await;
    assert!(pair.there.set_record("users", "1", &"by hand".to_owned(), 60).await.unwrap());
    pair.reads("1", "by hand").await;
    pair.keep("1").await;
    pair.table.set("1", "deleted by hand");
    pair.there.delete_record("users", "1").await.unwrap();
    pair.reads("1", "deleted by hand").await;
    pair.keep("1").await;
    pair.table.set("1", "swept");
    pair.there.delete_pattern("users:*").await.unwrap();
    pair.reads("1", "swept").await;
    assert_eq!(bus(&pair.here).await.gaps, 0);
}

#[tokio::test]
async fn an_id_too_long_to_be_sent_as_text_empties_the_store() {
    let pair = Pair::new().await;
    let long = "x".repeat(2_000);
    pair.table.set(&long, "old");
    pair.keep(&long).await;
    pair.write(&long, "new").await;
    pair.reads(&long, "new").await;
}

#[tokio::test]
async fn hostile_messages_cost_hits_at_most() {
    let pair = Pair::new().await;
    let hub = &pair.shelf.0.hub;
    let channels = hub.channels();
    let own = channels.iter().find(|name| !name.ends_with(":bus")).unwrap();
    let head = |kind: u8, publisher: u64, number: u64| {
        [&b"SB\x01"[..], &[kind], &publisher.to_le_bytes(), &number.to_le_bytes()].concat()
    };
    let id = u64::from_str_radix(own.rsplit(':').next().unwrap(), 16).unwrap();
    let hostile = [
        Vec::new(),
        b"SB".to_vec(),
        vec![0; 1 << 20],
        [&b"SB\x02"[..], &head(b'C', 1, 1)[3..]].concat(),
        head(b'?', 1, 1),
        // A heartbeat of another process, one never sent, and one from the future.
        head(b'B', 1, 1),
        [&head(b'C', 1, 1)[..], &[2, 255, 255, b'x']].concat(),
        [&head(b'C', 1, 1)[..], &[2, 1, 0, b't', 254, 255, 255, 255]].concat(),
        [&head(b'C', 1, 1)[..], &[2, 1, 0, 0xff, 0, 0, 0, 0]].concat(),
    ];
    for message in &hostile {
        hub.pass_on("app:bus", message);
        hub.pass_on(own, message);
    }
    until("all of them", async || bus(&pair.here).await.ignored == 2 * hostile.len() as u64).await;
    assert_eq!(bus(&pair.here).await.gaps, 0);
    // In the name of this very process: nothing.
    hub.pass_on("app:bus", &head(b'C', id, 1 << 40));
    // More processes than are remembered, each with a gap.
    for publisher in 0..5_000 {
        hub.pass_on("app:bus", &head(b'C', 1_000 + publisher, u64::MAX));
    }
    until("all of these", async || bus(&pair.here).await.received >= 5_000).await;
    assert_eq!(bus(&pair.here).await.gaps, 5_000);

    // Heartbeats that were never sent prolong nothing.
    hub.silent.store(true, Ordering::SeqCst);
    pair.table.set("1", "new");
    pair.writer.invalidate(&["1".to_owned()]).await;
    until("the new row", async || {
        hub.silent.store(false, Ordering::SeqCst);
        for number in [0, 1 << 40, u64::MAX] {
            hub.pass_on(own, &head(b'B', id, number));
        }
        hub.silent.store(true, Ordering::SeqCst);
        name(&pair.reader, "1").await.as_deref() == Some("new")
    })
    .await;
    hub.silent.store(false, Ordering::SeqCst);
    pair.keep("1").await;
}

#[tokio::test]
async fn while_redis_is_away_the_bound_alone_holds() {
    let pair = Pair::new().await;
    pair.shelf.0.probes.shut();
    let gone = L2Error::Connection("gone".to_owned());
    pair.shelf.0.hub.silent.store(true, Ordering::SeqCst);
    pair.shelf.0.hub.cut();
    // Two reads: the first is told that the server is away.
    pair.shelf.0.fail_gets.lock().unwrap().push(gone);
    until("the tier is down", async || {
        name(&pair.reader, "1").await;
        pair.shelf.0.fail_gets.lock().unwrap().is_empty()
    })
    .await;
    let loads = pair.table.loads();
    for _ in 0..10 {
        assert_eq!(name(&pair.reader, "1").await.as_deref(), Some("old"));
    }
    assert!(pair.table.loads() <= loads + 1, "the database is asked for each read");
    // The own writes are seen at once all the same.
    pair.table.set("1", "own");
    let own = ["1".to_owned()];
    tokio::select! {
        biased;
        () = pair.reader.invalidate(&own) => {}
        () = tokio::task::yield_now() => {}
    }
    assert_eq!(name(&pair.reader, "1").await.as_deref(), Some("own"));

    pair.write("1", "new").await;
    pair.shelf.0.hub.silent.store(false, Ordering::SeqCst);
    pair.shelf.0.probes.open();
    pair.reads("1", "new").await;
    pair.keep("1").await;
}

#[test]
fn a_listener_lost_with_its_runtime_is_started_again_by_the_next_read() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (shelf, table) = (Shelf::default(), Table::default());
    table.set("1", "old");
    let (here, there) = (manager(&shelf), manager(&shelf));
    let writer = cache(&there, &table);
    let reader = runtime().block_on(async {
        let reader = near(&here, &table).await;
        for _ in 0..2 {
            assert_eq!(name(&reader, "1").await.as_deref(), Some("old"));
        }
        reader
    });
    // Nobody listens now.
    table.set("1", "new");
    runtime().block_on(writer.invalidate(&["1".to_owned()]));
    runtime().block_on(async {
        assert_eq!((hits(&here).await.0, bus(&here).await.beat_age), (1, None));
        until("a heartbeat", async || {
            assert_eq!(name(&reader, "1").await.as_deref(), Some("new"));
            bus(&here).await.beat_age.is_some()
        })
        .await;
        assert_eq!(name(&reader, "1").await.as_deref(), Some("new"));
    });
}

#[tokio::test]
async fn the_subscription_ends_with_the_manager() {
    let (shelf, table) = (Shelf::default(), Table::default());
    let manager = manager(&shelf);
    let cache = near(&manager, &table).await;
    drop((manager, cache));
    until("the end of the subscription", async || shelf.0.hub.pass_on("app:bus", b"") == 0).await;
}
