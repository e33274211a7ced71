//! What the tiers of a store hold under one key.

use std::time::Duration;

use super::{Inner, RecordCache};
use crate::codec::header::{self, Content, Expected, Mismatch};
use crate::codec::{Cacheable as _, from_bytes};
use crate::explain::{Explanation, Filler, Held, State};
use crate::key::KeyRef;
use crate::l2::{L2, L2Error, Reply};
use crate::loader::Loader;
use crate::remote::Remote;

impl<Ld: Loader, L: L2> RecordCache<Ld, L> {
    /// What each tier holds under the key of a row, and how it came there. Changes nothing and counts as no read.
    ///
    /// What Redis fails with stands in the answer.
    ///
    /// # Cost
    /// With Redis two commands, sent together: `GET` and `PTTL`. While it does not answer, the attempts of the manual API.
    pub async fn explain<Q: KeyRef<Owned = Ld::Key> + ?Sized>(&self, id: &Q) -> Explanation {
        self.inner.explain(&id.to_key()).await
    }
}

impl<Ld: Loader, L: L2> Inner<Ld, L> {
    pub(super) async fn explain(&self, key: &Ld::Key) -> Explanation {
        let text = self.space.key(key);
        let redis = match &self.remote {
            Some(remote) => Some(self.held_in_redis(remote, &text).await),
            None => None,
        };
        Explanation {
            store: self.space.store().to_owned(),
            digest: header::identity(&text),
            in_process: self.held_in_process(key),
            redis,
            bypassed: self.remote.as_ref().is_some_and(|remote| !remote.is_up()),
            last_invalidation: self.scope.group.last_invalidation(key, self.manager.env().nanos()),
        }
    }

    fn held_in_process(&self, key: &Ld::Key) -> Option<Held> {
        let tier = &self.local.as_ref()?.tier;
        let now = self.manager.env().nanos();
        let Some(entry) = tier.entry(key, now) else {
            return Some(Held::of(if tier.is_loading(key) { State::Lease } else { State::Nothing }));
        };
        let mut held = Held::of(if entry.row.is_some() { State::Value } else { State::Absent });
        held.age = Some(Duration::from_nanos(now.saturating_sub(entry.life.loaded())));
        held.ttl = Some(entry.life.remaining(now));
        Some(held)
    }

    async fn held_in_redis(&self, remote: &Remote<L>, text: &str) -> Held {
        let looked = remote.retrying(|l2| {
            let text = text.to_owned();
            async move { tokio::try_join!(l2.get(&text), l2.ttl(&text)) }
        });
        match looked.await {
            Ok((reply, ttl)) => self.held(text, &reply, ttl),
            Err(L2Error::WrongType) => Held::of(State::Unusable(Mismatch::Format)),
            Err(error) => Held::of(State::Unknown(error.to_string())),
        }
    }

    /// What a value under a key must say of itself to be served.
    pub(super) fn expected(&self, text: &str, reply: &Reply) -> Expected {
        Expected {
            schema: Ld::Value::SCHEMA,
            identity: header::identity(text),
            incarnation: reply.incarnation,
            now: self.wall(),
        }
    }

    /// What a reader would make of a reply.
    fn held(&self, text: &str, reply: &Reply, ttl: Option<Duration>) -> Held {
        let Some(bytes) = &reply.bytes else { return Held::of(State::Nothing) };
        let now = self.wall();
        let filler = |token| Filler::new(token, self.instance);
        let (state, token) = match header::parse(bytes, &self.expected(text, reply)) {
            Content::Intents(intents) => (State::Intents(intents.writers()), None),
            Content::Lease(token) => (State::Lease, Some(token)),
            Content::Value(value) => {
                let state = match value.payload.map(from_bytes::<Ld::Value>) {
                    None => State::Absent,
                    Some(Ok(_)) => State::Value,
                    Some(Err(_)) => State::Unusable(Mismatch::Codec),
                };
                (state, Some(value.token))
            }
            Content::Unusable(mismatch) => (State::Unusable(mismatch), None),
        };
        let mut held = Held::of(state);
        (held.ttl, held.size, held.filler) = (ttl, Some(bytes.len() as u64), token.map(filler));
        // Of a damaged header nothing is to be believed.
        if let Some(stamp) = header::stamp_of(bytes)
            && held.state != State::Unusable(Mismatch::Checksum)
        {
            held.age = Some(now.since(stamp.filled));
            held.refresh = (stamp.refresh < stamp.expires).then(|| stamp.refresh.since(now));
            held.filler = Some(filler(stamp.token));
            (held.incarnation, held.server) = (Some(stamp.incarnation), Some(reply.incarnation));
        }
        held
    }
}
