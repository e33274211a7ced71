//! The manager: one per process and Redis, shared by all stores.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use crate::audit::{AuditOptions, Auditor};
use crate::bus::{Announce, Bus, BusStats};
use crate::config::CacheConfig;
use crate::env::{Environment, System};
use crate::error::{CacheError, Failure};
use crate::intents::Intents;
use crate::l2::L2;
use crate::registry::Registry;
use crate::remote::{Remote, RemoteSettings};
use crate::scratch::Scratchpad;
use crate::stats::{CacheStats, StoreStats};

/// The shared tier of this build: Redis.
#[cfg(feature = "redis")]
pub type SharedTier = crate::redis::RedisTier;

/// The shared tier of this build: none, the feature `redis` is off.
#[cfg(not(feature = "redis"))]
pub type SharedTier = crate::l2::NoTier;

/// The tiers, and what the stores on them have in common. Cheap to clone; clones share everything.
///
/// Make one per process and database. Stores of one manager on one table invalidate each other in every tier. Stores of
/// other managers, in this process or another, are invalidated in Redis under the prefixes that stores of this manager
/// have for the table: give a table the same prefixes everywhere.
pub struct CacheManager<L: L2 = SharedTier> {
    inner: Arc<Inner<L>>,
}

struct Inner<L: L2> {
    config: CacheConfig,
    remote: Option<Remote<L>>,
    /// What open writes marked there.
    intents: Option<Arc<Intents<L>>>,
    /// What tells the processes on the shared tier of each other's writes.
    bus: Option<Bus<L>>,
    registry: Arc<Registry>,
    scratch: Scratchpad,
    env: Arc<dyn Environment>,
    auditor: Auditor,
    background: Arc<Background>,
}

impl CacheManager {
    /// A manager for `config`. Contacts nobody: it is made whether Redis is up or not.
    ///
    /// # Errors
    /// [`CacheError::Configuration`] when the URL, a prefix or a duration is not allowed.
    pub fn new(config: CacheConfig) -> Result<Self, CacheError> {
        config.check()?;
        #[cfg(feature = "redis")]
        let tier = config
            .redis_url
            .as_deref()
            .map(|url| {
                let settings = crate::redis::RedisSettings {
                    pool_size: config.pool_size,
                    prefix: Some(config.prefix.clone()),
                    ..crate::redis::RedisSettings::new(url)
                };
                crate::redis::RedisTier::new(settings).map_err(CacheError::Configuration)
            })
            .transpose()?;
        #[cfg(not(feature = "redis"))]
        let tier = None;
        Ok(Self::assemble(config, tier, Arc::new(System::new())))
    }
}

impl<L: L2> CacheManager<L> {
    /// A manager over a shared tier of your own.
    ///
    /// # Errors
    /// As [`CacheManager::new`].
    pub fn with_tier(config: CacheConfig, tier: L) -> Result<Self, CacheError> {
        Self::simulated(config, tier, Arc::new(System::new()))
    }

    /// A manager over a shared tier, a clock and randomness of your own, for a simulation.
    ///
    /// # Errors
    /// As [`CacheManager::new`].
    pub fn simulated(config: CacheConfig, tier: L, env: Arc<dyn Environment>) -> Result<Self, CacheError> {
        config.check()?;
        Ok(Self::assemble(config, Some(tier), env))
    }

    fn assemble(config: CacheConfig, tier: Option<L>, env: Arc<dyn Environment>) -> Self {
        let remote = tier.map(|tier| {
            let settings = RemoteSettings {
                read_budget: config.read_budget.min(config.timeout),
                timeout: config.timeout,
                retry_attempts: config.retry_attempts,
                retry_delay: config.retry_delay,
                // The prefix has no character that means anything in a glob.
                ..RemoteSettings::new(format!("{}:*", config.prefix))
            };
            Remote::new(tier, settings)
        });
        let intents =
            remote.as_ref().map(|remote| Arc::new(Intents::new(remote.clone(), config.intent_ttl, env.random())));
        let scratch = Scratchpad::new(config.l1_capacity);
        let background = Arc::<Background>::default();
        let bus = remote.clone().filter(|_| L::HAS_BUS).map(|remote| {
            Bus::new(remote, Arc::clone(&env), Arc::clone(&background), &config.prefix, config.bus_interval)
        });
        let announce = bus.clone().map(|bus| Arc::new(bus) as Arc<dyn Announce>);
        let registry = Arc::new(Registry::new(announce));
        let auditor = Auditor::default();
        let inner = Inner { config, remote, intents, bus, registry, scratch, env, auditor, background };
        Self { inner: Arc::new(inner) }
    }

    /// What happened so far: hits, misses, errors, each store.
    ///
    /// # Errors
    /// None today; the counters are kept in process.
    pub async fn get_stats(&self) -> Result<CacheStats, CacheError> {
        let stores = self.inner.registry.stats();
        let mut total = StoreStats::default();
        stores.iter().for_each(|(_, stats)| total.add(stats));
        let remote = self.inner.remote.as_ref().map(Remote::stats).unwrap_or_default();
        Ok(CacheStats {
            hits: total.hits(),
            misses: total.misses + total.bypassed,
            connection_errors: remote.connection_errors + remote.timeouts + remote.refused,
            retries: remote.retries,
            pending_invalidations: remote.pending_invalidations,
            breaker_opened: remote.breaker_opened,
            bus: self.bus_stats(),
            total,
            stores,
        })
    }

    /// Whether the shared tier answers, and how fast. A manager without one is healthy.
    ///
    /// # Errors
    /// [`CacheError::ConnectionError`] when Redis cannot be reached, [`CacheError::Timeout`] when it does not answer
    /// within the timeout, [`CacheError::Refused`] when it refuses.
    pub async fn health_check(&self) -> Result<Health, CacheError> {
        let Some(remote) = &self.inner.remote else {
            return Ok(Health { redis: false, response_time: Duration::ZERO, bypassed: false, beat_age: None });
        };
        let start = Instant::now();
        match tokio::time::timeout(self.inner.config.timeout, remote.probe()).await {
            Ok(Ok(())) => Ok(Health {
                redis: true,
                response_time: start.elapsed(),
                bypassed: !remote.is_up(),
                beat_age: self.bus_stats().beat_age,
            }),
            Ok(Err(error)) => Err(CacheError::from_l2("health_check", "*", &error)),
            Err(_) => Err(CacheError::Timeout(Failure::new(
                "health_check",
                "*",
                format_args!("no answer within {:?}", self.inner.config.timeout),
            ))),
        }
    }

    /// Begins to compare a share of the hits of all stores with the database, behind the callers' backs; anew, when it
    /// was begun before. A share of 0 ends it. Off by default.
    ///
    /// An entry that differs from the database longer than the grace is a violation: it is counted in
    /// [`StoreStats::audit_violations`] and logged by one `ERROR` event with its [`Explanation`](crate::Explanation), once
    /// per entry. The event names the key by a digest; neither a row nor an id is logged. Nothing is repaired: the entry
    /// stays. JSON columns are compared without regard to the order of their arrays and objects.
    ///
    /// Rows changed by others than stores on this cache, and entries that a writer could not remove because it did not
    /// reach Redis, are found like any other.
    ///
    /// # Errors
    /// [`CacheError::Configuration`] for options that are not allowed, and outside a tokio runtime.
    ///
    /// # Cost
    /// While off, one relaxed load per hit. While on, a random number per hit, and as many comparisons per second as the
    /// options allow: one statement and, with Redis, two `GET`s each.
    pub fn audit(&self, options: AuditOptions) -> Result<(), CacheError> {
        self.inner.auditor.set(&options)
    }

    /// Waits until fills, messages to other processes and other work off the callers' path is done. What is begun meanwhile
    /// is waited for too; messages that Redis does not take are not.
    pub async fn settle(&self) {
        self.inner.bus.iter().for_each(Bus::hurry);
        self.inner.background.idle().await;
    }

    /// Subscribes to what other processes write, and waits for the proof that it arrives, at most for the timeout; whether it
    /// came. Until then stores with [`L1::Bounded`](crate::L1::Bounded) read from Redis; the first read of such a store
    /// subscribes too, in the background.
    ///
    /// Without Redis there is nothing to wait for.
    ///
    /// # Cancel safety
    /// Dropping the future ends the wait, not the subscription.
    pub async fn listen(&self) -> bool {
        let Some(bus) = &self.inner.bus else { return true };
        let current = bus.wait_until_current(&self.inner.registry);
        tokio::time::timeout(self.inner.config.timeout, current).await.is_ok()
    }

    /// The configuration.
    pub fn config(&self) -> &CacheConfig {
        &self.inner.config
    }

    /// Marks work off the callers' path as running until the mark is dropped; [`settle`](Self::settle) waits for it.
    pub fn background(&self) -> Running {
        self.inner.background.begin()
    }

    /// Runs work off the callers' path, marked as [`background`](Self::background).
    pub(crate) fn in_background(&self, work: impl Future<Output = ()> + Send + 'static) {
        let running = self.background();
        tokio::spawn(async move {
            let _running = running;
            work.await;
        });
    }

    pub(crate) fn remote(&self) -> Option<&Remote<L>> {
        self.inner.remote.as_ref()
    }

    pub(crate) fn intents(&self) -> Option<&Arc<Intents<L>>> {
        self.inner.intents.as_ref()
    }

    pub(crate) fn bus(&self) -> Option<&Bus<L>> {
        self.inner.bus.as_ref()
    }

    fn bus_stats(&self) -> BusStats {
        self.inner.bus.as_ref().map(Bus::stats).unwrap_or_default()
    }

    /// The error of an invalidation that the shared tier did not confirm.
    pub(crate) fn not_confirmed(&self) -> CacheError {
        let error = self.remote().and_then(|remote| remote.state().last_error);
        let reason = error.unwrap_or_else(|| "the cache server did not confirm the invalidation".to_owned());
        CacheError::ConnectionError(Failure::new("invalidate", "*", reason))
    }

    pub(crate) fn registry(&self) -> &Arc<Registry> {
        &self.inner.registry
    }

    pub(crate) fn scratch(&self) -> &Scratchpad {
        &self.inner.scratch
    }

    pub(crate) fn auditor(&self) -> &Auditor {
        &self.inner.auditor
    }

    pub(crate) fn env(&self) -> &Arc<dyn Environment> {
        &self.inner.env
    }
}

impl<L: L2> Clone for CacheManager<L> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner) }
    }
}

impl<L: L2> From<Arc<Self>> for CacheManager<L> {
    fn from(manager: Arc<Self>) -> Self {
        Self::clone(&manager)
    }
}

impl<L: L2> From<&Self> for CacheManager<L> {
    fn from(manager: &Self) -> Self {
        manager.clone()
    }
}

impl<L: L2> fmt::Debug for CacheManager<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CacheManager").field("config", &self.inner.config).finish_non_exhaustive()
    }
}

/// The answer of [`CacheManager::health_check`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Health {
    /// Whether there is a shared tier; it answered.
    pub redis: bool,
    /// How long a new connection and one command took.
    pub response_time: Duration,
    /// Whether reads go past Redis all the same, until every pending invalidation is confirmed.
    pub bypassed: bool,
    /// As [`BusStats::beat_age`].
    pub beat_age: Option<Duration>,
}

/// Work off the callers' path that is under way.
#[derive(Debug, Default)]
pub(crate) struct Background {
    running: AtomicUsize,
    ended: Notify,
}

impl Background {
    pub(crate) fn begin(self: &Arc<Self>) -> Running {
        self.running.fetch_add(1, Ordering::SeqCst);
        Running(Arc::clone(self))
    }

    async fn idle(&self) {
        loop {
            let ended = self.ended.notified();
            if self.running.load(Ordering::SeqCst) == 0 {
                return;
            }
            ended.await;
        }
    }
}

/// Marks work as running: see [`CacheManager::background`].
#[derive(Debug)]
pub struct Running(Arc<Background>);

impl Drop for Running {
    fn drop(&mut self) {
        if self.0.running.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.0.ended.notify_waiters();
        }
    }
}
