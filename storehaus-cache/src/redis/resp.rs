//! RESP2, the protocol of Redis: commands out, replies in.
//!
//! Replies come from a server that may be broken or hostile: no length in them makes anything be allocated before the
//! bytes are there, nesting is bounded, and a reply that arrives in parts is measured once.

use bytes::Bytes;

/// A reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Value {
    Nil,
    Int(i64),
    Bulk(Bytes),
    Text(String),
    Error(String),
    Array(Vec<Self>),
}

/// Bytes that are no reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed;

/// Commands for one round trip.
#[derive(Debug, Default)]
pub(super) struct Commands {
    pub(super) bytes: Vec<u8>,
    /// How many they are.
    pub(super) count: usize,
}

impl Commands {
    /// Appends one command.
    pub(super) fn add(&mut self, parts: &[&[u8]]) {
        command(&mut self.bytes, parts);
        self.count += 1;
    }

    /// Appends one command that `encode` writes.
    pub(super) fn with(&mut self, encode: impl FnOnce(&mut Vec<u8>)) {
        encode(&mut self.bytes);
        self.count += 1;
    }

    /// Begins a command of `parts` arguments, its name included; they are to be appended.
    pub(super) fn begin(&mut self, parts: usize) -> &mut Vec<u8> {
        begin(&mut self.bytes, parts);
        self.count += 1;
        &mut self.bytes
    }
}

/// Appends one command.
pub(super) fn command(out: &mut Vec<u8>, parts: &[&[u8]]) {
    begin(out, parts.len());
    parts.iter().for_each(|part| argument(out, part));
}

/// Begins a command of `parts` arguments, its name included.
pub(super) fn begin(out: &mut Vec<u8>, parts: usize) {
    out.push(b'*');
    decimal(out, parts as u64);
    out.extend_from_slice(b"\r\n");
}

/// Appends one argument.
pub(super) fn argument(out: &mut Vec<u8>, bytes: &[u8]) {
    out.push(b'$');
    decimal(out, bytes.len() as u64);
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(bytes);
    out.extend_from_slice(b"\r\n");
}

/// Appends a number as an argument.
pub(super) fn number(out: &mut Vec<u8>, n: u64) {
    let mut buffer = [0; DIGITS];
    argument(out, digits(n, &mut buffer));
}

fn decimal(out: &mut Vec<u8>, n: u64) {
    let mut buffer = [0; DIGITS];
    out.extend_from_slice(digits(n, &mut buffer));
}

fn digits(mut n: u64, buffer: &mut [u8; DIGITS]) -> &[u8] {
    let mut at = DIGITS;
    loop {
        at -= 1;
        buffer[at] = b'0' + (n % 10) as u8;
        n /= 10;
        if n == 0 {
            return &buffer[at..];
        }
    }
}

/// Measures the reply at the start of a buffer that grows: what was measured is not looked at again.
#[derive(Debug, Default)]
pub(super) struct Measure {
    at: usize,
    /// How many items are still to come in each of the arrays that are open, the innermost last.
    open: [usize; MAX_DEPTH],
    depth: usize,
}

impl Measure {
    /// The reply at the start of `bytes` and its length; `None` while it is not complete. `bytes` begins with what it was
    /// at the last call, unless that found a reply.
    pub(super) fn parse(&mut self, bytes: &[u8]) -> Result<Option<(Value, usize)>, Malformed> {
        while let Some((end, items)) = element(bytes, self.at)? {
            self.at = end;
            if items > 0 {
                *self.open.get_mut(self.depth).ok_or(Malformed)? = items;
                self.depth += 1;
                continue;
            }
            while self.depth > 0 {
                self.open[self.depth - 1] -= 1;
                if self.open[self.depth - 1] > 0 {
                    break;
                }
                self.depth -= 1;
            }
            if self.depth == 0 {
                self.at = 0;
                let value = if end < SHARED_FROM {
                    build(bytes, &mut 0, &|body| Bytes::copy_from_slice(body))
                } else {
                    let reply = Bytes::copy_from_slice(&bytes[..end]);
                    build(&reply, &mut 0, &|body| reply.slice_ref(body))
                }
                .ok_or(Malformed)?;
                return Ok(Some((value, end)));
            }
        }
        Ok(None)
    }
}

/// Where the element at `at` ends, of an array its first line, and how many items of an array follow.
fn element(bytes: &[u8], at: usize) -> Result<Option<(usize, usize)>, Malformed> {
    let Some(&kind) = bytes.get(at) else { return Ok(None) };
    if !b"+-:$*".contains(&kind) {
        return Err(Malformed);
    }
    let Some((line, next)) = line(bytes, at + 1)? else { return Ok(None) };
    match kind {
        b'+' | b'-' => Ok(Some((next, 0))),
        b':' => integer(line).map(|_| Some((next, 0))),
        b'$' => match integer(line)? {
            -1 => Ok(Some((next, 0))),
            length @ 0..=MAX_BULK => {
                let end = next + length as usize;
                match bytes.get(end..end + 2) {
                    Some(b"\r\n") => Ok(Some((end + 2, 0))),
                    Some(_) => Err(Malformed),
                    None => Ok(None),
                }
            }
            _ => Err(Malformed),
        },
        b'*' => match integer(line)? {
            -1 => Ok(Some((next, 0))),
            items @ 0..=MAX_ITEMS => Ok(Some((next, items as usize))),
            _ => Err(Malformed),
        },
        _ => Err(Malformed),
    }
}

/// The reply at `at`, which was measured.
fn build(bytes: &[u8], at: &mut usize, own: &impl Fn(&[u8]) -> Bytes) -> Option<Value> {
    let kind = *bytes.get(*at)?;
    let (line, next) = line(bytes, *at + 1).ok()??;
    *at = next;
    Some(match kind {
        b'+' => Value::Text(String::from_utf8_lossy(line).into_owned()),
        b'-' => Value::Error(String::from_utf8_lossy(line).into_owned()),
        b':' => Value::Int(integer(line).ok()?),
        b'$' => match usize::try_from(integer(line).ok()?) {
            Ok(length) => {
                let body = bytes.get(next..next + length)?;
                *at = next + length + 2;
                Value::Bulk(own(body))
            }
            Err(_) => Value::Nil,
        },
        b'*' => match usize::try_from(integer(line).ok()?) {
            Ok(count) => Value::Array((0..count).map(|_| build(bytes, at, own)).collect::<Option<_>>()?),
            Err(_) => Value::Nil,
        },
        _ => return None,
    })
}

/// The text up to the next line end, and where the next line begins.
fn line(bytes: &[u8], from: usize) -> Result<Option<(&[u8], usize)>, Malformed> {
    let rest = bytes.get(from..).unwrap_or_default();
    match rest.iter().take(MAX_LINE).position(|byte| *byte == b'\r') {
        Some(end) => match rest.get(end + 1) {
            Some(b'\n') => Ok(Some((&rest[..end], from + end + 2))),
            Some(_) => Err(Malformed),
            None => Ok(None),
        },
        None if rest.len() >= MAX_LINE => Err(Malformed),
        None => Ok(None),
    }
}

fn integer(digits: &[u8]) -> Result<i64, Malformed> {
    let (negative, digits) = match digits {
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    if digits.is_empty() || digits.len() > 19 {
        return Err(Malformed);
    }
    let mut n: i64 = 0;
    for digit in digits {
        if !digit.is_ascii_digit() {
            return Err(Malformed);
        }
        n = n.checked_mul(10).and_then(|n| n.checked_add(i64::from(digit - b'0'))).ok_or(Malformed)?;
    }
    Ok(if negative { -n } else { n })
}

/// The longest decimal number.
const DIGITS: usize = 20;
/// The server's own limit of one value.
const MAX_BULK: i64 = 512 << 20;
/// Far more than any command here asks for.
const MAX_ITEMS: i64 = 1 << 24;
const MAX_DEPTH: usize = 8;
/// The parts of a reply from so many bytes on share one allocation.
const SHARED_FROM: usize = 4 << 10;
const MAX_LINE: usize = 64 << 10;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(bytes: &[u8]) -> Result<Option<(Value, usize)>, Malformed> {
        Measure::default().parse(bytes)
    }

    fn write(value: &Value, out: &mut Vec<u8>) {
        match value {
            Value::Nil => out.extend_from_slice(b"$-1\r\n"),
            Value::Int(n) => out.extend_from_slice(format!(":{n}\r\n").as_bytes()),
            Value::Bulk(bytes) => argument(out, bytes),
            Value::Text(text) => out.extend_from_slice(format!("+{text}\r\n").as_bytes()),
            Value::Error(text) => out.extend_from_slice(format!("-{text}\r\n").as_bytes()),
            Value::Array(items) => {
                begin(out, items.len());
                items.iter().for_each(|item| write(item, out));
            }
        }
    }

    fn values() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Nil),
            (-i64::MAX..).prop_map(Value::Int),
            proptest::collection::vec(any::<u8>(), 0..80).prop_map(|bytes| Value::Bulk(bytes.into())),
            "[ -~]{0,40}".prop_map(Value::Text),
            "[A-Z]{1,9} [ -~]{0,40}".prop_map(Value::Error),
        ];
        leaf.prop_recursive(4, 40, 10, |item| proptest::collection::vec(item, 0..10).prop_map(Value::Array))
    }

    proptest! {
        #[test]
        fn a_reply_is_read_back_from_any_cut(value in values(), behind in proptest::collection::vec(any::<u8>(), 0..20)) {
            let mut bytes = Vec::new();
            write(&value, &mut bytes);
            // Byte by byte, and in two parts cut anywhere.
            let mut grown = Measure::default();
            for cut in 0..bytes.len() {
                prop_assert_eq!(grown.parse(&bytes[..cut]), Ok(None));
                let mut halves = Measure::default();
                prop_assert_eq!(halves.parse(&bytes[..cut]), Ok(None));
                prop_assert_eq!(halves.parse(&bytes), Ok(Some((value.clone(), bytes.len()))));
            }
            let length = bytes.len();
            bytes.extend_from_slice(&behind);
            prop_assert_eq!(grown.parse(&bytes), Ok(Some((value.clone(), length))));
            // What was measured is forgotten with the reply.
            prop_assert_eq!(grown.parse(&bytes[..length]), Ok(Some((value, length))));
        }

        #[test]
        fn hostile_bytes_are_refused_or_read(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(Some((_, length))) = parse(&bytes) {
                prop_assert!(length <= bytes.len());
            }
        }

        #[test]
        fn almost_replies_are_refused_or_read(text in "[-+:$*0-9\r\n]{0,40}", cut in 0usize..40) {
            let whole = parse(text.as_bytes());
            if let Ok(Some((_, length))) = &whole {
                prop_assert!(*length <= text.len());
            }
            // In two parts it is the same.
            let mut parts = Measure::default();
            if let Ok(None) = parts.parse(&text.as_bytes()[..cut.min(text.len())]) {
                prop_assert_eq!(parts.parse(text.as_bytes()), whole);
            }
        }
    }

    #[test]
    fn a_large_reply_is_read_back_from_any_cut() {
        let part = |n: usize| Value::Bulk(vec![n as u8; n % 300].into());
        let items = [Value::Nil, Value::Text("OK".to_owned()), Value::Array(vec![part(7), Value::Nil])];
        let reply = Value::Array((0..SHARED_FROM / 10).map(part).chain(items).collect());
        let mut bytes = Vec::new();
        write(&reply, &mut bytes);
        assert!(bytes.len() > SHARED_FROM);
        let length = bytes.len();
        bytes.extend_from_slice(b"+next");
        let mut grown = Measure::default();
        for cut in (0..length).step_by(777) {
            assert_eq!(grown.parse(&bytes[..cut]), Ok(None));
        }
        assert_eq!(grown.parse(&bytes), Ok(Some((reply, length))));
    }

    #[test]
    fn lengths_that_no_reply_has_are_refused() {
        for hostile in [
            "$1099511627776\r\n",
            "*1099511627776\r\n",
            "$9999999999999999999\r\n",
            "$-2\r\n",
            "*-2\r\n",
            ":1x\r\n",
            ":\r\n",
            "%",
            "%1\r\n",
            "$1\r\nab\r\n",
            "+a\rb",
        ] {
            assert_eq!(parse(hostile.as_bytes()), Err(Malformed), "{hostile}");
        }
        assert_eq!(parse(&vec![b'+'; MAX_LINE + 2]), Err(Malformed));
    }

    #[test]
    fn nesting_is_bounded() {
        let nested = |depth: usize| format!("{}:1\r\n", "*1\r\n".repeat(depth));
        assert!(matches!(parse(nested(MAX_DEPTH).as_bytes()), Ok(Some((Value::Array(_), _)))));
        assert_eq!(parse(nested(MAX_DEPTH + 1).as_bytes()), Err(Malformed));
        assert_eq!(parse("*1\r\n".repeat(100_000).as_bytes()), Err(Malformed));
        // One that is announced and does not come is waited for, and costs nothing.
        assert_eq!(parse(b"*16777216\r\n:1\r\n"), Ok(None));
    }

    #[test]
    fn a_command_is_an_array_of_its_arguments() {
        let mut out = Vec::new();
        command(&mut out, &[b"SET", b"key", b""]);
        begin(&mut out, 1);
        number(&mut out, 1_230);
        number(&mut out, u64::MAX);
        let text = "*3\r\n$3\r\nSET\r\n$3\r\nkey\r\n$0\r\n\r\n*1\r\n$4\r\n1230\r\n$20\r\n18446744073709551615\r\n";
        assert_eq!(String::from_utf8(out).unwrap(), text);
    }
}
