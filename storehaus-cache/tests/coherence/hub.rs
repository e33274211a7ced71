//! The channels of the tier in memory: whose messages can be lost, held, refused.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use futures_util::StreamExt as _;
use futures_util::stream::unfold;
use storehaus_cache::l2::{L2Error, Messages};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

use crate::shelf::Gate;

/// Who is subscribed, and to which channels.
type Subscriber = (Vec<String>, UnboundedSender<Vec<u8>>);

#[derive(Default)]
pub(super) struct Hub {
    subscribers: Mutex<Vec<Subscriber>>,
    /// How many subscriptions there were.
    pub(super) subscriptions: AtomicUsize,
    /// How many messages came on the channel of all.
    pub(super) published: AtomicUsize,
    /// How many of these are taken and passed on to nobody.
    pub(super) lose: AtomicUsize,
    /// Whether nothing is passed on.
    pub(super) silent: AtomicBool,
    /// What the next messages fail with.
    pub(super) refusals: Mutex<Vec<L2Error>>,
    /// Before a message on the channel of all.
    pub(super) gate: Gate,
}

impl Hub {
    pub(super) async fn publish(&self, channel: &str, message: &[u8]) -> Result<u64, L2Error> {
        let of_all = channel.ends_with(":bus");
        if of_all {
            self.gate.pass().await;
            if let Some(error) = self.refusals.lock().unwrap().pop() {
                return Err(error);
            }
            self.published.fetch_add(1, Ordering::SeqCst);
            let lost = self.lose.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok();
            if lost {
                return Ok(self.receivers(channel));
            }
        }
        Ok(self.pass_on(channel, message))
    }

    /// A message as anybody may send it.
    pub(super) fn pass_on(&self, channel: &str, message: &[u8]) -> u64 {
        if self.silent.load(Ordering::SeqCst) {
            return self.receivers(channel);
        }
        let mut subscribers = self.subscribers.lock().unwrap();
        subscribers.retain(|(channels, subscriber)| {
            !channels.iter().any(|name| name == channel) || subscriber.send(message.to_vec()).is_ok()
        });
        drop(subscribers);
        self.receivers(channel)
    }

    pub(super) fn subscribe(&self, channels: &[String]) -> Messages {
        let (sender, receiver) = unbounded_channel();
        self.subscribers.lock().unwrap().push((channels.to_vec(), sender));
        self.subscriptions.fetch_add(1, Ordering::SeqCst);
        unfold(receiver, |mut receiver| async { Some((receiver.recv().await?, receiver)) }).boxed()
    }

    /// Ends every subscription.
    pub(super) fn cut(&self) {
        self.subscribers.lock().unwrap().clear();
    }

    /// The channels of somebody's heartbeats.
    pub(super) fn channels(&self) -> Vec<String> {
        self.subscribers.lock().unwrap().iter().flat_map(|(channels, _)| channels.clone()).collect()
    }

    fn receivers(&self, channel: &str) -> u64 {
        let subscribers = self.subscribers.lock().unwrap();
        subscribers.iter().filter(|(channels, _)| channels.iter().any(|name| name == channel)).count() as u64
    }
}
