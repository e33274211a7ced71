//! A shared tier in memory with the semantics of the real one, whose commands can be held, and a database to load from.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use storehaus_cache::codec::header::Token;
use storehaus_cache::l2::{Fill, L2, L2Error, LeaseReply, ManyReply, Reply};
use storehaus_cache::loader::{Aborted, Loader, Rows};
use storehaus_cache::record::{RecordCache, StoreInfo, Tiers};
use storehaus_cache::{CacheConfig, CacheManager, CacheParams};
use tokio::sync::Semaphore;

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
    /// The reply to the next `GET`, whatever stands there.
    pub(super) next_get: Mutex<Option<Vec<u8>>>,
    /// What the next commands of each kind fail with.
    pub(super) fail_gets: Mutex<Vec<L2Error>>,
    /// What the next leases fail with, after they were placed.
    pub(super) fail_leases: Mutex<Vec<L2Error>>,
    pub(super) deletes: Gate,
    pub(super) leases: Gate,
    pub(super) probes: Gate,
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

    fn place(&self, key: &str, token: Token, over: Option<&[u8]>) -> LeaseReply {
        let mut keys = self.keys.lock().unwrap();
        match keys.get(key) {
            Some(found) if !over.is_some_and(|seen| found.starts_with(seen)) => {
                LeaseReply::Taken(Reply { bytes: Some(found.clone()), incarnation: self.incarnation() })
            }
            _ => {
                keys.insert(key.to_owned(), token.to_lease().to_vec());
                LeaseReply::Granted(self.incarnation())
            }
        }
    }
}

impl L2 for Shelf {
    async fn get(&self, key: &str) -> Result<Reply, L2Error> {
        if let Some(error) = self.0.fail_gets.lock().unwrap().pop() {
            return Err(error);
        }
        let bytes = self.0.next_get.lock().unwrap().take().or_else(|| self.0.keys.lock().unwrap().get(key).cloned());
        Ok(Reply { bytes, incarnation: self.0.incarnation() })
    }

    async fn get_many(&self, keys: &[String]) -> Result<ManyReply, L2Error> {
        self.0.many_gets.fetch_add(1, Ordering::SeqCst);
        let held = self.0.keys.lock().unwrap();
        let bytes = keys.iter().map(|key| held.get(key).cloned()).collect();
        Ok(ManyReply { bytes, incarnation: self.0.incarnation() })
    }

    async fn lease(&self, key: &str, token: Token, _: Duration) -> Result<LeaseReply, L2Error> {
        let reply = self.0.place(key, token, None);
        self.0.leases.pass().await;
        match self.0.fail_leases.lock().unwrap().pop() {
            Some(error) => Err(error),
            None => Ok(reply),
        }
    }

    async fn lease_many(&self, keys: &[(String, Token)], _: Duration) -> Result<Vec<Option<LeaseReply>>, L2Error> {
        Ok(keys.iter().map(|(key, token)| Some(self.0.place(key, *token, None))).collect())
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

    async fn delete(&self, keys: &[String]) -> Result<u64, L2Error> {
        self.0.deletes.pass().await;
        let mut held = self.0.keys.lock().unwrap();
        Ok(keys.iter().filter(|key| held.remove(*key).is_some()).count() as u64)
    }

    async fn ttl(&self, _: &str) -> Result<Option<Duration>, L2Error> {
        Ok(None)
    }

    async fn delete_matching(&self, _: &str) -> Result<u64, L2Error> {
        Ok(std::mem::take(&mut *self.0.keys.lock().unwrap()).len() as u64)
    }

    async fn probe(&self) -> Result<(), L2Error> {
        self.0.probes.pass().await;
        Ok(())
    }

    fn reset(&self) {
        self.0.resets.fetch_add(1, Ordering::SeqCst);
    }
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

/// A process of its own on the shelf.
pub(super) fn manager(shelf: &Shelf) -> CacheManager<Shelf> {
    CacheManager::with_tier(CacheConfig::in_process(60, "app"), shelf.clone()).unwrap()
}

pub(super) fn cache(manager: &CacheManager<Shelf>, table: &Table) -> Cache {
    RecordCache::new(table.clone(), CacheParams::new(manager.clone()), &STORE).unwrap()
}

pub(super) async fn name(cache: &Cache, id: &str) -> Option<String> {
    cache.get(id).await.unwrap().map(|row| (*row).clone())
}
