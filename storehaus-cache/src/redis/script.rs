//! The compare-and-set scripts. Each touches one key, and answers an error of the server with that error.

use std::sync::LazyLock;

use redis::{Cmd, Pipeline, Script, Value, cmd};

use crate::codec::header::Token;
use crate::l2::L2Error;

/// One call of a script on one key.
pub(super) struct Call {
    script: &'static Text,
    key: Vec<u8>,
    args: Vec<Vec<u8>>,
}

impl Call {
    /// The call by the digest of the script.
    pub(super) fn by_hash(&self) -> Cmd {
        self.complete(cmd("EVALSHA"), self.script.script.get_hash())
    }

    /// The call by the text of the script, which also makes the server remember it.
    pub(super) fn by_text(&self) -> Cmd {
        self.complete(cmd("EVAL"), self.script.text)
    }

    fn complete(&self, mut command: Cmd, script: &str) -> Cmd {
        command.arg(script).arg(1).arg(&self.key[..]);
        for arg in &self.args {
            command.arg(&arg[..]);
        }
        command
    }
}

/// Stores a value where the lease still stands: 1 if it did, 0 if not.
pub(super) fn fill(key: &str, token: Token, value: &[u8], ttl_millis: u64) -> Call {
    call(&FILL, key, vec![token.to_lease().to_vec(), value.to_vec(), ttl_millis.to_string().into_bytes()])
}

/// Removes the lease if it still stands.
pub(super) fn release(key: &str, token: Token) -> Call {
    call(&RELEASE, key, vec![token.to_lease().to_vec()])
}

/// Places a lease where nothing stands or what stands starts with `seen`: nil if it did, the content if not.
pub(super) fn replace(key: &str, seen: &[u8], token: Token, ttl_millis: u64) -> Call {
    call(&REPLACE, key, vec![seen.to_vec(), token.to_lease().to_vec(), ttl_millis.to_string().into_bytes()])
}

/// Appends one `SCRIPT LOAD` per script.
pub(super) fn load_all(pipeline: &mut Pipeline) {
    for text in [&*FILL, &*RELEASE, &*REPLACE] {
        pipeline.cmd("SCRIPT").arg("LOAD").arg(text.text);
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

fn call(script: &'static LazyLock<Text>, key: &str, args: Vec<Vec<u8>>) -> Call {
    Call { script, key: key.as_bytes().to_vec(), args }
}

static FILL: LazyLock<Text> = LazyLock::new(|| {
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
if type(content) == 'table' then return content end
if content and string.sub(content, 1, #ARGV[1]) ~= ARGV[1] then return content end
local done = redis.pcall('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
if done.err then return done end
return false",
    )
});
