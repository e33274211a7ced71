//! How a manager and a store are configured.

use std::fmt;
use std::num::NonZeroUsize;
use std::time::Duration;

use crate::codec::DECODE_LIMIT;
use crate::error::CacheError;
use crate::key::check_prefix;

/// The configuration of a [`CacheManager`](crate::CacheManager): where the shared tier is, and the defaults of its stores.
///
/// | setting | default | what it changes |
/// |---|---|---|
/// | `pool_size` | 2 | multiplexed connections to Redis |
/// | `read_budget` | 40 ms | how long a cached read waits for Redis before it asks the database |
/// | `timeout` | 1 s | how long an invalidation or a call of the manual API waits for Redis |
/// | `retry_attempts`, `retry_delay` | 3, 100 ms | how often and how fast those are tried again |
/// | `l1_capacity` | 10,000 | entries per store in process |
/// | `l1` | [`L1::Off`] | whether stores with Redis also keep rows in process |
/// | `bus_interval` | 100 ms | how often a process with [`L1::Bounded`] proves that it hears of the writes of others |
/// | `load_timeout` | 5 s | how long one load from the database may take, and how long its lease lasts |
/// | `max_value_bytes` | 1 MiB | larger values are not stored in Redis |
/// | `coherence` | [`Coherence::CrashSafe`] | what a write guarantees when its process dies, or Redis does not confirm |
/// | `on_cache_down` | [`OnCacheDown::Proceed`] | what a write does when Redis cannot take its intent |
/// | `intent_ttl` | 30 s | how long the intent of a writer that died keeps its rows out of Redis |
#[derive(Clone)]
#[non_exhaustive]
pub struct CacheConfig {
    #[cfg_attr(not(feature = "redis"), expect(dead_code, reason = "only the Redis tier has a URL"))]
    pub(crate) redis_url: Option<String>,
    pub(crate) ttl: Duration,
    pub(crate) prefix: String,
    pub(crate) pool_size: NonZeroUsize,
    pub(crate) read_budget: Duration,
    pub(crate) timeout: Duration,
    pub(crate) retry_attempts: u32,
    pub(crate) retry_delay: Duration,
    pub(crate) l1: L1,
    pub(crate) l1_capacity: usize,
    pub(crate) bus_interval: Duration,
    pub(crate) load_timeout: Duration,
    pub(crate) max_value_bytes: usize,
    pub(crate) coherence: Coherence,
    pub(crate) on_cache_down: OnCacheDown,
    pub(crate) intent_ttl: Duration,
}

impl CacheConfig {
    /// Redis at `redis_url`, a default TTL (seconds or a [`Duration`]), and the prefix of every key.
    ///
    /// Nothing is checked or contacted here; [`CacheManager::new`](crate::CacheManager::new) reports what is wrong.
    #[cfg(feature = "redis")]
    pub fn new(redis_url: impl Into<String>, default_ttl: impl IntoTtl, global_prefix: impl Into<String>) -> Self {
        Self { redis_url: Some(redis_url.into()), ..Self::in_process(default_ttl, global_prefix) }
    }

    /// No Redis: rows are kept in this process alone, coherently with every write made through this manager.
    pub fn in_process(default_ttl: impl IntoTtl, global_prefix: impl Into<String>) -> Self {
        Self {
            redis_url: None,
            ttl: default_ttl.into_ttl(),
            prefix: global_prefix.into(),
            pool_size: NonZeroUsize::MIN.saturating_add(1),
            read_budget: READ_BUDGET,
            timeout: Duration::from_secs(1),
            retry_attempts: 3,
            retry_delay: Duration::from_millis(100),
            l1: L1::Off,
            l1_capacity: 10_000,
            bus_interval: Duration::from_millis(100),
            load_timeout: Duration::from_secs(5),
            max_value_bytes: 1 << 20,
            coherence: Coherence::CrashSafe,
            on_cache_down: OnCacheDown::Proceed,
            intent_ttl: Duration::from_secs(30),
        }
    }

    /// How many multiplexed connections to Redis are kept; 0 counts as 1.
    #[must_use]
    pub fn with_pool_size(mut self, connections: usize) -> Self {
        self.pool_size = NonZeroUsize::new(connections).unwrap_or(NonZeroUsize::MIN);
        self
    }

    /// How long a cached read waits for Redis, all commands together, before it asks the database: milliseconds or a
    /// [`Duration`]. Never longer than the timeout.
    ///
    /// The default of 40 ms keeps what an outage adds to a read below 50 ms with room for late timers.
    #[must_use]
    pub fn with_read_budget(mut self, budget: impl IntoTimeout) -> Self {
        self.read_budget = budget.into_timeout();
        self
    }

    /// How long an invalidation or a call of the manual API waits for Redis: milliseconds or a [`Duration`].
    #[must_use]
    pub fn with_timeout(mut self, timeout: impl IntoTimeout) -> Self {
        self.timeout = timeout.into_timeout();
        self
    }

    /// How many times an invalidation or a call of the manual API is tried; 0 counts as 1.
    #[must_use]
    pub fn with_retry_attempts(mut self, attempts: u32) -> Self {
        self.retry_attempts = attempts.max(1);
        self
    }

    /// How long to wait before the next try: milliseconds or a [`Duration`].
    #[must_use]
    pub fn with_retry_delay(mut self, delay: impl IntoTimeout) -> Self {
        self.retry_delay = delay.into_timeout();
        self
    }

    /// Whether stores whose tier is Redis also keep rows in process.
    #[must_use]
    pub fn with_l1(mut self, l1: L1) -> Self {
        self.l1 = l1;
        self
    }

    /// How many entries each store keeps in process; 0 counts as 1. The first entry takes the room for all of up to
    /// 100,000, about 70 bytes each beside its row; a larger table grows as it fills.
    #[must_use]
    pub fn with_l1_capacity(mut self, entries: usize) -> Self {
        self.l1_capacity = entries.max(1);
        self
    }

    /// How often a process with [`L1::Bounded`] sends itself a message through Redis: milliseconds or a [`Duration`], from
    /// 10 ms to 1 minute.
    ///
    /// When none came back for ten intervals, rows are not served in process until one does. Where no process keeps rows in
    /// process, those that write send at most one message per interval.
    #[must_use]
    pub fn with_bus_interval(mut self, interval: impl IntoTimeout) -> Self {
        self.bus_interval = interval.into_timeout();
        self
    }

    /// How long one load from the database may take before its readers get an error: milliseconds or a [`Duration`].
    #[must_use]
    pub fn with_load_timeout(mut self, timeout: impl IntoTimeout) -> Self {
        self.load_timeout = timeout.into_timeout();
        self
    }

    /// The largest value that is stored in Redis, header included, in bytes; at most [`DECODE_LIMIT`].
    #[must_use]
    pub fn with_max_value_bytes(mut self, bytes: usize) -> Self {
        self.max_value_bytes = bytes.min(DECODE_LIMIT);
        self
    }

    /// What writes guarantee when their process dies or Redis does not confirm; each store may choose otherwise.
    #[must_use]
    pub fn with_coherence(mut self, coherence: Coherence) -> Self {
        self.coherence = coherence;
        self
    }

    /// What writes do when Redis cannot take their intents; each store may choose otherwise.
    #[must_use]
    pub fn with_on_cache_down(mut self, on_cache_down: OnCacheDown) -> Self {
        self.on_cache_down = on_cache_down;
        self
    }

    /// How long an intent stands without renewal: milliseconds or a [`Duration`]; at least 100 ms. It is renewed while
    /// its write is open, so this is no limit of a transaction; it is how long the rows of a writer that died are read
    /// from the database.
    ///
    /// It must be longer than the database needs to notice that a client died, or a statement of the dead may be
    /// committed after its intent ended: Postgres notices within a second on the connections of a pool that StoreHaus
    /// opened by URL.
    #[must_use]
    pub fn with_intent_ttl(mut self, ttl: impl IntoTimeout) -> Self {
        self.intent_ttl = ttl.into_timeout();
        self
    }

    /// The global prefix.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    pub(crate) fn check(&self) -> Result<(), CacheError> {
        let fail = |reason: String| Err(CacheError::Configuration(reason));
        if let Err(reason) = check_prefix("global prefix", &self.prefix) {
            return fail(reason);
        }
        check_ttl("the default TTL", self.ttl)?;
        let waits = [("timeout", self.timeout), ("read budget", self.read_budget), ("load timeout", self.load_timeout)];
        if let Some((name, _)) = waits.iter().find(|(_, wait)| wait.is_zero()) {
            return fail(format!("the {name} is 0; give it at least 1 ms"));
        }
        let mut waits = waits.into_iter().chain([("retry delay", self.retry_delay)]);
        if let Some((name, wait)) = waits.find(|(_, wait)| *wait > MAX_WAIT) {
            return fail(format!("the {name} is {wait:?}; give it at most {MAX_WAIT:?}"));
        }
        if !(MIN_INTENT_TTL..=MAX_WAIT).contains(&self.intent_ttl) {
            let given = self.intent_ttl;
            return fail(format!("the intent TTL is {given:?}; give it {MIN_INTENT_TTL:?} to {MAX_WAIT:?}"));
        }
        if !(MIN_BUS_INTERVAL..=MAX_BUS_INTERVAL).contains(&self.bus_interval) {
            return fail(format!(
                "the bus interval is {:?}; give it {MIN_BUS_INTERVAL:?} to {MAX_BUS_INTERVAL:?}",
                self.bus_interval
            ));
        }
        match self.l1 {
            L1::Bounded(bound) => check_ttl("the bound of L1::Bounded", bound),
            L1::Off | L1::Validated => Ok(()),
        }
    }
}

impl fmt::Debug for CacheConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The URL may carry a password.
        f.debug_struct("CacheConfig")
            .field("prefix", &self.prefix)
            .field("ttl", &self.ttl)
            .field("pool_size", &self.pool_size)
            .field("read_budget", &self.read_budget)
            .field("timeout", &self.timeout)
            .field("retry_attempts", &self.retry_attempts)
            .field("retry_delay", &self.retry_delay)
            .field("l1", &self.l1)
            .field("l1_capacity", &self.l1_capacity)
            .field("bus_interval", &self.bus_interval)
            .field("load_timeout", &self.load_timeout)
            .field("max_value_bytes", &self.max_value_bytes)
            .field("coherence", &self.coherence)
            .field("on_cache_down", &self.on_cache_down)
            .field("intent_ttl", &self.intent_ttl)
            .finish_non_exhaustive()
    }
}

/// Whether a store whose tier is Redis also keeps rows in process. Without Redis rows are always kept in process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum L1 {
    /// No: a read sees every write that any instance acknowledged before it began. A hit is one `GET`.
    #[default]
    Off,
    /// Yes, each row for at most this long after its load began. A hit asks nobody.
    ///
    /// # Consistency
    /// A read sees every write that this instance acknowledged, and every write that any other instance acknowledged longer
    /// ago than this bound, whatever is lost on the way.
    ///
    /// Mostly it sees the writes of others much sooner: the instances tell each other what they wrote through channels of
    /// Redis, right after the acknowledgement, so that a row is late by the way of one message. A message that is missing
    /// is noticed by the next one of its sender, and every row in process is given up. When the subscription breaks, or its
    /// own heartbeat did not come back for ten [bus intervals](CacheConfig::with_bus_interval), an instance reads from
    /// Redis until both are there again. While Redis is away altogether, the bound alone holds.
    ///
    /// A write whose instance ends before its message is sent is seen as late as the bound allows; so is one under a
    /// user that may not publish.
    ///
    /// # Cost
    /// One more connection to Redis per instance, one message per interval, and at most one message per write. With an
    /// access control list the user needs the channels `<global prefix>:bus*`.
    Bounded(Duration),
    /// Yes, but each hit asks Redis whether the row is still the one that stands there: a read sees every write that any
    /// instance acknowledged before it began, as with [`Off`](Self::Off).
    ///
    /// # Cost
    /// A hit is one `GETRANGE` of 80 bytes, however large the row is, and decodes nothing. A batch is one `MGET`, as with
    /// [`Off`](Self::Off).
    Validated,
}

/// What a write guarantees to readers when its process dies, or when Redis does not confirm what it is told.
///
/// With each of them, a read that starts after a write was acknowledged returns that write or a later one, while the
/// writer reaches Redis.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Coherence {
    /// A write marks its rows in Redis before the database is told and clears them after: whatever becomes of its
    /// process in between, no cached read is older than the database once the write is committed, as long as Redis keeps
    /// the mark. Costs one more round trip.
    #[default]
    CrashSafe,
    /// As [`CrashSafe`](Self::CrashSafe), and nothing goes on without Redis: a write that cannot be marked fails before the
    /// database is told, and one whose clearing Redis does not confirm within the timeout fails after it was committed,
    /// with an error that says so.
    Strict,
    /// A write clears its rows after it is committed, and marks nothing: when its process dies in between, its rows may be
    /// served as they were until the TTL of their entries ends.
    Ttl,
}

/// What a write does when Redis cannot be reached, or refuses, before the database is told.
/// [`Coherence::Strict`] refuses whatever stands here, and [`Coherence::Ttl`] does not ask.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum OnCacheDown {
    /// It goes on: writes do not depend on Redis. This instance reads nothing from Redis until the invalidation is
    /// delivered; others may be served the older row until then, and until the TTL ends when this process dies first.
    #[default]
    Proceed,
    /// It fails and changes nothing.
    Refuse,
}

/// Common lifetimes of cached rows.
#[derive(Debug)]
pub struct Ttl;

impl Ttl {
    /// 5 minutes: data that changes all the time.
    pub const SHORT: Duration = Duration::from_secs(300);
    /// 1 hour: user data.
    pub const MEDIUM: Duration = Duration::from_secs(3_600);
    /// 1 day: reference data.
    pub const LONG: Duration = Duration::from_secs(86_400);
}

/// A TTL: a [`Duration`], or whole seconds.
pub trait IntoTtl {
    /// The duration.
    fn into_ttl(self) -> Duration;
}

impl IntoTtl for Duration {
    fn into_ttl(self) -> Duration {
        self
    }
}

impl IntoTtl for u64 {
    fn into_ttl(self) -> Duration {
        Duration::from_secs(self)
    }
}

/// A timeout: a [`Duration`], or whole milliseconds.
pub trait IntoTimeout {
    /// The duration.
    fn into_timeout(self) -> Duration;
}

impl IntoTimeout for Duration {
    fn into_timeout(self) -> Duration {
        self
    }
}

impl IntoTimeout for u64 {
    fn into_timeout(self) -> Duration {
        Duration::from_millis(self)
    }
}

/// See [`CacheConfig::with_read_budget`].
const READ_BUDGET: Duration = Duration::from_millis(40);

/// No wait is longer: the end of a longer one may not fit the clock.
pub(crate) const MAX_WAIT: Duration = Duration::from_secs(3_600);

/// A shorter intent would need more renewals than writes.
const MIN_INTENT_TTL: Duration = Duration::from_millis(100);
const MIN_BUS_INTERVAL: Duration = Duration::from_millis(10);
const MAX_BUS_INTERVAL: Duration = Duration::from_secs(60);

pub(crate) fn check_ttl(what: &str, ttl: Duration) -> Result<(), CacheError> {
    if ttl < Duration::from_millis(1) {
        return Err(CacheError::Configuration(format!(
            "{what} is {ttl:?}; give it at least 1 ms, or disable the cache of the store"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::CacheManager;

    #[test]
    fn waits_are_bounded() {
        let config = || CacheConfig::in_process(60, "app");
        assert!(config().check().is_ok());
        for refused in [
            config().with_timeout(u64::MAX),
            config().with_timeout(0),
            config().with_load_timeout(Duration::MAX),
            config().with_retry_delay(Duration::MAX),
            config().with_intent_ttl(99),
            config().with_intent_ttl(Duration::MAX),
            config().with_bus_interval(9),
            config().with_bus_interval(Duration::MAX),
        ] {
            assert!(matches!(refused.check(), Err(CacheError::Configuration(_))), "{refused:?}");
        }
    }

    #[tokio::test]
    async fn a_value_that_is_stored_can_be_read_back() {
        let manager: CacheManager =
            CacheManager::new(CacheConfig::in_process(60, "app").with_max_value_bytes(usize::MAX)).unwrap();
        let too_large = "x".repeat(DECODE_LIMIT + 1);
        assert!(matches!(manager.set_record("t", "1", &too_large, 60).await, Err(CacheError::TooLarge(_))));
        let large = "x".repeat(DECODE_LIMIT - 100);
        assert!(manager.set_record("t", "2", &large, 60).await.unwrap());
        assert_eq!(manager.get_record::<String>("t", "2").await.unwrap().map(|text| text.len()), Some(large.len()));
    }
}
