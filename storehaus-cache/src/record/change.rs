//! One write as the cache sees it: announced before the database is touched, ended after its outcome is known.

use std::collections::HashSet;
use std::ops::Range;
use std::sync::Arc;

use futures_util::FutureExt as _;

use super::RecordCache;
#[cfg(storehaus_broken)]
use crate::broken;
use crate::config::{Coherence, OnCacheDown};
use crate::error::{CacheError, Failure};
use crate::explain::InvalidatedBy;
use crate::intents::Placed;
use crate::key::KeyRef;
use crate::l2::{Claim, L2, L2Error};
use crate::loader::Loader;
use crate::manager::{CacheManager, Running, SharedTier};
use crate::registry::{LocalHandle, TableGroup, end_local};
use crate::remote::{Invalidated, Remote};
use crate::stats::Counters;

/// Rows of one table that a write or a transaction changes, from before its first statement to its end.
///
/// From its announcement to its end, no tier serves or keeps a row it names: reads ask the database. Exactly one of
/// [`settle`](Self::settle), [`doubt`](Self::doubt) and [`withdraw`](Self::withdraw) ends it. Dropped without any, as by a runtime that is
/// shut down, it counts as settled: what Redis could not be told then is remembered.
pub struct Change<K: KeyRef + 'static, L: L2 = SharedTier> {
    manager: CacheManager<L>,
    scope: Arc<Scope>,
    keys: Vec<K>,
    /// How many of the first keys were handed to `placed`, which then has all their keys in the shared tier.
    announced: usize,
    /// How many key spaces there were then. One that came since may hold the rows too.
    spaces: usize,
    /// The in-process tiers in which the write of which of the keys was opened.
    begun: Vec<Begun>,
    /// What stands in the shared tier, once something was announced there.
    placed: Option<Placed<L>>,
    /// Makes a shutdown wait for the end of the change.
    _running: Running,
}

type Begun = (Range<usize>, Vec<Arc<dyn LocalHandle>>);

/// What the changes of a store have in common.
pub(super) struct Scope {
    pub(super) store: Box<str>,
    pub(super) group: Arc<TableGroup>,
    pub(super) counters: Arc<Counters>,
    pub(super) coherence: Coherence,
    pub(super) on_cache_down: OnCacheDown,
}

impl Scope {
    /// What becomes of a write whose intent is not known to stand.
    fn judge(&self, error: &L2Error) -> Result<(), CacheError> {
        if self.coherence != Coherence::Strict && self.on_cache_down == OnCacheDown::Proceed {
            return Ok(());
        }
        Err(CacheError::from_l2("announce", &self.store, error))
    }
}

impl<Ld: Loader, L: L2> RecordCache<Ld, L> {
    /// Begins a change of these rows; more may be announced or added later. To be awaited before the statement that
    /// commits is sent.
    ///
    /// # Errors
    /// [`CacheError::ConnectionError`], [`CacheError::Timeout`] or [`CacheError::Refused`] when Redis did not take the
    /// intents and the store refuses to write without them: [`Coherence::Strict`], [`OnCacheDown::Refuse`].
    ///
    /// # Cost
    /// With Redis one round trip of at most a quarter of the timeout; none with [`Coherence::Ttl`], for no rows, and in an
    /// outage whose first attempt failed.
    pub async fn announce(&self, keys: Vec<Ld::Key>) -> Result<Change<Ld::Key, L>, CacheError> {
        let mut change = self.change();
        change.announce(keys).await?;
        Ok(change)
    }

    /// A change of no rows.
    pub(super) fn change(&self) -> Change<Ld::Key, L> {
        Change {
            manager: self.inner.manager.clone(),
            scope: Arc::clone(&self.inner.scope),
            keys: Vec::new(),
            announced: 0,
            spaces: self.inner.scope.group.spaces(),
            begun: Vec::new(),
            placed: None,
            _running: self.inner.manager.background(),
        }
    }
}

impl<K: KeyRef + 'static, L: L2> Change<K, L> {
    /// Announces further rows.
    ///
    /// # Errors
    /// As [`RecordCache::announce`]. The rows announced before stay announced.
    ///
    /// # Cancel safety
    /// Rows of a call that was dropped are part of the change; whether they are announced is not known.
    pub async fn announce(&mut self, keys: Vec<K>) -> Result<(), CacheError> {
        #[cfg(storehaus_broken)]
        let keys = broken::skip_one(keys);
        let new = self.keys.len()..self.keys.len() + keys.len();
        self.keys.extend(keys);
        #[cfg(storehaus_broken)]
        if broken::is(broken::Bug::NoIntents) {
            return Ok(());
        }
        if self.scope.coherence == Coherence::Ttl || new.is_empty() {
            return Ok(());
        }
        let announced = &self.keys[new.clone()];
        let locals = self.scope.group.begin_local(announced);
        if !locals.is_empty() {
            self.begun.push((new.clone(), locals));
        }
        let shared = self.scope.group.shared_keys(announced);
        let Some(intents) = self.manager.intents().filter(|_| !shared.is_empty()) else { return Ok(()) };
        let placed = self.placed.get_or_insert_with(|| intents.begin(&self.scope.counters));
        if self.announced == new.start {
            // Before anything is awaited: the call takes them over when it is polled first, which is at once.
            self.announced = new.end;
        }
        let Err(error) = placed.announce(shared).boxed().await else { return Ok(()) };
        let refused = self.scope.judge(&error);
        if refused.is_err() {
            placed.forget(&self.scope.group.shared_keys(&self.keys[new.clone()]));
            self.announced = self.announced.min(new.start);
            if self.begun.last().is_some_and(|(begun, _)| *begun == new)
                && let Some((begun, locals)) = self.begun.pop()
            {
                end_local(&locals, &self.keys[begun]);
            }
            self.keys.truncate(new.start);
        }
        refused
    }

    /// Adds rows that became known after the database was changed, such as those with keys it made.
    pub fn add(&mut self, keys: impl IntoIterator<Item = K>) {
        self.keys.extend(keys);
    }

    /// Sees to it that what was announced still stands, right before COMMIT.
    ///
    /// # Errors
    /// As [`RecordCache::announce`]. The transaction is to be rolled back then, and the change to be withdrawn.
    ///
    /// # Cost
    /// With Redis one or two round trips when an intent is not known to stand for a third of its time; else none.
    pub async fn confirm(&mut self) -> Result<(), CacheError> {
        match &self.placed {
            Some(placed) => placed.confirm().boxed().await.or_else(|error| self.scope.judge(&error)),
            None => Ok(()),
        }
    }

    /// Ends a change that was committed, or may have been: removes the rows from every tier of every store on the
    /// table. When it returns, no read that starts afterwards through this manager is served an older row; where Redis
    /// confirmed, no read anywhere is.
    ///
    /// # Errors
    /// With [`Coherence::Strict`], [`CacheError::ConnectionError`] when Redis did not confirm within the timeout. The
    /// invalidation is repeated until it does, and this instance reads past Redis until then.
    ///
    /// # Cancel safety
    /// Dropping the future ends the wait for Redis and nothing else: what Redis did not confirm is remembered, and what is
    /// held in process is removed.
    ///
    /// # Cost
    /// With Redis one round trip.
    pub async fn settle(mut self) -> Result<(), CacheError> {
        if self.end().await || self.scope.coherence != Coherence::Strict {
            return Ok(());
        }
        let reason = "redis did not confirm the invalidation in time; it is repeated until it does";
        Err(CacheError::ConnectionError(Failure::new("settle", &self.scope.store, reason)))
    }

    /// [`settle`](Self::settle) for somebody who can come back with the same rows later.
    ///
    /// # Errors
    /// [`CacheError::ConnectionError`] when the shared tier did not confirm that the rows are gone, whatever the store
    /// asks for. This instance does not read them from there all the same.
    pub async fn settle_confirmed(mut self) -> Result<(), CacheError> {
        if self.end().await { Ok(()) } else { Err(self.manager.not_confirmed()) }
    }

    /// Removes the rows; whether the shared tier confirmed it.
    async fn end(&mut self) -> bool {
        let placed = self.placed.take();
        let known = if placed.is_some() && self.spaces == self.scope.group.spaces() { self.announced } else { 0 };
        let claims = claims(&self.scope, &self.keys[known..], placed);
        let confirmed = self.invalidate(claims).await;
        self.end_here(if confirmed { InvalidatedBy::Write } else { InvalidatedBy::WriteUnconfirmed });
        confirmed
    }

    /// Ends a change whose outcome is not known, and may not be decided yet, as when the connection was lost: as
    /// [`settle`](Self::settle), and for the intent TTL no tier keeps the rows, for what is committed late. An intent that
    /// vanished is placed anew, and what stands there after that time is removed once more.
    ///
    /// # Cancel safety
    /// As [`settle`](Self::settle).
    ///
    /// # Cost
    /// Up to three round trips; then the rows are read from the database for the intent TTL.
    pub async fn doubt(mut self) {
        let placed = self.placed.take();
        if let Some(placed) = &placed {
            // What does not stand all the same is removed below, and at the end.
            placed.stand().boxed().await.ok();
        }
        // The intents stay.
        let claims = claims::<K, L>(&self.scope, &self.keys, None);
        self.invalidate(claims).await;
        self.scope.group.invalidate_local(&self.keys);
        self.scope.group.note(&self.keys, InvalidatedBy::WriteUnconfirmed, self.manager.env().nanos());
        let still_written = StillWritten {
            scope: Arc::clone(&self.scope),
            keys: std::mem::take(&mut self.keys),
            begun: std::mem::take(&mut self.begun),
            placed,
        };
        let (remote, decided_by) = (self.manager.remote().cloned(), self.manager.config().intent_ttl);
        tokio::spawn(async move {
            tokio::time::sleep(decided_by).await;
            still_written.end(remote).await;
        });
    }

    /// Ends a change that certainly was not committed. Removes what was announced, and nothing else. Does not wait for
    /// Redis; an intent that cannot be removed there ends by itself.
    pub async fn withdraw(mut self) {
        self.end_local();
        self.keys.clear();
        let Some((token, keys)) = self.placed.take().map(Placed::close) else { return };
        let Some(remote) = self.manager.remote().cloned() else { return };
        self.manager.in_background(async move {
            let keys: Vec<String> = keys.into_iter().map(|(key, _)| key).collect();
            if remote.withdraw(&keys, token).await.is_err() {
                tracing::debug!(count = keys.len(), "intents were not removed; they expire");
            }
        });
    }

    /// Removes keys from the shared tier; whether it confirmed. Remembers what is not removed when it is dropped.
    async fn invalidate(&self, claims: Vec<(Claim, bool)>) -> bool {
        self.scope.counters.invalidations.add(self.keys.len() as u64);
        let Some(remote) = self.manager.remote().filter(|_| !claims.is_empty()) else { return true };
        let unplaced = claims.iter().filter(|((_, token), placed)| token.is_some() && !placed).count() as u64;
        let claims = claims.into_iter().map(|(claim, _)| claim).collect();
        let Invalidated::Confirmed { lost } = remote.invalidate(claims).boxed().await else { return false };
        self.scope.counters.intents_lost.add(lost.saturating_sub(unplaced));
        true
    }

    /// Removes the rows in process, and ends the write there.
    fn end_here(&mut self, by: InvalidatedBy) {
        self.scope.group.invalidate_local(&self.keys);
        self.scope.group.note(&self.keys, by, self.manager.env().nanos());
        self.end_local();
        self.keys.clear();
    }

    fn end_local(&mut self) {
        for (begun, locals) in self.begun.drain(..) {
            end_local(&locals, &self.keys[begun]);
        }
    }
}

impl<K: KeyRef + 'static, L: L2> Drop for Change<K, L> {
    fn drop(&mut self) {
        if self.keys.is_empty() {
            return;
        }
        self.scope.counters.invalidations.add(self.keys.len() as u64);
        let mut by = InvalidatedBy::Write;
        // What was sent to the database may still be committed: the intents stay until they end.
        let claims: Vec<Claim> = self.scope.group.shared_keys(&self.keys).into_iter().map(|key| (key, None)).collect();
        if let Some(remote) = self.manager.remote().filter(|_| !claims.is_empty()) {
            remote.owe(claims);
            by = InvalidatedBy::WriteUnconfirmed;
        }
        self.end_here(by);
    }
}

/// The keys of the shared tier, each once, with the intent that was announced there and is over, and whether it is known to
/// have been placed. The rows of `keys` that were announced may be left out.
fn claims<K: KeyRef + 'static, L: L2>(scope: &Scope, keys: &[K], over: Option<Placed<L>>) -> Vec<(Claim, bool)> {
    let mut others: HashSet<String> = scope.group.shared_keys(keys).into_iter().collect();
    let mut claims = Vec::new();
    if let Some((token, keys)) = over.map(Placed::close) {
        claims.reserve(keys.len());
        for (key, placed) in keys {
            if !others.is_empty() {
                others.remove(&key);
            }
            claims.push(((key, Some(token)), placed));
        }
    }
    claims.extend(others.into_iter().map(|key| ((key, None), false)));
    claims
}

/// Rows that may still be written by a change that is over: the tiers in process hold nothing under them while it lives,
/// and its intents are renewed.
struct StillWritten<K: KeyRef + 'static, L: L2> {
    scope: Arc<Scope>,
    keys: Vec<K>,
    begun: Vec<Begun>,
    placed: Option<Placed<L>>,
}

impl<K: KeyRef + 'static, L: L2> StillWritten<K, L> {
    /// Nothing is written any more: what was filled where an intent was lost goes, and the intents with it.
    async fn end(mut self, remote: Option<Remote<L>>) {
        let claims = claims(&self.scope, &self.keys, self.placed.take());
        if let Some(remote) = remote.filter(|_| !claims.is_empty()) {
            remote.invalidate(claims.into_iter().map(|(claim, _)| claim).collect()).await;
        }
    }
}

impl<K: KeyRef + 'static, L: L2> Drop for StillWritten<K, L> {
    fn drop(&mut self) {
        self.scope.group.invalidate_local(&self.keys);
        self.begun.drain(..).for_each(|(begun, locals)| end_local(&locals, &self.keys[begun]));
    }
}
