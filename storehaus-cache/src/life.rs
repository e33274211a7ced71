//! How long an entry in process lives.

use std::time::Duration;

/// When an entry ends and when its load began, on the monotonic clock.
///
/// In one word, for it is kept with each entry: the end, rounded down to a tick of 65 µs, of which 44 bits hold 36
/// years; then how many ticks before it the load began, as a power of two and 15 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Life(u64);

impl Life {
    const TICK: u32 = 16;
    const LENGTH: u32 = 20;
    const DIGITS: u32 = 15;

    pub(crate) fn new(loaded: u64, expires: u64) -> Self {
        let end = (expires >> Self::TICK).min(u64::MAX >> Self::LENGTH);
        let length = end.saturating_sub(loaded >> Self::TICK);
        let power = (u64::BITS - length.leading_zeros()).saturating_sub(Self::DIGITS);
        Self(end << Self::LENGTH | u64::from(power) << Self::DIGITS | length >> power)
    }

    #[inline]
    pub(crate) fn is_over(self, now: u64) -> bool {
        now >> Self::TICK >= self.0 >> Self::LENGTH
    }

    /// When the entry ends.
    pub(crate) fn expires(self) -> u64 {
        self.0 >> Self::LENGTH << Self::TICK
    }

    /// When its load began, to a tick, or up to a sixteen-thousandth of its life later.
    pub(crate) fn loaded(self) -> u64 {
        let length = self.0 & ((1 << Self::LENGTH) - 1);
        let (power, digits) = (length >> Self::DIGITS, length & ((1 << Self::DIGITS) - 1));
        self.expires().saturating_sub(digits << power << Self::TICK)
    }

    /// How long the entry has left.
    pub(crate) fn remaining(self, now: u64) -> Duration {
        Duration::from_nanos(self.expires().saturating_sub(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_life_ends_up_to_a_tick_early_and_never_late() {
        let day = 86_400_000_000_000;
        for loaded in [0, 1, 65_535, 1_234_567_890_123, 3_000 * day] {
            for length in [0, 1, 999_999, 1_000_000, 5_000_000_000, 3_600_000_000_001, 365 * day] {
                let expires = loaded + length;
                let life = Life::new(loaded, expires);
                let early = expires - life.expires();
                assert!(early < 1 << Life::TICK, "{loaded} {expires}: {early} early");
                assert!(life.is_over(expires) && life.is_over(life.expires()) && life.is_over(u64::MAX));
                assert!(early == expires || !life.is_over(life.expires() - 1));
                let late = life.loaded() as i64 - loaded as i64;
                let ticks = 1 << Life::TICK;
                assert!((-ticks..=ticks + length as i64 / 16_000).contains(&late), "{loaded} {expires}: {late} late");
            }
        }
        let forever = Life::new(day, u64::MAX);
        assert!(!forever.is_over(10_000 * day));
        assert!(forever.loaded() < 10 * day);
    }
}
