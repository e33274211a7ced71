//! What came out: a table for people and a file for machines.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{fs, io};

use serde_json::{Value, json};

use crate::harness::{Group, Latencies, Results, Sample};
use crate::targets::{self, Verdict};
use crate::usage::Cpu;

/// Median, smallest and largest.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
}

impl Spread {
    /// Of at least one figure; of none all are zero.
    pub(crate) fn of(figures: impl IntoIterator<Item = f64>) -> Self {
        let mut sorted: Vec<f64> = figures.into_iter().collect();
        sorted.sort_unstable_by(f64::total_cmp);
        let (Some(&min), Some(&max)) = (sorted.first(), sorted.last()) else {
            return Self { median: 0.0, min: 0.0, max: 0.0 };
        };
        let middle = sorted.len() / 2;
        let median = if sorted.len() % 2 == 1 { sorted[middle] } else { (sorted[middle - 1] + sorted[middle]) / 2.0 };
        Self { median, min, max }
    }

    pub(crate) fn json(self) -> Value {
        json!({"median": self.median, "min": self.min, "max": self.max})
    }
}

/// The rate of `ours` over that of `other`, round by round.
pub(crate) fn ratio(ours: &Results, other: &Results) -> Vec<f64> {
    ours.samples.iter().zip(&other.samples).map(|(ours, other)| ours.rate() / other.rate()).collect()
}

fn rates(results: &Results) -> Spread {
    Spread::of(results.samples.iter().map(|sample| sample.rate()))
}

fn latencies(results: &Results) -> Latencies {
    let mut all = Latencies::default();
    results.samples.iter().for_each(|sample| all.merge(&sample.latencies));
    all
}

/// How long an operation took on average.
fn mean(tasks: usize, results: &Results) -> Duration {
    let busy: f64 = results.samples.iter().map(|sample| sample.elapsed.as_secs_f64() * tasks as f64).sum();
    let operations: u64 = results.samples.iter().map(Sample::operations).sum();
    Duration::from_secs_f64(busy / operations.max(1) as f64)
}

/// Microseconds of processor time for an item: ours, of Redis, of PostgreSQL; `None` where it was not measured.
fn cpu(results: &Results) -> Option<[f64; 3]> {
    let mut cpu = Cpu::default();
    results.samples.iter().for_each(|sample| cpu.add(sample.cpu));
    let items: u64 = results.samples.iter().map(|sample| sample.items).sum();
    let micros = |spent: Duration| spent.as_secs_f64() * 1e6 / items.max(1) as f64;
    (!cpu.client.is_zero()).then(|| [micros(cpu.client), micros(cpu.redis), micros(cpu.postgres)])
}

/// The notes of all rounds together.
fn notes(results: &Results) -> Vec<(&'static str, u64)> {
    let mut sums = std::collections::BTreeMap::new();
    for (name, n) in results.samples.iter().flat_map(|sample| &sample.notes) {
        *sums.entry(*name).or_insert(0) += n;
    }
    sums.into_iter().collect()
}

/// Each of ours with each other, in order.
fn pairs(group: &Group) -> impl Iterator<Item = (&Results, &Results)> {
    let ours = group.results.iter().filter(|results| results.ours);
    ours.flat_map(|ours| group.results.iter().filter(|other| !other.ours).map(move |other| (ours, other)))
}

/// The table of a group. `ratio` is the rate of the first of ours over that of the line.
pub(crate) fn table(group: &Group) -> String {
    let tasks = if group.tasks == 1 { "1 task".to_owned() } else { format!("{} tasks", group.tasks) };
    let mut out = format!("{}, {tasks}\n", group.workload);
    let heads = ["", "items/s", "min - max", "mean", "p50", "p99", "us client/redis/pg", "ratio"];
    let line = |cells: [&str; 8]| {
        let [name, rate, range, mean, p50, p99, cpu, ratio] = cells;
        format!("  {name:28} {rate:>8} {range:>19} {mean:>8} {p50:>8} {p99:>8} {cpu:>20} {ratio:>20}")
    };
    out += &line(heads);
    let reference = group.results.iter().find(|results| results.ours);
    for results in &group.results {
        let rate = rates(results);
        let all = latencies(results);
        let quantile = |share| all.quantile(share).map_or_else(|| "-".to_owned(), shown);
        let cpu =
            cpu(results).map_or_else(|| "-".to_owned(), |[ours, redis, pg]| format!("{ours:.1}/{redis:.1}/{pg:.1}"));
        let beside = reference.filter(|ours| ours.name != results.name).map(|ours| Spread::of(ratio(ours, results)));
        let ratio = beside.map(|Spread { median, min, max }| format!("x {median:.2} ({min:.2}-{max:.2})"));
        let range = format!("{} - {}", count(rate.min), count(rate.max));
        out.push('\n');
        out += &line([
            results.name,
            &count(rate.median),
            &range,
            &shown(mean(group.tasks, results)),
            &quantile(0.5),
            &quantile(0.99),
            &cpu,
            &ratio.unwrap_or_default(),
        ]);
        notes(results).iter().for_each(|(name, n)| out += &format!("  {name} {n}"));
    }
    out + "\n"
}

/// The group as the file has it.
fn json(group: &Group) -> Value {
    let nanos = |quantile: Option<Duration>| quantile.map(|latency| latency.as_nanos() as u64);
    let contestants = group.results.iter().map(|results| {
        let all = latencies(results);
        let rounds: Vec<_> = results.samples.iter().map(|sample| sample.rate()).collect();
        let notes: serde_json::Map<_, _> =
            notes(results).into_iter().map(|(name, n)| (name.to_owned(), n.into())).collect();
        json!({
            "name": results.name, "ours": results.ours, "per_second": rates(results).json(), "rounds": rounds,
            "mean_ns": mean(group.tasks, results).as_nanos() as u64, "p50_ns": nanos(all.quantile(0.5)),
            "p99_ns": nanos(all.quantile(0.99)), "notes": notes,
            "cpu_us_client_redis_postgres": cpu(results),
        })
    });
    let contestants: Vec<_> = contestants.collect();
    let ratios: Vec<_> = pairs(group)
        .map(|(ours, other)| json!({"ours": ours.name, "other": other.name, "ratio": Spread::of(ratio(ours, other)).json()}))
        .collect();
    json!({"workload": group.workload, "tasks": group.tasks, "contestants": contestants, "ratios": ratios})
}

/// Writes the file; whoever reads meanwhile sees the whole file or none. Only a run without failures is ok.
pub(crate) fn write(
    machine: &Value,
    groups: &[Group],
    verdicts: &[Verdict],
    failures: &[String],
    dir: &Path,
) -> io::Result<PathBuf> {
    let rows: Vec<_> = groups.iter().map(json).collect();
    let targets = targets::json(verdicts);
    let report = json!({
        "name": "bench", "ok": failures.is_empty(), "failures": failures, "machine": machine, "rows": rows,
        "targets": targets,
    });
    let text = serde_json::to_string_pretty(&report)?;
    fs::create_dir_all(dir)?;
    let (path, draft) = (dir.join("bench.json"), dir.join("bench.json.draft"));
    fs::write(&draft, text + "\n")?;
    fs::rename(&draft, &path)?;
    Ok(path)
}

/// Prints a text.
pub(crate) fn say(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{text}")?;
    out.flush()
}

fn count(n: f64) -> String {
    match n {
        n if n >= 1e6 => format!("{:.2} M", n / 1e6),
        n if n >= 10e3 => format!("{:.1} k", n / 1e3),
        n => format!("{n:.0}"),
    }
}

fn shown(latency: Duration) -> String {
    match latency.as_nanos() as f64 {
        n if n < 10e3 => format!("{n:.0} ns"),
        n if n < 10e6 => format!("{:.0} us", n / 1e3),
        n => format!("{:.1} ms", n / 1e6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn results(name: &'static str, ours: bool, items: &[u64]) -> Results {
        let sample = |items: &u64| Sample { items: *items, elapsed: Duration::from_secs(1), ..Sample::default() };
        Results { name, ours, samples: items.iter().map(sample).collect() }
    }

    fn group() -> Group {
        let results = vec![results("store", true, &[100, 400, 90]), results("hand", false, &[200, 400, 30])];
        Group { workload: "reads".to_owned(), tasks: 16, results }
    }

    #[test]
    fn the_median_of_an_even_number_lies_between() {
        assert_eq!(Spread::of([4.0, 1.0, 3.0, 2.0]), Spread { median: 2.5, min: 1.0, max: 4.0 });
    }

    #[test]
    fn a_ratio_compares_the_same_round() {
        let group = group();
        // Not the ratio of the medians, which is 0.5.
        assert_eq!(Spread::of(ratio(&group.results[0], &group.results[1])), Spread { median: 1.0, min: 0.5, max: 3.0 });
    }

    #[test]
    fn the_mean_is_that_of_operations_not_of_their_items() {
        let mut results = results("batch", true, &[1_000, 1_000]);
        assert_eq!(mean(1, &results), Duration::from_millis(1));
        results.samples.iter_mut().for_each(|sample| sample.latencies.add(Duration::from_secs(1)));
        assert_eq!(mean(1, &results), Duration::from_secs(1));
        assert_eq!(mean(2, &results), Duration::from_secs(2));
    }

    #[test]
    fn the_table_names_contestants_notes_and_ratios() {
        let mut group = group();
        group.results[1].samples.iter_mut().for_each(|sample| sample.notes = [("stale", 2)].into());
        let table = table(&group);
        assert!(table.starts_with("reads, 16 tasks\n") && table.contains("stale 6"), "{table}");
        assert!(table.contains("x 1.00 (0.50-3.00)"), "{table}");
    }

    #[test]
    fn the_file_says_ok_at_its_top() {
        let dir = std::env::temp_dir().join(format!("storehaus-bench-report-{}", std::process::id()));
        let text = fs::read_to_string(write(&json!({}), &[group()], &[], &[], &dir).unwrap()).unwrap();
        fs::remove_dir_all(&dir).unwrap();
        // The line by which `cargo xtask` recognises success.
        assert!(text.lines().any(|line| line == "  \"ok\": true,"), "{text}");
        let value: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["rows"][0]["ratios"][0]["ratio"]["median"], 1.0);
        assert_eq!(value["rows"][0]["contestants"][0]["per_second"]["median"], 100.0);
    }
}
