//! Bugs that can be built in, so that the programs that look for such bugs can be seen to find them.
//!
//! This module and every line that asks it exist only in builds with `--cfg storehaus_broken`. The environment variable
//! `STOREHAUS_BROKEN` names the bug; without it such a build is right.

use std::env;
use std::sync::LazyLock;

/// A bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// A write is acknowledged while its invalidation is still under way.
    AcknowledgeFirst,
    /// A value is stored whether or not the lease it was loaded under still stands.
    FillAnyway,
    /// A load under way in process survives an invalidation: it is joined after it, and lands.
    FlightSurvives,
    /// The identity of an entry is not looked at.
    IdentityOff,
    /// An invalidation that fails counts as confirmed.
    IgnoreErrors,
    /// The server a value was stored on is not looked at.
    IncarnationOff,
    /// Rows are invalidated before they are changed, and not after.
    InvalidateFirst,
    /// What stands in process is not invalidated.
    KeepLocal,
    /// Nobody announces a write.
    NoIntents,
    /// A transaction invalidates its rows before COMMIT, and not after.
    SettleBeforeCommit,
    /// Of several rows one is not invalidated.
    SkipOne,
    /// The invalidations of an outage are forgotten when it ends.
    SwallowJournal,
    /// A write of unknown outcome counts as one that changed nothing.
    UnknownIsNothing,
    /// A row in process is served without asking whether it still stands.
    ValidateNothing,
}

/// Whether this bug is switched on.
pub fn is(bug: Bug) -> bool {
    static NAMED: LazyLock<Option<Bug>> = LazyLock::new(|| {
        let name = env::var("STOREHAUS_BROKEN").ok()?;
        ALL.iter().find(|(known, _)| *known == name).map(|(_, bug)| *bug)
    });
    *NAMED == Some(bug)
}

/// The keys that are left when one of several is overlooked: [`Bug::SkipOne`].
pub(crate) fn skip_one<K>(mut keys: Vec<K>) -> Vec<K> {
    if keys.len() > 1 && is(Bug::SkipOne) {
        keys.pop();
    }
    keys
}

const ALL: &[(&str, Bug)] = &[
    ("acknowledge-first", Bug::AcknowledgeFirst),
    ("fill-anyway", Bug::FillAnyway),
    ("flight-survives", Bug::FlightSurvives),
    ("identity-off", Bug::IdentityOff),
    ("ignore-errors", Bug::IgnoreErrors),
    ("incarnation-off", Bug::IncarnationOff),
    ("invalidate-first", Bug::InvalidateFirst),
    ("keep-local", Bug::KeepLocal),
    ("no-intents", Bug::NoIntents),
    ("settle-before-commit", Bug::SettleBeforeCommit),
    ("skip-one", Bug::SkipOne),
    ("swallow-journal", Bug::SwallowJournal),
    ("unknown-is-nothing", Bug::UnknownIsNothing),
    ("validate-nothing", Bug::ValidateNothing),
];
