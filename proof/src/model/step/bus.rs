//! Time, and the messages from instance 0 to instance 1: in order, late, or lost.

use super::super::event::Event;
use super::super::setup::{Bug, DELTA, Local};
use super::super::state::{BEAT, INVALIDATE, NOTHING, Phase, State};
use super::Steps;
use super::write::clear_local;

pub(super) fn steps(steps: &mut Steps<'_>) {
    tick(steps);
    if steps.setup.local == Local::Bus {
        send(steps);
        receive(steps);
    }
}

fn tick(steps: &mut Steps<'_>) {
    let mut next = *steps.from;
    next.past = [next.ended, next.past[0]];
    let older = |age: &mut u8| *age = DELTA.min(*age + 1);
    if steps.setup.local == Local::Aged {
        next.loads.iter_mut().filter(|load| load.ticket).for_each(|load| older(&mut load.age));
        next.instances.iter_mut().filter(|at| at.entry > 0).for_each(|at| older(&mut at.age));
    } else {
        older(&mut next.silence);
        next.bus.iter_mut().filter(|message| **message >= BEAT).for_each(|beat| *beat = (BEAT + DELTA).min(*beat + 1));
    }
    steps.add(Event::Tick, next);
}

/// A heartbeat says when it was sent, and comes after every message sent before it.
fn send(steps: &mut Steps<'_>) {
    let mut next = *steps.from;
    let alive = next.writers.iter().all(|writer| writer.phase != Phase::Dead);
    if let Some(place) = next.bus.iter().position(|message| *message == NOTHING)
        && alive
        && (place == 0 || next.bus[place - 1] != BEAT)
    {
        next.bus[place] = BEAT;
        steps.add(Event::Beat, next);
    }
}

fn receive(steps: &mut Steps<'_>) {
    let (setup, from) = (steps.setup, *steps.from);
    let flush = |next: &mut State| {
        if !setup.has(Bug::ResubscribeWithoutFlush) {
            clear_local(setup, next, 1);
        }
    };
    let [first, second] = from.bus;
    if first != NOTHING {
        let mut next = from;
        next.bus = [second, NOTHING];
        if first == INVALIDATE {
            let mut lost = next;
            lost.gap = true;
            steps.add(Event::LoseMessage, lost);
            clear_local(setup, &mut next, 1);
        } else {
            steps.add(Event::LoseMessage, next);
            let age = if setup.has(Bug::BeatFromReceipt) { 0 } else { first - BEAT };
            next.silence = next.silence.min(age);
        }
        // The number of a message tells whether one before it is missing.
        if std::mem::take(&mut next.gap) {
            flush(&mut next);
        }
        steps.add(Event::Deliver, next);
    }
    let mut next = from;
    (next.bus, next.gap, next.silence) = ([NOTHING; 2], false, 0);
    flush(&mut next);
    steps.add(Event::Resubscribe, next);
}
