//! The intents of this process in the shared tier: placed, renewed while their changes are open, and forgotten.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::codec::header::Token;
use crate::flight::lock;
use crate::l2::{L2, L2Error};
use crate::remote::Remote;
use crate::stats::Counters;

/// All intents of a manager.
pub(crate) struct Intents<L> {
    remote: Remote<L>,
    ttl: Duration,
    /// Marks the tokens of this manager among those of all processes.
    instance: u64,
    book: Mutex<Book>,
}

/// Which changes are open. Guarded by one lock that is never held across an await.
#[derive(Default)]
struct Book {
    /// Also the serial of the token.
    next: u64,
    open: HashMap<u64, Arc<Standing>>,
    /// Whether the task that renews them runs.
    renewing: bool,
}

/// The intents of one change, as far as they are known.
struct Standing {
    token: Token,
    counters: Arc<Counters>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Until when the intent on each key is known to stand; `None` where it is not known to stand at all.
    keys: HashMap<String, Option<Instant>>,
    closed: bool,
}

impl<L: L2> Intents<L> {
    pub(crate) fn new(remote: Remote<L>, ttl: Duration, instance: u64) -> Self {
        Self { remote, ttl, instance, book: Mutex::default() }
    }

    /// Begins the intents of a change, under a token of their own.
    pub(crate) fn begin(self: &Arc<Self>, counters: &Arc<Counters>) -> Placed<L> {
        let mut book = lock(&self.book);
        let id = book.next;
        book.next += 1;
        let token = Token { instance: self.instance, serial: id };
        let standing = Arc::new(Standing { token, counters: Arc::clone(counters), state: Mutex::default() });
        book.open.insert(id, Arc::clone(&standing));
        if !std::mem::replace(&mut book.renewing, true) {
            drop(book);
            tokio::spawn(renew(Renewing { intents: Arc::downgrade(self), pause: self.ttl / 3, done: false }));
        }
        Placed { intents: Arc::clone(self), id, standing }
    }

    /// Sees to it that the intents of a change stand for longer than `least`.
    async fn refresh(&self, standing: &Standing, least: Duration) -> Result<(), L2Error> {
        let now = Instant::now();
        let (mut standing_still, mut gone) = (Vec::new(), Vec::new());
        for (key, until) in &standing.state().keys {
            match *until {
                Some(until) if until > now + least => {}
                Some(until) if until > now => standing_still.push(key.clone()),
                _ => gone.push(key.clone()),
            }
        }
        if !standing_still.is_empty() {
            let stood = self.remote.renew(&standing_still, standing.token, self.ttl).await?;
            let mut state = standing.state();
            for (key, stood) in standing_still.into_iter().zip(stood) {
                if let Some(until) = state.keys.get_mut(&key) {
                    *until = stood.then_some(now + self.ttl);
                }
                if !stood {
                    standing.counters.intents_lost.add(1);
                    gone.push(key);
                }
            }
        }
        if gone.is_empty() {
            return Ok(());
        }
        self.place(standing, &gone).await?;
        if standing.state().closed {
            // The change ended meanwhile and may have cleared before the intents came.
            self.remote.withdraw(&gone, standing.token).await.ok();
        }
        Ok(())
    }

    async fn place(&self, standing: &Standing, keys: &[String]) -> Result<(), L2Error> {
        let now = Instant::now();
        let placed = self.remote.announce(keys, standing.token, self.ttl).await;
        if let Ok(Some(_)) = placed {
            let mut state = standing.state();
            for key in keys {
                if let Some(until) = state.keys.get_mut(key) {
                    *until = Some(now + self.ttl);
                }
            }
            standing.counters.intents_placed.add(keys.len() as u64);
        } else {
            standing.counters.intents_refused.add(keys.len() as u64);
        }
        placed.map(drop)
    }
}

impl Standing {
    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

/// The intents of one change. Dropping it ends their renewal and leaves them where they are.
pub(crate) struct Placed<L> {
    intents: Arc<Intents<L>>,
    id: u64,
    standing: Arc<Standing>,
}

impl<L: L2> Placed<L> {
    /// Places an intent on each of these keys that has none.
    ///
    /// # Errors
    /// Why they are not known to stand. They may stand all the same, and are among the keys of the change.
    pub(crate) async fn announce(&self, mut keys: Vec<String>) -> Result<(), L2Error> {
        {
            let mut state = self.standing.state();
            state.keys.reserve(keys.len());
            keys.retain(|key| match state.keys.entry(key.clone()) {
                Entry::Occupied(_) => false,
                Entry::Vacant(entry) => {
                    entry.insert(None);
                    true
                }
            });
        }
        if keys.is_empty() { Ok(()) } else { self.intents.place(&self.standing, &keys).await }
    }

    /// Takes keys that are not known to stand off the change.
    pub(crate) fn forget(&self, keys: &[String]) {
        let mut state = self.standing.state();
        for key in keys {
            if state.keys.get(key) == Some(&None) {
                state.keys.remove(key);
            }
        }
    }

    /// Sees to it that all intents stand for at least a third of their time from now on.
    ///
    /// # Errors
    /// Why they are not known to.
    pub(crate) async fn confirm(&self) -> Result<(), L2Error> {
        self.intents.refresh(&self.standing, self.intents.ttl / 3).await
    }

    /// Sees to it that all intents stand, whatever is known of them, for all of their time from now on.
    ///
    /// # Errors
    /// Why they are not known to.
    pub(crate) async fn stand(&self) -> Result<(), L2Error> {
        self.intents.refresh(&self.standing, self.intents.ttl).await
    }

    /// Ends the renewal: the token, and the keys with whether their intents are known to have been placed.
    pub(crate) fn close(self) -> (Token, Vec<(String, bool)>) {
        let mut state = self.standing.state();
        state.closed = true;
        let keys = std::mem::take(&mut state.keys);
        (self.standing.token, keys.into_iter().map(|(key, until)| (key, until.is_some())).collect())
    }
}

impl<L> Drop for Placed<L> {
    fn drop(&mut self) {
        self.standing.state().closed = true;
        lock(&self.intents.book).open.remove(&self.id);
    }
}

/// Lets another task renew when this one ends with its runtime. Does not keep the manager alive.
struct Renewing<L> {
    intents: Weak<Intents<L>>,
    pause: Duration,
    done: bool,
}

impl<L> Drop for Renewing<L> {
    fn drop(&mut self) {
        if let (false, Some(intents)) = (self.done, self.intents.upgrade()) {
            lock(&intents.book).renewing = false;
        }
    }
}

/// Renews what was placed a third of its time ago or earlier, until no change is open.
async fn renew<L: L2>(mut renewing: Renewing<L>) {
    loop {
        sleep(renewing.pause).await;
        let Some(intents) = renewing.intents.upgrade() else { return };
        let open: Vec<Arc<Standing>> = {
            let mut book = lock(&intents.book);
            if book.open.is_empty() {
                book.renewing = false;
                renewing.done = true;
                return;
            }
            book.open.values().cloned().collect()
        };
        for standing in open {
            if let Err(error) = intents.refresh(&standing, renewing.pause * 2).await {
                // Tried again before COMMIT and at the next turn; what is committed without them is cleared all the same.
                tracing::debug!(%error, "intents were not renewed");
            }
        }
    }
}
