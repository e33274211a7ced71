//! The compare-and-set scripts. Each answers an error of the server with that error; all but one take several keys.

use std::sync::LazyLock;

use redis::Script;

#[cfg(storehaus_broken)]
use crate::broken::{self, Bug};
use crate::codec::header::Token;
use crate::l2::{Fill, L2Error};

use super::millis;
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

/// Stores each value whose lease still stands: per key 1 if it did, 0 if not.
pub(super) fn fill(fills: &[Fill]) -> Call<'_> {
    let leases = once_if_same(fills.iter().map(|fill| fill.token)).into_iter().map(Arg::Lease);
    let lives = fills.iter().map(|fill| Arg::Number(millis(fill.ttl)));
    let values = fills.iter().map(|fill| Arg::Bytes(&fill.value));
    call(&FILL, fills.iter().map(|fill| &fill.key), leases.chain(lives).chain(values).collect())
}

/// Removes each lease that still stands: how many did.
pub(super) fn release(leases: &[(String, Token)]) -> Call<'_> {
    let args = leases.iter().map(|(_, token)| Arg::Lease(*token)).collect();
    call(&RELEASE, leases.iter().map(|(key, _)| key), args)
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
    let tokens = once_if_same(keys.iter().map(|(_, token)| *token));
    Call {
        script: &CLEAR,
        keys: keys.iter().map(|(key, _)| key.as_ref()).collect(),
        args: tokens.into_iter().map(|token| token.map_or(Arg::Bytes(b""), Arg::Token)).collect(),
    }
}

/// The tokens; one that is the same for all is said once.
fn once_if_same<T: PartialEq>(tokens: impl Iterator<Item = T> + Clone) -> Vec<T> {
    let mut distinct: Vec<T> = tokens.clone().collect();
    distinct.dedup();
    if distinct.len() > 1 { tokens.collect() } else { distinct }
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

/// How a script begins: `contents` is what stands under the keys, `false` for nothing.
macro_rules! contents {
    ($($body:expr),*) => {
        concat!(
            "local contents
if #KEYS == 1 then
  contents = {redis.pcall('GET', KEYS[1])}
else
  contents = redis.pcall('MGET', unpack(KEYS))
  if contents.err then return contents end
end
",
            $($body),*
        )
    };
}

/// The lives and then the values come last, in the order of the keys.
static FILL: LazyLock<Text> = LazyLock::new(|| {
    #[cfg(storehaus_broken)]
    if broken::is(Bug::FillAnyway) {
        return Text::new(
            "local stored = {}
for at, key in ipairs(KEYS) do
  redis.call('SET', key, ARGV[#ARGV - #KEYS + at], 'PX', ARGV[#ARGV - 2 * #KEYS + at])
  stored[at] = 1
end
return stored",
        );
    }
    Text::new(contents!(
        "local call, args, values, stored = redis.pcall, ARGV, #ARGV - #KEYS, {}
local leases = values - #KEYS
for at, key in ipairs(KEYS) do
  stored[at] = 0
  if contents[at] == args[leases == 1 and 1 or at] then
    local done = call('SET', key, args[values + at], 'PX', args[leases + at])
    if done.err then return done end
    stored[at] = 1
  end
end
return stored"
    ))
});

static RELEASE: LazyLock<Text> = LazyLock::new(|| {
    Text::new(contents!(
        "local standing = {}
for at, key in ipairs(KEYS) do
  if contents[at] == ARGV[at] then standing[#standing + 1] = key end
end
if #standing == 0 then return 0 end
return redis.pcall('DEL', unpack(standing))"
    ))
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

/// What the scripts of intents have in common. `read` takes a content apart, as the writer of the token sees it: `others` are the entries of other writers
/// whose time has not passed, `last` is the end of the longest of them, `own` says whether the token's stands. `nil` for
/// anything but intents.
macro_rules! intents {
    ($body:literal) => {
        contents!(
            "local head = 'SH\\1I'
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local function read(content, token)
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

/// Most keys hold no intents, and get the same bytes.
static ANNOUNCE: LazyLock<Text> = LazyLock::new(|| {
    Text::new(intents!(
        "local ends, failed = now + tonumber(ARGV[2]), nil
local alone = head .. string.char(0) .. struct.pack('<I4', 1) .. ARGV[1] .. struct.pack('<I8', ends)
local text = string.format('%.0f', ends)
for at, key in ipairs(KEYS) do
  local set, done = read(contents[at], ARGV[1]), nil
  if set then
    if #set.others > 0 then
      set.shared = 1
    elseif not set.own then
      set.shared = 0
    end
    add(set, ARGV[1], ends)
    done = write(key, set)
  else
    done = redis.pcall('SET', key, alone, 'PXAT', text)
  end
  if done.err then failed = failed or done end
end
return failed or redis.status_reply('OK')"
    ))
});

static RENEW: LazyLock<Text> = LazyLock::new(|| {
    Text::new(intents!(
        "local ends, stood = now + tonumber(ARGV[2]), {}
for at, key in ipairs(KEYS) do
  local set = read(contents[at], ARGV[1])
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
        "local lost, gone, removed, failed, alone = 0, {}, 0, nil, nil
local one = #ARGV == 1 and ARGV[1]
for at, key in ipairs(KEYS) do
  local token, content, remove = one or ARGV[at], contents[at], true
  if one and alone and content == alone then
  elseif type(content) == 'string' and #content == 33 and string.sub(content, 1, 4) == head
    and string.sub(content, 10, 25) == token then
    alone = content
  else
    local set = read(content, token)
    if token ~= '' and not (set and set.own) then lost = lost + 1 end
    if set and #set.others > 0 then
      set.shared = 1
      local done = write(key, set)
      remove = done.err and string.sub(done.err, 1, 3) == 'OOM'
      if done.err and not remove then failed = failed or done end
    end
  end
  if remove then gone[#gone + 1] = key end
end
if #gone > 0 then
  removed = redis.pcall('DEL', unpack(gone))
  if type(removed) == 'table' then failed = failed or removed end
end
return failed or {removed, lost}"
    ))
});

/// Without memory for what is left of a set, the intent stays until its time has passed.
static WITHDRAW: LazyLock<Text> = LazyLock::new(|| {
    Text::new(intents!(
        "local gone, failed = {}, nil
for at, key in ipairs(KEYS) do
  local set = read(contents[at], ARGV[1])
  if set and set.own then
    if #set.others > 0 then
      local done = write(key, set)
      if done.err then failed = failed or done end
    else
      gone[#gone + 1] = key
    end
  end
end
if #gone > 0 then
  local done = redis.pcall('DEL', unpack(gone))
  if type(done) == 'table' then failed = failed or done end
end
return failed or redis.status_reply('OK')"
    ))
});
