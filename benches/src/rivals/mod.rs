//! What StoreHaus is compared with and nothing else of the workspace uses. Without the feature `rivals` nobody.

#[cfg(not(feature = "rivals"))]
mod none;

#[cfg(not(feature = "rivals"))]
pub(crate) use none::{local, readers, redis};
