//! A PostgreSQL of the program's own, to be stopped and crowded.

use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use std::{env, fs, io};

use storehaus::sqlx::{Connection, PgConnection};

use crate::server::{free_port, signal, temp_dir};

const USER: &str = "storehaus";

/// A PostgreSQL server on a free loopback port, with a directory of its own; both gone when this is dropped.
pub struct Postgres {
    port: u16,
    bin: PathBuf,
    owner: Option<(u32, u32)>,
    dir: PathBuf,
    settings: Vec<String>,
    child: Option<Child>,
}

impl Postgres {
    /// Starts a server with these settings, each `name=value`.
    ///
    /// Its programs are those in `STOREHAUS_POSTGRES_BIN`, on the path, or the newest below `/usr/lib/postgresql`.
    ///
    /// # Errors
    /// When there are none, or the server does not accept a connection within half a minute.
    pub async fn start(settings: &[&str]) -> io::Result<Self> {
        let (bin, owner) = (binaries()?, owner()?);
        let dir = temp_dir("postgres")?;
        if let Some((user, group)) = owner {
            chown(&dir, Some(user), Some(group))?;
        }
        let settings = settings.iter().map(|&setting| setting.to_owned()).collect();
        let mut server = Self { port: free_port()?, bin, owner, dir, settings, child: None };
        let made = server
            .program("initdb")
            .args(["--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync", "--username", USER, "--pgdata"])
            .arg(server.data())
            .output()?;
        if !made.status.success() {
            return Err(io::Error::other(format!("initdb failed: {}", String::from_utf8_lossy(&made.stderr))));
        }
        server.launch()?;
        server.accepts().await?;
        Ok(server)
    }

    /// Its URL.
    pub fn url(&self) -> String {
        format!("postgres://{USER}@127.0.0.1:{}/postgres", self.port)
    }

    /// Ends it at once without saving anything, as `pg_ctl stop -m immediate` does. Returns when it is gone.
    ///
    /// # Errors
    /// When the process cannot be reached.
    pub fn stop(&mut self) -> io::Result<()> {
        let Some(mut child) = self.child.take() else { return Ok(()) };
        signal(child.id(), "-QUIT")?;
        child.wait().map(drop)
    }

    /// Starts it again; it does not accept connections yet.
    ///
    /// # Errors
    /// When the process cannot be started.
    pub fn launch(&mut self) -> io::Result<()> {
        let mut command = self.program("postgres");
        command.arg("-D").arg(self.data()).arg("-k").arg(&self.dir);
        command.args(["-h", "127.0.0.1", "-p", &self.port.to_string()]);
        let quick = ["fsync=off", "synchronous_commit=off", "full_page_writes=off"].map(str::to_owned);
        for setting in quick.iter().chain(&self.settings) {
            command.args(["-c", setting]);
        }
        self.child = Some(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?);
        Ok(())
    }

    /// Waits until it accepts a connection; when it did.
    ///
    /// # Errors
    /// When it does not within half a minute.
    pub async fn accepts(&self) -> io::Result<Instant> {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            match PgConnection::connect(&self.url()).await {
                Ok(_) => return Ok(Instant::now()),
                Err(error) if Instant::now() > deadline => {
                    return Err(io::Error::other(format!("postgres on port {} does not answer: {error}", self.port)));
                }
                Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        }
    }

    fn data(&self) -> PathBuf {
        self.dir.join("data")
    }

    fn program(&self, name: &str) -> Command {
        let mut command = Command::new(self.bin.join(name));
        command.current_dir(&self.dir).env_remove("PGDATA").env("LC_ALL", "C").stdin(Stdio::null());
        if let Some((user, group)) = self.owner {
            command.uid(user).gid(group).env("HOME", &self.dir);
        }
        command
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if let Err(error) = self.stop() {
            std::panic::resume_unwind(Box::new(format!("postgres was not stopped: {error}")));
        }
        // A directory that is gone already is what is wanted.
        fs::remove_dir_all(&self.dir).ok();
    }
}

fn binaries() -> io::Result<PathBuf> {
    let mut dirs: Vec<PathBuf> = env::var_os("STOREHAUS_POSTGRES_BIN").map(PathBuf::from).into_iter().collect();
    dirs.extend(env::var_os("PATH").iter().flat_map(env::split_paths));
    let mut packaged: Vec<_> = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten().collect();
    let version = |dir: &Path| dir.file_name().and_then(|name| name.to_str()?.parse().ok()).unwrap_or(0u32);
    packaged.sort_by_key(|entry| std::cmp::Reverse(version(&entry.path())));
    dirs.extend(packaged.into_iter().map(|entry| entry.path().join("bin")));
    let has_both = |dir: &PathBuf| dir.join("initdb").is_file() && dir.join("postgres").is_file();
    dirs.into_iter().find(has_both).ok_or_else(|| {
        io::Error::other("there is no postgres and initdb; install PostgreSQL or set STOREHAUS_POSTGRES_BIN")
    })
}

/// Who runs the server when we are root, which PostgreSQL refuses: `postgres`, else `nobody`.
fn owner() -> io::Result<Option<(u32, u32)>> {
    let id = |args: &[&str]| -> Option<u32> {
        let output = Command::new("id").args(args).stderr(Stdio::null()).output().ok()?;
        String::from_utf8(output.stdout).ok()?.trim().parse().ok()
    };
    if id(&["-u"]) != Some(0) {
        return Ok(None);
    }
    ["postgres", "nobody"]
        .iter()
        .find_map(|user| Some((id(&["-u", user])?, id(&["-g", user])?)))
        .map(Some)
        .ok_or_else(|| io::Error::other("PostgreSQL does not run as root and there is no user postgres or nobody"))
}
