//! The auditor: compares a share of the hits with the database, behind the callers' backs.
//!
//! A hit that is picked waits for the grace; then the database is read, and after it the cache. An entry that is
//! still the one that was served and differs waits once more and is compared again, so that a write under way does
//! not count. What differs then is a violation: the entry was loaded before the first comparison and outlived, for
//! a whole grace, a row that the database had then.

use std::collections::{BTreeMap, HashSet};
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio::runtime::Handle;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep_until};

use crate::config::MAX_WAIT;
use crate::env::thread_random;
use crate::error::CacheError;
use crate::flight::lock;

/// How the auditor works: see [`CacheManager::audit`](crate::CacheManager::audit).
///
/// | setting | default | what it changes |
/// |---|---|---|
/// | `grace` | 1 s | how long an entry may be out of date before that is a violation |
/// | `max_per_second` | 20 | how many comparisons are made at most: each is a statement and, with Redis, two `GET`s |
/// | `max_waiting` | 1,000 | how many hits wait for their comparison at most; further ones are skipped |
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct AuditOptions {
    sample: f64,
    grace: Duration,
    max_per_second: u32,
    max_waiting: usize,
}

impl AuditOptions {
    /// Picks this share of the hits: 0.01 is one in a hundred, 0 none, 1 all.
    pub fn new(sample: f64) -> Self {
        Self { sample, grace: Duration::from_secs(1), max_per_second: 20, max_waiting: 1_000 }
    }

    /// How long an entry may be out of date. A write that takes longer than this from its COMMIT to its invalidation is
    /// reported, as when its process stands still in between.
    #[must_use]
    pub fn with_grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    /// How many comparisons are made per second at most; 0 counts as 1.
    #[must_use]
    pub fn with_max_per_second(mut self, comparisons: u32) -> Self {
        self.max_per_second = comparisons.max(1);
        self
    }

    /// How many hits wait for their comparison at most; 0 counts as 1.
    #[must_use]
    pub fn with_max_waiting(mut self, hits: usize) -> Self {
        self.max_waiting = hits.clamp(1, Semaphore::MAX_PERMITS);
        self
    }

    fn check(&self) -> Result<(), CacheError> {
        let Self { sample, grace, .. } = self;
        if !(0.0..=1.0).contains(sample) {
            return Err(CacheError::Configuration(format!("the audited share is {sample}; give it 0 to 1")));
        }
        if *grace > MAX_WAIT {
            return Err(CacheError::Configuration(format!("the grace is {grace:?}; give it at most {MAX_WAIT:?}")));
        }
        Ok(())
    }
}

/// A hit that was picked.
pub(crate) trait Hit: Send + Sync {
    /// Names the entry: hits on one entry have the same.
    fn entry(&self) -> u64;

    /// Compares the entry with the database.
    fn compare(&self) -> BoxFuture<'_, Compared>;

    /// Counts and reports the entry as one that differed twice.
    fn report(&self) -> BoxFuture<'_, ()>;
}

/// What a comparison found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Compared {
    /// The entry is as the database is, or it is gone, or that cannot be told.
    Done,
    /// The entry is served and differs.
    Differs,
}

/// Picks hits, and hands them to a task that compares them. The task ends with the auditor.
#[derive(Default)]
pub(crate) struct Auditor {
    /// A random number up to this picks a hit; 0 while the auditor is off.
    threshold: AtomicU64,
    /// Where picked hits go; `None` while the auditor is off. Guards the handles alone.
    intake: Mutex<Option<Intake>>,
}

struct Intake {
    picked: UnboundedSender<Picked>,
    room: Arc<Semaphore>,
    grace: Duration,
}

struct Picked {
    hit: Box<dyn Hit>,
    /// How long before each comparison.
    wait: Duration,
    at: Instant,
    /// Whether it differed once.
    differed: bool,
    /// The place among those that wait.
    _place: OwnedSemaphorePermit,
}

impl Auditor {
    /// Begins anew with these options; a share of 0 ends it. What waits is given up.
    pub(crate) fn set(&self, options: &AuditOptions) -> Result<(), CacheError> {
        options.check()?;
        let mut intake = lock(&self.intake);
        if options.sample == 0.0 {
            self.threshold.store(0, Ordering::Relaxed);
            *intake = None;
            return Ok(());
        }
        let Ok(runtime) = Handle::try_current() else {
            return Err(CacheError::Configuration(
                "the auditor needs a tokio runtime; call this inside one".to_owned(),
            ));
        };
        let (picked, waiting) = unbounded_channel();
        let pause = Duration::from_secs(1) / options.max_per_second;
        runtime.spawn(run(waiting, pause));
        *intake = Some(Intake { picked, room: Arc::new(Semaphore::new(options.max_waiting)), grace: options.grace });
        // Saturates: the share 1 picks all.
        self.threshold.store(((options.sample * u64::MAX as f64) as u64).max(1), Ordering::Relaxed);
        Ok(())
    }

    /// Whether this hit is picked. One relaxed load while the auditor is off.
    #[inline]
    pub(crate) fn picks(&self) -> bool {
        let threshold = self.threshold.load(Ordering::Relaxed);
        threshold != 0 && thread_random() <= threshold
    }

    /// Takes a hit whose entry may be out of date for `bound` and the grace; whether there was room for it.
    pub(crate) fn take(&self, hit: Box<dyn Hit>, bound: Duration) -> bool {
        let intake = lock(&self.intake);
        let Some(intake) = &*intake else { return false };
        let Ok(place) = Arc::clone(&intake.room).try_acquire_owned() else { return false };
        let wait = intake.grace.saturating_add(bound).min(MAX_WAIT);
        let picked = Picked { hit, wait, at: Instant::now(), differed: false, _place: place };
        intake.picked.send(picked).is_ok()
    }
}

async fn run(mut picked: UnboundedReceiver<Picked>, pause: Duration) {
    let mut waiting: BTreeMap<(Instant, u64), Picked> = BTreeMap::new();
    let mut entries = HashSet::new();
    let mut reported = HashSet::new();
    let (mut serial, mut turn) = (0, Instant::now());
    loop {
        let next = waiting.keys().next().map(|(due, _)| (*due).max(turn));
        tokio::select! {
            new = picked.recv() => {
                let Some(new) = new else { return };
                let entry = new.hit.entry();
                // Once per entry: many hits on one tell no more than one.
                if !reported.contains(&entry) && entries.insert(entry) {
                    serial += 1;
                    waiting.insert((new.at + new.wait, serial), new);
                }
            }
            () = sleep_until(next.unwrap_or(turn)), if next.is_some() => {
                let Some((_, mut hit)) = waiting.pop_first() else { continue };
                turn = Instant::now() + pause;
                // A row type that panics ends its own comparison, and nothing else.
                let compared = AssertUnwindSafe(async { hit.hit.compare().await }).catch_unwind().await;
                let compared = compared.unwrap_or(Compared::Done);
                if compared == Compared::Differs && !hit.differed {
                    hit.differed = true;
                    serial += 1;
                    waiting.insert((Instant::now() + hit.wait, serial), hit);
                    continue;
                }
                let entry = hit.hit.entry();
                if compared == Compared::Differs {
                    if reported.len() == MAX_REPORTED {
                        reported.clear();
                    }
                    reported.insert(entry);
                    AssertUnwindSafe(async { hit.hit.report().await }).catch_unwind().await.ok();
                }
                entries.remove(&entry);
            }
        }
    }
}

/// How many reported entries are remembered, each to be reported once.
const MAX_REPORTED: usize = 10_000;

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    #[derive(Default)]
    struct Log {
        compared: AtomicUsize,
        reported: AtomicUsize,
    }

    struct Fake {
        log: Arc<Log>,
        entry: u64,
        differs: usize,
    }

    impl Hit for Fake {
        fn entry(&self) -> u64 {
            self.entry
        }

        fn compare(&self) -> BoxFuture<'_, Compared> {
            let compared = self.log.compared.fetch_add(1, Ordering::SeqCst);
            assert!(self.entry != PANICS, "a comparison that panics");
            let found = if compared < self.differs { Compared::Differs } else { Compared::Done };
            std::future::ready(found).boxed()
        }

        fn report(&self) -> BoxFuture<'_, ()> {
            self.log.reported.fetch_add(1, Ordering::SeqCst);
            std::future::ready(()).boxed()
        }
    }

    const PANICS: u64 = 99;
    const GRACE: Duration = Duration::from_secs(1);

    fn auditor(options: &AuditOptions) -> (Auditor, Arc<Log>) {
        let auditor = Auditor::default();
        auditor.set(options).unwrap();
        (auditor, Arc::default())
    }

    fn take(auditor: &Auditor, log: &Arc<Log>, entry: u64, differs: usize) -> bool {
        auditor.take(Box::new(Fake { log: Arc::clone(log), entry, differs }), Duration::ZERO)
    }

    fn counts(log: &Log) -> (usize, usize) {
        (log.compared.load(Ordering::SeqCst), log.reported.load(Ordering::SeqCst))
    }

    /// Lets the clock stand at `after`, everything due before it done.
    async fn at(after: Duration) {
        tokio::time::advance(after).await;
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_entry_that_differs_is_reported_once_and_after_the_second_grace() {
        let (auditor, log) = auditor(&AuditOptions::new(1.0).with_grace(GRACE));
        assert!(take(&auditor, &log, 1, usize::MAX) && take(&auditor, &log, 1, usize::MAX));
        at(GRACE - Duration::from_millis(10)).await;
        assert_eq!(counts(&log), (0, 0));
        at(Duration::from_millis(20)).await;
        assert_eq!(counts(&log), (1, 0));
        at(GRACE + Duration::from_millis(20)).await;
        assert_eq!(counts(&log), (2, 1));
        assert!(take(&auditor, &log, 1, usize::MAX));
        at(GRACE * 3).await;
        assert_eq!(counts(&log), (2, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_write_under_way_is_no_violation() {
        let (auditor, log) = auditor(&AuditOptions::new(1.0).with_grace(GRACE));
        take(&auditor, &log, 1, 1);
        at(GRACE + Duration::from_millis(20)).await;
        at(GRACE + Duration::from_millis(20)).await;
        assert_eq!(counts(&log), (2, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn what_waits_is_bounded_and_so_is_the_rate() {
        let (auditor, log) =
            auditor(&AuditOptions::new(1.0).with_grace(GRACE).with_max_waiting(10).with_max_per_second(2));
        let taken = (0..100).filter(|entry| take(&auditor, &log, *entry + 1, 0)).count();
        assert_eq!(taken, 10);
        at(GRACE + Duration::from_millis(10)).await;
        assert_eq!(counts(&log).0, 1);
        for done in 2..=10 {
            at(Duration::from_millis(510)).await;
            assert_eq!(counts(&log).0, done);
        }
        assert!(take(&auditor, &log, 200, 0), "there is room again");
    }

    #[tokio::test(start_paused = true)]
    async fn a_comparison_that_panics_ends_alone() {
        let (auditor, log) = auditor(&AuditOptions::new(1.0).with_grace(GRACE).with_max_per_second(1_000));
        take(&auditor, &log, PANICS, 0);
        take(&auditor, &log, 1, 0);
        at(GRACE + Duration::from_millis(10)).await;
        at(Duration::from_millis(10)).await;
        assert_eq!(counts(&log).0, 2);
    }

    #[tokio::test]
    async fn the_share_decides() {
        let (auditor, _) = auditor(&AuditOptions::new(1.0));
        assert!((0..1_000).all(|_| auditor.picks()));
        auditor.set(&AuditOptions::new(0.1)).unwrap();
        let picked = (0..100_000).filter(|_| auditor.picks()).count();
        assert!((9_000..11_000).contains(&picked), "{picked}");
        auditor.set(&AuditOptions::new(0.0)).unwrap();
        assert!((0..1_000).all(|_| !auditor.picks()));
        let log = Arc::default();
        assert!(!take(&auditor, &log, 1, 0), "off takes nothing");
    }

    #[tokio::test]
    async fn the_task_ends_with_the_auditor() {
        let (auditor, log) = auditor(&AuditOptions::new(1.0));
        take(&auditor, &log, 1, 0);
        drop(auditor);
        while Arc::strong_count(&log) > 1 {
            tokio::task::yield_now().await;
        }
    }

    #[test]
    fn options_are_checked() {
        let auditor = Auditor::default();
        for refused in [
            AuditOptions::new(1.5),
            AuditOptions::new(-0.1),
            AuditOptions::new(f64::NAN),
            AuditOptions::new(0.5).with_grace(Duration::MAX),
            // Outside a runtime.
            AuditOptions::new(0.5),
        ] {
            assert!(matches!(auditor.set(&refused), Err(CacheError::Configuration(_))), "{refused:?}");
        }
        assert!(auditor.set(&AuditOptions::new(0.0)).is_ok());
    }
}
