//! Writes: intent, change, COMMIT, the clearing of the tiers, the acknowledgement; and their failures.

use super::super::event::Event;
use super::super::setup::{Bug, Local, OnDown, Orphan, Protocol, Setup};
use super::super::state::{Content, GHOST, INVALIDATE, NOTHING, Phase, Prepared, State, Writer};
use super::Steps;

pub(super) fn steps(steps: &mut Steps<'_>) {
    for w in 0..steps.from.writers.len() {
        match steps.from.writers[w].phase {
            Phase::Idle if steps.from.writers[w].left > 0 => prepare(steps, w),
            Phase::Idle | Phase::Dead => continue,
            Phase::Open => {
                prepare(steps, w);
                finish(steps, w);
            }
            Phase::Committed => clear(steps, w),
            Phase::Local => {
                let mut next = *steps.from;
                clear_local(steps.setup, &mut next, steps.setup.writer_at(w));
                go_on(steps.setup, &mut next, w);
                steps.add(Event::ClearLocal(w), next);
            }
            Phase::Publish => publish(steps, w),
            Phase::Ack => {
                let mut next = *steps.from;
                end(&mut next, steps.setup, w);
                steps.add(Event::Acknowledge(w), next);
            }
        }
        if steps.setup.crash && steps.from.writers[w].phase != Phase::Idle {
            crash(steps, w);
        }
    }
}

/// Before COMMIT: the intent and the change, in either order.
fn prepare(steps: &mut Steps<'_>, w: usize) {
    let (setup, from) = (steps.setup, *steps.from);
    let mut begun = from;
    if from.writers[w].phase == Phase::Idle {
        begun.writers[w].phase = Phase::Open;
        begun.writers[w].left -= 1;
    }
    let at = setup.writer_at(w);
    if setup.protocol == Protocol::Intents && from.writers[w].prepared == Prepared::No {
        let mut next = begun;
        if !from.instances[at].linked {
            match setup.on_down {
                OnDown::Proceed => {
                    next.writers[w].prepared = Prepared::Without;
                    (next.instances[at].journal, next.instances[at].up) = (true, false);
                    steps.add(Event::AppendUnreached(w), next);
                }
                OnDown::Refuse => {
                    end_unchanged(&mut next, w);
                    steps.add(Event::Refuse(w), next);
                }
            }
        } else if from.oom {
            if !setup.has(Bug::OomNotHandled) {
                delete(setup, &mut next);
            }
            next.writers[w].prepared = Prepared::Without;
            steps.add(Event::AppendOom(w), next);
        } else {
            if setup.has(Bug::SecondWriterSkips) && matches!(from.key, Content::Intents { .. }) {
                next.writers[w].prepared = Prepared::Without;
            } else {
                append(setup, &mut next, w);
                if setup.lost_replies {
                    steps.add(Event::AppendLost(w), next);
                }
                (next.writers[w].prepared, next.writers[w].inc) = (Prepared::Intent, from.inc);
            }
            steps.add(Event::Append(w), next);
        }
    }
    let locked = from.writers.iter().any(|other| other.changed);
    if !locked && !from.writers[w].late {
        let mut next = begun;
        next.writers[w].changed = true;
        if setup.has(Bug::DirtyFill) {
            next.set_key(Content::Value { ver: from.committed + 1, inc: from.inc });
        }
        steps.add(Event::Change(w), next);
    }
    if setup.has(Bug::InvalidateBeforeCommit) && from.writers[w].prepared == Prepared::No {
        let mut next = begun;
        next.set_key(Content::Empty);
        next.writers[w].prepared = Prepared::Without;
        steps.add(Event::ClearEarly(w), next);
    }
}

/// COMMIT, its loss, and ROLLBACK.
fn finish(steps: &mut Steps<'_>, w: usize) {
    let (setup, from) = (steps.setup, *steps.from);
    let writer = from.writers[w];
    let ready = writer.prepared != Prepared::No
        || (setup.protocol != Protocol::Intents && !setup.has(Bug::InvalidateBeforeCommit));
    if writer.changed && !writer.late && ready {
        let mut next = from;
        next.committed += 1;
        let ver = next.committed;
        next.writers[w] = Writer { changed: false, known: true, ver, ..writer };
        go_on(setup, &mut next, w);
        steps.add(Event::Commit(w, ver), next);
        if setup.unknown {
            let mut lost = next;
            lost.writers[w].known = false;
            if setup.has(Bug::UnknownNotCleared) {
                end(&mut lost, setup, w);
            }
            steps.add(Event::CommitLost(w, true), lost);
            let mut nothing = from;
            nothing.writers[w].changed = false;
            go_on(setup, &mut nothing, w);
            steps.add(Event::CommitLost(w, false), nothing);
        }
    }
    let mut next = from;
    if from.instances[setup.writer_at(w)].linked {
        remove_intent(&mut next, w);
    }
    end_unchanged(&mut next, w);
    steps.add(Event::Rollback(w), next);
}

/// The shared tier after COMMIT.
fn clear(steps: &mut Steps<'_>, w: usize) {
    let (setup, from) = (steps.setup, *steps.from);
    let at = setup.writer_at(w);
    let writer = from.writers[w];
    if setup.has(Bug::AckBeforeDelete) && from.ended < writer.ver {
        let mut next = from;
        next.ended = writer.ver;
        steps.add(Event::Acknowledge(w), next);
    }
    if setup.has(Bug::CancelDropsClear) {
        let mut next = from;
        end(&mut next, setup, w);
        steps.add(Event::CallerGone(w), next);
    }
    let skips = match setup.bug {
        Some(Bug::DeleteErrorIgnored | Bug::InvalidateBeforeCommit) => true,
        Some(Bug::NegativeNotCleared) => writer.ver == 1,
        Some(Bug::OomNotHandled) => from.oom,
        Some(Bug::SecondWriterSkips) => writer.prepared == Prepared::Without,
        _ => false,
    };
    if skips {
        let mut next = from;
        go_on(setup, &mut next, w);
        steps.add(Event::ClearSkipped(w), next);
        if !setup.has(Bug::DeleteErrorIgnored) {
            return;
        }
    }
    if from.instances[at].linked {
        let mut next = from;
        leave(setup, &mut next, w);
        let lost = next;
        go_on(setup, &mut next, w);
        steps.add(Event::Clear(w), next);
        if setup.lost_replies {
            steps.add(Event::ClearLost(w), lost);
        }
    }
    let down = !from.instances[at].linked || !from.instances[at].up;
    if down && setup.on_down == OnDown::Proceed {
        let mut next = from;
        (next.instances[at].journal, next.instances[at].up) = (true, false);
        next.writers[w].owed = true;
        go_on(setup, &mut next, w);
        steps.add(Event::ClearOwed(w), next);
    }
}

fn publish(steps: &mut Steps<'_>, w: usize) {
    let mut next = *steps.from;
    if let Some(place) = next.bus.iter_mut().find(|message| **message == NOTHING) {
        *place = INVALIDATE;
        go_on(steps.setup, &mut next, w);
        steps.add(Event::Publish(w), next);
    }
}

/// The process of the writer dies, with its in-process tier and its loads; the others of a writer's slot are others.
fn crash(steps: &mut Steps<'_>, w: usize) {
    let (setup, mut next) = (steps.setup, *steps.from);
    let ver = next.writers[w].ver;
    match setup.orphan {
        Orphan::AfterExpiry => next.orphan = next.orphan.max(ver),
        Orphan::AtOnce => next.ended = next.ended.max(ver),
    }
    let dies = |next: &mut State, w: usize| {
        forget_intent(next, w);
        next.writers[w] = Writer { phase: Phase::Dead, left: 0, ..blank(next.writers[w].left) };
    };
    dies(&mut next, w);
    if setup.local != Local::Off {
        let at = setup.writer_at(w);
        clear_local(setup, &mut next, at);
        for load in (0..setup.slots()).filter(|load| setup.load_at(*load) == at) {
            next.drop_load(load);
        }
        let other = 1 - w;
        if setup.writer_at(other) == at {
            let ver = next.writers[other].ver;
            next.ended = next.ended.max(ver);
            dies(&mut next, other);
        }
    }
    steps.add(Event::Crash(w), next);
}

/// The next thing to do after the present one.
fn go_on(setup: &Setup, next: &mut State, w: usize) {
    let mut order = [Phase::Open, Phase::Committed, Phase::Local, Phase::Publish, Phase::Ack];
    if setup.has(Bug::LocalBeforeShared) {
        order.swap(1, 2);
    }
    let exists = |phase: &Phase| match phase {
        Phase::Committed => setup.shared(),
        Phase::Local => setup.local != Local::Off,
        Phase::Publish => setup.local == Local::Bus,
        _ => true,
    };
    let now = next.writers[w].phase;
    let after = order.into_iter().skip_while(|phase| *phase != now).skip(1).find(exists);
    next.writers[w].phase = after.unwrap_or(Phase::Ack);
    if next.writers[w].phase == Phase::Ack && !next.writers[w].owed {
        // From here on nothing but the version matters.
        forget_intent(next, w);
        let writer = next.writers[w];
        next.writers[w] = Writer { phase: Phase::Ack, ver: writer.ver, ..blank(writer.left) };
    }
}

/// The write path ends, whether or not the caller learns that it succeeded.
fn end(next: &mut State, setup: &Setup, w: usize) {
    let writer = next.writers[w];
    let at = &mut next.instances[setup.writer_at(w)];
    if writer.owed && at.journal && !setup.owed_counts {
        at.own = at.own.max(writer.ver);
    } else {
        next.ended = next.ended.max(writer.ver);
    }
    end_unchanged(next, w);
}

fn end_unchanged(next: &mut State, w: usize) {
    forget_intent(next, w);
    next.writers[w] = blank(next.writers[w].left);
}

fn blank(left: u8) -> Writer {
    Writer {
        phase: Phase::Idle,
        left,
        prepared: Prepared::No,
        changed: false,
        late: false,
        ver: 0,
        known: false,
        inc: 0,
        owed: false,
    }
}

/// The script that adds an intent; whatever else stood there is gone.
fn append(setup: &Setup, next: &mut State, w: usize) {
    let bit = 1 << w;
    match next.key {
        Content::Intents { members, shared, under } if members & bit == 0 => {
            let all = members | bit;
            next.key = Content::Intents { members: all, shared: (shared | all) & !GHOST, under };
        }
        Content::Intents { .. } => {}
        other => {
            let kept = if setup.has(Bug::IntentRestoresValue) { next.usable(setup, other) } else { None };
            let under = kept.map_or(0, |ver| ver + 1);
            next.set_key(Content::Intents { members: bit, shared: 0, under });
        }
    }
}

/// The script that takes an intent away after COMMIT. The last one leaving clears the key; one that finds its intent
/// gone deletes whatever value or lease is there.
fn leave(setup: &Setup, next: &mut State, w: usize) {
    if setup.protocol == Protocol::Lease {
        let left = if setup.has(Bug::TombstoneAllowsByAbsence) { Content::Tombstone } else { Content::Empty };
        return next.set_key(left);
    }
    let (bit, writer) = (1 << w, next.writers[w]);
    match next.key {
        Content::Intents { members, shared, .. } if members == bit => {
            let alone = shared & bit == 0 || setup.has(Bug::PublishAlways);
            if setup.publish && writer.known && alone && !next.oom {
                let inc = if setup.has(Bug::PublishStampedLate) { next.inc } else { writer.inc };
                next.set_key(Content::Value { ver: writer.ver, inc });
            } else {
                next.set_key(Content::Empty);
            }
        }
        // What is left of the set would have to be stored.
        Content::Intents { members, .. } if members & bit != 0 && next.oom => next.set_key(Content::Empty),
        Content::Intents { members, .. } if members & bit != 0 => remove_intent(next, w),
        _ if setup.has(Bug::VanishedIntentIgnored) => {}
        _ => delete(setup, next),
    }
}

/// Deletes whatever value or lease is there, on behalf of a write that has no intent there. The intents of others stay,
/// and learn that they were not alone: a write they did not meet may have been committed after theirs.
pub(super) fn delete(setup: &Setup, next: &mut State) {
    match next.key {
        Content::Intents { .. } if setup.has(Bug::DeleteLeavesAlone) => {}
        Content::Intents { members, under, .. } if !next.oom && !setup.has(Bug::DeleteTakesIntents) => {
            next.key = Content::Intents { members, shared: members & !GHOST, under };
        }
        _ => next.set_key(Content::Empty),
    }
}

fn remove_intent(next: &mut State, w: usize) {
    let bit = 1 << w;
    match next.key {
        Content::Intents { members, .. } if members == bit => next.set_key(Content::Empty),
        Content::Intents { members, shared, under } if members & bit != 0 => {
            next.key = Content::Intents { members: members & !bit, shared: shared & !bit, under };
        }
        _ => {}
    }
}

/// The write is over: its intent, wherever one is left, belongs to nobody.
fn forget_intent(next: &mut State, w: usize) {
    let bit = 1 << w;
    for content in [&mut next.key, &mut next.copy] {
        if let Content::Intents { members, shared, .. } = content
            && *members & bit != 0
        {
            *members = *members & !bit | GHOST;
            *shared &= !bit;
        }
    }
}

/// Removes the entry and takes the flights off.
pub(super) fn clear_local(setup: &Setup, next: &mut State, at: usize) {
    (next.instances[at].entry, next.instances[at].age) = (0, 0);
    if !setup.has(Bug::FlightJoinedAcrossWrite) {
        for load in (0..setup.slots()).filter(|load| setup.load_at(*load) == at) {
            next.loads[load].ticket = false;
        }
    }
}
