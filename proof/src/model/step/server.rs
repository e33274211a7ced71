//! Redis and the way to it: expiry, eviction, failover, lack of memory, a lost connection.

use super::super::event::Event;
use super::super::setup::Bug;
use super::super::state::{CUT, Content, FAILOVER, OOM, Phase, Prepared, State};
use super::Steps;
use super::write::delete;

pub(super) fn steps(steps: &mut Steps<'_>) {
    expiry(steps);
    failover(steps);
    memory(steps);
    link(steps);
}

fn expiry(steps: &mut Steps<'_>) {
    let (setup, from) = (steps.setup, *steps.from);
    let immortal = from.key == Content::Lease && setup.has(Bug::LeaseImmortal);
    if from.key != Content::Empty && !immortal {
        let mut next = from;
        next.set_key(Content::Empty);
        if let Content::Intents { members, under, .. } = from.key {
            if setup.loss {
                steps.add(Event::Lose, next);
            }
            expire_intents(steps, &mut next, members, under);
        }
        steps.add(Event::Expire, next);
    }
    for instance in 0..from.instances.len() {
        let mut next = from;
        (next.instances[instance].entry, next.instances[instance].age) = (0, 0);
        steps.add(Event::ExpireLocal(instance), next);
    }
}

/// The transaction of a confirmed intent has a deadline before the intent's.
fn expire_intents(steps: &Steps<'_>, next: &mut State, members: u8, under: u8) {
    if under > 0 && steps.setup.has(Bug::IntentRestoresValue) {
        next.set_key(Content::Value { ver: under - 1, inc: next.inc });
    }
    for (w, writer) in next.writers.iter_mut().enumerate() {
        let waits = writer.phase == Phase::Open && writer.prepared == Prepared::Intent && members & 1 << w != 0;
        if waits && !steps.setup.has(Bug::CommitAfterExpiry) {
            // Over its deadline, it can but roll back; the lock is still held until it does.
            writer.late = true;
        }
    }
}

fn failover(steps: &mut Steps<'_>) {
    let from = *steps.from;
    if !from.faults[FAILOVER] {
        return;
    }
    let mut next = from;
    next.copy = from.key;
    for load in &mut next.loads {
        load.copy_permit = load.permit;
    }
    steps.add(Event::Snapshot, next);

    let mut next = from;
    next.set_key(from.copy);
    for load in &mut next.loads {
        load.permit = std::mem::take(&mut load.copy_permit);
    }
    next.copy = Content::Empty;
    next.inc = 1;
    next.faults[FAILOVER] = false;
    steps.add(Event::Failover, next);
}

fn memory(steps: &mut Steps<'_>) {
    let mut next = *steps.from;
    if next.oom {
        next.oom = false;
        steps.add(Event::OomOver, next);
    } else if next.faults[OOM] {
        (next.oom, next.faults[OOM]) = (true, false);
        steps.add(Event::Oom, next);
    }
}

/// Instance 0 alone loses its connection; whichever instance is down comes up by a replay.
fn link(steps: &mut Steps<'_>) {
    let from = *steps.from;
    let mut next = from;
    if !from.instances[0].linked {
        next.instances[0].linked = true;
        steps.add(Event::Heal, next);
        let mut next = from;
        next.instances[0].up = false;
        steps.add(Event::Notice, next);
    } else if from.faults[CUT] {
        (next.instances[0].linked, next.faults[CUT]) = (false, false);
        steps.add(Event::Cut, next);
    }
    for (instance, at) in from.instances.iter().enumerate() {
        if at.linked && !at.up {
            let mut next = from;
            if at.journal && !steps.setup.has(Bug::JournalNotReplayed) {
                delete(steps.setup, &mut next);
                next.ended = next.ended.max(at.own);
            }
            let at = &mut next.instances[instance];
            (at.up, at.journal) = (true, false);
            steps.add(Event::Replay(instance), next);
        }
    }
}
