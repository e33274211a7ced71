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
    let by_hand_rows: Vec<Vec<u8>> = rows.iter().map(by_hand).collect();
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
            "hand encode" => drop(black_box(by_hand(&rows[at]))),
            "hand decode" => drop(black_box(from_hand(&by_hand_rows[at]).ok_or("the bytes end too early")?)),
            "clone" => drop(black_box(rows[at].clone())),
            "json" => drop(black_box(serde_json::from_slice::<User>(&serde_json::to_vec(&rows[at])?)?)),
            other => return Err(format!("there is nothing hot called `{other}`").into()),
        }
    }
    Ok(())
}

/// The fields in their order, each text behind its length.
fn by_hand(user: &User) -> Vec<u8> {
    let mut out = Vec::with_capacity(256);
    out.extend_from_slice(user.id.as_bytes());
    out.extend_from_slice(&user.version.to_le_bytes());
    for text in [&user.email, &user.name, &user.city, &user.about] {
        out.extend_from_slice(&(text.len() as u32).to_le_bytes());
        out.extend_from_slice(text.as_bytes());
    }
    out.push(user.active.into());
    out.extend_from_slice(&user.score.to_le_bytes());
    out.extend_from_slice(&user.joined.timestamp_micros().to_le_bytes());
    out
}

fn from_hand(mut bytes: &[u8]) -> Option<User> {
    fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
        let (head, rest) = bytes.split_first_chunk()?;
        *bytes = rest;
        Some(*head)
    }
    fn text(bytes: &mut &[u8]) -> Option<String> {
        let length = u32::from_le_bytes(take(bytes)?) as usize;
        let (text, rest) = bytes.split_at_checked(length)?;
        *bytes = rest;
        std::str::from_utf8(text).ok().map(str::to_owned)
    }
    let bytes = &mut bytes;
    Some(User {
        id: Uuid::from_bytes(take(bytes)?),
        version: i64::from_le_bytes(take(bytes)?),
        email: text(bytes)?,
        name: text(bytes)?,
        city: text(bytes)?,
        about: text(bytes)?,
        active: take::<1>(bytes)? == [1],
        score: f64::from_le_bytes(take(bytes)?),
        joined: DateTime::from_timestamp_micros(i64::from_le_bytes(take(bytes)?))?,
    })
}
