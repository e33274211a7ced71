//! What StoreHaus is compared with and nothing else of the workspace uses. Without the feature `rivals` nobody.
//!
//! Each function returns the contestants for each number of tasks.

#[cfg(feature = "rivals")]
mod database;
#[cfg(feature = "rivals")]
mod hitbox;
#[cfg(feature = "rivals")]
mod local;
#[cfg(not(feature = "rivals"))]
mod none;
#[cfg(feature = "rivals")]
mod redis;

#[cfg(not(feature = "rivals"))]
pub(crate) use none::{local, readers, redis};

#[cfg(feature = "rivals")]
pub(crate) use {database::readers, local::local, redis::redis};
