//! The shared tier as the stores use it: bounded reads, a breaker, and invalidations that are never lost.
//!
//! A [`Remote`] is *up* or *down*. While it is down no command of the read path is sent. A read that fails takes it
//! down; a probe in the background brings it up again, after every invalidation that could not be delivered was
//! replayed. So no read is served from the tier between an invalidation that failed and its replay.

mod announce;
mod deliver;
mod gate;
mod journal;
mod probe;
mod stats;

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::codec::header::Token;
use crate::l2::{Claim, Fill, Incarnation, L2, L2Error, LeaseReply, ManyReply, Messages, Reply, answer_by};

use self::gate::{Effects, Gate};
use self::stats::Counters;
pub use self::stats::{RemoteState, RemoteStats};

/// How patient a [`Remote`] is.
#[derive(Clone, Debug)]
pub struct RemoteSettings {
    /// How long a command of the read path may take. Default: 50 ms.
    pub read_budget: Duration,
    /// How long an invalidation or a manual operation may take. Default: 1 s.
    pub timeout: Duration,
    /// How often an invalidation or a manual operation is tried. Default: 3.
    pub retry_attempts: u32,
    /// The pause between those attempts. Default: 100 ms.
    pub retry_delay: Duration,
    /// The longest pause between two probes of a server that is away. Default, and at most: 100 ms.
    pub probe_interval: Duration,
    /// How many undelivered keys are remembered one by one; beyond that the replay removes everything that matches
    /// `flush_glob`. Default: 100,000.
    pub journal_capacity: usize,
    /// Matches every key of this cache; already escaped.
    pub flush_glob: String,
}

impl RemoteSettings {
    /// The defaults, for a cache whose keys all match `flush_glob`.
    pub fn new(flush_glob: impl Into<String>) -> Self {
        Self {
            read_budget: Duration::from_millis(50),
            timeout: Duration::from_secs(1),
            retry_attempts: 3,
            retry_delay: Duration::from_millis(100),
            probe_interval: MAX_PROBE_INTERVAL,
            journal_capacity: 100_000,
            flush_glob: flush_glob.into(),
        }
    }
}

/// Why the tier has no answer; the read goes to the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bypass {
    /// The tier is down; nothing was sent.
    Down,
    /// This command failed.
    Failed,
    /// The key holds a value of another type.
    WrongType,
}

/// What became of an invalidation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Invalidated {
    /// The server removed the keys, or left them to the writers whose intents stand there.
    Confirmed {
        /// Under how many the intent of the caller did not stand any more.
        lost: u64,
    },
    /// The keys are remembered: this instance reads nothing from the tier until they are removed. Other instances do.
    Journaled,
}

/// A shared tier with deadlines, breaker and journal. Clones share everything.
pub struct Remote<L> {
    inner: Arc<Inner<L>>,
}

struct Inner<L> {
    l2: Arc<L>,
    settings: RemoteSettings,
    gate: Gate,
    counters: Counters,
}

impl<L: L2> Remote<L> {
    /// Wraps a tier. Sends nothing and needs no runtime. Starts up.
    pub fn new(l2: L, mut settings: RemoteSettings) -> Self {
        settings.probe_interval = settings.probe_interval.clamp(Duration::from_millis(1), MAX_PROBE_INTERVAL);
        let gate = Gate::new(settings.journal_capacity);
        Self { inner: Arc::new(Inner { l2: Arc::new(l2), settings, gate, counters: Counters::default() }) }
    }

    /// Whether commands of the read path are sent. One atomic load while they are. While they are not, also sees to it
    /// that somebody asks whether the server is back.
    pub fn is_up(&self) -> bool {
        let up = self.inner.gate.is_up();
        if !up {
            self.inner.revive();
        }
        up
    }

    /// The deadline of a command of the read path that starts now.
    pub fn deadline(&self) -> Instant {
        Instant::now() + self.inner.settings.read_budget
    }

    /// The deadline of a command that nobody waits for and that starts now.
    pub fn background_deadline(&self) -> Instant {
        Instant::now() + self.inner.settings.timeout
    }

    /// Waits until the tier is up. While it is down, that includes the replay of every pending invalidation.
    ///
    /// # Cancel safety
    /// Dropping the future has no effect.
    pub async fn wait_until_up(&self) {
        self.inner.revive();
        self.inner.gate.wait_until_up().await;
    }

    /// What stands under `key`. See [`L2::get`].
    ///
    /// # Errors
    /// Why the tier has no answer.
    pub async fn get(&self, key: &str, deadline: Instant) -> Result<Reply, Bypass> {
        self.inner.run_by(Instant::now(), deadline, None, self.inner.l2.get_by(key, deadline)).await
    }

    /// What stands under `key`, for a read that starts now and ends by the deadline: as [`deadline`](Self::deadline) and
    /// [`get`](Self::get).
    pub(crate) async fn get_first(&self, key: &str) -> (Result<Reply, Bypass>, Instant) {
        let now = Instant::now();
        let deadline = now + self.inner.settings.read_budget;
        (self.inner.run_by(now, deadline, None, self.inner.l2.get_by(key, deadline)).await, deadline)
    }

    /// What stands under `key`, of a value the header alone. See [`L2::head`].
    ///
    /// # Errors
    /// Why the tier has no answer.
    pub async fn head(&self, key: &str, deadline: Instant) -> Result<Reply, Bypass> {
        self.inner.run_by(Instant::now(), deadline, None, self.inner.l2.head_by(key, deadline)).await
    }

    /// What stands under each of `keys`. See [`L2::get_many`].
    ///
    /// # Errors
    /// Why the tier has no answer.
    pub async fn get_many<K: AsRef<str> + Sync>(&self, keys: &[K], deadline: Instant) -> Result<ManyReply, Bypass> {
        self.inner.run(deadline, None, self.inner.l2.get_many(keys)).await
    }

    /// Places a lease. See [`L2::lease`].
    ///
    /// # Errors
    /// Why the tier has no answer; the lease may stand all the same, until it expires.
    pub async fn lease(&self, key: &str, token: Token, ttl: Duration, deadline: Instant) -> Result<LeaseReply, Bypass> {
        self.inner.run(deadline, Some(key), self.inner.l2.lease(key, token, ttl)).await
    }

    /// Places many leases. See [`L2::lease_many`].
    ///
    /// # Errors
    /// Why the tier has no answer; the leases may stand all the same, until they expire.
    pub async fn lease_many(
        &self,
        keys: &[(String, Token)],
        ttl: Duration,
        deadline: Instant,
    ) -> Result<Vec<LeaseReply>, Bypass> {
        let first = keys.first().map(|(key, _)| key.as_str());
        self.inner.run(deadline, first, self.inner.l2.lease_many(keys, ttl)).await
    }

    /// Places a lease over what was seen. See [`L2::replace`].
    ///
    /// # Errors
    /// Why the tier has no answer; the lease may stand all the same, until it expires.
    pub async fn replace(
        &self,
        key: &str,
        seen: &[u8],
        token: Token,
        ttl: Duration,
        deadline: Instant,
    ) -> Result<LeaseReply, Bypass> {
        self.inner.run(deadline, Some(key), self.inner.l2.replace(key, seen, token, ttl)).await
    }

    /// Places many leases over what was seen. See [`L2::replace_many`].
    ///
    /// # Errors
    /// Why the tier has no answer; the leases may stand all the same, until they expire.
    pub async fn replace_many(
        &self,
        keys: &[(String, Vec<u8>, Token)],
        ttl: Duration,
        deadline: Instant,
    ) -> Result<Vec<LeaseReply>, Bypass> {
        let first = keys.first().map(|(key, ..)| key.as_str());
        self.inner.run(deadline, first, self.inner.l2.replace_many(keys, ttl)).await
    }

    /// Stores values under their leases. See [`L2::fill`].
    ///
    /// # Errors
    /// Why the tier has no answer; the values may be stored all the same.
    pub async fn fill(&self, fills: &[Fill], deadline: Instant) -> Result<Vec<bool>, Bypass> {
        let first = fills.first().map(|fill| fill.key.as_str());
        self.inner.run(deadline, first, self.inner.l2.fill(fills)).await
    }

    /// Gives leases back. See [`L2::release`].
    ///
    /// # Errors
    /// Why the tier has no answer; the leases stand until they expire.
    pub async fn release(&self, leases: &[(String, Token)], deadline: Instant) -> Result<(), Bypass> {
        let first = leases.first().map(|(key, _)| key.as_str());
        self.inner.run(deadline, first, self.inner.l2.release(leases)).await
    }

    /// Places the intent `token` under keys; without memory for them, clears the keys instead: `None`. See
    /// [`L2::announce`].
    ///
    /// One attempt, within a quarter of the configured timeout, also while reads bypass the tier; none once an attempt of
    /// this outage failed.
    ///
    /// # Errors
    /// Why they are not known to stand; they may all the same, until they expire.
    pub async fn announce(&self, keys: &[String], token: Token, ttl: Duration) -> Result<Option<Incarnation>, L2Error> {
        announce::announce(&self.inner, keys, token, ttl).await
    }

    /// Begins the time of the intent `token` again; whether each still stood. See [`L2::renew`].
    ///
    /// # Errors
    /// As [`announce`](Self::announce).
    pub async fn renew(&self, keys: &[String], token: Token, ttl: Duration) -> Result<Vec<bool>, L2Error> {
        announce::renew(&self.inner, keys, token, ttl).await
    }

    /// Takes the intent `token` away. One attempt, while the tier is up. See [`L2::withdraw`].
    ///
    /// # Errors
    /// Why they may still stand; they expire.
    pub async fn withdraw(&self, keys: &[String], token: Token) -> Result<(), Bypass> {
        self.inner
            .run(self.background_deadline(), keys.first().map(String::as_str), self.inner.l2.withdraw(keys, token))
            .await
    }

    /// Removes keys from the tier, or remembers that they must be removed before the tier is read again; the intents of
    /// others stay. See [`L2::clear`].
    ///
    /// Tries for at most the configured timeout, also while reads bypass the tier. Once an invalidation of this outage
    /// failed, further ones are remembered without a try.
    ///
    /// # Cancel safety
    /// Keys that are not removed yet when the future is dropped are remembered.
    pub async fn invalidate(&self, keys: Vec<Claim>) -> Invalidated {
        deliver::invalidate(&self.inner, keys).await
    }

    /// Runs an operation on the tier with the configured number of attempts, each bounded by the configured timeout.
    /// Does not ask whether the tier is up: for removals and for questions about the server.
    ///
    /// # Errors
    /// The error of the last attempt.
    pub async fn retrying<T, F, Fut>(&self, operation: F) -> Result<T, L2Error>
    where
        F: FnMut(Arc<L>) -> Fut,
        Fut: Future<Output = Result<T, L2Error>>,
    {
        deliver::retrying(&self.inner, operation).await
    }

    /// Removes every key that matches `glob`, however long that takes up to half a minute. See [`L2::delete_matching`].
    ///
    /// # Errors
    /// As the tier; some keys may be removed.
    pub async fn sweep(&self, glob: &str) -> Result<u64, L2Error> {
        let limit = probe::FLUSH_BOUND.max(self.inner.settings.timeout);
        let swept = tokio::time::timeout(limit, self.inner.l2.delete_matching(glob)).await;
        swept.unwrap_or(Err(L2Error::Timeout(limit))).inspect_err(|error| self.inner.counters.count(error))
    }

    /// Remembers that keys must be removed before the tier is read again: what [`invalidate`](Self::invalidate) does with
    /// keys it cannot remove, without trying. For the end of a runtime.
    pub fn owe(&self, keys: Vec<Claim>) {
        let error = L2Error::Connection("an invalidation was cut short".to_owned());
        let effects = self.inner.gate.journal(keys, &error);
        self.inner.act(effects);
    }

    /// [`retrying`](Self::retrying) for an operation that reads values or stores them.
    ///
    /// # Errors
    /// As [`retrying`](Self::retrying), and [`L2Error::Connection`] while invalidations wait for their delivery, as what
    /// the server holds may be out of date.
    pub async fn retrying_coherent<T, F, Fut>(&self, operation: F) -> Result<T, L2Error>
    where
        F: FnMut(Arc<L>) -> Fut,
        Fut: Future<Output = Result<T, L2Error>>,
    {
        self.inner.check_delivered()?;
        let done = deliver::retrying(&self.inner, operation).await?;
        self.inner.check_delivered()?;
        Ok(done)
    }

    /// Sends a message, whether the tier is up or not, within the configured timeout. See [`L2::publish`].
    ///
    /// # Errors
    /// As the tier, and [`L2Error::Timeout`]; the message may be sent all the same.
    pub async fn publish(&self, channel: &str, message: &[u8]) -> Result<u64, L2Error> {
        let limit = self.inner.settings.timeout;
        let sent = tokio::time::timeout(limit, self.inner.l2.publish(channel, message)).await;
        sent.unwrap_or(Err(L2Error::Timeout(limit)))
    }

    /// Subscribes, whether the tier is up or not, within the configured timeout. See [`L2::subscribe`].
    ///
    /// # Errors
    /// As the tier, and [`L2Error::Timeout`].
    pub async fn subscribe(&self, channels: &[String]) -> Result<Messages, L2Error> {
        let limit = self.inner.settings.timeout;
        let subscribed = tokio::time::timeout(limit, self.inner.l2.subscribe(channels)).await;
        subscribed.unwrap_or(Err(L2Error::Timeout(limit)))
    }

    /// Opens a fresh connection and asks the server whether it is there. See [`L2::probe`].
    ///
    /// # Errors
    /// As the tier.
    pub async fn probe(&self) -> Result<(), L2Error> {
        self.inner.l2.probe().await
    }

    /// Drops every open connection, for a reader that was handed the entry of another key.
    pub fn drop_connections(&self) {
        self.inner.l2.reset();
    }

    /// The counters.
    pub fn stats(&self) -> RemoteStats {
        self.inner.counters.snapshot(self.inner.gate.pending())
    }

    /// Whether the tier is up, and the last error.
    pub fn state(&self) -> RemoteState {
        RemoteState { up: self.is_up(), last_error: self.inner.gate.last_error() }
    }
}

impl<L> Clone for Remote<L> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner) }
    }
}

impl<L> fmt::Debug for Remote<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Remote").field("up", &self.inner.gate.is_up()).finish_non_exhaustive()
    }
}

impl<L: L2> Inner<L> {
    /// Runs a command of the read path. `written` is the key of a command that writes: should the server refuse it, the
    /// server counts as recovered only when it lets that key be removed.
    async fn run<T>(
        self: &Arc<Self>,
        deadline: Instant,
        written: Option<&str>,
        command: impl Future<Output = Result<T, L2Error>> + Send,
    ) -> Result<T, Bypass> {
        self.run_by(Instant::now(), deadline, written, answer_by(deadline, command)).await
    }

    /// [`run`](Self::run) of a command that ends by the deadline itself, with or without an answer.
    async fn run_by<T>(
        self: &Arc<Self>,
        started: Instant,
        deadline: Instant,
        written: Option<&str>,
        command: impl Future<Output = Option<Result<T, L2Error>>> + Send,
    ) -> Result<T, Bypass> {
        let Some(seen) = self.gate.enter() else {
            self.revive();
            return Err(Bypass::Down);
        };
        if started >= deadline {
            return Err(Bypass::Failed);
        }
        let error = match command.await {
            Some(Ok(_)) if !self.gate.is_still(seen) => return Err(Bypass::Down),
            Some(Ok(done)) => return Ok(done),
            Some(Err(error)) => error,
            None => L2Error::Timeout(deadline - started),
        };
        self.counters.count(&error);
        match error {
            L2Error::WrongType => return Err(Bypass::WrongType),
            L2Error::Refused { ref code, .. } if code == "OOM" => self.gate.note(&error),
            _ => {
                let refused = matches!(error, L2Error::Refused { .. });
                self.act(self.gate.take_down(seen, &error, written.filter(|_| refused)));
            }
        }
        Err(Bypass::Failed)
    }

    /// Does what follows from a change of the gate, outside its lock.
    fn act(self: &Arc<Self>, effects: Effects) {
        if effects.went_down {
            self.counters.breaker_opened();
            self.l2.reset();
        }
        if let Some(error) = effects.warning {
            tracing::warn!(%error, "the shared cache is bypassed until its server answers again");
        }
        if effects.start_probe {
            probe::start(self);
        }
    }

    /// Starts the probe again if the runtime it ran on is gone.
    fn revive(self: &Arc<Self>) {
        if self.gate.is_probe_lost() && self.gate.claim_lost_probe() {
            probe::start(self);
        }
    }

    fn check_delivered(&self) -> Result<(), L2Error> {
        match self.gate.pending() {
            0 => Ok(()),
            pending => Err(L2Error::Connection(format!("{pending} invalidations wait for their delivery"))),
        }
    }
}

/// Whether a later attempt may succeed without anybody's help.
fn is_temporary(error: &L2Error) -> bool {
    match error {
        L2Error::Connection(_) | L2Error::Timeout(_) => true,
        L2Error::Refused { code, .. } => TEMPORARY.contains(&code.as_str()),
        L2Error::WrongType => false,
    }
}

/// Whether somebody has to change the server or the settings first.
fn is_permanent(error: &L2Error) -> bool {
    matches!(error, L2Error::Refused { code, .. } if PERMANENT.contains(&code.as_str()))
}

const MAX_PROBE_INTERVAL: Duration = Duration::from_millis(100);
const TEMPORARY: [&str; 7] = ["BUSY", "CLUSTERDOWN", "LOADING", "MASTERDOWN", "NOREPLICAS", "READONLY", "TRYAGAIN"];
const PERMANENT: [&str; 4] = ["MAXCLIENTS", "NOAUTH", "NOPERM", "WRONGPASS"];
