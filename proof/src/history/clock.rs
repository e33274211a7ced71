//! One clock for all processes of a run.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Nanoseconds that only grow and that every process of this machine counts alike: the monotonic clock, tied once to
/// the wall clock, because the standard library does not show where the monotonic clock of a machine began.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    began: Instant,
    at: u64,
}

impl Clock {
    /// Ties the clocks together: the wall clock, read between two readings of the monotonic clock, as close to each
    /// other as some attempts find.
    pub fn new() -> Self {
        let attempts = (0..ATTEMPTS).map(|_| {
            let before = Instant::now();
            let wall = SystemTime::now();
            let gap = before.elapsed();
            (gap, Self { began: before + gap / 2, at: nanos(wall.duration_since(UNIX_EPOCH).unwrap_or_default()) })
        });
        let closest = attempts.min_by_key(|(gap, _)| *gap).map(|(_, clock)| clock);
        closest.unwrap_or_else(|| Self { began: Instant::now(), at: 0 })
    }

    /// Now.
    pub fn now(&self) -> u64 {
        self.at + nanos(self.began.elapsed())
    }

    /// How far the wall clock went from this one since they were tied together: more than some microseconds when
    /// somebody set it, and then processes that were started before and after count differently.
    pub fn drift(&self) -> Duration {
        let again = Self::new();
        Duration::from_nanos(again.now().abs_diff(self.now()))
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::new()
    }
}

/// A duration in nanoseconds.
pub fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

const ATTEMPTS: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_clocks_agree() {
        let (a, b) = (Clock::new(), Clock::new());
        let (first, between, last) = (a.now(), b.now(), a.now());
        let slack = 1_000_000;
        assert!(first <= between + slack && between <= last + slack, "{first} {between} {last}");
        assert!(a.drift() < Duration::from_millis(1), "{:?}", a.drift());
    }
}
