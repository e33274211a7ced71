//! hitbox: a function whose results are kept.

use std::sync::Arc;
use std::time::Duration;

use hitbox::policy::PolicyConfig;
use hitbox_backend::format::BincodeFormat;
use hitbox_fn::{Cache, cached};
use hitbox_moka::MokaBackend;
use hitbox_redis::{ConnectionMode, RedisBackend};

use crate::harness::Failure;
use crate::user::{TTL, User, select};
use crate::world::{ROWS, World};

/// What the cached function returns.
pub(super) type Found = Result<User, String>;

#[cached(prefix = "user", skip(world))]
pub(super) async fn user(world: Arc<World>, id: u128) -> Found {
    let id = storehaus::prelude::Uuid::from_u128(id);
    select(&world.pool, id).await.map_err(|error| error.to_string())
}

pub(super) type Moka = Cache<MokaBackend<BincodeFormat>>;
pub(super) type Redis = Cache<RedisBackend>;

pub(super) fn moka() -> Moka {
    let backend = MokaBackend::builder().max_entries(2 * ROWS as u64).value_format(BincodeFormat).build();
    Cache::builder().backend(backend).policy(policy()).build()
}

pub(super) fn redis(server: &str) -> Result<Redis, Failure> {
    let backend = RedisBackend::builder().connection(ConnectionMode::single(server)).build()?;
    Ok(Cache::builder().backend(backend).policy(policy()).build())
}

fn policy() -> PolicyConfig {
    PolicyConfig::builder().ttl(Duration::from_secs(TTL)).build()
}
