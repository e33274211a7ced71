//! A private PostgreSQL.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::{connect, docker, launch, packages};
use crate::run::{Failure, find, output};
use crate::supervisor::Supervisor;

const USER: &str = "storehaus";

/// Settings for tests: nothing is written to the disk before it must.
pub(super) const FAST: &[&str] =
    &["fsync=off", "synchronous_commit=off", "full_page_writes=off", "max_connections=200"];

/// Settings for benchmarks: a commit is on the disk when it returns.
pub(super) const DURABLE: &[&str] =
    &["fsync=on", "synchronous_commit=on", "full_page_writes=on", "max_connections=400"];

/// Starts a server of a local binary, of a package, or in a container, whichever can be had first; its URL.
pub(super) fn start(supervisor: &mut Supervisor, dir: &Path, settings: &[&str]) -> Result<String, Failure> {
    let mut tried =
        vec!["DATABASE_URL is not set".to_owned(), "no postgres and initdb among the local programs".to_owned()];
    if let Some(bin) = binaries() {
        return start_local(supervisor, &bin, dir, settings);
    }
    match packages::install("postgresql") {
        Ok(()) => match binaries() {
            Some(bin) => return start_local(supervisor, &bin, dir, settings),
            None => tried.push("the package postgresql brought no postgres and initdb".to_owned()),
        },
        Err(reason) => tried.push(reason),
    }
    let options =
        ["-e", "POSTGRES_USER=storehaus", "-e", "POSTGRES_DB=postgres", "-e", "POSTGRES_HOST_AUTH_METHOD=trust"];
    let args: Vec<_> = settings.iter().flat_map(|setting| ["-c", *setting]).collect();
    match docker::start(supervisor, "postgres:16", 5432, &options, &args, is_ready) {
        Ok(port) => return Ok(url(port)),
        Err(reason) => tried.push(reason),
    }
    Err(Failure::new(format!(
        "there is no PostgreSQL:\n  {}\nset DATABASE_URL, or install PostgreSQL (packages postgresql), or start docker",
        tried.join("\n  ")
    )))
}

fn url(port: u16) -> String {
    format!("postgres://{USER}@127.0.0.1:{port}/postgres")
}

/// The directory with `postgres` and `initdb`: that of `PATH`, else the newest of the usual ones.
fn binaries() -> Option<PathBuf> {
    let mut dirs: Vec<_> = ["/usr/lib/postgresql", "/opt/homebrew/opt", "/usr/local/opt"]
        .iter()
        .filter_map(|parent| fs::read_dir(parent).ok())
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|dir| dir.starts_with("/usr/lib") || dir.to_string_lossy().contains("/postgresql"))
        .collect();
    dirs.sort_by_key(|dir| std::cmp::Reverse(version(dir)));
    dirs.push("/usr/local/pgsql".into());
    let dirs: Vec<_> = dirs.into_iter().map(|dir| dir.join("bin")).collect();
    let bin = find("initdb", &dirs)?.parent()?.to_path_buf();
    bin.join("postgres").is_file().then_some(bin)
}

/// The number at the end of `…/15` or `…/postgresql@16`.
fn version(dir: &Path) -> u32 {
    let name = dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
    name.trim_start_matches(|c: char| !c.is_ascii_digit()).parse().unwrap_or(0)
}

fn start_local(supervisor: &mut Supervisor, bin: &Path, dir: &Path, settings: &[&str]) -> Result<String, Failure> {
    let home = dir.join("postgres");
    let data = home.join("data");
    let failed = |error: std::io::Error| Failure::new(format!("cannot prepare {}: {error}", home.display()));
    fs::create_dir(&home).map_err(failed)?;
    let owner = owner()?;
    if let Some((uid, gid)) = owner {
        chown(&home, Some(uid), Some(gid)).map_err(failed)?;
    }
    // PostgreSQL refuses to run as root; the directory it runs in must be one its user may enter.
    let program = |name: &str| {
        let mut command = Command::new(bin.join(name));
        command.current_dir(&home).env_remove("PGDATA").env("LC_ALL", "C");
        if let Some((uid, gid)) = owner {
            command.uid(uid).gid(gid).env("HOME", &home);
        }
        command
    };
    let initdb = program("initdb")
        .args(["--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync", "--username", USER, "--pgdata"])
        .arg(&data)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| Failure::new(format!("cannot run initdb: {error}")))?;
    if !initdb.status.success() {
        return Err(Failure::new(format!("initdb failed:\n{}", String::from_utf8_lossy(&initdb.stderr))));
    }
    let command = |port: u16| {
        let mut command = program("postgres");
        command.arg("-D").arg(&data).arg("-k").arg(&home).args(["-h", "127.0.0.1", "-p", &port.to_string()]);
        for setting in settings {
            command.args(["-c", setting]);
        }
        command
    };
    launch(supervisor, "postgres", &dir.join("postgres.log"), command, is_ready).map(url)
}

/// Who runs the server when we are root: `postgres`, else `nobody`. Nothing when we are not root.
fn owner() -> Result<Option<(u32, u32)>, Failure> {
    let id = |args: &[&str]| output(Command::new("id").args(args)).and_then(|text| text.parse().ok());
    if id(&["-u"]) != Some(0) {
        return Ok(None);
    }
    ["postgres", "nobody"]
        .iter()
        .find_map(|user| Some((id(&["-u", user])?, id(&["-g", user])?)))
        .map(Some)
        .ok_or_else(|| Failure::new("PostgreSQL does not run as root and there is no user postgres or nobody"))
}

/// Whether the server lets us in: the first reply to a startup message is `R`, an authentication request.
fn is_ready(port: u16) -> bool {
    const PROTOCOL: u32 = 3 << 16;
    let ask = || {
        let parameters = format!("user\0{USER}\0database\0postgres\0\0");
        let mut message = (parameters.len() as u32 + 8).to_be_bytes().to_vec();
        message.extend_from_slice(&PROTOCOL.to_be_bytes());
        message.extend_from_slice(parameters.as_bytes());
        let mut stream = connect(port)?;
        stream.write_all(&message)?;
        let mut kind = [0];
        stream.read_exact(&mut kind).map(|()| kind[0])
    };
    ask().is_ok_and(|kind| kind == b'R')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_version_is_the_highest_number() {
        assert_eq!(version(Path::new("/usr/lib/postgresql/9")), 9);
        assert_eq!(version(Path::new("/opt/homebrew/opt/postgresql@16")), 16);
        assert_eq!(version(Path::new("/opt/homebrew/opt/postgresql")), 0);
    }

    #[test]
    fn a_closed_port_is_not_ready() {
        assert!(!is_ready(1));
    }
}
