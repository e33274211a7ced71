//! The figures to reach, and whether a run reached them.

use serde_json::{Value, json};

use crate::harness::{Group, Results};
use crate::report::{Spread, ratio};

/// A figure to reach.
pub(crate) struct Target {
    workload: &'static str,
    tasks: usize,
    ours: &'static str,
    figure: Figure,
    bound: Bound,
}

/// What is compared; each round gives one figure, and their median counts.
enum Figure {
    /// Our rate over the best rate among these.
    Speed(&'static [&'static str]),
    /// Our time for an operation over the shortest among these.
    Time(&'static [&'static str]),
    /// The processor time of our process for an operation over that of this one.
    ClientCpu(&'static str),
    /// How much we gain from that many tasks in place of one, over what this one gains.
    Scaling(&'static str),
    /// Our time over our time in this workload.
    Growth(&'static str),
    /// A count we noted, per operation.
    Note(&'static str),
    /// Milliseconds of an operation.
    Millis,
}

#[derive(Clone, Copy)]
enum Bound {
    AtLeast(f64),
    AtMost(f64),
}

use Bound::{AtLeast, AtMost};
use Figure::{ClientCpu, Growth, Millis, Note, Scaling, Speed, Time};

const fn target(workload: &'static str, tasks: usize, ours: &'static str, figure: Figure, bound: Bound) -> Target {
    Target { workload, tasks, ours, figure, bound }
}

const REDIS: &[&str] = &["redis-rs, GET"];
const MULTIPLEXED: &[&str] = &["redis-rs, GET", "redis-rs x 2, GET", "redis-rs x 4, GET"];
const BB8: &[&str] = &["bb8-redis, GET"];
const DEFAULTS: &[&str] = &["sqlx, query_as", "sea-orm", "diesel-async"];
const UNCHECKED: &[&str] = &["diesel-async, unchecked", "tokio-postgres, deadpool"];
const HELD: &[&str] = &["sqlx, held connections"];
const QUICK: &[&str] = &["quick_cache"];
const ASIDE: &[&str] = &["by hand, aside"];
const GET: &str = "store, get_by_id";

/// All of them.
pub(crate) const TARGETS: &[Target] = &[
    target("hit in process", 1, "store, get_arc", Time(QUICK), AtMost(2.0)),
    target("hit in process", 1, "store, get_arc", Speed(&["hitbox, moka"]), AtLeast(20.0)),
    target("hit in process", 1, "store, get_arc", Speed(&["multi-tier-cache"]), AtLeast(20.0)),
    target("hit in process", 2, "store, get_arc", Scaling("quick_cache"), AtLeast(1.0)),
    target("hit in process", 1, GET, Time(&["store, get_arc and clone"]), AtMost(1.1)),
    target("hit in Redis", 1, GET, Speed(REDIS), AtLeast(0.95)),
    target("hit in Redis", 16, GET, Speed(REDIS), AtLeast(0.95)),
    target("hit in Redis", 64, GET, Speed(MULTIPLEXED), AtLeast(1.3)),
    target("hit in Redis", 256, GET, Speed(MULTIPLEXED), AtLeast(1.3)),
    target("hit in Redis", 64, GET, Speed(BB8), AtLeast(4.0)),
    target("hit in Redis", 256, GET, Speed(BB8), AtLeast(4.0)),
    target("hit in Redis", 1, GET, ClientCpu("redis-rs, GET"), AtMost(1.0)),
    target("hit in Redis", 16, GET, ClientCpu("redis-rs, GET"), AtMost(1.0)),
    target("hit in Redis", 64, GET, ClientCpu("redis-rs, GET"), AtMost(1.0)),
    target("hit in Redis", 256, GET, ClientCpu("redis-rs, GET"), AtMost(1.0)),
    target("read without a cache", 16, GET, Speed(DEFAULTS), AtLeast(2.0)),
    target("read without a cache", 64, GET, Speed(DEFAULTS), AtLeast(2.0)),
    target("read without a cache", 256, GET, Speed(DEFAULTS), AtLeast(2.0)),
    target("read without a cache", 16, GET, Speed(UNCHECKED), AtLeast(1.0)),
    target("read without a cache", 64, GET, Speed(UNCHECKED), AtLeast(1.0)),
    target("read without a cache", 256, GET, Speed(UNCHECKED), AtLeast(1.0)),
    target("read without a cache", 16, GET, Speed(HELD), AtLeast(0.9)),
    target("read without a cache", 64, GET, Speed(HELD), AtLeast(0.9)),
    target("read without a cache", 256, GET, Speed(HELD), AtLeast(0.9)),
    target("miss and fill", 1, GET, Time(ASIDE), AtMost(1.15)),
    target("miss and fill", 16, GET, Time(ASIDE), AtMost(1.15)),
    target("miss and fill", 64, GET, Time(ASIDE), AtMost(1.15)),
    target("miss and fill", 256, GET, Time(ASIDE), AtMost(1.15)),
    target("get_many of 1,000, all in Redis", 1, "store, get_many", Speed(&["by hand, MGET ANY SET"]), AtLeast(0.95)),
    target("get_many of 1,000, half in Redis", 1, "store, get_many", Speed(&["by hand, MGET ANY SET"]), AtLeast(0.95)),
    target("get_many of 1,000, none in Redis", 1, "store, get_many", Speed(&["by hand, MGET ANY SET"]), AtLeast(0.95)),
    target("create_many of 1,000", 1, "store, create_many", Speed(&["sqlx, UNNEST RETURNING"]), AtLeast(0.95)),
    target("update_many of 1,000", 1, "store, update_many", Speed(&["sqlx, UNNEST RETURNING, DEL"]), AtLeast(0.95)),
    target("update", 1, "store, update", Time(&["by hand, UPDATE DEL"]), AtMost(1.25)),
    target("update", 64, "store, update", Speed(&["by hand, UPDATE DEL"]), AtLeast(0.9)),
    target("95/5 mix", 16, "store", Speed(ASIDE), AtLeast(1.0)),
    target("95/5 mix", 64, "store", Speed(ASIDE), AtLeast(1.0)),
    target("80/20 mix", 16, "store", Speed(ASIDE), AtLeast(1.0)),
    target("80/20 mix", 64, "store", Speed(ASIDE), AtLeast(1.0)),
    target("stampede of 1,000, 1 process", 1, "store", Note("SELECTs"), AtMost(1.0)),
    target("stampede of 1,000, 1 process", 1, "store", Time(&["one query, one round trip"]), AtMost(1.2)),
    target("stampede of 1,000, 3 processes", 1, "store", Note("SELECTs"), AtMost(1.0)),
    target("stampede of 1,000, 3 processes", 1, "store", Time(&["one query, one round trip"]), AtMost(1.2)),
    target("1,000,000 entries in Redis", 64, GET, Growth("10,000 entries in Redis"), AtMost(1.3)),
    target("1,000,000 entries in Redis", 64, "store, update", Growth("10,000 entries in Redis"), AtMost(1.3)),
    target("memory of an entry in process", 1, "store", Note("bytes beside the row"), AtMost(100.0)),
    target("start, Redis up", 1, "store", Millis, AtMost(50.0)),
    target("start, Redis down", 1, "store", Millis, AtMost(200.0)),
    target("cargo check of 50 models", 1, "store", Time(&["sea-orm"]), AtMost(1.0)),
];

/// What a run says of a target.
pub(crate) struct Verdict {
    target: &'static Target,
    figure: Spread,
}

/// The verdicts on all targets whose workload, contestant and rivals were measured.
pub(crate) fn judge(groups: &[Group]) -> Vec<Verdict> {
    let judged = TARGETS.iter().map(|target| {
        let figure = Spread::of(target.figures(groups)?);
        Some(Verdict { target, figure })
    });
    judged.flatten().collect()
}

impl Target {
    /// The figure of each round; `None` when something it takes was not measured.
    fn figures(&self, groups: &[Group]) -> Option<Vec<f64>> {
        let ours = find(groups, self.workload, self.tasks, self.ours)?;
        let other = |name| find(groups, self.workload, self.tasks, name);
        let best = |names: &'static [&'static str]| {
            let ratios: Vec<Vec<f64>> =
                names.iter().map(|name| other(name).map(|other| ratio(ours, other))).collect::<Option<_>>()?;
            let rounds = ratios.iter().map(Vec::len).min()?;
            Some((0..rounds).map(|at| ratios.iter().map(|ratios| ratios[at]).fold(f64::INFINITY, f64::min)).collect())
        };
        let figures: Vec<f64> = match self.figure {
            Speed(names) => best(names)?,
            Time(names) => best(names)?.into_iter().map(|ratio| 1.0 / ratio).collect(),
            ClientCpu(name) => {
                let pairs = ours.samples.iter().zip(&other(name)?.samples);
                pairs.map(|(ours, other)| ours.client_micros() / other.client_micros()).collect()
            }
            Scaling(name) => {
                let one = |name| find(groups, self.workload, 1, name);
                let (many, single) = (ratio(ours, other(name)?), ratio(one(self.ours)?, one(name)?));
                many.into_iter().zip(single).map(|(many, single)| many / single).collect()
            }
            Growth(workload) => ratio(find(groups, workload, self.tasks, self.ours)?, ours),
            Note(name) => ours
                .samples
                .iter()
                .map(|sample| Some(*sample.notes.get(name)? as f64 / sample.operations() as f64))
                .collect::<Option<_>>()?,
            Millis => ours.samples.iter().map(|sample| 1_000.0 / sample.rate()).collect(),
        };
        // A figure that was not measured, such as processor time on a machine that does not tell.
        figures.iter().all(|figure| figure.is_finite()).then_some(figures)
    }

    fn name(&self) -> String {
        let against = match self.figure {
            Speed(names) => format!("speed over {}", names.join(" | ")),
            Time(names) => format!("time over {}", names.join(" | ")),
            ClientCpu(name) => format!("client CPU over {name}"),
            Scaling(name) => format!("scaling over {name}"),
            Growth(workload) => format!("time over {workload}"),
            Note(name) => name.to_owned(),
            Millis => "ms".to_owned(),
        };
        format!("{}, {} tasks: {}: {against}", self.workload, self.tasks, self.ours)
    }

    fn reached(&self, figure: f64) -> bool {
        match self.bound {
            AtLeast(least) => figure >= least,
            AtMost(most) => figure <= most,
        }
    }

    fn bound(&self) -> String {
        match self.bound {
            AtLeast(least) => format!(">= {least}"),
            AtMost(most) => format!("<= {most}"),
        }
    }
}

impl Verdict {
    /// Whether the median is where it should be.
    fn ok(&self) -> bool {
        self.target.reached(self.figure.median)
    }

    fn json(&self) -> Value {
        let (least, most) = match self.target.bound {
            AtLeast(least) => (Some(least), None),
            AtMost(most) => (None, Some(most)),
        };
        json!({
            "target": self.target.name(), "workload": self.target.workload, "tasks": self.target.tasks,
            "ours": self.target.ours, "at_least": least, "at_most": most, "figure": self.figure.json(), "ok": self.ok(),
        })
    }
}

fn find<'a>(groups: &'a [Group], workload: &str, tasks: usize, name: &str) -> Option<&'a Results> {
    let group = groups.iter().find(|group| group.workload == workload && group.tasks == tasks)?;
    group.results.iter().find(|results| results.name == name)
}

/// A line per verdict, and how many there are of each kind.
pub(crate) fn table(verdicts: &[Verdict]) -> String {
    let mut out = String::from("targets\n");
    for verdict in verdicts {
        let word = if verdict.ok() { "reached" } else { "missed " };
        let Spread { median, min, max } = verdict.figure;
        let (bound, name) = (verdict.target.bound(), verdict.target.name());
        out += &format!("  {word} {median:>8.2} {bound:<8} ({min:.2} - {max:.2})  {name}\n");
    }
    let reached = verdicts.iter().filter(|verdict| verdict.ok()).count();
    let unmeasured = TARGETS.len() - verdicts.len();
    out + &format!("  {reached} reached, {} missed, {unmeasured} not measured\n", verdicts.len() - reached)
}

/// The verdicts as the file has them.
pub(crate) fn json(verdicts: &[Verdict]) -> Vec<Value> {
    verdicts.iter().map(Verdict::json).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::harness::Sample;

    fn results(name: &'static str, items: &[u64]) -> Results {
        let sample = |items: &u64| Sample { items: *items, elapsed: Duration::from_secs(1), ..Sample::default() };
        Results { name, ours: name.starts_with("store"), samples: items.iter().map(sample).collect() }
    }

    fn group(workload: &str, tasks: usize, results: Vec<Results>) -> Group {
        Group { workload: workload.to_owned(), tasks, results }
    }

    fn only(groups: &[Group]) -> (f64, bool) {
        let verdicts = judge(groups);
        assert_eq!(verdicts.len(), 1);
        (verdicts[0].figure.median, verdicts[0].ok())
    }

    #[test]
    fn a_speed_is_that_over_the_best_of_each_round() {
        let store = |items| results("store, get_by_id", items);
        let others = || vec![results("sqlx, query_as", &[10, 40]), results("sea-orm", &[30, 10])];
        let mut all = vec![store(&[60, 80]), results("diesel-async", &[5, 5])];
        all.extend(others());
        assert_eq!(only(&[group("read without a cache", 16, all)]), (2.0, true));
        let mut all = vec![store(&[59, 79]), results("diesel-async", &[5, 5])];
        all.extend(others());
        assert!(!only(&[group("read without a cache", 16, all)]).1);
        let mut lacking = vec![store(&[60, 80])];
        lacking.extend(others());
        assert!(judge(&[group("read without a cache", 16, lacking)]).is_empty(), "a rival was not measured");
    }

    #[test]
    fn a_time_is_the_inverse_of_a_speed() {
        let one = vec![results("store, update", &[80]), results("by hand, UPDATE DEL", &[100])];
        assert_eq!(only(&[group("update", 1, one)]), (1.25, true));
    }

    #[test]
    fn scaling_and_growth_compare_two_groups() {
        let local = |tasks, items: &[u64]| {
            group("hit in process", tasks, vec![results("store, get_arc", items), results("quick_cache", &[100])])
        };
        let verdicts = judge(&[local(1, &[50]), local(2, &[25])]);
        let scaling = verdicts.iter().find(|verdict| matches!(verdict.target.figure, Scaling(_))).unwrap();
        assert_eq!((scaling.figure.median, scaling.ok()), (0.5, false));
        let entries = |name, items: &[u64]| group(name, 64, vec![results("store, get_by_id", items)]);
        let groups = [entries("10,000 entries in Redis", &[120]), entries("1,000,000 entries in Redis", &[100])];
        assert_eq!(only(&groups), (1.2, true));
    }

    #[test]
    fn notes_are_per_operation() {
        let mut store = results("store", &[3]);
        store.samples[0].notes.insert("SELECTs", 6);
        assert_eq!(only(&[group("stampede of 1,000, 1 process", 1, vec![store])]), (2.0, false));
    }

    #[test]
    fn a_processor_time_that_was_not_measured_judges_nothing() {
        let both = vec![results("store, get_by_id", &[100]), results("redis-rs, GET", &[100])];
        let verdicts = judge(&[group("hit in Redis", 1, both)]);
        assert!(verdicts.iter().all(|verdict| !matches!(verdict.target.figure, ClientCpu(_))));
        assert_eq!(verdicts.len(), 1);
    }

    #[test]
    fn the_table_counts_what_is_reached_and_missed() {
        let one = vec![results("store, update", &[50]), results("by hand, UPDATE DEL", &[100])];
        let table = table(&judge(&[group("update", 1, one)]));
        assert!(table.contains("missed      2.00 <= 1.25"), "{table}");
        assert!(table.contains("0 reached, 1 missed"), "{table}");
    }
}
