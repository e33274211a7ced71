//! How the cache of one store is configured.

use std::time::Duration;

use crate::config::{Coherence, IntoTtl, L1, OnCacheDown};
use crate::l2::L2;
use crate::manager::{CacheManager, SharedTier};

/// The cache of one store: which manager, and what differs from its defaults.
#[derive(Debug)]
pub struct CacheParams<L: L2 = SharedTier> {
    pub(crate) manager: CacheManager<L>,
    pub(crate) ttl: Option<Duration>,
    pub(crate) prefix: Option<String>,
    pub(crate) negative_ttl: Option<Duration>,
    pub(crate) l1: Option<L1>,
    pub(crate) coherence: Option<Coherence>,
    pub(crate) on_cache_down: Option<OnCacheDown>,
    pub(crate) enabled: bool,
}

impl<L: L2> CacheParams<L> {
    /// The manager's defaults. Takes a [`CacheManager`] or an `Arc` of one.
    pub fn new(manager: impl Into<CacheManager<L>>) -> Self {
        Self {
            manager: manager.into(),
            ttl: None,
            prefix: None,
            negative_ttl: None,
            l1: None,
            coherence: None,
            on_cache_down: None,
            enabled: true,
        }
    }

    /// How long a row may stay in the cache: seconds or a [`Duration`].
    ///
    /// The actual time is up to 5 % shorter, at random, so that rows cached together do not expire together.
    #[must_use]
    pub fn with_ttl(mut self, ttl: impl IntoTtl) -> Self {
        self.ttl = Some(ttl.into_ttl());
        self
    }

    /// The store segment of the key; the table's name when not given.
    #[must_use]
    pub fn with_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = Some(prefix.into());
        self
    }

    /// Also remembers that a row does *not* exist, for this long: seconds or a [`Duration`]. Off by default.
    #[must_use]
    pub fn with_negative_ttl(mut self, ttl: impl IntoTtl) -> Self {
        self.negative_ttl = Some(ttl.into_ttl());
        self
    }

    /// Overrides [`CacheConfig::with_l1`](crate::CacheConfig::with_l1) for this store.
    #[must_use]
    pub fn with_l1(mut self, l1: L1) -> Self {
        self.l1 = Some(l1);
        self
    }

    /// Overrides [`CacheConfig::with_coherence`](crate::CacheConfig::with_coherence) for writes through this store.
    #[must_use]
    pub fn with_coherence(mut self, coherence: Coherence) -> Self {
        self.coherence = Some(coherence);
        self
    }

    /// Overrides [`CacheConfig::with_on_cache_down`](crate::CacheConfig::with_on_cache_down) for writes through this
    /// store.
    #[must_use]
    pub fn with_on_cache_down(mut self, on_cache_down: OnCacheDown) -> Self {
        self.on_cache_down = Some(on_cache_down);
        self
    }

    /// Caches nothing: every read asks the database. Writes still invalidate other stores on the same table.
    #[must_use]
    pub fn disabled(mut self) -> Self {
        self.enabled = false;
        self
    }

    /// The manager.
    pub fn manager(&self) -> &CacheManager<L> {
        &self.manager
    }
}

impl<L: L2> Clone for CacheParams<L> {
    fn clone(&self) -> Self {
        Self { manager: self.manager.clone(), prefix: self.prefix.clone(), ..*self }
    }
}
