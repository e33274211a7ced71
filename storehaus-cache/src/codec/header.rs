//! The header in front of every value, and the three things a Redis key of ours may hold: a value, a lease, or intents.
//!
//! A value is [`HEADER_BYTES`] of header and the payload; a lease is [`LEASE_BYTES`] long; intents are
//! [`INTENTS_BYTES`] and [`INTENT_BYTES`] for each writer. Whatever does not match in
//! a header is a miss with a named [`Mismatch`], never an error and never a wrong row.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

#[cfg(storehaus_broken)]
use crate::broken::{self, Bug};
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

/// Length of the header of a value.
pub const HEADER_BYTES: usize = 88;

/// Length of a lease.
pub const LEASE_BYTES: usize = 4 + 16;

/// Length of what stands before the entries of intents: magic, version and kind, a byte that says whether a writer met
/// another since the first one came, and a counter of modifications.
pub const INTENTS_BYTES: usize = 4 + 1 + 4;

/// Length of the entry of one writer: its token, and the end of its intent on the server's clock.
pub const INTENT_BYTES: usize = 16 + 8;

/// The version of the layout below.
pub const FORMAT_VERSION: u8 = 1;

/// The codec of payloads written today: bincode 2, fixed-width little-endian integers.
pub const CODEC_BINCODE2_FIXINT: u8 = 1;

const MAGIC: [u8; 2] = *b"SH";
const KIND_VALUE: u8 = b'V';
const KIND_LEASE: u8 = b'L';
const KIND_INTENTS: u8 = b'I';
const FLAG_ABSENT: u8 = 1;

/// The token of a lease or an intent: 64 random bits of the instance and a counter, so that none is
/// ever placed twice under a key. Keys that are leased or announced together share one.
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
        out[4..].copy_from_slice(&self.to_bytes());
        out
    }

    /// The bytes that stand for it in a lease and in intents.
    pub fn to_bytes(self) -> [u8; 16] {
        let mut out = [0; 16];
        out[..8].copy_from_slice(&self.instance.to_le_bytes());
        out[8..].copy_from_slice(&self.serial.to_le_bytes());
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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
    /// When it was filled, by the filler's clock.
    pub filled: Millis,
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
    /// Writes of the row are under way, or were when their writers died: it is read from the database, and not kept.
    Intents(Intents<'a>),
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

/// The writers of a row, as its key names them. Some of them may be over: an entry whose time has passed is removed by
/// the next writer, and the key ends with the longest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Intents<'a> {
    /// Whether one of them was not alone since it came.
    pub shared: bool,
    /// How often the set was changed; wraps around.
    pub changes: u32,
    entries: &'a [u8],
}

impl Intents<'_> {
    /// How many writers.
    pub fn writers(&self) -> usize {
        self.entries.len() / INTENT_BYTES
    }

    /// Each token, and when its intent ends on the server's clock.
    pub fn entries(&self) -> impl Iterator<Item = (Token, Millis)> {
        self.entries
            .chunks_exact(INTENT_BYTES)
            .map(|entry| (Token { instance: word(entry, 0), serial: word(entry, 8) }, Millis(word(entry, 16))))
    }
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

/// What the header of a value says, whether or not it is to be believed; `None` when the bytes are no value of this
/// format.
pub fn stamp_of(bytes: &[u8]) -> Option<Stamp> {
    let is_value =
        bytes.len() >= HEADER_BYTES && bytes[..2] == MAGIC && bytes[2] == FORMAT_VERSION && bytes[3] == KIND_VALUE;
    is_value.then(|| Stamp {
        schema: word(bytes, 8),
        identity: word(bytes, 16),
        incarnation: word(bytes, 24),
        token: Token { instance: word(bytes, 32), serial: word(bytes, 40) },
        expires: Millis(word(bytes, 48)),
        refresh: Millis(word(bytes, 56)),
        filled: Millis(word(bytes, 64)),
        absent: bytes[5] & FLAG_ABSENT != 0,
    })
}

/// Whether a header, or a whole value, is of the value that `token` names: one that [`parse`] would serve, provided that it
/// did when that value was read whole.
pub fn is_still(bytes: &[u8], token: Token, expected: &Expected) -> bool {
    bytes.len() >= HEADER_BYTES
        && bytes[..2] == MAGIC
        && bytes[2..4] == [FORMAT_VERSION, KIND_VALUE]
        && word(bytes, 8) == expected.schema
        && word(bytes, 16) == expected.identity
        && word(bytes, 24) == expected.incarnation
        && (Token { instance: word(bytes, 32), serial: word(bytes, 40) }) == token
        && Millis(word(bytes, 48)) > expected.now
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
        stamp.filled.0,
    ] {
        out.extend_from_slice(&word.to_le_bytes());
    }
    out.extend_from_slice(&[0; 16]);
    out
}

/// Completes a value whose payload was appended: writes length and checksum.
pub fn seal(bytes: &mut [u8]) {
    let length = (bytes.len() - HEADER_BYTES) as u64;
    bytes[72..80].copy_from_slice(&length.to_le_bytes());
    let sum = checksum(bytes);
    bytes[80..HEADER_BYTES].copy_from_slice(&sum.to_le_bytes());
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
        KIND_INTENTS if bytes.len() > INTENTS_BYTES && (bytes.len() - INTENTS_BYTES).is_multiple_of(INTENT_BYTES) => {
            Content::Intents(Intents {
                shared: bytes[4] != 0,
                changes: u32::from_le_bytes([bytes[5], bytes[6], bytes[7], bytes[8]]),
                entries: &bytes[INTENTS_BYTES..],
            })
        }
        _ => Content::Unusable(Mismatch::Format),
    }
}

fn value<'a>(bytes: &'a [u8], expected: &Expected) -> Content<'a> {
    #[cfg(storehaus_broken)]
    let expected = &Expected {
        identity: if broken::is(Bug::IdentityOff) { word(bytes, 16) } else { expected.identity },
        incarnation: if broken::is(Bug::IncarnationOff) { word(bytes, 24) } else { expected.incarnation },
        ..*expected
    };
    let payload = &bytes[HEADER_BYTES..];
    let expires = Millis(word(bytes, 48));
    let mismatch = if word(bytes, 72) != payload.len() as u64 || word(bytes, 80) != checksum(bytes) {
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
    sum.update(&bytes[..80]);
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
            filled: NOW,
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
    fn a_header_tells_whether_the_value_is_still_the_same() {
        let bytes = sealed(&stamp(), b"row");
        let (head, token) = (&bytes[..HEADER_BYTES], stamp().token);
        assert!(is_still(head, token, &expected()) && is_still(&bytes, token, &expected()));
        for other in [Token { instance: 5, ..token }, Token { serial: 6, ..token }] {
            assert!(!is_still(head, other, &expected()));
        }
        for other in [
            Expected { schema: 2, ..expected() },
            Expected { identity: 2, ..expected() },
            Expected { incarnation: 2, ..expected() },
            Expected { now: NOW.plus(Duration::from_secs(60)), ..expected() },
        ] {
            assert!(!is_still(head, token, &other));
        }
        assert!(!is_still(&token.to_lease(), token, &expected()));
        assert!(!is_still(&bytes[..HEADER_BYTES - 1], token, &expected()));
    }

    #[test]
    fn a_lease_is_its_token() {
        let token = Token { instance: u64::MAX, serial: 9 };
        assert_eq!(parse(&token.to_lease(), &expected()), Content::Lease(token));
    }

    #[test]
    fn intents_name_their_writers() {
        let (one, two) = (Token { instance: 1, serial: 2 }, Token { instance: 3, serial: u64::MAX });
        let mut bytes = b"SH\x01I\x01\x07\0\0\0".to_vec();
        assert_eq!(parse(&bytes, &expected()), Content::Unusable(Mismatch::Format), "a set of nobody");
        for (token, expires) in [(one, 5u64), (two, 6)] {
            bytes.extend_from_slice(&token.to_bytes());
            bytes.extend_from_slice(&expires.to_le_bytes());
        }
        let Content::Intents(intents) = parse(&bytes, &expected()) else { panic!("no intents") };
        assert_eq!((intents.shared, intents.changes, intents.writers()), (true, 7, 2));
        assert_eq!(intents.entries().collect::<Vec<_>>(), [(one, Millis(5)), (two, Millis(6))]);
        assert_eq!(parse(&bytes[..bytes.len() - 1], &expected()), Content::Unusable(Mismatch::Format));
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
            prop_assert_eq!(stamp_of(&bytes), Some(stamp()));
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
            prop_assert_eq!(stamp_of(&bytes), None);
        }

        #[test]
        fn truncation_is_a_miss(payload: Vec<u8>, cut: usize) {
            let bytes = sealed(&stamp(), &payload);
            prop_assert!(!matches!(parse(&bytes[..cut % bytes.len()], &expected()), Content::Value(_)));
        }
    }
}
