//! What reads and writes of a store do to its cache.

use storehaus::prelude::*;

use crate::{AnalyticsEvent, Outcome, Product, Session, Stores, User, section, user};

/// The first read asks the database, the next ones do not.
pub(crate) async fn hits_and_misses(cache_manager: &CacheManager, user_store: &GenericStore<User>) -> Outcome {
    section("hits and misses");
    let ada = user_store.create(user("Ada")).await?;
    let before = cache_manager.get_stats().await?;
    for read in ["first", "second", "third"] {
        let found = user_store.get_by_id(&ada.id).await?;
        // Redis is filled after the read returned; this waits for it, so that the outcome is the same in every run.
        cache_manager.settle().await;
        let now = cache_manager.get_stats().await?;
        println!(
            "{read} read: {:?}; hits {}, misses {}, SELECTs {}",
            found.map(|user| user.name),
            now.hits - before.hits,
            now.misses - before.misses,
            now.total.loads - before.total.loads
        );
    }
    Ok(())
}

/// Updates and deletes remove the entries of what they changed before they return.
pub(crate) async fn invalidation(cache_manager: &CacheManager, user_store: &GenericStore<User>) -> Outcome {
    section("invalidation");
    let users = user_store.create_many(vec![user("Grace"), user("Edsger"), user("Barbara")]).await?;
    let [grace, edsger, barbara] = &users[..] else { return Err("three users were created".into()) };
    for user in &users {
        user_store.get_by_id(&user.id).await?;
    }
    cache_manager.settle().await;
    println!("cached: {}", cached(user_store, &users).await?);

    user_store.update(&grace.id, User { name: "Grace H.".into(), ..grace.clone() }).await?;
    println!("after update, cached: {}", cached(user_store, &users).await?);
    println!("then read: {:?}", user_store.require(&grace.id).await?.name);

    let updates =
        [edsger, barbara].map(|user| (user.id, User { name: format!("{} (2)", user.name), ..user.clone() })).to_vec();
    user_store.update_many(updates).await?;
    println!("after update_many, cached: {}", cached(user_store, &users).await?);
    println!("then read: {:?}", user_store.require(&barbara.id).await?.name);

    println!("deleted: {}", user_store.delete(&edsger.id).await?);
    println!("then read: {:?}", user_store.get_by_id(&edsger.id).await?);
    Ok(())
}

/// Which of these users have an entry, in their order.
async fn cached(user_store: &GenericStore<User>, users: &[User]) -> Result<String, StorehausError> {
    let cache_manager = user_store.cache_manager()?;
    let mut found = Vec::new();
    for user in users {
        found.push(if cache_manager.exists("users", &user.id.to_string()).await? { "yes" } else { "no" });
    }
    Ok(found.join(", "))
}

/// The key of an entry, and how long it stays.
pub(crate) async fn lifetimes(cache_manager: &CacheManager, stores: &Stores) -> Outcome {
    section("keys and lifetimes");
    let lin = stores.users.create(user("Lin")).await?;
    let session = stores.sessions.create(Session { token: "s:1 2".into(), user_id: lin.id }).await?;
    let product = Product { id: 7, title: "Lamp".into(), price: Decimal::new(1_999, 2) };
    let product = stores.products.upsert(product).await?;
    stores.users.get_by_id(&lin.id).await?;
    stores.sessions.get_by_id(&session.token).await?;
    stores.products.get_by_id(&product.id).await?;
    cache_manager.settle().await;
    for (store, id, key) in [
        ("users", lin.id.to_string(), stores.users.cache_key(&lin.id)?),
        ("sessions", session.token.clone(), stores.sessions.cache_key(&session.token)?),
        ("premium_products", product.id.to_string(), stores.products.cache_key(&product.id)?),
    ] {
        let minutes = cache_manager.ttl(store, &id).await?.map(|left| left.as_secs().div_ceil(60));
        println!("{key}: minutes left {minutes:?}");
    }
    Ok(())
}

/// A store without a cache works the same.
pub(crate) async fn without_cache(analytics_store: &GenericStore<AnalyticsEvent>) -> Outcome {
    section("a store without a cache");
    let event = analytics_store.create(AnalyticsEvent { id: 0, kind: "page view".into() }).await?;
    println!("event {} is read from the database: {:?}", event.id, analytics_store.require(&event.id).await?.kind);
    match analytics_store.cache_manager() {
        Ok(_) => println!("it has a cache manager"),
        Err(error) => println!("{error}"),
    }
    Ok(())
}

/// Reading is warming.
pub(crate) async fn warming(cache_manager: &CacheManager, user_store: &GenericStore<User>) -> Outcome {
    section("warming");
    let frequent = user_store.create_many((0..100).map(|n| user(&format!("user {n}"))).collect()).await?;
    let frequent: Vec<_> = frequent.into_iter().map(|user| user.id).collect();
    for id in &frequent[..50] {
        user_store.get_by_id(id).await?;
    }
    // All at once: one SELECT for those that are missing.
    user_store.get_many(&frequent).await?;
    cache_manager.settle().await;

    let before = cache_manager.get_stats().await?;
    for id in &frequent {
        user_store.get_by_id(id).await?;
    }
    let now = cache_manager.get_stats().await?;
    println!("{} reads after warming: hits {}", frequent.len(), now.hits - before.hits);
    Ok(())
}
