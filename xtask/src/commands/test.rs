//! `test`: every test, with servers.

use std::fmt;
use std::io::{self, BufRead as _, BufReader, Read};
use std::thread;

use super::check_feature_sets;
use crate::run::{Failure, Outcome, cargo};
use crate::servers::Servers;

/// Compiles the feature sets, then runs the tests. The sum of the test runner's summaries comes last.
pub(crate) fn run(args: &[String]) -> Outcome {
    let args = match args {
        [] => args,
        [dashes, args @ ..] if dashes == "--" => args,
        _ => return Err(Failure::Usage(format!("cannot read `{}`", args.join(" ")))),
    };
    check_feature_sets()?;
    let mut servers = Servers::start()?;
    println!("==> tests");
    let (output, input) = io::pipe().map_err(|error| Failure::new(format!("cannot open a pipe: {error}")))?;
    let reader = thread::spawn(move || Sum::pass_on(output));
    let outcome = {
        let mut command = cargo(["test", "--workspace", "--no-fail-fast"]);
        servers.run(command.args(args).stdout(input))
    };
    // The last writer of the pipe went with the command.
    match reader.join() {
        Ok(sum) => println!("{sum}"),
        Err(_) => return Err(Failure::new("the output of the tests could not be read")),
    }
    outcome
}

/// The summaries of all test binaries, added up.
#[derive(Debug, Default, PartialEq, Eq)]
struct Sum {
    passed: u64,
    failed: u64,
    skipped: u64,
}

impl Sum {
    /// Prints what comes, line by line, and adds up the summaries in it.
    fn pass_on(output: impl Read) -> Self {
        let mut sum = Self::default();
        for line in BufReader::new(output).split(b'\n').map_while(Result::ok) {
            let line = String::from_utf8_lossy(&line);
            println!("{line}");
            sum.add(&line);
        }
        sum
    }

    /// Adds a line such as `test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; …`.
    fn add(&mut self, line: &str) {
        let Some((_, counts)) = line.strip_prefix("test result: ").and_then(|rest| rest.split_once(". ")) else {
            return;
        };
        for (number, what) in counts.split("; ").filter_map(|count| count.split_once(' ')) {
            let number: u64 = number.parse().unwrap_or(0);
            match what {
                "passed" => self.passed += number,
                "failed" => self.failed += number,
                "ignored" => self.skipped += number,
                _ => {}
            }
        }
    }
}

impl fmt::Display for Sum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "tests: {} passed, {} failed, {} skipped", self.passed, self.failed, self.skipped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn summaries_are_added_up() {
        let output = "running 2 tests\ntest a ... ok\n\
            test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 7 filtered out; finished in 0.00s\n\
            test result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.00s";
        let sum = Sum::pass_on(output.as_bytes());
        assert_eq!(sum, Sum { passed: 4, failed: 2, skipped: 1 });
        assert_eq!(sum.to_string(), "tests: 4 passed, 2 failed, 1 skipped");
    }
}
