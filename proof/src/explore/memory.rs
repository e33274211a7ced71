//! The cache server in memory: each command exactly as the real one executes it.

use std::collections::BTreeMap;
use std::time::Duration;

use storehaus_cache::codec::header::{self, Content, Expected, LEASE_BYTES, Millis, Token};
use storehaus_cache::l2::{Claim, Cleared, Incarnation, L2Error, LeaseReply, ManyReply, Reply};
use tokio::time::Instant;

use super::broken::Bug;
use super::command::{Answer, Answered, Command};

/// The server's keys, and what can happen to them.
#[derive(Debug)]
pub(super) struct Memory {
    keys: BTreeMap<String, Entry>,
    incarnation: Incarnation,
    /// The first incarnation, for the mistake that takes every server for the first.
    first: Incarnation,
    snapshot: Option<BTreeMap<String, Entry>>,
    full: bool,
    start: Instant,
    bug: Option<Bug>,
}

/// The intents under a key, apart from the one that is asked about.
#[derive(Clone, Debug, Default)]
struct Set {
    /// Whether the writers met.
    shared: bool,
    entries: Vec<(Token, u64)>,
    /// Whether the one that is asked about stands.
    own: bool,
}

#[derive(Clone, Debug)]
struct Entry {
    bytes: Vec<u8>,
    expires: Instant,
}

impl Memory {
    pub(super) fn new(bug: Option<Bug>) -> Self {
        Self {
            keys: BTreeMap::new(),
            incarnation: 1,
            first: 1,
            snapshot: None,
            full: false,
            start: Instant::now(),
            bug,
        }
    }

    /// Removes a key, as an eviction or its expiry does; whether there was one.
    pub(super) fn evict(&mut self, key: &str) -> bool {
        self.keys.remove(key).is_some()
    }

    /// Whether there is anything to evict.
    pub(super) fn has(&self, key: &str) -> bool {
        self.keys.contains_key(key)
    }

    /// Loses everything and goes on as the same server.
    pub(super) fn flush(&mut self) {
        self.keys.clear();
    }

    /// Remembers what stands now, as a snapshot on disk or a replica that falls behind does.
    pub(super) fn take_snapshot(&mut self) {
        self.snapshot = Some(self.keys.clone());
    }

    pub(super) fn has_snapshot(&self) -> bool {
        self.snapshot.is_some()
    }

    /// Becomes the server that holds the snapshot.
    pub(super) fn fail_over(&mut self) {
        self.keys = self.snapshot.take().unwrap_or_default();
        self.incarnation += 1;
    }

    /// Takes no more values, or takes them again.
    pub(super) fn set_full(&mut self, full: bool) {
        self.full = full;
    }

    pub(super) fn is_full(&self) -> bool {
        self.full
    }

    /// What stands under a key and who says so.
    pub(super) fn peek(&mut self, key: &str) -> (Option<&[u8]>, Incarnation) {
        self.expire();
        (self.keys.get(key).map(|entry| &entry.bytes[..]), self.incarnation())
    }

    pub(super) fn run(&mut self, command: &Command) -> Answered {
        self.expire();
        if self.full && command.needs_memory() {
            return Err(L2Error::Refused { code: "OOM".to_owned(), detail: "out of memory".to_owned() });
        }
        Ok(match command {
            Command::Announce(keys, token, ttl) => {
                keys.iter().for_each(|key| self.announce(key, *token, *ttl));
                Answer::Announced(self.incarnation())
            }
            Command::Clear(keys) => Answer::Cleared(self.clear(keys)),
            Command::DeleteMatching(_) => Answer::Count(std::mem::take(&mut self.keys).len() as u64),
            Command::Fill(fills) => {
                let stored = fills.iter().map(|fill| {
                    let stands = self.keys.get(&fill.key).map(|entry| &entry.bytes[..]);
                    let stored = match self.bug {
                        Some(Bug::FillWithoutLease) => true,
                        Some(Bug::FillIfAbsent) => stands.is_none(),
                        _ => stands == Some(&fill.token.to_lease()[..]),
                    };
                    if stored {
                        self.set(&fill.key, fill.value.clone(), fill.ttl);
                    }
                    stored
                });
                Answer::Stored(stored.collect())
            }
            Command::Get(key) => Answer::One(self.reply(key)),
            Command::GetMany(keys) => {
                let bytes = keys.iter().map(|key| self.keys.get(key).map(|entry| entry.bytes.clone())).collect();
                Answer::Many(ManyReply { bytes, incarnation: self.incarnation() })
            }
            Command::Lease(keys, ttl) => {
                let replies = keys.iter().map(|(key, token)| Some(self.place(key, None, &token.to_lease(), *ttl)));
                Answer::Leases(replies.collect())
            }
            Command::Probe => Answer::Done,
            Command::Release(leases) => {
                for (key, token) in leases {
                    if self.keys.get(key).is_some_and(|entry| entry.bytes == token.to_lease()) {
                        self.keys.remove(key);
                    }
                }
                Answer::Done
            }
            Command::Renew(keys, token, ttl) => {
                let stood = keys.iter().map(|key| {
                    let stood = self.intents(key, *token).is_some_and(|set| set.own);
                    if stood {
                        self.announce(key, *token, *ttl);
                    }
                    stood
                });
                Answer::Stored(stood.collect())
            }
            Command::Replace(keys, ttl) => {
                let replies =
                    keys.iter().map(|(key, seen, token)| self.place(key, Some(seen), &token.to_lease(), *ttl));
                Answer::Replaced(replies.collect())
            }
            Command::Ttl(key) => {
                let now = Instant::now();
                Answer::Ttl(self.keys.get(key).map(|entry| entry.expires.duration_since(now)))
            }
            Command::Withdraw(keys, token) => {
                for key in keys {
                    if let Some(set) = self.intents(key, *token).filter(|set| set.own) {
                        self.put(key, &set);
                    }
                }
                Answer::Done
            }
        })
    }

    /// Adds an intent; whatever else stood there gives way.
    fn announce(&mut self, key: &str, token: Token, ttl: Duration) {
        let mut set = self.intents(key, token).unwrap_or_default();
        set.shared = !set.entries.is_empty() || (set.own && set.shared);
        set.entries.push((token, self.millis() + ttl.as_millis() as u64));
        self.put(key, &set);
    }

    /// What writers left under a key, without the intent of `token`; `None` for anything but intents.
    fn intents(&self, key: &str, token: Token) -> Option<Set> {
        let expected = Expected { schema: 0, identity: 0, incarnation: 0, now: Millis(0) };
        let Content::Intents(intents) = header::parse(&self.keys.get(key)?.bytes, &expected) else { return None };
        let (now, mut set) = (self.millis(), Set { shared: intents.shared, ..Set::default() });
        for (other, Millis(ends)) in intents.entries().filter(|(_, ends)| ends.0 > now) {
            if other == token {
                set.own = true;
            } else {
                set.entries.push((other, ends));
            }
        }
        Some(set)
    }

    /// Stores intents, or removes the key where none is left.
    fn put(&mut self, key: &str, set: &Set) {
        let Some(last) = set.entries.iter().map(|(_, ends)| *ends).max() else {
            self.keys.remove(key);
            return;
        };
        let mut bytes = vec![b'S', b'H', header::FORMAT_VERSION, b'I', u8::from(set.shared), 0, 0, 0, 0];
        for (token, ends) in &set.entries {
            bytes.extend_from_slice(&token.to_bytes());
            bytes.extend_from_slice(&ends.to_le_bytes());
        }
        self.set(key, bytes, Duration::from_millis(last.saturating_sub(self.millis())));
    }

    /// The server's clock.
    fn millis(&self) -> u64 {
        self.start.elapsed().as_millis() as u64
    }

    fn clear(&mut self, keys: &[Claim]) -> Cleared {
        let keys = match self.bug {
            Some(Bug::ClearIgnored) => &[],
            Some(Bug::ClearSkipsLast) if keys.len() > 1 => &keys[..keys.len() - 1],
            _ => keys,
        };
        let nobody = Token { instance: 0, serial: 0 };
        let mut cleared = Cleared::default();
        for (key, token) in keys {
            let set = self.intents(key, token.unwrap_or(nobody)).unwrap_or_default();
            cleared.lost += u64::from(token.is_some() && !set.own);
            if set.entries.is_empty() || self.full {
                cleared.removed += u64::from(self.keys.remove(key).is_some());
            } else {
                self.put(key, &Set { shared: true, ..set });
            }
        }
        cleared
    }

    fn place(&mut self, key: &str, over: Option<&[u8]>, lease: &[u8], ttl: Duration) -> LeaseReply {
        match self.keys.get(key) {
            Some(entry) if !over.is_some_and(|seen| entry.bytes.starts_with(seen)) => {
                LeaseReply::Taken(self.reply(key))
            }
            _ => {
                if self.bug != Some(Bug::FillIfAbsent) {
                    self.set(key, lease.to_vec(), ttl);
                }
                LeaseReply::Granted(self.incarnation())
            }
        }
    }

    fn reply(&self, key: &str) -> Reply {
        let bytes = self.keys.get(key).map(|entry| entry.bytes.clone());
        let is_lease = bytes.as_ref().is_some_and(|bytes| bytes.len() == LEASE_BYTES);
        let incarnation = match self.bug {
            Some(Bug::LeaseIncarnationIgnored) if is_lease => self.first,
            _ => self.incarnation(),
        };
        Reply { bytes, incarnation }
    }

    fn set(&mut self, key: &str, bytes: Vec<u8>, ttl: Duration) {
        self.keys.insert(key.to_owned(), Entry { bytes, expires: Instant::now() + ttl });
    }

    fn incarnation(&self) -> Incarnation {
        if self.bug == Some(Bug::IncarnationIgnored) { self.first } else { self.incarnation }
    }

    fn expire(&mut self) {
        let now = Instant::now();
        self.keys.retain(|_, entry| entry.expires > now);
    }
}
