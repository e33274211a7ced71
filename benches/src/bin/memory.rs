//! Counts the bytes that an entry of a full cache in process takes, its empty table included: prints those of a row and
//! those beside it.

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
const ROWS: usize = 10_000;

/// Half of the rows stay, the others were evicted.
const CAPACITY: usize = ROWS / 2;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let which = std::env::args().nth(1).unwrap_or_default();
    let rows: Vec<_> = (0..ROWS as u64).map(User::new).collect();
    // A copy of a row has no spare room, and its `Vec` has none either.
    let before = ALLOCATED.allocated();
    let copies = rows.clone();
    let row = (ALLOCATED.allocated() - before) / ROWS;
    drop(copies);

    let entry = match which.as_str() {
        "store" => {
            // What a store and its connection take with any capacity is not an entry's, nor what the first one takes for
            // all.
            store(&rows, 1).await?;
            let (least, few) = store(&rows, 1).await?;
            let (most, many) = store(&rows, CAPACITY).await?;
            (most - least) / (many - few)
        }
        "quick_cache" => {
            let before = ALLOCATED.allocated();
            let cache = quick_cache::sync::Cache::new(CAPACITY);
            rows.iter().for_each(|row| cache.insert(row.id, Arc::new(row.clone())));
            let entry = (ALLOCATED.allocated() - before) / cache.len();
            black_box(cache);
            entry
        }
        "moka" => {
            let before = ALLOCATED.allocated();
            let cache = moka::sync::Cache::new(CAPACITY as u64);
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

/// Reads all rows through a store of this capacity: the bytes that it and its entries take, and how many entries stay.
async fn store(rows: &[User], capacity: usize) -> Result<(usize, usize), Box<dyn Error>> {
    let ids: Vec<_> = rows.iter().map(|row| row.id).collect();
    let before = ALLOCATED.allocated();
    let cache = CacheConfig::in_process(3_600, "memory").with_l1_capacity(capacity);
    let haus = StoreHaus::<Postgres>::builder().url(std::env::var("DATABASE_URL")?).cache(cache).build().await?;
    let users = haus.store::<User>();
    for ids in ids.chunks(1_000) {
        users.get_many(ids).await?;
    }
    let stats = users.cache_manager()?.get_stats().await?.total;
    let bytes = ALLOCATED.allocated() - before;
    black_box((haus, users));
    Ok((bytes, (stats.fills - stats.l1_evictions) as usize))
}
