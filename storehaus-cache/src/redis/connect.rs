//! Opening a connection: greeting, incarnation, scripts, and whether the server lets us do what the cache must do.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bb8_redis::bb8;
use futures_util::future::select_ok;
use redis::io::tcp::TcpSettings;
use redis::{AsyncConnectionConfig, Client, ConnectionAddr, IntoConnectionInfo};
use tokio::io::AsyncReadExt as _;
use tokio::net::{TcpStream, lookup_host};
use tokio::time::Instant;
use uuid::Uuid;
use xxhash_rust::xxh3::xxh3_64;

use crate::codec::header::Token;
use crate::l2::{Incarnation, L2Error};

use super::error::{classify, unexpected};
use super::link::{Link, Transport, judge};
use super::resp::{Commands, Value, command};
use super::script;
use super::wire::Wire;

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
        let mut greeting = Commands::default();
        let transport = self.transport(&mut greeting).await.map_err(|error| at_server(&self.client, error))?;
        let named = greeting.count;
        greeting.with(ask_incarnation);
        script::load_all(&mut greeting);
        let tried = greeting.count;
        if let Some(prefix) = &self.prefix {
            try_commands(&mut greeting, prefix);
        }
        let sent = transport.pipeline(&greeting).await;
        let answers = sent.map_err(|(fault, _)| at_server(&self.client, fault.error))?;
        if answers.len() != greeting.count {
            return Err(unexpected());
        }
        let mut answers = answers.into_iter().map(judge);
        answers.by_ref().take(named).try_for_each(|answer| answer.map(drop).map_err(explain_name))?;
        let info = answers.next().unwrap_or_else(|| Err(unexpected()));
        let tried = answers.skip(tried - named - 1);
        tried.zip(TRIED).try_for_each(|(answer, command)| is_allowed(command, answer))?;
        Ok(Link::new(transport, self.incarnation(info)?))
    }

    /// Connects. What the connection still has to say before all else, such as who it is, begins the greeting.
    async fn transport(&self, greeting: &mut Commands) -> Result<Transport, L2Error> {
        let info = self.client.get_connection_info();
        let ConnectionAddr::Tcp(host, port) = info.addr() else {
            let config = AsyncConnectionConfig::new()
                .set_connection_timeout(None)
                .set_response_timeout(None)
                .set_pipeline_buffer_size(PIPELINE_BUFFER);
            let connection = self.client.get_multiplexed_async_connection_with_config(&config).await;
            return Ok(Transport::Client(connection.map_err(|error| classify(&error))?));
        };
        let stream = dial(host, *port).await.map_err(|error| L2Error::Connection(error.to_string().to_lowercase()))?;
        let settings = info.redis_settings();
        match (settings.username(), settings.password()) {
            (Some(user), Some(password)) => greeting.add(&[b"AUTH", user.as_bytes(), password.as_bytes()]),
            (None, Some(password)) => greeting.add(&[b"AUTH", password.as_bytes()]),
            (_, None) => {}
        }
        if settings.db() != 0 {
            greeting.add(&[b"SELECT", settings.db().to_string().as_bytes()]);
        }
        let (wire, driver) = Wire::new(stream);
        tokio::spawn(driver);
        Ok(Transport::Wire(wire))
    }

    /// The incarnation in the answer, or 0 for a user that may not ask.
    fn incarnation(&self, info: Result<Value, L2Error>) -> Result<Incarnation, L2Error> {
        let told = match info {
            // Refused to this user, or renamed: the other commands may work.
            Err(L2Error::Refused { code, .. }) if matches!(code.as_str(), "NOPERM" | "ERR") => None,
            info => incarnation(info?)?,
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

/// A connection to whichever address of the host answers first.
async fn dial(host: &str, port: u16) -> io::Result<TcpStream> {
    let attempts: Vec<_> =
        lookup_host((host, port)).await?.map(|address| Box::pin(TcpStream::connect(address))).collect();
    if attempts.is_empty() {
        return Err(io::Error::new(io::ErrorKind::NotFound, "the host name has no address"));
    }
    let (stream, _) = select_ok(attempts).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// A refusal of the user, the password or the database.
fn explain_name(error: L2Error) -> L2Error {
    match error {
        L2Error::Refused { code, detail } if code == "ERR" && detail.contains("AUTH") => {
            L2Error::Refused { code: "WRONGPASS".to_owned(), detail }
        }
        error => error,
    }
}

/// Asks for what [`incarnation`] reads.
pub(super) fn ask_incarnation(out: &mut Vec<u8>) {
    command(out, &[b"INFO", b"replication"]);
}

/// The hash of the replication id, which changes when the server restarts and when another one is promoted; `None` when
/// the server does not tell it.
pub(super) fn incarnation(info: Value) -> Result<Option<Incarnation>, L2Error> {
    let Value::Bulk(text) = info else { return Err(unexpected()) };
    let id = text.split(|&byte| byte == b'\n').find_map(|line| line.strip_prefix(b"master_replid:"));
    Ok(id.map(|id| xxh3_64(id.trim_ascii())))
}

/// Appends [`TRIED`] on a key of its own. A server that lets us store but not remove, or forbids scripts, must be known
/// before anything is stored there.
fn try_commands(greeting: &mut Commands, prefix: &str) {
    let (instance, serial) = Uuid::new_v4().as_u64_pair();
    let token = Token { instance, serial };
    let key = format!("{prefix}:~test:{instance:016x}{serial:016x}");
    greeting.add(&[b"SET", key.as_bytes(), &token.to_lease(), b"PX", TEST_MILLIS]);
    greeting.add(&[b"GET", key.as_bytes()]);
    greeting.add(&[b"MGET", key.as_bytes()]);
    greeting.add(&[b"DEL", key.as_bytes()]);
    script::release(&[(key, token)]).by_text(greeting);
}

fn is_allowed(command: &str, answer: Result<Value, L2Error>) -> Result<(), L2Error> {
    match answer {
        // Lack of memory passes, and removals work meanwhile.
        Err(L2Error::Refused { code, .. }) if code == "OOM" => Ok(()),
        Err(L2Error::Refused { code, detail }) => {
            Err(L2Error::Refused { code, detail: format!("the cache cannot work without {command}: {detail}") })
        }
        answer => answer.map(drop),
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
const TRIED: [&str; 5] = ["SET", "GET", "MGET", "DEL", "EVAL"];

/// How long the key of a trial lasts where it may not be removed.
const TEST_MILLIS: &[u8] = b"1000";
/// How a server without room begins.
const NO_ROOM: &[u8; 30] = b"-ERR max number of clients rea";
/// Shorter than the pause between probes of a server that needs somebody's help.
const LOOK_PAUSE: Duration = Duration::from_millis(500);
/// How long to listen.
const LOOK_BOUND: Duration = Duration::from_millis(50);
