//! Hearing: a subscription, what to do with what it brings, and heartbeats that prove it delivers.

use std::collections::{HashMap, VecDeque};
use std::pin::pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

use futures_util::StreamExt as _;
use futures_util::future::{Fuse, FutureExt as _};
use tokio::runtime::Handle;
use tokio::time::{MissedTickBehavior, interval, sleep};

use crate::l2::{L2, L2Error, Messages};
use crate::registry::Registry;

use super::message::{self, Message};
use super::{FIRST_PAUSE, Inner, LAST_PAUSE, count, nanos};

/// Starts a listener on the current runtime unless one runs. Without a runtime, whoever reads next starts it.
pub(super) fn start<L: L2>(bus: &Arc<Inner<L>>, registry: &Arc<Registry>) {
    let Ok(runtime) = Handle::try_current() else { return };
    if !bus.listening.swap(true, Ordering::AcqRel) {
        drop(runtime.spawn(Listener { bus: Arc::downgrade(bus), registry: Arc::downgrade(registry) }.run()));
    }
}

/// Does not keep the bus alive. However it ends, rows in process are served again only after the next one listens.
struct Listener<L: L2> {
    bus: Weak<Inner<L>>,
    registry: Weak<Registry>,
}

impl<L: L2> Drop for Listener<L> {
    fn drop(&mut self) {
        if let Some(bus) = self.bus.upgrade() {
            bus.distrust();
            bus.listening.store(false, Ordering::Release);
        }
    }
}

impl<L: L2> Listener<L> {
    async fn run(self) {
        let mut pause = FIRST_PAUSE;
        loop {
            let Some(bus) = self.bus.upgrade() else { return };
            // While the server is away its probe alone asks for it.
            if bus.remote.is_up() {
                match bus.remote.subscribe(&bus.channels).await {
                    Ok(messages) => {
                        pause = FIRST_PAUSE;
                        drop(bus);
                        self.hear(messages).await;
                    }
                    Err(error) => {
                        bus.cannot_listen(&error);
                        pause = (pause * 2).min(LAST_PAUSE);
                    }
                }
            }
            sleep(pause).await;
        }
    }

    /// Follows one subscription to its end.
    async fn hear(&self, mut messages: Messages) {
        let (Some(mut heard), Some(period)) =
            (self.with(|bus, registry| Heard::begin(bus, registry)), self.with(|bus, _| bus.settings.interval))
        else {
            return;
        };
        let mut beats = interval(period);
        beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut sending = pin!(Fuse::terminated());
        let mut idle = true;
        loop {
            tokio::select! {
                message = messages.next() => {
                    let Some(message) = message else { break };
                    if self.with(|bus, registry| heard.receive(bus, registry, &message)).is_none() {
                        return;
                    }
                }
                sent = &mut sending, if !idle => {
                    idle = true;
                    if let (Err(error), Some(bus)) = (sent, self.bus.upgrade()) {
                        bus.cannot_listen(&error);
                    }
                }
                _ = beats.tick() => {
                    let Some(bus) = self.bus.upgrade() else { return };
                    if heard.is_silent(&bus) {
                        break;
                    }
                    if idle {
                        let beat = heard.next_beat(&bus);
                        idle = false;
                        sending.set(async move { bus.remote.publish(&bus.channels[1], &beat).await }.fuse());
                    }
                }
            }
        }
        self.with(|bus, registry| bus.give_up(registry));
    }

    fn with<T>(&self, act: impl FnOnce(&Inner<L>, &Registry) -> T) -> Option<T> {
        Some(act(&*self.bus.upgrade()?, &*self.registry.upgrade()?))
    }
}

/// What is known of one subscription.
struct Heard {
    /// The number of the last message of each process.
    numbers: HashMap<u64, u64>,
    /// The heartbeats under way: number, and when it was sent.
    beats: VecDeque<(u64, u64)>,
    /// When the newest heartbeat that came back was sent, or the subscription began.
    proven: u64,
}

impl Heard {
    /// Messages are delivered from now on; what was loaded before may have missed some.
    fn begin<L: L2>(bus: &Inner<L>, registry: &Registry) -> Self {
        bus.subscribed.store(true, Ordering::Relaxed);
        registry.flush();
        Self { numbers: HashMap::new(), beats: VecDeque::new(), proven: bus.env.nanos() }
    }

    fn receive<L: L2>(&mut self, bus: &Inner<L>, registry: &Registry, bytes: &[u8]) {
        match message::parse(bytes) {
            None => count(&bus.counters.ignored),
            Some(Message::Beat { publisher, number }) if publisher == bus.id => self.prove(bus, number),
            // Nobody else's belong here.
            Some(Message::Beat { .. }) => count(&bus.counters.ignored),
            Some(Message::Changed { publisher, .. } | Message::Last { publisher, .. }) if publisher == bus.id => {}
            Some(Message::Changed { publisher, number, rows }) => {
                count(&bus.counters.received);
                if self.is_gap(publisher, number.saturating_sub(1), number) {
                    count(&bus.counters.gaps);
                    bus.flush(registry);
                } else {
                    let now = bus.env.nanos();
                    rows.into_iter().for_each(|(target, ids)| registry.forget(target, ids.as_deref(), now));
                }
            }
            Some(Message::Last { publisher, number }) => {
                if self.is_gap(publisher, number, number) {
                    count(&bus.counters.gaps);
                    bus.flush(registry);
                }
            }
        }
    }

    /// Whether a message before this one is missing, all up to `before` having been sent. Of a process that is not known
    /// yet all are, unless there were none.
    fn is_gap(&mut self, publisher: u64, before: u64, number: u64) -> bool {
        if self.numbers.len() >= MOST_PUBLISHERS && !self.numbers.contains_key(&publisher) {
            self.numbers.clear();
        }
        let known = self.numbers.entry(publisher).or_insert(0);
        let gap = before > *known;
        *known = number.max(*known);
        gap
    }

    fn next_beat<L: L2>(&mut self, bus: &Inner<L>) -> Vec<u8> {
        // Never the same twice: one of an earlier subscription that comes late is none of these.
        let number = bus.beats.fetch_add(1, Ordering::Relaxed);
        self.beats.push_back((number, bus.env.nanos()));
        message::beat(bus.id, number)
    }

    /// Everything published before this heartbeat was sent has arrived. Its age counts from then, not from now.
    fn prove<L: L2>(&mut self, bus: &Inner<L>, number: u64) {
        while let Some((sent, at)) = self.beats.front().copied().filter(|(sent, _)| *sent <= number) {
            self.beats.pop_front();
            if sent == number {
                self.proven = at;
                bus.current_until.store(at.saturating_add(nanos(bus.settings.silence)), Ordering::Relaxed);
                bus.proven.notify_waiters();
            }
        }
    }

    /// Whether no heartbeat came back for so long that the connection is not worth waiting for.
    fn is_silent<L: L2>(&self, bus: &Inner<L>) -> bool {
        bus.env.nanos().saturating_sub(self.proven) > nanos(bus.settings.silence)
    }
}

impl<L: L2> Inner<L> {
    /// Lets no row in process be served until a heartbeat comes back.
    fn distrust(&self) {
        self.current_until.store(0, Ordering::Relaxed);
        self.subscribed.store(false, Ordering::Relaxed);
    }

    /// Empties the tiers, and takes the loads under way off.
    fn flush(&self, registry: &Registry) {
        count(&self.counters.flushes);
        registry.flush();
    }

    fn give_up(&self, registry: &Registry) {
        self.distrust();
        self.flush(registry);
        tracing::debug!("the bus lost its connection; rows in process are not served until it is back");
    }

    fn cannot_listen(&self, error: &L2Error) {
        if let L2Error::Refused { .. } = error
            && !self.refused.swap(true, Ordering::Relaxed)
        {
            let channels = format!("{}*", self.channels[0]);
            tracing::warn!(%error, %channels, "no row is served in process: allow this user to subscribe and to publish");
        }
    }
}

/// The numbers of so many processes are remembered. More is an attack, or costs no more than rows in process.
const MOST_PUBLISHERS: usize = 4096;

#[cfg(all(test, feature = "redis"))]
mod tests {
    use std::sync::atomic::AtomicU64;
    use std::time::Duration;

    use super::*;
    use crate::bus::Bus;
    use crate::codec::header::Millis;
    use crate::env::Environment;
    use crate::redis::{RedisSettings, RedisTier};
    use crate::remote::{Remote, RemoteSettings};

    /// A clock that the test moves.
    #[derive(Default)]
    struct Clock(AtomicU64);

    impl Environment for Clock {
        fn nanos(&self) -> u64 {
            self.0.load(Ordering::Relaxed)
        }

        fn wall(&self) -> Millis {
            Millis(0)
        }

        fn random(&self) -> u64 {
            7
        }
    }

    /// A bus that contacts nobody; a silence of a thousand seconds.
    fn scene() -> (Arc<Clock>, Bus<RedisTier>, Registry) {
        let clock = Arc::new(Clock::default());
        let tier = RedisTier::new(RedisSettings::new("redis://127.0.0.1:1/")).unwrap();
        let remote = Remote::new(tier, RemoteSettings::new("app:*"));
        let env = Arc::clone(&clock) as Arc<dyn Environment>;
        (clock, Bus::new(remote, env, Arc::default(), "app", Duration::from_secs(100)), Registry::new(None))
    }

    fn seconds(count: u64) -> u64 {
        count * 1_000_000_000
    }

    #[test]
    fn the_age_of_a_heartbeat_counts_from_its_sending() {
        let (clock, bus, registry) = scene();
        let mut heard = Heard::begin(&bus.inner, &registry);
        let first = heard.next_beat(&bus.inner);
        clock.0.store(seconds(900), Ordering::Relaxed);
        assert!(!bus.is_current(bus.inner.env.nanos()), "none came back");
        heard.receive(&bus.inner, &registry, &first);
        assert!(bus.is_current(seconds(999)) && !bus.is_current(seconds(1_000)));
        assert_eq!(bus.stats().beat_age, Some(Duration::from_secs(900)));

        let second = heard.next_beat(&bus.inner);
        clock.0.store(seconds(1_001), Ordering::Relaxed);
        // One that was answered proves nothing again.
        heard.receive(&bus.inner, &registry, &first);
        assert!(!bus.is_current(seconds(1_001)) && heard.is_silent(&bus.inner));
        heard.receive(&bus.inner, &registry, &second);
        assert!(bus.is_current(seconds(1_899)) && !bus.is_current(seconds(1_900)) && !heard.is_silent(&bus.inner));
    }

    #[test]
    fn a_heartbeat_of_an_earlier_subscription_proves_nothing() {
        let (_, bus, registry) = scene();
        let beat = Heard::begin(&bus.inner, &registry).next_beat(&bus.inner);
        bus.inner.give_up(&registry);
        let mut heard = Heard::begin(&bus.inner, &registry);
        let own = heard.next_beat(&bus.inner);
        heard.receive(&bus.inner, &registry, &beat);
        assert!(!bus.is_current(0) && bus.stats().beat_age.is_none());
        heard.receive(&bus.inner, &registry, &own);
        assert!(bus.is_current(0));
    }

    #[test]
    fn numbers_tell_what_is_missing() {
        let (_, bus, registry) = scene();
        let mut heard = Heard::begin(&bus.inner, &registry);
        // From the first message on, and again, and whatever comes late.
        for (number, gap) in [(1, false), (2, false), (2, false), (1, false), (4, true), (5, false)] {
            assert_eq!(heard.is_gap(1, number - 1, number), gap, "message {number}");
        }
        assert!(!heard.is_gap(1, 5, 5) && heard.is_gap(1, 6, 6), "the last is 5");
        assert!(!heard.is_gap(2, 0, 0), "it sent nothing yet");
        assert!(heard.is_gap(3, 1, 2), "its first one was before");
    }
}
