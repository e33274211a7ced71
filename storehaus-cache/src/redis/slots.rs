//! The connections in use: a fixed number of places, each with at most one connection the pool accounts for.

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, Weak};
use std::time::Duration;

use bb8_redis::bb8::{Pool, PooledConnection};
use futures_util::FutureExt as _;
use tokio::time::{Instant, sleep, timeout};

use crate::l2::{Incarnation, L2Error};

use super::connect::{Manager, ask_incarnation, incarnation};
use super::link::Link;
use super::resp::{Value, command};
use super::wire::{Asked, Cut};

/// Hands out connections: the first that is not busy, else all in turn.
pub(super) struct Slots {
    shared: Arc<Shared>,
}

/// A read that was sent, or shares the answer of another one.
pub(super) struct Sent {
    /// On which connection.
    pub(super) place: usize,
    /// The server behind it.
    pub(super) incarnation: Incarnation,
    pub(super) asked: Result<Asked<Value>, Cut>,
}

struct Shared {
    pool: Pool<Manager>,
    places: Box<[Place]>,
    /// The turn; wraps around.
    next: AtomicUsize,
    /// Counts resets: a connection opened before one is not kept after it.
    generation: AtomicU64,
    /// The incarnation of the connection kept last. A connection of another one says that the server restarted or gave
    /// way to another: the older connections go.
    incarnation: AtomicU64,
    /// Whether a [`Watch`] runs.
    watched: AtomicBool,
    /// Held while a connection goes into the pool and out of it again, so that the same one comes out.
    adopting: Mutex<()>,
    /// The last attempt to open a connection, if it failed: for a moment nobody tries again but the probe, however many
    /// commands there are.
    refused: Mutex<Option<Failure>>,
}

#[derive(Default)]
struct Place {
    /// Read by every command, written when the connection is replaced.
    current: RwLock<Option<Kept>>,
    /// Held while a connection is opened, so that one caller opens it for all; the last attempt, if it failed.
    opening: tokio::sync::Mutex<Option<Failure>>,
    /// Counts failed attempts: who waited for one that failed shares its error.
    failures: AtomicU64,
}

#[derive(Clone)]
struct Failure {
    error: L2Error,
    at: Instant,
}

/// A connection with the pool's permission for it. Commands in flight hold clones of the link alone, so that the
/// permission is free again as soon as the connection is given up.
struct Kept {
    link: Link,
    _permission: PooledConnection<'static, Manager>,
}

impl Drop for Kept {
    /// The pool must not keep it for the next one.
    fn drop(&mut self) {
        self.link.mark_broken();
    }
}

impl Slots {
    pub(super) fn new(pool: Pool<Manager>, size: NonZeroUsize) -> Self {
        Self {
            shared: Arc::new(Shared {
                pool,
                places: (0..size.get()).map(|_| Place::default()).collect(),
                next: AtomicUsize::new(0),
                generation: AtomicU64::new(0),
                incarnation: AtomicU64::new(0),
                watched: AtomicBool::new(false),
                adopting: Mutex::new(()),
                refused: Mutex::new(None),
            }),
        }
    }

    /// The next connection and its place. Waits for one to be opened only if there is none at all.
    pub(super) async fn link(&self) -> Result<(usize, Link), L2Error> {
        let shared = &self.shared;
        let places = shared.places.len();
        // The first that has nothing or little to do: it is opened before a further one is used.
        let free = shared.places.iter().position(|place| place.live().is_none_or(|link| !link.is_busy()));
        let turn = free.unwrap_or_else(|| shared.turn());
        if let Some(link) = shared.places[turn].live() {
            return Ok((turn, link));
        }
        for other in (1..places).map(|step| (turn + step) % places) {
            if let Some(link) = shared.places[other].live() {
                self.open_in_background(turn);
                return Ok((other, link));
            }
        }
        let link = shared.open(turn).await?;
        (0..places).filter(|place| *place != turn).for_each(|place| self.open_in_background(place));
        Ok((turn, link))
    }

    /// Sends a command that changes nothing on the next connection, if that is open and keeps deadlines itself.
    pub(super) fn read(&self, deadline: Instant, encode: impl FnOnce(&mut Vec<u8>)) -> Option<Sent> {
        let shared = &self.shared;
        let send = |place, link: &Link, encode| {
            Some(Sent { place, incarnation: link.incarnation(), asked: link.read(deadline, encode)? })
        };
        for (at, place) in shared.places.iter().enumerate() {
            let current = place.current.read().unwrap_or_else(PoisonError::into_inner);
            let link = live(&current)?;
            if !link.is_busy() {
                return send(at, link, encode);
            }
        }
        let turn = shared.turn();
        let current = shared.places[turn].current.read().unwrap_or_else(PoisonError::into_inner);
        send(turn, live(&current)?, encode)
    }

    /// Gives a connection up whose answers do not fit the commands.
    pub(super) fn distrust(&self, place: usize) {
        self.shared.places[place].clear();
    }

    /// The connection of one place, opened if need be.
    pub(super) async fn link_at(&self, place: usize) -> Result<Link, L2Error> {
        match self.shared.places[place].live() {
            Some(link) => Ok(link),
            None => self.shared.open(place).await,
        }
    }

    /// Opens a connection whatever is there already, and asks for an answer on it. An empty place keeps it.
    pub(super) async fn probe(&self) -> Result<(), L2Error> {
        let generation = self.shared.generation.load(Ordering::Acquire);
        let link = self.shared.pool.dedicated_connection().await?;
        match link.command(|out| command(out, &[b"PING"])).await.map_err(|fault| fault.error) {
            // A user that may not ask got an answer.
            Err(L2Error::Refused { code, .. }) if code == "NOPERM" => {}
            answer => drop(answer?),
        }
        *self.shared.refused.lock().unwrap_or_else(PoisonError::into_inner) = None;
        if let Some(place) = self.shared.places.iter().find(|place| place.live().is_none()) {
            self.shared.keep(place, &link, generation);
            self.shared.watch();
        }
        Ok(())
    }

    pub(super) fn reset(&self) {
        self.shared.reset();
    }

    pub(super) fn open(&self) -> usize {
        self.shared.pool.state().connections as usize
    }

    fn open_in_background(&self, place: usize) {
        if self.shared.places[place].live().is_some() {
            return;
        }
        match self.shared.places[place].opening.try_lock() {
            Ok(last) if last.as_ref().is_none_or(|failure| failure.at.elapsed() >= OPENING_PAUSE) => {}
            _ => return,
        }
        let shared = Arc::clone(&self.shared);
        tokio::spawn(async move {
            // Whoever needs this place next meets the same error and reports it.
            let _ = shared.open(place).await;
        });
    }
}

impl Shared {
    /// Whose turn it is where all have much to do.
    fn turn(&self) -> usize {
        self.next.fetch_add(1, Ordering::Relaxed) % self.places.len()
    }

    fn reset(&self) {
        self.generation.fetch_add(1, Ordering::AcqRel);
        for place in &self.places {
            place.clear();
        }
    }

    /// Sees to it that somebody asks who the server is.
    fn watch(self: &Arc<Self>) {
        if !self.watched.swap(true, Ordering::AcqRel) {
            tokio::spawn(Watch(Arc::downgrade(self)).run());
        }
    }

    /// Gives the connections up if the server behind one of them is not the one it was: another one was promoted, or a
    /// proxy leads elsewhere now.
    async fn check_incarnation(&self) {
        let Some(link) = self.places.iter().find_map(Place::live) else { return };
        if link.incarnation() == 0 {
            // The server does not tell.
            return;
        }
        if let Ok(Ok(info)) = timeout(WATCH_PAUSE, link.command(ask_incarnation)).await
            && let Ok(Some(now)) = incarnation(info)
            && now != link.incarnation()
        {
            tracing::info!("the cache server is another one than before; connections are opened again");
            self.reset();
        }
    }

    /// Opens a connection for a place, or waits for the one who does.
    async fn open(self: &Arc<Self>, at: usize) -> Result<Link, L2Error> {
        let place = &self.places[at];
        let failures = place.failures.load(Ordering::Acquire);
        let mut last = place.opening.lock().await;
        if let Some(link) = place.live() {
            return Ok(link);
        }
        if let (true, Some(failure)) = (place.failures.load(Ordering::Acquire) != failures, &*last) {
            return Err(failure.error.clone());
        }
        if let Some(error) = self.refused_lately() {
            return Err(error);
        }
        let generation = self.generation.load(Ordering::Acquire);
        match self.pool.dedicated_connection().await {
            Ok(link) => {
                *last = None;
                self.keep(place, &link, generation);
                self.watch();
                Ok(link)
            }
            Err(error) => {
                let failure = Failure { error: error.clone(), at: Instant::now() };
                *self.refused.lock().unwrap_or_else(PoisonError::into_inner) = Some(failure.clone());
                *last = Some(failure);
                place.failures.fetch_add(1, Ordering::AcqRel);
                Err(error)
            }
        }
    }

    /// Keeps a connection in a place that has none, unless there was a reset since it was asked for. A connection that
    /// is not kept serves the command it was opened for and is closed.
    fn keep(&self, place: &Place, link: &Link, generation: u64) {
        let (before, now) = (self.incarnation.swap(link.incarnation(), Ordering::AcqRel), link.incarnation());
        if before != now {
            for other in &self.places {
                other.clear_unless(now);
            }
        }
        let mut current = place.current.write().unwrap_or_else(PoisonError::into_inner);
        if current.as_ref().is_some_and(|kept| !kept.link.is_broken()) {
            return;
        }
        *current = None;
        if self.generation.load(Ordering::Acquire) == generation {
            *current = self.adopt(link);
        }
    }

    fn refused_lately(&self) -> Option<L2Error> {
        let refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        refused.as_ref().filter(|failure| failure.at.elapsed() < OPENING_PAUSE).map(|failure| failure.error.clone())
    }

    fn adopt(&self, link: &Link) -> Option<Kept> {
        let _one_at_a_time = self.adopting.lock().unwrap_or_else(PoisonError::into_inner);
        self.pool.add(link.clone()).ok()?;
        // The pool has an idle connection now, so that this is ready at once.
        let permission = self.pool.get_owned().now_or_never()?.ok()?;
        Some(Kept { link: link.clone(), _permission: permission })
    }
}

/// Asks at intervals whether the server is still the same, until its runtime or the connections' owner ends.
struct Watch(Weak<Shared>);

impl Watch {
    async fn run(self) {
        loop {
            sleep(WATCH_PAUSE).await;
            let Some(shared) = self.0.upgrade() else { return };
            shared.check_incarnation().await;
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if let Some(shared) = self.0.upgrade() {
            shared.watched.store(false, Ordering::Release);
        }
    }
}

impl Place {
    fn live(&self) -> Option<Link> {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        live(&current).cloned()
    }

    fn clear_unless(&self, incarnation: Incarnation) {
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        current.take_if(|kept| kept.link.incarnation() != incarnation);
    }

    fn clear(&self) {
        self.current.write().unwrap_or_else(PoisonError::into_inner).take();
    }
}

/// The connection of a place, if it may be used.
fn live(current: &Option<Kept>) -> Option<&Link> {
    current.as_ref().map(|kept| &kept.link).filter(|link| !link.is_broken())
}

/// How long after a failure no connection is opened for a command.
const OPENING_PAUSE: Duration = Duration::from_millis(100);

/// How often the server is asked who it is, and how long it may take to say so.
const WATCH_PAUSE: Duration = Duration::from_secs(1);
