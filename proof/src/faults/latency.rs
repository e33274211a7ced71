//! How long calls took: counts by size, exact to one part in 16.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

const SUB: u64 = 16;
const BUCKETS: usize = 1024;

/// Counts latencies; many threads may add.
pub(super) struct Latencies {
    counts: Vec<AtomicU64>,
    slowest: AtomicU64,
}

/// What was counted between two looks.
#[derive(Clone)]
pub(super) struct Counted {
    counts: Vec<u64>,
    slowest: Duration,
}

impl Default for Latencies {
    fn default() -> Self {
        Self { counts: (0..BUCKETS).map(|_| AtomicU64::new(0)).collect(), slowest: AtomicU64::new(0) }
    }
}

impl Latencies {
    /// Counts one call.
    pub(super) fn add(&self, took: Duration) {
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.counts[bucket(nanos)].fetch_add(1, Ordering::Relaxed);
        self.slowest.fetch_max(nanos, Ordering::Relaxed);
    }

    /// What was counted since the last look.
    pub(super) fn take(&self) -> Counted {
        Counted {
            counts: self.counts.iter().map(|count| count.swap(0, Ordering::Relaxed)).collect(),
            slowest: Duration::from_nanos(self.slowest.swap(0, Ordering::Relaxed)),
        }
    }
}

impl Counted {
    /// All of them together.
    pub(super) fn sum(parts: impl Iterator<Item = Self>) -> Self {
        let nothing = Self { counts: vec![0; BUCKETS], slowest: Duration::ZERO };
        parts.fold(nothing, |mut sum, part| {
            sum.counts.iter_mut().zip(&part.counts).for_each(|(sum, count)| *sum += count);
            sum.slowest = sum.slowest.max(part.slowest);
            sum
        })
    }

    /// How many calls.
    pub(super) fn calls(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// The slowest call.
    pub(super) fn slowest(&self) -> Duration {
        self.slowest
    }

    /// The latency that `permille` of a thousand calls did not exceed; 0 without a call.
    pub(super) fn permille(&self, permille: u64) -> Duration {
        let rank = (self.calls() * permille).div_ceil(1000).max(1);
        let mut seen = 0;
        for (at, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return Duration::from_nanos(end(at)).min(self.slowest);
            }
        }
        self.slowest
    }

    /// How many calls took longer.
    pub(super) fn slower_than(&self, limit: Duration) -> u64 {
        let limit = u64::try_from(limit.as_nanos()).unwrap_or(u64::MAX);
        self.counts[bucket(limit) + 1..].iter().sum()
    }
}

/// Sixteen buckets for each power of two.
fn bucket(nanos: u64) -> usize {
    if nanos < SUB {
        return nanos as usize;
    }
    let power = u64::from(nanos.ilog2());
    ((power - 3) * SUB + (nanos >> (power - 4)) - SUB) as usize
}

/// The largest latency of a bucket.
fn end(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    if bucket < SUB {
        return bucket;
    }
    let (power, sub) = (bucket / SUB + 3, bucket % SUB + SUB);
    ((sub + 1) << (power - 4)) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_ends_where_the_next_begins() {
        for at in 0..960 {
            assert_eq!((bucket(end(at)), bucket(end(at) + 1)), (at, at + 1));
        }
        assert!(bucket(u64::MAX) < BUCKETS);
    }

    #[test]
    fn shares_and_the_slowest() {
        let latencies = Latencies::default();
        (1..=1000).for_each(|millis| latencies.add(Duration::from_millis(millis)));
        let counted = latencies.take();
        assert_eq!((counted.calls(), counted.slowest()), (1000, Duration::from_secs(1)));
        let near = |found: Duration, wanted: u64| (wanted..=wanted + wanted / 15).contains(&(found.as_millis() as u64));
        assert!(near(counted.permille(500), 500) && near(counted.permille(990), 990), "{:?}", counted.permille(500));
        let slower = counted.slower_than(Duration::from_millis(900));
        assert!((40..=100).contains(&slower), "{slower}");
        assert_eq!((latencies.take().calls(), latencies.take().permille(999)), (0, Duration::ZERO));
    }
}
