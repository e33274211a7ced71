//! Everything outside the code under test: servers, what waits for them, actors, mishaps.
//!
//! A command or statement waits twice: until it is executed, and until its reply arrives. Whoever drops the future of
//! one takes nothing back: it is executed all the same, sooner or later.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, timeout_at};

use super::database::{Content, Statement};
use super::history::{Breach, Floor, Shown};
use super::scenario::Scenario;
use super::state::{Fate, State, Waiting, Work};
use super::step::{Footprint, Keys, Phase, Resource, Step, Who};
use super::twin::Twin;

/// The world of one schedule.
pub(super) struct World {
    state: Mutex<State>,
    /// Somebody began to wait, went away, or came to an end.
    changed: Notify,
    /// Virtual time began here.
    start: Instant,
}

/// What is asked of a server.
pub(super) struct Asked {
    pub(super) who: Who,
    pub(super) instance: u8,
    pub(super) what: &'static str,
    pub(super) keys: Keys,
    pub(super) touches: Footprint,
    pub(super) statement: Option<Statement>,
}

impl World {
    pub(super) fn new(scenario: &Scenario, twin: Option<Arc<Twin>>, told: bool) -> Arc<Self> {
        let state = State::new(scenario, twin, told);
        Arc::new(Self { state: Mutex::new(state), changed: Notify::new(), start: Instant::now() })
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Virtual time since the start.
    pub(super) fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    /// Asks a server, waits until it is let go, and again until its reply is. Nothing when the world ends first.
    pub(super) async fn ask<T: Send + 'static>(
        self: &Arc<Self>,
        asked: Asked,
        serve: impl FnOnce(&mut State, Fate) -> T + Send + 'static,
    ) -> Option<T> {
        let (reply, replied) = oneshot::channel();
        let work = Work::Serve(Box::new(move |state, fate| {
            let answer = serve(state, fate);
            Box::new(move || drop(reply.send(answer)))
        }));
        let _held = self.wait(asked, Phase::Serve, work);
        replied.await.ok()
    }

    /// Waits until an actor is let begin. Nothing when the world ends first.
    pub(super) async fn begin(self: &Arc<Self>, actor: u8, what: &'static str, keys: Keys) -> Option<()> {
        self.gate(Phase::Begin, actor, what, keys).await
    }

    /// Waits until the caller of an operation goes away.
    pub(super) async fn leave(self: &Arc<Self>, actor: u8, what: &'static str, keys: Keys) {
        if self.gate(Phase::Leave, actor, what, keys).await.is_none() {
            std::future::pending().await
        }
    }

    /// Waits until the connection of a writer breaks.
    pub(super) async fn breaks(self: &Arc<Self>, actor: u8, what: &'static str, keys: Keys) {
        if self.gate(Phase::Break, actor, what, keys).await.is_none() {
            std::future::pending().await
        }
    }

    async fn gate(self: &Arc<Self>, phase: Phase, actor: u8, what: &'static str, keys: Keys) -> Option<()> {
        let (open, opened) = oneshot::channel();
        // Whoever looks on from outside is always let through.
        let instance = self.state().actors.get(usize::from(actor)).copied()?;
        let asked =
            Asked { who: Who::Actor(actor), instance, what, keys, touches: Footprint::default(), statement: None };
        let _held = self.wait(asked, phase, Work::Deliver(Box::new(move || open.send(()).unwrap_or_default())));
        opened.await.ok()
    }

    fn wait(self: &Arc<Self>, asked: Asked, phase: Phase, work: Work) -> Held {
        let Asked { who, instance, what, keys, touches, statement } = asked;
        let mut state = self.state();
        let id = state.next_id;
        state.next_id += 1;
        // What a process does once it is dead reaches nobody.
        if !state.mishaps.is_dead(instance) {
            let step = state.numbered(Step { phase, who, what, keys, nth: 0 });
            state.progress += 1;
            state.waiting.push(Waiting { id, step, instance, touches, statement, gone: false, work });
            drop(state);
            self.changed.notify_one();
        } else {
            state.graveyard.push(work);
        }
        Held { world: Arc::clone(self), id }
    }

    /// An actor of an instance runs from now until the guard is dropped.
    pub(super) fn running(self: &Arc<Self>, instance: u8) -> Running {
        self.state().running[usize::from(instance)] += 1;
        Running { world: Arc::clone(self), instance }
    }

    /// Lets everything run that needs nobody's leave.
    pub(super) async fn settle(&self) {
        loop {
            let before = self.state().progress;
            // The runtime polls whatever is ready before it comes back.
            tokio::task::yield_now().await;
            if self.state().progress == before {
                return;
            }
        }
    }

    /// Lets the next timer fire that makes anything happen, or ends a doubt; false when there is none within an hour.
    pub(super) async fn pass_time(&self) -> bool {
        let (before, doubt) = {
            let state = self.state();
            (state.progress, state.next_doubt())
        };
        let limit = doubt.unwrap_or_else(|| Instant::now() + Duration::from_secs(3_600));
        loop {
            // Idle but for timers, the runtime puts the paused clock forward to the next one.
            if timeout_at(limit, self.changed.notified()).await.is_err() {
                return doubt.is_some();
            }
            if self.state().progress != before {
                return true;
            }
        }
    }

    /// A read of this row begins on an instance.
    pub(super) fn begin_read(&self, instance: u8, key: u8) -> Floor {
        let mut state = self.state();
        state.footprint.read(Resource::Ended(key));
        if state.history.is_monotonic() {
            state.footprint.read(Resource::Seen(key));
        }
        state.history.floor(instance, key)
    }

    /// A read of this row that had to return `floor` or later ends.
    pub(super) fn end_read(&self, actor: u8, instance: u8, key: u8, floor: Floor, got: Content) {
        let mut state = self.state();
        let state = &mut *state;
        if state.history.is_monotonic() {
            state.footprint.write(Resource::Seen(key));
        }
        state.outcome.push((actor, key, got));
        state.note(|| format!("instance {instance} reads {} of row {key}", Shown(got)));
        if let Err(breach) = state.history.end_read(&state.database, instance, key, floor, got) {
            state.breach.get_or_insert(breach);
        }
    }

    /// What an actor committed counts from now on.
    pub(super) fn end_write(&self, instance: u8, committed: &[(u8, usize)], owed: bool) {
        let mut state = self.state();
        for (key, place) in committed {
            state.end_commit(*key, *place, instance, owed);
        }
        state.note(|| {
            let rows: Vec<_> = committed.iter().map(|(key, place)| format!("commit {place} of row {key}")).collect();
            match &rows[..] {
                [] => "the write ends without a commit".to_owned(),
                rows => format!("the write ends: {}{}", rows.join(", "), if owed { ", clearing owed" } else { "" }),
            }
        });
    }

    /// An instance looks after a write whose outcome it does not know, from now on.
    pub(super) fn doubt(&self, instance: u8, lasts: Duration) {
        self.state().doubts.push((instance, Instant::now() + lasts));
    }

    pub(super) fn fail(&self, breach: Breach) {
        self.state().breach.get_or_insert(breach);
    }
}

/// Somebody waits until this is dropped.
struct Held {
    world: Arc<World>,
    id: u64,
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut state = self.world.state();
        if let Some(waiting) = state.waiting.iter_mut().find(|waiting| waiting.id == self.id) {
            waiting.gone = true;
            state.progress += 1;
            drop(state);
            self.world.changed.notify_one();
        }
    }
}

/// An actor runs until this is dropped.
pub(super) struct Running {
    world: Arc<World>,
    instance: u8,
}

impl Drop for Running {
    fn drop(&mut self) {
        let mut state = self.world.state();
        if std::thread::panicking() {
            state.breach.get_or_insert(Breach::Panicked);
        }
        state.running[usize::from(self.instance)] -= 1;
        state.progress += 1;
        drop(state);
        self.world.changed.notify_one();
    }
}
