//! StoreHaus beside what people write without it, in one run: `cargo xtask bench`.

#![expect(clippy::print_stderr, reason = "a command-line program speaks on its standard streams")]

mod blobs;
mod harness;
mod machine;
mod report;
mod rivals;
mod row;
mod targets;
mod usage;
mod user;
mod workloads;
mod world;

use std::env;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use harness::{Failure, Plan};
use workloads::{WORKLOADS, Workload, herd, stampede};
use world::World;

#[tokio::main(worker_threads = 2)]
async fn main() -> ExitCode {
    let args: Vec<String> = env::args().skip(1).collect();
    if let [first, prefix] = args.as_slice()
        && first == stampede::CHILD
    {
        return ended(herd::child(prefix).await);
    }
    let (plan, chosen) = match parse(&args) {
        Ok(parsed) => parsed,
        Err(text) => {
            eprintln!("bench: {text}\nusage: storehaus-benches [--quick] [--only NAME…]");
            WORKLOADS.iter().for_each(|workload| eprintln!("  {:8} {}", workload.name, workload.about));
            return ExitCode::from(2);
        }
    };
    ended(run(plan, &chosen).await)
}

fn ended(outcome: Result<(), Failure>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("bench: {failure}");
            ExitCode::FAILURE
        }
    }
}

async fn run(plan: Plan, chosen: &[&Workload]) -> Result<(), Failure> {
    let start = Instant::now();
    let world = Arc::new(World::open().await?);
    let mut machine = machine::describe(&world).await?;
    report::say(&format!("{machine:#}\n"))?;
    usage::watch(&world).await?;
    let (mut groups, mut failures) = (Vec::new(), Vec::new());
    for workload in chosen {
        match (workload.run)(Arc::clone(&world), plan).await {
            Ok(measured) => {
                measured.iter().try_for_each(|group| report::say(&report::table(group)))?;
                groups.extend(measured);
            }
            // What the others measured stands.
            Err(failure) => {
                report::say(&format!("{} failed: {failure}\n", workload.name))?;
                failures.push(format!("{}: {failure}", workload.name));
            }
        }
    }
    world.close().await?;
    machine["load_after"] = machine::load_average().into();
    machine["rounds"] = plan.rounds.into();
    machine["slice_ms"] = (plan.slice.as_millis() as u64).into();
    let verdicts = targets::judge(&groups);
    report::say(&targets::table(&verdicts))?;
    let path = report::write(
        &machine,
        &groups,
        &verdicts,
        &failures,
        &Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/xtask"),
    )?;
    report::say(&format!("{:.0} s; {}", start.elapsed().as_secs_f64(), path.display()))?;
    if failures.is_empty() { Ok(()) } else { Err(failures.join("; ").into()) }
}

/// Reads `--quick` and `--only NAME…`, in any order; `--only` may stand more than once.
fn parse(args: &[String]) -> Result<(Plan, Vec<&'static Workload>), String> {
    let (mut plan, mut named, mut in_only) = (Plan::FULL, Vec::new(), false);
    for arg in args {
        match arg.as_str() {
            "--quick" => (plan, in_only) = (Plan::QUICK, false),
            "--only" => in_only = true,
            name if in_only => {
                let known = WORKLOADS.iter().any(|workload| workload.name == name);
                named.push(if known { name } else { return Err(format!("there is no workload `{name}`")) });
            }
            _ => return Err(format!("there is no option `{arg}`")),
        }
    }
    if named.is_empty() && args.iter().any(|arg| arg == "--only") {
        return Err("--only needs a name".to_owned());
    }
    let chosen = WORKLOADS.iter().filter(|workload| match named.as_slice() {
        [] => plan.full || workload.quick,
        named => named.contains(&workload.name),
    });
    Ok((plan, chosen.collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(text: &str) -> Result<Vec<&'static str>, String> {
        let args: Vec<_> = text.split_whitespace().map(str::to_owned).collect();
        Ok(parse(&args)?.1.into_iter().map(|workload| workload.name).collect())
    }

    #[test]
    fn workloads_are_chosen_by_name() {
        assert_eq!(names("").unwrap().len(), WORKLOADS.len());
        assert_eq!(names("--only mix redis --quick").unwrap(), ["redis", "mix"]);
        assert_eq!(names("--only mix --only redis").unwrap(), ["redis", "mix"]);
        let quick = parse(&["--quick".to_owned()]).unwrap().0;
        assert!(quick.rounds < Plan::FULL.rounds && quick.slice < Plan::FULL.slice);
    }

    #[test]
    fn what_is_unknown_is_named() {
        assert_eq!(names("--only nothing").unwrap_err(), "there is no workload `nothing`");
        assert_eq!(names("--fast").unwrap_err(), "there is no option `--fast`");
        assert_eq!(names("--only --quick").unwrap_err(), "--only needs a name");
    }
}
