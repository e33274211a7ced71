//! The in-process tier of a store, as the registry sees it.

use std::any::Any;
use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use super::Local;
use crate::codec::{Cacheable, DecodeError, from_bytes, to_bytes};
use crate::env::Environment;
use crate::key::{decode_id, encode_id};
use crate::loader::Loader;
use crate::local::QuickEngine;
use crate::registry::LocalHandle;
use crate::stats::StoreStats;

pub(super) struct Handle<Ld: Loader, M = ()> {
    pub(super) tier: Arc<Local<Ld, M>>,
    env: Arc<dyn Environment>,
    /// Whether other processes write to the rows, and nobody is asked about them on a hit.
    follows_bus: bool,
}

impl<Ld: Loader, M: Clone + Default + Send + Sync + 'static> Handle<Ld, M> {
    pub(super) fn new(capacity: usize, env: Arc<dyn Environment>, follows_bus: bool) -> Arc<Self> {
        Arc::new(Self { tier: Arc::new(Local::<Ld, M>::new(QuickEngine::new(capacity))), env, follows_bus })
    }

    /// The key as this store has it; `None` for one of another type, or one too long to be kept as text.
    fn known<'a>(&self, key: &'a dyn Any, encoded: &str) -> Option<Cow<'a, Ld::Key>> {
        match key.downcast_ref::<Ld::Key>() {
            Some(key) => Some(Cow::Borrowed(key)),
            None => decode_id(encoded).map(Cow::Owned),
        }
    }
}

impl<Ld: Loader, M: Clone + Default + Send + Sync + 'static> LocalHandle for Handle<Ld, M> {
    fn invalidate(&self, key: &dyn Any, encoded: &str) {
        match self.known(key, encoded) {
            Some(key) => self.tier.invalidate(&key),
            None => self.tier.invalidate_matching(&|_| true) > 0,
        };
    }

    fn begin(&self, key: &dyn Any, encoded: &str) {
        match self.known(key, encoded) {
            Some(key) => self.tier.begin(&key),
            None => self.tier.begin_unknown(),
        }
    }

    fn end(&self, key: &dyn Any, encoded: &str) {
        match self.known(key, encoded) {
            Some(key) => self.tier.end(&key),
            None => self.tier.end_unknown(),
        }
    }

    fn invalidate_encoded(&self, encoded: &str) -> bool {
        match decode_id::<Ld::Key>(encoded) {
            Some(key) => self.tier.invalidate(&key),
            // Whichever row it is, it goes.
            None => self.tier.invalidate_matching(&|_| true) > 0,
        }
    }

    fn invalidate_matching(&self, matches: &dyn Fn(&str) -> bool) -> u64 {
        self.tier.invalidate_matching(&|key| matches(&encode_id(key)))
    }

    fn forget(&self, encoded: Option<&[&str]>) {
        let keys = encoded.and_then(|ids| ids.iter().map(|id| decode_id::<Ld::Key>(id)).collect::<Option<Vec<_>>>());
        match keys {
            Some(keys) => keys.iter().for_each(|key| {
                self.tier.invalidate(key);
            }),
            // All are meant, or one that is not told: a key of another type, or one too long to be sent as text.
            None => {
                self.tier.invalidate_matching(&|_| true);
            }
        }
    }

    fn flush(&self) {
        if self.follows_bus {
            self.forget(None);
        }
    }

    fn get_bytes(&self, encoded: &str, schema: u64) -> Option<Result<Vec<u8>, DecodeError>> {
        let row = self.tier.get(&decode_id::<Ld::Key>(encoded)?, self.env.nanos())??;
        if schema != Ld::Value::SCHEMA {
            return Some(Err(DecodeError::new("the entry is of another type")));
        }
        Some(to_bytes(&*row).map_err(|error| DecodeError::new(error.to_string())))
    }

    fn put_bytes(&self, encoded: &str, schema: u64, bytes: &[u8], ttl: Duration) -> Result<bool, DecodeError> {
        if schema != Ld::Value::SCHEMA {
            return Err(DecodeError::new("the store under this prefix holds rows of another type"));
        }
        let key = decode_id::<Ld::Key>(encoded)
            .ok_or_else(|| DecodeError::new("the id is no key of the store under this prefix"))?;
        let now = self.env.nanos();
        let expires = now.saturating_add(u64::try_from(ttl.as_nanos()).unwrap_or(u64::MAX));
        Ok(self.tier.put(key, Arc::new(from_bytes(bytes)?), now, expires))
    }

    fn remaining(&self, encoded: &str) -> Option<Duration> {
        self.tier.remaining(&decode_id::<Ld::Key>(encoded)?, self.env.nanos())
    }

    fn add_stats(&self, stats: &mut StoreStats) {
        stats.l1_evictions += self.tier.evictions();
    }
}
