//! The manual API: values under a store and an id of the caller's choice.

use std::sync::Arc;
use std::time::Duration;

use crate::bus::Target;
use crate::codec::header::{self, Content, Expected, HEADER_BYTES, Mismatch, Stamp, Token};
use crate::codec::{Cacheable, from_bytes, to_bytes};
use crate::config::{IntoTtl, check_ttl};
use crate::error::{CacheError, Failure};
use crate::key::{KeySpace, check_prefix, encode_id, escape};
use crate::l2::{Fill, L2, L2Error, LeaseReply, Reply};
use crate::manager::CacheManager;
use crate::remote::Remote;
use crate::scratch::Scratch;

impl<L: L2> CacheManager<L> {
    /// Stores a value under a store prefix and an id; whether it was stored.
    ///
    /// A model stored under the prefix and id of its store is what the store's next `get_by_id` returns. The caller
    /// vouches that the value is current until the call returns: of a write that is acknowledged during the call, the
    /// value may take the place. `Ok(false)` says that such a write won, that one is under way, or that a store is loading
    /// this very row.
    ///
    /// # Errors
    /// [`CacheError::Configuration`] for a prefix or TTL that is not allowed, [`CacheError::TooLarge`],
    /// [`CacheError::SerializationError`] when the value cannot be encoded or is not of the type the store holds;
    /// [`CacheError::ConnectionError`], [`CacheError::Timeout`], [`CacheError::Refused`] from Redis.
    ///
    /// # Cost
    /// With Redis two or three commands, one after the other.
    pub async fn set_record<V: Cacheable>(
        &self,
        store: &str,
        id: &str,
        value: &V,
        ttl: impl IntoTtl,
    ) -> Result<bool, CacheError> {
        const OPERATION: &str = "set_record";
        let ttl = ttl.into_ttl();
        check_ttl("the TTL", ttl)?;
        let space = self.space(store)?;
        let payload = to_bytes(value).map_err(|error| CacheError::encode(OPERATION, store, &error))?;
        let limit = self.config().max_value_bytes;
        if HEADER_BYTES + payload.len() > limit {
            let reason = format!("the value is larger than the limit of {limit} bytes");
            return Err(CacheError::TooLarge(Failure::new(OPERATION, store, reason)));
        }
        let encoded = encode_id(id);
        let Some(remote) = self.shared(store) else {
            let locals = self.registry().locals(store);
            let mut stored = true;
            for local in &locals {
                stored &= local
                    .put_bytes(&encoded, V::SCHEMA, &payload, ttl)
                    .map_err(|error| CacheError::decode(OPERATION, store, &error))?;
            }
            if locals.is_empty() {
                let expires = self.env().nanos().saturating_add(u64::try_from(ttl.as_nanos()).unwrap_or(u64::MAX));
                let scratch = Scratch { schema: V::SCHEMA, expires, bytes: payload.into() };
                self.scratch().values.insert(space.key(id), scratch);
            }
            return Ok(stored);
        };
        let key = space.key(id);
        let mut token = Token { instance: self.env().random(), serial: 0 };
        let stored = remote
            .retrying_coherent(|l2| {
                token.serial += 1;
                self.store_value::<V>(l2, key.clone(), token, payload.clone(), ttl)
            })
            .await
            .map_err(|error| CacheError::from_l2(OPERATION, store, &error))?;
        self.registry().locals(store).iter().for_each(|local| {
            local.invalidate_encoded(&encoded);
        });
        self.registry().announce(Target::Prefix(store.to_owned()), Some(vec![encoded]));
        Ok(stored)
    }

    /// The value under a store prefix and an id.
    ///
    /// # Errors
    /// [`CacheError::SerializationError`] when what stands there is of another type or damaged;
    /// [`CacheError::Configuration`]; [`CacheError::ConnectionError`], [`CacheError::Timeout`], [`CacheError::Refused`]
    /// from Redis.
    ///
    /// # Cost
    /// With Redis one command.
    pub async fn get_record<V: Cacheable>(&self, store: &str, id: &str) -> Result<Option<V>, CacheError> {
        const OPERATION: &str = "get_record";
        let space = self.space(store)?;
        let Some(remote) = self.shared(store) else {
            let encoded = encode_id(id);
            let wrong = |error| CacheError::decode(OPERATION, store, &error);
            let locals = self.registry().locals(store);
            if !locals.is_empty() {
                let held = locals.iter().find_map(|local| local.get_bytes(&encoded, V::SCHEMA));
                return held.map(|bytes| bytes.and_then(|bytes| from_bytes(&bytes)).map_err(wrong)).transpose();
            }
            return match self.scratch().get(&space.key(id), self.env().nanos()) {
                Some(value) if value.schema == V::SCHEMA => from_bytes(&value.bytes).map(Some).map_err(wrong),
                Some(_) => {
                    Err(CacheError::SerializationError(Failure::new(OPERATION, store, "the entry is of another type")))
                }
                None => Ok(None),
            };
        };
        let (key, reply) = self.look(remote, OPERATION, &space, id).await?;
        let Some(bytes) = &reply.bytes else { return Ok(None) };
        match header::parse(bytes, &self.expected(V::SCHEMA, &key, &reply)) {
            Content::Value(value) => {
                value.payload.map(from_bytes).transpose().map_err(|error| CacheError::decode(OPERATION, store, &error))
            }
            Content::Intents(_) | Content::Lease(_) | Content::Unusable(Mismatch::Expired | Mismatch::Incarnation) => {
                Ok(None)
            }
            Content::Unusable(mismatch) => Err(CacheError::SerializationError(Failure::new(
                OPERATION,
                store,
                match mismatch {
                    Mismatch::Schema => "the entry is of another type",
                    _ => "the entry is damaged or not one of this cache",
                },
            ))),
        }
    }

    /// Removes the value under a store prefix and an id from every tier; whether there was one.
    ///
    /// # Errors
    /// [`CacheError::Configuration`]; [`CacheError::ConnectionError`], [`CacheError::Timeout`],
    /// [`CacheError::Refused`] from Redis: the value may still be there.
    ///
    /// # Cost
    /// With Redis one command.
    pub async fn delete_record(&self, store: &str, id: &str) -> Result<bool, CacheError> {
        let space = self.space(store)?;
        let keys = [(space.key(id), None)];
        let mut existed = false;
        if let Some(remote) = self.shared(store) {
            let deleted = remote.retrying(|l2| {
                let keys = keys.clone();
                async move { l2.clear(&keys).await }
            });
            existed = deleted.await.map_err(|error| CacheError::from_l2("delete_record", store, &error))?.removed > 0;
        }
        let encoded = encode_id(id);
        for local in self.registry().locals(store) {
            existed |= local.invalidate_encoded(&encoded);
        }
        if self.shared(store).is_some() {
            self.registry().announce(Target::Prefix(store.to_owned()), Some(vec![encoded.clone()]));
        }
        self.registry().note_by_hand(store, &encoded, self.env().nanos());
        Ok(existed | self.scratch().values.remove(&keys[0].0).is_some())
    }

    /// Whether there is a value under a store prefix and an id.
    ///
    /// # Errors
    /// As [`ttl`](Self::ttl).
    ///
    /// # Cost
    /// With Redis one command.
    pub async fn exists(&self, store: &str, id: &str) -> Result<bool, CacheError> {
        Ok(self.remaining("exists", store, id).await?.is_some())
    }

    /// How long the value under a store prefix and an id has left.
    ///
    /// # Errors
    /// [`CacheError::Configuration`]; [`CacheError::ConnectionError`], [`CacheError::Timeout`],
    /// [`CacheError::Refused`] from Redis.
    ///
    /// # Cost
    /// With Redis one command.
    pub async fn ttl(&self, store: &str, id: &str) -> Result<Option<Duration>, CacheError> {
        self.remaining("ttl", store, id).await
    }

    /// Removes every value whose `store:id` matches; how many. `*` stands for any text, everything else for itself.
    ///
    /// Stays inside the global prefix. `user_sessions:42:*` matches the values of the store `user_sessions` whose id
    /// begins with `42:`.
    ///
    /// # Errors
    /// [`CacheError::Configuration`] for an empty pattern or a store segment that no prefix can have;
    /// [`CacheError::ConnectionError`], [`CacheError::Timeout`], [`CacheError::Refused`] from Redis.
    ///
    /// # Cost
    /// With Redis a `SCAN` over all keys of the server in batches, never `KEYS`.
    pub async fn delete_pattern(&self, pattern: &str) -> Result<u64, CacheError> {
        let glob = key_glob(pattern).map_err(CacheError::Configuration)?;
        self.delete_glob("delete_pattern", &glob).await
    }

    /// Removes every value of a store prefix, records and query results alike; how many.
    ///
    /// # Errors
    /// As [`delete_pattern`](Self::delete_pattern).
    ///
    /// # Cost
    /// As [`delete_pattern`](Self::delete_pattern).
    pub async fn invalidate_queries(&self, store: &str) -> Result<u64, CacheError> {
        check_prefix("store prefix", store).map_err(CacheError::Configuration)?;
        self.delete_glob("invalidate_queries", &format!("{store}:*")).await
    }

    async fn delete_glob(&self, operation: &'static str, glob: &str) -> Result<u64, CacheError> {
        let global = &self.config().prefix;
        let full = format!("{global}:{glob}");
        let mut removed = 0;
        if let Some(remote) = self.remote() {
            removed = remote.sweep(&full).await.map_err(|error| CacheError::from_l2(operation, "*", &error))?;
        }
        let mut removed_here = 0;
        for store in self.registry().prefixes() {
            for local in self.registry().locals(&store) {
                removed_here += local.invalidate_matching(&|id| matches(glob, &format!("{store}:{id}")));
            }
        }
        let scratch = std::sync::atomic::AtomicU64::new(0);
        self.scratch().values.retain(|key, _| {
            let goes = matches(&full, key);
            scratch.fetch_add(u64::from(goes), std::sync::atomic::Ordering::Relaxed);
            !goes
        });
        if self.remote().is_some() {
            self.registry().announce(Target::Everything, None);
        }
        // What is held in process stands in Redis too, where there is one.
        Ok(if self.remote().is_some() { removed } else { removed_here + scratch.into_inner() })
    }

    async fn remaining(&self, operation: &'static str, store: &str, id: &str) -> Result<Option<Duration>, CacheError> {
        let space = self.space(store)?;
        let Some(remote) = self.shared(store) else {
            let encoded = encode_id(id);
            let locals = self.registry().locals(store);
            if !locals.is_empty() {
                return Ok(locals.iter().find_map(|local| local.remaining(&encoded)));
            }
            let now = self.env().nanos();
            let by_hand = self.scratch().get(&space.key(id), now);
            return Ok(by_hand.map(|value| Duration::from_nanos(value.expires - now)));
        };
        let (key, reply) = self.look(remote, operation, &space, id).await?;
        let Some(bytes) = &reply.bytes else { return Ok(None) };
        // Whatever type the value is of: its header says so itself.
        let expected = self.expected(header::stamp_of(bytes).map_or(0, |stamp| stamp.schema), &key, &reply);
        match header::parse(bytes, &expected) {
            Content::Value(value) if value.payload.is_some() => Ok(Some(value.expires.since(expected.now))),
            _ => Ok(None),
        }
    }

    async fn look(
        &self,
        remote: &Remote<L>,
        operation: &'static str,
        space: &KeySpace,
        id: &str,
    ) -> Result<(String, Reply), CacheError> {
        let key = space.key(id);
        let reply = remote.retrying_coherent(|l2| {
            let key = key.clone();
            async move { l2.get(&key).await }
        });
        match reply.await {
            Ok(reply) => {
                let expected = self.expected(0, &key, &reply);
                if reply.bytes.as_deref().map(|bytes| header::parse(bytes, &expected))
                    == Some(Content::Unusable(Mismatch::Identity))
                {
                    remote.drop_connections();
                }
                Ok((key, reply))
            }
            Err(error) => Err(CacheError::from_l2(operation, space.store(), &error)),
        }
    }

    /// Leases the key, or what stands there unless it is a lease of another call, and fills it.
    async fn store_value<V: Cacheable>(
        &self,
        l2: Arc<L>,
        key: String,
        token: Token,
        payload: Vec<u8>,
        ttl: Duration,
    ) -> Result<bool, L2Error> {
        let lasts = self.config().timeout;
        let incarnation = match l2.lease(&key, token, lasts).await? {
            LeaseReply::Granted(incarnation) => incarnation,
            LeaseReply::Taken(reply) => {
                let Some(bytes) = &reply.bytes else { return Ok(false) };
                match header::parse(bytes, &self.expected(V::SCHEMA, &key, &reply)) {
                    Content::Intents(_) => return Ok(false),
                    // An earlier attempt of this call may have left its lease: its reply was lost.
                    Content::Lease(found) if found.instance != token.instance => return Ok(false),
                    _ => {}
                }
                match l2.replace(&key, &bytes[..bytes.len().min(HEADER_BYTES)], token, lasts).await? {
                    LeaseReply::Granted(incarnation) => incarnation,
                    LeaseReply::Taken(_) => return Ok(false),
                }
            }
        };
        let now = self.env().wall();
        let expires = now.plus(ttl);
        let stamp = Stamp {
            schema: V::SCHEMA,
            identity: header::identity(&key),
            incarnation,
            token,
            expires,
            refresh: expires,
            filled: now,
            absent: false,
        };
        let mut value = header::open(&stamp, payload.len());
        value.extend_from_slice(&payload);
        header::seal(&mut value);
        let stored = l2.fill(&[Fill { key, token, value, ttl }]).await?;
        Ok(stored.first().copied().unwrap_or(false))
    }

    fn expected(&self, schema: u64, key: &str, reply: &Reply) -> Expected {
        Expected { schema, identity: header::identity(key), incarnation: reply.incarnation, now: self.env().wall() }
    }

    fn space(&self, store: &str) -> Result<KeySpace, CacheError> {
        KeySpace::new(&self.config().prefix, store).map_err(CacheError::Configuration)
    }

    /// The shared tier, unless the store under this prefix keeps its rows in process only.
    fn shared(&self, store: &str) -> Option<&Remote<L>> {
        self.remote().filter(|_| self.registry().is_shared(store))
    }
}

/// Turns a pattern over `store:id` into a glob over keys: the id is written as keys write it.
fn key_glob(pattern: &str) -> Result<String, String> {
    let (store, id) = match pattern.split_once(':') {
        Some((store, id)) => (store, Some(id)),
        None => (pattern, None),
    };
    let literal: String = store.chars().filter(|c| *c != '*').collect();
    if pattern.is_empty() || store.is_empty() {
        return Err("the pattern has no store segment; write store:id, with * for any text".to_owned());
    }
    if !literal.is_empty() {
        check_prefix("store segment of the pattern", &literal)?;
    }
    Ok(match id {
        None => store.to_owned(),
        Some(id) => {
            let parts: Vec<_> = id.split('*').map(escape).collect();
            format!("{store}:{}", parts.join("*"))
        }
    })
}

/// Whether `text` matches a glob whose only wildcard is `*`.
fn matches(glob: &str, text: &str) -> bool {
    let mut parts = glob.split('*');
    let Some(rest) = parts.next().and_then(|first| text.strip_prefix(first)) else { return false };
    let mut rest = rest;
    let mut parts = parts.peekable();
    if parts.peek().is_none() {
        return rest.is_empty();
    }
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return rest.ends_with(part);
        }
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::CacheConfig;

    #[test]
    fn a_pattern_is_escaped_as_keys_are() {
        assert_eq!(key_glob("user_sessions:42:*").unwrap(), "user_sessions:42%3a*");
        assert_eq!(key_glob("users:[a]?*").unwrap(), "users:%5ba%5d%3f*");
        assert_eq!(key_glob("user*").unwrap(), "user*");
        assert!(key_glob("").is_err());
        assert!(key_glob(":x").is_err());
        assert!(key_glob("us ers:*").is_err());
    }

    #[test]
    fn globs_match_as_redis_does() {
        for (glob, text, expected) in [
            ("a:*", "a:", true),
            ("a:*", "b:", false),
            ("a", "a", true),
            ("a", "ab", false),
            ("*b", "ab", true),
            ("a*c*e", "abcde", true),
            ("a*c*e", "abcd", false),
            ("a**e", "ae", true),
            ("*", "", true),
        ] {
            assert_eq!(matches(glob, text), expected, "{glob} {text}");
        }
    }

    #[tokio::test]
    async fn values_by_hand_without_redis() {
        let manager: CacheManager = CacheManager::new(CacheConfig::in_process(60, "app")).unwrap();
        assert!(manager.set_record("temp", "a:1", &"one".to_owned(), 60).await.unwrap());
        assert!(manager.set_record("temp", "a:2", &"two".to_owned(), 60).await.unwrap());
        assert!(manager.set_record("temp", "b:1", &7i64, 60).await.unwrap());
        assert_eq!(manager.get_record::<String>("temp", "a:1").await.unwrap().as_deref(), Some("one"));
        assert!(matches!(manager.get_record::<String>("temp", "b:1").await, Err(CacheError::SerializationError(_))));
        let left = manager.ttl("temp", "b:1").await.unwrap().unwrap();
        assert!(left <= Duration::from_secs(60) && left > Duration::from_secs(50), "{left:?}");
        assert_eq!(manager.delete_pattern("temp:a:*").await.unwrap(), 2);
        assert!(!manager.exists("temp", "a:1").await.unwrap());
        assert!(manager.delete_record("temp", "b:1").await.unwrap());
        assert!(!manager.delete_record("temp", "b:1").await.unwrap());
        assert!(matches!(manager.set_record("temp", "x", &1i64, 0).await, Err(CacheError::Configuration(_))));
        assert!(matches!(manager.get_record::<i64>("te mp", "x").await, Err(CacheError::Configuration(_))));
    }
}
