//! Rows on their way into the shared tier, behind the callers' backs.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use super::{Inner, LeaseId, Led};
use crate::codec::header::{self, Stamp, Token};
use crate::codec::{Cacheable, EncodeError, Encoder};
use crate::env::turn;
use crate::flight::{Registered, lock};
use crate::l2::{Fill, Incarnation, L2};
use crate::loader::Loader;
use crate::remote::Remote;

/// A row to be stored: the lease it was loaded under, its key, the row, how long it may be kept, and who granted the lease.
pub(super) type Filling<Ld> =
    (Registered<LeaseId, Led<Ld>>, String, Option<Arc<<Ld as Loader>::Value>>, Duration, Incarnation);

impl<Ld: Loader, L: L2> Inner<Ld, L> {
    /// Stores a row together with those that come in this turn of the runtime.
    pub(super) fn fill_soon(self: &Arc<Self>, remote: &Remote<L>, row: Filling<Ld>) {
        // Until somebody else has marked the work.
        let _running = self.manager.background();
        let full = {
            let mut fills = lock(&self.fills);
            fills.push(row);
            match fills.len() {
                1 => None,
                FILLED_AT_ONCE.. => Some(std::mem::take(&mut *fills)),
                _ => return,
            }
        };
        if let Some(rows) = full {
            let (inner, remote) = (Arc::clone(self), remote.clone());
            return self.manager.in_background(async move { inner.fill(&remote, rows).await });
        }
        let (mut round, remote) = (Round { inner: Arc::clone(self), is_over: false }, remote.clone());
        self.manager.in_background(async move {
            turn().await;
            let rows = round.take();
            round.inner.fill(&remote, rows).await;
        });
    }

    /// Stores rows under their leases, in one round trip.
    pub(super) async fn fill(&self, remote: &Remote<L>, rows: Vec<Filling<Ld>>) {
        let limit = self.manager.config().max_value_bytes;
        let now = self.wall();
        let (mut fills, mut given_up) = (Vec::with_capacity(rows.len()), Vec::new());
        // Until the values stand, who sees a lease finds its load.
        let mut held = Vec::with_capacity(rows.len());
        for (lease, key, row, ttl, incarnation) in rows {
            let LeaseId { token, identity } = lease.key();
            held.push(lease);
            let stamp = Stamp {
                schema: Ld::Value::SCHEMA,
                identity,
                incarnation,
                token,
                expires: now.plus(ttl),
                refresh: now.plus(ttl),
                filled: now,
                absent: row.is_none(),
            };
            match self.value(&stamp, row.as_deref()) {
                Some(value) if value.len() <= limit => fills.push(Fill { key, token, value, ttl }),
                Some(_) => {
                    self.counters.oversized.add(1);
                    given_up.push((key, token));
                }
                None => given_up.push((key, token)),
            }
        }
        if !fills.is_empty()
            && let Ok(stored) = remote.fill(&fills, remote.background_deadline()).await
        {
            let stored = stored.into_iter().filter(|stored| *stored).count() as u64;
            self.counters.fills.add(stored);
            self.counters.fills_refused.add(fills.len() as u64 - stored);
        }
        if !given_up.is_empty() {
            self.release(remote, given_up).await;
        }
    }

    /// Gives leases back. One that cannot be given back ends by itself when its time is over.
    pub(super) async fn release(&self, remote: &Remote<L>, leases: Vec<(String, Token)>) {
        if remote.release(&leases, remote.background_deadline()).await.is_err() {
            tracing::debug!(count = leases.len(), "leases were not given back; they expire");
        }
    }

    /// The bytes of an entry; `None` when the row cannot be encoded.
    fn value(&self, stamp: &Stamp, row: Option<&Ld::Value>) -> Option<Vec<u8>> {
        let mut bytes = header::open(stamp, 256);
        if let Some(row) = row {
            let mut out = Encoder::over(bytes);
            // A type that panics loses its own row alone.
            let written = catch_unwind(AssertUnwindSafe(|| row.write(&mut out)));
            if let Err(error) = written.unwrap_or_else(|_| Err(EncodeError::new("writing the row panicked"))) {
                self.counters.encode_errors.add(1);
                tracing::warn!(store = self.space.store(), %error, "a row cannot be cached");
                return None;
            }
            bytes = out.into_bytes();
        }
        header::seal(&mut bytes);
        Some(bytes)
    }
}

/// How many rows one task fills: some calls of the tier's script.
pub(super) const FILLED_AT_ONCE: usize = 256;

/// The duty to store what has gathered. Dropped with its runtime, it lets the next row have a round of its own, and the
/// leases end by themselves.
struct Round<Ld: Loader, L: L2> {
    inner: Arc<Inner<Ld, L>>,
    is_over: bool,
}

impl<Ld: Loader, L: L2> Round<Ld, L> {
    fn take(&mut self) -> Vec<Filling<Ld>> {
        self.is_over = true;
        std::mem::take(&mut lock(&self.inner.fills))
    }
}

impl<Ld: Loader, L: L2> Drop for Round<Ld, L> {
    fn drop(&mut self) {
        if !self.is_over {
            self.take();
        }
    }
}
