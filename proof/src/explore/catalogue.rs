//! The scenarios: those that must hold, the limits that are known, and the mistakes that must be found.

use std::time::Duration;

use super::broken::Bug;
use super::database::Change::{Delete, Put};
use super::history::Promise;
use super::mishap::Mishaps;
use super::scenario::Op::{Read, ReadMany, Transaction, Write};
use super::scenario::{Actor, Ends, Scenario, Search, Tiers, here, there};

const BASE: Scenario = Scenario::BASE;
const CALM: Mishaps = Mishaps::NONE;

/// Two instances that share a Redis.
const TWO: &[Tiers] = &[Tiers::Redis, Tiers::Redis];

const READER: Actor = here(&[Read(0)]);
const TWICE: Actor = here(&[Read(0), Read(0)]);
const WRITER: Actor = here(&[Write(&[0], Put)]);
const READER_THERE: Actor = there(&[Read(0)]);
const WRITER_THERE: Actor = there(&[Write(&[0], Put)]);

/// How late an instance with entries in process may learn of the writes of another.
const LATE: Duration = Duration::from_millis(30);

/// Two instances that miss, and one writer.
const PAIR: Scenario = Scenario { instances: TWO, actors: &[READER, READER_THERE, WRITER], ..BASE };
/// Without Redis.
const LOCAL: Scenario = Scenario { instances: &[Tiers::Local], actors: &[TWICE, WRITER], ..BASE };
/// In process over Redis.
const BOTH: Scenario = Scenario { instances: &[Tiers::Both(LATE)], ..LOCAL };
/// In process over Redis, with a writer elsewhere.
const ELSEWHERE: Scenario =
    Scenario { instances: &[Tiers::Both(LATE), Tiers::Redis], promise: Promise { late: LATE, ..BASE.promise }, ..BASE };

/// Every scenario.
pub(super) fn all() -> Vec<Scenario> {
    [sound(), LIMITS.to_vec(), broken()].concat()
}

/// Everything that must hold.
pub(super) fn sound() -> Vec<Scenario> {
    [UNDISTURBED, DISTURBED, IN_PROCESS].concat()
}

/// Nothing breaks.
const UNDISTURBED: &[Scenario] = &[
    Scenario { name: "miss, write", actors: &[READER, WRITER], ..BASE },
    Scenario { name: "hits, write", warm: &[0], actors: &[TWICE, WRITER], ..BASE },
    Scenario {
        name: "misses of two instances, write",
        instances: TWO,
        actors: &[READER, READER_THERE, WRITER],
        ..BASE
    },
    Scenario { name: "two misses of one instance, write", actors: &[READER, READER, WRITER], ..BASE },
    Scenario { name: "miss, writes of two instances", instances: TWO, actors: &[READER, WRITER, WRITER_THERE], ..BASE },
    Scenario {
        name: "reads of two instances, two writes",
        instances: TWO,
        actors: &[TWICE, READER_THERE, here(&[Write(&[0], Put), Write(&[0], Put)])],
        search: Search::Deviations(3),
        ..BASE
    },
    Scenario {
        name: "batch, writes of two rows",
        rows: &[true, true],
        instances: TWO,
        actors: &[here(&[ReadMany(&[0, 1])]), WRITER, there(&[Write(&[1], Put)])],
        ..BASE
    },
    Scenario {
        name: "batch, miss elsewhere, write of both rows",
        rows: &[true, true],
        instances: TWO,
        actors: &[here(&[ReadMany(&[0, 1])]), there(&[Read(1)]), there(&[Write(&[0, 1], Put)])],
        ..BASE
    },
    Scenario {
        name: "batch over entries, transaction",
        rows: &[true, true],
        instances: TWO,
        warm: &[0],
        actors: &[there(&[ReadMany(&[0, 1])]), here(&[Transaction(&[0, 1], Ends::Commit)])],
        ..BASE
    },
    Scenario {
        name: "miss, transaction rolled back",
        instances: TWO,
        actors: &[TWICE, there(&[Transaction(&[0], Ends::Rollback)])],
        ..BASE
    },
    Scenario {
        name: "miss, transaction, write elsewhere",
        instances: TWO,
        actors: &[READER, here(&[Transaction(&[0], Ends::Commit)]), WRITER_THERE],
        ..BASE
    },
    Scenario {
        name: "absent row cached, created",
        rows: &[false],
        negative: true,
        instances: TWO,
        actors: &[READER, READER_THERE, WRITER],
        ..BASE
    },
    Scenario {
        name: "row deleted, absence cached",
        negative: true,
        instances: TWO,
        warm: &[1],
        actors: &[TWICE, there(&[Write(&[0], Delete)])],
        ..BASE
    },
    Scenario {
        name: "store switched off in the writer's process",
        instances: &[Tiers::Redis, Tiers::Off],
        actors: &[TWICE, WRITER_THERE],
        ..BASE
    },
];

/// Something breaks.
const DISTURBED: &[Scenario] = &[
    Scenario {
        name: "readers that go away",
        mishaps: Mishaps { leaves: 2, ..CALM },
        actors: &[READER, READER, WRITER],
        search: Search::Deviations(4),
        ..BASE
    },
    Scenario { name: "a reply lost", mishaps: Mishaps { lost_replies: 1, ..CALM }, actors: &[READER, WRITER], ..BASE },
    Scenario {
        name: "two replies lost, two instances",
        mishaps: Mishaps { lost_replies: 2, ..CALM },
        search: Search::Deviations(3),
        ..PAIR
    },
    Scenario { name: "timeouts", mishaps: Mishaps { timers: 2, ..CALM }, actors: &[READER, WRITER], ..BASE },
    Scenario {
        name: "timeouts, two instances",
        mishaps: Mishaps { timers: 3, ..CALM },
        search: Search::Deviations(3),
        ..PAIR
    },
    Scenario { name: "eviction", mishaps: Mishaps { evictions: 2, ..CALM }, search: Search::Deviations(4), ..PAIR },
    Scenario { name: "FLUSHALL", mishaps: Mishaps { flushes: 1, ..CALM }, actors: &[TWICE, WRITER], ..BASE },
    Scenario { name: "failover", mishaps: Mishaps { failovers: 1, ..CALM }, actors: &[TWICE, WRITER], ..BASE },
    Scenario {
        name: "failover over entries, two instances",
        mishaps: Mishaps { failovers: 1, ..CALM },
        warm: &[0],
        search: Search::Deviations(4),
        ..PAIR
    },
    Scenario { name: "out of memory", mishaps: Mishaps { full: 1, ..CALM }, search: Search::Deviations(4), ..PAIR },
    Scenario {
        name: "writer cut off",
        mishaps: Mishaps { cuts: 1, ..CALM },
        warm: &[1],
        search: Search::Deviations(3),
        ..PAIR
    },
    Scenario {
        name: "a reader's process killed",
        mishaps: Mishaps { killed: Some(1), ..CALM },
        actors: &[READER, READER_THERE, WRITER],
        search: Search::Deviations(4),
        ..PAIR
    },
    Scenario {
        name: "everything at once",
        rows: &[true, false],
        negative: true,
        instances: TWO,
        actors: &[
            here(&[Read(0), ReadMany(&[0, 1])]),
            there(&[ReadMany(&[1, 0]), Read(1)]),
            here(&[Write(&[0, 1], Put), Write(&[1], Put)]),
            there(&[Transaction(&[0], Ends::Commit), Transaction(&[1], Ends::Rollback)]),
        ],
        mishaps: Mishaps {
            lost_replies: 2,
            leaves: 1,
            timers: 3,
            evictions: 2,
            flushes: 1,
            failovers: 1,
            cuts: 1,
            full: 1,
            ..CALM
        },
        search: Search::Random(10_000),
        ..BASE
    },
];

/// Entries in process.
const IN_PROCESS: &[Scenario] = &[
    Scenario { name: "in process alone", ..LOCAL },
    Scenario { name: "in process alone, two readers", actors: &[TWICE, READER, WRITER], ..LOCAL },
    Scenario {
        name: "in process alone, entries, batch",
        rows: &[true, true],
        warm: &[0],
        actors: &[here(&[ReadMany(&[0, 1]), Read(1)]), here(&[Write(&[0, 1], Put)])],
        ..LOCAL
    },
    Scenario { name: "in process over Redis", ..BOTH },
    Scenario {
        name: "in process over Redis, entries",
        warm: &[0],
        actors: &[TWICE, TWICE, WRITER],
        search: Search::Deviations(4),
        ..BOTH
    },
    Scenario { name: "in process over Redis, failover", mishaps: Mishaps { failovers: 1, ..CALM }, warm: &[0], ..BOTH },
    Scenario {
        name: "in process over Redis, write elsewhere",
        warm: &[0],
        actors: &[TWICE, WRITER_THERE],
        mishaps: Mishaps { timers: 2, ..CALM },
        ..ELSEWHERE
    },
];

/// What the protocol does not promise: each must be found broken, or too little is asked.
pub(super) const LIMITS: &[Scenario] = &[
    Scenario {
        name: "limit: reads are monotonic before the acknowledgement",
        promise: Promise { monotonic: true, ..BASE.promise },
        instances: &[Tiers::Redis, Tiers::Off],
        warm: &[0],
        actors: &[READER, READER_THERE, WRITER],
        breaks: true,
        ..BASE
    },
    Scenario {
        name: "limit: a writer killed after COMMIT leaves no stale entry",
        promise: Promise { killed: true, ..BASE.promise },
        instances: TWO,
        warm: &[1],
        actors: &[WRITER, READER_THERE],
        mishaps: Mishaps { killed: Some(0), ..CALM },
        breaks: true,
        ..BASE
    },
];

/// The mistakes, each in a small scenario that holds without it.
pub(super) fn broken() -> Vec<Scenario> {
    MISTAKES.iter().map(|(bug, name, scenario)| Scenario { name, bug: Some(*bug), breaks: true, ..*scenario }).collect()
}

const MISS: Scenario = Scenario { actors: &[READER, WRITER], ..BASE };
const HIT: Scenario = Scenario { warm: &[0], ..MISS };
const FAILOVER: Scenario = Scenario { mishaps: Mishaps { failovers: 1, ..CALM }, ..BASE };

const MISTAKES: &[(Bug, &str, Scenario)] = &[
    (Bug::AckBeforeClear, "acknowledged before the clearing", HIT),
    (Bug::ClearBeforeCommit, "cleared before COMMIT", MISS),
    (Bug::ClearErrorIgnored, "error of a clearing ignored", Scenario { mishaps: Mishaps { cuts: 1, ..CALM }, ..HIT }),
    (Bug::ClearIgnored, "clearing ignored", HIT),
    (
        Bug::ClearSkipsLast,
        "last of several keys not cleared",
        Scenario { rows: &[true, true], actors: &[here(&[Write(&[0, 1], Put)])], ..HIT },
    ),
    (
        Bug::DirtyRead,
        "uncommitted row filled",
        Scenario { actors: &[READER, here(&[Transaction(&[0], Ends::Rollback)])], ..BASE },
    ),
    (Bug::FillIfAbsent, "fill where nothing stands", MISS),
    (Bug::FillWithoutLease, "fill without a look at the lease", MISS),
    (
        Bug::IncarnationIgnored,
        "values of a former server served",
        Scenario { warm: &[0], actors: &[WRITER], ..FAILOVER },
    ),
    (
        Bug::LeaseIncarnationIgnored,
        "loads of a former server joined",
        Scenario { actors: &[READER, READER, WRITER], search: Search::Deviations(5), ..FAILOVER },
    ),
    (Bug::LocalForgotten, "in-process tier not cleared", Scenario { instances: &[Tiers::Both(LATE)], ..HIT }),
    (Bug::LaggingReplica, "load from a replica that lags", MISS),
    (Bug::SelectBeforeLease, "row read before the lease", MISS),
    (Bug::TokenReused, "lease token used again", PAIR),
    (
        Bug::UnknownNotCleared,
        "unknown outcome not cleared",
        Scenario { actors: &[WRITER], mishaps: Mishaps { lost_replies: 1, ..CALM }, ..HIT },
    ),
];
