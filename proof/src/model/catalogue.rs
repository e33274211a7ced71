//! The configurations that must hold, the limits that are known, and the mistakes that must be found.

use super::setup::{Bug, Local, OnDown, Orphan, Protocol, Setup};

/// What an exploration must come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expected {
    /// No promise is broken.
    Holds,
    /// A promise is broken: the documented limit of a protocol, or a mistake made on purpose.
    Broken,
}

/// One line of the report.
#[derive(Clone, Copy, Debug)]
pub(super) struct Case {
    pub(super) setup: Setup,
    pub(super) expected: Expected,
}

/// The configurations that must hold.
pub(super) fn good() -> Vec<Case> {
    let lease = Setup { unknown: true, lost_replies: true, ..Setup::LEASE };
    let intents = Setup { unknown: true, lost_replies: true, ..Setup::INTENTS };
    let strict = Setup { crash: true, monotonic: true, ..intents };
    let lossy = Setup { crash: true, loss: true, orphan: Orphan::AfterExpiry, ..intents };
    [
        // The protocol without intents.
        Setup { name: "lease", refresher: true, ..lease },
        Setup { name: "lease, crash: stale until expiry at most", crash: true, orphan: Orphan::AfterExpiry, ..lease },
        Setup { name: "lease, failover", failover: true, ..lease },
        Setup { name: "lease, no memory, absent marker", oom: true, absent: true, negative: true, ..lease },
        Setup { name: "lease, absent row not cached", absent: true, ..lease },
        Setup { name: "lease, one instance cut off", cut: true, writer_at: [0, 1], loads: &[0, 1], ..lease },
        Setup { name: "lease, in-process tier, one instance", local: Local::Strict, ..lease },
        Setup {
            name: "lease, in-process tier, cut off",
            local: Local::Strict,
            cut: true,
            writes: [1, 1],
            loads: &[0, 0],
            ..lease
        },
        Setup {
            name: "lease, in-process tier by age, two instances",
            local: Local::Aged,
            writes: [1, 1],
            writer_at: [0, 1],
            loads: &[0, 1],
            ..lease
        },
        Setup { name: "in-process tier alone", protocol: Protocol::Embedded, local: Local::Strict, ..lease },
        // The protocol with intents.
        Setup { name: "intents, crash", ..strict },
        Setup { name: "intents, crash, refresh", refresher: true, writes: [2, 1], loads: &[0, 0], ..strict },
        Setup { name: "intents, crash, publish", publish: true, ..strict },
        Setup { name: "intents, crash, eviction", publish: true, ..lossy },
        Setup { name: "intents, crash, eviction, failover", publish: true, failover: true, loads: &[0, 0], ..lossy },
        Setup { name: "intents, crash, eviction, no memory", publish: true, oom: true, ..lossy },
        Setup {
            name: "intents, cut off, proceeds",
            cut: true,
            publish: true,
            writer_at: [0, 1],
            loads: &[0, 1],
            ..intents
        },
        Setup {
            name: "intents, crash, cut off, refuses",
            cut: true,
            on_down: OnDown::Refuse,
            writer_at: [0, 1],
            loads: &[0, 1],
            ..strict
        },
        Setup { name: "intents, in-process tier, one instance", local: Local::Strict, loads: &[0, 0], ..intents },
        Setup {
            name: "intents, crash, in-process tier, bus, two writers",
            crash: true,
            local: Local::Bus,
            writes: [1, 1],
            loads: &[1, 1],
            ..intents
        },
        Setup {
            name: "intents, crash, in-process tier, bus, two loads",
            crash: true,
            local: Local::Bus,
            writes: [2, 0],
            loads: &[1, 1],
            ..Setup::INTENTS
        },
        Setup {
            name: "intents, in-process tier on both sides of the bus",
            local: Local::Bus,
            writes: [1, 0],
            loads: &[0, 1],
            ..intents
        },
    ]
    .map(|setup| Case { setup, expected: Expected::Holds })
    .to_vec()
}

/// Where the promise ends: each must be found broken, or the model asks too little.
pub(super) fn limits() -> Vec<Case> {
    let small = Setup { writes: [1, 1], loads: &[0, 0], ..Setup::LEASE };
    [
        Setup { name: "lease: a crash after COMMIT is hidden at once", crash: true, ..small },
        Setup { name: "lease: reads are monotonic before the acknowledgement", monotonic: true, ..small },
        Setup {
            name: "intents: a crash after COMMIT and the loss of the intent are hidden at once",
            protocol: Protocol::Intents,
            crash: true,
            loss: true,
            ..small
        },
        Setup {
            name: "intents: reads are monotonic when intents are lost",
            protocol: Protocol::Intents,
            loss: true,
            monotonic: true,
            ..small
        },
        Setup {
            name: "cut off, proceeds: other instances see the write before the replay",
            cut: true,
            owed_counts: true,
            writer_at: [0, 1],
            loads: &[0, 1],
            ..small
        },
    ]
    .map(|setup| Case { setup, expected: Expected::Broken })
    .to_vec()
}

/// The mistakes, each in the smallest configuration that can show it and that holds without it.
pub(super) fn broken() -> Vec<Case> {
    let lease = Setup { writes: [1, 1], loads: &[0, 0], ..Setup::LEASE };
    let intents = Setup { protocol: Protocol::Intents, ..lease };
    let failover = Setup { failover: true, ..lease };
    let bus = Setup { local: Local::Bus, loads: &[1], writes: [1, 0], ..intents };
    let publish = Setup { publish: true, ..intents };
    [
        (Bug::FillWithoutLease, "fill without a look at the lease", lease),
        (Bug::TokenReused, "lease token used again", lease),
        (Bug::SetNxFill, "fill by SET NX", lease),
        (Bug::TombstoneAllowsByAbsence, "tombstone that allows by absence", lease),
        (Bug::SelectBeforeLease, "SELECT before the lease", lease),
        (Bug::InvalidateBeforeCommit, "invalidation before COMMIT", lease),
        (Bug::AckBeforeDelete, "acknowledged before the deletion", lease),
        (Bug::DeleteErrorIgnored, "error of the deletion ignored", lease),
        (Bug::CancelDropsClear, "invalidation dropped with the caller", lease),
        (Bug::UnknownNotCleared, "unknown outcome of COMMIT not cleared", Setup { unknown: true, ..lease }),
        (Bug::DirtyFill, "fill before COMMIT", lease),
        (Bug::RefreshWithoutCas, "refresh without compare-and-set", Setup { refresher: true, ..lease }),
        (
            Bug::NegativeNotCleared,
            "absent marker not cleared by create",
            Setup { absent: true, negative: true, ..lease },
        ),
        (Bug::LeaseImmortal, "lease without expiry", lease),
        (Bug::LocalBeforeShared, "in-process tier cleared before Redis", Setup { local: Local::Strict, ..lease }),
        (
            Bug::FlightJoinedAcrossWrite,
            "flight joined across a write",
            Setup { local: Local::Strict, protocol: Protocol::Embedded, ..lease },
        ),
        (
            Bug::JournalNotReplayed,
            "journal not replayed before reads",
            Setup { cut: true, writer_at: [0, 1], loads: &[0, 1], ..lease },
        ),
        (Bug::IncarnationIgnored, "incarnation ignored at failover", failover),
        (Bug::StampedAtFill, "value stamped when it is filled", failover),
        (Bug::LeaseJoinedAcrossFailover, "lease joined across a failover", failover),
        (Bug::OomNotHandled, "refused intent not followed by a deletion", Setup { oom: true, ..intents }),
        (Bug::IntentRestoresValue, "intent expires back to the old value", Setup { crash: true, ..intents }),
        (Bug::CommitAfterExpiry, "COMMIT after the intent's expiry", Setup { crash: true, ..intents }),
        (Bug::SecondWriterSkips, "second writer skips its clearing", intents),
        (Bug::VanishedIntentIgnored, "vanished intent not followed by a deletion", Setup { loss: true, ..intents }),
        (
            Bug::DeleteTakesIntents,
            "deletion without an intent takes the intents of others",
            Setup { crash: true, ..intents },
        ),
        (
            Bug::DeleteLeavesAlone,
            "deletion without an intent leaves a publisher alone",
            Setup { loss: true, ..publish },
        ),
        (Bug::PublishAlways, "published though not alone", publish),
        (
            Bug::PublishStampedLate,
            "publication stamped when it is made",
            Setup { failover: true, orphan: Orphan::AfterExpiry, ..publish },
        ),
        (Bug::ResubscribeWithoutFlush, "in-process tier not flushed on resubscription", bus),
        (Bug::BeatFromReceipt, "heartbeat counted from its receipt", bus),
    ]
    .map(|(bug, name, setup)| Case { setup: Setup { name, bug: Some(bug), ..setup }, expected: Expected::Broken })
    .to_vec()
}
