//! One multiplexed connection: commands of many callers in one stream, answered in their order.
//!
//! A caller appends its command to a shared buffer and waits for its answer; a task of the connection writes what has
//! gathered and reads the answers. Where many commands are in flight the task steps back once before it writes, so that
//! the callers it has just woken add theirs: one system call then carries them all.
//!
//! A read that finds the same one waiting to be written shares its answer, which comes from after both began: a key that
//! many ask for at once costs the server one command.

mod line;

use std::io;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::runtime::{Handle, Id};
use tokio::sync::oneshot;
use tokio::time::{Instant, Sleep, sleep_until};

use self::line::{Answer, Caller, Done, Line, earlier};
use super::resp::{Commands, Malformed, Measure, Value};
use crate::l2::TURNS;

/// The callers' end of a connection. The connection ends with it, as soon as nobody waits for an answer any more.
pub(super) struct Wire {
    shared: Arc<Shared>,
    /// Where the task of the connection runs.
    runtime: Id,
}

/// Why a command has no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Cut {
    /// The connection ended under the command, or had ended before.
    Closed(String),
    /// Too many commands wait; this one was not sent.
    Full,
    /// The server sent bytes that are no reply.
    Malformed,
    /// No answer by the deadline. Later answers find their own commands all the same.
    TimedOut,
}

/// The answer to come.
pub(super) struct Asked<T>(oneshot::Receiver<Result<T, Cut>>);

impl<T> Future for Asked<T> {
    type Output = Result<T, Cut>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(cx).map(|answer| answer.unwrap_or_else(|_| Err(dropped())))
    }
}

/// What the callers and the task of the connection share.
#[derive(Default)]
struct Shared {
    line: Mutex<Line>,
    /// Whether the connection takes no more commands. Written under the lock of `line`.
    ended: AtomicBool,
    /// Whether the callers' end is gone.
    abandoned: AtomicBool,
    /// How many answers are to come. Written under the lock of `line`.
    in_flight: AtomicUsize,
}

impl Wire {
    /// Takes over a stream. The task that serves it is to be spawned on the current runtime.
    pub(super) fn new<S>(stream: S) -> (Self, Driver<S>) {
        let shared = Arc::new(Shared::default());
        let driver = Driver {
            stream,
            shared: Arc::clone(&shared),
            out: Vec::new(),
            written: 0,
            told: 0,
            stepped_back: false,
            input: vec![0; READ_BYTES],
            filled: 0,
            measure: Measure::default(),
            values: Vec::new(),
            done: Vec::new(),
            alarm: None,
            due: None,
            turns: 0,
        };
        (Self { shared, runtime: Handle::current().id() }, driver)
    }

    /// Sends one command, written by `encode`.
    pub(super) fn ask(&self, encode: impl FnOnce(&mut Vec<u8>)) -> Result<Asked<Value>, Cut> {
        let (sender, answer) = oneshot::channel();
        self.enqueue(1, |line| {
            encode(&mut line.bytes);
            Answer::One(Caller { deadline: None, sender }, Vec::new())
        })?;
        Ok(Asked(answer))
    }

    /// Sends one command that changes nothing, or shares the answer of the same one that was not written yet. The answer is
    /// one by the deadline; that only holds for a caller on the runtime of the connection.
    pub(super) fn read(&self, deadline: Instant, encode: impl FnOnce(&mut Vec<u8>)) -> Result<Asked<Value>, Cut> {
        let (sender, answer) = oneshot::channel();
        let caller = Caller { deadline: Some(deadline), sender };
        let task = {
            let mut line = self.shared.open()?;
            line.due = earlier(line.due, Some(deadline));
            if line.read(caller, encode) {
                self.shared.expect(1);
            }
            line.task.take()
        };
        wake(task);
        Ok(Asked(answer))
    }

    /// Sends commands, at least one, in one piece.
    pub(super) fn ask_many(&self, commands: &Commands) -> Result<Asked<Vec<Value>>, Cut> {
        let (sender, answer) = oneshot::channel();
        let answers = Answer::Many(sender, Vec::with_capacity(commands.count), commands.count);
        self.enqueue(commands.count, |line| {
            line.bytes.extend_from_slice(&commands.bytes);
            answers
        })?;
        Ok(Asked(answer))
    }

    /// How many answers are to come.
    pub(super) fn in_flight(&self) -> usize {
        self.shared.in_flight.load(Ordering::Relaxed)
    }

    /// Whether the connection takes no more commands.
    pub(super) fn has_ended(&self) -> bool {
        self.shared.ended.load(Ordering::Acquire)
    }

    /// Whether the task of the connection runs where the caller does. On another runtime it may stand still while the
    /// caller waits.
    pub(super) fn is_here(&self) -> bool {
        Handle::try_current().is_ok_and(|here| here.id() == self.runtime)
    }

    fn enqueue(&self, count: usize, append: impl FnOnce(&mut Line) -> Answer) -> Result<(), Cut> {
        let task = {
            let mut line = self.shared.open()?;
            let answer = append(&mut line);
            line.waiting.push_back(answer);
            self.shared.expect(count);
            line.task.take()
        };
        wake(task);
        Ok(())
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.shared.abandoned.store(true, Ordering::Release);
        let task = self.shared.lock().task.take();
        wake(task);
    }
}

/// The task of a connection.
pub(super) struct Driver<S> {
    stream: S,
    shared: Arc<Shared>,
    out: Vec<u8>,
    written: usize,
    /// How many callers were answered since the task wrote last.
    told: usize,
    /// Whether the task has given the callers a turn since it wrote last.
    stepped_back: bool,
    input: Vec<u8>,
    filled: usize,
    measure: Measure,
    /// Replies that were read; empty between two reads, as `done` is.
    values: Vec<Value>,
    done: Vec<Done>,
    /// Goes off when it is time to look for commands past their deadline.
    alarm: Option<Pin<Box<Sleep>>>,
    /// What the alarm is set to; no deadline of a command that was taken over is earlier.
    due: Option<Instant>,
    /// How many turns the commands past their deadline were given for what has arrived meanwhile.
    turns: u32,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Future for Driver<S> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        match this.serve(cx) {
            Ok(false) => Poll::Pending,
            Ok(true) => {
                this.end(&closed("the connection is not used any more"));
                Poll::Ready(())
            }
            Err(cut) => {
                this.end(&cut);
                Poll::Ready(())
            }
        }
    }
}

impl<S> Drop for Driver<S> {
    /// With its runtime.
    fn drop(&mut self) {
        self.end(&dropped());
    }
}

impl<S> Driver<S> {
    /// Tells everybody who waits, and everybody who comes.
    fn end(&mut self, cut: &Cut) {
        let waiting = {
            let mut line = self.shared.lock();
            line.ended.get_or_insert_with(|| cut.clone());
            line.bytes = Vec::new();
            self.shared.ended.store(true, Ordering::Release);
            std::mem::take(&mut line.waiting)
        };
        waiting.into_iter().for_each(|answer| answer.fail(cut));
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Driver<S> {
    /// Does what can be done now; whether the connection is over.
    fn serve(&mut self, cx: &mut Context<'_>) -> Result<bool, Cut> {
        self.read(cx)?;
        self.write(cx)?;
        self.keep_time(cx);
        if !self.shared.abandoned.load(Ordering::Acquire) {
            return Ok(false);
        }
        if self.shared.lock().waiting.iter().all(Answer::is_nobodys) {
            return Ok(true);
        }
        // Somebody waits who may give up without a word.
        self.set_alarm(Some(Instant::now() + LAST_LOOKS));
        self.keep_time(cx);
        Ok(false)
    }

    fn write(&mut self, cx: &mut Context<'_>) -> Result<(), Cut> {
        while self.written < self.out.len() || self.take_over(cx) {
            match Pin::new(&mut self.stream).poll_write(cx, &self.out[self.written..]) {
                Poll::Ready(Ok(0)) => return Err(closed("the connection was closed")),
                Poll::Ready(Ok(written)) => self.written += written,
                Poll::Ready(Err(error)) => return Err(broken(&error)),
                Poll::Pending => {
                    let due = {
                        let mut line = self.shared.lock();
                        line.wake_by_next(cx);
                        line.due.take()
                    };
                    self.set_alarm(due);
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Takes the queued commands over; whether there is anything to write now. If not, the next command wakes the task.
    fn take_over(&mut self, cx: &Context<'_>) -> bool {
        self.out.clear();
        self.written = 0;
        if self.out.capacity() > KEEP_BYTES {
            self.out = Vec::new();
        }
        let mut line = self.shared.lock();
        if line.bytes.is_empty() {
            line.wake_by_next(cx);
            return false;
        }
        if line.waiting.len() + self.told >= MANY && !self.stepped_back {
            // Behind the callers that are ready now.
            self.stepped_back = true;
            line.task = None;
            drop(line);
            cx.waker().wake_by_ref();
            return false;
        }
        self.stepped_back = false;
        self.told = 0;
        line.hand_over(&mut self.out);
        let due = line.due.take();
        drop(line);
        self.set_alarm(due);
        true
    }

    /// Reads what has arrived and answers.
    fn read(&mut self, cx: &mut Context<'_>) -> Result<(), Cut> {
        loop {
            if self.filled == self.input.len() {
                if self.filled >= MAX_REPLY {
                    return Err(Cut::Malformed);
                }
                self.input.resize(self.filled * 2, 0);
            }
            let mut buffer = ReadBuf::new(&mut self.input[self.filled..]);
            match Pin::new(&mut self.stream).poll_read(cx, &mut buffer) {
                Poll::Pending => return Ok(()),
                Poll::Ready(Err(error)) => return Err(broken(&error)),
                Poll::Ready(Ok(())) => {}
            }
            let arrived = buffer.filled().len();
            if arrived == 0 {
                return Err(closed("the server closed the connection"));
            }
            self.filled += arrived;
            self.answer()?;
        }
    }

    fn answer(&mut self) -> Result<(), Cut> {
        let mut at = 0;
        let malformed = loop {
            match self.measure.parse(&self.input[at..self.filled]) {
                Ok(Some((value, length))) => {
                    at += length;
                    self.values.push(value);
                }
                Ok(None) => break false,
                Err(Malformed) => break true,
            }
        };
        if at > 0 {
            self.input.copy_within(at..self.filled, 0);
            self.filled -= at;
            if self.filled == 0 && self.input.len() > KEEP_BYTES {
                self.input = vec![0; READ_BYTES];
            }
        }
        let unasked = {
            let mut line = self.shared.lock();
            let answered = self.values.len();
            let unasked = self.values.drain(..).any(|value| !line.take_answer(value, &mut self.done));
            let in_flight = self.shared.in_flight.load(Ordering::Relaxed);
            self.shared.in_flight.store(in_flight.saturating_sub(answered), Ordering::Relaxed);
            unasked
        };
        self.told += self.done.len();
        self.done.drain(..).for_each(Done::tell);
        if malformed || unasked { Err(Cut::Malformed) } else { Ok(()) }
    }

    /// Fails the commands that are past their deadline. One alarm goes off for the first of all deadlines, and is set
    /// anew only then, which is cheaper than a timer for each. To a thread that was kept busy past it, deadline and answer
    /// are due at the same time: what arrived meanwhile is let in before a command is given up.
    fn keep_time(&mut self, cx: &mut Context<'_>) {
        while self.due.is_some() && self.alarm.as_mut().is_some_and(|alarm| alarm.as_mut().poll(cx).is_ready()) {
            let now = Instant::now();
            let mut line = self.shared.lock();
            if self.turns < TURNS && line.waiting.iter().any(|answer| answer.is_late(now)) {
                self.turns += 1;
                // Wakes the task after the runtime has looked at its sockets.
                let _ = pin!(tokio::task::yield_now()).poll(cx);
                return;
            }
            self.turns = 0;
            let late: Vec<Caller> = line.waiting.iter_mut().flat_map(|answer| answer.give_up(now)).collect();
            let left = line.waiting.iter().flat_map(Answer::callers);
            let due = left.fold(None, |due, caller| earlier(due, caller.deadline));
            drop(line);
            late.into_iter().for_each(|caller| caller.tell(Err(Cut::TimedOut)));
            self.due = None;
            self.set_alarm(due);
        }
    }

    fn set_alarm(&mut self, due: Option<Instant>) {
        let Some(due) = due.filter(|due| self.due.is_none_or(|set| *due < set)) else { return };
        self.due = Some(due);
        match &mut self.alarm {
            Some(alarm) => alarm.as_mut().reset(due),
            None => self.alarm = Some(Box::pin(sleep_until(due))),
        }
    }
}

impl Shared {
    // Each critical section leaves the line valid wherever it stops.
    fn lock(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The line, if it takes a command.
    fn open(&self) -> Result<MutexGuard<'_, Line>, Cut> {
        let line = self.lock();
        if let Some(cut) = &line.ended {
            return Err(cut.clone());
        }
        if line.bytes.len() > MAX_QUEUED || self.in_flight.load(Ordering::Relaxed) > MAX_IN_FLIGHT {
            return Err(Cut::Full);
        }
        Ok(line)
    }

    /// Counts answers that are to come. To be called with the line.
    fn expect(&self, count: usize) {
        let in_flight = self.in_flight.load(Ordering::Relaxed);
        self.in_flight.store(in_flight + count, Ordering::Relaxed);
    }
}

fn wake(task: Option<Waker>) {
    if let Some(task) = task {
        task.wake();
    }
}

fn closed(why: &str) -> Cut {
    Cut::Closed(why.to_owned())
}

fn dropped() -> Cut {
    closed("the connection was dropped")
}

fn broken(error: &io::Error) -> Cut {
    Cut::Closed(error.to_string().to_lowercase())
}

/// From so many commands in flight and callers just answered on, the task steps back before it writes.
const MANY: usize = 8;
/// How often a connection without a callers' end looks whether anybody still waits for an answer.
const LAST_LOOKS: Duration = Duration::from_millis(100);
const READ_BYTES: usize = 64 << 10;
/// A buffer that grew beyond this is given back when it is empty.
const KEEP_BYTES: usize = 1 << 20;
/// No command is taken while so many bytes wait to be written.
const MAX_QUEUED: usize = 64 << 20;
/// No command is taken while so many answers are to come.
const MAX_IN_FLIGHT: usize = 1 << 18;
/// A reply is not longer than this.
const MAX_REPLY: usize = 1 << 30;

#[cfg(test)]
mod tests;
