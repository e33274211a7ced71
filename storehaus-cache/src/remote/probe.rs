//! The task that ends an outage: asks the server, replays the journal, brings the tier up.

use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::{sleep, timeout};

#[cfg(storehaus_broken)]
use crate::broken::{self, Bug};
use crate::l2::{L2, L2Error};

use super::Inner;
use super::gate::CameUp;
use super::journal::Batch;

/// Starts the probe on the current runtime. Without one it counts as lost, and whoever reads next starts it.
pub(super) fn start<L: L2>(inner: &Arc<Inner<L>>) {
    match Handle::try_current() {
        Ok(runtime) => drop(runtime.spawn(run(Watch { inner: Arc::downgrade(inner), done: false }))),
        Err(_) => inner.gate.lose_probe(),
    }
}

/// Reports a probe that ends with its runtime. Does not keep the tier alive.
struct Watch<L: L2> {
    inner: Weak<Inner<L>>,
    done: bool,
}

impl<L: L2> Drop for Watch<L> {
    fn drop(&mut self) {
        if let (false, Some(inner)) = (self.done, self.inner.upgrade()) {
            inner.gate.lose_probe();
        }
    }
}

/// How long the next attempt may take. What did not answer in time is given more, so that a slow server is recognised.
struct Bounds {
    probe: Duration,
    flush: Duration,
}

async fn run<L: L2>(mut watch: Watch<L>) {
    let Some((mut pause, mut bounds)) = watch.inner.upgrade().map(|inner| {
        let pause = inner.gate.first_pause(inner.settings.probe_interval);
        (pause, Bounds { probe: inner.settings.read_budget, flush: FLUSH_BOUND.max(inner.settings.timeout) })
    }) else {
        return;
    };
    loop {
        sleep(pause).await;
        let Some(inner) = watch.inner.upgrade() else { return };
        match attempt(&inner, &mut bounds).await {
            Ok(came_up) => {
                watch.done = true;
                if let CameUp::AfterWarning = came_up {
                    tracing::info!("the shared cache is in use again");
                }
                return;
            }
            Err(error) => pause = inner.gate.next_pause(&error, pause, inner.settings.probe_interval),
        }
    }
}

async fn attempt<L: L2>(inner: &Inner<L>, bounds: &mut Bounds) -> Result<CameUp, L2Error> {
    let limit = inner.settings.timeout;
    bounded(bounds.probe, inner.l2.probe()).await.inspect_err(|error| {
        if let L2Error::Timeout(_) = error {
            bounds.probe = (bounds.probe * 2).min(limit.max(inner.settings.read_budget));
        }
    })?;
    if let Some(key) = inner.gate.proof() {
        bounded(limit, inner.l2.clear(&[(key, None)])).await?;
    }
    loop {
        let batch = match inner.gate.batch(BATCH) {
            Some(batch) => batch,
            None => match inner.gate.bring_up() {
                Some(came_up) => return Ok(came_up),
                None => continue,
            },
        };
        #[cfg(storehaus_broken)]
        if broken::is(Bug::SwallowJournal) {
            inner.gate.settle(batch);
            continue;
        }
        match &batch {
            Batch::Keys(keys, _) => bounded(limit, inner.l2.clear(keys)).await?.removed,
            Batch::Everything(_) => {
                let flushed = bounded(bounds.flush, inner.l2.delete_matching(&inner.settings.flush_glob)).await;
                flushed.inspect_err(|error| {
                    if let L2Error::Timeout(_) = error {
                        bounds.flush = bounds.flush.saturating_mul(2);
                    }
                })?
            }
        };
        inner.counters.replayed(inner.gate.settle(batch));
    }
}

async fn bounded<T>(limit: Duration, command: impl Future<Output = Result<T, L2Error>>) -> Result<T, L2Error> {
    timeout(limit, command).await.unwrap_or(Err(L2Error::Timeout(limit)))
}

/// How many keys one command removes.
const BATCH: usize = 512;
/// How long the first removal of everything may take.
pub(super) const FLUSH_BOUND: Duration = Duration::from_secs(30);
