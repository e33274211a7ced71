//! Invalidations and manual operations: several attempts, one bound.

use std::future::Future;
use std::sync::Arc;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::time::{Instant, sleep, sleep_until, timeout};

#[cfg(storehaus_broken)]
use crate::broken::{self, Bug};
use crate::l2::{Claim, Cleared, L2, L2Error};

use super::{Inner, Invalidated, is_temporary};

pub(super) async fn invalidate<L: L2>(inner: &Arc<Inner<L>>, keys: Vec<Claim>) -> Invalidated {
    let error = L2Error::Connection("an invalidation was abandoned by its caller".to_owned());
    let mut owed = Owed { inner, keys, error };
    let deadline = Instant::now() + inner.settings.timeout;
    let mut lost = 0;
    while !owed.keys.is_empty() {
        let part = owed.keys.len().min(PART);
        #[cfg(storehaus_broken)]
        if broken::is(Bug::IgnoreErrors) {
            deliver(inner, &owed.keys[..part], deadline).await.ok();
            owed.keys.drain(..part);
            continue;
        }
        if inner.gate.writes_failed() {
            owed.error = L2Error::Connection("an earlier invalidation is not delivered yet".to_owned());
            return Invalidated::Journaled;
        }
        match deliver(inner, &owed.keys[..part], deadline).await {
            Ok(cleared) => lost += cleared.lost,
            Err(error) => {
                owed.error = error;
                return Invalidated::Journaled;
            }
        }
        owed.keys.drain(..part);
    }
    Invalidated::Confirmed { lost }
}

pub(super) async fn retrying<L, T, F, Fut>(inner: &Inner<L>, mut operation: F) -> Result<T, L2Error>
where
    L: L2,
    F: FnMut(Arc<L>) -> Fut,
    Fut: Future<Output = Result<T, L2Error>>,
{
    let limit = inner.settings.timeout;
    let mut left = inner.settings.retry_attempts;
    loop {
        let answer = timeout(limit, operation(Arc::clone(&inner.l2))).await;
        let error = match answer.unwrap_or(Err(L2Error::Timeout(limit))) {
            Ok(done) => return Ok(done),
            Err(error) => error,
        };
        inner.counters.count(&error);
        left = left.saturating_sub(1);
        if left == 0 || !is_temporary(&error) {
            return Err(error);
        }
        if let L2Error::Timeout(_) = error {
            inner.l2.reset();
        }
        sleep(inner.settings.retry_delay).await;
        inner.counters.retried();
    }
}

/// Keys that are neither removed nor remembered. Whatever becomes of the future that holds it, they are remembered.
struct Owed<'a, L: L2> {
    inner: &'a Arc<Inner<L>>,
    keys: Vec<Claim>,
    error: L2Error,
}

impl<L: L2> Drop for Owed<'_, L> {
    fn drop(&mut self) {
        if !self.keys.is_empty() {
            let effects = self.inner.gate.journal(std::mem::take(&mut self.keys), &self.error);
            self.inner.act(effects);
        }
    }
}

/// Removes keys by `deadline`. An attempt that failed is followed by another after the pause; one that is silent for
/// half of the time left gets company on a new connection, and whichever is answered counts.
async fn deliver<L: L2>(inner: &Inner<L>, keys: &[Claim], deadline: Instant) -> Result<Cleared, L2Error> {
    let mut left = inner.settings.retry_attempts.max(1) - 1;
    let mut running = FuturesUnordered::new();
    running.push(inner.l2.clear(keys));
    let mut next = half_way(deadline);
    let mut failure = None;
    loop {
        let wake = if left > 0 { next.min(deadline) } else { deadline };
        tokio::select! {
            biased;
            Some(answer) = running.next() => {
                let error = match answer {
                    Ok(cleared) => return Ok(cleared),
                    Err(error) => error,
                };
                inner.counters.count(&error);
                if !is_temporary(&error) || (left == 0 && running.is_empty()) {
                    return Err(error);
                }
                failure = Some(error);
                next = next.min(Instant::now() + inner.settings.retry_delay);
            }
            () = sleep_until(wake) => {
                if left == 0 || Instant::now() >= deadline {
                    return Err(failure.unwrap_or_else(|| {
                        let error = L2Error::Timeout(inner.settings.timeout);
                        inner.counters.count(&error);
                        error
                    }));
                }
                left -= 1;
                inner.counters.retried();
                inner.l2.reset();
                running.push(inner.l2.clear(keys));
                next = half_way(deadline);
            }
        }
    }
}

fn half_way(deadline: Instant) -> Instant {
    let now = Instant::now();
    now + deadline.saturating_duration_since(now) / 2
}

/// How many keys one command removes.
const PART: usize = 1000;
