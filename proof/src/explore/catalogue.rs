//! The scenarios: those that must hold, the limits that are known, and the mistakes that must be found.

use std::time::Duration;

use storehaus_cache::{Coherence, OnCacheDown};

use super::broken::Bug;
use super::database::Change::{Delete, Put};
use super::history::Promise;
use super::instance::INTENT_TTL;
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
const TWICE_THERE: Actor = there(&[Read(0), Read(0)]);
const WRITER_THERE: Actor = there(&[Write(&[0], Put)]);

/// How late an instance with entries in process may learn of the writes of another.
const LATE: Duration = Duration::from_millis(30);

/// Two instances that miss, and one writer.
const PAIR: Scenario = Scenario { instances: TWO, actors: &[READER, READER_THERE, WRITER], ..BASE };
/// Without Redis.
const LOCAL: Scenario = Scenario { instances: &[Tiers::Local], actors: &[TWICE, WRITER], ..BASE };
/// In process over Redis.
const BOTH: Scenario = Scenario { instances: &[Tiers::Both(LATE)], ..LOCAL };
/// A writer that may be killed; what it committed counts.
const KILL: Scenario = Scenario {
    instances: TWO,
    warm: &[1],
    actors: &[WRITER, READER_THERE],
    mishaps: Mishaps { killed: Some(0), ..CALM },
    promise: Promise { killed: true, ..BASE.promise },
    ..BASE
};
/// Two writers of one row, the first of which may be killed, and a reader.
const KILL_ONE: Scenario =
    Scenario { actors: &[WRITER, WRITER_THERE, READER_THERE], search: Search::Random(20_000), ..KILL };
/// The other writer rolls back.
const KILL_BESIDE: Scenario =
    Scenario { actors: &[WRITER, there(&[Transaction(&[0], Ends::Rollback)]), READER_THERE], ..KILL_ONE };
/// A writer whose COMMIT may be executed after it has given up.
const BREAK: Scenario = Scenario { mishaps: Mishaps { breaks: 1, ..CALM }, actors: &[READER, WRITER], ..BASE };
/// Nothing stands in for the intent: what is committed late counts once its writer's process has looked after it.
const UNDECIDED: Scenario =
    Scenario { promise: Promise { undecided: LOOKED_AFTER, ..BASE.promise }, search: Search::Deviations(4), ..BREAK };
/// [`UNDECIDED`] without an intent.
const UNDECIDED_UNMARKED: Scenario = Scenario { coherence: Coherence::Ttl, search: Search::All, ..UNDECIDED };
/// The time of an intent, and of what ends it.
const LOOKED_AFTER: Duration = INTENT_TTL.saturating_add(Duration::from_secs(2));
/// A writer that may lose its connection to Redis; what it commits counts everywhere all the same.
const CUT_OFF: Scenario = Scenario {
    instances: TWO,
    warm: &[1],
    actors: &[WRITER, TWICE_THERE],
    mishaps: Mishaps { cuts: 1, ..CALM },
    promise: Promise { owed: true, ..BASE.promise },
    search: Search::Deviations(4),
    ..BASE
};
/// In process over Redis, with a writer elsewhere.
const ELSEWHERE: Scenario =
    Scenario { instances: &[Tiers::Both(LATE), Tiers::Redis], promise: Promise { late: LATE, ..BASE.promise }, ..BASE };

/// Every scenario.
pub(super) fn all() -> Vec<Scenario> {
    [sound(), LIMITS.to_vec(), broken()].concat()
}

/// Everything that must hold.
pub(super) fn sound() -> Vec<Scenario> {
    let common = [UNDISTURBED, DISTURBED, IN_PROCESS].concat();
    let unmarked = common.iter().map(|scenario| Scenario { coherence: Coherence::Ttl, ..*scenario });
    let marked = common.iter().map(|scenario| {
        // Where no intent gets lost and nobody may be late, reads do not go back.
        let monotonic = !scenario.is_disturbed() && scenario.promise.late.is_zero();
        Scenario { promise: Promise { monotonic, ..scenario.promise }, ..*scenario }
    });
    marked.chain(MARKED.iter().copied()).chain(unmarked).collect()
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

/// What intents are for.
const MARKED: &[Scenario] = &[
    Scenario { name: "writer killed", actors: &[WRITER, TWICE_THERE], ..KILL },
    Scenario {
        name: "writer killed in a transaction",
        rows: &[true, true],
        actors: &[here(&[Transaction(&[0, 1], Ends::Commit)]), there(&[ReadMany(&[0, 1])])],
        ..KILL
    },
    Scenario { name: "one of two writers killed", ..KILL_ONE },
    Scenario { name: "writer killed beside one that rolls back", ..KILL_BESIDE },
    Scenario { name: "the connection of a COMMIT breaks", ..BREAK },
    Scenario {
        name: "the connection of a COMMIT breaks, in process",
        instances: &[Tiers::Local],
        actors: &[TWICE, WRITER],
        ..BREAK
    },
    Scenario {
        name: "the connection of a COMMIT breaks, in process over Redis",
        instances: &[Tiers::Both(LATE)],
        actors: &[TWICE, WRITER],
        search: Search::Deviations(4),
        ..BREAK
    },
    Scenario {
        name: "the connection of a COMMIT breaks, its intent evicted",
        actors: &[TWICE, WRITER],
        mishaps: Mishaps { evictions: 1, timers: 3, ..BREAK.mishaps },
        ..UNDECIDED
    },
    Scenario {
        name: "the connection of a COMMIT breaks, FLUSHALL, two instances",
        instances: TWO,
        actors: &[READER_THERE, WRITER],
        mishaps: Mishaps { flushes: 1, timers: 2, ..BREAK.mishaps },
        ..UNDECIDED
    },
    Scenario {
        name: "the connection of a COMMIT breaks, its writer cut off",
        instances: TWO,
        actors: &[TWICE_THERE, WRITER],
        mishaps: Mishaps { cuts: 1, ..BREAK.mishaps },
        ..UNDECIDED
    },
    Scenario { name: "the connection of a COMMIT breaks", ..UNDECIDED_UNMARKED },
    Scenario {
        name: "the connection of a COMMIT breaks, in process",
        instances: &[Tiers::Local],
        actors: &[TWICE, WRITER],
        ..UNDECIDED_UNMARKED
    },
    Scenario { name: "writer cut off, strict", coherence: Coherence::Strict, ..CUT_OFF },
    Scenario { name: "writer cut off, refuses", on_cache_down: OnCacheDown::Refuse, ..CUT_OFF },
];

/// What the protocol does not promise: each must be found broken, or too little is asked.
pub(super) const LIMITS: &[Scenario] = &[
    Scenario {
        name: "limit: unmarked writes are seen before their acknowledgement, or not",
        promise: Promise { monotonic: true, ..BASE.promise },
        coherence: Coherence::Ttl,
        instances: &[Tiers::Redis, Tiers::Off],
        warm: &[0],
        actors: &[READER, READER_THERE, WRITER],
        breaks: true,
        ..BASE
    },
    Scenario { name: "limit: an unmarked writer killed after COMMIT", coherence: Coherence::Ttl, breaks: true, ..KILL },
    Scenario {
        name: "limit: the connection of an unmarked COMMIT breaks",
        coherence: Coherence::Ttl,
        breaks: true,
        ..BREAK
    },
    Scenario {
        name: "limit: the connection of a COMMIT breaks and its intent is evicted",
        mishaps: Mishaps { evictions: 1, ..BREAK.mishaps },
        breaks: true,
        ..BREAK
    },
    Scenario {
        name: "limit: a writer killed after its intent was evicted",
        mishaps: Mishaps { evictions: 1, ..KILL.mishaps },
        breaks: true,
        ..KILL
    },
    Scenario {
        name: "limit: a writer cut off proceeds, and others learn of it late",
        breaks: true,
        search: Search::Deviations(2),
        ..CUT_OFF
    },
];

/// The mistakes, each in a small scenario that holds without it.
pub(super) fn broken() -> Vec<Scenario> {
    MISTAKES.iter().map(|(bug, name, scenario)| Scenario { name, bug: Some(*bug), breaks: true, ..*scenario }).collect()
}

/// Without intents, which would make up for many a mistake.
const UNMARKED: Scenario = Scenario { coherence: Coherence::Ttl, ..BASE };
const MISS: Scenario = Scenario { actors: &[READER, WRITER], ..UNMARKED };
const HIT: Scenario = Scenario { warm: &[0], ..MISS };
const FAILOVER: Scenario = Scenario { mishaps: Mishaps { failovers: 1, ..CALM }, ..UNMARKED };

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
        Scenario { actors: &[READER, here(&[Transaction(&[0], Ends::Rollback)])], ..UNMARKED },
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
    (Bug::TokenReused, "lease token used again", Scenario { coherence: Coherence::Ttl, ..PAIR }),
    (
        Bug::UnknownNotCleared,
        "unknown outcome not cleared",
        Scenario { actors: &[WRITER], mishaps: Mishaps { lost_replies: 1, ..CALM }, ..HIT },
    ),
    (Bug::AnnouncedLate, "announced after COMMIT", KILL),
    (Bug::IntentNotPlaced, "intent not placed", KILL),
    (Bug::IntentsNotSeen, "intents not seen by readers", KILL),
    (Bug::ClearTakesAll, "the intents of others cleared", KILL_ONE),
    (Bug::WithdrawTakesAll, "the intents of others withdrawn", KILL_BESIDE),
    (Bug::UnknownSettled, "unknown outcome of an unmarked COMMIT taken for over", UNDECIDED_UNMARKED),
    (
        Bug::UnknownSettled,
        "unknown outcome taken for over, in process",
        Scenario { instances: &[Tiers::Local], actors: &[TWICE, WRITER], ..UNDECIDED_UNMARKED },
    ),
    (Bug::UnknownSettled, "unknown outcome taken for over", BREAK),
];
