//! The checker itself, on histories made by hand: each of its rules has one that breaks it and one that just does not.

use super::*;
use crate::history::event::{Event, Op, op};
use crate::history::table::Version;

/// A history under construction. Times are small numbers; nobody's clock differs.
#[derive(Default)]
pub(super) struct Story {
    processes: HashMap<u16, Process>,
    ground: Ground,
    serial: u32,
}

pub(super) const STRICT: Promise =
    Promise { slack: 0, others: Some(0), monotonic: Monotonic::Everybody, unknown: 50, budget: 1_000 };

impl Story {
    fn log(&mut self, process: u16, event: Event) -> &mut Self {
        let log = self.processes.entry(process).or_insert_with(|| Process { number: process, ..Process::default() });
        log.events.push(event);
        self
    }

    fn op(&mut self, process: u16) -> Op {
        self.serial += 1;
        op(process, 0, self.serial)
    }

    fn commit(&mut self, key: i64, ver: i64, writer: Option<Op>, process: u16) {
        let version = Version { ver, writer, process: Some(process), hidden: false };
        self.ground.entry(key).or_default().push(version);
    }

    /// A write of `key` that ended as said; it made `ver`, if that is given. The write.
    pub(super) fn write(
        &mut self,
        process: u16,
        (at, end): (u64, u64),
        (key, ver): (i64, Option<i64>),
        outcome: Outcome,
    ) -> Op {
        let op = self.op(process);
        ver.into_iter().for_each(|ver| self.commit(key, ver, Some(op), process));
        let wrote = if outcome == Outcome::Done { ver.map(|ver| (key, ver)).into_iter().collect() } else { Vec::new() };
        self.log(process, Event::Begin { op, at, call: Call::Update, writes: vec![key], deletes: vec![] });
        self.log(process, Event::End { op, at: end, outcome, wrote, deleted: 0 });
        op
    }

    fn done(&mut self, process: u16, times: (u64, u64), key: i64, ver: i64) -> Op {
        self.write(process, times, (key, Some(ver)), Outcome::Done)
    }

    fn delete(&mut self, process: u16, (at, end): (u64, u64), key: i64, ver: Option<i64>, outcome: Outcome) {
        let op = self.op(process);
        ver.into_iter().for_each(|ver| self.commit(key, ver, None, process));
        self.log(process, Event::Begin { op, at, call: Call::Delete, writes: vec![], deletes: vec![key] });
        let deleted = u64::from(outcome == Outcome::Done);
        self.log(process, Event::End { op, at: end, outcome, wrote: vec![], deleted });
    }

    fn seen(&self, key: i64, ver: Option<i64>) -> Seen {
        let made = |ver| self.ground.get(&key)?.iter().find(|version| version.ver == ver)?.writer;
        Seen { key, ver, writer: ver.and_then(made).unwrap_or(0), whole: true }
    }

    pub(super) fn read(&mut self, process: u16, task: u16, (at, end): (u64, u64), key: i64, ver: Option<i64>) {
        let seen = vec![self.seen(key, ver)];
        self.log(process, Event::Read { task, call: Call::Get, at, end, seen });
    }

    fn read_as(&mut self, call: Call, (at, end): (u64, u64), seen: Vec<Seen>) {
        self.log(1, Event::Read { task: 1, call, at, end, seen });
    }

    pub(super) fn verdict(self, promise: &Promise) -> Verdict {
        check(&History::collect(self.processes.into_values().collect()), &self.ground, promise)
    }

    fn broken(self, promise: &Promise) -> Vec<Rule> {
        self.verdict(promise).violations.into_iter().map(|violation| violation.rule).collect()
    }
}

fn story(tell: impl FnOnce(&mut Story)) -> Story {
    let mut story = Story::default();
    tell(&mut story);
    story
}

#[test]
fn i1_a_read_after_an_acknowledgement_is_as_new() {
    let tell = |at| {
        story(|story| {
            story.done(1, (0, 10), 7, 1);
            story.done(1, (20, 30), 7, 2);
            story.read(2, 1, (at, 40), 7, Some(1));
        })
    };
    let verdict = tell(31).verdict(&STRICT);
    assert_eq!(verdict.violations.len(), 1);
    assert_eq!((verdict.violations[0].rule, verdict.violations[0].staleness), (Rule::Stale, Some(1)));
    assert_eq!((verdict.staleness.total(), verdict.staleness.oldest()), (1, 1));
    assert_eq!(tell(30).broken(&STRICT), []);
}

#[test]
fn i1_is_relaxed_for_others_by_the_bound_and_for_nobody_else() {
    let promise = Promise { others: Some(100), monotonic: Monotonic::Task, ..STRICT };
    let tell = |reader, at| {
        story(|story| {
            story.done(1, (0, 10), 7, 1);
            story.done(1, (20, 30), 7, 2);
            story.read(reader, 1, (at, at + 1), 7, Some(1));
        })
    };
    assert_eq!(tell(2, 130).broken(&promise), []);
    assert_eq!(tell(2, 131).broken(&promise), [Rule::Stale]);
    assert_eq!(tell(1, 31).broken(&promise), [Rule::Stale]);
    assert_eq!(tell(2, 131).broken(&Promise { others: None, monotonic: Monotonic::Nobody, ..promise }), []);
    assert_eq!(tell(1, 31).broken(&Promise { others: None, monotonic: Monotonic::Nobody, ..promise }), [Rule::Stale]);
}

#[test]
fn i2_nothing_is_invented() {
    let tell = |seen: Seen, end| {
        story(|story| {
            let writer = story.done(1, (0, 10), 7, 1);
            story.done(1, (20, 90), 7, 2);
            story.read_as(Call::Get, (15, end), vec![Seen { writer: seen.writer + writer, ..seen }]);
        })
    };
    let right = Seen { key: 7, ver: Some(1), writer: 0, whole: true };
    assert_eq!(tell(right, 16).broken(&STRICT), []);
    for wrong in [Seen { ver: Some(3), ..right }, Seen { writer: 9, ..right }, Seen { whole: false, ..right }] {
        assert_eq!(tell(wrong, 16).broken(&STRICT), [Rule::Invented], "{wrong:?}");
    }
    // The second write has the next number.
    let early = Seen { ver: Some(2), writer: 1, ..right };
    assert_eq!(tell(early, 19).broken(&STRICT), [Rule::Invented]);
    assert_eq!(tell(early, 20).broken(&STRICT), []);
}

#[test]
fn i2_what_a_transaction_overwrote_itself_is_seen_by_nobody() {
    let mut story = story(|story| {
        story.done(1, (0, 10), 7, 1);
        story.done(1, (20, 30), 7, 2);
        story.read(2, 1, (21, 29), 7, Some(1));
    });
    story.ground.get_mut(&7).unwrap()[0].hidden = true;
    assert_eq!(story.broken(&STRICT), [Rule::Invented]);
}

#[test]
fn i3_time_does_not_run_backwards() {
    let tell = |reader, task, at| {
        story(|story| {
            story.done(1, (0, 10), 7, 1);
            story.done(1, (20, 90), 7, 2);
            story.read(2, 1, (30, 40), 7, Some(2));
            story.read(reader, task, (at, 60), 7, Some(1));
        })
    };
    assert_eq!(tell(3, 1, 41).broken(&STRICT), [Rule::BackInTime]);
    assert_eq!(tell(3, 1, 40).broken(&STRICT), []);
    let by_task = Promise { monotonic: Monotonic::Task, ..STRICT };
    assert_eq!(tell(2, 1, 41).broken(&by_task), [Rule::BackInTime]);
    assert_eq!(tell(2, 2, 41).broken(&by_task), []);
}

#[test]
fn i4_a_task_sees_its_own_write() {
    let broken = story(|story| {
        story.done(1, (0, 10), 7, 1);
        story.done(1, (20, 30), 7, 2);
        story.read(1, 0, (31, 32), 7, Some(1));
    });
    assert_eq!(broken.broken(&STRICT), [Rule::OwnWrite]);
}

#[test]
fn i5_no_acknowledged_write_is_lost_and_no_failed_one_applied() {
    let tell = |ver, outcome| {
        story(|story| {
            story.write(1, (0, 10), (7, ver), outcome);
        })
    };
    assert_eq!(tell(None, Outcome::Done).broken(&STRICT), [Rule::LostWrite]);
    assert_eq!(tell(None, Outcome::Committed).broken(&STRICT), [Rule::LostWrite]);
    assert_eq!(tell(Some(1), Outcome::Failed).broken(&STRICT), [Rule::LostWrite]);
    for (ver, outcome) in [(None, Outcome::Unknown), (Some(1), Outcome::Unknown), (None, Outcome::Failed)] {
        assert_eq!(tell(ver, outcome).broken(&STRICT), []);
    }
    let mut nobody = story(|story| {
        story.done(1, (0, 10), 7, 1);
    });
    nobody.commit(7, 2, Some(op(1, 5, 5)), 1);
    assert_eq!(nobody.broken(&STRICT), [Rule::LostWrite]);
}

#[test]
fn i5_versions_follow_the_order_of_acknowledged_writes() {
    let mut story = story(|story| {
        story.done(1, (0, 10), 7, 1);
        story.done(1, (20, 30), 7, 3);
        story.done(1, (40, 50), 7, 2);
    });
    story.ground.get_mut(&7).unwrap().sort_by_key(|version| version.ver);
    assert_eq!(story.broken(&STRICT), [Rule::LostWrite]);
}

#[test]
fn i5_deletes_leave_a_trace_too() {
    let tell = |ver, outcome| {
        story(|story| {
            story.done(1, (0, 10), 7, 1);
            story.delete(1, (20, 30), 7, ver, outcome);
        })
    };
    assert_eq!(tell(None, Outcome::Done).broken(&STRICT), [Rule::LostWrite]);
    assert_eq!(tell(Some(2), Outcome::Failed).broken(&STRICT), [Rule::LostWrite]);
    assert_eq!(tell(Some(2), Outcome::Done).broken(&STRICT), []);
    assert_eq!(tell(Some(2), Outcome::Unknown).broken(&STRICT), []);
}

#[test]
fn i7_deleted_stays_deleted() {
    let tell = |at, recreated| {
        story(|story| {
            story.done(1, (0, 10), 7, 1);
            story.delete(2, (20, 30), 7, Some(2), Outcome::Done);
            if recreated {
                story.done(1, (32, 34), 7, 3);
            }
            story.read(3, 1, (at, 50), 7, Some(if recreated { 3 } else { 1 }));
        })
    };
    assert_eq!(tell(31, false).broken(&STRICT), [Rule::Undeleted]);
    assert_eq!(tell(30, false).broken(&STRICT), []);
    assert_eq!(tell(31, true).broken(&STRICT), []);
}

#[test]
fn i8_absence_is_not_kept_over_a_created_row() {
    let tell = |at| {
        story(|story| {
            story.read(2, 1, (0, 5), 7, None);
            story.done(1, (10, 20), 7, 1);
            story.read(2, 1, (at, 30), 7, None);
        })
    };
    assert_eq!(tell(21).broken(&STRICT), [Rule::Absent]);
    assert_eq!(tell(20).broken(&STRICT), []);
}

#[test]
fn i3_absence_counts_as_what_it_is() {
    let tell = |end| {
        story(|story| {
            story.done(1, (0, 10), 7, 1);
            story.read(2, 1, (11, 12), 7, Some(1));
            story.delete(1, (20, 90), 7, Some(2), Outcome::Done);
            story.read(2, 1, (13, end), 7, None);
            story.read(3, 1, (40, 41), 7, Some(1));
        })
    };
    assert_eq!(tell(19).broken(&STRICT), [Rule::Absent]);
    // The row was seen gone, and then it was seen again.
    assert_eq!(tell(21).broken(&STRICT), [Rule::BackInTime]);
}

#[test]
fn i9_each_row_of_a_batch_counts() {
    let broken = story(|story| {
        let first = story.done(1, (0, 10), 7, 1);
        let second = story.done(1, (0, 10), 8, 1);
        story.done(2, (20, 30), 8, 2);
        let seen = |key, writer| Seen { key, ver: Some(1), writer, whole: true };
        story.read_as(Call::GetMany, (31, 32), vec![seen(7, first), seen(8, second)]);
    });
    let violations = broken.verdict(&STRICT).violations;
    assert_eq!(
        violations.iter().map(|violation| (violation.rule, violation.key)).collect::<Vec<_>>(),
        [(Rule::Stale, 8)]
    );
}

#[test]
fn i10_what_begins_ends_in_time() {
    let tell = |end: u64| {
        story(|story| {
            story.write(1, (0, end), (7, None), Outcome::Failed);
            story.log(1, Event::Failed { at: 5, end: end + 5 });
        })
    };
    assert_eq!(tell(1_000).broken(&STRICT), []);
    assert_eq!(tell(1_001).broken(&STRICT), [Rule::Late, Rule::Late]);
    let mut endless = Story::default();
    let op = endless.op(1);
    endless.log(1, Event::Begin { op, at: 0, call: Call::Update, writes: vec![7], deletes: vec![] });
    assert_eq!(endless.broken(&STRICT), [Rule::Late]);
}

#[test]
fn a_write_of_unknown_outcome_binds_after_the_bound_if_it_was_applied() {
    let tell = |at, outcome| {
        story(|story| {
            story.done(1, (0, 10), 7, 1);
            story.write(1, (20, 30), (7, Some(2)), outcome);
            story.read(2, 1, (at, 100), 7, Some(1));
        })
    };
    assert_eq!(tell(80, Outcome::Unknown).broken(&STRICT), []);
    assert_eq!(tell(81, Outcome::Unknown).broken(&STRICT), [Rule::Stale]);
    assert_eq!(tell(81, Outcome::Committed).broken(&STRICT), []);
}

#[test]
fn a_delete_of_unknown_outcome_that_another_may_have_made_binds_nobody() {
    let broken = story(|story| {
        story.done(1, (0, 10), 7, 1);
        story.delete(1, (20, 30), 7, None, Outcome::Unknown);
        story.read(2, 1, (81, 82), 7, Some(1));
        story.delete(1, (90, 100), 7, Some(2), Outcome::Done);
    });
    assert_eq!(broken.broken(&STRICT), []);
}

#[test]
fn a_killed_process_leaves_writes_that_bind_after_the_bound() {
    let tell = |at| {
        let mut story = story(|story| {
            story.done(2, (0, 10), 7, 1);
            let op = story.op(1);
            story.commit(7, 2, Some(op), 1);
            story.log(1, Event::Begin { op, at: 20, call: Call::Update, writes: vec![7], deletes: vec![] });
            story.read(2, 1, (at, 200), 7, Some(1));
        });
        story.processes.get_mut(&1).unwrap().killed = Some(30);
        story.verdict(&STRICT)
    };
    let verdict = tell(80);
    assert_eq!((verdict.violations.len(), verdict.orphans, verdict.incoherent), (0, 1, 50));
    let verdict = tell(81);
    assert_eq!(verdict.violations[0].rule, Rule::Stale);
    assert_eq!(verdict.incoherent, 51);
}

#[test]
fn at_the_end_reads_are_what_the_database_has() {
    let promise = Promise { others: None, monotonic: Monotonic::Nobody, ..STRICT };
    let tell = |ver, deleted: bool| {
        story(|story| {
            story.done(1, (0, 10), 7, 1);
            story.write(2, (20, 30), (7, Some(2)), Outcome::Unknown);
            if deleted {
                story.delete(2, (40, 50), 7, Some(3), Outcome::Done);
            }
            let seen = vec![story.seen(7, ver)];
            story.read_as(Call::Sweep, (500, 510), seen);
        })
    };
    assert_eq!(tell(Some(2), false).broken(&promise), []);
    assert_eq!(tell(Some(1), false).broken(&promise), [Rule::Unconverged]);
    assert_eq!(tell(None, true).broken(&promise), []);
    assert_eq!(tell(Some(2), true).broken(&promise), [Rule::Unconverged]);
}

#[test]
fn clocks_that_differ_by_the_slack_accuse_nobody() {
    let tell = |slack| {
        let story = story(|story| {
            story.done(1, (0, 10), 7, 1);
            story.done(1, (20, 30), 7, 2);
            story.read(2, 1, (35, 40), 7, Some(1));
        });
        story.broken(&Promise { slack, ..STRICT })
    };
    assert_eq!(tell(4), [Rule::Stale]);
    assert_eq!(tell(5), []);
}
