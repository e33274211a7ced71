//! What the race runs against: the real store, and the same cache over a tier whose fence is switched off.

use std::sync::Arc;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use storehaus::prelude::*;
use storehaus_cache::codec::header::Token;
use storehaus_cache::l2::{Claim, Cleared, Fill, Incarnation, L2, L2Error, LeaseReply, ManyReply, Reply};
use storehaus_cache::loader::{Aborted, Loader};
use storehaus_cache::record::{RecordCache, StoreInfo, Tiers};
use storehaus_cache::redis::RedisTier;

use crate::account::Account;

/// One instance of an application.
pub trait Subject: Send + Sync + 'static {
    /// Reads a row through the cache.
    fn read(&self, id: i64) -> impl Future<Output = storehaus::Result<Option<Account>>> + Send;

    /// Writes a row; when it returns the write is acknowledged.
    fn write(&self, row: Account) -> impl Future<Output = storehaus::Result<()>> + Send;

    /// What the cache did.
    fn stats(&self) -> impl Future<Output = CacheStats> + Send;
}

impl Subject for GenericStore<Account> {
    async fn read(&self, id: i64) -> storehaus::Result<Option<Account>> {
        self.get_by_id(&id).await
    }

    async fn write(&self, row: Account) -> storehaus::Result<()> {
        self.update(&row.id.clone(), row).await.map(drop)
    }

    async fn stats(&self) -> CacheStats {
        match self.cache_manager() {
            Ok(manager) => manager.get_stats().await.unwrap_or_default(),
            Err(_) => CacheStats::default(),
        }
    }
}

/// The store's own cache, over a tier that grants every lease without placing it and stores every fill without asking:
/// GET, SELECT, SET and UPDATE, DEL, as written by hand.
pub struct Unfenced {
    table: GenericStore<Account>,
    cache: RecordCache<Table, WithoutFence>,
}

impl Unfenced {
    /// Over a store that caches nothing itself.
    ///
    /// # Errors
    /// When Redis cannot be reached or the configuration is wrong.
    pub async fn new(
        table: GenericStore<Account>,
        config: CacheConfig,
        tier: RedisTier,
        client: &redis::Client,
    ) -> Result<Self, Box<dyn std::error::Error>> {
        let plain = client.get_multiplexed_async_connection().await?;
        let manager = CacheManager::with_tier(config, WithoutFence { tier, plain })?;
        let info = StoreInfo { table: "proof_accounts", prefix: "unfenced", ttl: None, tiers: Tiers::All };
        let cache = RecordCache::new(Table(table.clone()), CacheParams::new(manager), &info)?;
        Ok(Self { table, cache })
    }
}

impl Subject for Unfenced {
    async fn read(&self, id: i64) -> storehaus::Result<Option<Account>> {
        Ok(self.cache.get(&id).await?.map(Arc::unwrap_or_clone))
    }

    async fn write(&self, row: Account) -> storehaus::Result<()> {
        let id = row.id;
        self.table.update(&id, row).await?;
        self.cache.invalidate(&[id]).await;
        Ok(())
    }

    async fn stats(&self) -> CacheStats {
        self.cache.manager().get_stats().await.unwrap_or_default()
    }
}

struct Table(GenericStore<Account>);

impl Loader for Table {
    type Key = i64;
    type Value = Account;
    type Error = StorehausError;

    async fn load(&self, key: &i64) -> storehaus::Result<Option<Account>> {
        self.0.get_by_id(key).await
    }

    async fn load_many(&self, keys: &[i64]) -> storehaus::Result<Vec<(i64, Account)>> {
        let rows = self.0.get_many(keys).await?;
        Ok(rows.into_iter().flatten().map(|row| (row.id, row)).collect())
    }

    fn aborted(&self, _why: Aborted) -> StorehausError {
        StorehausError::not_found::<Account>()
    }
}

struct WithoutFence {
    tier: RedisTier,
    plain: MultiplexedConnection,
}

impl L2 for WithoutFence {
    async fn get(&self, key: &str) -> Result<Reply, L2Error> {
        self.tier.get(key).await
    }

    async fn get_many<K: AsRef<str> + Sync>(&self, keys: &[K]) -> Result<ManyReply, L2Error> {
        self.tier.get_many(keys).await
    }

    async fn lease(&self, key: &str, _token: Token, _ttl: Duration) -> Result<LeaseReply, L2Error> {
        let reply = self.tier.get(key).await?;
        Ok(if reply.bytes.is_some() { LeaseReply::Taken(reply) } else { LeaseReply::Granted(reply.incarnation) })
    }

    async fn lease_many(&self, keys: &[(String, Token)], ttl: Duration) -> Result<Vec<LeaseReply>, L2Error> {
        let mut replies = Vec::with_capacity(keys.len());
        for (key, token) in keys {
            replies.push(self.lease(key, *token, ttl).await?);
        }
        Ok(replies)
    }

    async fn replace(&self, key: &str, _seen: &[u8], _token: Token, _ttl: Duration) -> Result<LeaseReply, L2Error> {
        Ok(LeaseReply::Granted(self.tier.get(key).await?.incarnation))
    }

    async fn fill(&self, fills: &[Fill]) -> Result<Vec<bool>, L2Error> {
        let mut plain = self.plain.clone();
        for fill in fills {
            let mut set = redis::cmd("SET");
            set.arg(&fill.key).arg(&fill.value).arg("PX").arg(fill.ttl.as_millis() as u64);
            set.query_async::<()>(&mut plain).await.map_err(|error| L2Error::Connection(error.to_string()))?;
        }
        Ok(vec![true; fills.len()])
    }

    async fn release(&self, _leases: &[(String, Token)]) -> Result<(), L2Error> {
        Ok(())
    }

    /// Places no mark, which its readers would heed.
    async fn announce(&self, _keys: &[String], _token: Token, _ttl: Duration) -> Result<Incarnation, L2Error> {
        Ok(0)
    }

    async fn renew(&self, keys: &[String], _token: Token, _ttl: Duration) -> Result<Vec<bool>, L2Error> {
        Ok(vec![true; keys.len()])
    }

    async fn clear(&self, keys: &[Claim]) -> Result<Cleared, L2Error> {
        self.tier.clear(keys).await
    }

    async fn withdraw(&self, _keys: &[String], _token: Token) -> Result<(), L2Error> {
        Ok(())
    }

    async fn ttl(&self, key: &str) -> Result<Option<Duration>, L2Error> {
        self.tier.ttl(key).await
    }

    async fn delete_matching(&self, glob: &str) -> Result<u64, L2Error> {
        self.tier.delete_matching(glob).await
    }

    async fn probe(&self) -> Result<(), L2Error> {
        self.tier.probe().await
    }

    fn reset(&self) {
        self.tier.reset();
    }
}
