//! Mistakes made on purpose, each outside the cache: in the server, in the loader, in the writer. Each must be found.

/// A mistake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bug {
    /// The writer is acknowledged before the cache is cleared.
    AckBeforeClear,
    /// The writer announces what it does after it has done it.
    AnnouncedLate,
    /// The writer clears the cache before it commits.
    ClearBeforeCommit,
    /// An error of the clearing is taken for success.
    ClearErrorIgnored,
    /// The server confirms a clearing and does nothing.
    ClearIgnored,
    /// The server skips the last of several keys to clear.
    ClearSkipsLast,
    /// A clearing removes the intents of others too.
    ClearTakesAll,
    /// A load returns rows that are not committed.
    DirtyRead,
    /// A lease is granted and not placed; a fill goes where nothing stands.
    FillIfAbsent,
    /// A fill goes wherever it likes.
    FillWithoutLease,
    /// Every server is taken for the first one.
    IncarnationIgnored,
    /// An intent is confirmed and not placed.
    IntentNotPlaced,
    /// Readers take a key with intents for an empty one.
    IntentsNotSeen,
    /// A lease of a former server is taken for one of this server.
    LeaseIncarnationIgnored,
    /// The writer clears Redis and not what it holds in process.
    LocalForgotten,
    /// A load goes to a replica that is one commit behind.
    LaggingReplica,
    /// A load returns what the row was before the lease was granted.
    SelectBeforeLease,
    /// Every lease has the same token.
    TokenReused,
    /// A write whose outcome is unknown is taken for one that did nothing.
    UnknownNotCleared,
    /// A write whose outcome is unknown is taken for one that is over.
    UnknownSettled,
    /// A rolled-back writer removes the intents of others too.
    WithdrawTakesAll,
}
