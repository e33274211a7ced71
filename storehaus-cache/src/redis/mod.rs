//! The shared tier on a Redis server, version 7.0 or later.
//!
//! A [`RedisTier`] keeps a fixed number of multiplexed connections. A command takes the first that has less than 64
//! commands under way, else each in turn, without waiting for a pool; a connection is replaced after the first error that
//! leaves its state unknown. Every command touches one key, except `MGET`, `SCAN` and the scripts, and `PUBLISH` none. A
//! subscription has a connection of its own.
//!
//! TCP is spoken by this module, in RESP2: `wire` carries commands, `resp` writes and reads them. What else the client
//! library reaches, TLS and the sockets of the machine, stays with it, behind the same `link`.

mod connect;
mod error;
mod link;
mod resp;
mod script;
mod slots;
mod subscribe;
mod wire;

use std::fmt;
use std::num::NonZeroUsize;
use std::time::Duration;

use bb8_redis::bb8;
use futures_util::FutureExt as _;
use tokio::time::Instant;

use crate::codec::header::{HEADER_BYTES, Token};
use crate::l2::{
    Bytes, Claim, Cleared, FOREIGN, Fill, Incarnation, L2, L2Error, LeaseReply, ManyReply, Messages, Reply, answer_by,
};

use self::connect::Manager;
use self::error::unexpected;
use self::link::{Fault, Link, judge, of_cut};
use self::resp::{Commands, Value, argument, begin, command, number};
use self::slots::Slots;
use self::subscribe::Subscriber;
use self::wire::Cut;

/// How to reach a Redis server.
#[derive(Clone)]
pub struct RedisSettings {
    /// `redis://[user][:password@]host[:port][/database]`, or `unix:///path`. `rediss://` where the client library is
    /// built with TLS, else it is refused. A protocol that the URL names is that of subscriptions, `unix` and `rediss`
    /// alone.
    pub url: String,
    /// How many connections are kept open. One carries up to 64 commands at a time before the next is used. Default: 2.
    pub pool_size: NonZeroUsize,
    /// How long opening a connection may take, greeting included; after one that took longer, twice and then four times
    /// as long, until one is open. Default: 100 ms.
    pub connect_timeout: Duration,
    /// The global prefix of the keys. With it each new connection first stores a key `<prefix>:~test:…`, reads it,
    /// removes it, and asks for it by script, in the round trip of the greeting; a server that refuses one of these for
    /// another reason than lack of memory is not used. Default: none, nothing is tried.
    pub prefix: Option<String>,
}

impl RedisSettings {
    /// Settings for `url`, everything else by default.
    pub fn new(url: impl Into<String>) -> Self {
        Self { url: url.into(), pool_size: DEFAULT_POOL_SIZE, connect_timeout: DEFAULT_CONNECT_TIMEOUT, prefix: None }
    }
}

impl fmt::Debug for RedisSettings {
    /// Leaves the URL out, as it may hold a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisSettings")
            .field("pool_size", &self.pool_size)
            .field("connect_timeout", &self.connect_timeout)
            .field("prefix", &self.prefix)
            .finish_non_exhaustive()
    }
}

/// The shared tier on one Redis server.
pub struct RedisTier {
    slots: Slots,
    subscriber: Subscriber,
}

impl RedisTier {
    /// Prepares the tier. Opens no connection: the first command does.
    ///
    /// # Errors
    /// What is wrong with the settings. The text never holds the password.
    pub fn new(settings: RedisSettings) -> Result<Self, String> {
        let size = u32::try_from(settings.pool_size.get())
            .map_err(|_| format!("the redis pool size {} is too large", settings.pool_size))?;
        let client = connect::client(&settings.url)?;
        let subscriber = Subscriber::new(client.clone(), settings.connect_timeout);
        let manager = Manager::new(client, settings.connect_timeout, settings.prefix);
        let pool = bb8::Pool::builder()
            .max_size(size)
            .min_idle(None)
            .max_lifetime(None)
            .idle_timeout(None)
            .test_on_check_out(false)
            .retry_connection(false)
            .connection_timeout(settings.connect_timeout.max(Duration::from_millis(1)))
            .build_unchecked(manager);
        Ok(Self { slots: Slots::new(pool, settings.pool_size), subscriber })
    }

    /// How many connections the tier keeps open now.
    pub fn open_connections(&self) -> usize {
        self.slots.open()
    }

    /// Sends a command that may be repeated: a connection that turns out to be dropped is replaced, once.
    async fn read<T>(
        &self,
        encode: impl Fn(&mut Vec<u8>) + Sync,
        decode: impl Fn(Value) -> Result<T, L2Error>,
    ) -> Result<(T, Incarnation), L2Error> {
        let (slot, link) = self.slots.link().await?;
        match link.command(&encode).await {
            Err(Fault { dropped: true, .. }) => self.read_again(slot, encode, decode).await,
            answer => decoded(&link, answer, decode),
        }
    }

    async fn read_again<T>(
        &self,
        slot: usize,
        encode: impl Fn(&mut Vec<u8>) + Sync,
        decode: impl Fn(Value) -> Result<T, L2Error>,
    ) -> Result<(T, Incarnation), L2Error> {
        let link = self.slots.link_at(slot).await?;
        decoded(&link, link.command(&encode).await, decode)
    }

    /// [`read`](Self::read) of one key, by a deadline: without a timer of its own where a connection is open.
    async fn read_by(
        &self,
        deadline: Instant,
        encode: impl Fn(&mut Vec<u8>) + Send + Sync,
    ) -> Option<Result<Reply, L2Error>> {
        // On the heap what is rare, so that the callers' futures stay small and their types shallow.
        let Some(sent) = self.slots.read(deadline, &encode) else {
            return answer_by(deadline, self.read(encode, bytes)).boxed().await.map(reply);
        };
        let answer = match sent.asked {
            Ok(asked) => asked.await,
            Err(cut) => Err(cut),
        };
        match answer {
            Ok(value) => {
                let decoded = judge(value).and_then(bytes);
                if let Err(L2Error::Connection(_)) = decoded {
                    self.slots.distrust(sent.place);
                }
                Some(decoded.map(|bytes| Reply { bytes, incarnation: sent.incarnation }))
            }
            Err(Cut::TimedOut) => None,
            Err(Cut::Closed(_)) => {
                answer_by(deadline, self.read_again(sent.place, encode, bytes)).boxed().await.map(reply)
            }
            Err(cut) => Some(Err(of_cut(cut).0.error)),
        }
    }

    /// Sends a command once.
    async fn write<T>(
        &self,
        encode: impl FnOnce(&mut Vec<u8>) + Send,
        decode: impl FnOnce(Value, Incarnation) -> Result<T, L2Error>,
    ) -> Result<T, L2Error> {
        let (_, link) = self.slots.link().await?;
        let answer = link.command(encode).await.map_err(|fault| fault.error)?;
        link.trust(decode(answer, link.incarnation()))
    }

    /// Runs script calls on the next connection.
    async fn scripts(&self, calls: &[script::Call<'_>]) -> Result<(Vec<Result<Value, L2Error>>, Link), L2Error> {
        let (_, link) = self.slots.link().await?;
        Ok((run_scripts(&link, calls).await?, link))
    }

    /// Runs a script on keys, in one round trip; its answers, one per part of the keys.
    async fn on_keys<'a, K, T>(
        &self,
        keys: &'a [K],
        script: impl Fn(&'a [K]) -> script::Call<'a>,
        decode: impl Fn(Value) -> Result<T, L2Error>,
    ) -> Result<(Vec<T>, Incarnation), L2Error> {
        let calls: Vec<_> = keys.chunks(script::KEYS_PER_CALL).map(script).collect();
        let (answers, link) = self.scripts(&calls).await?;
        let decoded = answers.into_iter().map(|answer| decode(answer?)).collect();
        Ok((link.trust(decoded)?, link.incarnation()))
    }
}

/// Runs one script call per invocation in one round trip, and once more with the text for those the server forgot.
async fn run_scripts(link: &Link, calls: &[script::Call<'_>]) -> Result<Vec<Result<Value, L2Error>>, L2Error> {
    let mut commands = Commands::default();
    calls.iter().for_each(|call| call.by_hash(&mut commands));
    let mut answers = link.pipeline(&commands).await.map_err(|fault| fault.error)?;
    let forgotten: Vec<usize> =
        answers.iter().enumerate().filter(|(_, answer)| script::is_forgotten(answer)).map(|(at, _)| at).collect();
    if !forgotten.is_empty() {
        let mut commands = Commands::default();
        forgotten.iter().for_each(|at| calls[*at].by_text(&mut commands));
        let again = link.pipeline(&commands).await.map_err(|fault| fault.error)?;
        for (at, answer) in forgotten.into_iter().zip(again) {
            answers[at] = answer;
        }
    }
    Ok(answers)
}

fn decoded<T>(
    link: &Link,
    answer: Result<Value, Fault>,
    decode: impl Fn(Value) -> Result<T, L2Error>,
) -> Result<(T, Incarnation), L2Error> {
    let decoded = link.trust(answer.map_err(|fault| fault.error).and_then(decode))?;
    Ok((decoded, link.incarnation()))
}

impl fmt::Debug for RedisTier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisTier").field("open_connections", &self.open_connections()).finish_non_exhaustive()
    }
}

impl L2 for RedisTier {
    const HAS_BUS: bool = true;

    async fn get(&self, key: &str) -> Result<Reply, L2Error> {
        reply(self.read(get(key), bytes).await)
    }

    async fn get_by(&self, key: &str, deadline: Instant) -> Option<Result<Reply, L2Error>> {
        self.read_by(deadline, get(key)).await
    }

    async fn head(&self, key: &str) -> Result<Reply, L2Error> {
        reply(self.read(head(key), bytes).await).map(shown)
    }

    async fn head_by(&self, key: &str, deadline: Instant) -> Option<Result<Reply, L2Error>> {
        self.read_by(deadline, head(key)).await.map(|reply| reply.map(shown))
    }

    async fn get_many<K: AsRef<str> + Sync>(&self, keys: &[K]) -> Result<ManyReply, L2Error> {
        if keys.is_empty() {
            return Ok(ManyReply { bytes: Vec::new(), incarnation: 0 });
        }
        let decode = |value| match value {
            Value::Array(items) if items.len() == keys.len() => items.into_iter().map(bytes).collect(),
            _ => Err(unexpected()),
        };
        let encode = |out: &mut Vec<u8>| {
            begin(out, 1 + keys.len());
            argument(out, b"MGET");
            keys.iter().for_each(|key| argument(out, key.as_ref().as_bytes()));
        };
        let (bytes, incarnation) = self.read(encode, decode).await?;
        Ok(ManyReply { bytes, incarnation })
    }

    async fn lease(&self, key: &str, token: Token, ttl: Duration) -> Result<LeaseReply, L2Error> {
        self.write(|out| lease_command(out, key, token, ttl), lease_reply).await.map_err(explain_lease)
    }

    async fn lease_many(&self, keys: &[(String, Token)], ttl: Duration) -> Result<Vec<LeaseReply>, L2Error> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let (_, link) = self.slots.link().await?;
        let mut commands = Commands::default();
        keys.iter().for_each(|(key, token)| commands.with(|out| lease_command(out, key, *token, ttl)));
        let mut answers = link.pipeline(&commands).await.map_err(|fault| fault.error)?;
        let foreign: Vec<usize> = answers
            .iter()
            .enumerate()
            .filter(|(_, answer)| **answer == Err(L2Error::WrongType))
            .map(|(at, _)| at)
            .collect();
        if !foreign.is_empty() {
            let replace = |at: &usize| script::replace(&keys[*at].0, FOREIGN, keys[*at].1, millis(ttl));
            let replaced = run_scripts(&link, &foreign.iter().map(replace).collect::<Vec<_>>()).await?;
            foreign.into_iter().zip(replaced).for_each(|(at, answer)| answers[at] = answer);
        }
        let replies = answers.into_iter().map(|answer| lease_reply(answer.map_err(explain_lease)?, link.incarnation()));
        link.trust(replies.collect())
    }

    async fn replace(&self, key: &str, seen: &[u8], token: Token, ttl: Duration) -> Result<LeaseReply, L2Error> {
        let (answers, link) = self.scripts(&[script::replace(key, seen, token, millis(ttl))]).await?;
        let answer = answers.into_iter().next().ok_or_else(unexpected)?;
        link.trust(answer.and_then(|value| lease_reply(value, link.incarnation())))
    }

    async fn replace_many(&self, keys: &[(String, Vec<u8>, Token)], ttl: Duration) -> Result<Vec<LeaseReply>, L2Error> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let calls: Vec<_> =
            keys.iter().map(|(key, seen, token)| script::replace(key, seen, *token, millis(ttl))).collect();
        let (answers, link) = self.scripts(&calls).await?;
        link.trust(answers.into_iter().map(|answer| lease_reply(answer?, link.incarnation())).collect())
    }

    async fn fill(&self, fills: &[Fill]) -> Result<Vec<bool>, L2Error> {
        if fills.is_empty() {
            return Ok(Vec::new());
        }
        let calls: Vec<_> = parts(fills).map(script::fill).collect();
        let (answers, link) = self.scripts(&calls).await?;
        let parts = link.trust(answers.into_iter().map(|answer| flags(answer?)).collect::<Result<Vec<_>, _>>())?;
        let stored: Vec<_> = parts.into_iter().flatten().collect();
        if stored.len() == fills.len() { Ok(stored) } else { Err(unexpected()) }
    }

    async fn release(&self, leases: &[(String, Token)]) -> Result<(), L2Error> {
        if leases.is_empty() {
            return Ok(());
        }
        self.on_keys(leases, script::release, count).await.map(drop)
    }

    async fn announce(&self, keys: &[String], token: Token, ttl: Duration) -> Result<Incarnation, L2Error> {
        if keys.is_empty() {
            return Ok(0);
        }
        self.on_keys(keys, |keys| script::announce(keys, token, millis(ttl)), okay)
            .await
            .map(|(_, incarnation)| incarnation)
    }

    async fn renew(&self, keys: &[String], token: Token, ttl: Duration) -> Result<Vec<bool>, L2Error> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let (parts, _) = self.on_keys(keys, |keys| script::renew(keys, token, millis(ttl)), flags).await?;
        let stood: Vec<bool> = parts.into_iter().flatten().collect();
        if stood.len() == keys.len() { Ok(stood) } else { Err(unexpected()) }
    }

    async fn clear(&self, keys: &[Claim]) -> Result<Cleared, L2Error> {
        if keys.is_empty() {
            return Ok(Cleared::default());
        }
        let (parts, _) = self.on_keys(keys, script::clear, cleared).await?;
        Ok(parts.into_iter().fold(Cleared::default(), |sum, part| Cleared {
            removed: sum.removed + part.removed,
            lost: sum.lost + part.lost,
        }))
    }

    async fn withdraw(&self, keys: &[String], token: Token) -> Result<(), L2Error> {
        if keys.is_empty() {
            return Ok(());
        }
        self.on_keys(keys, |keys| script::withdraw(keys, token), okay).await.map(drop)
    }

    async fn ttl(&self, key: &str) -> Result<Option<Duration>, L2Error> {
        let decode = |value, _| match value {
            Value::Int(-2) => Ok(None),
            Value::Int(-1) => Ok(Some(Duration::MAX)),
            Value::Int(left) => Ok(Some(Duration::from_millis(left.unsigned_abs()))),
            _ => Err(unexpected()),
        };
        self.write(|out| command(out, &[b"PTTL", key.as_bytes()]), decode).await
    }

    async fn delete_matching(&self, glob: &str) -> Result<u64, L2Error> {
        let (_, link) = self.slots.link().await?;
        let mut cursor = Bytes::from_static(b"0");
        let mut removed = 0;
        loop {
            let scan = [b"SCAN", &cursor[..], b"MATCH", glob.as_bytes(), b"COUNT", SCAN_COUNT];
            let answer = link.command(|out| command(out, &scan)).await.map_err(|fault| fault.error)?;
            let (next, found) = link.trust(scanned(answer))?;
            if !found.is_empty() {
                let found: Vec<_> = found.into_iter().map(|key| (key, None)).collect();
                let calls: Vec<_> = found.chunks(script::KEYS_PER_CALL).map(script::clear).collect();
                for answer in run_scripts(&link, &calls).await? {
                    removed += link.trust(answer.and_then(cleared))?.removed;
                }
            }
            if next == b"0"[..] {
                return Ok(removed);
            }
            cursor = next;
        }
    }

    async fn publish(&self, channel: &str, message: &[u8]) -> Result<u64, L2Error> {
        let encode = |out: &mut Vec<u8>| command(out, &[b"PUBLISH", channel.as_bytes(), message]);
        self.write(encode, |value, _| count(value)).await
    }

    async fn subscribe(&self, channels: &[String]) -> Result<Messages, L2Error> {
        self.subscriber.subscribe(channels).await
    }

    async fn probe(&self) -> Result<(), L2Error> {
        self.slots.probe().await
    }

    fn reset(&self) {
        self.slots.reset();
    }
}

fn get(key: &str) -> impl Fn(&mut Vec<u8>) {
    move |out| command(out, &[b"GET", key.as_bytes()])
}

fn head(key: &str) -> impl Fn(&mut Vec<u8>) {
    move |out| {
        begin(out, 4);
        argument(out, b"GETRANGE");
        argument(out, key.as_bytes());
        number(out, 0);
        number(out, HEADER_BYTES as u64 - 1);
    }
}

/// An absent key is an empty range.
fn shown(reply: Reply) -> Reply {
    Reply { bytes: reply.bytes.filter(|bytes| !bytes.is_empty()), ..reply }
}

fn reply(read: Result<(Option<Bytes>, Incarnation), L2Error>) -> Result<Reply, L2Error> {
    read.map(|(bytes, incarnation)| Reply { bytes, incarnation })
}

fn lease_command(out: &mut Vec<u8>, key: &str, token: Token, ttl: Duration) {
    begin(out, 7);
    argument(out, b"SET");
    argument(out, key.as_bytes());
    argument(out, &token.to_lease());
    [&b"NX"[..], b"GET", b"PX"].iter().for_each(|word| argument(out, word));
    number(out, millis(ttl));
}

fn lease_reply(value: Value, incarnation: Incarnation) -> Result<LeaseReply, L2Error> {
    Ok(leased(bytes(value)?, incarnation))
}

fn leased(content: Option<Bytes>, incarnation: Incarnation) -> LeaseReply {
    match content {
        None => LeaseReply::Granted(incarnation),
        taken => LeaseReply::Taken(Reply { bytes: taken, incarnation }),
    }
}

/// `SET` takes `NX` and `GET` together since Redis 7.0; an older server calls it a syntax error.
fn explain_lease(error: L2Error) -> L2Error {
    match error {
        L2Error::Refused { code, detail } if code == "ERR" && detail.contains("syntax error") => {
            L2Error::Refused { code, detail: "SET with NX and GET needs redis 7.0 or later".to_owned() }
        }
        error => error,
    }
}

/// The next cursor and the keys of one step of `SCAN`.
fn scanned(value: Value) -> Result<(Bytes, Vec<Bytes>), L2Error> {
    let Value::Array(parts) = value else { return Err(unexpected()) };
    match <[Value; 2]>::try_from(parts) {
        Ok([Value::Bulk(next), Value::Array(found)]) => {
            let keys = found.into_iter().map(|key| bytes(key)?.ok_or_else(unexpected));
            Ok((next, keys.collect::<Result<_, _>>()?))
        }
        _ => Err(unexpected()),
    }
}

fn bytes(value: Value) -> Result<Option<Bytes>, L2Error> {
    match value {
        Value::Nil => Ok(None),
        Value::Bulk(bytes) => Ok(Some(bytes)),
        _ => Err(unexpected()),
    }
}

fn okay(value: Value) -> Result<(), L2Error> {
    match value {
        Value::Text(text) if text == "OK" => Ok(()),
        _ => Err(unexpected()),
    }
}

/// One or zero per key.
fn flags(value: Value) -> Result<Vec<bool>, L2Error> {
    match value {
        Value::Array(flags) => flags.into_iter().map(|flag| Ok(count(flag)? == 1)).collect(),
        _ => Err(unexpected()),
    }
}

/// Fills in calls of bounded size: the server does nothing else during one.
fn parts(fills: &[Fill]) -> impl Iterator<Item = &[Fill]> {
    let mut rest = fills;
    std::iter::from_fn(move || {
        let mut bytes = 0;
        let fits = |fill: &&Fill| {
            bytes += fill.value.len();
            bytes <= BYTES_PER_CALL
        };
        let len = rest.iter().take(script::KEYS_PER_CALL).take_while(fits).count().max(1).min(rest.len());
        let (part, others) = rest.split_at(len);
        rest = others;
        (!part.is_empty()).then_some(part)
    })
}

fn cleared(value: Value) -> Result<Cleared, L2Error> {
    let Value::Array(parts) = value else { return Err(unexpected()) };
    match <[Value; 2]>::try_from(parts) {
        Ok([removed, lost]) => Ok(Cleared { removed: count(removed)?, lost: count(lost)? }),
        Err(_) => Err(unexpected()),
    }
}

fn count(value: Value) -> Result<u64, L2Error> {
    match value {
        Value::Int(count) => u64::try_from(count).map_err(|_| unexpected()),
        _ => Err(unexpected()),
    }
}

/// A life of nothing would be refused by the server.
fn millis(ttl: Duration) -> u64 {
    u64::try_from(ttl.as_millis()).unwrap_or(MAX_TTL_MILLIS).clamp(1, MAX_TTL_MILLIS)
}

const DEFAULT_POOL_SIZE: NonZeroUsize = NonZeroUsize::new(2).unwrap();
const DEFAULT_CONNECT_TIMEOUT: Duration = Duration::from_millis(100);
/// How many bytes of values one call stores, unless a single one is larger.
const BYTES_PER_CALL: usize = 128 * 1024;
const SCAN_COUNT: &[u8] = b"1000";

/// A hundred years: the server refuses a life whose end does not fit its clock.
const MAX_TTL_MILLIS: u64 = 100 * 365 * 24 * 3600 * 1000;
