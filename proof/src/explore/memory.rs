//! The cache server in memory: each command exactly as the real one executes it.

use std::collections::BTreeMap;
use std::time::Duration;

use storehaus_cache::codec::header::{LEASE_BYTES, Token};
use storehaus_cache::l2::{Bytes, Claim, Cleared, Incarnation, L2Error, LeaseReply, ManyReply, Reply};
use tokio::time::Instant;

use super::broken::Bug;
use super::command::{Answer, Answered, Command};
use super::intents::Intents;

/// The server's keys, and what can happen to them.
#[derive(Debug)]
pub(super) struct Memory {
    keys: BTreeMap<String, Entry>,
    incarnation: Incarnation,
    /// The first incarnation, for the mistake that takes every server for the first.
    first: Incarnation,
    snapshot: Option<BTreeMap<String, Entry>>,
    full: bool,
    /// The server's clock began here.
    start: Instant,
    bug: Option<Bug>,
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
    pub(super) fn peek(&self, key: &str) -> (Option<&[u8]>, Incarnation) {
        (self.keys.get(key).map(|entry| &entry.bytes[..]), self.incarnation())
    }

    pub(super) fn run(&mut self, command: &Command) -> Answered {
        Ok(match command {
            Command::Announce(keys, token, ttl) => {
                if self.bug != Some(Bug::IntentNotPlaced) {
                    let ends = self.now() + ttl.as_millis() as u64;
                    each(keys, |key| self.announce(key, *token, ends))?;
                }
                Answer::Announced(self.incarnation())
            }
            Command::Clear(claims) => Answer::Cleared(self.clear(claims)),
            Command::DeleteMatching(_) => {
                let claims: Vec<Claim> = self.keys.keys().map(|key| (key.clone(), None)).collect();
                Answer::Count(self.clear(&claims).removed)
            }
            Command::Fill(fills) => {
                self.take_room()?;
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
            Command::Renew(keys, token, ttl) => {
                let ends = self.now() + ttl.as_millis() as u64;
                let stood = keys.iter().map(|key| self.renew(key, *token, ends));
                Answer::Renewed(stood.collect::<Result<_, _>>()?)
            }
            Command::Get(key) => Answer::One(self.reply(key)),
            Command::GetMany(keys) => {
                let bytes = keys.iter().map(|key| self.seen(key).map(Bytes::copy_from_slice)).collect();
                Answer::Many(ManyReply { bytes, incarnation: self.incarnation() })
            }
            Command::Lease(keys, ttl) => {
                // One lease is a command that stores, many are a script that may find nothing to store.
                if keys.len() == 1 || keys.iter().any(|(key, _)| self.seen(key).is_none()) {
                    self.take_room()?;
                }
                let replies = keys.iter().map(|(key, token)| self.place(key, None, &token.to_lease(), *ttl));
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
            Command::Replace(keys, ttl) => {
                self.take_room()?;
                let replies =
                    keys.iter().map(|(key, seen, token)| self.place(key, Some(seen), &token.to_lease(), *ttl));
                Answer::Replaced(replies.collect())
            }
            Command::Withdraw(keys, token) => {
                each(keys, |key| self.withdraw(key, *token))?;
                Answer::Done
            }
            Command::Ttl(key) => {
                let now = Instant::now();
                Answer::Ttl(self.keys.get(key).map(|entry| entry.expires.duration_since(now)))
            }
        })
    }

    fn announce(&mut self, key: &str, token: Token, ends: u64) -> Result<(), L2Error> {
        let mut intents = self.intents(key, Some(token)).unwrap_or_default();
        intents.shared = !intents.others.is_empty() || (intents.own && intents.shared);
        intents.add(token, ends);
        self.set_intents(key, &intents)
    }

    fn renew(&mut self, key: &str, token: Token, ends: u64) -> Result<bool, L2Error> {
        match self.intents(key, Some(token)) {
            Some(mut intents) if intents.own => {
                intents.add(token, ends);
                self.set_intents(key, &intents).map(|()| true)
            }
            _ => Ok(false),
        }
    }

    fn clear(&mut self, claims: &[Claim]) -> Cleared {
        let claims = match self.bug {
            Some(Bug::ClearIgnored) => &[],
            Some(Bug::ClearSkipsLast) if claims.len() > 1 => &claims[..claims.len() - 1],
            _ => claims,
        };
        let mut cleared = Cleared::default();
        for (key, token) in claims {
            let intents = self.intents(key, *token);
            cleared.lost += u64::from(token.is_some() && !intents.as_ref().is_some_and(|intents| intents.own));
            let kept = match intents.filter(|intents| !intents.others.is_empty()) {
                Some(mut intents) if self.bug != Some(Bug::ClearTakesAll) => {
                    intents.shared = true;
                    self.set_intents(key, &intents).is_ok()
                }
                _ => false,
            };
            if !kept {
                cleared.removed += u64::from(self.keys.remove(key).is_some());
            }
        }
        cleared
    }

    fn withdraw(&mut self, key: &str, token: Token) -> Result<(), L2Error> {
        match self.intents(key, Some(token)).filter(|intents| intents.own) {
            Some(intents) if !intents.others.is_empty() && self.bug != Some(Bug::WithdrawTakesAll) => {
                self.set_intents(key, &intents)
            }
            Some(_) => {
                self.keys.remove(key);
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn intents(&self, key: &str, token: Option<Token>) -> Option<Intents> {
        Intents::read(&self.keys.get(key)?.bytes, token, self.now())
    }

    fn set_intents(&mut self, key: &str, intents: &Intents) -> Result<(), L2Error> {
        self.take_room()?;
        let expires = self.start + Duration::from_millis(intents.last());
        self.keys.insert(key.to_owned(), Entry { bytes: intents.write(), expires });
        Ok(())
    }

    /// Whether the server has memory for one more value.
    fn take_room(&self) -> Result<(), L2Error> {
        if self.full {
            return Err(L2Error::Refused { code: "OOM".to_owned(), detail: "out of memory".to_owned() });
        }
        Ok(())
    }

    /// What stands under a key, as readers and their leases see it.
    fn seen(&self, key: &str) -> Option<&[u8]> {
        let bytes = &self.keys.get(key)?.bytes[..];
        let hidden = self.bug == Some(Bug::IntentsNotSeen) && Intents::read(bytes, None, 0).is_some();
        (!hidden).then_some(bytes)
    }

    /// Milliseconds on the server's clock.
    fn now(&self) -> u64 {
        self.start.elapsed().as_millis() as u64
    }

    fn place(&mut self, key: &str, over: Option<&[u8]>, lease: &[u8], ttl: Duration) -> LeaseReply {
        match self.seen(key) {
            Some(bytes) if !over.is_some_and(|seen| bytes.starts_with(seen)) => LeaseReply::Taken(self.reply(key)),
            _ => {
                if self.bug != Some(Bug::FillIfAbsent) {
                    self.set(key, lease.to_vec(), ttl);
                }
                LeaseReply::Granted(self.incarnation())
            }
        }
    }

    fn reply(&self, key: &str) -> Reply {
        let bytes = self.seen(key).map(Bytes::copy_from_slice);
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

    /// Removes what has expired; which keys.
    pub(super) fn expire(&mut self) -> Vec<String> {
        let now = Instant::now();
        self.keys.extract_if(.., |_, entry| entry.expires <= now).map(|(key, _)| key).collect()
    }
}

/// Does it for every key, whatever becomes of the others; the first failure.
fn each(keys: &[String], mut with: impl FnMut(&str) -> Result<(), L2Error>) -> Result<(), L2Error> {
    keys.iter().map(|key| with(key)).fold(Ok(()), Result::and)
}
