//! The part of the exploration that is small enough for a debug build.

use super::catalogue::{Case, broken, good, limits};
use super::event::{Event, Rule};
use super::explore::explore;
use super::setup::{Bug, Setup};
use super::state::{Content, State};
use super::step::{check, successors, unrest};
use super::{MOST_STATES, figure, is_as_expected, told};
use crate::parallel;

/// More states than any mistake needs.
const FEW: usize = 60_000;

#[test]
fn every_mistake_is_found_with_its_way() {
    for case in broken() {
        let found = explore(&case.setup, FEW);
        assert!(is_as_expected(&case, &found), "{} is not found in {}", case.setup.name, figure(&found));
        let violation = found.violation.as_ref().unwrap();
        assert!(!violation.trace.is_empty());
        assert!(told(&case, &found).unwrap().contains(&violation.breach.to_string()));
    }
}

#[test]
fn a_mistake_is_the_only_reason_for_its_violation() {
    for Case { setup, .. } in broken() {
        let found = explore(&Setup { bug: None, ..setup }, 15_000);
        assert!(found.violation.is_none(), "{}: {:?}", setup.name, found.violation);
    }
}

#[test]
fn the_limits_are_where_they_are_said_to_be() {
    for case in limits() {
        let found = explore(&case.setup, FEW);
        assert!(is_as_expected(&case, &found), "{}: {}", case.setup.name, figure(&found));
    }
}

#[test]
fn small_bounds_hold() {
    for case in good() {
        let setup = Setup { writes: [1, case.setup.writes[1].min(1)], loads: &case.setup.loads[..2], ..case.setup };
        let found = explore(&setup, 12_000);
        assert!(found.violation.is_none(), "{}: {:?}", setup.name, found.violation);
    }
}

#[test]
fn a_complete_exploration_says_so() {
    let small = Setup { writes: [1, 1], loads: &[0, 0], ..Setup::LEASE };
    let found = explore(&small, FEW);
    assert!(found.violation.is_none() && !found.cut_short && found.depth > 10, "{found:?}");
    let short = explore(&small, found.states - 1);
    assert!(short.cut_short);
}

#[test]
fn mistakes_are_told_apart() {
    let rule = |bug| {
        let case = broken().into_iter().find(|case| case.setup.bug == Some(bug)).unwrap();
        explore(&case.setup, FEW).violation.unwrap().breach.rule
    };
    assert_eq!(rule(Bug::DirtyFill), Rule::Uncommitted);
    assert_eq!(rule(Bug::LeaseImmortal), Rule::Stuck);
    assert_eq!(rule(Bug::FillWithoutLease), Rule::Stale);
    let case = limits().into_iter().find(|case| case.setup.monotonic).unwrap();
    assert_eq!(explore(&case.setup, FEW).violation.unwrap().breach.rule, Rule::Backwards);
}

#[test]
fn findings_stand_in_the_order_of_the_cases() {
    let cases: Vec<Case> = broken().into_iter().take(4).collect();
    let found = parallel::each(&cases, |case| explore(&case.setup, MOST_STATES));
    let alone: Vec<usize> = cases.iter().map(|case| explore(&case.setup, FEW).states).collect();
    assert_eq!(found.iter().map(|found| found.states).collect::<Vec<_>>(), alone);
}

#[test]
fn names_are_unique() {
    let mut names: Vec<_> = good().into_iter().chain(limits()).chain(broken()).map(|case| case.setup.name).collect();
    let all = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), all);
}

#[test]
fn a_fill_needs_the_lease_it_began_with() {
    let setup = Setup::LEASE;
    let mut state = State::initial(&setup);
    let mut nexts = Vec::new();
    let mut take = |state: &State, wanted: Event| {
        successors(&setup, state, &mut nexts);
        nexts.iter().find(|next| next.event == wanted).unwrap().state
    };
    state = take(&state, Event::Start(0));
    state = take(&state, Event::Select(0, 0));
    let filled = take(&state, Event::Fill(0));
    assert_eq!(filled.key, Content::Value { ver: 0, inc: 0 });
    // The lease expires; another load takes one; the first may no longer fill.
    state = take(&state, Event::Expire);
    state = take(&state, Event::Start(1));
    state = take(&state, Event::Fill(0));
    assert_eq!(state.key, Content::Lease);
    assert!(unrest(&setup, &state) > 0);
    assert_eq!(unrest(&setup, &State::initial(&setup)), 0);
}

#[test]
fn a_stale_value_is_seen_at_once() {
    let setup = Setup::LEASE;
    let mut state = State::initial(&setup);
    state.committed = 1;
    state.key = Content::Value { ver: 0, inc: 0 };
    assert_eq!(check(&setup, &state), None);
    state.ended = 1;
    assert_eq!(check(&setup, &state).unwrap().rule, Rule::Stale);
    state.key = Content::Value { ver: 2, inc: 0 };
    assert_eq!(check(&setup, &state).unwrap().rule, Rule::Uncommitted);
}
