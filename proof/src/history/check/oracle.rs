//! The checker beside brute force: small random histories of one register, every order tried.

use super::tests::{STRICT, Story};
use super::*;
use crate::rng::Rng;

#[derive(Clone, Copy, Debug)]
struct Operation {
    begin: u64,
    end: u64,
    what: What,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum What {
    Read(i64),
    Write(i64),
}

/// Whether the operations can be put in an order that respects time, in which each read returns the last write.
fn has_an_order(left: &mut Vec<Operation>, value: i64) -> bool {
    if left.is_empty() {
        return true;
    }
    let first_end = left.iter().map(|operation| operation.end).min().unwrap_or(u64::MAX);
    for at in 0..left.len() {
        let operation = left[at];
        let next = match operation.what {
            _ if operation.begin > first_end => continue,
            What::Read(seen) if seen == value => value,
            What::Read(_) => continue,
            What::Write(ver) if ver == value + 1 => ver,
            What::Write(_) => continue,
        };
        left.swap_remove(at);
        let found = has_an_order(left, next);
        left.push(operation);
        let last = left.len() - 1;
        left.swap(at, last);
        if found {
            return true;
        }
    }
    false
}

/// Writes whose versions follow the order in which a database would have applied them, and reads of anything.
fn operations(rng: &mut Rng) -> Vec<Operation> {
    let mut writes: Vec<(u64, u64, u64)> = (0..1 + rng.below(4))
        .map(|_| {
            let begin = rng.below(24);
            let applied = begin + rng.below(6);
            (applied, begin, applied + rng.below(6))
        })
        .collect();
    writes.sort_unstable();
    let count = writes.len() as u64;
    let writes =
        writes.into_iter().zip(1..).map(|((_, begin, end), ver)| Operation { begin, end, what: What::Write(ver) });
    let mut all: Vec<_> = writes.collect();
    for _ in 0..rng.below(5) {
        let begin = rng.below(30);
        let what = What::Read(rng.below(count + 1) as i64);
        all.push(Operation { begin, end: begin + rng.below(8), what });
    }
    all
}

#[test]
fn the_checker_and_brute_force_agree() {
    let mut rng = Rng::new(7, 0);
    let (mut right, mut wrong) = (0, 0);
    for _ in 0..20_000 {
        let operations = operations(&mut rng);
        let mut story = Story::default();
        // Writes first: reads look up who made what they saw.
        for (at, Operation { begin, end, what }) in operations.iter().enumerate() {
            match what {
                What::Write(ver) => drop(story.write(1 + at as u16, (*begin, *end), (7, Some(*ver)), Outcome::Done)),
                What::Read(0) => story.read(50, at as u16, (*begin, *end), 7, None),
                What::Read(ver) => story.read(50, at as u16, (*begin, *end), 7, Some(*ver)),
            }
        }
        let verdict = story.verdict(&STRICT);
        let possible = has_an_order(&mut operations.clone(), 0);
        assert_eq!(verdict.violations.is_empty(), possible, "{operations:?}\n{:?}", verdict.violations);
        *(if possible { &mut right } else { &mut wrong }) += 1;
    }
    assert!(right > 2_000 && wrong > 2_000, "{right} right and {wrong} wrong histories");
}
