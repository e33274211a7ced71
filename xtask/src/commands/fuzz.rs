//! `fuzz`: cargo-fuzz over the package in `fuzz/`.

use std::fs;
use std::process::Command;

use crate::run::{Failure, Outcome, find, output, root, seconds, step, tool};

/// The cargo-fuzz that is installed when there is none.
const CARGO_FUZZ: &str = "0.13.2";

const TARGETS: [&str; 1] = ["entry"];

/// Runs each target; the inputs it finds stay in `fuzz/corpus`, a failure in `fuzz/artifacts`.
pub(crate) fn run(args: &[String]) -> Outcome {
    let seconds = seconds(args, 60)?;
    if output(Command::new("rustc").arg("+nightly").arg("--version")).is_none() {
        if find("rustup", &[]).is_none() {
            return Err(Failure::new("fuzzing needs a nightly toolchain, and rustup to choose it; install rustup"));
        }
        let args = ["toolchain", "install", "nightly", "--profile", "minimal"];
        step("install the nightly toolchain", Command::new("rustup").args(args))?;
    }
    let fuzz = tool("cargo-fuzz", CARGO_FUZZ)?;
    for target in TARGETS {
        let corpus = format!("fuzz/corpus/{target}");
        fs::create_dir_all(root().join(&corpus))
            .map_err(|error| Failure::new(format!("cannot create {corpus}: {error}")))?;
        let mut command = Command::new(&fuzz);
        command.current_dir(root()).args(["run", target, &corpus, &format!("fuzz/seeds/{target}"), "--"]);
        command.args([format!("-max_total_time={seconds}"), "-print_final_stats=1".to_owned()]);
        step(&format!("fuzz {target}"), command.env("RUSTUP_TOOLCHAIN", "nightly").env_remove("CARGO"))?;
    }
    Ok(())
}
