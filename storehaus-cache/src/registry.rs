//! Which stores share a table, so that a write through one invalidates all.

use std::any::Any;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, Weak};
use std::time::Duration;

use crate::codec::DecodeError;
use crate::error::CacheError;
use crate::flight::lock;
use crate::key::{KeyRef, KeySpace, encode_id};
use crate::stats::{Counters, StoreStats};

/// The in-process tier of a store whose key and row types are not known here.
pub(crate) trait LocalHandle: Send + Sync {
    /// Invalidates one row, given as the key of whichever store wrote it.
    fn invalidate(&self, key: &dyn Any, encoded: &str);
    /// Invalidates one row by the encoded text of its key; whether there was an entry.
    fn invalidate_encoded(&self, encoded: &str) -> bool;
    /// Invalidates the rows whose encoded key matches; how many entries.
    fn invalidate_matching(&self, matches: &dyn Fn(&str) -> bool) -> u64;
    /// The entry's bytes, when it is a row of this schema.
    fn get_bytes(&self, encoded: &str, schema: u64) -> Option<Result<Vec<u8>, DecodeError>>;
    /// Stores a row given as bytes.
    fn put_bytes(&self, encoded: &str, schema: u64, bytes: &[u8], ttl: Duration) -> Result<(), DecodeError>;
    /// How long the entry has left.
    fn remaining(&self, encoded: &str) -> Option<Duration>;
    /// Adds what the tier itself counts.
    fn add_stats(&self, stats: &mut StoreStats);
}

/// The stores of a manager.
#[derive(Default)]
pub(crate) struct Registry {
    tables: RwLock<HashMap<String, Arc<TableGroup>>>,
    /// Who owns each store prefix, and the counters of the stores under it.
    prefixes: Mutex<HashMap<String, Prefix>>,
}

struct Prefix {
    table: String,
    schema: u64,
    shared: bool,
    counters: Arc<Counters>,
    locals: Vec<Weak<dyn LocalHandle>>,
}

/// What a store says of itself when it registers.
pub(crate) struct Registration<'a> {
    pub(crate) table: &'a str,
    pub(crate) schema: u64,
    pub(crate) space: &'a KeySpace,
    pub(crate) shared: bool,
}

impl Registry {
    /// Adds a store; its table's group and the counters of its prefix.
    pub(crate) fn register(&self, new: &Registration<'_>) -> Result<(Arc<TableGroup>, Arc<Counters>), CacheError> {
        let counters = {
            let mut prefixes = lock(&self.prefixes);
            let prefix = prefixes.entry(new.space.store().to_owned()).or_insert_with(|| Prefix {
                table: new.table.to_owned(),
                schema: new.schema,
                shared: false,
                counters: Arc::default(),
                locals: Vec::new(),
            });
            if (prefix.table.as_str(), prefix.schema) != (new.table, new.schema) {
                return Err(CacheError::Configuration(format!(
                    "the store prefix {} is used by a model of table {} and by another of table {}; give one of them a \
                     prefix of its own",
                    new.space.store(),
                    prefix.table,
                    new.table,
                )));
            }
            prefix.shared |= new.shared;
            Arc::clone(&prefix.counters)
        };
        let group = self.group(new.table);
        if new.shared {
            group.add_space(new.space);
        }
        Ok((group, counters))
    }

    /// The group of a table.
    pub(crate) fn group(&self, table: &str) -> Arc<TableGroup> {
        if let Some(group) = read(&self.tables).get(table) {
            return Arc::clone(group);
        }
        Arc::clone(write(&self.tables).entry(table.to_owned()).or_default())
    }

    /// Adds the in-process tier of a registered store.
    pub(crate) fn add_local(&self, group: &TableGroup, space: &KeySpace, local: &Arc<dyn LocalHandle>) {
        if let Some(prefix) = lock(&self.prefixes).get_mut(space.store()) {
            prefix.locals.retain(|local| local.strong_count() > 0);
            prefix.locals.push(Arc::downgrade(local));
        }
        let mut locals = write(&group.locals);
        locals.retain(|local| local.strong_count() > 0);
        locals.push(Arc::downgrade(local));
    }

    /// Whether values under this prefix belong into the shared tier: unless its store keeps them in process only.
    pub(crate) fn is_shared(&self, prefix: &str) -> bool {
        lock(&self.prefixes).get(prefix).is_none_or(|prefix| prefix.shared)
    }

    /// The in-process tiers under a store prefix.
    pub(crate) fn locals(&self, prefix: &str) -> Vec<Arc<dyn LocalHandle>> {
        lock(&self.prefixes)
            .get(prefix)
            .map(|prefix| prefix.locals.iter().filter_map(Weak::upgrade).collect())
            .unwrap_or_default()
    }

    /// The prefixes in use, in alphabetical order.
    pub(crate) fn prefixes(&self) -> Vec<String> {
        let mut names: Vec<_> = lock(&self.prefixes).keys().cloned().collect();
        names.sort();
        names
    }

    /// What the stores under each prefix did, in alphabetical order.
    pub(crate) fn stats(&self) -> Vec<(String, StoreStats)> {
        let prefixes = lock(&self.prefixes);
        let mut stats: Vec<_> = prefixes
            .iter()
            .map(|(name, prefix)| {
                let mut stats = prefix.counters.snapshot();
                prefix.locals.iter().filter_map(Weak::upgrade).for_each(|local| local.add_stats(&mut stats));
                (name.clone(), stats)
            })
            .collect();
        stats.sort_by(|(a, _), (b, _)| a.cmp(b));
        stats
    }
}

/// The stores that cache rows of one table.
#[derive(Default)]
pub(crate) struct TableGroup {
    /// The key spaces in the shared tier.
    spaces: RwLock<Vec<KeySpace>>,
    /// The in-process tiers.
    locals: RwLock<Vec<Weak<dyn LocalHandle>>>,
}

impl TableGroup {
    /// Adds a key space of the shared tier that may hold these rows.
    pub(crate) fn add_space(&self, space: &KeySpace) {
        let mut spaces = write(&self.spaces);
        if !spaces.contains(space) {
            spaces.push(space.clone());
        }
    }

    /// The keys under which the shared tier may hold these rows.
    pub(crate) fn shared_keys<K: KeyRef>(&self, keys: &[K]) -> Vec<String> {
        let spaces = read(&self.spaces);
        spaces.iter().flat_map(|space| keys.iter().map(|key| space.key(key))).collect()
    }

    /// Invalidates these rows in every in-process tier.
    pub(crate) fn invalidate_local<K: KeyRef + 'static>(&self, keys: &[K]) {
        let locals: Vec<_> = read(&self.locals).iter().filter_map(Weak::upgrade).collect();
        if locals.is_empty() {
            return;
        }
        for key in keys {
            let encoded = encode_id(key);
            locals.iter().for_each(|local| local.invalidate(key, &encoded));
        }
    }
}

// Each critical section is one or two map operations that leave the map valid wherever they stop.
fn read<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

fn write<T>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}
