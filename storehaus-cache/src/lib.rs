//! The coherent cache behind StoreHaus. Knows no database.
//!
//! | module | what it holds |
//! |---|---|
//! | [`key`] | keys: `<global>:<store>:<id>`, injective |
//! | [`codec`] | how a row becomes the bytes of an entry, and the header in front of them |
//! | [`record`] | the read-through cache of one store: lease, fill, invalidate |
//! | [`loader`] | the seam to the source of truth |
//! | [`local`] | the in-process tier |
//! | [`l2`] | the seam to the shared tier; [`redis`] implements it |
//! | [`explain`] | what the tiers hold under one key, and how it came there |
//! | [`remote`] | deadlines, breaker and journal around the shared tier |
//! | [`config`] | what can be configured |
//! | [`stats`] | what is counted |
//! | [`mod@env`] | the seam to clock and randomness |

mod audit;
#[cfg(storehaus_broken)]
pub mod broken;
mod bus;
pub mod codec;
pub mod config;
pub mod env;
mod error;
pub mod explain;
mod flight;
mod intents;
pub mod key;
pub mod l2;
mod life;
pub mod loader;
pub mod local;
mod manager;
mod manual;
mod params;
mod recent;
pub mod record;
#[cfg(feature = "redis")]
pub mod redis;
mod registry;
pub mod remote;
mod scratch;
pub mod stats;

pub use audit::AuditOptions;
pub use codec::{CacheField, Cacheable, DecodeError, Decoder, EncodeError, Encoder, Json};
pub use config::{CacheConfig, Coherence, IntoTimeout, IntoTtl, L1, OnCacheDown, Ttl};
pub use error::{CacheError, Failure};
pub use explain::Explanation;
pub use key::{Key, KeyParts, KeyRef, KeySpace, KeyWriter};
pub use manager::{CacheManager, Health, Running, SharedTier};
pub use params::CacheParams;
pub use stats::{BusStats, CacheStats, StoreStats};
