//! Which stores share a table, so that a write through one invalidates all.

use std::any::Any;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, Weak};
use std::time::Duration;

#[cfg(storehaus_broken)]
use crate::broken::{self, Bug};
use crate::bus::{Announce, Target};
use crate::codec::DecodeError;
use crate::codec::header::identity;
use crate::error::CacheError;
use crate::explain::{InvalidatedBy, Invalidation};
use crate::flight::lock;
use crate::key::{KeyRef, KeySpace, encode_id, id_text};
use crate::recent::Recent;
use crate::stats::{Counters, StoreStats};

/// The in-process tier of a store whose key and row types are not known here.
pub(crate) trait LocalHandle: Send + Sync {
    /// Opens a write of one row, given as the key of whichever store writes it: until its end nothing is held under it.
    fn begin(&self, key: &dyn Any, encoded: &str);
    /// Ends a write of one row.
    fn end(&self, key: &dyn Any, encoded: &str);
    /// Invalidates one row, given as the key of whichever store wrote it.
    fn invalidate(&self, key: &dyn Any, encoded: &str);
    /// Invalidates one row by the encoded text of its key; whether there was an entry.
    fn invalidate_encoded(&self, encoded: &str) -> bool;
    /// Invalidates the rows whose encoded key matches; how many entries.
    fn invalidate_matching(&self, matches: &dyn Fn(&str) -> bool) -> u64;
    /// The entry's bytes, when it is a row of this schema.
    fn get_bytes(&self, encoded: &str, schema: u64) -> Option<Result<Vec<u8>, DecodeError>>;
    /// Stores a row given as bytes; not while a write of it is open.
    fn put_bytes(&self, encoded: &str, schema: u64, bytes: &[u8], ttl: Duration) -> Result<bool, DecodeError>;
    /// How long the entry has left.
    fn remaining(&self, encoded: &str) -> Option<Duration>;
    /// Invalidates the rows with these encoded keys, or all.
    fn forget(&self, encoded: Option<&[&str]>);
    /// Invalidates all rows, if they are kept in process on the word of the bus.
    fn flush(&self);
    /// Adds what the tier itself counts.
    fn add_stats(&self, stats: &mut StoreStats);
}

/// The stores of a manager.
pub(crate) struct Registry {
    /// Tells other processes what changed, where there is a shared tier that carries it.
    bus: Option<Arc<dyn Announce>>,
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
    pub(crate) fn new(bus: Option<Arc<dyn Announce>>) -> Self {
        Self { bus, tables: RwLock::default(), prefixes: Mutex::default() }
    }

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
        let new = || Arc::new(TableGroup::new(table, self.bus.clone()));
        Arc::clone(write(&self.tables).entry(table.to_owned()).or_insert_with(new))
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

    /// Remembers that a row was invalidated by hand under a store prefix.
    pub(crate) fn note_by_hand(&self, store: &str, encoded: &str, now: u64) {
        let table = lock(&self.prefixes).get(store).map(|prefix| prefix.table.clone());
        if let Some(table) = table {
            self.group(&table).note_encoded(encoded, InvalidatedBy::Hand, now);
        }
    }

    /// The in-process tiers under a store prefix.
    pub(crate) fn locals(&self, prefix: &str) -> Vec<Arc<dyn LocalHandle>> {
        lock(&self.prefixes)
            .get(prefix)
            .map(|prefix| prefix.locals.iter().filter_map(Weak::upgrade).collect())
            .unwrap_or_default()
    }

    /// Invalidates in process what another process changed; `None` stands for all rows.
    pub(crate) fn forget(&self, target: Target<&str>, ids: Option<&[&str]>, now: u64) {
        let locals = match target {
            Target::Everything => self.all_locals(),
            Target::Prefix(prefix) => self.locals(prefix),
            Target::Table(table) => {
                let group = read(&self.tables).get(table).cloned();
                if let Some(group) = &group {
                    ids.into_iter().flatten().for_each(|id| group.note_encoded(id, InvalidatedBy::Bus, now));
                }
                group.map(|group| group.locals()).unwrap_or_default()
            }
        };
        locals.iter().for_each(|local| local.forget(ids));
    }

    /// Invalidates all rows that are kept in process on the word of the bus.
    pub(crate) fn flush(&self) {
        self.all_locals().iter().for_each(|local| local.flush());
    }

    /// Tells other processes what was changed by hand; `None` stands for all rows.
    pub(crate) fn announce(&self, target: Target<String>, ids: Option<Vec<String>>) {
        if let Some(bus) = &self.bus {
            bus.announce(target, ids);
        }
    }

    fn all_locals(&self) -> Vec<Arc<dyn LocalHandle>> {
        lock(&self.prefixes).values().flat_map(|prefix| &prefix.locals).filter_map(Weak::upgrade).collect()
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
pub(crate) struct TableGroup {
    table: String,
    bus: Option<Arc<dyn Announce>>,
    /// The key spaces in the shared tier.
    spaces: RwLock<Vec<KeySpace>>,
    /// The in-process tiers.
    locals: RwLock<Vec<Weak<dyn LocalHandle>>>,
    recent: Recent,
}

impl TableGroup {
    fn new(table: &str, bus: Option<Arc<dyn Announce>>) -> Self {
        Self {
            table: table.to_owned(),
            bus,
            spaces: RwLock::default(),
            locals: RwLock::default(),
            recent: Recent::default(),
        }
    }

    /// Adds a key space of the shared tier that may hold these rows.
    pub(crate) fn add_space(&self, space: &KeySpace) {
        let mut spaces = write(&self.spaces);
        if !spaces.contains(space) {
            spaces.push(space.clone());
        }
    }

    /// How many key spaces of the shared tier may hold these rows. None ever goes.
    pub(crate) fn spaces(&self) -> usize {
        read(&self.spaces).len()
    }

    /// The keys under which the shared tier may hold these rows.
    pub(crate) fn shared_keys<K: KeyRef>(&self, keys: &[K]) -> Vec<String> {
        let spaces = read(&self.spaces);
        spaces.iter().flat_map(|space| keys.iter().map(|key| space.key(key))).collect()
    }

    /// Globs that match every key under which the shared tier may hold rows of the table.
    pub(crate) fn shared_globs(&self) -> Vec<String> {
        // A prefix has no character that means anything in a glob.
        read(&self.spaces).iter().map(|space| format!("{}*", space.prefix())).collect()
    }

    /// Invalidates every row in every in-process tier: in this process at once, in others when they are told.
    pub(crate) fn clear_local(&self) {
        self.locals().iter().for_each(|local| {
            local.invalidate_matching(&|_| true);
        });
        if let Some(bus) = self.bus.as_ref().filter(|_| !read(&self.spaces).is_empty()) {
            bus.announce(Target::Table(self.table.clone()), None);
        }
    }

    /// Invalidates these rows in every in-process tier: in this process at once, in others when they are told. To be called
    /// after the shared tier was cleared, or will not be read before it is.
    pub(crate) fn invalidate_local<K: KeyRef + 'static>(&self, keys: &[K]) {
        #[cfg(storehaus_broken)]
        if broken::is(Bug::KeepLocal) {
            return;
        }
        let locals = self.locals();
        // Where no store keeps rows in the shared tier, none keeps them in process on the word of the bus.
        let bus = self.bus.as_ref().filter(|_| !keys.is_empty() && !read(&self.spaces).is_empty());
        if locals.is_empty() && bus.is_none() {
            return;
        }
        let encoded: Vec<_> = keys
            .iter()
            .map(|key| {
                let encoded = encode_id(key);
                locals.iter().for_each(|local| local.invalidate(key, &encoded));
                encoded
            })
            .collect();
        if let Some(bus) = bus {
            bus.announce(Target::Table(self.table.clone()), Some(encoded));
        }
    }

    /// Opens a write of these rows in every in-process tier: those tiers, for [`end_local`].
    pub(crate) fn begin_local<K: KeyRef + 'static>(&self, keys: &[K]) -> Vec<Arc<dyn LocalHandle>> {
        #[cfg(storehaus_broken)]
        if broken::is(Bug::KeepLocal) {
            return Vec::new();
        }
        let locals = self.locals();
        each(&locals, keys, |local, key, encoded| local.begin(key, encoded));
        locals
    }

    /// Remembers that these rows were invalidated.
    pub(crate) fn note<K: KeyRef>(&self, keys: &[K], by: InvalidatedBy, now: u64) {
        keys.iter().for_each(|key| self.note_encoded(&id_text(key), by, now));
    }

    /// [`note`](Self::note) for the encoded text of a key.
    pub(crate) fn note_encoded(&self, encoded: &str, by: InvalidatedBy, now: u64) {
        self.recent.note(identity(encoded), by, now);
    }

    /// The last invalidation of a row, if it is remembered.
    pub(crate) fn last_invalidation<K: KeyRef + ?Sized>(&self, key: &K, now: u64) -> Option<Invalidation> {
        self.recent.last(identity(&encode_id(key)), now)
    }

    fn locals(&self) -> Vec<Arc<dyn LocalHandle>> {
        read(&self.locals).iter().filter_map(Weak::upgrade).collect()
    }
}

/// Ends the write of these rows in the tiers where it was opened.
pub(crate) fn end_local<K: KeyRef + 'static>(locals: &[Arc<dyn LocalHandle>], keys: &[K]) {
    each(locals, keys, |local, key, encoded| local.end(key, encoded));
}

fn each<K: KeyRef + 'static>(
    locals: &[Arc<dyn LocalHandle>],
    keys: &[K],
    act: impl Fn(&dyn LocalHandle, &dyn Any, &str),
) {
    if locals.is_empty() {
        return;
    }
    for key in keys {
        let encoded = encode_id(key);
        locals.iter().for_each(|local| act(&**local, key, &encoded));
    }
}

// Each critical section is one or two map operations that leave the map valid wherever they stop.
fn read<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

fn write<T>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}
