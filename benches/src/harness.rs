//! Runs contestants against each other, interleaved, and keeps what each round measured.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use crate::usage::{Cpu, Meter};

/// Why a run did not come to its end.
pub(crate) type Failure = Box<dyn std::error::Error + Send + Sync>;

/// One contestant's share of a round, under way.
pub(crate) type Slice = Pin<Box<dyn Future<Output = Result<Sample, Failure>>>>;

/// How long and how often everything runs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) rounds: usize,
    pub(crate) slice: Duration,
    pub(crate) warm_up: Duration,
    /// Tasks at once.
    pub(crate) tasks: &'static [usize],
    /// Keys per slice where each key can be read cold only once.
    pub(crate) cold_keys: usize,
    /// Entries in Redis where their number matters.
    pub(crate) entries: &'static [usize],
    /// Whether what takes minutes to prepare runs too without being named.
    pub(crate) full: bool,
}

impl Plan {
    pub(crate) const FULL: Self = Self {
        rounds: 7,
        slice: Duration::from_millis(500),
        warm_up: Duration::from_millis(200),
        tasks: &[1, 16, 64, 256],
        cold_keys: 10_000,
        entries: &[1_000, 10_000, 100_000, 1_000_000],
        full: true,
    };

    pub(crate) const QUICK: Self = Self {
        rounds: 3,
        slice: Duration::from_millis(80),
        warm_up: Duration::from_millis(40),
        tasks: &[1, 64],
        cold_keys: 1_000,
        entries: &[10_000, 50_000],
        full: false,
    };
}

/// One way to do the work of a workload.
pub(crate) struct Contestant {
    pub(crate) name: &'static str,
    /// Whether it is StoreHaus.
    pub(crate) ours: bool,
    run: Box<dyn Fn(Duration) -> Slice>,
}

impl Contestant {
    /// StoreHaus.
    pub(crate) fn ours(name: &'static str, run: impl Fn(Duration) -> Slice + 'static) -> Self {
        Self { name, ours: true, run: Box::new(run) }
    }

    /// What StoreHaus is compared with.
    pub(crate) fn other(name: &'static str, run: impl Fn(Duration) -> Slice + 'static) -> Self {
        Self { name, ours: false, run: Box::new(run) }
    }
}

/// What one contestant did in one round.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sample {
    /// Operations, or items where an operation has many.
    pub(crate) items: u64,
    pub(crate) elapsed: Duration,
    /// Zero where it was not measured.
    pub(crate) cpu: Cpu,
    pub(crate) latencies: Latencies,
    /// What else was counted, such as stale reads.
    pub(crate) notes: BTreeMap<&'static str, u64>,
}

impl Sample {
    /// Items per second.
    pub(crate) fn rate(&self) -> f64 {
        self.items as f64 / self.elapsed.as_secs_f64()
    }

    /// How many operations there were. Where they were not timed one by one, each has one item.
    pub(crate) fn operations(&self) -> u64 {
        if self.latencies.count > 0 { self.latencies.count } else { self.items }
    }

    /// Microseconds of processor time this process took for an item; not a number where that was not measured.
    pub(crate) fn client_micros(&self) -> f64 {
        match self.cpu.client.as_secs_f64() * 1e6 / self.items as f64 {
            0.0 => f64::NAN,
            micros => micros,
        }
    }
}

/// A workload at one level of concurrency, and what came out: a row of samples, one per round, for each contestant.
pub(crate) struct Group {
    pub(crate) workload: String,
    pub(crate) tasks: usize,
    pub(crate) results: Vec<Results>,
}

/// The rounds of one contestant.
pub(crate) struct Results {
    pub(crate) name: &'static str,
    pub(crate) ours: bool,
    pub(crate) samples: Vec<Sample>,
}

/// Runs each contestant once unrecorded, then round after round, each round beginning with another contestant.
pub(crate) async fn compete(
    plan: &Plan,
    workload: impl Into<String>,
    tasks: usize,
    contestants: Vec<Contestant>,
) -> Result<Group, Failure> {
    let workload = workload.into();
    let failed = |name: &str, error: Failure| format!("{workload}, {tasks} tasks, {name}: {error}");
    for contestant in &contestants {
        (contestant.run)(plan.warm_up).await.map_err(|error| failed(contestant.name, error))?;
    }
    let mut samples = vec![Vec::new(); contestants.len()];
    for round in 0..plan.rounds {
        for at in order(round, contestants.len()) {
            let sample = (contestants[at].run)(plan.slice).await;
            samples[at].push(sample.map_err(|error| failed(contestants[at].name, error))?);
        }
    }
    let results = contestants.into_iter().zip(samples);
    let results = results.map(|(one, samples)| Results { name: one.name, ours: one.ours, samples }).collect();
    Ok(Group { workload, tasks, results })
}

/// The order of a round.
fn order(round: usize, contestants: usize) -> impl Iterator<Item = usize> {
    (0..contestants).map(move |at| (at + round) % contestants)
}

/// A slice that repeats an operation in `tasks` tasks; each call is told its task and its number within it.
pub(crate) fn looped<W, F, Fut>(
    world: &Arc<W>,
    tasks: usize,
    operation: F,
) -> impl Fn(Duration) -> Slice + use<W, F, Fut>
where
    W: Send + Sync + 'static,
    F: Fn(Arc<W>, usize, usize) -> Fut + Clone + Send + 'static,
    Fut: Future<Output = Result<(), Failure>> + Send + 'static,
{
    let world = Arc::clone(world);
    move |lasts| {
        let (world, operation) = (Arc::clone(&world), operation.clone());
        Box::pin(load(tasks, lasts, move |task, number| operation(Arc::clone(&world), task, number)))
    }
}

/// Repeats an operation in `tasks` tasks until the time is over; each call is told its task and its number within it.
pub(crate) async fn load<F, Fut>(tasks: usize, lasts: Duration, operation: F) -> Result<Sample, Failure>
where
    F: Fn(usize, usize) -> Fut + Clone + Send + 'static,
    Fut: Future<Output = Result<(), Failure>> + Send,
{
    let meter = Meter::start();
    let end = meter.started() + lasts;
    let repeat = move |task: usize| {
        let operation = operation.clone();
        async move {
            let mut latencies = Latencies::default();
            let mut before = Instant::now();
            for number in 0.. {
                operation(task, number).await?;
                let now = Instant::now();
                latencies.add(now - before);
                before = now;
                if now >= end {
                    break;
                }
            }
            Ok::<_, Failure>(latencies)
        }
    };
    gather(meter, (0..tasks).map(repeat)).await
}

/// Does a number of operations once each, shared out among `tasks` tasks; each call is told its number.
pub(crate) async fn count<F, Fut>(tasks: usize, operations: usize, operation: F) -> Result<Sample, Failure>
where
    F: Fn(usize) -> Fut + Clone + Send + 'static,
    Fut: Future<Output = Result<(), Failure>> + Send,
{
    let meter = Meter::start();
    let share = move |task: usize| {
        let operation = operation.clone();
        async move {
            let mut latencies = Latencies::default();
            let mut before = Instant::now();
            for number in (task..operations).step_by(tasks) {
                operation(number).await?;
                let now = Instant::now();
                latencies.add(now - before);
                before = now;
            }
            Ok::<_, Failure>(latencies)
        }
    };
    gather(meter, (0..tasks).map(share)).await
}

async fn gather<Fut>(meter: Meter, work: impl Iterator<Item = Fut>) -> Result<Sample, Failure>
where
    Fut: Future<Output = Result<Latencies, Failure>> + Send + 'static,
{
    let mut running: JoinSet<_> = work.collect();
    let mut sample = Sample::default();
    while let Some(latencies) = running.join_next().await {
        sample.latencies.merge(&latencies??);
    }
    (sample.elapsed, sample.cpu) = meter.stop();
    sample.items = sample.latencies.count;
    Ok(sample)
}

/// Repeats an operation of many items in one task until the measured time is over. `prepare` makes the input of each
/// and is not measured.
pub(crate) async fn batches<I>(
    lasts: Duration,
    items: usize,
    mut prepare: impl AsyncFnMut(usize) -> Result<I, Failure>,
    mut operation: impl AsyncFnMut(I) -> Result<(), Failure>,
) -> Result<Sample, Failure> {
    let mut sample = Sample::default();
    for number in 0.. {
        let input = prepare(number).await?;
        let meter = Meter::start();
        operation(input).await?;
        let (took, cpu) = meter.stop();
        sample.latencies.add(took);
        sample.elapsed += took;
        sample.cpu.add(cpu);
        sample.items += items as u64;
        if sample.elapsed >= lasts {
            break;
        }
    }
    Ok(sample)
}

/// Latencies, counted in buckets of which each is at most 1/32 wide.
#[derive(Clone, Debug, Default)]
pub(crate) struct Latencies {
    buckets: Vec<u64>,
    count: u64,
}

impl Latencies {
    pub(crate) fn add(&mut self, latency: Duration) {
        let bucket = bucket(u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX));
        if self.buckets.len() <= bucket {
            self.buckets.resize(bucket + 1, 0);
        }
        self.buckets[bucket] += 1;
        self.count += 1;
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        if self.buckets.len() < other.buckets.len() {
            self.buckets.resize(other.buckets.len(), 0);
        }
        self.buckets.iter_mut().zip(&other.buckets).for_each(|(sum, n)| *sum += n);
        self.count += other.count;
    }

    /// The lower end of the bucket below which this share of the latencies lies; `None` without any.
    pub(crate) fn quantile(&self, share: f64) -> Option<Duration> {
        let rank = (share * self.count as f64) as u64;
        let mut passed = 0;
        self.buckets.iter().enumerate().find_map(|(bucket, n)| {
            passed += n;
            (passed > rank).then(|| Duration::from_nanos(lower_end(bucket)))
        })
    }
}

const BITS: u32 = 5;

fn bucket(nanos: u64) -> usize {
    let shift = (u64::BITS - nanos.leading_zeros()).saturating_sub(BITS + 1);
    ((u64::from(shift) << BITS) + (nanos >> shift)) as usize
}

fn lower_end(bucket: usize) -> u64 {
    let shift = (bucket >> BITS).saturating_sub(1);
    ((bucket - (shift << BITS)) as u64) << shift
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_holds_what_is_at_most_a_thirty_second_above_its_lower_end() {
        for nanos in (0..5_000).chain([999_999, 123_456_789, u64::MAX]) {
            let low = lower_end(bucket(nanos));
            assert!(low <= nanos && nanos - low <= low / 32, "{nanos} in {low}");
        }
    }

    #[test]
    fn quantiles_are_those_of_what_was_added() {
        let (mut low, mut high) = (Latencies::default(), Latencies::default());
        (1..=50).for_each(|n| low.add(Duration::from_nanos(n)));
        (51..=100).for_each(|n| high.add(Duration::from_nanos(n)));
        low.merge(&high);
        let near = |share, wanted: u64| {
            let got = low.quantile(share).unwrap().as_nanos() as u64;
            assert!(got <= wanted && wanted - got <= wanted / 32 + 1, "{share}: {got}, not {wanted}");
        };
        near(0.5, 51);
        near(0.99, 100);
        assert_eq!(Latencies::default().quantile(0.5), None);
    }

    #[test]
    fn each_round_begins_with_another() {
        assert_eq!(order(0, 3).collect::<Vec<_>>(), [0, 1, 2]);
        assert_eq!(order(2, 3).collect::<Vec<_>>(), [2, 0, 1]);
    }

    #[tokio::test]
    async fn each_number_is_done_once() {
        use std::sync::Mutex;
        let seen = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&seen);
        let sample = count(3, 10, move |number| {
            log.lock().unwrap().push(number);
            async { Ok(()) }
        })
        .await
        .unwrap();
        seen.lock().unwrap().sort_unstable();
        assert_eq!((sample.items, &*seen.lock().unwrap()), (10, &(0..10).collect::<Vec<_>>()));
    }

    #[tokio::test]
    async fn a_failing_operation_ends_the_run() {
        let one = || Contestant::other("one", |lasts| Box::pin(load(2, lasts, |_, _| async { Err("refused".into()) })));
        let error = compete(&Plan::QUICK, "reads", 2, vec![one()]).await.err().unwrap();
        assert_eq!(error.to_string(), "reads, 2 tasks, one: refused");
    }

    #[tokio::test]
    async fn preparation_is_not_measured() {
        let mut prepared = 0;
        let lasts = Duration::from_nanos(1);
        let prepare = async |number: usize| {
            prepared += 1;
            Ok(number)
        };
        let sample = batches(lasts, 1_000, prepare, async |_| Ok(())).await.unwrap();
        assert_eq!(sample.items, 1_000 * prepared);
    }
}
