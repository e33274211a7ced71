//! What an entry in process takes beside its row, counted by the allocator of a program of its own.

use std::env;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::process::Command;

use crate::harness::{Contestant, Failure, Group, Plan, Sample, Slice, compete};
use crate::world::World;

/// The program; it is built with the feature `rivals` only.
const PROGRAM: &str = "storehaus-benches-memory";

pub(super) async fn run(_: Arc<World>, plan: Plan) -> Result<Vec<Group>, Failure> {
    if !env::current_exe()?.with_file_name(PROGRAM).is_file() {
        return Ok(Vec::new());
    }
    let contestants = vec![
        Contestant::ours("store", counting("store")),
        Contestant::other("quick_cache", counting("quick_cache")),
        Contestant::other("moka", counting("moka")),
    ];
    // The same program counts the same bytes, but for the seeds of hash tables.
    let plan = Plan { rounds: 1, ..plan };
    Ok(vec![compete(&plan, "memory of an entry in process", 1, contestants).await?])
}

fn counting(cache: &'static str) -> impl Fn(Duration) -> Slice {
    move |_| {
        Box::pin(async move {
            let start = Instant::now();
            let output = Command::new(env::current_exe()?.with_file_name(PROGRAM)).arg(cache).output().await?;
            if !output.status.success() {
                return Err(String::from_utf8_lossy(&output.stderr).into_owned().into());
            }
            let mut sample = Sample { items: 1, elapsed: start.elapsed(), ..Sample::default() };
            let text = String::from_utf8(output.stdout)?;
            let mut numbers = text.split_whitespace().map(str::parse);
            for name in ["bytes of a row", "bytes beside the row"] {
                sample.notes.insert(name, numbers.next().ok_or("a number is missing")??);
            }
            Ok(sample)
        })
    }
}
