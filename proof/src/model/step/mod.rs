//! What can happen in a state.

mod bus;
mod load;
mod server;
mod write;

use super::event::{Breach, Event, Rule};
use super::setup::{Bug, Local, Setup};
use super::state::{Content, NOTHING, Phase, Stage, State};

/// A state that follows, and the promise that the step itself broke.
#[derive(Clone, Copy, Debug)]
pub(super) struct Next {
    pub(super) event: Event,
    pub(super) state: State,
    pub(super) breach: Option<Breach>,
}

/// Collects what can happen in one state.
struct Steps<'a> {
    setup: &'a Setup,
    from: &'a State,
    out: &'a mut Vec<Next>,
}

impl Steps<'_> {
    fn add(&mut self, event: Event, state: State) {
        self.add_with(event, state, None);
    }

    fn add_with(&mut self, event: Event, mut state: State, breach: Option<Breach>) {
        settle_orphan(&mut state);
        if state != *self.from || breach.is_some() {
            self.out.push(Next { event, state, breach });
        }
    }
}

/// Everything that can happen in `state`; names are not yet made canonical.
pub(super) fn successors(setup: &Setup, state: &State, out: &mut Vec<Next>) {
    out.clear();
    let mut steps = Steps { setup, from: state, out };
    load::steps(&mut steps);
    write::steps(&mut steps);
    server::steps(&mut steps);
    if matches!(setup.local, Local::Aged | Local::Bus) {
        bus::steps(&mut steps);
    }
}

/// The promise that a read starting now would break, if any.
pub(super) fn check(setup: &Setup, state: &State) -> Option<Breach> {
    for content in [state.key, state.copy] {
        if let Content::Value { ver, .. } = content
            && ver > state.committed
        {
            let (tier, wanted) = ("Redis", state.committed);
            return Some(Breach { rule: Rule::Uncommitted, tier, instance: 0, got: ver, wanted });
        }
    }
    for instance in 0..state.instances.len() {
        let hits = [
            ("Redis", state.reads_shared(setup, instance).then(|| state.usable(setup, state.key)).flatten()),
            ("the in-process tier", state.local_hit(setup, instance)),
        ];
        for (at, (tier, hit)) in hits.into_iter().enumerate() {
            let Some(got) = hit else { continue };
            let late = at == 1 && setup.bounded(instance);
            let promised = if late { state.local_floor(setup, instance) } else { state.promised(instance) };
            if got < promised {
                return Some(Breach { rule: Rule::Stale, tier, instance, got, wanted: promised });
            }
            if setup.monotonic && got < state.seen {
                return Some(Breach { rule: Rule::Backwards, tier, instance, got, wanted: state.seen });
            }
        }
    }
    None
}

/// How far a state is from rest: no write or load under way, no lease, no intent, no outage. Each state but those at
/// rest must have an orderly step that lowers it.
pub(super) fn unrest(setup: &Setup, state: &State) -> u32 {
    let writer = |phase| match phase {
        Phase::Idle | Phase::Dead => 0,
        Phase::Ack => 2,
        Phase::Publish => 3,
        Phase::Local if setup.has(Bug::LocalBeforeShared) => 6,
        Phase::Local => 4,
        Phase::Committed => 5,
        Phase::Open => 8,
    };
    let writers: u32 =
        state.writers.iter().map(|w| writer(w.phase) - u32::from(w.prepared as u8 > 0 && w.phase == Phase::Open)).sum();
    let changes: u32 = state.writers.iter().map(|w| u32::from(w.phase == Phase::Open && w.changed)).sum();
    let load = |stage| match stage {
        Stage::Idle | Stage::Loaded => 0,
        Stage::Bypass => 2,
        Stage::Asking => 3,
        Stage::Early => 4,
    };
    let loads: u32 = state.loads.iter().map(|l| load(l.stage) + u32::from(l.fill) + u32::from(l.land)).sum();
    let key = match state.key {
        Content::Empty | Content::Value { .. } => 0,
        Content::Lease | Content::Tombstone => 1,
        Content::Intents { .. } => 2,
    };
    let instances: u32 =
        state.instances.iter().map(|at| u32::from(!at.linked) * 2 + u32::from(!at.up) + u32::from(at.journal)).sum();
    let bus = state.bus.iter().filter(|message| **message != NOTHING).count() as u32;
    (writers - changes) * 32 + loads * 4 + key + instances + u32::from(state.oom) + bus
}

/// A commit whose writer died must be seen from the moment at which no tier holds anything, at the latest.
fn settle_orphan(state: &mut State) {
    let empty = state.key == Content::Empty
        && state.instances.iter().all(|at| at.entry == 0)
        && state.loads.iter().all(|load| !load.ticket);
    if state.orphan > 0 && empty {
        state.ended = state.ended.max(state.orphan);
        state.orphan = 0;
    }
}
