//! The line of a connection: the commands that are to be written, and who waits for which answer.

use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hasher as _};
use std::iter::once;
use std::ops::Range;
use std::task::{Context, Waker};

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::Cut;
use crate::redis::resp::Value;

#[derive(Default)]
pub(super) struct Line {
    /// Commands that are not handed to the task yet.
    pub(super) bytes: Vec<u8>,
    /// The last reads among them, up to [`KNOWN`].
    reads: VecDeque<Queued>,
    /// Who waits, in the order of the commands.
    pub(super) waiting: VecDeque<Answer>,
    /// How many have left the line.
    gone: usize,
    /// The first deadline among the commands that are not handed to the task yet.
    pub(super) due: Option<Instant>,
    /// Wakes the task. Taken when it was woken and has not looked yet.
    pub(super) task: Option<Waker>,
    /// Why the connection takes no more commands.
    pub(super) ended: Option<Cut>,
}

/// A read that is not handed to the task yet.
struct Queued {
    hash: u64,
    /// Where it stands among the bytes.
    bytes: Range<usize>,
    /// Its place in the line, those that have left it included.
    place: usize,
}

impl Line {
    /// Lets the next command wake the task.
    pub(super) fn wake_by_next(&mut self, cx: &Context<'_>) {
        if !self.task.as_ref().is_some_and(|task| task.will_wake(cx.waker())) {
            self.task = Some(cx.waker().clone());
        }
    }

    /// Puts a caller in line for a read, which is appended unless the same one is not handed over yet; whether it was.
    pub(super) fn read(&mut self, caller: Caller, encode: impl FnOnce(&mut Vec<u8>)) -> bool {
        let start = self.bytes.len();
        encode(&mut self.bytes);
        let (queued, read) = self.bytes.split_at(start);
        let hash = hash(read);
        let same = self.reads.iter().find(|one| one.hash == hash && queued[one.bytes.clone()] == *read);
        // A reply that nobody asked for may have taken the place of who waits.
        let place = same.and_then(|same| same.place.checked_sub(self.gone));
        match place.and_then(|place| self.waiting.get_mut(place)) {
            Some(Answer::One(_, others)) => others.push(caller),
            // Who asked has given up.
            Some(answer @ Answer::Nobody) => *answer = Answer::One(caller, Vec::new()),
            _ => {
                if self.reads.len() == KNOWN {
                    self.reads.pop_front();
                }
                let place = self.gone + self.waiting.len();
                self.reads.push_back(Queued { hash, bytes: start..self.bytes.len(), place });
                self.waiting.push_back(Answer::One(caller, Vec::new()));
                return true;
            }
        }
        self.bytes.truncate(start);
        false
    }

    /// Hands the commands to the task, in place of an empty buffer.
    pub(super) fn hand_over(&mut self, out: &mut Vec<u8>) {
        std::mem::swap(&mut self.bytes, out);
        self.reads.clear();
    }

    /// Hands a reply to the command it belongs to; whether there is one.
    pub(super) fn take_answer(&mut self, value: Value, done: &mut Vec<Done>) -> bool {
        let Some(first) = self.waiting.front_mut() else { return false };
        match first {
            Answer::Many(_, values, left) if *left > 1 => {
                values.push(value);
                *left -= 1;
                return true;
            }
            _ => {}
        }
        self.gone += 1;
        match self.waiting.pop_front() {
            Some(Answer::One(first, others)) => {
                done.extend(others.into_iter().map(|other| Done::One(other, value.clone())));
                done.push(Done::One(first, value));
            }
            Some(Answer::Many(sender, mut values, _)) => {
                values.push(value);
                done.push(Done::Many(sender, values));
            }
            Some(Answer::Nobody) | None => {}
        }
        true
    }
}

/// A read is compared with so many of those before it.
const KNOWN: usize = 128;

fn hash(read: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(read);
    hasher.finish()
}

/// One who waits for the answer of one command.
pub(super) struct Caller {
    /// `None`: the caller watches the time itself.
    pub(super) deadline: Option<Instant>,
    pub(super) sender: oneshot::Sender<Result<Value, Cut>>,
}

impl Caller {
    fn is_late(&self, now: Instant) -> bool {
        self.deadline.is_some_and(|deadline| deadline <= now)
    }

    /// One who went away is not told.
    pub(super) fn tell(self, answer: Result<Value, Cut>) {
        drop(self.sender.send(answer));
    }
}

/// Who waits for the answers of the next command or commands.
pub(super) enum Answer {
    /// The first who asked, and those who asked the same before it was handed over.
    One(Caller, Vec<Caller>),
    /// Several commands of one caller: the answers so far, and how many are to come.
    Many(oneshot::Sender<Result<Vec<Value>, Cut>>, Vec<Value>, usize),
    /// Nobody waits any more; the answer is to be skipped.
    Nobody,
}

impl Answer {
    /// Those who wait for the answer of one command.
    pub(super) fn callers(&self) -> impl Iterator<Item = &Caller> {
        let callers = if let Self::One(first, others) = self { Some(once(first).chain(others)) } else { None };
        callers.into_iter().flatten()
    }

    pub(super) fn is_late(&self, now: Instant) -> bool {
        self.callers().any(|caller| caller.is_late(now))
    }

    /// Those whose time is over. The place in the line stays, so that the answers of others stay theirs.
    pub(super) fn give_up(&mut self, now: Instant) -> Vec<Caller> {
        if !self.is_late(now) {
            return Vec::new();
        }
        let Self::One(first, others) = std::mem::replace(self, Self::Nobody) else { return Vec::new() };
        let (late, left): (Vec<_>, Vec<_>) = once(first).chain(others).partition(|caller| caller.is_late(now));
        let mut left = left.into_iter();
        if let Some(first) = left.next() {
            *self = Self::One(first, left.collect());
        }
        late
    }

    pub(super) fn is_nobodys(&self) -> bool {
        match self {
            Self::Many(sender, ..) => sender.is_closed(),
            Self::One(..) | Self::Nobody => self.callers().all(|caller| caller.sender.is_closed()),
        }
    }

    pub(super) fn fail(self, cut: &Cut) {
        match self {
            Self::One(first, others) => once(first).chain(others).for_each(|caller| caller.tell(Err(cut.clone()))),
            // A caller that went away is not told.
            Self::Many(sender, ..) => drop(sender.send(Err(cut.clone()))),
            Self::Nobody => {}
        }
    }
}

/// A complete answer, to be told outside the lock.
pub(super) enum Done {
    One(Caller, Value),
    Many(oneshot::Sender<Result<Vec<Value>, Cut>>, Vec<Value>),
}

impl Done {
    pub(super) fn tell(self) {
        match self {
            Self::One(caller, value) => caller.tell(Ok(value)),
            Self::Many(sender, values) => drop(sender.send(Ok(values))),
        }
    }
}

pub(super) fn earlier(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}
