//! Values that no store holds.

use std::sync::Arc;

use quick_cache::sync::Cache;

/// Values set by hand where there is no Redis and no store under the prefix.
pub(crate) struct Scratchpad {
    pub(crate) values: Cache<String, Scratch>,
}

#[derive(Clone)]
pub(crate) struct Scratch {
    pub(crate) schema: u64,
    pub(crate) expires: u64,
    pub(crate) bytes: Arc<[u8]>,
}

impl Scratchpad {
    pub(crate) fn new(capacity: usize) -> Self {
        Self { values: Cache::new(capacity) }
    }

    pub(crate) fn get(&self, key: &str, now: u64) -> Option<Scratch> {
        self.values.get(key).filter(|value| now < value.expires)
    }
}
