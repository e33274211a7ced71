//! Does one thing of the hot paths so many times; run by valgrind, which counts the instructions.

#[path = "../row.rs"]
mod row;

use std::error::Error;
use std::hint::black_box;

use row::User;
use storehaus::prelude::*;
use storehaus_cache::codec::{from_bytes, to_bytes};

const ROWS: u64 = 100;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let (what, times) = (args.next().unwrap_or_default(), args.next().unwrap_or_default().parse::<usize>()?);
    let rows: Vec<User> = (0..ROWS).map(User::new).collect();
    let encoded: Vec<Vec<u8>> = rows.iter().map(to_bytes).collect::<Result<_, _>>()?;
    let cache = CacheConfig::in_process(3_600, "hot");
    let haus = StoreHaus::<Postgres>::builder().url(std::env::var("DATABASE_URL")?).cache(cache).build().await?;
    let users = haus.store::<User>();
    let bare = quick_cache::sync::Cache::new(1_000);
    for row in &rows {
        users.require(&row.id).await?;
        bare.insert(row.id, Arc::new(row.clone()));
    }
    for n in 0..times {
        let at = n % rows.len();
        let id = &rows[at].id;
        match what.as_str() {
            "hit" => drop(black_box(users.get_arc(id).await?.ok_or("a row is not cached")?)),
            "bare hit" => drop(black_box(bare.get(id).ok_or("a row is not cached")?)),
            "key" => drop(black_box(users.cache_key(id)?)),
            "encode" => drop(black_box(to_bytes(&rows[at])?)),
            "decode" => drop(black_box(from_bytes::<User>(&encoded[at])?)),
            "json" => drop(black_box(serde_json::from_slice::<User>(&serde_json::to_vec(&rows[at])?)?)),
            other => return Err(format!("there is nothing hot called `{other}`").into()),
        }
    }
    Ok(())
}
