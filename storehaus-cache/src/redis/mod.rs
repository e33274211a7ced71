//! The shared tier on a Redis server, version 7.0 or later.
//!
//! A [`RedisTier`] keeps a fixed number of multiplexed connections. A command takes one of them in turn without waiting
//! for a pool; a connection is replaced after the first error that leaves its state unknown. Every command touches one
//! key, except `MGET`, `SCAN` and the scripts of intents, and `PUBLISH` none. A subscription has a connection of its own.

mod connect;
mod error;
mod link;
mod script;
mod slots;
mod subscribe;

use std::fmt;
use std::num::NonZeroUsize;
use std::time::Duration;

use bb8_redis::bb8;
use redis::{Cmd, Pipeline, Value, cmd};

use crate::codec::header::{HEADER_BYTES, Token};
use crate::l2::{Claim, Cleared, Fill, Incarnation, L2, L2Error, LeaseReply, ManyReply, Messages, Reply};

use self::connect::Manager;
use self::error::unexpected;
use self::link::{Fault, Link};
use self::slots::Slots;
use self::subscribe::Subscriber;

/// How to reach a Redis server.
#[derive(Clone)]
pub struct RedisSettings {
    /// `redis://[user][:password@]host[:port][/database]`.
    pub url: String,
    /// How many connections are kept open. Default: 4.
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
        command: &Cmd,
        decode: impl Fn(Value) -> Result<T, L2Error>,
    ) -> Result<(T, Incarnation), L2Error> {
        let (slot, mut link) = self.slots.link().await?;
        let answer = match link.command(command).await {
            Err(Fault { dropped: true, .. }) => {
                link = self.slots.link_at(slot).await?;
                link.command(command).await
            }
            answer => answer,
        };
        let decoded = link.trust(answer.map_err(|fault| fault.error).and_then(decode))?;
        Ok((decoded, link.incarnation()))
    }

    /// Sends a command once.
    async fn write<T>(
        &self,
        command: &Cmd,
        decode: impl FnOnce(Value, Incarnation) -> Result<T, L2Error>,
    ) -> Result<T, L2Error> {
        let (_, mut link) = self.slots.link().await?;
        let answer = link.command(command).await.map_err(|fault| fault.error)?;
        link.trust(decode(answer, link.incarnation()))
    }

    /// Runs script calls on the next connection.
    async fn scripts(&self, calls: &[script::Call]) -> Result<(Vec<Result<Value, L2Error>>, Link), L2Error> {
        let (_, mut link) = self.slots.link().await?;
        Ok((run_scripts(&mut link, calls).await?, link))
    }

    /// Runs a script on keys, in one round trip; its answers, one per part of the keys.
    async fn on_keys<K, T>(
        &self,
        keys: &[K],
        script: impl Fn(&[K]) -> script::Call,
        decode: impl Fn(Value) -> Result<T, L2Error>,
    ) -> Result<(Vec<T>, Incarnation), L2Error> {
        let calls: Vec<_> = keys.chunks(script::KEYS_PER_CALL).map(script).collect();
        let (answers, link) = self.scripts(&calls).await?;
        let decoded = answers.into_iter().map(|answer| decode(answer?)).collect();
        Ok((link.trust(decoded)?, link.incarnation()))
    }
}

/// Runs one script call per invocation in one round trip, and once more with the text for those the server forgot.
async fn run_scripts(link: &mut Link, calls: &[script::Call]) -> Result<Vec<Result<Value, L2Error>>, L2Error> {
    let mut pipeline = Pipeline::with_capacity(calls.len());
    for call in calls {
        pipeline.add_command(call.by_hash());
    }
    let mut answers = link.pipeline(&pipeline).await.map_err(|fault| fault.error)?;
    let forgotten: Vec<usize> =
        answers.iter().enumerate().filter(|(_, answer)| script::is_forgotten(answer)).map(|(at, _)| at).collect();
    if !forgotten.is_empty() {
        let mut pipeline = Pipeline::with_capacity(forgotten.len());
        for &at in &forgotten {
            pipeline.add_command(calls[at].by_text());
        }
        let again = link.pipeline(&pipeline).await.map_err(|fault| fault.error)?;
        for (at, answer) in forgotten.into_iter().zip(again) {
            answers[at] = answer;
        }
    }
    Ok(answers)
}

impl fmt::Debug for RedisTier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisTier").field("open_connections", &self.open_connections()).finish_non_exhaustive()
    }
}

impl L2 for RedisTier {
    const HAS_BUS: bool = true;

    async fn get(&self, key: &str) -> Result<Reply, L2Error> {
        let (bytes, incarnation) = self.read(cmd("GET").arg(key), bytes).await?;
        Ok(Reply { bytes, incarnation })
    }

    async fn head(&self, key: &str) -> Result<Reply, L2Error> {
        let range = cmd("GETRANGE").arg(key).arg(0).arg(HEADER_BYTES - 1).clone();
        let (bytes, incarnation) = self.read(&range, bytes).await?;
        // An absent key is an empty range.
        Ok(Reply { bytes: bytes.filter(|bytes| !bytes.is_empty()), incarnation })
    }

    async fn get_many(&self, keys: &[String]) -> Result<ManyReply, L2Error> {
        if keys.is_empty() {
            return Ok(ManyReply { bytes: Vec::new(), incarnation: 0 });
        }
        let decode = |value| match value {
            Value::Array(items) if items.len() == keys.len() => items.into_iter().map(bytes).collect(),
            _ => Err(unexpected()),
        };
        let (bytes, incarnation) = self.read(cmd("MGET").arg(keys), decode).await?;
        Ok(ManyReply { bytes, incarnation })
    }

    async fn lease(&self, key: &str, token: Token, ttl: Duration) -> Result<LeaseReply, L2Error> {
        self.write(&lease_command(key, token, ttl), lease_reply).await.map_err(explain_lease)
    }

    async fn lease_many(&self, keys: &[(String, Token)], ttl: Duration) -> Result<Vec<Option<LeaseReply>>, L2Error> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let mut pipeline = Pipeline::with_capacity(keys.len());
        for (key, token) in keys {
            pipeline.add_command(lease_command(key, *token, ttl));
        }
        let (_, mut link) = self.slots.link().await?;
        let answers = link.pipeline(&pipeline).await.map_err(|fault| fault.error)?;
        let replies = answers.into_iter().map(|answer| match answer {
            Ok(value) => lease_reply(value, link.incarnation()).map(Some),
            Err(L2Error::WrongType) => Ok(None),
            Err(error) => Err(explain_lease(error)),
        });
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
        let calls: Vec<_> =
            fills.iter().map(|fill| script::fill(&fill.key, fill.token, &fill.value, millis(fill.ttl))).collect();
        let (answers, link) = self.scripts(&calls).await?;
        link.trust(answers.into_iter().map(|answer| Ok(count(answer?)? == 1)).collect())
    }

    async fn release(&self, leases: &[(String, Token)]) -> Result<(), L2Error> {
        if leases.is_empty() {
            return Ok(());
        }
        let calls: Vec<_> = leases.iter().map(|(key, token)| script::release(key, *token)).collect();
        let (answers, _) = self.scripts(&calls).await?;
        answers.into_iter().try_for_each(|answer| answer.map(drop))
    }

    async fn announce(&self, keys: &[String], token: Token, ttl: Duration) -> Result<Incarnation, L2Error> {
        if keys.is_empty() {
            return Ok(0);
        }
        let script = |keys: &[String]| script::announce(keys, token, millis(ttl));
        self.on_keys(keys, script, okay).await.map(|(_, incarnation)| incarnation)
    }

    async fn renew(&self, keys: &[String], token: Token, ttl: Duration) -> Result<Vec<bool>, L2Error> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let decode = |value| match value {
            Value::Array(stood) => stood.into_iter().map(|stood| Ok(count(stood)? == 1)).collect::<Result<Vec<_>, _>>(),
            _ => Err(unexpected()),
        };
        let (parts, _) = self.on_keys(keys, |keys| script::renew(keys, token, millis(ttl)), decode).await?;
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
        self.write(cmd("PTTL").arg(key), decode).await
    }

    async fn delete_matching(&self, glob: &str) -> Result<u64, L2Error> {
        let (_, mut link) = self.slots.link().await?;
        let mut cursor = b"0".to_vec();
        let mut removed = 0;
        loop {
            let mut scan = cmd("SCAN");
            scan.arg(&cursor[..]).arg("MATCH").arg(glob).arg("COUNT").arg(SCAN_COUNT);
            let answer = link.command(&scan).await.map_err(|fault| fault.error)?;
            let (next, found) = link.trust(scanned(answer))?;
            if !found.is_empty() {
                let found: Vec<_> = found.into_iter().map(|key| (key, None)).collect();
                let calls: Vec<_> = found.chunks(script::KEYS_PER_CALL).map(script::clear).collect();
                for answer in run_scripts(&mut link, &calls).await? {
                    removed += link.trust(answer.and_then(cleared))?.removed;
                }
            }
            if next == b"0" {
                return Ok(removed);
            }
            cursor = next;
        }
    }

    async fn publish(&self, channel: &str, message: &[u8]) -> Result<u64, L2Error> {
        self.write(cmd("PUBLISH").arg(channel).arg(message), |value, _| count(value)).await
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

fn lease_command(key: &str, token: Token, ttl: Duration) -> Cmd {
    let mut command = cmd("SET");
    command.arg(key).arg(&token.to_lease()[..]).arg("NX").arg("GET").arg("PX").arg(millis(ttl));
    command
}

fn lease_reply(value: Value, incarnation: Incarnation) -> Result<LeaseReply, L2Error> {
    Ok(match bytes(value)? {
        None => LeaseReply::Granted(incarnation),
        taken => LeaseReply::Taken(Reply { bytes: taken, incarnation }),
    })
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
fn scanned(value: Value) -> Result<(Vec<u8>, Vec<Vec<u8>>), L2Error> {
    let Value::Array(parts) = value else { return Err(unexpected()) };
    match <[Value; 2]>::try_from(parts) {
        Ok([Value::BulkString(next), Value::Array(found)]) => {
            let keys = found.into_iter().map(|key| bytes(key)?.ok_or_else(unexpected));
            Ok((next, keys.collect::<Result<_, _>>()?))
        }
        _ => Err(unexpected()),
    }
}

fn bytes(value: Value) -> Result<Option<Vec<u8>>, L2Error> {
    match value {
        Value::Nil => Ok(None),
        Value::BulkString(bytes) => Ok(Some(bytes)),
        _ => Err(unexpected()),
    }
}

fn okay(value: Value) -> Result<(), L2Error> {
    match value {
        Value::Okay => Ok(()),
        _ => Err(unexpected()),
    }
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

const DEFAULT_POOL_SIZE: NonZeroUsize = NonZeroUsize::new(4).unwrap();
const DEFAULT_CONNECT_TIMEOUT: Duration = Duration::from_millis(100);
const SCAN_COUNT: u32 = 1000;

/// A hundred years: the server refuses a life whose end does not fit its clock.
const MAX_TTL_MILLIS: u64 = 100 * 365 * 24 * 3600 * 1000;
