//! The bus: what keeps the in-process tiers of several processes close to the shared tier.
//!
//! A write removes its rows from the shared tier, then from this process, and hands their names to the bus, which tells
//! all processes by `PUBLISH` ([`publish`]) without the writer waiting for it. A process with rows in process subscribes
//! ([`listen`]) and removes what it is told about.
//!
//! Messages may be lost, so nothing rests on one arriving. The messages of each process are numbered; one that is missing
//! empties the tiers. Every interval a process sends itself a heartbeat: when it comes back, everything that was published
//! before it was *sent* has arrived. While the newest one is older than [`Settings::silence`], or there is no subscription,
//! no row in process is served. And a row in process lives no longer than the bound of its store.
//!
//! Channels: `<prefix>:bus` for what concerns all, `<prefix>:bus:<id>` for the heartbeats of one process.

mod listen;
mod message;
mod publish;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::Notify;

use crate::env::Environment;
use crate::flight::lock;
use crate::l2::L2;
use crate::manager::Background;
use crate::registry::Registry;
use crate::remote::Remote;

pub(crate) use message::Target;
use publish::Outgoing;

/// What the bus of a manager did so far: [`CacheStats::bus`](crate::CacheStats::bus).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct BusStats {
    /// How long ago the newest heartbeat was sent that came back; `None` while this process is not subscribed, as it is
    /// while none of its stores keeps rows in process under [`L1::Bounded`](crate::L1::Bounded).
    pub beat_age: Option<Duration>,
    /// Messages sent, heartbeats not counted.
    pub sent: u64,
    /// Messages that could not be sent and wait for another attempt.
    pub failed: u64,
    /// Messages of other processes received.
    pub received: u64,
    /// Messages received that are none of this version.
    pub ignored: u64,
    /// Messages found to be missing.
    pub gaps: u64,
    /// How often all rows in process were given up, as messages were missing or the connection broke.
    pub flushes: u64,
}

/// Tells other processes what changed, whatever their shared tier is.
pub(crate) trait Announce: Send + Sync {
    /// Hands over what changed; `None` stands for all rows. Returns at once.
    fn announce(&self, target: Target<String>, ids: Option<Vec<String>>);
}

/// The bus of one manager. Cheap to clone; clones share everything.
pub(crate) struct Bus<L> {
    inner: Arc<Inner<L>>,
}

struct Inner<L> {
    remote: Remote<L>,
    env: Arc<dyn Environment>,
    background: Arc<Background>,
    settings: Settings,
    /// Marks the messages of this manager among those of all.
    id: u64,
    /// For messages to all, and for heartbeats to oneself.
    channels: [String; 2],
    /// Until when rows in process may be served, on the monotonic clock; 0 while there is no subscription. Written by
    /// the listener, read by every hit.
    current_until: AtomicU64,
    /// Whether a listener runs.
    listening: AtomicBool,
    /// Whether the server counts this process among those it sends messages to.
    subscribed: AtomicBool,
    /// Whether it was said that the server refuses messages.
    refused: AtomicBool,
    /// The number of the next heartbeat.
    beats: AtomicU64,
    /// What waits to be sent. Held for a few map operations.
    outgoing: Mutex<Outgoing>,
    /// Wakes the publisher.
    wake: Arc<Notify>,
    /// Wakes those who wait for a heartbeat.
    proven: Notify,
    counters: Counters,
}

/// How often, and how long at most.
#[derive(Clone, Copy)]
struct Settings {
    /// Between two heartbeats; between two messages to nobody.
    interval: Duration,
    /// The oldest heartbeat under which rows in process are served.
    silence: Duration,
}

#[derive(Default)]
struct Counters {
    sent: AtomicU64,
    failed: AtomicU64,
    received: AtomicU64,
    ignored: AtomicU64,
    gaps: AtomicU64,
    flushes: AtomicU64,
}

impl<L: L2> Bus<L> {
    pub(crate) fn new(
        remote: Remote<L>,
        env: Arc<dyn Environment>,
        background: Arc<Background>,
        prefix: &str,
        interval: Duration,
    ) -> Self {
        let id = env.random();
        let inner = Inner {
            remote,
            env,
            background,
            settings: Settings { interval, silence: interval * BEATS },
            id,
            channels: [format!("{prefix}:bus"), format!("{prefix}:bus:{id:016x}")],
            current_until: AtomicU64::new(0),
            listening: AtomicBool::new(false),
            subscribed: AtomicBool::new(false),
            refused: AtomicBool::new(false),
            beats: AtomicU64::new(0),
            outgoing: Mutex::default(),
            wake: Arc::default(),
            proven: Notify::new(),
            counters: Counters::default(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Whether rows in process reflect all messages but those of the last moments. One atomic load while they do.
    pub(crate) fn is_current(&self, now: u64) -> bool {
        now < self.inner.current_until.load(Ordering::Relaxed)
    }

    /// Sees to it that this process hears what others say.
    pub(crate) fn listen(&self, registry: &Arc<Registry>) {
        if !self.inner.listening.load(Ordering::Relaxed) {
            listen::start(&self.inner, registry);
        }
    }

    /// [`listen`](Self::listen), and waits until rows in process may be served.
    pub(crate) async fn wait_until_current(&self, registry: &Arc<Registry>) {
        loop {
            let proven = self.inner.proven.notified();
            if self.is_current(self.inner.env.nanos()) {
                return;
            }
            self.listen(registry);
            proven.await;
        }
    }

    /// Sends what waits now rather than later.
    pub(crate) fn hurry(&self) {
        publish::hurry(&self.inner);
    }

    pub(crate) fn stats(&self) -> BusStats {
        let counters = &self.inner.counters;
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let until = self.inner.current_until.load(Ordering::Relaxed);
        let since = |sent: u64| Duration::from_nanos(self.inner.env.nanos().saturating_sub(sent));
        BusStats {
            beat_age: (until > 0).then(|| since(until.saturating_sub(nanos(self.inner.settings.silence)))),
            sent: read(&counters.sent),
            failed: read(&counters.failed),
            received: read(&counters.received),
            ignored: read(&counters.ignored),
            gaps: read(&counters.gaps),
            flushes: read(&counters.flushes),
        }
    }
}

impl<L> Clone for Bus<L> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner) }
    }
}

impl<L: L2> Announce for Bus<L> {
    fn announce(&self, target: Target<String>, ids: Option<Vec<String>>) {
        lock(&self.inner.outgoing).add(target, ids);
        publish::start(&self.inner);
    }
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// So many heartbeats may be missing before rows in process are not served any more.
const BEATS: u32 = 10;

/// The pause after a first failure; doubles up to [`LAST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LAST_PAUSE: Duration = Duration::from_secs(1);
