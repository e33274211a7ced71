//! The in-process tier of a store, as the registry sees it.

use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

use super::Local;
use crate::codec::{Cacheable, DecodeError, from_bytes, to_bytes};
use crate::env::Environment;
use crate::key::{decode_id, encode_id};
use crate::loader::Loader;
use crate::registry::LocalHandle;
use crate::stats::StoreStats;

pub(super) struct Handle<Ld: Loader> {
    pub(super) tier: Arc<Local<Ld>>,
    env: Arc<dyn Environment>,
}

impl<Ld: Loader> Handle<Ld> {
    pub(super) fn new(tier: Local<Ld>, env: Arc<dyn Environment>) -> Self {
        Self { tier: Arc::new(tier), env }
    }
}

impl<Ld: Loader> LocalHandle for Handle<Ld> {
    fn invalidate(&self, key: &dyn Any, encoded: &str) {
        match key.downcast_ref::<Ld::Key>() {
            Some(key) => {
                self.tier.invalidate(key);
            }
            None => {
                self.invalidate_encoded(encoded);
            }
        }
    }

    fn invalidate_encoded(&self, encoded: &str) -> bool {
        match decode_id::<Ld::Key>(encoded) {
            Some(key) => self.tier.invalidate(&key),
            // A key of another type, or one too long to be kept as text: whichever row it is, it goes.
            None => self.tier.invalidate_matching(&|_| true) > 0,
        }
    }

    fn invalidate_matching(&self, matches: &dyn Fn(&str) -> bool) -> u64 {
        self.tier.invalidate_matching(&|key| matches(&encode_id(key)))
    }

    fn get_bytes(&self, encoded: &str, schema: u64) -> Option<Result<Vec<u8>, DecodeError>> {
        let row = self.tier.get(&decode_id::<Ld::Key>(encoded)?, self.env.nanos())??;
        if schema != Ld::Value::SCHEMA {
            return Some(Err(DecodeError::new("the entry is of another type")));
        }
        Some(to_bytes(&*row).map_err(|error| DecodeError::new(error.to_string())))
    }

    fn put_bytes(&self, encoded: &str, schema: u64, bytes: &[u8], ttl: Duration) -> Result<(), DecodeError> {
        if schema != Ld::Value::SCHEMA {
            return Err(DecodeError::new("the store under this prefix holds rows of another type"));
        }
        let key = decode_id::<Ld::Key>(encoded)
            .ok_or_else(|| DecodeError::new("the id is no key of the store under this prefix"))?;
        let expires = self.env.nanos().saturating_add(u64::try_from(ttl.as_nanos()).unwrap_or(u64::MAX));
        self.tier.put(key, Arc::new(from_bytes(bytes)?), expires);
        Ok(())
    }

    fn remaining(&self, encoded: &str) -> Option<Duration> {
        self.tier.remaining(&decode_id::<Ld::Key>(encoded)?, self.env.nanos())
    }

    fn add_stats(&self, stats: &mut StoreStats) {
        stats.l1_evictions += self.tier.evictions();
    }
}
