//! What the manual cache API can fail with.

use thiserror::Error;

use crate::codec::{DecodeError, EncodeError};
use crate::l2::L2Error;

/// What a call on [`CacheManager`](crate::CacheManager) failed with. Stores never return it from a read or a write:
/// there a failing cache is a miss, counted in the statistics.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum CacheError {
    /// A prefix, pattern, TTL or URL that is not allowed.
    #[error("invalid cache configuration: {0}")]
    Configuration(String),
    /// Redis could not be reached, or the connection broke.
    #[error("{0}")]
    ConnectionError(Failure),
    /// Redis refused the command.
    #[error("{0}")]
    Refused(Failure),
    /// The entry is not a value of the type asked for, or the value cannot be encoded.
    #[error("{0}")]
    SerializationError(Failure),
    /// Redis did not answer in time; whether the command ran is not known.
    #[error("{0}")]
    Timeout(Failure),
    /// The value is larger than the limit.
    #[error("{0}")]
    TooLarge(Failure),
}

/// Which call failed, where, and why. Holds no value and no id.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("cache {operation} on {store} failed: {reason}")]
#[non_exhaustive]
pub struct Failure {
    /// The method.
    pub operation: &'static str,
    /// The store prefix, or `*` for a call that concerns all.
    pub store: String,
    /// Why.
    pub reason: String,
}

impl Failure {
    pub(crate) fn new(operation: &'static str, store: &str, reason: impl ToString) -> Self {
        Self { operation, store: store.to_owned(), reason: reason.to_string() }
    }
}

impl CacheError {
    /// Whether the same call may succeed later.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::ConnectionError(_) | Self::Refused(_) | Self::Timeout(_))
    }

    pub(crate) fn from_l2(operation: &'static str, store: &str, error: &L2Error) -> Self {
        let failure = Failure::new(operation, store, error);
        match error {
            L2Error::Connection(_) => Self::ConnectionError(failure),
            L2Error::Refused { .. } => Self::Refused(failure),
            L2Error::Timeout(_) => Self::Timeout(failure),
            L2Error::WrongType => Self::SerializationError(failure),
        }
    }

    pub(crate) fn decode(operation: &'static str, store: &str, error: &DecodeError) -> Self {
        Self::SerializationError(Failure::new(operation, store, error))
    }

    pub(crate) fn encode(operation: &'static str, store: &str, error: &EncodeError) -> Self {
        Self::SerializationError(Failure::new(operation, store, error))
    }
}
