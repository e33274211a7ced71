//! The cache manager: health, entries by hand, errors, statistics.

use storehaus::prelude::*;

use crate::{GLOBAL_PREFIX, Outcome, Session, User, section, user};

/// Whether Redis answers.
pub(crate) async fn health(cache_manager: &CacheManager) -> Outcome {
    section("health check");
    let health = cache_manager.health_check().await?;
    println!("redis {}, bypassed {}, answered in {:?}", health.redis, health.bypassed, health.response_time);
    Ok(())
}

/// Entries set, read and removed by hand.
pub(crate) async fn by_hand(cache_manager: &CacheManager, store: &GenericStore<User>) -> Outcome {
    section("entries by hand");
    let user_data = user("Mary");
    let set = cache_manager.set_record("users", "user123", &user_data, 3_600).await?;
    let cached_user: Option<User> = cache_manager.get_record("users", "user123").await?;
    println!("set: {set}, read: {:?}", cached_user.map(|user| user.name));
    println!("deleted: {}", cache_manager.delete_record("users", "user123").await?);
    let gone: Option<User> = cache_manager.get_record("users", "user123").await?;
    println!("read: {gone:?}");

    for id in ["42:phone", "42:laptop", "43:phone"] {
        cache_manager.set_record("user_sessions", id, &user_data, 3_600).await?;
    }
    println!("removed by pattern: {}", cache_manager.delete_pattern("user_sessions:42:*").await?);
    println!("removed by store: {}", cache_manager.invalidate_queries("user_sessions").await?);

    // What is set under the prefix and id of a store is what the store reads.
    let mary = store.create(user_data).await?;
    let renamed = User { name: "Mary, from the cache".into(), ..mary.clone() };
    cache_manager.set_record("users", &mary.id.to_string(), &renamed, 3_600).await?;
    println!("the store reads: {:?}", store.require(&mary.id).await?.name);
    cache_manager.delete_record("users", &mary.id.to_string()).await?;
    println!("and without the entry: {:?}", store.require(&mary.id).await?.name);
    Ok(())
}

/// What the manual API fails with.
pub(crate) async fn errors(cache_manager: &CacheManager) -> Outcome {
    section("errors");
    cache_manager.set_record("users", "user123", &user("Mary"), 3_600).await?;
    report(cache_manager.get_record::<User>("users", "user123").await.map(|user| user.map(|user| user.name)));
    report(cache_manager.get_record::<User>("users", "user456").await.map(|user| user.map(|user| user.name)));
    report(cache_manager.get_record::<Session>("users", "user123").await.map(|found| found.map(|found| found.token)));
    report(unreachable()?.get_record::<User>("users", "user123").await.map(|user| user.map(|user| user.name)));
    report(cache_manager.get_record::<User>("no spaces", "1").await.map(|user| user.map(|user| user.name)));
    Ok(())
}

fn report(outcome: Result<Option<String>, CacheError>) {
    match outcome {
        Ok(Some(name)) => println!("hit: {name}"),
        Ok(None) => println!("miss"),
        Err(CacheError::ConnectionError(why) | CacheError::Timeout(why)) => println!("no Redis: {why}"),
        Err(CacheError::SerializationError(why)) => println!("not such a value: {why}"),
        Err(error) => println!("other: {error}"),
    }
}

/// A manager whose Redis does not answer.
fn unreachable() -> Result<Arc<CacheManager>, CacheError> {
    // Nothing listens on port 1.
    let config = CacheConfig::new("redis://127.0.0.1:1", 300, GLOBAL_PREFIX).with_retry_attempts(1).with_timeout(200);
    CacheManager::new(config).map(Arc::new)
}

/// Reads and writes go on without Redis.
pub(crate) async fn outage(pool: &DbPool) -> Outcome {
    section("without Redis");
    let cache_manager = unreachable()?;
    let store = GenericStore::<User>::new(pool.clone(), None, Some(CacheParams::new(cache_manager.clone())));
    let niklaus = store.create(user("Niklaus")).await?;
    println!("read: {:?}", store.require(&niklaus.id).await?.name);
    let updated = store.update(&niklaus.id, User { name: "Niklaus W.".into(), ..niklaus }).await?;
    println!("updated, then read: {:?}", store.require(&updated.id).await?.name);
    match cache_manager.health_check().await {
        Ok(_) => println!("cache is healthy"),
        Err(error) => println!("health check: {error}"),
    }
    let stats = cache_manager.get_stats().await?;
    println!(
        "connection errors counted: {}, invalidations to replay: {}",
        stats.connection_errors > 0,
        stats.pending_invalidations
    );
    Ok(())
}

/// What happened so far, all in all and by store.
pub(crate) async fn statistics(cache_manager: &CacheManager) -> Outcome {
    section("statistics");
    let stats = cache_manager.get_stats().await?;
    println!("cache hits: {}", stats.hits);
    println!("cache misses: {}", stats.misses);
    println!("hit rate: {:.2} %", stats.hit_rate_percent());
    println!("connection errors: {}", stats.connection_errors);
    for (prefix, store) in &stats.stores {
        println!("{prefix}: hits {}, misses {}, invalidations {}", store.hits(), store.misses, store.invalidations);
    }
    if stats.hit_rate() < 0.7 {
        println!("the hit rate is below 70 %");
    }
    Ok(())
}
