//! The events of all processes as one history.

use std::collections::HashMap;

use crate::history::event::{Call, Event, Op, Outcome, Seen, process_of};

/// The events of one process.
#[derive(Clone, Debug, Default)]
pub struct Process {
    /// Its number.
    pub number: u16,
    /// When it was killed, if it was.
    pub killed: Option<u64>,
    /// What it wrote down.
    pub events: Vec<Event>,
}

/// A write, from its beginning to its end.
#[derive(Clone, Debug)]
pub struct Write {
    /// Which.
    pub op: Op,
    /// The operation.
    pub call: Call,
    /// When it began.
    pub begin: u64,
    /// When it ended; when its process was killed, if that came first. `u64::MAX` when it never ended.
    pub end: u64,
    /// How it ended.
    pub outcome: Outcome,
    /// The rows it was to write.
    pub writes: Vec<i64>,
    /// The rows it was to delete.
    pub deletes: Vec<i64>,
    /// The rows and versions it returned.
    pub wrote: Vec<(i64, i64)>,
    /// How many rows it says it deleted.
    pub deleted: u64,
}

impl Write {
    /// The process that made it.
    pub fn process(&self) -> u16 {
        process_of(self.op)
    }
}

/// A read that ended well.
#[derive(Clone, Debug)]
pub struct Read {
    /// The process that made it.
    pub process: u16,
    /// The task.
    pub task: u16,
    /// The operation.
    pub call: Call,
    /// When it began.
    pub at: u64,
    /// When it ended.
    pub end: u64,
    /// What it saw.
    pub seen: Vec<Seen>,
}

/// Counts of hits and misses of a process at a time.
#[derive(Clone, Copy, Debug)]
pub struct Hits {
    /// The process.
    pub process: u16,
    /// When.
    pub at: u64,
    /// Reads that the cache answered, up to then.
    pub hits: u64,
    /// Reads that it did not, up to then.
    pub misses: u64,
}

/// What all processes did.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// The writes.
    pub writes: Vec<Write>,
    /// The reads.
    pub reads: Vec<Read>,
    /// Begin and end of the reads that failed.
    pub failed: Vec<(u64, u64)>,
    /// What the caches counted.
    pub hits: Vec<Hits>,
    /// The farthest that clocks drifted apart, in nanoseconds.
    pub drift: u64,
    /// When processes were killed.
    pub kills: HashMap<u16, u64>,
}

impl History {
    /// Puts the events of processes together. A write whose process was killed before it ended may have been applied.
    pub fn collect(processes: Vec<Process>) -> Self {
        let mut history = Self::default();
        for Process { number, killed, events } in processes {
            history.kills.extend(killed.map(|at| (number, at)));
            let mut open = HashMap::new();
            for event in events {
                history.add(number, event, &mut open);
            }
            for at in open.into_values() {
                let write = &mut history.writes[at];
                write.end = killed.unwrap_or(u64::MAX);
            }
        }
        history
    }

    fn add(&mut self, process: u16, event: Event, open: &mut HashMap<Op, usize>) {
        match event {
            Event::Begin { op, at, call, writes, deletes } => {
                open.insert(op, self.writes.len());
                self.writes.push(Write {
                    op,
                    call,
                    begin: at,
                    end: u64::MAX,
                    outcome: Outcome::Unknown,
                    writes,
                    deletes,
                    wrote: Vec::new(),
                    deleted: 0,
                });
            }
            Event::End { op, at, outcome, wrote, deleted } => {
                if let Some(place) = open.remove(&op) {
                    let write = &mut self.writes[place];
                    (write.end, write.outcome, write.wrote, write.deleted) = (at, outcome, wrote, deleted);
                }
            }
            Event::Read { task, call, at, end, seen } => self.reads.push(Read { process, task, call, at, end, seen }),
            Event::Failed { at, end } => self.failed.push((at, end)),
            Event::Hits { at, hits, misses } => self.hits.push(Hits { process, at, hits, misses }),
            Event::Drift { nanos } => self.drift = self.drift.max(nanos),
        }
    }
}
