//! How old stale reads were.

use std::fmt;

/// Upper bounds, in milliseconds; what is above the last is counted behind them.
const BOUNDS: [u64; 11] = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 5_000];

/// Counts of ages.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Histogram {
    counts: [u64; BOUNDS.len() + 1],
    oldest: u64,
}

impl Histogram {
    /// Counts an age in nanoseconds.
    pub fn add(&mut self, nanos: u64) {
        let place = BOUNDS.iter().position(|bound| nanos <= bound * 1_000_000).unwrap_or(BOUNDS.len());
        self.counts[place] += 1;
        self.oldest = self.oldest.max(nanos);
    }

    /// How many there are.
    pub fn total(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// The oldest, in nanoseconds.
    pub fn oldest(&self) -> u64 {
        self.oldest
    }
}

impl fmt::Display for Histogram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.total() == 0 {
            return f.write_str("none");
        }
        let mut parts = Vec::new();
        for (place, count) in self.counts.iter().enumerate().filter(|(_, count)| **count > 0) {
            parts.push(match BOUNDS.get(place) {
                Some(bound) => format!("<={bound} ms: {count}"),
                None => format!(">{} ms: {count}", BOUNDS[BOUNDS.len() - 1]),
            });
        }
        f.write_str(&parts.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_fall_below_their_bounds() {
        let mut ages = Histogram::default();
        assert_eq!(ages.to_string(), "none");
        [1_000_000, 1_000_001, 9_000_000_000].into_iter().for_each(|age| ages.add(age));
        assert_eq!(ages.to_string(), "<=1 ms: 1, <=2 ms: 1, >5000 ms: 1");
        assert_eq!((ages.total(), ages.oldest()), (3, 9_000_000_000));
    }
}
