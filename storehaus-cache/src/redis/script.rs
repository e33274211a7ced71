//! The compare-and-set scripts. Each answers an error of the server with that error; those of intents take several keys.

use std::sync::LazyLock;

use redis::Script;

#[cfg(storehaus_broken)]
use crate::broken::{self, Bug};
use crate::codec::header::Token;
use crate::l2::L2Error;

use super::resp::{Commands, Value, argument, number};

/// One call of a script.
pub(super) struct Call<'a> {
    script: &'static Text,
    keys: Vec<&'a [u8]>,
    args: Vec<Arg<'a>>,
}

enum Arg<'a> {
    Bytes(&'a [u8]),
    Lease(Token),
    Number(u64),
    Token(Token),
}

impl Call<'_> {
    /// Appends the call by the digest of the script.
    pub(super) fn by_hash(&self, commands: &mut Commands) {
        self.append(commands, b"EVALSHA", self.script.script.get_hash());
    }

    /// Appends the call by the text of the script, which also makes the server remember it.
    pub(super) fn by_text(&self, commands: &mut Commands) {
        self.append(commands, b"EVAL", self.script.text);
    }

    fn append(&self, commands: &mut Commands, name: &[u8], script: &str) {
        let out = commands.begin(3 + self.keys.len() + self.args.len());
        argument(out, name);
        argument(out, script.as_bytes());
        number(out, self.keys.len() as u64);
        self.keys.iter().for_each(|key| argument(out, key));
        for arg in &self.args {
            match arg {
                Arg::Bytes(bytes) => argument(out, bytes),
                Arg::Lease(token) => argument(out, &token.to_lease()),
                Arg::Number(n) => number(out, *n),
                Arg::Token(token) => argument(out, &token.to_bytes()),
            }
        }
    }
}

/// Stores a value where the lease still stands: 1 if it did, 0 if not.
pub(super) fn fill<'a>(key: &'a str, token: Token, value: &'a [u8], ttl_millis: u64) -> Call<'a> {
    call(&FILL, [key], vec![Arg::Lease(token), Arg::Bytes(value), Arg::Number(ttl_millis)])
}

/// Removes the lease if it still stands.
pub(super) fn release(key: &str, token: Token) -> Call<'_> {
    call(&RELEASE, [key], vec![Arg::Lease(token)])
}

/// Places a lease where nothing stands, or a value of another type, or what stands starts with `seen`: nil if it did, the
/// content if not.
pub(super) fn replace<'a>(key: &'a str, seen: &'a [u8], token: Token, ttl_millis: u64) -> Call<'a> {
    call(&REPLACE, [key], vec![Arg::Bytes(seen), Arg::Lease(token), Arg::Number(ttl_millis)])
}

/// Adds an intent to each key: `OK`.
pub(super) fn announce(keys: &[String], token: Token, ttl_millis: u64) -> Call<'_> {
    call(&ANNOUNCE, keys, vec![Arg::Token(token), Arg::Number(ttl_millis)])
}

/// Begins the time of an intent again: per key 1 if it stood there, 0 if not.
pub(super) fn renew(keys: &[String], token: Token, ttl_millis: u64) -> Call<'_> {
    call(&RENEW, keys, vec![Arg::Token(token), Arg::Number(ttl_millis)])
}

/// Removes everything but the intents of others: how many keys were removed, and under how many the own intent was gone.
pub(super) fn clear<K: AsRef<[u8]>>(keys: &[(K, Option<Token>)]) -> Call<'_> {
    Call {
        script: &CLEAR,
        keys: keys.iter().map(|(key, _)| key.as_ref()).collect(),
        args: keys.iter().map(|(_, token)| token.map_or(Arg::Bytes(b""), Arg::Token)).collect(),
    }
}

/// Takes an intent away from each key: `OK`.
pub(super) fn withdraw(keys: &[String], token: Token) -> Call<'_> {
    call(&WITHDRAW, keys, vec![Arg::Token(token)])
}

/// How many keys one call of a script takes: the server does nothing else meanwhile.
pub(super) const KEYS_PER_CALL: usize = 128;

/// Appends one `SCRIPT LOAD` per script.
pub(super) fn load_all(commands: &mut Commands) {
    for text in [&*FILL, &*RELEASE, &*REPLACE, &*ANNOUNCE, &*RENEW, &*CLEAR, &*WITHDRAW] {
        commands.add(&[b"SCRIPT", b"LOAD", text.text.as_bytes()]);
    }
}

/// Whether the server does not know the script it was asked for.
pub(super) fn is_forgotten(answer: &Result<Value, L2Error>) -> bool {
    matches!(answer, Err(L2Error::Refused { code, .. }) if code == "NOSCRIPT")
}

struct Text {
    text: &'static str,
    script: Script,
}

impl Text {
    fn new(text: &'static str) -> Self {
        Self { text, script: Script::new(text) }
    }
}

fn call<'a, K: AsRef<[u8]> + ?Sized + 'a>(
    script: &'static LazyLock<Text>,
    keys: impl IntoIterator<Item = &'a K>,
    args: Vec<Arg<'a>>,
) -> Call<'a> {
    Call { script, keys: keys.into_iter().map(AsRef::as_ref).collect(), args }
}

static FILL: LazyLock<Text> = LazyLock::new(|| {
    #[cfg(storehaus_broken)]
    if broken::is(Bug::FillAnyway) {
        return Text::new("redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3]) return 1");
    }
    Text::new(
        "if redis.pcall('GET', KEYS[1]) ~= ARGV[1] then return 0 end
local done = redis.pcall('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
if done.err then return done end
return 1",
    )
});

static RELEASE: LazyLock<Text> = LazyLock::new(|| {
    Text::new(
        "if redis.pcall('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.pcall('DEL', KEYS[1])",
    )
});

static REPLACE: LazyLock<Text> = LazyLock::new(|| {
    Text::new(
        "local content = redis.pcall('GET', KEYS[1])
if type(content) == 'table' then
  if string.sub(content.err, 1, 9) ~= 'WRONGTYPE' then return content end
  content = false
end
if content and string.sub(content, 1, #ARGV[1]) ~= ARGV[1] then return content end
local done = redis.pcall('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
if done.err then return done end
return false",
    )
});

/// What the scripts of intents have in common. `read` takes the content of a key apart, as the writer of the token sees it: `others` are the entries of other
/// writers whose time has not passed, `last` is the end of the longest of them, `own` says whether the token's stands.
/// `nil` for anything but intents.
macro_rules! intents {
    ($body:literal) => {
        concat!(
            "local head = 'SH\\1I'
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local function read(key, token)
  local content = redis.pcall('GET', key)
  if type(content) ~= 'string' or string.sub(content, 1, 4) ~= head or #content < 9 then return nil end
  local set = {
    shared = string.byte(content, 5), changes = struct.unpack('<I4', content, 6), others = {}, last = 0, own = false
  }
  for at = 10, #content - 23, 24 do
    local ends = struct.unpack('<I8', content, at + 16)
    if ends > now then
      if string.sub(content, at, at + 15) == token then
        set.own = true
      else
        set.others[#set.others + 1] = string.sub(content, at, at + 23)
        set.last = math.max(set.last, ends)
      end
    end
  end
  return set
end
local function write(key, set)
  local bytes = head .. string.char(set.shared) .. struct.pack('<I4', (set.changes + 1) % 4294967296)
  return redis.pcall('SET', key, bytes .. table.concat(set.others), 'PXAT', string.format('%.0f', set.last))
end
local function add(set, token, ends)
  set.others[#set.others + 1] = token .. struct.pack('<I8', ends)
  set.last = math.max(set.last, ends)
end
",
            $body
        )
    };
}

static ANNOUNCE: LazyLock<Text> = LazyLock::new(|| {
    Text::new(intents!(
        "local ends, failed = now + tonumber(ARGV[2]), nil
for _, key in ipairs(KEYS) do
  local set = read(key, ARGV[1]) or {shared = 0, changes = 0, others = {}, last = 0}
  if #set.others > 0 then
    set.shared = 1
  elseif not set.own then
    set.shared = 0
  end
  add(set, ARGV[1], ends)
  local done = write(key, set)
  if done.err then failed = failed or done end
end
return failed or redis.status_reply('OK')"
    ))
});

static RENEW: LazyLock<Text> = LazyLock::new(|| {
    Text::new(intents!(
        "local ends, stood = now + tonumber(ARGV[2]), {}
for at, key in ipairs(KEYS) do
  local set = read(key, ARGV[1])
  stood[at] = 0
  if set and set.own then
    add(set, ARGV[1], ends)
    local done = write(key, set)
    if done.err then return done end
    stood[at] = 1
  end
end
return stood"
    ))
});

/// Deletes where nothing stands too: who asks wants to know whether the server takes writes.
/// Without memory for what is left of a set, the set goes: nobody can fill then, and its writers delete after them.
static CLEAR: LazyLock<Text> = LazyLock::new(|| {
    Text::new(intents!(
        "local removed, lost, failed = 0, 0, nil
for at, key in ipairs(KEYS) do
  local token = ARGV[at]
  local set = read(key, token)
  if token ~= '' and not (set and set.own) then lost = lost + 1 end
  local remove = true
  if set and #set.others > 0 then
    set.shared = 1
    local done = write(key, set)
    remove = done.err and string.sub(done.err, 1, 3) == 'OOM'
    if done.err and not remove then failed = failed or done end
  end
  if remove then
    local done = redis.pcall('DEL', key)
    if type(done) == 'table' then failed = failed or done else removed = removed + done end
  end
end
return failed or {removed, lost}"
    ))
});

/// Without memory for what is left of a set, the intent stays until its time has passed.
static WITHDRAW: LazyLock<Text> = LazyLock::new(|| {
    Text::new(intents!(
        "local failed
for _, key in ipairs(KEYS) do
  local set = read(key, ARGV[1])
  if set and set.own then
    local done
    if #set.others > 0 then done = write(key, set) else done = redis.pcall('DEL', key) end
    if type(done) == 'table' and done.err then failed = failed or done end
  end
end
return failed or redis.status_reply('OK')"
    ))
});
