//! The explorer finds what it must, and what it leaves out changes nothing.

use super::broken::Bug;
use super::catalogue;
use super::scenario::{Scenario, Search};
use super::schedule::run;
use super::search::{Findings, Limits, Replay, explore, shorten};

const LIMITS: Limits = Limits { schedules: 40, seed: 1 };

fn named(name: &str) -> Scenario {
    catalogue::all().into_iter().find(|scenario| scenario.label() == name).unwrap()
}

#[test]
fn every_scenario_holds_at_its_beginning() {
    for scenario in catalogue::sound() {
        // What happens late is not at the beginning.
        let schedules = if scenario.promise.undecided.is_zero() { LIMITS.schedules } else { 500 };
        let findings = explore(&scenario, Limits { schedules, ..LIMITS }, None).unwrap();
        assert!(findings.found.is_none(), "{}: {:?}", scenario.name, findings.found);
    }
}

#[test]
fn mistakes_are_found() {
    // These hide behind many schedules.
    let slow = [Bug::ClearTakesAll, Bug::LeaseIncarnationIgnored, Bug::WithdrawTakesAll];
    let quick = |scenario: &Scenario| !scenario.bug.is_some_and(|bug| slow.contains(&bug));
    for scenario in catalogue::broken().into_iter().chain(catalogue::LIMITS.to_vec()).filter(quick) {
        let findings = explore(&scenario, Limits { schedules: 5_000, ..LIMITS }, None).unwrap();
        assert!(findings.found.is_some(), "{} is not found in {} schedules", scenario.name, findings.schedules);
    }
}

#[test]
fn schedules_left_out_come_to_nothing_new() {
    for name in ["miss, write", "in process alone, two readers", "in process alone, entries, batch"] {
        let every = |search| -> Findings {
            let scenario = Scenario { search, ..named(name) };
            let findings = explore(&scenario, Limits { schedules: 100_000, ..LIMITS }, None).unwrap();
            assert!(findings.complete, "{name}: {} schedules", findings.schedules);
            findings
        };
        let (some, all) = (every(Search::All), every(Search::Deviations(u32::MAX)));
        assert_eq!(some.outcomes, all.outcomes, "{name}");
        assert!(some.schedules < all.schedules, "{name}: nothing was left out of {}", all.schedules);
    }
}

#[test]
fn a_finding_is_shortened_and_replayed() {
    let scenario = named("lease token used again");
    let found = explore(&scenario, LIMITS, None).unwrap().found.unwrap();
    let short = shorten(&scenario, &found.choices).unwrap();
    for _ in 0..2 {
        let ended = run(&scenario, &mut Replay::new(&short), None, false).unwrap();
        assert_eq!(ended.breach.as_ref(), Some(&found.breach));
        assert!(ended.steps as usize <= found.choices.len());
    }
}
