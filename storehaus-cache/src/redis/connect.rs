//! Opening a connection: greeting, incarnation, scripts, and whether the server lets us do what the cache must do.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bb8_redis::bb8;
use redis::io::tcp::TcpSettings;
use redis::{AsyncConnectionConfig, Client, Cmd, ConnectionAddr, IntoConnectionInfo, Pipeline, Value, cmd};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio::time::Instant;
use uuid::Uuid;
use xxhash_rust::xxh3::xxh3_64;

use crate::codec::header::Token;
use crate::l2::{Incarnation, L2Error};

use super::error::{classify, of_server, unexpected};
use super::link::Link;
use super::script;

/// Opens connections for the pool.
pub(super) struct Manager {
    client: Client,
    timeout: Duration,
    /// The prefix of a key to try the commands on.
    prefix: Option<String>,
    /// How often a connection was not open in time since one was: what takes longer is given more time, so that a slow
    /// server, or one on a busy machine, is not taken for one that is away.
    late: AtomicU32,
    /// Whether it was said that the server does not tell its incarnation.
    warned: AtomicBool,
    /// When somebody last looked why the server hangs up, and whether it had no room.
    looked: Mutex<Option<(Instant, bool)>>,
}

impl Manager {
    pub(super) fn new(client: Client, timeout: Duration, prefix: Option<String>) -> Self {
        let (late, warned) = (AtomicU32::new(0), AtomicBool::new(false));
        Self { client, timeout, prefix, late, warned, looked: Mutex::new(None) }
    }

    async fn open(&self) -> Result<Link, L2Error> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(None)
            .set_response_timeout(None)
            .set_pipeline_buffer_size(PIPELINE_BUFFER);
        let connection = self.client.get_multiplexed_async_connection_with_config(&config).await;
        let mut connection = connection.map_err(|error| at_server(&self.client, classify(&error)))?;
        let mut greeting = Pipeline::new();
        greeting.add_command(ask_incarnation());
        script::load_all(&mut greeting);
        let tried = greeting.len();
        if let Some(prefix) = &self.prefix {
            try_commands(&mut greeting, prefix);
        }
        let sent = connection.send_packed_commands(&greeting, 0, greeting.len()).await;
        let mut answers = sent.map_err(|error| at_server(&self.client, classify(&error)))?;
        if answers.len() != greeting.len() {
            return Err(unexpected());
        }
        answers.drain(tried..).zip(TRIED).try_for_each(|(answer, command)| is_allowed(command, answer))?;
        let info = answers.into_iter().next().ok_or_else(unexpected)?;
        Ok(Link::new(connection, self.incarnation(info)?))
    }

    /// The incarnation in the answer, or 0 for a user that may not ask.
    fn incarnation(&self, info: Value) -> Result<Incarnation, L2Error> {
        let told = match info {
            // Refused to this user, or renamed: the other commands may work.
            Value::ServerError(error) if matches!(error.code(), "NOPERM" | "ERR") => None,
            Value::ServerError(error) => return Err(of_server(&error)),
            info => incarnation(info)?,
        };
        if let Some(incarnation) = told {
            return Ok(incarnation);
        }
        if !self.warned.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                "the cache server does not tell its replication id: a restart that brings old values back goes unnoticed; \
                 allow INFO to this user"
            );
        }
        Ok(0)
    }

    /// A server without room for another client says so and hangs up, and its words are lost when it is spoken to
    /// meanwhile. So a further connection listens and says nothing, not more often than [`LOOK_PAUSE`].
    async fn explain(&self, error: L2Error) -> L2Error {
        let ConnectionAddr::Tcp(host, port) = self.client.get_connection_info().addr() else { return error };
        {
            let mut looked = self.looked.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some((at, had_no_room)) = *looked
                && at.elapsed() < LOOK_PAUSE
            {
                return if had_no_room { no_room() } else { error };
            }
            *looked = Some((Instant::now(), false));
        }
        let listen = async {
            let mut words = [0; NO_ROOM.len()];
            let mut stream = TcpStream::connect((host.as_str(), *port)).await?;
            stream.read_exact(&mut words).await.map(|_| words)
        };
        match tokio::time::timeout(LOOK_BOUND, listen).await {
            Ok(Ok(words)) if words == *NO_ROOM => {
                *self.looked.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), true));
                no_room()
            }
            _ => error,
        }
    }
}

impl bb8::ManageConnection for Manager {
    type Connection = Link;
    type Error = L2Error;

    async fn connect(&self) -> Result<Link, L2Error> {
        let limit = self.timeout * (1 << self.late.load(Ordering::Relaxed).min(MOST_DOUBLINGS));
        let opened = tokio::time::timeout(limit, self.open()).await;
        if opened.is_err() {
            self.late.fetch_add(1, Ordering::Relaxed);
        } else {
            self.late.store(0, Ordering::Relaxed);
        }
        match opened {
            Ok(Err(L2Error::Connection(cause))) => Err(self.explain(L2Error::Connection(cause)).await),
            Ok(opened) => opened,
            Err(_) => Err(at_server(&self.client, late(limit))),
        }
    }

    async fn is_valid(&self, _: &mut Link) -> Result<(), L2Error> {
        Ok(())
    }

    fn has_broken(&self, link: &mut Link) -> bool {
        link.is_broken()
    }
}

/// A client for `url`. Contacts nobody.
pub(super) fn client(url: &str) -> Result<Client, String> {
    let info = url.into_connection_info().map_err(|error| invalid_url(&error))?;
    let info = info.set_tcp_settings(TcpSettings::default().set_nodelay(true));
    Client::open(info).map_err(|error| invalid_url(&error))
}

/// Adds the address to what went wrong.
pub(super) fn at_server(client: &Client, error: L2Error) -> L2Error {
    match error {
        L2Error::Connection(cause) => L2Error::Connection(format!("{}: {cause}", client.get_connection_info().addr())),
        error => error,
    }
}

/// No connection in time.
pub(super) fn late(timeout: Duration) -> L2Error {
    L2Error::Connection(format!("no greeting within {timeout:?}"))
}

/// Asks for what [`incarnation`] reads.
pub(super) fn ask_incarnation() -> Cmd {
    let mut command = cmd("INFO");
    command.arg("replication");
    command
}

/// The hash of the replication id, which changes when the server restarts and when another one is promoted; `None` when
/// the server does not tell it.
pub(super) fn incarnation(info: Value) -> Result<Option<Incarnation>, L2Error> {
    let text = match info {
        Value::BulkString(text) => text,
        Value::VerbatimString { text, .. } => text.into_bytes(),
        _ => return Err(unexpected()),
    };
    let id = text.split(|&byte| byte == b'\n').find_map(|line| line.strip_prefix(b"master_replid:"));
    Ok(id.map(|id| xxh3_64(id.trim_ascii())))
}

/// Appends [`TRIED`] on a key of its own. A server that lets us store but not remove, or forbids scripts, must be known
/// before anything is stored there.
fn try_commands(greeting: &mut Pipeline, prefix: &str) {
    let (instance, serial) = Uuid::new_v4().as_u64_pair();
    let token = Token { instance, serial };
    let key = format!("{prefix}:~test:{instance:016x}{serial:016x}");
    greeting.cmd("SET").arg(&key).arg(&token.to_lease()[..]).arg("PX").arg(TEST_MILLIS);
    greeting.cmd("GET").arg(&key);
    greeting.cmd("DEL").arg(&key);
    greeting.add_command(script::release(&key, token).by_text());
}

fn is_allowed(command: &str, answer: Value) -> Result<(), L2Error> {
    let Value::ServerError(refusal) = answer else { return Ok(()) };
    match of_server(&refusal) {
        // Lack of memory passes, and removals work meanwhile.
        L2Error::Refused { code, .. } if code == "OOM" => Ok(()),
        L2Error::Refused { code, detail } => {
            Err(L2Error::Refused { code, detail: format!("the cache cannot work without {command}: {detail}") })
        }
        error => Err(error),
    }
}

fn no_room() -> L2Error {
    L2Error::Refused { code: "MAXCLIENTS".to_owned(), detail: "max number of clients reached".to_owned() }
}

/// The client library's own texts: they name the part that is wrong; its details may quote the URL and are left out.
fn invalid_url(error: &redis::RedisError) -> String {
    let text = error.to_string();
    let what = text.split(" - ").next().unwrap_or_default();
    format!("the redis url is not valid: {what}; write redis://[user][:password@]host[:port][/database]")
}

/// How often the time to open a connection is doubled at most.
const MOST_DOUBLINGS: u32 = 2;

const PIPELINE_BUFFER: usize = 1024;

/// What a new connection is tried with, in this order.
const TRIED: [&str; 4] = ["SET", "GET", "DEL", "EVAL"];

/// How long the key of a trial lasts where it may not be removed.
const TEST_MILLIS: u32 = 1_000;
/// How a server without room begins.
const NO_ROOM: &[u8; 30] = b"-ERR max number of clients rea";
/// Shorter than the pause between probes of a server that needs somebody's help.
const LOOK_PAUSE: Duration = Duration::from_millis(500);
/// How long to listen.
const LOOK_BOUND: Duration = Duration::from_millis(50);
