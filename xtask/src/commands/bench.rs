//! `bench`: StoreHaus beside what people write without it.

use std::fs;
use std::path::PathBuf;

use super::programs::{clear_report, conclude};
use crate::run::{Failure, Outcome, cargo, step};
use crate::servers::Servers;

/// Builds the program, starts servers and runs it against them.
pub(crate) fn run(args: &[String]) -> Outcome {
    let (args, copy) = split(args)?;
    let report = clear_report("bench")?;
    // Before the servers are there: nothing else runs beside the first workload.
    let package = ["--quiet", "--release", "-p", "storehaus-benches", "--features", "rivals"];
    step("build", cargo(["build"]).args(package))?;
    let outcome = Servers::for_benchmarks()
        .and_then(|mut servers| servers.run(cargo(["run"]).args(package).arg("--").args(&args)));
    conclude("bench", &report, outcome)?;
    let Some(copy) = copy else { return Ok(()) };
    let copied = fs::copy(&report, &copy).map(drop);
    copied.map_err(|error| Failure::new(format!("cannot write {}: {error}", copy.display())))
}

/// The arguments of the program, and where a copy of its report goes.
fn split(args: &[String]) -> Result<(Vec<String>, Option<PathBuf>), Failure> {
    let (mut rest, mut copy, mut in_only) = (Vec::new(), None, false);
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--json" => {
                let file = args.next().ok_or_else(|| Failure::Usage("--json needs a file".to_owned()))?;
                (copy, in_only) = (Some(PathBuf::from(file)), false);
            }
            "--quick" => {
                rest.push(arg.clone());
                in_only = false;
            }
            "--only" => {
                rest.push(arg.clone());
                in_only = true;
            }
            // The program knows its workloads.
            _ if in_only => rest.push(arg.clone()),
            _ => return Err(Failure::Usage(format!("cannot read `{arg}`"))),
        }
    }
    Ok((rest, copy))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn the_file_is_ours_and_the_rest_is_the_programs() {
        let (rest, copy) = split(&words("--only mix --json out.json --quick")).unwrap();
        assert_eq!((rest, copy), (words("--only mix --quick"), Some(PathBuf::from("out.json"))));
        assert_eq!(split(&[]).unwrap(), (Vec::new(), None));
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        for (args, wanted) in [("--json", "needs a file"), ("mix", "`mix`"), ("--only mix --fast --quick x", "`x`")] {
            let Err(Failure::Usage(text)) = split(&words(args)) else { panic!("{args}") };
            assert!(text.contains(wanted), "{text}");
        }
    }
}
