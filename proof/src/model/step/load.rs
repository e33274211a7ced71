//! Reads: hits, joins, leases, the SELECT, the fills.

use super::super::event::{Breach, Event, Rule};
use super::super::setup::{Bug, DELTA, Local, Setup};
use super::super::state::{Content, IDLE, Load, Stage, State};
use super::Steps;

pub(super) fn steps(steps: &mut Steps<'_>) {
    let (setup, from) = (steps.setup, *steps.from);
    if setup.monotonic {
        hit(steps);
    }
    // Of loaders that are alike one is enough.
    let mut idle = [false; 2];
    for load in 0..setup.slots() {
        let at = setup.load_at(load);
        let refreshes = load >= setup.loads.len();
        match from.loads[load].stage {
            Stage::Idle if refreshes => refresh(steps, load),
            Stage::Idle => {
                if !std::mem::replace(&mut idle[at], true) {
                    start(steps, load, at);
                }
            }
            Stage::Early => lease_late(steps, load),
            Stage::Asking | Stage::Bypass => select(steps, load),
            Stage::Loaded => store(steps, load, at, refreshes),
        }
        if from.loads[load].stage != Stage::Idle {
            let mut next = from;
            next.drop_load(load);
            steps.add(Event::Abandon(load), next);
        }
    }
}

/// Changes nothing but what reads have returned.
fn hit(steps: &mut Steps<'_>) {
    let (setup, from) = (steps.setup, *steps.from);
    for instance in 0..from.instances.len() {
        let shared = from.reads_shared(setup, instance).then(|| from.usable(setup, from.key)).flatten();
        for ver in [shared, from.local_hit(setup, instance)].into_iter().flatten() {
            let mut next = from;
            next.returned(setup, ver);
            steps.add(Event::Hit(ver), next);
        }
    }
}

/// A read that found nothing in process. Its `GET` and its `SET NX GET` are one step: a `GET` that finds nothing has
/// no effect, and to begin at the later of the two asks for more.
fn start(steps: &mut Steps<'_>, load: usize, at: usize) {
    let (setup, from) = (steps.setup, *steps.from);
    let local = from.uses_local(setup, at);
    if local {
        if from.local_hit(setup, at).is_some() {
            return;
        }
        if let Some(leader) = (0..setup.slots()).find(|l| from.loads[*l].ticket && setup.load_at(*l) == at)
            && (setup.local != Local::Aged || from.loads[leader].age < DELTA)
        {
            join(steps, Event::JoinLocal(leader), leader, from.local_floor(setup, at));
            return;
        }
    }
    let mut next = from;
    if local {
        for other in (0..setup.slots()).filter(|other| setup.load_at(*other) == at) {
            next.loads[other].ticket = false;
        }
    }
    let begun = Load { floor: from.floor(setup, at), ticket: local, ..IDLE };
    let mut past_redis = next;
    past_redis.loads[load] = Load { stage: Stage::Bypass, ..begun };
    // Without anything to land, a read of the database alone matters only to the reads that come after it.
    let bypass_matters = local || setup.monotonic;

    if !from.reads_shared(setup, at) {
        if bypass_matters {
            steps.add(Event::Start(load), past_redis);
        }
        return;
    }
    if let Some(ver) = from.usable(setup, from.key) {
        if local {
            next.loads[load] = Load { stage: Stage::Loaded, ver, land: true, floor: 0, ..begun };
            steps.add(Event::Start(load), next);
        }
        return;
    }
    match from.key {
        Content::Empty | Content::Value { .. } if setup.has(Bug::SelectBeforeLease) => {
            next.loads[load] = Load { stage: Stage::Early, ver: from.committed, inc: from.inc, ..begun };
            steps.add(Event::Start(load), next);
        }
        Content::Empty | Content::Value { .. } if !from.oom => {
            next.set_key(Content::Lease);
            next.loads[load] = Load { stage: Stage::Asking, permit: true, inc: from.inc, ..begun };
            steps.add(Event::Start(load), next);
            past_redis.set_key(Content::Lease);
            if !bypass_matters {
                past_redis.drop_load(load);
            }
            steps.add(Event::StartLost(load), past_redis);
        }
        Content::Lease => {
            let holder = (0..setup.slots()).find(|l| from.loads[*l].permit && setup.load_at(*l) == at);
            // A lease that a failover brought back was granted before writes that have ended since.
            let current = |l: usize| from.loads[l].inc == from.inc || setup.has(Bug::LeaseJoinedAcrossFailover);
            if let Some(holder) = holder.filter(|l| current(*l)) {
                let leader = from.loads[holder];
                if local && leader.stage == Stage::Loaded {
                    let floor = begun.floor;
                    next.loads[load] = Load { stage: Stage::Loaded, ver: leader.ver, land: true, floor: 0, ..begun };
                    steps.add_with(Event::JoinLease(holder), next, behind(&from, at, leader.ver, floor));
                } else if !local {
                    join(steps, Event::JoinLease(holder), holder, begun.floor);
                }
            }
            if bypass_matters {
                steps.add(Event::Start(load), past_redis);
            }
        }
        _ if bypass_matters => steps.add(Event::Start(load), past_redis),
        _ => {}
    }
}

/// A read that waits for a load: the load then has to be good enough for it too.
fn join(steps: &mut Steps<'_>, event: Event, leader: usize, floor: u8) {
    let mut next = *steps.from;
    let load = &mut next.loads[leader];
    let mut breach = None;
    if load.stage == Stage::Loaded {
        breach = behind(steps.from, steps.setup.load_at(leader), load.ver, floor);
    } else {
        load.floor = load.floor.max(floor);
    }
    steps.add_with(event, next, breach);
}

fn behind(from: &State, instance: usize, got: u8, wanted: u8) -> Option<Breach> {
    let rule = if got < wanted.min(from.seen) { Rule::Backwards } else { Rule::Stale };
    (got < wanted).then_some(Breach { rule, tier: "a load", instance, got, wanted })
}

/// Begins while a value stands: what permits the fill is that very value.
fn refresh(steps: &mut Steps<'_>, load: usize) {
    let (setup, mut next) = (steps.setup, *steps.from);
    if next.reads_shared(setup, 0) && next.usable(setup, next.key).is_some() {
        let floor = next.floor(setup, 0);
        next.loads[load] = Load { stage: Stage::Asking, permit: true, inc: next.inc, floor, ..IDLE };
        steps.add(Event::Refresh(load), next);
    }
}

fn lease_late(steps: &mut Steps<'_>, load: usize) {
    let mut next = *steps.from;
    if next.key == Content::Empty {
        next.set_key(Content::Lease);
        next.loads[load].permit = true;
        next.loads[load].stage = Stage::Loaded;
        next.loads[load].fill = true;
    } else {
        next.drop_load(load);
    }
    steps.add(Event::LeaseLate(load), next);
}

/// The statement takes its snapshot. Its reply, and with it all that follows, comes whenever it likes.
fn select(steps: &mut Steps<'_>, load: usize) {
    let (setup, from) = (steps.setup, *steps.from);
    let mut next = from;
    let fills = from.loads[load].stage == Stage::Asking;
    let keeps = from.committed > 0 || !setup.absent || setup.negative;
    let mine = &mut next.loads[load];
    (mine.stage, mine.ver) = (Stage::Loaded, from.committed);
    (mine.fill, mine.land) = (fills && keeps, mine.ticket && keeps);
    let breach = behind(&from, setup.load_at(load), mine.ver, mine.floor);
    // Nobody reads these any more.
    mine.floor = 0;
    if fills && !keeps {
        give_back(&mut next, load);
    } else {
        next.rest(load);
    }
    next.returned(setup, from.committed);
    steps.add_with(Event::Select(load, from.committed), next, breach);

    if fills && from.instances[setup.load_at(load)].linked {
        let mut next = from;
        give_back(&mut next, load);
        steps.add(Event::Release(load), next);
    }
}

/// Delete-if-equal. A refresh that fails leaves the value alone.
fn give_back(next: &mut State, load: usize) {
    if next.loads[load].permit && next.key == Content::Lease {
        next.set_key(Content::Empty);
    }
    next.drop_load(load);
}

fn store(steps: &mut Steps<'_>, load: usize, at: usize, refreshes: bool) {
    let (setup, from) = (steps.setup, *steps.from);
    let mine = from.loads[load];
    if mine.fill && from.instances[at].linked {
        let mut next = from;
        if !from.oom && is_permitted(setup, &from, load, refreshes) {
            let inc = if setup.has(Bug::StampedAtFill) { from.inc } else { mine.inc };
            next.set_key(Content::Value { ver: mine.ver, inc });
        }
        done_filling(&mut next, load);
        steps.add(Event::Fill(load), next);
    }
    if mine.fill && mine.land {
        let mut next = from;
        done_filling(&mut next, load);
        steps.add(Event::FillLost(load), next);
    }
    if mine.land {
        let mut next = from;
        if mine.ticket {
            next.instances[at].entry = mine.ver + 1;
            next.instances[at].age = mine.age;
        }
        (next.loads[load].ticket, next.loads[load].land, next.loads[load].age) = (false, false, 0);
        next.rest(load);
        steps.add(Event::Land(load), next);
    }
}

fn done_filling(next: &mut State, load: usize) {
    let mine = &mut next.loads[load];
    (mine.fill, mine.permit, mine.copy_permit, mine.inc) = (false, false, false, 0);
    next.rest(load);
}

fn is_permitted(setup: &Setup, from: &State, load: usize, refreshes: bool) -> bool {
    let permit = from.loads[load].permit;
    match setup.bug {
        Some(Bug::FillWithoutLease) => true,
        Some(Bug::RefreshWithoutCas) if refreshes => true,
        Some(Bug::SetNxFill) => permit || from.key == Content::Empty,
        Some(Bug::TokenReused) => from.key == Content::Lease,
        Some(Bug::TombstoneAllowsByAbsence) => from.key != Content::Tombstone,
        _ => permit,
    }
}
