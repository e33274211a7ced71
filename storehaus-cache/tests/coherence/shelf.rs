//! A shared tier in memory with the semantics of the real one, whose commands can be held, and a database to load from.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use storehaus_cache::codec::header::{self, Content, Expected, Millis, Token};
use storehaus_cache::l2::{
    Bytes, Claim, Cleared, Fill, Incarnation, L2, L2Error, LeaseReply, ManyReply, Messages, Reply,
};
use storehaus_cache::loader::{Aborted, Loader, Rows};
use storehaus_cache::record::{RecordCache, StoreInfo, Tiers};
use storehaus_cache::{CacheConfig, CacheManager, CacheParams, L1};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use crate::hub::Hub;

pub(super) const STORE: StoreInfo<'static> =
    StoreInfo { table: "users", prefix: "users", ttl: None, tiers: Tiers::All };

#[derive(Clone, Default)]
pub(super) struct Shelf(pub(super) Arc<State>);

#[derive(Default)]
pub(super) struct State {
    pub(super) keys: Mutex<BTreeMap<String, Vec<u8>>>,
    pub(super) incarnation: AtomicU64,
    pub(super) resets: AtomicUsize,
    /// How many `MGET`s came.
    pub(super) many_gets: AtomicUsize,
    /// How many single leases were asked for.
    pub(super) asked: AtomicUsize,
    /// The reply to the next `GET`, whatever stands there.
    pub(super) next_get: Mutex<Option<Vec<u8>>>,
    /// What the next commands of each kind fail with.
    pub(super) fail_gets: Mutex<Vec<L2Error>>,
    /// What the next leases fail with, after they were placed.
    pub(super) fail_leases: Mutex<Vec<L2Error>>,
    /// The same of intents and clearings.
    pub(super) fail_announces: Mutex<Vec<L2Error>>,
    pub(super) fail_clears: Mutex<Vec<L2Error>>,
    /// The clock of the server, in milliseconds.
    pub(super) now: AtomicU64,
    /// How many commands concerned intents, those that clear included.
    pub(super) announces: AtomicUsize,
    pub(super) renewals: AtomicUsize,
    pub(super) clears: Gate,
    pub(super) leases: Gate,
    pub(super) probes: Gate,
    pub(super) hub: Hub,
}

/// Lets calls through, unless it is shut.
pub(super) struct Gate {
    arrived: Semaphore,
    shut: Mutex<bool>,
    open: Semaphore,
}

impl Default for Gate {
    fn default() -> Self {
        Self { arrived: Semaphore::new(0), shut: Mutex::new(false), open: Semaphore::new(0) }
    }
}

impl Gate {
    pub(super) fn shut(&self) {
        *self.shut.lock().unwrap() = true;
    }

    /// Waits until a call stands before the gate.
    pub(super) async fn arrival(&self) {
        self.arrived.acquire().await.unwrap().forget();
    }

    /// Lets one call through.
    pub(super) fn pass_one(&self) {
        self.open.add_permits(1);
    }

    /// Lets all calls through from now on.
    pub(super) fn open(&self) {
        *self.shut.lock().unwrap() = false;
        self.open.add_permits(Semaphore::MAX_PERMITS / 2);
    }

    pub(super) async fn pass(&self) {
        let shut = *self.shut.lock().unwrap();
        if shut {
            self.arrived.add_permits(1);
            self.open.acquire().await.unwrap().forget();
        }
    }
}

impl State {
    fn incarnation(&self) -> u64 {
        self.incarnation.load(Ordering::SeqCst)
    }

    /// What stands under a key now: it ends with the longest of its intents.
    fn held(&self, keys: &mut BTreeMap<String, Vec<u8>>, key: &str) -> Option<Vec<u8>> {
        if let Some((_, entries)) = keys.get(key).and_then(|content| intents(content))
            && entries.iter().all(|(_, ends)| *ends <= self.now.load(Ordering::SeqCst))
        {
            keys.remove(key);
        }
        keys.get(key).cloned()
    }

    /// The intents of others, and whether that of the token stands.
    fn others(&self, content: Option<&[u8]>, token: Option<Token>) -> (Vec<(Token, u64)>, bool) {
        let now = self.now.load(Ordering::SeqCst);
        let (_, mut entries) = content.and_then(intents).unwrap_or_default();
        entries.retain(|(_, ends)| *ends > now);
        let own = entries.iter().any(|(other, _)| Some(*other) == token);
        entries.retain(|(other, _)| Some(*other) != token);
        (entries, own)
    }

    pub(super) fn intents(&self, key: &str) -> Option<(bool, Vec<(Token, u64)>)> {
        intents(&self.held(&mut self.keys.lock().unwrap(), key)?)
    }

    fn place(&self, key: &str, token: Token, over: Option<&[u8]>) -> LeaseReply {
        let mut keys = self.keys.lock().unwrap();
        match self.held(&mut keys, key) {
            Some(found) if !over.is_some_and(|seen| found.starts_with(seen)) => {
                LeaseReply::Taken(Reply { bytes: Some(found.into()), incarnation: self.incarnation() })
            }
            _ => {
                keys.insert(key.to_owned(), token.to_lease().to_vec());
                LeaseReply::Granted(self.incarnation())
            }
        }
    }
}

impl L2 for Shelf {
    const HAS_BUS: bool = true;

    async fn get(&self, key: &str) -> Result<Reply, L2Error> {
        if let Some(error) = self.0.fail_gets.lock().unwrap().pop() {
            return Err(error);
        }
        let shown = self.0.next_get.lock().unwrap().take();
        let bytes = shown.or_else(|| self.0.held(&mut self.0.keys.lock().unwrap(), key));
        Ok(Reply { bytes: bytes.map(Bytes::from), incarnation: self.0.incarnation() })
    }

    async fn get_many<K: AsRef<str> + Sync>(&self, keys: &[K]) -> Result<ManyReply, L2Error> {
        self.0.many_gets.fetch_add(1, Ordering::SeqCst);
        let mut held = self.0.keys.lock().unwrap();
        let bytes = keys.iter().map(|key| self.0.held(&mut held, key.as_ref()).map(Bytes::from)).collect();
        Ok(ManyReply { bytes, incarnation: self.0.incarnation() })
    }

    async fn lease(&self, key: &str, token: Token, _: Duration) -> Result<LeaseReply, L2Error> {
        self.0.asked.fetch_add(1, Ordering::SeqCst);
        let reply = self.0.place(key, token, None);
        self.0.leases.pass().await;
        match self.0.fail_leases.lock().unwrap().pop() {
            Some(error) => Err(error),
            None => Ok(reply),
        }
    }

    async fn lease_many(&self, keys: &[(String, Token)], _: Duration) -> Result<Vec<LeaseReply>, L2Error> {
        Ok(keys.iter().map(|(key, token)| self.0.place(key, *token, None)).collect())
    }

    async fn replace(&self, key: &str, seen: &[u8], token: Token, _: Duration) -> Result<LeaseReply, L2Error> {
        Ok(self.0.place(key, token, Some(seen)))
    }

    async fn fill(&self, fills: &[Fill]) -> Result<Vec<bool>, L2Error> {
        let mut keys = self.0.keys.lock().unwrap();
        Ok(fills
            .iter()
            .map(|fill| {
                let stands = keys.get(&fill.key).is_some_and(|found| *found == fill.token.to_lease());
                if stands {
                    keys.insert(fill.key.clone(), fill.value.clone());
                }
                stands
            })
            .collect())
    }

    async fn release(&self, leases: &[(String, Token)]) -> Result<(), L2Error> {
        let mut keys = self.0.keys.lock().unwrap();
        for (key, token) in leases {
            if keys.get(key).is_some_and(|found| *found == token.to_lease()) {
                keys.remove(key);
            }
        }
        Ok(())
    }

    async fn announce(&self, keys: &[String], token: Token, ttl: Duration) -> Result<Incarnation, L2Error> {
        self.0.announces.fetch_add(1, Ordering::SeqCst);
        if let Some(error) = self.0.fail_announces.lock().unwrap().pop() {
            return Err(error);
        }
        let ends = self.0.now.load(Ordering::SeqCst) + ttl.as_millis() as u64;
        let mut held = self.0.keys.lock().unwrap();
        for key in keys {
            let content = held.get(key).cloned();
            let (mut entries, own) = self.0.others(content.as_deref(), Some(token));
            let was_shared = content.and_then(|content| intents(&content)).is_some_and(|(shared, _)| shared);
            let shared = !entries.is_empty() || (own && was_shared);
            entries.push((token, ends));
            held.insert(key.clone(), encode(shared, &entries));
        }
        Ok(self.0.incarnation())
    }

    async fn renew(&self, keys: &[String], token: Token, ttl: Duration) -> Result<Vec<bool>, L2Error> {
        self.0.renewals.fetch_add(1, Ordering::SeqCst);
        let ends = self.0.now.load(Ordering::SeqCst) + ttl.as_millis() as u64;
        let mut held = self.0.keys.lock().unwrap();
        Ok(keys
            .iter()
            .map(|key| {
                let content = held.get(key).cloned();
                let (mut entries, own) = self.0.others(content.as_deref(), Some(token));
                if let Some((shared, _)) = content.as_deref().and_then(intents)
                    && own
                {
                    entries.push((token, ends));
                    held.insert(key.clone(), encode(shared, &entries));
                }
                own
            })
            .collect())
    }

    async fn clear(&self, keys: &[Claim]) -> Result<Cleared, L2Error> {
        self.0.clears.pass().await;
        if let Some(error) = self.0.fail_clears.lock().unwrap().pop() {
            return Err(error);
        }
        let mut held = self.0.keys.lock().unwrap();
        let mut cleared = Cleared::default();
        for (key, token) in keys {
            let (others, own) = self.0.others(held.get(key).map(Vec::as_slice), *token);
            cleared.lost += u64::from(token.is_some() && !own);
            if others.is_empty() {
                cleared.removed += u64::from(held.remove(key).is_some());
            } else {
                held.insert(key.clone(), encode(true, &others));
            }
        }
        Ok(cleared)
    }

    async fn withdraw(&self, keys: &[String], token: Token) -> Result<(), L2Error> {
        let mut held = self.0.keys.lock().unwrap();
        for key in keys {
            let content = held.get(key).cloned();
            match (self.0.others(content.as_deref(), Some(token)), content.as_deref().and_then(intents)) {
                ((others, true), Some((shared, _))) if !others.is_empty() => {
                    held.insert(key.clone(), encode(shared, &others));
                }
                ((_, true), _) => drop(held.remove(key)),
                _ => {}
            }
        }
        Ok(())
    }

    async fn ttl(&self, _: &str) -> Result<Option<Duration>, L2Error> {
        Ok(None)
    }

    async fn delete_matching(&self, _: &str) -> Result<u64, L2Error> {
        Ok(std::mem::take(&mut *self.0.keys.lock().unwrap()).len() as u64)
    }

    async fn publish(&self, channel: &str, message: &[u8]) -> Result<u64, L2Error> {
        self.0.hub.publish(channel, message).await
    }

    async fn subscribe(&self, channels: &[String]) -> Result<Messages, L2Error> {
        Ok(self.0.hub.subscribe(channels))
    }

    async fn probe(&self) -> Result<(), L2Error> {
        self.0.probes.pass().await;
        Ok(())
    }

    fn reset(&self) {
        self.0.resets.fetch_add(1, Ordering::SeqCst);
    }
}

/// Whether the writers of a key met, and who they are; `None` for anything but intents.
fn intents(content: &[u8]) -> Option<(bool, Vec<(Token, u64)>)> {
    if content.get(3) != Some(&b'I') {
        return None;
    }
    match header::parse(content, &Expected { schema: 0, identity: 0, incarnation: 0, now: Millis(0) }) {
        Content::Intents(intents) => {
            Some((intents.shared, intents.entries().map(|(token, ends)| (token, ends.0)).collect()))
        }
        _ => None,
    }
}

fn encode(shared: bool, entries: &[(Token, u64)]) -> Vec<u8> {
    let mut content = vec![b'S', b'H', header::FORMAT_VERSION, b'I', u8::from(shared), 0, 0, 0, 0];
    for (token, ends) in entries {
        content.extend_from_slice(&token.to_bytes());
        content.extend_from_slice(&ends.to_le_bytes());
    }
    content
}

/// The table `users`: a name per id.
#[derive(Clone, Default)]
pub(super) struct Table(pub(super) Arc<Contents>);

#[derive(Default)]
pub(super) struct Contents {
    pub(super) rows: Mutex<BTreeMap<String, String>>,
    pub(super) selects: Gate,
    pub(super) loads: AtomicUsize,
}

impl Table {
    pub(super) fn set(&self, id: &str, name: &str) {
        self.0.rows.lock().unwrap().insert(id.to_owned(), name.to_owned());
    }

    pub(super) fn loads(&self) -> usize {
        self.0.loads.load(Ordering::SeqCst)
    }
}

impl Loader for Table {
    type Key = String;
    type Value = String;
    type Error = String;

    async fn load(&self, key: &String) -> Result<Option<String>, String> {
        self.0.loads.fetch_add(1, Ordering::SeqCst);
        let row = self.0.rows.lock().unwrap().get(key).cloned();
        self.0.selects.pass().await;
        Ok(row)
    }

    async fn load_many(&self, keys: &[String]) -> Result<Rows<Self>, String> {
        self.0.loads.fetch_add(1, Ordering::SeqCst);
        let rows = self.0.rows.lock().unwrap();
        Ok(keys.iter().filter_map(|key| rows.get(key).map(|row| (key.clone(), row.clone()))).collect())
    }

    fn is_key_of(&self, key: &String, row: &String) -> bool {
        !row.starts_with("row of ") || row.ends_with(key)
    }

    fn aborted(&self, why: Aborted) -> String {
        format!("{why:?}")
    }
}

pub(super) type Cache = RecordCache<Table, Shelf>;

/// A process of its own on the shelf, whose reads do not give up because the machine has too much to do.
pub(super) fn manager(shelf: &Shelf) -> CacheManager<Shelf> {
    let config = CacheConfig::in_process(60, "app").with_read_budget(Duration::from_secs(1));
    CacheManager::with_tier(config, shelf.clone()).unwrap()
}

pub(super) fn cache(manager: &CacheManager<Shelf>, table: &Table) -> Cache {
    RecordCache::new(table.clone(), CacheParams::new(manager.clone()), &STORE).unwrap()
}

/// How long a test waits for something that is bound to happen.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

/// Waits for a condition that another task brings about.
pub(super) async fn until(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let wait = async {
        while !condition().await {
            tokio::task::yield_now().await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, wait).await.is_ok(), "{what} did not happen within {PATIENCE:?}");
}

/// A store that keeps rows in process for a minute and hears of the writes of others.
pub(super) async fn near(manager: &CacheManager<Shelf>, table: &Table) -> Cache {
    let params = CacheParams::new(manager.clone()).with_l1(L1::Bounded(Duration::from_secs(60)));
    let cache = RecordCache::new(table.clone(), params, &STORE).unwrap();
    until("a heartbeat", async || manager.listen().await).await;
    cache
}

pub(super) async fn name(cache: &Cache, id: &str) -> Option<String> {
    cache.get(id).await.unwrap().map(|row| (*row).clone())
}

/// A read on a task of its own.
pub(super) fn reading(cache: &Cache, id: &'static str) -> JoinHandle<Option<String>> {
    let reader = cache.clone();
    tokio::spawn(async move { name(&reader, id).await })
}
