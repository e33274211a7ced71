//! Up or down, and all that has to change together with it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::l2::{Claim, L2Error};

use super::is_permanent;
use super::journal::{Batch, Journal};

/// The breaker and the journal under one lock.
pub(super) struct Gate {
    /// Even while the tier is up, odd while it is down, one more at each change. Written under the lock of `book`, read
    /// without it by every command.
    word: AtomicU64,
    /// Whether an invalidation of this outage failed. Written under the lock of `book`; a reader that sees an older
    /// value tries in vain, or remembers a key it could have removed.
    writes_failed: AtomicBool,
    /// Whether an intent of this outage could not be placed. Written under the lock of `book`.
    announces_failed: AtomicBool,
    /// The probe ended with its runtime before it brought the tier up.
    probe_lost: AtomicBool,
    book: Mutex<Book>,
    /// Wakes those who wait for the tier to come up.
    came_up: Notify,
}

struct Book {
    journal: Journal,
    /// A key whose write was refused; its removal proves that the server takes writes again.
    proof: Option<String>,
    last_error: Option<String>,
    /// Whether the last error needs somebody's help.
    permanent: bool,
    /// Whether a probe is under way.
    probing: bool,
    /// When the tier came up last.
    up_since: Option<Instant>,
    /// When it was last said that the tier is down.
    warned_at: Option<Instant>,
    /// Whether that was said of this outage.
    warned: bool,
}

/// What the caller has to do after a change.
#[derive(Default)]
pub(super) struct Effects {
    pub(super) went_down: bool,
    pub(super) start_probe: bool,
    pub(super) warning: Option<String>,
}

/// What brought the tier up means for the log.
pub(super) enum CameUp {
    Quietly,
    AfterWarning,
}

impl Gate {
    pub(super) fn new(journal_capacity: usize) -> Self {
        Self {
            word: AtomicU64::new(0),
            writes_failed: AtomicBool::new(false),
            announces_failed: AtomicBool::new(false),
            probe_lost: AtomicBool::new(false),
            book: Mutex::new(Book {
                journal: Journal::new(journal_capacity),
                proof: None,
                last_error: None,
                permanent: false,
                probing: false,
                up_since: None,
                warned_at: None,
                warned: false,
            }),
            came_up: Notify::new(),
        }
    }

    pub(super) fn is_up(&self) -> bool {
        self.enter().is_some()
    }

    /// The present word, if the tier is up.
    pub(super) fn enter(&self) -> Option<u64> {
        let word = self.word.load(Ordering::Acquire);
        (word & 1 == 0).then_some(word)
    }

    /// Whether nothing changed since [`enter`](Self::enter).
    pub(super) fn is_still(&self, seen: u64) -> bool {
        self.word.load(Ordering::Acquire) == seen
    }

    pub(super) fn writes_failed(&self) -> bool {
        self.writes_failed.load(Ordering::Acquire)
    }

    /// The present word, up or down, unless a write of this outage failed.
    pub(super) fn enter_to_announce(&self) -> Option<u64> {
        let word = self.word.load(Ordering::Acquire);
        (!self.writes_failed() && !self.announces_failed.load(Ordering::Acquire)).then_some(word)
    }

    pub(super) fn pending(&self) -> u64 {
        self.book().journal.pending()
    }

    pub(super) fn last_error(&self) -> Option<String> {
        self.book().last_error.clone()
    }

    pub(super) async fn wait_until_up(&self) {
        let mut notified = std::pin::pin!(self.came_up.notified());
        while !self.is_up() {
            notified.as_mut().enable();
            if self.is_up() {
                return;
            }
            notified.as_mut().await;
            notified.set(self.came_up.notified());
        }
    }

    /// Remembers an error that has no other consequence.
    pub(super) fn note(&self, error: &L2Error) {
        self.book().last_error = Some(error.to_string());
    }

    /// Takes the tier down, unless it changed since the failed command entered.
    pub(super) fn take_down(&self, seen: u64, error: &L2Error, proof: Option<&str>) -> Effects {
        let mut book = self.book();
        if !self.is_still(seen) {
            return Effects::default();
        }
        book.proof = proof.map(str::to_owned);
        self.close_off(&mut book, error)
    }

    /// Takes the tier down and lets no further intent be tried until it is up again, unless it came up or went down since
    /// the failed command entered.
    pub(super) fn announce_failed(&self, seen: u64, error: &L2Error, proof: Option<&str>) -> Effects {
        let mut book = self.book();
        if !self.is_still(seen) {
            return Effects::default();
        }
        self.announces_failed.store(true, Ordering::Release);
        if proof.is_some() || self.is_up() {
            book.proof = proof.map(str::to_owned);
        }
        self.close_off(&mut book, error)
    }

    /// Enters keys into the journal and takes the tier down, in one step: no read is served after this and before the
    /// replay.
    pub(super) fn journal(&self, keys: Vec<Claim>, error: &L2Error) -> Effects {
        let mut book = self.book();
        book.journal.enter(keys);
        self.writes_failed.store(true, Ordering::Release);
        self.close_off(&mut book, error)
    }

    /// The key whose removal proves that the server takes writes.
    pub(super) fn proof(&self) -> Option<String> {
        self.book().proof.clone()
    }

    /// The next part of the journal.
    pub(super) fn batch(&self, most: usize) -> Option<Batch> {
        self.book().journal.batch(most)
    }

    /// A part of the journal is delivered, so further invalidations are worth a try; how many entries it settled.
    pub(super) fn settle(&self, batch: Batch) -> u64 {
        let mut book = self.book();
        self.writes_failed.store(false, Ordering::Release);
        book.journal.settle(batch)
    }

    /// Brings the tier up if the journal is empty.
    pub(super) fn bring_up(&self) -> Option<CameUp> {
        let mut book = self.book();
        if book.journal.pending() > 0 {
            return None;
        }
        book.proof = None;
        book.permanent = false;
        book.probing = false;
        book.up_since = Some(Instant::now());
        self.writes_failed.store(false, Ordering::Release);
        self.announces_failed.store(false, Ordering::Release);
        self.word.fetch_add(1, Ordering::AcqRel);
        let warned = std::mem::take(&mut book.warned);
        drop(book);
        self.came_up.notify_waiters();
        Some(if warned { CameUp::AfterWarning } else { CameUp::Quietly })
    }

    /// How long to wait before the first probe: longer for a server that only just came back.
    pub(super) fn first_pause(&self, most: Duration) -> Duration {
        let book = self.book();
        if book.permanent {
            PERMANENT_PAUSE
        } else if book.up_since.is_some_and(|since| since.elapsed() < FLAPPING) {
            most
        } else {
            most.min(FIRST_PAUSE)
        }
    }

    /// Records a failed probe; how long to wait for the next.
    pub(super) fn next_pause(&self, error: &L2Error, pause: Duration, most: Duration) -> Duration {
        let mut book = self.book();
        book.last_error = Some(error.to_string());
        book.permanent = is_permanent(error);
        if book.permanent { PERMANENT_PAUSE } else { (pause * 2).min(most) }
    }

    pub(super) fn lose_probe(&self) {
        let mut book = self.book();
        book.probing = false;
        self.probe_lost.store(true, Ordering::Release);
    }

    pub(super) fn is_probe_lost(&self) -> bool {
        self.probe_lost.load(Ordering::Acquire)
    }

    /// Whether the caller is to start the probe that was lost.
    pub(super) fn claim_lost_probe(&self) -> bool {
        let mut book = self.book();
        if self.is_up() || book.probing {
            return false;
        }
        self.probe_lost.store(false, Ordering::Release);
        book.probing = true;
        true
    }

    fn close_off(&self, book: &mut Book, error: &L2Error) -> Effects {
        book.last_error = Some(error.to_string());
        let mut effects = Effects { went_down: self.is_up(), ..Effects::default() };
        if effects.went_down {
            self.word.fetch_add(1, Ordering::AcqRel);
            book.permanent = is_permanent(error);
            if book.warned_at.is_none_or(|at| at.elapsed() >= WARNING_PAUSE) {
                book.warned_at = Some(Instant::now());
                book.warned = true;
                effects.warning = book.last_error.clone();
            }
        }
        if !book.probing {
            book.probing = true;
            self.probe_lost.store(false, Ordering::Release);
            effects.start_probe = true;
        }
        effects
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Before the first probe of an outage.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
/// Between probes while somebody has to change something.
const PERMANENT_PAUSE: Duration = Duration::from_secs(1);
/// A server that fails again within this time after it came back is probed less eagerly.
const FLAPPING: Duration = Duration::from_secs(1);
/// Outages that follow each other faster than this share one warning.
const WARNING_PAUSE: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tier_stays_down_while_the_journal_has_entries() {
        let (gate, error) = (Gate::new(10), L2Error::WrongType);
        let effects = gate.journal(vec![("a".to_owned(), None)], &error);
        assert!(effects.went_down && effects.start_probe && !gate.is_up());
        let batch = gate.batch(10).unwrap();
        gate.settle(batch);
        // Entered after the probe found the journal empty, before it brings the tier up.
        assert!(gate.batch(10).is_none());
        let effects = gate.journal(vec![("b".to_owned(), None)], &error);
        assert!(!effects.went_down && !effects.start_probe);
        assert!(gate.bring_up().is_none());
        assert!(!gate.is_up() && gate.writes_failed());
        let batch = gate.batch(10).unwrap();
        assert_eq!(gate.settle(batch), 1);
        assert!(gate.bring_up().is_some());
        assert!(gate.is_up() && !gate.writes_failed());
    }
}
