//! The coherent cache behind StoreHaus. Knows no database.

pub mod codec;
pub mod key;
pub mod l2;
#[cfg(feature = "redis")]
pub mod redis;
pub mod remote;

pub use codec::{CacheField, Cacheable, DecodeError, Decoder, EncodeError, Encoder};
pub use key::{Key, KeyParts, KeyRef, KeySpace, KeyWriter};
