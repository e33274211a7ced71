//! The seam to the shared tier: the few single-key commands the protocol needs.
//!
//! [`L2`] is implemented by the Redis tier. An implementation makes one attempt and reports what happened; deadlines,
//! apart from those of reads of one key, retries, the breaker and the journal of invalidations that could not be delivered
//! belong to `Remote`.

use std::future::{Future, ready};
use std::pin::{Pin, pin};
use std::time::Duration;

pub use bytes::Bytes;
use futures_util::future::try_join_all;
use futures_util::{FutureExt as _, Stream};
use thiserror::Error;
use tokio::time::{Instant, timeout_at};

use crate::codec::header::{HEADER_BYTES, Token};

/// The identity of the server a reply came from; changes when it restarts or another one is promoted.
pub type Incarnation = u64;

/// The messages of a subscription, in the order the server sent them. It ends when the connection does.
pub type Messages = Pin<Box<dyn Stream<Item = Vec<u8>> + Send>>;

/// The shared tier: a key-value server with expiry and compare-and-set on one key.
pub trait L2: Send + Sync + 'static {
    /// Whether [`publish`](Self::publish) and [`subscribe`](Self::subscribe) work. Without, rows in process are bounded
    /// by their age alone.
    const HAS_BUS: bool = false;

    /// What stands under `key`. One command: `GET`.
    fn get(&self, key: &str) -> impl Future<Output = Result<Reply, L2Error>> + Send;

    /// [`get`](Self::get) within a deadline; `None` when there is no answer by then.
    fn get_by(&self, key: &str, deadline: Instant) -> impl Future<Output = Option<Result<Reply, L2Error>>> + Send {
        answer_by(deadline, self.get(key))
    }

    /// What stands under `key`, of a value the header alone. One command: `GETRANGE`.
    fn head(&self, key: &str) -> impl Future<Output = Result<Reply, L2Error>> + Send {
        async move {
            let mut reply = self.get(key).await?;
            reply.bytes.iter_mut().for_each(|bytes| bytes.truncate(HEADER_BYTES));
            Ok(reply)
        }
    }

    /// [`head`](Self::head) within a deadline; `None` when there is no answer by then.
    fn head_by(&self, key: &str, deadline: Instant) -> impl Future<Output = Option<Result<Reply, L2Error>>> + Send {
        answer_by(deadline, self.head(key))
    }

    /// What stands under each of `keys`, in order. One command: `MGET`. A key of another type reads as empty.
    fn get_many<K: AsRef<str> + Sync>(&self, keys: &[K]) -> impl Future<Output = Result<ManyReply, L2Error>> + Send;

    /// Places a lease where nothing stands. One command: `SET key lease NX GET PX ttl`.
    fn lease(&self, key: &str, token: Token, ttl: Duration)
    -> impl Future<Output = Result<LeaseReply, L2Error>> + Send;

    /// [`lease`](Self::lease) for many keys, none twice, in one round trip; a value of another type gives way.
    fn lease_many(
        &self,
        keys: &[(String, Token)],
        ttl: Duration,
    ) -> impl Future<Output = Result<Vec<LeaseReply>, L2Error>> + Send;

    /// Places a lease where the content still starts with `seen`, where nothing stands, or over a value of another type.
    /// One script call.
    fn replace(
        &self,
        key: &str,
        seen: &[u8],
        token: Token,
        ttl: Duration,
    ) -> impl Future<Output = Result<LeaseReply, L2Error>> + Send;

    /// [`replace`](Self::replace) for many keys, each with what was seen there, in one round trip.
    fn replace_many(
        &self,
        keys: &[(String, Vec<u8>, Token)],
        ttl: Duration,
    ) -> impl Future<Output = Result<Vec<LeaseReply>, L2Error>> + Send {
        try_join_all(keys.iter().map(move |(key, seen, token)| self.replace(key, seen, *token, ttl)))
    }

    /// Stores each value whose lease is still in place, in one round trip; whether each was stored. A key
    /// may stand there twice, under different leases.
    fn fill(&self, fills: &[Fill]) -> impl Future<Output = Result<Vec<bool>, L2Error>> + Send;

    /// Gives back each lease that is still in place, in one round trip.
    fn release(&self, leases: &[(String, Token)]) -> impl Future<Output = Result<(), L2Error>> + Send;

    /// Adds the intent `token` to each of `keys`, for `ttl` on the server's clock; whatever else stood there gives way.
    /// Where the intent stands already, its time begins again. One round trip.
    fn announce(
        &self,
        keys: &[String],
        token: Token,
        ttl: Duration,
    ) -> impl Future<Output = Result<Incarnation, L2Error>> + Send;

    /// Begins the time of the intent `token` again under each of `keys` where it still stands; whether it did. One round
    /// trip.
    fn renew(
        &self,
        keys: &[String],
        token: Token,
        ttl: Duration,
    ) -> impl Future<Output = Result<Vec<bool>, L2Error>> + Send;

    /// Removes whatever stands under `keys`, except the intents of others: those stay, and learn that they were not
    /// alone. Beside each key stands the intent of the write that is over; `None` clears on behalf of nobody. One round
    /// trip.
    fn clear(&self, keys: &[Claim]) -> impl Future<Output = Result<Cleared, L2Error>> + Send;

    /// Takes the intent `token` away from each of `keys` where it stands, and nothing else. One round trip.
    fn withdraw(&self, keys: &[String], token: Token) -> impl Future<Output = Result<(), L2Error>> + Send;

    /// How long `key` has left; `None` when it does not exist. One command: `PTTL`.
    fn ttl(&self, key: &str) -> impl Future<Output = Result<Option<Duration>, L2Error>> + Send;

    /// Clears every key that matches `glob` (already escaped), found by `SCAN` in batches, as [`clear`](Self::clear) does
    /// on behalf of nobody; how many were removed.
    fn delete_matching(&self, glob: &str) -> impl Future<Output = Result<u64, L2Error>> + Send;

    /// Sends a message to all who are subscribed to `channel` now; how many those are. One command: `PUBLISH`.
    fn publish(&self, _channel: &str, _message: &[u8]) -> impl Future<Output = Result<u64, L2Error>> + Send {
        ready(Err(no_bus()))
    }

    /// Subscribes to `channels` on a connection of its own: what is published to them after this returned is delivered,
    /// all channels in one order, until the connection ends.
    fn subscribe(&self, _channels: &[String]) -> impl Future<Output = Result<Messages, L2Error>> + Send {
        ready(Err(no_bus()))
    }

    /// Opens a fresh connection and asks the server whether it is there. For the probe that ends an outage.
    fn probe(&self) -> impl Future<Output = Result<(), L2Error>> + Send;

    /// Drops every open connection, so that the next command opens a new one.
    fn reset(&self);
}

/// What a command ends with by its deadline. To a thread that was kept busy past it, deadline and answer are due at the
/// same time: what arrived meanwhile is let in before the command is given up.
pub(crate) async fn answer_by<T>(deadline: Instant, command: impl Future<Output = T>) -> Option<T> {
    let mut command = pin!(command);
    if let Ok(answer) = timeout_at(deadline, command.as_mut()).await {
        return Some(answer);
    }
    for _ in 0..TURNS {
        // Lets the runtime look at its sockets, then the connection read from its own.
        tokio::task::yield_now().await;
        if let Some(answer) = command.as_mut().now_or_never() {
            return Some(answer);
        }
    }
    None
}

fn no_bus() -> L2Error {
    L2Error::Refused { code: "ERR".to_owned(), detail: "this tier carries no messages".to_owned() }
}

/// The reply to [`L2::get`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The content, if any.
    pub bytes: Option<Bytes>,
    /// Who said so.
    pub incarnation: Incarnation,
}

/// The reply to [`L2::get_many`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManyReply {
    /// The contents, in the order asked. They may share one allocation: one that is kept keeps all of them.
    pub bytes: Vec<Option<Bytes>>,
    /// Who said so.
    pub incarnation: Incarnation,
}

/// The reply to a lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LeaseReply {
    /// The lease stands; a value filled under it is stamped with this incarnation.
    Granted(Incarnation),
    /// Something stands there already.
    Taken(Reply),
}

/// A value to store under a lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fill {
    /// The full key.
    pub key: String,
    /// The lease it was loaded under.
    pub token: Token,
    /// Header and payload.
    pub value: Vec<u8>,
    /// How long the value may stay.
    pub ttl: Duration,
}

/// A key to clear, and the intent under it that is over, if there is one.
pub type Claim = (String, Option<Token>);

/// What [`L2::clear`] found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cleared {
    /// Keys that were removed. A key with the intents of others is none of them.
    pub removed: u64,
    /// Keys under which the intent of the caller did not stand any more.
    pub lost: u64,
}

/// What went wrong at the shared tier. Texts never hold values.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum L2Error {
    /// No connection, or it broke: nothing is known about the command.
    #[error("no connection to the cache server: {0}")]
    Connection(String),
    /// The server refused this command for a reason that concerns the whole server (LOADING, READONLY, NOAUTH, OOM, …).
    #[error("the cache server refused the command: {code}: {detail}")]
    Refused {
        /// The first word of the reply.
        code: String,
        /// The rest of it.
        detail: String,
    },
    /// No answer in time: nothing is known about the command.
    #[error("the cache server did not answer within {0:?}")]
    Timeout(Duration),
    /// The key holds a type that is not ours; concerns this key alone.
    #[error("the key holds a value of another type")]
    WrongType,
}

/// What is said to have been seen where a value of another type stands: no content of ours begins like this.
pub(crate) const FOREIGN: &[u8] = b"\0";

/// How many turns of the runtime an answer takes from its socket to the one who waits for it, and one more.
pub(crate) const TURNS: u32 = 3;

/// The shared tier of a build without the feature `redis`: none. No value of it exists.
#[cfg(not(feature = "redis"))]
#[derive(Clone, Copy, Debug)]
pub enum NoTier {}

#[cfg(not(feature = "redis"))]
impl L2 for NoTier {
    async fn get(&self, _key: &str) -> Result<Reply, L2Error> {
        match *self {}
    }

    async fn get_many<K: AsRef<str> + Sync>(&self, _keys: &[K]) -> Result<ManyReply, L2Error> {
        match *self {}
    }

    async fn lease(&self, _key: &str, _token: Token, _ttl: Duration) -> Result<LeaseReply, L2Error> {
        match *self {}
    }

    async fn lease_many(&self, _keys: &[(String, Token)], _ttl: Duration) -> Result<Vec<LeaseReply>, L2Error> {
        match *self {}
    }

    async fn replace(&self, _key: &str, _seen: &[u8], _token: Token, _ttl: Duration) -> Result<LeaseReply, L2Error> {
        match *self {}
    }

    async fn fill(&self, _fills: &[Fill]) -> Result<Vec<bool>, L2Error> {
        match *self {}
    }

    async fn release(&self, _leases: &[(String, Token)]) -> Result<(), L2Error> {
        match *self {}
    }

    async fn announce(&self, _keys: &[String], _token: Token, _ttl: Duration) -> Result<Incarnation, L2Error> {
        match *self {}
    }

    async fn renew(&self, _keys: &[String], _token: Token, _ttl: Duration) -> Result<Vec<bool>, L2Error> {
        match *self {}
    }

    async fn clear(&self, _keys: &[Claim]) -> Result<Cleared, L2Error> {
        match *self {}
    }

    async fn withdraw(&self, _keys: &[String], _token: Token) -> Result<(), L2Error> {
        match *self {}
    }

    async fn ttl(&self, _key: &str) -> Result<Option<Duration>, L2Error> {
        match *self {}
    }

    async fn delete_matching(&self, _glob: &str) -> Result<u64, L2Error> {
        match *self {}
    }

    async fn probe(&self) -> Result<(), L2Error> {
        match *self {}
    }

    fn reset(&self) {
        match *self {}
    }
}
