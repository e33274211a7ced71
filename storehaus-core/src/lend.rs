//! Connections of the pool, lent to one operation after the other.
//!
//! A pool of sqlx asks a connection whether it is alive each time it comes back, and by default each time it is taken: two
//! more round trips per statement, which halve the throughput of reads by key. The [`Lender`] takes connections out of the
//! pool and hands them from one operation to the next for as long as they are wanted. One that nobody wanted for a while is
//! asked before it is lent; one whose operation failed, that was lent for long, or that others may be waiting for goes back
//! to the pool, which tests it.

use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use sqlx::pool::PoolConnection;
use sqlx::{Connection as _, Pool};
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::backend::{Backend, Dialect};
use crate::error::StorehausError;

/// The connections of a [`StoreHaus`](crate::StoreHaus) at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Connections {
    /// How many are open.
    pub open: usize,
    /// How many of them nobody uses: they are in the pool, or kept for the next operation of a store.
    pub idle: usize,
    /// How many operations of stores wait for one.
    pub waiting: usize,
}

/// Lends the connections of a pool. Clones share everything.
pub(crate) struct Lender<DB: Backend> {
    shared: Arc<Shared<DB>>,
}

struct Shared<DB: Backend> {
    pool: Pool<DB>,
    /// The connection used last is at the end. Guards the list alone.
    idle: Mutex<Vec<Held<DB>>>,
    /// One per connection the pool may have, so that those who wait are served in their order.
    permits: Semaphore,
    /// How many wait for a permit.
    waiting: AtomicUsize,
    /// How many idle connections are kept from the pool; none of a small pool.
    keep: usize,
    /// Whether the task that gives idle connections back is under way.
    sweeping: AtomicBool,
    start: Instant,
    /// When a connection was last given back because others may wait at the pool; nanoseconds since `start`.
    shared_at: AtomicU64,
}

/// A connection out of the pool.
struct Held<DB: Backend> {
    conn: PoolConnection<DB>,
    /// Since when it is out of the pool.
    taken: Instant,
    /// Since when nobody uses it.
    idle: Instant,
}

/// A connection lent to one operation. Dropped without [`done`](Self::done) it goes back to the pool, which tests it.
pub(crate) struct Loan<'a, DB: Backend> {
    conn: PoolConnection<DB>,
    taken: Instant,
    shared: &'a Arc<Shared<DB>>,
    permit: SemaphorePermit<'a>,
}

impl<DB: Backend> Lender<DB> {
    pub(crate) fn new(pool: Pool<DB>) -> Self {
        let most = pool.options().get_max_connections() as usize;
        let shared = Shared {
            permits: Semaphore::new(most.min(Semaphore::MAX_PERMITS)),
            waiting: AtomicUsize::new(0),
            keep: if most < SMALL { 0 } else { most - most / 4 },
            pool,
            idle: Mutex::default(),
            sweeping: AtomicBool::new(false),
            start: Instant::now(),
            shared_at: AtomicU64::new(0),
        };
        Self { shared: Arc::new(shared) }
    }

    pub(crate) fn pool(&self) -> &Pool<DB> {
        &self.shared.pool
    }

    /// A connection, at the latest when the pool's acquire timeout is over; with `asked` one that answered just now.
    ///
    /// # Errors
    /// As the pool: `PoolTimedOut`, `PoolClosed`, or why none could be opened.
    pub(crate) async fn acquire(&self, asked: bool) -> Result<Loan<'_, DB>, sqlx::Error> {
        match self.shared.permits.try_acquire() {
            Ok(permit) => self.with(permit, asked).await,
            Err(_) => {
                let _waits = Waits::new(&self.shared.waiting);
                let in_turn = async {
                    let permit = self.shared.permits.acquire().await;
                    self.with(permit.map_err(|_| sqlx::Error::PoolClosed)?, asked).await
                };
                let limit = self.shared.pool.options().get_acquire_timeout();
                tokio::time::timeout(limit, in_turn).await.unwrap_or(Err(sqlx::Error::PoolTimedOut))
            }
        }
    }

    async fn with<'a>(&'a self, permit: SemaphorePermit<'a>, asked: bool) -> Result<Loan<'a, DB>, sqlx::Error> {
        let shared = &self.shared;
        loop {
            let held = shared.idle().pop();
            let (mut conn, taken, is_fresh) = match held {
                Some(held) if !shared.pool.is_closed() => {
                    (held.conn, held.taken, DB::DIALECT == Dialect::Sqlite || held.idle.elapsed() < ASK_AFTER)
                }
                _ => (shared.pool.acquire().await?, Instant::now(), true),
            };
            // The next one, or the pool, may have a better connection.
            if (is_fresh && !asked) || conn.ping().await.is_ok() {
                return Ok(Loan { conn, taken, shared, permit });
            }
        }
    }

    /// How the connections are used now.
    pub(crate) fn connections(&self) -> Connections {
        let Shared { pool, waiting, .. } = &*self.shared;
        let kept = self.shared.idle().len();
        Connections {
            open: pool.size() as usize,
            idle: pool.num_idle() + kept,
            waiting: waiting.load(Ordering::Relaxed),
        }
    }

    /// Gives the idle connections back to the pool.
    pub(crate) fn give_back(&self) {
        self.shared.give_back();
    }

    /// Gives one idle connection back to a pool that has none left, for whoever is about to take one there.
    pub(crate) fn make_room(&self) {
        if self.shared.is_exhausted() {
            let held = self.shared.idle().pop();
            self.shared.discard(held);
        }
    }
}

impl<DB: Backend> Clone for Lender<DB> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<DB: Backend> Loan<'_, DB> {
    /// The connection for an operation that may be dropped: where it is, the connection is closed, for it may have stopped
    /// answering, and the pool would wait for it for ever. SQLite's are no further away than this process, and one may hold
    /// a whole database in memory; they go back.
    pub(crate) fn cancellable(&mut self) -> Cancellable<'_, DB> {
        Cancellable { conn: &mut self.conn, is_over: DB::DIALECT == Dialect::Sqlite }
    }

    /// Ends the loan after an operation that ended so. The next operation gets the connection as it is, unless the error
    /// says that it may be broken: then the pool tests it, and the idle ones too where it was lost.
    pub(crate) fn done<T>(self, result: &Result<T, StorehausError>) {
        match result {
            Ok(_)
            | Err(
                StorehausError::Conflict(_)
                | StorehausError::ForeignKey(_)
                | StorehausError::InvalidInput(_)
                | StorehausError::NotFound(_)
                | StorehausError::Serialization(_),
            ) => self.keep(),
            Err(StorehausError::Unavailable(_) | StorehausError::OutcomeUnknown(_)) => self.shared.give_back(),
            Err(_) => {}
        }
    }

    fn keep(self) {
        let Self { conn, taken, shared, permit } = self;
        let now = Instant::now();
        if shared.keep > 0
            && now - taken < LONGEST_LOAN
            && !conn.is_in_transaction()
            && !shared.pool.is_closed()
            && !shared.owes(now)
        {
            let mut idle = shared.idle();
            if idle.len() < shared.keep {
                idle.push(Held { conn, taken, idle: now });
                drop(idle);
                shared.sweep();
            }
        }
        // After the connection is there for whoever gets the permit.
        drop(permit);
    }
}

impl<DB: Backend> Deref for Loan<'_, DB> {
    type Target = DB::Connection;

    fn deref(&self) -> &DB::Connection {
        &self.conn
    }
}

impl<DB: Backend> DerefMut for Loan<'_, DB> {
    fn deref_mut(&mut self) -> &mut DB::Connection {
        &mut self.conn
    }
}

/// One who waits, counted.
struct Waits<'a>(&'a AtomicUsize);

impl<'a> Waits<'a> {
    fn new(waiting: &'a AtomicUsize) -> Self {
        waiting.fetch_add(1, Ordering::Relaxed);
        Self(waiting)
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// See [`Loan::cancellable`].
pub(crate) struct Cancellable<'a, DB: Backend> {
    conn: &'a mut PoolConnection<DB>,
    is_over: bool,
}

impl<DB: Backend> Cancellable<'_, DB> {
    /// The operation has come to its end.
    pub(crate) fn over(mut self) {
        self.is_over = true;
    }
}

impl<DB: Backend> Deref for Cancellable<'_, DB> {
    type Target = DB::Connection;

    fn deref(&self) -> &DB::Connection {
        self.conn
    }
}

impl<DB: Backend> DerefMut for Cancellable<'_, DB> {
    fn deref_mut(&mut self) -> &mut DB::Connection {
        self.conn
    }
}

impl<DB: Backend> Drop for Cancellable<'_, DB> {
    fn drop(&mut self) {
        if !self.is_over {
            self.conn.close_on_drop();
        }
    }
}

impl<DB: Backend> Shared<DB> {
    /// Whether the pool has neither an idle connection nor room for another.
    fn is_exhausted(&self) -> bool {
        self.pool.num_idle() == 0 && self.pool.size() >= self.pool.options().get_max_connections()
    }

    /// Whether it is time to give a connection back because others may wait for one at the pool.
    fn owes(&self, now: Instant) -> bool {
        if !self.is_exhausted() {
            return false;
        }
        let now = u64::try_from((now - self.start).as_nanos()).unwrap_or(u64::MAX);
        let last = self.shared_at.load(Ordering::Relaxed);
        now.saturating_sub(last) >= SHARE_EVERY.as_nanos() as u64
            && self.shared_at.compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    /// Sees to it that connections nobody wants go back to the pool.
    fn sweep(self: &Arc<Self>) {
        if self.sweeping.load(Ordering::Relaxed) || self.sweeping.swap(true, Ordering::AcqRel) {
            return;
        }
        let mut sweep = Sweep { shared: Arc::clone(self), is_over: false };
        tokio::spawn(async move {
            while !sweep.is_over {
                let closed = sweep.shared.pool.close_event();
                tokio::time::timeout(SHARE_EVERY, closed).await.ok();
                sweep.round();
            }
        });
    }

    fn give_back(&self) {
        let held = std::mem::take(&mut *self.idle());
        self.discard(held);
    }

    /// Returns connections to the pool. Where there is no runtime to do that on, which the pool would panic for, they are
    /// closed.
    fn discard(&self, held: impl IntoIterator<Item = Held<DB>>) {
        let runs = tokio::runtime::Handle::try_current().is_ok();
        for held in held {
            if runs {
                drop(held.conn);
            } else if self.pool.options().get_min_connections() == 0 {
                drop(held.conn.detach());
            } else {
                // Its end would open another one, on a runtime.
                std::mem::forget(held.conn);
            }
        }
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Held<DB>>> {
        // Each critical section is one operation on the list.
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The task that gives idle connections back; its end, by its runtime too, lets another begin.
struct Sweep<DB: Backend> {
    shared: Arc<Shared<DB>>,
    /// Whether nothing is left to look after.
    is_over: bool,
}

impl<DB: Backend> Sweep<DB> {
    /// Gives back what is idle for long, sooner while the pool has none.
    fn round(&mut self) {
        let now = Instant::now();
        let longest = if self.shared.is_exhausted() { SHARE_EVERY } else { LONGEST_IDLE };
        let mut idle = self.shared.idle();
        let closed = self.shared.pool.is_closed();
        let back: Vec<_> = idle.extract_if(.., |held| closed || now.duration_since(held.idle) >= longest).collect();
        self.is_over = idle.is_empty();
        if self.is_over {
            // Under the lock: a connection that comes now starts the next task.
            self.shared.sweeping.store(false, Ordering::Release);
        }
        drop(idle);
        self.shared.discard(back);
    }
}

impl<DB: Backend> Drop for Sweep<DB> {
    /// When its runtime ends, so do the connections that were opened on it.
    fn drop(&mut self) {
        if !self.is_over {
            self.shared.sweeping.store(false, Ordering::Release);
            self.shared.give_back();
        }
    }
}

impl<DB: Backend> Drop for Shared<DB> {
    fn drop(&mut self) {
        let idle = std::mem::take(self.idle.get_mut().unwrap_or_else(PoisonError::into_inner));
        self.discard(idle);
    }
}

/// A pool of fewer connections lends none for longer than one operation.
const SMALL: usize = 4;
/// A connection that nobody wanted for so long goes back to the pool.
const LONGEST_IDLE: Duration = Duration::from_millis(500);
/// A connection that nobody wanted for so long is asked whether it is alive before it is lent.
const ASK_AFTER: Duration = Duration::from_millis(50);
/// How often a connection goes back while the pool has none.
const SHARE_EVERY: Duration = Duration::from_millis(10);
/// After so long a connection goes back whatever happens: the pool ends those that are too old.
const LONGEST_LOAN: Duration = Duration::from_secs(30);
