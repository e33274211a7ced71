//! The seams to the machine: time and randomness.

use std::cell::Cell;
use std::future::poll_fn;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use std::time::Instant;

use uuid::Uuid;

use crate::codec::header::Millis;

/// Time and randomness, replaceable in a simulation.
pub trait Environment: Send + Sync + 'static {
    /// Nanoseconds on a clock that never goes back.
    fn nanos(&self) -> u64;

    /// As [`nanos`](Self::nanos), cheaper and up to a tick of the system behind: a few milliseconds.
    fn recent_nanos(&self) -> u64 {
        self.nanos()
    }

    /// The wall clock.
    fn wall(&self) -> Millis;

    /// Sixty-four random bits.
    fn random(&self) -> u64;
}

/// The machine's own clock and randomness.
#[derive(Debug)]
pub struct System {
    start: Instant,
    #[cfg(target_os = "linux")]
    coarse_start: u64,
    state: AtomicU64,
}

impl System {
    /// Starts counting nanoseconds now; seeds from the operating system.
    pub fn new() -> Self {
        Self {
            start: Instant::now(),
            #[cfg(target_os = "linux")]
            coarse_start: coarse_clock(),
            state: AtomicU64::new(Uuid::new_v4().as_u64_pair().0),
        }
    }
}

impl Default for System {
    fn default() -> Self {
        Self::new()
    }
}

impl Environment for System {
    fn nanos(&self) -> u64 {
        self.start.elapsed().as_nanos() as u64
    }

    #[cfg(target_os = "linux")]
    fn recent_nanos(&self) -> u64 {
        coarse_clock().saturating_sub(self.coarse_start)
    }

    fn wall(&self) -> Millis {
        Millis::now()
    }

    /// SplitMix64 (Steele, Lea, Flood 2014): for jitter, not for secrets.
    fn random(&self) -> u64 {
        mix(self.state.fetch_add(STEP, Ordering::Relaxed))
    }
}

/// The clock the kernel advances at each tick: reading it takes a twentieth of the time, for it asks no hardware.
#[cfg(target_os = "linux")]
fn coarse_clock() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::MonotonicCoarse);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// Waits for one turn of the runtime, behind the tasks that are ready now. Unlike `tokio::task::yield_now` it stays where
/// another worker finds it, when this one is kept busy.
pub async fn turn() {
    let mut is_over = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut is_over, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// As [`Environment::random`], without a counter that all threads share: for a decision on every hit.
pub(crate) fn thread_random() -> u64 {
    thread_local! {
        static STATE: Cell<u64> = Cell::new(Uuid::new_v4().as_u64_pair().0);
    }
    // A thread that ends has no state any more.
    STATE.try_with(|state| mix(state.replace(state.get().wrapping_add(STEP)))).unwrap_or(u64::MAX)
}

const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
