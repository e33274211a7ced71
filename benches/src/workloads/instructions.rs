//! The instructions of the hot paths, counted by valgrind. Where there is no valgrind, nothing is counted.

use std::env;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::process::Command;

use crate::harness::{Contestant, Failure, Group, Plan, Sample, Slice, compete};
use crate::world::World;

const PROGRAM: &str = "storehaus-benches-hot";

/// Repetitions. What the program does once is in the shorter run too and cancels out.
const FEW: u64 = 1_000;
const MANY: u64 = 11_000;

pub(super) async fn run(_: Arc<World>, plan: Plan) -> Result<Vec<Group>, Failure> {
    let found =
        env::var_os("PATH").is_some_and(|path| env::split_paths(&path).any(|dir| dir.join("valgrind").is_file()));
    if !found || !env::current_exe()?.with_file_name(PROGRAM).is_file() {
        return Ok(Vec::new());
    }
    let contestants = vec![
        Contestant::ours("store, get_arc", counting("hit")),
        Contestant::ours("store, cache_key", counting("key")),
        Contestant::ours("codec, encode", counting("encode")),
        Contestant::ours("codec, decode", counting("decode")),
        Contestant::other("layout by hand, encode", counting("hand encode")),
        Contestant::other("layout by hand, decode", counting("hand decode")),
        Contestant::other("clone of a row", counting("clone")),
        Contestant::other("quick_cache", counting("bare hit")),
        Contestant::other("serde_json, both ways", counting("json")),
    ];
    // Nothing but the seeds of hash tables differs between rounds.
    let plan = Plan { rounds: 1, ..plan };
    Ok(vec![compete(&plan, "instructions of the hot paths", 1, contestants).await?])
}

fn counting(what: &'static str) -> impl Fn(Duration) -> Slice {
    move |_| {
        Box::pin(async move {
            let start = Instant::now();
            let program = env::current_exe()?.with_file_name(PROGRAM);
            let counted = instructions(&program, what, MANY).await? - instructions(&program, what, FEW).await?;
            let mut sample = Sample { items: 1, elapsed: start.elapsed(), ..Sample::default() };
            sample.notes.insert("instructions", counted / (MANY - FEW));
            Ok(sample)
        })
    }
}

async fn instructions(program: &Path, what: &str, times: u64) -> Result<u64, Failure> {
    let mut valgrind = Command::new("valgrind");
    valgrind.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]).arg(program).arg(what).arg(times.to_string());
    let output = valgrind.kill_on_drop(true).output().await?;
    let text = String::from_utf8_lossy(&output.stderr);
    let counted = text.lines().find_map(|line| line.split_once("Collected :")?.1.trim().parse().ok());
    counted.filter(|_| output.status.success()).ok_or_else(|| format!("valgrind counted nothing:\n{text}").into())
}
