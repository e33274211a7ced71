//! Breadth-first exploration: every state within the bounds, each once, and the shortest way to a broken promise.

use std::time::{Duration, Instant};

use super::event::{Breach, Rule};
use super::setup::Setup;
use super::state::{Packed, State};
use super::step::{Next, check, successors, unrest};

/// What an exploration found.
#[derive(Debug)]
pub(super) struct Findings {
    pub(super) states: usize,
    pub(super) transitions: u64,
    /// The steps to the state farthest from the start.
    pub(super) depth: usize,
    pub(super) elapsed: Duration,
    pub(super) violation: Option<Violation>,
    /// More states than allowed: nothing is proven.
    pub(super) cut_short: bool,
}

/// A broken promise and the shortest way to it.
#[derive(Debug)]
pub(super) struct Violation {
    pub(super) breach: Breach,
    pub(super) trace: Vec<String>,
}

/// Explores `setup` until a promise is broken, or to the end.
pub(super) fn explore(setup: &Setup, most: usize) -> Findings {
    let started = Instant::now();
    let mut seen = Seen::new();
    let mut transitions = 0;
    let mut depth = 0;
    let mut found: Option<(Breach, Vec<u32>, Option<Next>)> = None;
    let mut cut_short = false;

    let initial = State::initial(setup).canonical(setup);
    seen.insert(initial.pack(), NO_PARENT);
    let mut layer = vec![(initial, 0_u32)];
    let mut following = Vec::new();
    let mut nexts = Vec::with_capacity(64);
    'layers: while !layer.is_empty() {
        for (state, index) in &layer {
            successors(setup, state, &mut nexts);
            transitions += nexts.len() as u64;
            let rank = unrest(setup, state);
            let ends = rank == 0 || nexts.iter().any(|n| n.event.is_orderly() && unrest(setup, &n.state) < rank);
            if !ends {
                let breach = Breach { rule: Rule::Stuck, tier: "", instance: 0, got: 0, wanted: 0 };
                found = Some((breach, seen.path(*index), None));
                break 'layers;
            }
            for next in &nexts {
                if let Some(breach) = next.breach {
                    found = Some((breach, seen.path(*index), Some(*next)));
                    break 'layers;
                }
                let state = next.state.canonical(setup);
                let Some(at) = seen.insert(state.pack(), *index) else { continue };
                if let Some(breach) = check(setup, &state) {
                    found = Some((breach, seen.path(at), None));
                    break 'layers;
                }
                following.push((state, at));
            }
            if seen.len() > most {
                cut_short = true;
                break 'layers;
            }
        }
        std::mem::swap(&mut layer, &mut following);
        following.clear();
        depth += usize::from(!layer.is_empty());
    }
    let violation = found.map(|(breach, path, last)| Violation { breach, trace: tell(setup, &seen, &path, last) });
    Findings { states: seen.len(), transitions, depth, elapsed: started.elapsed(), violation, cut_short }
}

/// Puts the way into words. Walks without making names canonical, so that everybody keeps theirs.
fn tell(setup: &Setup, seen: &Seen, path: &[u32], last: Option<Next>) -> Vec<String> {
    let mut state = State::initial(setup);
    let mut nexts = Vec::new();
    let mut told = Vec::new();
    for at in path.iter().skip(1) {
        successors(setup, &state, &mut nexts);
        let wanted = seen.states[*at as usize];
        if let Some(next) = nexts.iter().find(|next| next.state.canonical(setup).pack() == wanted) {
            told.push(next.event.to_string());
            state = next.state;
        }
    }
    if let Some(last) = last {
        // The same step under the names of this walk.
        successors(setup, &state, &mut nexts);
        let wanted = last.state.canonical(setup).pack();
        let same = |next: &&Next| next.breach.is_some() && next.state.canonical(setup).pack() == wanted;
        told.push(nexts.iter().find(same).map_or(last.event, |next| next.event).to_string());
    }
    told
}

/// The states seen, in the order of their discovery, with the state each was discovered from.
struct Seen {
    states: Vec<Packed>,
    parents: Vec<u32>,
    /// Open addressing; [`NO_PARENT`] marks a free place, everything else is an index into `states`.
    table: Vec<u32>,
}

const NO_PARENT: u32 = u32::MAX;

impl Seen {
    fn new() -> Self {
        Self { states: Vec::new(), parents: Vec::new(), table: vec![NO_PARENT; 1 << 12] }
    }

    fn len(&self) -> usize {
        self.states.len()
    }

    /// The index of a state that was not known yet.
    fn insert(&mut self, state: Packed, parent: u32) -> Option<u32> {
        if self.states.len() * 2 >= self.table.len() {
            self.table = vec![NO_PARENT; self.table.len() * 2];
            for (index, state) in self.states.iter().enumerate() {
                let place = place(&self.table, state, |_| false);
                self.table[place] = index as u32;
            }
        }
        let place = place(&self.table, &state, |index| self.states[index as usize] == state);
        if self.table[place] != NO_PARENT {
            return None;
        }
        let index = self.states.len() as u32;
        self.table[place] = index;
        self.states.push(state);
        self.parents.push(parent);
        Some(index)
    }

    /// The indices from the start to a state.
    fn path(&self, mut at: u32) -> Vec<u32> {
        let mut path = Vec::new();
        while at != NO_PARENT {
            path.push(at);
            at = self.parents[at as usize];
        }
        path.reverse();
        path
    }
}

/// Where a state stands in the table, or may be put.
fn place(table: &[u32], state: &Packed, is_same: impl Fn(u32) -> bool) -> usize {
    let mask = table.len() - 1;
    let mut at = hash(state) as usize & mask;
    while table[at] != NO_PARENT && !is_same(table[at]) {
        at = (at + 1) & mask;
    }
    at
}

fn hash(state: &Packed) -> u64 {
    let mixed = state.iter().fold(0x9e37_79b9_7f4a_7c15_u64, |hash, word| {
        let hash = (hash ^ word).wrapping_mul(0xff51_afd7_ed55_8ccd);
        hash ^ hash >> 32
    });
    mixed.wrapping_mul(0xc4ce_b9fe_1a85_ec53) ^ mixed >> 29
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_is_seen_once() {
        let mut seen = Seen::new();
        for round in 0..2 {
            for n in 0..10_000_u64 {
                assert_eq!(seen.insert([n, n % 7, 0], NO_PARENT).is_some(), round == 0, "{n}");
            }
        }
        assert_eq!(seen.len(), 10_000);
    }

    #[test]
    fn a_path_goes_back_to_the_start() {
        let mut seen = Seen::new();
        let first = seen.insert([1, 0, 0], NO_PARENT).unwrap();
        let second = seen.insert([2, 0, 0], first).unwrap();
        seen.insert([3, 0, 0], first).unwrap();
        let last = seen.insert([4, 0, 0], second).unwrap();
        assert_eq!(seen.path(last), [first, second, last]);
    }
}
