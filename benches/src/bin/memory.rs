//! Counts the bytes that an entry of a cache in process takes: prints those of a row and those beside it.

#![expect(clippy::print_stdout, reason = "a command-line program speaks on its standard streams")]

#[path = "../row.rs"]
mod row;

use std::alloc::System;
use std::error::Error;
use std::hint::black_box;

use cap::Cap;
use row::User;
use storehaus::prelude::*;

#[global_allocator]
static ALLOCATED: Cap<System> = Cap::new(System, usize::MAX);

/// As many as the table of the benchmark has.
const ENTRIES: usize = 10_000;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let which = std::env::args().nth(1).unwrap_or_default();
    let rows: Vec<_> = (0..ENTRIES as u64).map(User::new).collect();
    // A copy of a row has no spare room, and its `Vec` has none either.
    let before = ALLOCATED.allocated();
    let copies = rows.clone();
    let row = (ALLOCATED.allocated() - before) / ENTRIES;
    drop(copies);

    let entry = match which.as_str() {
        "store" => {
            let cache = CacheConfig::in_process(3_600, "memory").with_l1_capacity(2 * ENTRIES);
            let haus =
                StoreHaus::<Postgres>::builder().url(std::env::var("DATABASE_URL")?).cache(cache).build().await?;
            let users = haus.store::<User>();
            let ids: Vec<_> = rows.iter().map(|row| row.id).collect();
            // What a connection keeps for itself is there before it is counted.
            let (first, rest) = ids.split_at(1_000);
            users.get_many(first).await?;
            let before = ALLOCATED.allocated();
            for ids in rest.chunks(1_000) {
                users.get_many(ids).await?;
            }
            let stats = users.cache_manager()?.get_stats().await?.total;
            let entries = (stats.fills - stats.l1_evictions) as usize - first.len();
            let entry = (ALLOCATED.allocated() - before) / entries;
            black_box(users);
            entry
        }
        "quick_cache" => {
            let cache = quick_cache::sync::Cache::new(2 * ENTRIES);
            let before = ALLOCATED.allocated();
            rows.iter().for_each(|row| cache.insert(row.id, Arc::new(row.clone())));
            let entry = (ALLOCATED.allocated() - before) / cache.len();
            black_box(cache);
            entry
        }
        "moka" => {
            let cache = moka::sync::Cache::new(2 * ENTRIES as u64);
            let before = ALLOCATED.allocated();
            rows.iter().for_each(|row| cache.insert(row.id, Arc::new(row.clone())));
            cache.run_pending_tasks();
            let entry = (ALLOCATED.allocated() - before) / cache.entry_count() as usize;
            black_box(cache);
            entry
        }
        other => return Err(format!("there is no cache `{other}`").into()),
    };
    println!("{row} {}", entry.saturating_sub(row));
    Ok(())
}
