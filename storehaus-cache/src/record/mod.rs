//! The read-through cache of one store.
//!
//! | tiers | a read | a write |
//! |---|---|---|
//! | none | loads | – |
//! | in process | hit, or joins or leads a load | removes entry and flight, before and after |
//! | Redis | `GET`; on a miss leases, loads, fills | marks the key, then clears it, each awaited |
//! | both | in process first, Redis behind its flight | Redis, then entry and flight; tells other processes |
//! | both, validated | in process after `GETRANGE` said that the value still stands, else as Redis | as both |
//!
//! `shared` holds the lease protocol, `batch` the same for many keys at once, `validated` what is asked about on each hit,
//! `change` the writer's side.

mod audit;
mod batch;
mod change;
mod explain;
mod fill;
mod handle;
mod outside;
mod shared;
mod validated;

use std::borrow::Borrow;
use std::future::poll_fn;
use std::panic::AssertUnwindSafe;
use std::pin::{Pin, pin};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::FutureExt as _;

use crate::bus::Bus;
use crate::codec::header::{Millis, Token};
use crate::codec::{Cacheable, to_comparable};
use crate::config::{L1, check_ttl};
use crate::error::CacheError;
use crate::flight::{Flights, Follower, Turns};
use crate::key::{KeyRef, KeySpace};
use crate::l2::{Incarnation, L2};
use crate::loader::{Aborted, Loader};
use crate::local::{Join, LocalTier};
use crate::manager::{CacheManager, SharedTier};
use crate::params::CacheParams;
use crate::registry::{LocalHandle, Registration};
use crate::remote::Remote;
use crate::stats::Counters;
pub use change::Change;
use change::Scope;
use fill::Filling;
use handle::Handle;
use shared::{Look, Seen};

/// What a read ends with.
pub type Outcome<Ld> = Result<Option<Arc<<Ld as Loader>::Value>>, <Ld as Loader>::Error>;

type Local<Ld, M = ()> = LocalTier<<Ld as Loader>::Key, <Ld as Loader>::Value, Outcome<Ld>, M>;

/// Of so many hits in process one counts against the budget of its task, of which tokio grants 128 at a time.
const HITS_PER_TURN: u64 = 16;

/// Which tiers a store may use, whatever its parameters say: `#[model(cache = "…")]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tiers {
    /// Every tier of the manager.
    All,
    /// In process only.
    Local,
    /// None.
    None,
}

/// What the store is, as its cache needs to know it.
#[derive(Clone, Copy, Debug)]
pub struct StoreInfo<'a> {
    /// The table, with its schema when it has one. Stores of one manager with equal tables invalidate each other.
    pub table: &'a str,
    /// The store segment of the key, unless the parameters name one.
    pub prefix: &'a str,
    /// The TTL of the model, unless the parameters name one.
    pub ttl: Option<Duration>,
    /// Which tiers it may use.
    pub tiers: Tiers,
}

/// The read-through cache in front of a [`Loader`]. Cheap to clone; clones share everything.
pub struct RecordCache<Ld: Loader, L: L2 = SharedTier> {
    inner: Arc<Inner<Ld, L>>,
}

struct Inner<Ld: Loader, L: L2> {
    loader: Ld,
    manager: CacheManager<L>,
    /// What its changes have in common.
    scope: Arc<Scope>,
    space: KeySpace,
    /// The shared tier, when this store uses it.
    remote: Option<Remote<L>>,
    /// The in-process tier, when this store uses it and serves from it without asking.
    local: Option<Arc<Handle<Ld>>>,
    /// The in-process tier of [`L1::Validated`].
    validated: Option<Arc<Handle<Ld, Option<Token>>>>,
    /// What tells of the writes of other processes, where the in-process tier rests on that.
    bus: Option<Bus<L>>,
    /// Loads under way under a lease. A reader that sees a lease in Redis may join its load: had a write been
    /// acknowledged since the lease was granted, the lease would be gone.
    leases: Arc<Leases<Ld>>,
    /// Requests for a lease that have no answer yet. The load under it begins after that, so that whoever finds one here may
    /// have the row.
    asking: Arc<Flights<Ld::Key, Granted<Ld>>>,
    /// Loads of rows that are being written: whoever came after one began may not have it.
    beside: Arc<Turns<Ld::Key, Outcome<Ld>>>,
    /// Marks the tokens of this store among those of all stores and processes.
    instance: u64,
    next_token: AtomicU64,
    /// Leases granted since a row was found in Redis.
    misses_in_a_row: AtomicU64,
    /// Rows that are to be stored by the next command; whoever puts in the first sees to it.
    fills: Mutex<Vec<Filling<Ld>>>,
    counters: Arc<Counters>,
    ttl: Duration,
    negative_ttl: Option<Duration>,
    /// How old the load behind an in-process entry may be, in nanoseconds; unbounded where the process is alone.
    l1_bound: u64,
}

/// A lease as a reader sees it. Names the key too: an answer that belongs to another key joins no load.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct LeaseId {
    token: Token,
    identity: u64,
}

/// What a load under a lease ends with, and which server showed the lease. A server that was restored to an earlier
/// state may show a lease that a write removed.
type Led<Ld> = (Outcome<Ld>, Incarnation);

type Leases<Ld> = Flights<LeaseId, Led<Ld>>;

/// A lease that was granted, and the load under it.
type Granted<Ld> = (Token, Follower<Led<Ld>>);

/// What a look at the shared tier ends with.
enum Found<V> {
    Loaded(Loaded<V>),
    /// The row is being written.
    Writing,
}

/// A row, how long it may be kept, and which value of the shared tier it is or will be.
struct Loaded<V> {
    row: Option<Arc<V>>,
    keep: Option<Duration>,
    token: Option<Token>,
}

impl<V> Loaded<V> {
    /// Says which value it is.
    fn under(self, token: Token) -> Self {
        Self { token: Some(token), ..self }
    }
}

impl<Ld: Loader, L: L2> RecordCache<Ld, L> {
    /// Registers a store with the manager of `params`.
    ///
    /// # Errors
    /// [`CacheError::Configuration`] when a prefix or TTL is not allowed, or another model uses the prefix.
    pub fn new(loader: Ld, params: CacheParams<L>, info: &StoreInfo<'_>) -> Result<Self, CacheError> {
        let CacheParams { manager, ttl, prefix, negative_ttl, l1, coherence, on_cache_down, enabled } = params;
        let config = manager.config();
        let ttl = ttl.or(info.ttl).unwrap_or(config.ttl);
        check_ttl("the TTL", ttl)?;
        if let Some(negative) = negative_ttl {
            check_ttl("the negative TTL", negative)?;
        }
        let l1 = l1.unwrap_or(config.l1);
        if let L1::Bounded(bound) = l1 {
            check_ttl("the bound of L1::Bounded", bound)?;
        }
        let space = KeySpace::new(&config.prefix, prefix.as_deref().unwrap_or(info.prefix))
            .map_err(CacheError::Configuration)?;

        let tiers = if enabled { info.tiers } else { Tiers::None };
        let remote = manager.remote().filter(|_| tiers == Tiers::All).cloned();
        let (has_local, l1_bound) = match (tiers, &remote, l1) {
            (Tiers::None, ..) => (false, 0),
            (Tiers::Local, ..) | (Tiers::All, None, _) => (true, u64::MAX),
            (Tiers::All, Some(_), L1::Off | L1::Validated) => (false, 0),
            (Tiers::All, Some(_), L1::Bounded(bound)) => (true, u64::try_from(bound.as_nanos()).unwrap_or(u64::MAX)),
        };
        let has_validated = tiers == Tiers::All && remote.is_some() && l1 == L1::Validated;
        let bus = manager.bus().filter(|_| has_local && remote.is_some()).cloned();

        let registry = manager.registry();
        let (group, counters) = if tiers == Tiers::None {
            let group = registry.group(info.table);
            // Switched off in this process, not in others: its writes remove what they cache.
            if info.tiers == Tiers::All && manager.remote().is_some() {
                group.add_space(&space);
            }
            (group, Arc::default())
        } else {
            registry.register(&Registration {
                table: info.table,
                schema: Ld::Value::SCHEMA,
                space: &space,
                shared: remote.is_some(),
            })?
        };
        let (capacity, follows_bus) = (config.l1_capacity, bus.is_some());
        let local = has_local.then(|| Handle::new(capacity, Arc::clone(manager.env()), follows_bus));
        let validated = has_validated.then(|| Handle::new(capacity, Arc::clone(manager.env()), false));
        if let Some(local) = &local {
            registry.add_local(&group, &space, &(Arc::clone(local) as Arc<dyn LocalHandle>));
        }
        if let Some(validated) = &validated {
            registry.add_local(&group, &space, &(Arc::clone(validated) as Arc<dyn LocalHandle>));
        }
        let inner = Inner {
            loader,
            scope: Arc::new(Scope {
                store: space.store().into(),
                group,
                counters: Arc::clone(&counters),
                coherence: coherence.unwrap_or(config.coherence),
                on_cache_down: on_cache_down.unwrap_or(config.on_cache_down),
            }),
            space,
            remote,
            local,
            validated,
            bus,
            leases: Arc::new(Flights::new()),
            asking: Arc::new(Flights::new()),
            beside: Arc::new(Turns::new()),
            instance: manager.env().random(),
            next_token: AtomicU64::new(0),
            misses_in_a_row: AtomicU64::new(0),
            fills: Mutex::default(),
            counters,
            ttl,
            negative_ttl,
            l1_bound,
            manager,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The manager.
    pub fn manager(&self) -> &CacheManager<L> {
        &self.inner.manager
    }

    /// The loader.
    pub fn loader(&self) -> &Ld {
        &self.inner.loader
    }

    /// The key of a row in the shared tier.
    pub fn key<Q: KeyRef<Owned = Ld::Key> + ?Sized>(&self, id: &Q) -> String {
        self.inner.space.key(id)
    }

    /// Whether any tier is in use.
    pub fn is_enabled(&self) -> bool {
        self.inner.remote.is_some() || self.inner.local.is_some()
    }

    /// Whether rows are kept in a tier that other processes share.
    pub fn is_shared(&self) -> bool {
        self.inner.remote.is_some()
    }

    /// One row, from the nearest tier that has it.
    ///
    /// # Errors
    /// As the loader; a failing tier is a miss.
    ///
    /// # Cancel safety
    /// Dropping the future leaves a load that others wait for under way.
    pub async fn get<Q>(&self, id: &Q) -> Outcome<Ld>
    where
        Ld::Key: Borrow<Q>,
        Q: KeyRef<Owned = Ld::Key> + ?Sized,
    {
        let inner = &self.inner;
        let local = inner.local_now();
        if let Some((local, now)) = local
            && let Some(row) = local.tier.get::<Q>(id, now)
        {
            inner.audit_local::<Q>(&local.tier, id);
            // A purely local hit never waits: without this a loop over hits starves its neighbours.
            if inner.counters.l1_hits.completes(HITS_PER_TURN) {
                tokio::task::consume_budget().await;
            }
            return Ok(row);
        }
        // Apart, so that a hit makes no room for it on the stack.
        let mut past_local = pin!(inner.get_past_local(local.map(|(local, _)| local), id));
        poll_fn(|cx| poll_apart(past_local.as_mut(), cx)).await
    }

    /// Removes these rows from every tier of every store on the table: a [`Change`] that is over already. When it
    /// returns, no read that starts afterwards through this manager is served an older row; where Redis confirmed, no
    /// read anywhere is.
    ///
    /// # Cancel safety
    /// Dropping the future after its first poll ends the wait for Redis and nothing else: what Redis did not confirm is
    /// remembered, and what is held in process is removed.
    pub async fn invalidate(&self, keys: &[Ld::Key]) {
        let mut change = self.change();
        change.add(keys.iter().cloned());
        // An error would say that Redis did not confirm; that is remembered.
        change.settle().await.ok();
    }

    /// Replaces whatever the cache holds under the key of a row by the row that the database has now; whether that is
    /// `row`. As every fill, under a lease that is placed before the database is read: a row that the caller read long ago
    /// takes the place of no newer one.
    ///
    /// # Errors
    /// As the loader. A failing tier is none.
    ///
    /// # Cost
    /// As [`invalidate`](Self::invalidate) and a missed [`get`](Self::get).
    pub async fn put(&self, id: &Ld::Key, row: &Ld::Value) -> Result<bool, Ld::Error> {
        self.invalidate(std::slice::from_ref(id)).await;
        let current = self.get::<Ld::Key>(id).await?;
        // A row that cannot be encoded is never cached.
        Ok(current.is_some_and(|current| to_comparable(&*current).is_ok_and(|bytes| Ok(bytes) == to_comparable(row))))
    }
}

impl<Ld: Loader, L: L2> Inner<Ld, L> {
    /// The in-process tier, if it may be served from now, and the time: while this process hears of the writes of others.
    /// While it does not it reads from Redis; where that is away too, the age of the rows is what bounds them.
    #[inline]
    fn local_now(&self) -> Option<(&Handle<Ld>, u64)> {
        let local = self.local.as_ref()?;
        let Some(bus) = &self.bus else {
            // Nobody else writes: a tick more of the TTL makes no row older than the database.
            return Some((local, self.manager.env().recent_nanos()));
        };
        self.local_on_bus(local, bus)
    }

    fn local_on_bus<'a>(&self, local: &'a Handle<Ld>, bus: &Bus<L>) -> Option<(&'a Handle<Ld>, u64)> {
        let now = self.manager.env().nanos();
        if !bus.is_current(now) {
            bus.listen(self.manager.registry());
            if self.remote.as_ref().is_some_and(Remote::is_up) {
                return None;
            }
        }
        Some((local, now))
    }

    /// One row that is not in process, or not to be served from there.
    async fn get_past_local<Q>(self: &Arc<Self>, local: Option<&Handle<Ld>>, id: &Q) -> Outcome<Ld>
    where
        Ld::Key: Borrow<Q>,
        Q: KeyRef<Owned = Ld::Key> + ?Sized,
    {
        if let Some(local) = local {
            return self.get_behind_local(&local.tier, id.to_key()).boxed().await;
        }
        let Some(remote) = &self.remote else {
            return self.load(&id.to_key()).await.map(|loaded| loaded.row);
        };
        if let Some(validated) = &self.validated {
            return self.read_validated(remote, validated, id.to_key()).boxed().await;
        }
        match self.look(remote, self.space.text(id)).await {
            Look { found: Ok((Seen::Row(loaded), reply)), .. } => {
                self.counters.l2_hits.add(1);
                self.audit_shared(id, &reply);
                Ok(loaded.row)
            }
            look => self.get_behind_look(remote, id.to_key(), look).boxed().await,
        }
    }

    async fn get_behind_look(self: &Arc<Self>, remote: &Remote<L>, key: Ld::Key, look: Look<Ld::Value>) -> Outcome<Ld> {
        match self.read_on(remote, &key, look).await? {
            Found::Loaded(loaded) => Ok(loaded.row),
            Found::Writing => self.load_beside(&key).await,
        }
    }

    async fn get_behind_local(self: &Arc<Self>, local: &Arc<Local<Ld>>, key: Ld::Key) -> Outcome<Ld> {
        match local.join(&key, self.manager.env().nanos(), self.l1_bound) {
            Join::Hit(row) => {
                self.counters.l1_hits.add(1);
                self.audit_local::<Ld::Key>(local, &key);
                Ok(row)
            }
            Join::Follow(follower) => match follower.outcome().await {
                Some(outcome) => {
                    self.counters.joined.add(1);
                    outcome
                }
                None => self.load(&key).await.map(|loaded| loaded.row),
            },
            Join::Lead(ticket) => {
                let inner = Arc::clone(self);
                self.detached(async move {
                    let found = match &inner.remote {
                        Some(remote) => inner.read_shared(remote, ticket.key()).await,
                        None => inner.load(ticket.key()).await.map(Found::Loaded),
                    };
                    let outcome = match found {
                        Ok(Found::Loaded(loaded)) => {
                            inner.land(&ticket, &loaded);
                            Ok(loaded.row)
                        }
                        Ok(Found::Writing) => {
                            ticket.keep_to_itself();
                            inner.load_beside(ticket.key()).await
                        }
                        Err(error) => Err(error),
                    };
                    ticket.publish(outcome.clone());
                    outcome
                })
                .await
            }
            Join::Write => self.load_beside(&key).await,
        }
    }

    /// Asks the database for a row that is being written, and keeps nothing. The statement begins after this is called:
    /// of those who ask at once all but the first share the one after it.
    async fn load_beside(self: &Arc<Self>, key: &Ld::Key) -> Outcome<Ld> {
        let (follower, turn) = self.beside.enter(key);
        let leads = turn.is_some();
        if let Some(mut turn) = turn {
            let (inner, key) = (Arc::clone(self), key.clone());
            tokio::spawn(async move { while turn.pass_on(inner.load(&key).await.map(|loaded| loaded.row)) {} });
        }
        let outcome = follower.outcome().await;
        self.overtake(key);
        match outcome {
            Some(outcome) => {
                self.counters.joined.add(u64::from(!leads));
                outcome
            }
            None => Err(self.loader.aborted(Aborted::Lost)),
        }
    }

    /// To be called before a row that was read past the in-process tier is handed out: what stands there may be of before a
    /// write of another process that the row is of after, and whoever saw the one shall not be served the other. Redis
    /// holds nothing so old: that write is announced there.
    fn overtake(&self, key: &Ld::Key) {
        if let (Some(local), Some(_)) = (&self.local, &self.remote) {
            local.tier.invalidate(key);
        }
    }

    /// Puts a loaded row into the in-process tier, unless its flight was taken off.
    fn land(&self, ticket: &crate::local::Ticket<Ld::Key, Ld::Value, Outcome<Ld>>, loaded: &Loaded<Ld::Value>) {
        let now = self.manager.env().nanos();
        let landed = loaded.keep.map(|keep| {
            let expires = now
                .saturating_add(u64::try_from(keep.as_nanos()).unwrap_or(u64::MAX))
                .min(ticket.started().saturating_add(self.l1_bound));
            ticket.land(loaded.row.clone(), expires)
        });
        if landed != Some(true) {
            self.overtake(ticket.key());
        }
        // With both tiers one load is one value: the shared tier counts it.
        if self.remote.is_none()
            && let Some(landed) = landed
        {
            let counter = if landed { &self.counters.fills } else { &self.counters.fills_refused };
            counter.add(1);
        }
    }

    /// Asks the database, within the load timeout.
    async fn load(&self, key: &Ld::Key) -> Result<Loaded<Ld::Value>, Ld::Error> {
        self.counters.misses.add(1);
        self.ask(key).await
    }

    async fn ask(&self, key: &Ld::Key) -> Result<Loaded<Ld::Value>, Ld::Error> {
        self.counters.loads.add(1);
        let row = self.in_time(self.loader.load(key)).await?;
        Ok(self.loaded(key, row.map(Arc::new)))
    }

    /// A row and how long it may be kept: not at all, when it is the row of a key that only the database takes for this.
    fn loaded(&self, key: &Ld::Key, row: Option<Arc<Ld::Value>>) -> Loaded<Ld::Value> {
        let keep = match &row {
            Some(row) => self.loader.is_key_of(key, row).then(|| self.jittered(self.ttl)),
            None => self.negative_ttl,
        };
        Loaded { row, keep, token: None }
    }

    async fn in_time<T>(&self, load: impl Future<Output = Result<T, Ld::Error>> + Send) -> Result<T, Ld::Error> {
        let limit = self.manager.config().load_timeout;
        // Boxed: the database's futures are nested so deeply that callers' types would reach the compiler's depth limit.
        // A panic is caught, so that it fails this load and everybody who waits for it, and not the caller's task.
        match tokio::time::timeout(limit, AssertUnwindSafe(load.boxed()).catch_unwind()).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(self.loader.aborted(Aborted::Lost)),
            Err(_) => Err(self.loader.aborted(Aborted::TimedOut(limit))),
        }
    }

    /// Runs a load as a task of its own, so that a caller that goes away does not take it along.
    fn detached<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, Ld::Error>> + Send + 'static,
    ) -> impl Future<Output = Result<T, Ld::Error>> + Send {
        // Outside the future that is returned, so that it is no part of its callers' types: those are deep enough.
        let task = tokio::spawn(work);
        async move { task.await.unwrap_or_else(|_| Err(self.loader.aborted(Aborted::Lost))) }
    }

    /// Up to 5 % less than `ttl`, at random.
    fn jittered(&self, ttl: Duration) -> Duration {
        let share = (self.manager.env().random() % 1_000) as u32;
        ttl - ttl / 20_000 * share
    }

    fn wall(&self) -> Millis {
        self.manager.env().wall()
    }
}

/// Polls a future in a stack frame of its own.
#[inline(never)]
fn poll_apart<F: Future>(future: Pin<&mut F>, cx: &mut Context<'_>) -> Poll<F::Output> {
    future.poll(cx)
}

impl<Ld: Loader, L: L2> Clone for RecordCache<Ld, L> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner) }
    }
}

impl<Ld: Loader, L: L2> std::fmt::Debug for RecordCache<Ld, L> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RecordCache").field("space", &self.inner.space).finish_non_exhaustive()
    }
}
