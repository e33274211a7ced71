//! The row that the programs read and write: a version that only grows.

use storehaus::prelude::*;

/// A row whose version only grows.
#[derive(Clone, Debug, PartialEq, Eq, Model)]
#[model(table = "proof_accounts")]
pub struct Account {
    /// The key.
    #[key]
    pub id: i64,
    /// The version.
    pub version: i64,
    /// Some bytes to carry.
    pub note: String,
}

impl Account {
    /// The row `id` at `version`.
    pub fn new(id: i64, version: i64) -> Self {
        Self { id, version, note: format!("account {id} at version {version} {}", "x".repeat(160)) }
    }
}
