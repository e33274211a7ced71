//! Which schedules of a scenario are run.
//!
//! A schedule is run from its beginning each time: the code under test cannot be copied in the middle. A systematic
//! search goes back to the last step that had an alternative and takes that.
//!
//! Schedules that differ in the order of independent steps alone come to the same. Of these one is run: sleep sets
//! (Godefroid, *Partial-Order Methods for the Verification of Concurrent Systems*, 1996) with the dependencies that the
//! steps show when they are taken. Every state that any schedule reaches is still reached, and looked at.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::history::Breach;
use super::scenario::{Scenario, Search};
use super::schedule::{Ended, Guide, run};
use super::step::{Footprint, Phase, Step};
use super::twin::Twin;
use crate::rng::Rng;

/// What a search came to.
#[derive(Debug)]
pub(super) struct Findings {
    /// Schedules run to their end.
    pub(super) schedules: u64,
    /// Schedules left because what follows was run already.
    pub(super) pruned: u64,
    pub(super) steps: u64,
    /// Different things that readers came to see.
    pub(super) outcomes: usize,
    /// Nothing is left to run within the bounds of the search.
    pub(super) complete: bool,
    pub(super) lasted: Duration,
    pub(super) found: Option<Found>,
}

/// A broken promise and how to get there.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) breach: Breach,
    /// Which of the steps that could be taken was taken, each time.
    pub(super) choices: Vec<usize>,
}

/// Where a search ends though it is not complete.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) schedules: u64,
    pub(super) seed: u64,
}

/// Searches the schedules of a scenario for a broken promise.
///
/// # Errors
/// When a schedule cannot be run.
pub(super) fn explore(scenario: &Scenario, limits: Limits, twin: Option<&Arc<Twin>>) -> Result<Findings, String> {
    let started = Instant::now();
    let mut findings = Findings {
        schedules: 0,
        pruned: 0,
        steps: 0,
        outcomes: 0,
        complete: false,
        lasted: Duration::ZERO,
        found: None,
    };
    let mut outcomes = HashSet::new();
    let mut plan = Plan::new(scenario.search, limits);
    loop {
        let ended = run(scenario, &mut plan, twin, false)?;
        findings.steps += ended.steps;
        findings.schedules += u64::from(!ended.left);
        findings.pruned += u64::from(ended.left);
        if !ended.left {
            outcomes.insert(digest(&ended));
        }
        if let Some(text) = plan.diverged.take() {
            return Err(text);
        }
        if let Some(breach) = ended.breach {
            findings.found = Some(Found { breach, choices: plan.choices() });
            break;
        }
        if !plan.advance() {
            findings.complete = matches!(scenario.search, Search::All | Search::Deviations(_));
            break;
        }
        if findings.schedules >= limits.schedules {
            break;
        }
    }
    findings.outcomes = outcomes.len();
    findings.lasted = started.elapsed();
    Ok(findings)
}

fn digest(ended: &Ended) -> u64 {
    let mut hasher = DefaultHasher::new();
    ended.outcome.hash(&mut hasher);
    hasher.finish()
}

/// A systematic or random choice of schedules.
struct Plan {
    search: Search,
    /// The steps of the present schedule, from its beginning.
    nodes: Vec<Node>,
    /// How many of them the present run has taken.
    at: usize,
    rng: Rng,
    /// Random schedules left.
    left: u64,
    /// The runs of one schedule were not alike.
    diverged: Option<String>,
}

/// A state of the present schedule.
struct Node {
    enabled: Vec<Step>,
    /// The place of the step taken.
    chosen: usize,
    /// What it touched.
    touched: Footprint,
    /// Steps whose schedules were run already, from this state or an earlier one.
    asleep: Vec<(Step, Footprint)>,
    /// How often the calm order was left up to here.
    deviations: u32,
}

impl Plan {
    fn new(search: Search, limits: Limits) -> Self {
        let left = if let Search::Random(schedules) = search { schedules } else { 0 };
        Self { search, nodes: Vec::new(), at: 0, rng: Rng::new(limits.seed, 0), left, diverged: None }
    }

    fn choices(&self) -> Vec<usize> {
        self.nodes[..self.at].iter().map(|node| node.chosen).collect()
    }

    /// Goes on to the next schedule; false when there is none.
    fn advance(&mut self) -> bool {
        self.at = 0;
        if let Search::Random(_) = self.search {
            self.nodes.clear();
            self.left = self.left.saturating_sub(1);
            return self.left > 0;
        }
        while let Some(mut node) = self.nodes.pop() {
            if self.search == Search::All {
                node.asleep.push((node.enabled[node.chosen], node.touched));
            }
            if let Some(next) = self.alternative(&node) {
                node.chosen = next;
                self.nodes.push(node);
                return true;
            }
        }
        false
    }

    /// The next step to take from a state; nothing when none is worth it.
    fn alternative(&self, node: &Node) -> Option<usize> {
        let awake = |at: &usize| node.asleep.iter().all(|(step, _)| *step != node.enabled[*at]);
        match self.search {
            Search::All => (0..node.enabled.len()).find(awake),
            Search::Deviations(most) if node.deviations < most => {
                Some(node.chosen + 1).filter(|at| *at < node.enabled.len())
            }
            Search::Deviations(_) | Search::Random(_) => None,
        }
    }

    /// The state behind the last one, with the first step that is worth taking there.
    fn extend(&mut self, enabled: &[Step]) -> Option<usize> {
        let (mut asleep, mut deviations) = (Vec::new(), 0);
        if let Some(last) = self.nodes.last() {
            let independent = last.asleep.iter().filter(|(_, touched)| !touched.conflicts(last.touched));
            asleep = independent.copied().collect();
            deviations = last.deviations + u32::from(last.chosen > 0);
        }
        let mut node = Node { enabled: enabled.to_vec(), chosen: 0, touched: Footprint::default(), asleep, deviations };
        node.chosen = match self.search {
            Search::Random(_) => {
                // Faults come last. They happen at every step, but most schedules are to come far.
                let calm = enabled.iter().filter(|step| step.phase != Phase::Fault).count();
                let among = if calm > 0 && self.rng.below(FAULTS_ONE_IN) > 0 { calm } else { enabled.len() };
                self.rng.below(among as u64) as usize
            }
            Search::Deviations(_) => 0,
            Search::All => self.alternative(&node)?,
        };
        let chosen = node.chosen;
        self.nodes.push(node);
        Some(chosen)
    }
}

impl Guide for Plan {
    fn next(&mut self, enabled: &[Step]) -> Option<Step> {
        let chosen = match self.nodes.get(self.at) {
            Some(node) if node.enabled == enabled => node.chosen,
            Some(node) => {
                let (before, now) = (&node.enabled, enabled);
                self.diverged = Some(format!("two runs of a schedule differ: {before:?} and {now:?}"));
                return None;
            }
            None => self.extend(enabled)?,
        };
        self.at += 1;
        Some(enabled[chosen])
    }

    fn took(&mut self, touched: Footprint) {
        if let Some(node) = self.nodes.get_mut(self.at - 1) {
            node.touched = touched;
        }
    }
}

/// One random choice in so many is between faults too.
const FAULTS_ONE_IN: u64 = 4;

/// A shorter way to the same kind of broken promise, if leaving out choices, or making them calm, still leads there.
///
/// # Errors
/// When a schedule cannot be run.
pub(super) fn shorten(scenario: &Scenario, choices: &[usize]) -> Result<Vec<usize>, String> {
    let breaks = |choices: &[usize]| {
        let mut replay = Replay::new(choices);
        run(scenario, &mut replay, None, false).map(|ended| ended.breach.map(|_| (ended.steps, replay.taken)))
    };
    let Some((mut steps, mut best)) = breaks(choices)? else { return Ok(choices.to_vec()) };
    loop {
        let mut shorter = None;
        for at in 0..best.len() {
            let mut without = best.clone();
            without.remove(at);
            let calm = best.iter().enumerate().map(|(n, choice)| if n == at { 0 } else { *choice }).collect();
            for candidate in [without, calm] {
                if let Some((fewer, taken)) = breaks(&candidate)?
                    && fewer < steps
                {
                    shorter = Some((fewer, taken));
                }
            }
            if shorter.is_some() {
                break;
            }
        }
        match shorter {
            Some(found) => (steps, best) = found,
            None => return Ok(best),
        }
    }
}

/// Repeats a schedule.
pub(super) struct Replay<'a> {
    choices: std::slice::Iter<'a, usize>,
    /// The steps taken and what happened within each.
    pub(super) told: Vec<(Step, Vec<String>)>,
    /// Which steps were taken, as choices.
    taken: Vec<usize>,
    last: Option<Step>,
}

impl<'a> Replay<'a> {
    pub(super) fn new(choices: &'a [usize]) -> Self {
        Self { choices: choices.iter(), told: Vec::new(), taken: Vec::new(), last: None }
    }
}

impl Guide for Replay<'_> {
    /// The calmest step once the choices are used up.
    fn next(&mut self, enabled: &[Step]) -> Option<Step> {
        let at = self.choices.next().copied().unwrap_or(0).min(enabled.len().saturating_sub(1));
        self.taken.push(at);
        self.last = enabled.get(at).copied();
        self.last
    }

    fn told(&mut self, notes: Vec<String>) {
        self.told.extend(self.last.map(|step| (step, notes)));
    }
}
