//! Counters that do not contend, and the snapshots made of them.

use std::fmt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

pub use crate::bus::BusStats;

/// Stripes that one thread at a time owns, and stripes for all other threads.
const OWNED: usize = 8;
const SHARED: usize = 8;

/// A counter striped over threads: adding touches a cache line few threads share; reading sums the stripes.
#[derive(Debug, Default)]
pub(crate) struct Counter([Stripe; OWNED + SHARED]);

#[derive(Debug, Default)]
#[repr(align(128))]
struct Stripe(AtomicU64);

impl Counter {
    #[inline]
    pub(crate) fn add(&self, n: u64) {
        self.add_here(n);
    }

    /// Adds one; whether it is the last of as many on this stripe.
    #[inline]
    pub(crate) fn completes(&self, many: u64) -> bool {
        self.add_here(1) % many == many - 1
    }

    /// What the stripe of this thread was before.
    #[inline]
    fn add_here(&self, n: u64) -> u64 {
        // A thread that ends has no place any more.
        let place = PLACE.try_with(|place| place.0).unwrap_or(OWNED);
        let count = &self.0[place].0;
        if place < OWNED {
            // Nobody else writes to it, and adding in one step would take several times as long.
            let before = count.load(Ordering::Relaxed);
            count.store(before + n, Ordering::Relaxed);
            before
        } else {
            count.fetch_add(n, Ordering::Relaxed)
        }
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.iter().map(|stripe| stripe.0.load(Ordering::Relaxed)).sum()
    }
}

thread_local! {
    static PLACE: Place = Place::take();
}

/// Which places have an owner, a bit for each.
static TAKEN: AtomicUsize = AtomicUsize::new(0);

/// Which stripe of every counter a thread adds to: one below [`OWNED`] is its own until it ends.
struct Place(usize);

impl Place {
    fn take() -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let take = |taken: usize| (taken.trailing_ones() < OWNED as u32).then_some(taken | (taken + 1));
        // Acquired from whoever gave it back: what it counted is seen.
        match TAKEN.fetch_update(Ordering::Acquire, Ordering::Relaxed, take) {
            Ok(taken) => Self(taken.trailing_ones() as usize),
            Err(_) => Self(OWNED + NEXT.fetch_add(1, Ordering::Relaxed) % SHARED),
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.0 < OWNED {
            TAKEN.fetch_and(!(1 << self.0), Ordering::Release);
        }
    }
}

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        /// The counters of one store.
        #[derive(Debug, Default)]
        pub(crate) struct Counters {
            $(pub(crate) $name: Counter,)*
        }

        /// What one store, or all stores of a manager together, did so far.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct StoreStats {
            $($(#[$doc])* pub $name: u64,)*
        }

        impl Counters {
            pub(crate) fn snapshot(&self) -> StoreStats {
                StoreStats { $($name: self.$name.get(),)* }
            }
        }

        impl StoreStats {
            pub(crate) fn add(&mut self, other: &Self) {
                $(self.$name += other.$name;)*
            }
        }
    };
}

counters! {
    /// Reads served in process.
    l1_hits,
    /// Reads served from Redis.
    l2_hits,
    /// Reads that joined a load already under way and sent no statement of their own.
    joined,
    /// Reads no tier could serve.
    misses,
    /// Reads that asked the database because Redis was down or did not answer.
    bypassed,
    /// Rows the database was asked for, one by one or in batches.
    loads,
    /// Values stored.
    fills,
    /// Values not stored, because their lease or flight was gone: a write came between.
    fills_refused,
    /// Values not stored, because they are larger than the limit.
    oversized,
    /// Values not stored, because a column refused to be encoded.
    encode_errors,
    /// Entries that could not be read back and were replaced.
    decode_errors,
    /// Entries filled by another version of the model, on another incarnation of the server, or past their time.
    outdated,
    /// Keys invalidated.
    invalidations,
    /// Intents placed by writes, renewals after a loss included.
    intents_placed,
    /// Intents that could not be placed: Redis could not be reached, did not answer in time, refused, or had no memory.
    intents_refused,
    /// Intents that did not stand any more when they were renewed or removed: evicted, flushed, or over their time.
    intents_lost,
    /// Entries the in-process tier evicted for room.
    l1_evictions,
    /// Entries the auditor compared with the database, or found gone.
    audited,
    /// Hits picked for the auditor that were not compared: too many were waiting, or there was no answer.
    audits_skipped,
    /// Entries the auditor found older than the database and still served after the grace, twice.
    audit_violations,
}

impl StoreStats {
    /// Reads served by a tier or by a load already under way.
    pub fn hits(&self) -> u64 {
        self.l1_hits + self.l2_hits + self.joined
    }

    /// Hits per read, 0 to 1; 0 before the first read.
    pub fn hit_rate(&self) -> f64 {
        rate(self.hits(), self.misses + self.bypassed)
    }
}

/// What a manager did so far: `CacheManager::get_stats`.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct CacheStats {
    /// Reads served by a tier or by a load already under way.
    pub hits: u64,
    /// Reads that went to the database.
    pub misses: u64,
    /// Commands that failed because Redis could not be reached, did not answer in time or refused.
    pub connection_errors: u64,
    /// Attempts beyond the first.
    pub retries: u64,
    /// Invalidations not yet confirmed by Redis; the cache is bypassed until there are none.
    pub pending_invalidations: u64,
    /// How often the breaker opened.
    pub breaker_opened: u64,
    /// What was told to other processes, and heard from them.
    pub bus: BusStats,
    /// All stores together.
    pub total: StoreStats,
    /// Each store by its prefix, in alphabetical order.
    pub stores: Vec<(String, StoreStats)>,
}

impl CacheStats {
    /// Hits per read, 0 to 1; 0 before the first read.
    pub fn hit_rate(&self) -> f64 {
        rate(self.hits, self.misses)
    }

    /// Hits per read, 0 to 100.
    pub fn hit_rate_percent(&self) -> f64 {
        self.hit_rate() * 100.0
    }
}

impl fmt::Display for CacheStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "hits {} (in process {}, redis {}, joined {}), misses {}, hit rate {:.2} %, fills {} ({} refused), \
             invalidations {} ({} pending), connection errors {}",
            self.hits,
            self.total.l1_hits,
            self.total.l2_hits,
            self.total.joined,
            self.misses,
            self.hit_rate_percent(),
            self.total.fills,
            self.total.fills_refused,
            self.total.invalidations,
            self.pending_invalidations,
            self.connection_errors,
        )?;
        match self.total.audited {
            0 => Ok(()),
            audited => write!(f, ", audited {audited} ({} violations)", self.total.audit_violations),
        }
    }
}

fn rate(hits: u64, misses: u64) -> f64 {
    let total = hits + misses;
    if total == 0 { 0.0 } else { hits as f64 / total as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_sums_over_threads_that_come_and_go() {
        let counter = Counter::default();
        std::thread::scope(|scope| {
            for _ in 0..2 * OWNED {
                scope.spawn(|| {
                    for _ in 0..50 {
                        std::thread::scope(|scope| {
                            scope.spawn(|| (0..100).for_each(|_| counter.add(1)));
                        });
                    }
                });
            }
        });
        assert_eq!(counter.get(), 2 * OWNED as u64 * 5_000);
    }

    #[test]
    fn the_hit_rate_is_a_fraction_and_prints_as_percent() {
        let stats = CacheStats { hits: 87, misses: 13, ..CacheStats::default() };
        assert_eq!(stats.hit_rate(), 0.87);
        assert!(stats.to_string().contains("hit rate 87.00 %"), "{stats}");
        assert_eq!(CacheStats::default().hit_rate(), 0.0);
    }
}
