//! Hits that are compared with the database: what the auditor knows of one, and how it looks at it again.

use std::borrow::Borrow;
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;

use super::{Inner, Local};
use crate::audit::{Compared, Hit};
use crate::codec::header::{self, Content, Token};
use crate::codec::{from_bytes, to_comparable};
use crate::key::KeyRef;
use crate::l2::{L2, Reply};
use crate::life::Life;
use crate::loader::Loader;

/// Which entry served a hit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Entry {
    /// The one of this process that was loaded and expires then: none of a key that is loaded a grace later shares both.
    InProcess(Life),
    /// The one of Redis that was filled under this token.
    Shared(Token),
}

/// A hit that was picked. Holds no row, and does not keep the store alive.
struct Served<Ld: Loader, L: L2> {
    store: Weak<Inner<Ld, L>>,
    key: Ld::Key,
    digest: u64,
    entry: Entry,
}

/// An encoded row, for comparing; `None` for the knowledge that there is none.
type Row = Option<Vec<u8>>;

impl<Ld: Loader, L: L2> Inner<Ld, L> {
    /// Hands a hit in process to the auditor, if it is one of those it picks.
    #[inline]
    pub(super) fn audit_local<Q>(self: &Arc<Self>, tier: &Local<Ld>, id: &Q)
    where
        Ld::Key: Borrow<Q>,
        Q: KeyRef<Owned = Ld::Key> + ?Sized,
    {
        if self.manager.auditor().picks()
            && let Some(entry) = tier.entry(id, self.manager.env().nanos())
        {
            // Entries of this tier may be as old as its bound.
            let bound = if self.l1_bound == u64::MAX { 0 } else { self.l1_bound };
            self.audit(id.to_key(), Entry::InProcess(entry.life), Duration::from_nanos(bound));
        }
    }

    /// Hands a hit in Redis to the auditor, if it is one of those it picks.
    #[inline]
    pub(super) fn audit_shared<Q>(self: &Arc<Self>, key: &Q, reply: &Reply)
    where
        Q: KeyRef<Owned = Ld::Key> + ?Sized,
    {
        if self.manager.auditor().picks()
            && let Some(stamp) = reply.bytes.as_deref().and_then(header::stamp_of)
        {
            self.audit(key.to_key(), Entry::Shared(stamp.token), Duration::ZERO);
        }
    }

    fn audit(self: &Arc<Self>, key: Ld::Key, entry: Entry, bound: Duration) {
        let digest = header::identity(&self.space.key(&key));
        let served = Served { store: Arc::downgrade(self), key, digest, entry };
        if !self.manager.auditor().take(Box::new(served), bound) {
            self.counters.audits_skipped.add(1);
        }
    }

    /// The row of an entry, if reads are still served from it.
    async fn still_served(&self, key: &Ld::Key, entry: Entry) -> Option<Row> {
        let row = match entry {
            Entry::InProcess(life) => {
                let held = self.local.as_ref()?.tier.entry(key, self.manager.env().nanos())?;
                (held.life == life).then_some(held.row)?
            }
            Entry::Shared(token) => {
                let remote = self.remote.as_ref()?;
                let text = self.space.key(key);
                // Gated as reads are: while they go past Redis nobody is served from there.
                let reply = remote.get(&text, remote.background_deadline()).await.ok()?;
                match header::parse(reply.bytes.as_deref()?, &self.expected(&text, &reply)) {
                    Content::Value(value) if value.token == token => {
                        value.payload.map(from_bytes).transpose().ok()?.map(Arc::new)
                    }
                    _ => return None,
                }
            }
        };
        row.map(|row| to_comparable(&*row)).transpose().ok()
    }

    /// Compares an entry with the database, which is read before it; `None` when the database does not answer.
    async fn compare(&self, key: &Ld::Key, entry: Entry) -> Option<Compared> {
        if self.still_served(key, entry).await.is_none() {
            return Some(Compared::Done);
        }
        let row = self.in_time(self.loader.load(key)).await.ok()?;
        let row = row.map(|row| to_comparable(&row)).transpose().ok()?;
        Some(match self.still_served(key, entry).await {
            Some(served) if served != row => Compared::Differs,
            _ => Compared::Done,
        })
    }
}

impl<Ld: Loader, L: L2> Hit for Served<Ld, L> {
    fn entry(&self) -> u64 {
        let (kind, one, other) = match self.entry {
            Entry::InProcess(life) => (0, life.expires(), life.loaded()),
            Entry::Shared(token) => (1, token.instance, token.serial),
        };
        let words = [self.digest, kind, one, other, self.store.as_ptr().addr() as u64];
        xxhash_rust::xxh3::xxh3_64(words.map(u64::to_le_bytes).as_flattened())
    }

    fn compare(&self) -> BoxFuture<'_, Compared> {
        async move {
            let Some(store) = self.store.upgrade() else { return Compared::Done };
            let compared = store.compare(&self.key, self.entry).await;
            match compared {
                Some(Compared::Done) => store.counters.audited.add(1),
                Some(Compared::Differs) => {}
                None => store.counters.audits_skipped.add(1),
            }
            compared.unwrap_or(Compared::Done)
        }
        .boxed()
    }

    fn report(&self) -> BoxFuture<'_, ()> {
        async move {
            let Some(store) = self.store.upgrade() else { return };
            let story = store.explain(&self.key).await;
            tracing::error!(
                store = store.space.store(),
                key = format_args!("{:016x}", self.digest),
                "an entry older than the database is served: {story}"
            );
            store.counters.audited.add(1);
            store.counters.audit_violations.add(1);
        }
        .boxed()
    }
}
