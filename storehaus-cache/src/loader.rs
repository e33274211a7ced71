//! The seam to the source of truth.

use std::future::Future;
use std::time::Duration;

use crate::codec::Cacheable;
use crate::key::Key;

/// Where rows come from when no tier has them. Every load must read committed data of the primary, on a snapshot
/// taken after the load began, outside any transaction of the caller.
pub trait Loader: Send + Sync + 'static {
    /// What identifies a row.
    type Key: Key;
    /// A row.
    type Value: Cacheable + Clone;
    /// What a load fails with; shared by everybody who waits for it.
    type Error: Clone + Send + Sync + 'static;

    /// Whether the database takes no two keys for equal that are not. Where it may, the absence of one of several rows that
    /// were asked for together is not remembered: its row may have come under another's key.
    const EXACT_KEYS: bool = true;

    /// One row.
    fn load(&self, key: &Self::Key) -> impl Future<Output = Result<Option<Self::Value>, Self::Error>> + Send;

    /// Many rows, in any order; missing ones are left out.
    fn load_many(&self, keys: &[Self::Key]) -> impl Future<Output = Result<Rows<Self>, Self::Error>> + Send;

    /// Whether the key is the row's own, to the letter. The database may take keys for equal that are not, such as text
    /// of different case: such a row is served and not cached, as the write that changes it invalidates it under its own
    /// key alone.
    fn is_key_of(&self, _key: &Self::Key, _row: &Self::Value) -> bool {
        true
    }

    /// The error of a load that did not end.
    fn aborted(&self, why: Aborted) -> Self::Error;
}

/// Rows with their keys.
pub type Rows<Ld> = Vec<(<Ld as Loader>::Key, <Ld as Loader>::Value)>;

/// Why a load has no result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aborted {
    /// It panicked, or its runtime was shut down.
    Lost,
    /// It took longer than the load timeout.
    TimedOut(Duration),
}
