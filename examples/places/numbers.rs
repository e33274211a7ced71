//! Random numbers, Zipf's law, and a histogram of latencies.

use std::time::Duration;

/// A xorshift generator: good enough to pick rows, the same rows in every run.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        // Neighbouring seeds begin far apart, and none at 0, where the generator would stay.
        Self((seed + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number from 0 to 1, 1 excluded.
    pub(crate) fn share(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Puts a list in random order.
    pub(crate) fn shuffle<T>(&mut self, list: &mut [T]) {
        for at in (1..list.len()).rev() {
            list.swap(at, (self.next() % (at as u64 + 1)) as usize);
        }
    }
}

/// Ranks from 0 whose frequency falls with a power of the rank.
pub(crate) struct Zipf {
    /// The weights of all ranks up to each, added up.
    sums: Vec<f64>,
}

impl Zipf {
    pub(crate) fn new(ranks: usize, exponent: f64) -> Self {
        let weights = (1..=ranks).map(|rank| (rank as f64).powf(-exponent));
        let sums = weights.scan(0.0, |sum, weight| {
            *sum += weight;
            Some(*sum)
        });
        Self { sums: sums.collect() }
    }

    pub(crate) fn rank(&self, random: &mut Random) -> usize {
        let total = self.sums.last().copied().unwrap_or_default();
        let wanted = random.share() * total;
        self.sums.partition_point(|sum| *sum <= wanted).min(self.sums.len().saturating_sub(1))
    }
}

/// Steps per doubling, as a power of two: a step is at most 1/32 of the latency.
const STEPS_BITS: u32 = 5;

/// How often each latency occurred, in steps of 3 %.
pub(crate) struct Histogram {
    counts: Vec<u64>,
}

impl Histogram {
    pub(crate) fn new() -> Self {
        Self { counts: vec![0; (64 << STEPS_BITS) as usize] }
    }

    pub(crate) fn record(&mut self, latency: Duration) {
        let nanos = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX).max(1 << STEPS_BITS);
        let doubling = nanos.ilog2();
        let step = (nanos >> (doubling - STEPS_BITS)) & ((1 << STEPS_BITS) - 1);
        self.counts[((u64::from(doubling) << STEPS_BITS) + step) as usize] += 1;
    }

    pub(crate) fn add(&mut self, other: &Self) {
        self.counts.iter_mut().zip(&other.counts).for_each(|(mine, theirs)| *mine += theirs);
    }

    pub(crate) fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// The latency that a share of all do not exceed, in microseconds.
    pub(crate) fn quantile(&self, share: f64) -> f64 {
        let wanted = (self.count() as f64 * share).ceil() as u64;
        let mut seen = 0;
        for (at, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= wanted && seen > 0 {
                let (doubling, step) = (at as u32 >> STEPS_BITS, at as u64 & ((1 << STEPS_BITS) - 1));
                let nanos = ((1 << STEPS_BITS) + step + 1) << doubling >> STEPS_BITS;
                return nanos as f64 / 1_000.0;
            }
        }
        0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_is_right_within_a_step() {
        let mut histogram = Histogram::new();
        assert_eq!(histogram.quantile(0.5), 0.0);
        for micros in 1..=1_000 {
            histogram.record(Duration::from_micros(micros));
        }
        for (share, exact) in [(0.001, 1.0), (0.5, 500.0), (0.99, 990.0), (1.0, 1_000.0)] {
            let found = histogram.quantile(share);
            assert!((exact..=exact * 1.04).contains(&found), "{share}: {found} for {exact}");
        }
    }

    #[test]
    fn ranks_follow_zipfs_law() {
        const DRAWS: usize = 200_000;
        let (zipf, mut random) = (Zipf::new(100, 0.99), Random::new(7));
        let mut counts = [0usize; 100];
        (0..DRAWS).for_each(|_| counts[zipf.rank(&mut random)] += 1);
        let total: f64 = (1..=100).map(|rank| f64::from(rank).powf(-0.99)).sum();
        for rank in [1, 2, 10, 100] {
            let expected = f64::from(rank).powf(-0.99) / total * DRAWS as f64;
            let found = counts[rank as usize - 1] as f64;
            assert!((found - expected).abs() < 5.0 * expected.sqrt(), "rank {rank}: {found} for {expected}");
        }
    }

    #[test]
    fn shuffling_keeps_every_item() {
        let mut list: Vec<u32> = (0..1_000).collect();
        Random::new(0).shuffle(&mut list);
        assert!(!list.is_sorted());
        list.sort_unstable();
        assert_eq!(list, (0..1_000).collect::<Vec<_>>());
    }
}
