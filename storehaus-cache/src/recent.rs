//! The invalidations that a manager saw last, for [`explain`](crate::record::RecordCache::explain).

use std::sync::Mutex;
use std::time::Duration;

use crate::explain::{InvalidatedBy, Invalidation};
use crate::flight::lock;

/// The last invalidations of the rows of one table, one per slot: a later one on the same slot takes its place. Bounded,
/// and cheap enough for every write: one uncontended lock per row.
pub(crate) struct Recent {
    slots: Box<[Mutex<Option<Slot>>]>,
}

#[derive(Clone, Copy)]
struct Slot {
    /// The digest of the row's encoded key.
    digest: u64,
    /// When, on the monotonic clock.
    at: u64,
    by: InvalidatedBy,
}

impl Recent {
    pub(crate) fn note(&self, digest: u64, by: InvalidatedBy, now: u64) {
        *lock(self.slot(digest)) = Some(Slot { digest, at: now, by });
    }

    pub(crate) fn last(&self, digest: u64, now: u64) -> Option<Invalidation> {
        let slot = (*lock(self.slot(digest))).filter(|slot| slot.digest == digest)?;
        Some(Invalidation { age: Duration::from_nanos(now.saturating_sub(slot.at)), by: slot.by })
    }

    fn slot(&self, digest: u64) -> &Mutex<Option<Slot>> {
        &self.slots[digest as usize % SLOTS]
    }
}

impl Default for Recent {
    fn default() -> Self {
        Self { slots: (0..SLOTS).map(|_| Mutex::default()).collect() }
    }
}

const SLOTS: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_of_a_row_is_known_until_another_row_takes_its_slot() {
        let recent = Recent::default();
        assert_eq!(recent.last(7, 0), None);
        recent.note(7, InvalidatedBy::Hand, 10);
        recent.note(7, InvalidatedBy::Write, 20);
        recent.note(8, InvalidatedBy::Hand, 30);
        assert_eq!(recent.last(7, 50), Some(Invalidation { age: Duration::from_nanos(30), by: InvalidatedBy::Write }));
        recent.note(7 + SLOTS as u64, InvalidatedBy::Hand, 60);
        assert_eq!(recent.last(7, 70), None);
    }
}
