//! What may break, how often, and what it does.

use super::state::{State, entry};
use super::step::{Footprint, Keys, Phase, Resource, Step, Who};

/// What may still happen in a schedule, and what has happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Mishaps {
    /// Replies of commands and statements that get lost after these were executed.
    pub(super) lost_replies: u8,
    /// Connections of writers to the database that break while a COMMIT is on its way.
    pub(super) breaks: u8,
    /// Callers that go away.
    pub(super) leaves: u8,
    /// Timers that fire although something else could happen.
    pub(super) timers: u8,
    /// Entries evicted, or expired.
    pub(super) evictions: u8,
    /// Times the server loses everything.
    pub(super) flushes: u8,
    /// Snapshots that are brought back by another server.
    pub(super) failovers: u8,
    /// Times an instance loses its connection.
    pub(super) cuts: u8,
    /// Times the server is out of memory.
    pub(super) full: u8,
    /// The instance that loses its connection.
    pub(super) cut_instance: u8,
    /// The instance that is killed.
    pub(super) killed: Option<u8>,
    pub(super) cut: bool,
    pub(super) dead: bool,
}

impl Mishaps {
    pub(super) const NONE: Self = Self {
        lost_replies: 0,
        breaks: 0,
        leaves: 0,
        timers: 0,
        evictions: 0,
        flushes: 0,
        failovers: 0,
        cuts: 0,
        full: 0,
        cut_instance: 0,
        killed: None,
        cut: false,
        dead: false,
    };

    pub(super) fn is_none(self) -> bool {
        self == Self::NONE
    }

    pub(super) fn is_dead(self, instance: u8) -> bool {
        self.dead && self.killed == Some(instance)
    }

    pub(super) fn is_cut(self, instance: u8) -> bool {
        self.cut && self.cut_instance == instance
    }

    /// Nothing breaks any more, and what can be mended is.
    pub(super) fn end(&mut self) {
        *self = Self { killed: self.killed, dead: self.dead, ..Self::NONE };
    }

    /// The mishaps that can happen now.
    pub(super) fn enabled(self, state: &State, into: &mut Vec<Step>) {
        let mut can = |what, who, keys| into.push(Step { phase: Phase::Fault, who, what, keys, nth: 0 });
        if self.evictions > 0 {
            let held = state.database.keys().iter().filter(|key| state.memory.has(&entry(*key)));
            held.for_each(|key| can(EVICT, Who::World, Keys::of([key])));
        }
        if self.flushes > 0 {
            can(FLUSH, Who::World, Keys::NONE);
        }
        if self.failovers > 0 {
            can(if state.memory.has_snapshot() { FAIL_OVER } else { SNAPSHOT }, Who::World, Keys::NONE);
        }
        if self.cut {
            can(MEND, Who::Instance(self.cut_instance), Keys::NONE);
        } else if self.cuts > 0 {
            can(CUT, Who::Instance(self.cut_instance), Keys::NONE);
        }
        if state.memory.is_full() {
            can(ROOM, Who::World, Keys::NONE);
        } else if self.full > 0 {
            can(FULL, Who::World, Keys::NONE);
        }
        if let Some(instance) = self.killed
            && !self.dead
        {
            can(KILL, Who::Instance(instance), Keys::NONE);
        }
    }

    /// A mishap happens.
    pub(super) fn strike(state: &mut State, step: Step) {
        let mut touched = Footprint::default();
        touched.write(Resource::Mishaps);
        let everything = state.database.keys();
        match step.what {
            EVICT => {
                for key in step.keys.iter() {
                    touched.write(Resource::Entry(key));
                    state.evict(&entry(key));
                }
                state.mishaps.evictions -= 1;
            }
            FLUSH => {
                touched.write_each(everything, Resource::Entry);
                everything.iter().for_each(|key| state.evict(&entry(key)));
                state.memory.flush();
                state.mishaps.flushes -= 1;
            }
            SNAPSHOT => {
                touched.read_each(everything, Resource::Entry);
                state.memory.take_snapshot();
            }
            FAIL_OVER => {
                touched.write_each(everything, Resource::Entry);
                touched.write(Resource::Server);
                state.memory.fail_over();
                state.mishaps.failovers -= 1;
            }
            CUT | MEND => {
                touched.write(Resource::Link(state.mishaps.cut_instance));
                state.mishaps.cuts -= u8::from(step.what == CUT);
                state.mishaps.cut = step.what == CUT;
            }
            FULL | ROOM => {
                touched.write(Resource::Server);
                state.mishaps.full -= u8::from(step.what == FULL);
                state.memory.set_full(step.what == FULL);
            }
            KILL => {
                touched = Footprint::EVERYTHING;
                state.mishaps.dead = true;
                if let Some(instance) = state.mishaps.killed {
                    state.bury(instance);
                }
            }
            _ => {}
        }
        state.touch().add(touched);
    }
}

const CUT: &str = "loses its connection to the cache server";
const EVICT: &str = "eviction of";
const FAIL_OVER: &str = "failover to the snapshot";
const FLUSH: &str = "FLUSHALL";
const FULL: &str = "the cache server is out of memory";
const KILL: &str = "is killed";
const MEND: &str = "has its connection to the cache server again";
const ROOM: &str = "the cache server has memory again";
const SNAPSHOT: &str = "snapshot";
