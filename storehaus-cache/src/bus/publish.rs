//! Sending: one message at a time, in the order of their numbers.
//!
//! What is announced while a message is under way, and within [`PACE`] after it, goes together in the next one, so that a
//! stream of writes is not a stream of messages. A message that reached nobody else is followed by another no sooner than an
//! interval later, so that where no process keeps rows, writes cost next to nothing; the message waits, it is not dropped. A
//! message whose sending failed is sent again under the same number, with what was announced since.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::{Instant, sleep, timeout_at};

use crate::flight::lock;
use crate::l2::{L2, L2Error};
use crate::manager::Running;

use super::message::{self, Changes, Target};
use super::{FIRST_PAUSE, Inner, LAST_PAUSE, count};

/// What is known of sending.
#[derive(Default)]
pub(super) struct Outgoing {
    changes: Changes,
    /// The number of the last message sent.
    number: u64,
    /// Whether the last message reached nobody else.
    alone: bool,
    /// Whether a message was sent that nothing followed: should it be lost, nobody notices.
    unfollowed: bool,
    /// When something was sent last.
    sent_at: Option<Instant>,
    /// Whether somebody waits for the changes to be sent.
    hurry: bool,
    /// Whether the publisher waits for changes.
    idle: bool,
    /// Whether a publisher runs.
    publishing: bool,
    /// Whether the last attempt failed: nobody waits for another one.
    failing: bool,
    /// Makes a shutdown wait for the changes, unless they cannot be sent.
    pending: Option<Running>,
}

/// What to do next.
enum Step {
    Send(Changes),
    SayLast,
    Wait(Instant),
    End,
}

/// How to go on.
enum Next {
    At(Instant),
    After(Duration),
    Now,
    End,
}

impl Outgoing {
    pub(super) fn add(&mut self, target: Target<String>, ids: Option<Vec<String>>) {
        self.changes.add(target, ids);
    }

    fn step(&mut self, interval: Duration) -> Step {
        let pause = if self.alone || self.changes.is_empty() { interval } else { PACE };
        let due = self.sent_at.map(|at| at + pause).filter(|due| *due > Instant::now());
        self.idle = self.changes.is_empty();
        if !self.idle {
            return match due {
                Some(due) if !self.hurry => Step::Wait(due),
                _ => Step::Send(std::mem::take(&mut self.changes)),
            };
        }
        self.pending = None;
        self.hurry = false;
        match due {
            _ if !self.unfollowed || self.alone => {
                self.publishing = false;
                Step::End
            }
            Some(due) => Step::Wait(due),
            None => Step::SayLast,
        }
    }
}

/// Starts a publisher unless one runs. Without a runtime the changes wait for the next one who has.
pub(super) fn start<L: L2>(bus: &Arc<Inner<L>>) {
    let mut outgoing = lock(&bus.outgoing);
    let runtime = Handle::try_current();
    if outgoing.pending.is_none() && !outgoing.failing && (outgoing.publishing || runtime.is_ok()) {
        outgoing.pending = Some(bus.background.begin());
    }
    if outgoing.publishing {
        if outgoing.idle || outgoing.hurry {
            bus.wake.notify_one();
        }
        return;
    }
    let Ok(runtime) = runtime else { return };
    outgoing.publishing = true;
    drop(outgoing);
    drop(runtime.spawn(run(Publisher { bus: Arc::downgrade(bus), done: false })));
}

/// Sends what waits without regard to whether anybody listens.
pub(super) fn hurry<L: L2>(bus: &Arc<Inner<L>>) {
    let mut outgoing = lock(&bus.outgoing);
    if !outgoing.changes.is_empty() {
        outgoing.hurry = true;
        drop(outgoing);
        start(bus);
    }
}

/// Reports a publisher that ends with its runtime. Does not keep the bus alive.
struct Publisher<L: L2> {
    bus: Weak<Inner<L>>,
    done: bool,
}

impl<L: L2> Drop for Publisher<L> {
    fn drop(&mut self) {
        if let (false, Some(bus)) = (self.done, self.bus.upgrade()) {
            let mut outgoing = lock(&bus.outgoing);
            outgoing.publishing = false;
            outgoing.pending = None;
        }
    }
}

async fn run<L: L2>(mut publisher: Publisher<L>) {
    let Some(wake) = publisher.bus.upgrade().map(|bus| Arc::clone(&bus.wake)) else { return };
    let mut pause = FIRST_PAUSE;
    loop {
        let Some(bus) = publisher.bus.upgrade() else { return };
        let next = bus.publish_next(&mut pause).await;
        drop(bus);
        match next {
            Next::Now => {}
            // Something to send may come before.
            Next::At(due) => drop(timeout_at(due, wake.notified()).await),
            Next::After(pause) => sleep(pause).await,
            Next::End => {
                publisher.done = true;
                return;
            }
        }
    }
}

impl<L: L2> Inner<L> {
    async fn publish_next(&self, pause: &mut Duration) -> Next {
        // Up again means that the keys are removed whose removal had failed.
        if !self.remote.is_up() {
            self.give_up_for_now();
            return Next::After(self.settings.interval);
        }
        let (step, number) = {
            let mut outgoing = lock(&self.outgoing);
            (outgoing.step(self.settings.interval), outgoing.number)
        };
        let sent = match step {
            Step::End => return Next::End,
            Step::Wait(due) => return Next::At(due),
            Step::SayLast => self.send(&message::last(self.id, number)).await.map(|_| self.followed()),
            Step::Send(changes) => {
                let mut unsent = Unsent { bus: self, changes: Some(changes) };
                let message = unsent.changes.as_ref().map(|changes| changes.message(self.id, number + 1));
                match self.send(&message.unwrap_or_default()).await {
                    Ok(receivers) => {
                        unsent.changes = None;
                        self.sent(number + 1, receivers);
                        Ok(())
                    }
                    Err(error) => Err(error),
                }
            }
        };
        match sent {
            Ok(()) => {
                *pause = FIRST_PAUSE;
                Next::Now
            }
            Err(error) => {
                count(&self.counters.failed);
                self.give_up_for_now();
                if let L2Error::Refused { .. } = error {
                    if !self.refused.swap(true, Ordering::Relaxed) {
                        let channel = &self.channels[0];
                        tracing::info!(
                            %error, %channel,
                            "other processes that keep rows in process see what this one writes as late as they allow"
                        );
                    }
                    return Next::After(REFUSED_PAUSE);
                }
                let wait = *pause;
                *pause = (wait * 2).min(LAST_PAUSE);
                Next::After(wait)
            }
        }
    }

    async fn send(&self, message: &[u8]) -> Result<u64, L2Error> {
        self.remote.publish(&self.channels[0], message).await
    }

    fn sent(&self, number: u64, receivers: u64) {
        count(&self.counters.sent);
        let mut outgoing = lock(&self.outgoing);
        outgoing.number = number;
        outgoing.alone = receivers <= u64::from(self.subscribed.load(Ordering::Relaxed));
        outgoing.unfollowed = true;
        outgoing.sent_at = Some(Instant::now());
        outgoing.failing = false;
    }

    /// Lets nobody wait for what cannot be sent.
    fn give_up_for_now(&self) {
        let mut outgoing = lock(&self.outgoing);
        outgoing.pending = None;
        outgoing.failing = true;
    }

    fn followed(&self) {
        let mut outgoing = lock(&self.outgoing);
        outgoing.unfollowed = false;
        outgoing.failing = false;
        outgoing.sent_at = Some(Instant::now());
    }
}

/// Changes taken out to be sent. Whatever becomes of the future that holds it, they are sent or put back.
struct Unsent<'a, L: L2> {
    bus: &'a Inner<L>,
    changes: Option<Changes>,
}

impl<L: L2> Drop for Unsent<'_, L> {
    fn drop(&mut self) {
        if let Some(changes) = self.changes.take() {
            lock(&self.bus.outgoing).changes.merge(changes);
        }
    }
}

/// The least time between two messages, unless somebody waits.
const PACE: Duration = Duration::from_millis(1);

/// The pause after the server refused to pass a message on.
const REFUSED_PAUSE: Duration = Duration::from_secs(10);
