//! One write as the cache sees it: announced before the database is touched, ended after its outcome is known.

use std::sync::Arc;

use super::RecordCache;
use crate::error::CacheError;
use crate::key::KeyRef;
use crate::l2::L2;
use crate::loader::Loader;
use crate::manager::{CacheManager, Running, SharedTier};
use crate::registry::TableGroup;
use crate::stats::Counters;

/// Rows of one table that a write or a transaction changes, from before its first statement to its end.
///
/// Exactly one of [`settle`](Self::settle) and [`withdraw`](Self::withdraw) ends it. Dropped without either, as by a
/// runtime that is shut down, it counts as settled: what Redis could not be told then is remembered.
pub struct Change<K: KeyRef + 'static, L: L2 = SharedTier> {
    manager: CacheManager<L>,
    group: Arc<TableGroup>,
    counters: Arc<Counters>,
    keys: Vec<K>,
    /// Makes a shutdown wait for the end of the change.
    _running: Running,
}

impl<Ld: Loader, L: L2> RecordCache<Ld, L> {
    /// Begins a change of these rows; more may be announced or added later. To be awaited before the statement that
    /// commits is sent.
    ///
    /// # Errors
    /// None today.
    pub async fn announce(&self, keys: Vec<Ld::Key>) -> Result<Change<Ld::Key, L>, CacheError> {
        let mut change = self.change();
        change.announce(keys).await?;
        Ok(change)
    }

    /// A change of no rows.
    pub(super) fn change(&self) -> Change<Ld::Key, L> {
        let inner = &self.inner;
        Change {
            manager: inner.manager.clone(),
            group: Arc::clone(&inner.group),
            counters: Arc::clone(&inner.counters),
            keys: Vec::new(),
            _running: inner.manager.background(),
        }
    }
}

impl<K: KeyRef + 'static, L: L2> Change<K, L> {
    /// Announces further rows.
    ///
    /// # Errors
    /// As [`RecordCache::announce`]. The rows announced before stay announced.
    pub async fn announce(&mut self, keys: Vec<K>) -> Result<(), CacheError> {
        self.keys.extend(keys);
        Ok(())
    }

    /// Adds rows that became known after the database was changed, such as those with keys it made.
    pub fn add(&mut self, keys: impl IntoIterator<Item = K>) {
        self.keys.extend(keys);
    }

    /// Sees to it that what was announced still stands, right before COMMIT.
    ///
    /// # Errors
    /// As [`RecordCache::announce`].
    pub async fn confirm(&mut self) -> Result<(), CacheError> {
        Ok(())
    }

    /// Ends a change that was committed, or may have been: removes the rows from every tier of every store on the
    /// table. When it returns, no read that starts afterwards through this manager is served an older row.
    ///
    /// # Errors
    /// None today.
    pub async fn settle(mut self) -> Result<(), CacheError> {
        self.counters.invalidations.add(self.keys.len() as u64);
        let shared = self.group.shared_keys(&self.keys);
        if let Some(remote) = self.manager.remote()
            && !shared.is_empty()
        {
            // Remembers what is not removed when it is dropped.
            remote.invalidate(shared).await;
        }
        self.group.invalidate_local(&self.keys);
        self.keys.clear();
        Ok(())
    }

    /// Ends a change that certainly was not committed. Removes what was announced, and nothing else.
    pub async fn withdraw(mut self) {
        self.keys.clear();
    }
}

impl<K: KeyRef + 'static, L: L2> Drop for Change<K, L> {
    fn drop(&mut self) {
        if self.keys.is_empty() {
            return;
        }
        self.counters.invalidations.add(self.keys.len() as u64);
        let shared = self.group.shared_keys(&self.keys);
        if let Some(remote) = self.manager.remote()
            && !shared.is_empty()
        {
            remote.owe(shared);
        }
        self.group.invalidate_local(&self.keys);
    }
}
