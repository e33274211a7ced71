//! `servers`: runs a command with servers.

use std::process::Command;

use crate::run::{Failure, Outcome};
use crate::servers::Servers;

/// Runs what stands behind `--`.
pub(crate) fn run(args: &[String]) -> Outcome {
    match args {
        [dashes, program, args @ ..] if dashes == "--" => Servers::start()?.run(Command::new(program).args(args)),
        _ => Err(Failure::Usage("the command to run is missing".to_owned())),
    }
}
