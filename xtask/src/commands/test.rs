//! `test`: every test, with servers.

use super::check_feature_sets;
use crate::run::{Failure, Outcome, cargo};
use crate::servers::Servers;

/// Compiles the feature sets, then runs the tests, whose own summary comes last.
pub(crate) fn run(args: &[String]) -> Outcome {
    let args = match args {
        [] => args,
        [dashes, args @ ..] if dashes == "--" => args,
        _ => return Err(Failure::Usage(format!("cannot read `{}`", args.join(" ")))),
    };
    check_feature_sets()?;
    let mut servers = Servers::start()?;
    println!("==> tests");
    servers.run(cargo(["test", "--workspace", "--no-fail-fast"]).args(args))
}
