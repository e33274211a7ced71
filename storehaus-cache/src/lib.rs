//! The coherent cache behind StoreHaus. Knows no database.

pub mod codec;
pub mod key;
pub mod l2;

pub use codec::{CacheField, Cacheable, DecodeError, Decoder, EncodeError, Encoder, Json};
pub use key::{Key, KeyParts, KeyRef, KeySpace, KeyWriter};
