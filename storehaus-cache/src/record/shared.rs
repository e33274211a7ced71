//! The lease protocol for one key.
//!
//! A miss places a lease (`SET key token NX GET PX`), loads from the database, and stores the row only while that
//! very token still stands (compare-and-set). A write puts its intent in the place of whatever stands under the key, and
//! so takes the permission of every load that began before; a reader that finds an intent asks the database and fills
//! nothing. The technique is the lease of
//! Facebook's memcache (Nishtala et al., 2013) with permission by presence: what a flush, an eviction or an expiry
//! can do is remove a permission, never grant one.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::Instant;

use super::{Found, Granted, Inner, LeaseId, Led, Loaded};
use crate::codec::header::{self, Content, Expected, HEADER_BYTES, Millis, Mismatch, Token};
use crate::codec::{Cacheable, from_bytes};
use crate::flight::{Follower, Registered};
use crate::key::KeyText;
use crate::l2::{FOREIGN, Incarnation, L2, LeaseReply, Reply};
use crate::loader::Loader;
use crate::remote::{Bypass, Remote};

/// How often a read looks at the key again before it asks the database without filling.
const LOOKS: usize = 4;

/// The first pause between two looks while another process loads. Later ones are this share of the time waited so far, so
/// that a row is found soon after it is there and a long load is asked about a few times.
const FIRST_PAUSE: Duration = Duration::from_millis(1);
const PAUSE_SHARE: u32 = 16;

/// After so many misses in a row a read asks for the lease at once: the answer shows what stands there as `GET` would.
const COLD: u64 = 16;

/// What stands under a key, as a reader sees it.
pub(super) enum Seen<V> {
    /// Nothing.
    Free,
    /// A row, or the knowledge that there is none.
    Row(Loaded<V>),
    /// Somebody loads.
    Leased(Token),
    /// Bytes that must not be served; they begin like this.
    Unusable(Vec<u8>),
    /// The row is being written: nothing may be filled.
    Writing,
}

/// What the lease of another process ended with.
enum Watched<V> {
    Row(Loaded<V>),
    /// Nothing of use, or not in time.
    Nothing,
    Writing,
}

/// What became of an attempt to load under a lease.
enum Attempt<V> {
    Loaded(Loaded<V>),
    /// Something else stands there now.
    Lost(Reply),
    /// Redis did not say whether the lease stands.
    Unknown,
}

/// What a first look at a key ended with.
pub(super) struct Look<V> {
    pub(super) text: KeyText,
    /// By when the read has to be over with Redis.
    pub(super) deadline: Instant,
    pub(super) found: Result<(Seen<V>, Reply), Bypass>,
}

impl<Ld: Loader, L: L2> Inner<Ld, L> {
    pub(super) async fn read_shared(
        self: &Arc<Self>,
        remote: &Remote<L>,
        key: &Ld::Key,
    ) -> Result<Found<Ld::Value>, Ld::Error> {
        let look = self.look(remote, self.space.text(key)).await;
        self.read_on(remote, key, look).await
    }

    /// Asks Redis what stands under a key; while nothing is found anyway, the lease asks.
    pub(super) async fn look(&self, remote: &Remote<L>, text: KeyText) -> Look<Ld::Value> {
        if self.is_cold() && remote.is_up() {
            let nothing = Reply { bytes: None, incarnation: 0 };
            return Look { text, deadline: remote.deadline(), found: Ok((Seen::Free, nothing)) };
        }
        let key: &str = &text;
        let (reply, deadline) = remote.get_first(key).await;
        let found = reply.map(|reply| (self.see(key, &reply), reply));
        if let Ok((Seen::Row(_), _)) = found {
            self.expect_hits();
        }
        Look { text, deadline, found }
    }

    /// Goes on after a first look.
    pub(super) async fn read_on(
        self: &Arc<Self>,
        remote: &Remote<L>,
        key: &Ld::Key,
        look: Look<Ld::Value>,
    ) -> Result<Found<Ld::Value>, Ld::Error> {
        let Look { text, deadline, found } = look;
        let (first, mut reply) = match found {
            Ok(found) => found,
            Err(Bypass::WrongType) => (Seen::Unusable(FOREIGN.to_vec()), Reply { bytes: None, incarnation: 0 }),
            Err(_) => return self.load_past_redis(key).await,
        };
        let (mut first, mut orphan) = (Some(first), None);
        for _ in 0..LOOKS {
            let seen = match first.take().unwrap_or_else(|| self.see(&text, &reply)) {
                Seen::Row(loaded) => {
                    self.counters.l2_hits.add(1);
                    self.audit_shared(key, &reply);
                    return Ok(Found::Loaded(loaded));
                }
                Seen::Writing => return Ok(Found::Writing),
                Seen::Free => None,
                Seen::Unusable(seen) => Some(seen),
                Seen::Leased(token) if token.instance == self.instance => {
                    if let Some(flight) = self.leases.get(&LeaseId { token, identity: header::identity(&text) }) {
                        if let Some((outcome, shown_by)) = flight.outcome().await
                            && shown_by == reply.incarnation
                        {
                            self.counters.joined.add(1);
                            return outcome.map(|row| Found::Loaded(self.loaded(key, row).under(token)));
                        }
                    } else if orphan == Some(token) {
                        // Ours, and nobody holds it: a reply that never came left it behind. Take it over.
                        let lease = token.to_lease().to_vec();
                        match self.lead(remote, key, &text, Some(&lease), deadline).await? {
                            Attempt::Loaded(loaded) => return Ok(Found::Loaded(loaded)),
                            Attempt::Lost(other) => reply = other,
                            Attempt::Unknown => break,
                        }
                        continue;
                    }
                    orphan = Some(token);
                    match remote.get(&text, deadline).await {
                        Ok(again) => reply = again,
                        Err(_) => break,
                    }
                    continue;
                }
                Seen::Leased(token) => {
                    return self.follow_other(remote, key, text.to_owned(), (token, reply.incarnation), deadline).await;
                }
            };
            match self.lead(remote, key, &text, seen.as_deref(), deadline).await? {
                Attempt::Loaded(loaded) => return Ok(Found::Loaded(loaded)),
                Attempt::Lost(other) => reply = other,
                Attempt::Unknown => break,
            }
        }
        self.load(key).await.map(Found::Loaded)
    }

    /// Whether nothing was found for a while.
    pub(super) fn is_cold(&self) -> bool {
        self.misses_in_a_row.load(Ordering::Relaxed) >= COLD
    }

    /// The next read looks before it asks for a lease.
    pub(super) fn expect_hits(&self) {
        // Most of the time there is nothing to change, and nobody to take the line from.
        if self.misses_in_a_row.load(Ordering::Relaxed) > 0 {
            self.misses_in_a_row.store(0, Ordering::Relaxed);
        }
    }

    /// Loads without asking Redis or filling it.
    async fn load_past_redis(&self, key: &Ld::Key) -> Result<Found<Ld::Value>, Ld::Error> {
        self.counters.bypassed.add(1);
        self.ask(key).await.map(Found::Loaded)
    }

    /// Reads a reply and counts what is wrong with it.
    pub(super) fn see(&self, text: &str, reply: &Reply) -> Seen<Ld::Value> {
        self.see_at(self.wall(), text, reply)
    }

    /// [`see`](Self::see) by a clock that was looked at.
    pub(super) fn see_at(&self, now: Millis, text: &str, reply: &Reply) -> Seen<Ld::Value> {
        let Some(bytes) = &reply.bytes else { return Seen::Free };
        let expected = Expected {
            schema: Ld::Value::SCHEMA,
            identity: header::identity(text),
            incarnation: reply.incarnation,
            now,
        };
        let value = match header::parse(bytes, &expected) {
            Content::Intents(_) => return Seen::Writing,
            Content::Lease(token) => return Seen::Leased(token),
            Content::Value(value) => value,
            Content::Unusable(mismatch) => {
                match mismatch {
                    Mismatch::Expired | Mismatch::Incarnation | Mismatch::Schema => self.counters.outdated.add(1),
                    Mismatch::Checksum | Mismatch::Codec | Mismatch::Format => self.counters.decode_errors.add(1),
                    Mismatch::Identity => {
                        self.counters.decode_errors.add(1);
                        // Every answer behind this one may belong to another key.
                        self.remote.iter().for_each(Remote::drop_connections);
                    }
                }
                return Seen::Unusable(bytes[..bytes.len().min(HEADER_BYTES)].to_vec());
            }
        };
        let keep = Some(value.expires.since(now));
        match value.payload.map(from_bytes).transpose() {
            Ok(row) => Seen::Row(Loaded { row: row.map(Arc::new), keep, token: Some(value.token) }),
            Err(_) => {
                self.counters.decode_errors.add(1);
                Seen::Unusable(bytes[..HEADER_BYTES].to_vec())
            }
        }
    }

    /// Places a lease, loads under it, and fills behind the caller's back; or shares what comes of a request for a lease
    /// that another read of this process has just sent.
    async fn lead(
        self: &Arc<Self>,
        remote: &Remote<L>,
        key: &Ld::Key,
        text: &str,
        seen: Option<&[u8]>,
        deadline: Instant,
    ) -> Result<Attempt<Ld::Value>, Ld::Error> {
        let asking = match self.asking.join(key.clone()) {
            Err(leader) => Registered::new(&self.asking, key.clone(), leader),
            Ok(follower) => return self.share(remote, key, text, follower, deadline).await,
        };
        // Registered before the command is sent: whoever sees the token in Redis finds its load here.
        let registered = self.new_lease(self.new_token(), text);
        let lasts = self.manager.config().load_timeout;
        let (inner, remote, key, text) = (Arc::clone(self), remote.clone(), key.clone(), text.to_owned());
        let seen = seen.map(<[u8]>::to_vec);
        // The command too: a lease whose holder went away would keep other processes waiting.
        self.detached(async move {
            let token = registered.key().token;
            let placed = match seen {
                None => match remote.lease(&text, token, lasts, deadline).await {
                    Err(Bypass::WrongType) => remote.replace(&text, FOREIGN, token, lasts, deadline).await,
                    placed => placed,
                },
                Some(seen) => remote.replace(&text, &seen, token, lasts, deadline).await,
            };
            let incarnation = match placed {
                Ok(LeaseReply::Granted(incarnation)) => incarnation,
                Ok(LeaseReply::Taken(reply)) => {
                    inner.expect_hits();
                    return Ok(Attempt::Lost(reply));
                }
                Err(_) => {
                    inner.expect_hits();
                    return Ok(Attempt::Unknown);
                }
            };
            inner.misses_in_a_row.fetch_add(1, Ordering::Relaxed);
            // From now on the load is under way: who comes later may not have it without asking.
            asking.leader.publish((token, registered.follower()));
            drop(asking);
            let result = inner.load(&key).await.map(|loaded| loaded.under(token));
            let outcome = result.as_ref().map(|loaded| loaded.row.clone()).map_err(Clone::clone);
            if outcome.is_err() {
                // For those who wait, and nobody who comes while the lease still stands.
                inner.leases.remove(&registered.key());
            }
            registered.leader.publish((outcome, incarnation));
            match result.as_ref().ok().and_then(|loaded| loaded.keep.map(|keep| (loaded.row.clone(), keep))) {
                Some((row, keep)) => inner.fill_soon(&remote, (registered, text, row, keep, incarnation)),
                None => {
                    let releaser = Arc::clone(&inner);
                    inner.manager.in_background(async move { releaser.release(&remote, vec![(text, token)]).await });
                }
            }
            result.map(Attempt::Loaded)
        })
        .await
    }

    /// Waits for what another read loads that had no answer to its request for a lease when this one came.
    async fn share(
        &self,
        remote: &Remote<L>,
        key: &Ld::Key,
        text: &str,
        request: Follower<Granted<Ld>>,
        deadline: Instant,
    ) -> Result<Attempt<Ld::Value>, Ld::Error> {
        if let Some((token, load)) = request.outcome().await
            && let Some((outcome, _)) = load.outcome().await
        {
            self.counters.joined.add(1);
            return outcome.map(|row| Attempt::Loaded(self.loaded(key, row).under(token)));
        }
        // What stood there when that request was answered may be of before this read began.
        Ok(remote.get(text, deadline).await.map_or(Attempt::Unknown, Attempt::Lost))
    }

    /// A token that nothing was leased under yet.
    pub(super) fn new_token(&self) -> Token {
        Token { instance: self.instance, serial: self.next_token.fetch_add(1, Ordering::Relaxed) }
    }

    /// Registers a flight under a new token; keys that are leased together may share it.
    pub(super) fn new_lease(&self, token: Token, text: &str) -> Registered<LeaseId, Led<Ld>> {
        let id = LeaseId { token, identity: header::identity(text) };
        Registered::new(&self.leases, id, self.leases.start(id))
    }

    /// Waits while another process loads; asks the database without filling when that takes too long.
    async fn follow_other(
        self: &Arc<Self>,
        remote: &Remote<L>,
        key: &Ld::Key,
        text: String,
        (token, shown_by): (Token, Incarnation),
        deadline: Instant,
    ) -> Result<Found<Ld::Value>, Ld::Error> {
        let id = LeaseId { token, identity: header::identity(&text) };
        let leader = match self.leases.join(id) {
            Err(leader) => leader,
            Ok(follower) => {
                return match follower.outcome().await {
                    Some((outcome, first_shown_by)) if first_shown_by == shown_by => {
                        self.counters.joined.add(1);
                        outcome.map(|row| Found::Loaded(self.loaded(key, row)))
                    }
                    // Whatever became of it, to keep nothing is always right.
                    _ => Ok(Found::Writing),
                };
            }
        };
        // One task of this process watches for all: whoever sees the same token may have what is read after it.
        let registered = Registered::new(&self.leases, id, leader);
        let (inner, remote, key) = (Arc::clone(self), remote.clone(), key.clone());
        self.detached(async move {
            let result = match inner.watch(&remote, &text, token, deadline).await {
                Watched::Row(loaded) => {
                    inner.counters.l2_hits.add(1);
                    Ok(loaded)
                }
                Watched::Nothing => inner.load(&key).await,
                // Who waits here asks for itself.
                Watched::Writing => return Ok(Found::Writing),
            };
            let outcome = result.as_ref().map(|loaded| loaded.row.clone()).map_err(Clone::clone);
            registered.leader.publish((outcome, shown_by));
            result.map(Found::Loaded)
        })
        .await
    }

    /// Looks at the key until the lease of another process is gone; what stands there then.
    async fn watch(&self, remote: &Remote<L>, text: &str, token: Token, deadline: Instant) -> Watched<Ld::Value> {
        let (start, mut pause) = (Instant::now(), FIRST_PAUSE);
        while Instant::now() + pause < deadline {
            tokio::time::sleep(pause).await;
            pause = FIRST_PAUSE.max(start.elapsed() / PAUSE_SHARE);
            let Ok(reply) = remote.get(text, deadline).await else { break };
            match self.see(text, &reply) {
                Seen::Row(loaded) => return Watched::Row(loaded),
                Seen::Leased(same) if same == token => {}
                Seen::Writing => return Watched::Writing,
                Seen::Free | Seen::Leased(_) | Seen::Unusable(_) => break,
            }
        }
        Watched::Nothing
    }
}
