//! What a process writes down: one JSON line per event.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

/// Identifies a write: the process, the task and a number of its own.
pub type Op = i64;

/// The write number `serial` of a task of a process.
pub fn op(process: u16, task: u16, serial: u32) -> Op {
    i64::from(process) << 40 | i64::from(task & 0xff) << 32 | i64::from(serial)
}

/// The process that made a write.
pub fn process_of(op: Op) -> u16 {
    u16::try_from(op >> 40).unwrap_or(u16::MAX)
}

/// The task that made a write.
pub fn task_of(op: Op) -> u16 {
    u16::try_from(op >> 32 & 0xff).unwrap_or(u16::MAX)
}

/// Which operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Call {
    /// Inserts a row.
    Create,
    /// Deletes a row.
    Delete,
    /// Deletes rows.
    DeleteMany,
    /// Reads a row.
    Get,
    /// Reads rows.
    GetMany,
    /// A read after everything has come to rest: what it sees must be what the database has.
    Sweep,
    /// What stands inside a savepoint of a transaction.
    Savepoint,
    /// Several writes in a transaction.
    Transaction,
    /// Updates a row.
    Update,
    /// Updates rows.
    UpdateMany,
    /// Inserts or updates a row.
    Upsert,
    /// Inserts or updates rows.
    UpsertMany,
}

/// How a write ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Acknowledged.
    Done,
    /// Committed, and the caller was told that caches may not know.
    Committed,
    /// The database certainly was not changed.
    Failed,
    /// It was changed or not.
    Unknown,
}

/// A row that a read returned, or that there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// The key that was asked for.
    pub key: i64,
    /// The version, unless there was no row.
    pub ver: Option<i64>,
    /// The write that made it.
    #[serde(default)]
    pub writer: Op,
    /// Whether the parts of the row belong together and to the key that was asked for.
    pub whole: bool,
}

/// One event. Times are nanoseconds of the [`Clock`](super::clock::Clock) of the run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum Event {
    /// A write begins.
    Begin {
        /// Which.
        op: Op,
        /// When.
        at: u64,
        /// The operation.
        call: Call,
        /// The rows it is to write.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        writes: Vec<i64>,
        /// The rows it is to delete.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        deletes: Vec<i64>,
    },
    /// A write ended.
    End {
        /// Which.
        op: Op,
        /// When.
        at: u64,
        /// How.
        outcome: Outcome,
        /// The rows and versions it returned.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        wrote: Vec<(i64, i64)>,
        /// How many rows it says it deleted.
        #[serde(default)]
        deleted: u64,
    },
    /// A read that ended well.
    Read {
        /// The task.
        task: u16,
        /// The operation.
        call: Call,
        /// When it began.
        at: u64,
        /// When it ended.
        end: u64,
        /// What it saw.
        seen: Vec<Seen>,
    },
    /// A read that failed.
    Failed {
        /// When it began.
        at: u64,
        /// When it ended.
        end: u64,
    },
    /// What the cache did up to now.
    Hits {
        /// When.
        at: u64,
        /// Reads that the cache answered.
        hits: u64,
        /// Reads that it did not.
        misses: u64,
    },
    /// How far the clocks had drifted apart when the process ended, in nanoseconds.
    Drift {
        /// How far.
        nanos: u64,
    },
}

/// The file of one process.
#[derive(Debug)]
pub struct Log(Mutex<File>);

impl Log {
    /// A new file.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn create(path: &Path) -> io::Result<Self> {
        Ok(Self(Mutex::new(File::create(path)?)))
    }

    /// Writes an event down. It is with the kernel when this returns, so that a process that is killed loses nothing.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, event: &Event) -> io::Result<()> {
        let mut line = serde_json::to_vec(event)?;
        line.push(b'\n');
        self.0.lock().unwrap_or_else(PoisonError::into_inner).write_all(&line)
    }
}

/// The events of a file. The last line may be torn where its process was killed.
///
/// # Errors
/// When the file cannot be read or holds something else.
pub fn read(path: &Path, may_be_torn: bool) -> io::Result<Vec<Event>> {
    let text = fs::read_to_string(path)?;
    let mut events = Vec::new();
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        match serde_json::from_str(line) {
            Ok(event) => events.push(event),
            Err(_) if may_be_torn && lines.peek().is_none() => {}
            Err(error) => {
                return Err(io::Error::other(format!("{}, event {}: {error}", path.display(), events.len() + 1)));
            }
        }
    }
    Ok(events)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_back_from_their_lines() {
        let path = std::env::temp_dir().join(format!("storehaus-log-{}", std::process::id()));
        let log = Log::create(&path).unwrap();
        let seen = vec![Seen { key: 4, ver: None, writer: 0, whole: true }];
        let events = vec![
            Event::Begin { op: op(3, 2, 9), at: 5, call: Call::Update, writes: vec![1], deletes: vec![] },
            Event::End { op: op(3, 2, 9), at: 8, outcome: Outcome::Unknown, wrote: vec![(1, 7)], deleted: 0 },
            Event::Read { task: 1, call: Call::GetMany, at: 6, end: 7, seen },
            Event::Failed { at: 1, end: 2 },
        ];
        events.iter().for_each(|event| log.write(event).unwrap());
        assert_eq!(read(&path, false).unwrap(), events);
        File::options().append(true).open(&path).unwrap().write_all(b"{\"is\":\"re").unwrap();
        assert_eq!(read(&path, true).unwrap(), events);
        assert!(read(&path, false).is_err());
        fs::remove_file(&path).unwrap();
    }

    #[test]
    fn a_write_names_its_process_and_task() {
        let op = op(300, 7, u32::MAX);
        assert_eq!((process_of(op), task_of(op)), (300, 7));
    }
}
