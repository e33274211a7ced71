//! Running other programs: the workspace root, tools, steps with timings.

use std::env;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

/// How a command of ours ends.
pub(crate) type Outcome = Result<(), Failure>;

/// Why a command of ours did not succeed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Something went wrong; the text says what and what to do.
    Failed(String),
    /// A program that was run ended with this status and has printed why.
    Status(u8),
    /// The arguments make no sense.
    Usage(String),
}

impl Failure {
    /// A failure with its text.
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self::Failed(text.into())
    }
}

/// The directory of the workspace.
pub(crate) fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_path_buf()
}

/// Where reports and logs of these commands go.
pub(crate) fn output_dir() -> PathBuf {
    root().join("target/xtask")
}

/// The cargo that runs us, in the root of the workspace.
pub(crate) fn cargo<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(args).current_dir(root());
    command
}

/// Runs one named step to its end and prints how long it took.
pub(crate) fn step(name: &str, command: &mut Command) -> Outcome {
    let started = Instant::now();
    println!("==> {name}");
    let status = command.status().map_err(|error| Failure::new(format!("cannot run {name}: {error}")))?;
    if !status.success() {
        return Err(Failure::new(format!("{name} failed ({status})")));
    }
    println!("==> {name}: {:.1} s", started.elapsed().as_secs_f64());
    Ok(())
}

/// Runs a command quietly; its standard output when it succeeds.
pub(crate) fn output(command: &mut Command) -> Option<String> {
    let output = command.stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Looks a program up in `PATH`, then in `others`.
pub(crate) fn find(program: &str, others: &[PathBuf]) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).chain(others.iter().cloned()).map(|dir| dir.join(program)).find(|file| file.is_file())
}

/// A program of the cargo registry: the one in `PATH`, else one installed below the target directory.
pub(crate) fn tool(name: &str, version: &str) -> Result<PathBuf, Failure> {
    let home = root().join("target/tools");
    let look = || find(name, &[home.join("bin")]);
    if let Some(found) = look() {
        return Ok(found);
    }
    let mut install = cargo(["install", "--locked", name, "--version", version, "--root"]);
    step(&format!("install {name} {version}"), install.arg(&home))?;
    look().ok_or_else(|| Failure::new(format!("{name} is missing after its installation; install it by hand")))
}

/// The value of `--seconds N`, the only option these commands take.
pub(crate) fn seconds(args: &[String], default: u64) -> Result<u64, Failure> {
    match args {
        [] => Ok(default),
        [name, value] if name == "--seconds" => value
            .parse()
            .ok()
            .filter(|n| *n > 0)
            .ok_or_else(|| Failure::Usage(format!("`{value}` is no number of seconds"))),
        _ => Err(Failure::Usage(format!("cannot read `{}`", args.join(" ")))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn seconds_are_a_positive_number() {
        assert_eq!(seconds(&[], 30).unwrap(), 30);
        assert_eq!(seconds(&words("--seconds 5"), 30).unwrap(), 5);
        for wrong in ["--seconds", "--seconds 0", "--seconds x", "--second 1", "1"] {
            assert!(matches!(seconds(&words(wrong), 30), Err(Failure::Usage(_))), "{wrong}");
        }
    }

    #[test]
    fn a_program_is_found_beside_path() {
        assert!(find("sh", &[]).is_some());
        assert_eq!(find("no-such-program-here", &[PathBuf::from("/")]), None);
    }

    #[test]
    fn the_root_is_the_workspace() {
        assert!(root().join("Cargo.lock").is_file());
    }
}
