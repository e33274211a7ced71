//! The header in front of every value, and the two things a Redis key of ours may hold: a value or a lease.
//!
//! A value is [`HEADER_BYTES`] of header and the payload; a lease is [`LEASE_BYTES`] long. Whatever does not match in
//! a header is a miss with a named [`Mismatch`], never an error and never a wrong row.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use xxhash_rust::xxh3::{Xxh3, xxh3_64};

/// Length of the header of a value.
pub const HEADER_BYTES: usize = 80;

/// Length of a lease.
pub const LEASE_BYTES: usize = 4 + 16;

/// The version of the layout below.
pub const FORMAT_VERSION: u8 = 1;

/// The codec of payloads written today: bincode 2, fixed-width little-endian integers.
pub const CODEC_BINCODE2_FIXINT: u8 = 1;

const MAGIC: [u8; 2] = *b"SH";
const KIND_VALUE: u8 = b'V';
const KIND_LEASE: u8 = b'L';
const FLAG_ABSENT: u8 = 1;

/// A lease token: 64 random bits of the instance and a counter, so that none is ever used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Token {
    /// The random id of the instance that made it.
    pub instance: u64,
    /// The instance's counter.
    pub serial: u64,
}

impl Token {
    /// The bytes that stand in the key while the lease is held.
    pub fn to_lease(self) -> [u8; LEASE_BYTES] {
        let mut out = [0; LEASE_BYTES];
        out[..2].copy_from_slice(&MAGIC);
        out[2] = FORMAT_VERSION;
        out[3] = KIND_LEASE;
        out[4..12].copy_from_slice(&self.instance.to_le_bytes());
        out[12..].copy_from_slice(&self.serial.to_le_bytes());
        out
    }
}

/// What a reader expects of a value.
#[derive(Clone, Copy, Debug)]
pub struct Expected {
    /// The model's schema fingerprint.
    pub schema: u64,
    /// [`identity`] of the full key.
    pub identity: u64,
    /// The incarnation of the server the value was read from.
    pub incarnation: u64,
    /// The reader's wall clock.
    pub now: Millis,
}

/// What a writer stamps on a value.
#[derive(Clone, Copy, Debug)]
pub struct Stamp {
    /// The model's schema fingerprint.
    pub schema: u64,
    /// [`identity`] of the full key.
    pub identity: u64,
    /// The incarnation of the server that granted the lease.
    pub incarnation: u64,
    /// The token of the lease the value was filled under.
    pub token: Token,
    /// After this the value is a miss.
    pub expires: Millis,
    /// After this the value should be refreshed ahead of its expiry.
    pub refresh: Millis,
    /// Whether this says "there is no such row".
    pub absent: bool,
}

/// Milliseconds since the Unix epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Millis(pub u64);

impl Millis {
    /// The wall clock.
    pub fn now() -> Self {
        Self(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64))
    }

    /// This time and `after`.
    #[must_use]
    pub fn plus(self, after: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(after.as_millis()).unwrap_or(u64::MAX)))
    }

    /// How long until this time.
    pub fn since(self, now: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(now.0))
    }
}

/// What stands under a key.
#[derive(Debug, PartialEq, Eq)]
pub enum Content<'a> {
    /// A current value.
    Value(Value<'a>),
    /// A lease; its holder may fill the key.
    Lease(Token),
    /// Bytes that must not be served.
    Unusable(Mismatch),
}

/// A value whose header was checked.
#[derive(Debug, PartialEq, Eq)]
pub struct Value<'a> {
    /// The encoded row; `None` for the marker of an absent row.
    pub payload: Option<&'a [u8]>,
    /// When the value ends.
    pub expires: Millis,
    /// When it should be refreshed.
    pub refresh: Millis,
    /// The token of the lease it was filled under.
    pub token: Token,
}

/// Why bytes under a key are not served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mismatch {
    /// The checksum differs.
    Checksum,
    /// Written by another codec, or with a flag that is not known here.
    Codec,
    /// Past its expiry.
    Expired,
    /// No entry of ours, or of another format version.
    Format,
    /// The entry of another key.
    Identity,
    /// Filled on another incarnation of the server.
    Incarnation,
    /// Filled by another version of the model.
    Schema,
}

/// The digest of a full key that its entry carries: an answer that belongs to another key is recognised by it.
pub fn identity(key: &str) -> u64 {
    xxh3_64(key.as_bytes())
}

/// The schema fingerprint that a value carries; `None` when the bytes are no value.
pub fn schema_of(bytes: &[u8]) -> Option<u64> {
    (bytes.len() >= HEADER_BYTES && bytes[..2] == MAGIC && bytes[3] == KIND_VALUE).then(|| word(bytes, 8))
}

/// Starts a value: header with room for length and checksum, to be completed by [`seal`].
pub fn open(stamp: &Stamp, capacity: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEADER_BYTES + capacity);
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&[FORMAT_VERSION, KIND_VALUE, CODEC_BINCODE2_FIXINT]);
    out.push(if stamp.absent { FLAG_ABSENT } else { 0 });
    out.extend_from_slice(&[0, 0]);
    for word in [
        stamp.schema,
        stamp.identity,
        stamp.incarnation,
        stamp.token.instance,
        stamp.token.serial,
        stamp.expires.0,
        stamp.refresh.0,
    ] {
        out.extend_from_slice(&word.to_le_bytes());
    }
    out.extend_from_slice(&[0; 16]);
    out
}

/// Completes a value whose payload was appended: writes length and checksum.
pub fn seal(bytes: &mut [u8]) {
    let length = (bytes.len() - HEADER_BYTES) as u64;
    bytes[64..72].copy_from_slice(&length.to_le_bytes());
    let sum = checksum(bytes);
    bytes[72..80].copy_from_slice(&sum.to_le_bytes());
}

/// Reads what stands under a key.
pub fn parse<'a>(bytes: &'a [u8], expected: &Expected) -> Content<'a> {
    if bytes.len() < 4 || bytes[..2] != MAGIC || bytes[2] != FORMAT_VERSION {
        return Content::Unusable(Mismatch::Format);
    }
    match bytes[3] {
        KIND_LEASE if bytes.len() == LEASE_BYTES => {
            Content::Lease(Token { instance: word(bytes, 4), serial: word(bytes, 12) })
        }
        KIND_VALUE if bytes.len() >= HEADER_BYTES => value(bytes, expected),
        _ => Content::Unusable(Mismatch::Format),
    }
}

fn value<'a>(bytes: &'a [u8], expected: &Expected) -> Content<'a> {
    let payload = &bytes[HEADER_BYTES..];
    let expires = Millis(word(bytes, 48));
    let mismatch = if word(bytes, 64) != payload.len() as u64 || word(bytes, 72) != checksum(bytes) {
        Mismatch::Checksum
    } else if word(bytes, 16) != expected.identity {
        // Before the schema: the entry of another store under this key speaks against the connection, not the entry.
        Mismatch::Identity
    } else if bytes[4] != CODEC_BINCODE2_FIXINT || bytes[5] & !FLAG_ABSENT != 0 {
        Mismatch::Codec
    } else if word(bytes, 8) != expected.schema {
        Mismatch::Schema
    } else if word(bytes, 24) != expected.incarnation {
        Mismatch::Incarnation
    } else if expires <= expected.now {
        Mismatch::Expired
    } else {
        return Content::Value(Value {
            payload: (bytes[5] & FLAG_ABSENT == 0).then_some(payload),
            expires,
            refresh: Millis(word(bytes, 56)),
            token: Token { instance: word(bytes, 32), serial: word(bytes, 40) },
        });
    };
    Content::Unusable(mismatch)
}

fn word(bytes: &[u8], at: usize) -> u64 {
    let mut out = [0; 8];
    out.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(out)
}

fn checksum(bytes: &[u8]) -> u64 {
    let mut sum = Xxh3::new();
    sum.update(&bytes[..72]);
    sum.update(&bytes[HEADER_BYTES..]);
    sum.digest()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOW: Millis = Millis(1_000_000);

    fn stamp() -> Stamp {
        Stamp {
            schema: 1,
            identity: identity("g:s:1"),
            incarnation: 3,
            token: Token { instance: 4, serial: 5 },
            expires: NOW.plus(Duration::from_secs(60)),
            refresh: NOW.plus(Duration::from_secs(48)),
            absent: false,
        }
    }

    fn expected() -> Expected {
        Expected { schema: 1, identity: identity("g:s:1"), incarnation: 3, now: NOW }
    }

    fn sealed(stamp: &Stamp, payload: &[u8]) -> Vec<u8> {
        let mut bytes = open(stamp, payload.len());
        bytes.extend_from_slice(payload);
        seal(&mut bytes);
        bytes
    }

    #[test]
    fn each_mismatch_is_named() {
        let bytes = sealed(&stamp(), b"row");
        let unusable = |expected: Expected| match parse(&bytes, &expected) {
            Content::Unusable(mismatch) => mismatch,
            other => panic!("served {other:?}"),
        };
        assert_eq!(unusable(Expected { schema: 2, ..expected() }), Mismatch::Schema);
        assert_eq!(unusable(Expected { identity: 2, ..expected() }), Mismatch::Identity);
        assert_eq!(unusable(Expected { incarnation: 2, ..expected() }), Mismatch::Incarnation);
        assert_eq!(unusable(Expected { now: NOW.plus(Duration::from_secs(60)), ..expected() }), Mismatch::Expired);
        assert_eq!(parse(b"", &expected()), Content::Unusable(Mismatch::Format));
        assert_eq!(parse(b"some other program's value", &expected()), Content::Unusable(Mismatch::Format));
    }

    #[test]
    fn the_entry_of_another_store_is_one_of_another_key() {
        let bytes = sealed(&Stamp { schema: 2, identity: identity("g:t:1"), ..stamp() }, b"row");
        assert_eq!(parse(&bytes, &expected()), Content::Unusable(Mismatch::Identity));
    }

    #[test]
    fn a_flag_of_a_later_version_is_a_miss() {
        let mut bytes = open(&stamp(), 3);
        bytes[5] |= 2;
        bytes.extend_from_slice(b"row");
        seal(&mut bytes);
        assert_eq!(parse(&bytes, &expected()), Content::Unusable(Mismatch::Codec));
    }

    #[test]
    fn a_lease_is_its_token() {
        let token = Token { instance: u64::MAX, serial: 9 };
        assert_eq!(parse(&token.to_lease(), &expected()), Content::Lease(token));
    }

    #[test]
    fn the_absent_marker_has_no_payload() {
        let bytes = sealed(&Stamp { absent: true, ..stamp() }, b"");
        assert!(matches!(parse(&bytes, &expected()), Content::Value(Value { payload: None, .. })));
    }

    proptest! {
        #[test]
        fn values_round_trip(payload: Vec<u8>) {
            let bytes = sealed(&stamp(), &payload);
            let Content::Value(value) = parse(&bytes, &expected()) else { panic!("not served") };
            prop_assert_eq!(value.payload, Some(&*payload));
            prop_assert_eq!(value.token, stamp().token);
            prop_assert_eq!((value.expires, value.refresh), (stamp().expires, stamp().refresh));
        }

        #[test]
        fn any_flipped_bit_is_a_miss(payload in proptest::collection::vec(any::<u8>(), 0..64), at: usize, bit in 0..8u32) {
            let mut bytes = sealed(&stamp(), &payload);
            let at = at % bytes.len();
            bytes[at] ^= 1u8 << bit;
            prop_assert!(!matches!(parse(&bytes, &expected()), Content::Value(_)));
        }

        #[test]
        fn random_bytes_are_never_a_value(bytes: Vec<u8>) {
            prop_assert!(!matches!(parse(&bytes, &expected()), Content::Value(_)));
        }

        #[test]
        fn truncation_is_a_miss(payload: Vec<u8>, cut: usize) {
            let bytes = sealed(&stamp(), &payload);
            prop_assert!(!matches!(parse(&bytes[..cut % bytes.len()], &expected()), Content::Value(_)));
        }
    }
}
