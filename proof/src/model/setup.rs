//! What is explored: the protocol, the bounds, the faults that may happen, and the mistake, if any.

/// Which rules the writers follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    /// No shared tier: the in-process tier alone.
    Embedded,
    /// Leases and compare-and-set fills; a write deletes the key after COMMIT and before it is acknowledged.
    Lease,
    /// The same, and a write marks the key with an intent before COMMIT.
    Intents,
}

/// The in-process tier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Local {
    /// None.
    Off,
    /// On every instance; an entry ends [`DELTA`] ticks after its load began.
    Aged,
    /// On every instance; the writers' instance sends invalidations and heartbeats to the other one.
    Bus,
    /// On the only instance.
    Strict,
}

/// What a writer does that cannot reach Redis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OnDown {
    /// It goes on; the invalidation enters the journal of its instance.
    Proceed,
    /// It refuses before the database is touched, and after COMMIT it repeats until Redis confirms.
    Refuse,
}

/// When the commit of a writer that died before it was acknowledged must be seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Orphan {
    /// From the first moment at which no tier holds an entry: the bound is the TTL.
    AfterExpiry,
    /// By every read that starts after the death.
    AtOnce,
}

/// Ticks after which an entry of another instance's in-process tier must not be older than an acknowledged write.
pub(super) const DELTA: u8 = 2;

/// One exploration. The defaults are the smallest model without a fault.
#[derive(Clone, Copy, Debug)]
pub(super) struct Setup {
    pub(super) name: &'static str,
    pub(super) protocol: Protocol,
    pub(super) local: Local,
    pub(super) on_down: OnDown,
    pub(super) orphan: Orphan,
    /// Writes of each writer; none for a writer that does not exist.
    pub(super) writes: [u8; 2],
    /// The instance of each writer.
    pub(super) writer_at: [u8; 2],
    /// The instance of each loader; equal ones stand together.
    pub(super) loads: &'static [u8],
    /// Whether one more loader refreshes values before they expire.
    pub(super) refresher: bool,
    /// Whether a write publishes its row instead of deleting.
    pub(super) publish: bool,
    /// Whether version 0 is "there is no such row".
    pub(super) absent: bool,
    /// Whether that is cached.
    pub(super) negative: bool,
    /// Writers die at any step.
    pub(super) crash: bool,
    /// The reply to COMMIT is lost, whether or not it was applied.
    pub(super) unknown: bool,
    /// Replies of Redis to writers are lost after the command was applied.
    pub(super) lost_replies: bool,
    /// Intents vanish before their time: eviction, flush.
    pub(super) loss: bool,
    /// Copies of the key are taken, and once one of them takes the place of the key, on a server with a new identity.
    pub(super) failover: bool,
    /// Instance 0 loses its connection to Redis once.
    pub(super) cut: bool,
    /// Once, for a while, commands that store are refused for lack of memory.
    pub(super) oom: bool,
    /// Reads are monotonic.
    pub(super) monotonic: bool,
    /// A write whose invalidation the journal owes counts as ended everywhere, not on its instance alone.
    pub(super) owed_counts: bool,
    pub(super) bug: Option<Bug>,
}

impl Setup {
    /// Leases, two writers, three loaders, no fault but expiry.
    pub(super) const LEASE: Self = Self {
        name: "lease",
        protocol: Protocol::Lease,
        local: Local::Off,
        on_down: OnDown::Proceed,
        orphan: Orphan::AtOnce,
        writes: [2, 2],
        writer_at: [0, 0],
        loads: &[0, 0, 0],
        refresher: false,
        publish: false,
        absent: false,
        negative: false,
        crash: false,
        unknown: false,
        lost_replies: false,
        loss: false,
        failover: false,
        cut: false,
        oom: false,
        monotonic: false,
        owed_counts: false,
        bug: None,
    };

    /// Intents, two writers, three loaders, no fault but expiry.
    pub(super) const INTENTS: Self = Self { name: "intents", protocol: Protocol::Intents, ..Self::LEASE };

    pub(super) fn has(&self, bug: Bug) -> bool {
        self.bug == Some(bug)
    }

    /// Whether there is a shared tier.
    pub(super) fn shared(&self) -> bool {
        self.protocol != Protocol::Embedded
    }

    /// Whether a read of the in-process tier of `instance` may be late by [`DELTA`].
    pub(super) fn bounded(&self, instance: usize) -> bool {
        match self.local {
            Local::Off | Local::Strict => false,
            Local::Aged => true,
            Local::Bus => instance == 1,
        }
    }

    /// Loaders in all.
    pub(super) fn slots(&self) -> usize {
        self.loads.len() + usize::from(self.refresher)
    }

    /// The instance of a loader.
    pub(super) fn load_at(&self, load: usize) -> usize {
        usize::from(self.loads.get(load).copied().unwrap_or(0))
    }

    pub(super) fn writer_at(&self, writer: usize) -> usize {
        usize::from(self.writer_at[writer])
    }
}

/// A mistake that somebody made; each must be found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bug {
    AckBeforeDelete,
    BeatFromReceipt,
    CancelDropsClear,
    CommitAfterExpiry,
    DeleteErrorIgnored,
    DeleteLeavesAlone,
    DeleteTakesIntents,
    DirtyFill,
    FillWithoutLease,
    FlightJoinedAcrossWrite,
    IncarnationIgnored,
    IntentRestoresValue,
    InvalidateBeforeCommit,
    JournalNotReplayed,
    LeaseImmortal,
    LeaseJoinedAcrossFailover,
    LocalBeforeShared,
    NegativeNotCleared,
    OomNotHandled,
    PublishAlways,
    PublishStampedLate,
    RefreshWithoutCas,
    ResubscribeWithoutFlush,
    SecondWriterSkips,
    SelectBeforeLease,
    SetNxFill,
    StampedAtFill,
    TokenReused,
    TombstoneAllowsByAbsence,
    UnknownNotCleared,
    VanishedIntentIgnored,
}
