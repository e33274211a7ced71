//! Cache keys: `<global>:<store>:<id>`, injective by construction.
//!
//! An id is written as text and every byte outside `[A-Za-z0-9_.-]` is percent-escaped, so an id can neither
//! contain the separator `:`, nor a glob character, nor the braces that pick a Redis Cluster slot, nor the `~`
//! that starts StoreHaus' own key families. The parts of a composite id are joined by `,`, which is escaped
//! inside a part. An id whose encoded form is longer than [`MAX_ID_BYTES`] is replaced by its SHA-256.

use std::borrow::{Borrow, Cow};
use std::fmt::{self, Debug, Write as _};
use std::hash::Hash;
use std::ops::Deref;

use sha2::{Digest, Sha256};
use uuid::Uuid;

/// An encoded id longer than this many bytes is replaced by `~h:` and the SHA-256 of the encoded form.
pub const MAX_ID_BYTES: usize = 512;

/// The longest accepted prefix (global or store), in bytes.
pub const MAX_PREFIX_BYTES: usize = 64;

/// A record key: what identifies one row of a table and one entry of the cache.
///
/// Implemented for `Uuid`, `i16`, `i32`, `i64`, `String`, for tuples of two to four keys (composite keys) and, by
/// `#[derive(Column)]`, for newtypes around them.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be the key of a model",
    note = "use `Uuid`, `i32`, `i64`, `String`, or a newtype around one of them with `#[derive(Column)]`"
)]
pub trait Key: KeyRef<Owned = Self> + Clone + Debug + 'static {
    /// Reads a key back from the text [`KeyRef::write`] produced; `None` when the text is no such key.
    fn parse(parts: &mut KeyParts<'_>) -> Option<Self>;
}

/// The borrowed form in which a key may be handed to a lookup: `str` for `String`, the key itself for all others.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a key that can be looked up",
    note = "pass a reference to the model's key type, or `&str` where the key is a `String`"
)]
pub trait KeyRef: Hash + Eq + Send + Sync {
    /// The key type this borrows from.
    type Owned: Key + Borrow<Self>;

    /// The owned key.
    fn to_key(&self) -> Self::Owned;

    /// Appends the escaped text of this key to `out`.
    fn write(&self, out: &mut KeyWriter);
}

/// Collects the parts of one id.
#[derive(Debug)]
pub struct KeyWriter {
    text: KeyText,
    start: usize,
    parts: usize,
}

impl KeyWriter {
    /// Appends one part, escaped.
    pub fn part(&mut self, text: &str) {
        if text.bytes().all(is_plain) {
            return self.push(text);
        }
        self.separate();
        let mut plain = 0;
        for (at, byte) in text.bytes().enumerate() {
            if !is_plain(byte) {
                // Empty within a longer character, else made of whole ones.
                self.text.push_str(text.get(plain..at).unwrap_or_default());
                self.text.push_str(escaped(byte, &mut [0; 3]));
                plain = at + 1;
            }
        }
        self.text.push_str(text.get(plain..).unwrap_or_default());
    }

    /// Appends one part whose text is known to need no escape: digits, `-`, hexadecimal.
    pub fn plain(&mut self, part: impl fmt::Display) {
        self.separate();
        // Only a part that fails by itself does.
        write!(self.text, "{part}").unwrap_or_else(|_| unreachable!("keys are written without failing"));
    }

    fn push(&mut self, plain: &str) {
        self.separate();
        self.text.push_str(plain);
    }

    fn separate(&mut self) {
        if self.parts > 0 {
            self.text.push_str(",");
        }
        self.parts += 1;
    }
}

/// The unescaped parts of an id's text, in order.
#[derive(Debug)]
pub struct KeyParts<'a> {
    rest: Option<&'a str>,
}

impl<'a> KeyParts<'a> {
    /// Splits the encoded text of an id.
    pub fn new(encoded: &'a str) -> Self {
        Self { rest: Some(encoded) }
    }

    /// The next part, unescaped; `None` when there is none or it is not valid.
    pub fn next_part(&mut self) -> Option<Cow<'a, str>> {
        let rest = self.rest?;
        let part = match rest.split_once(',') {
            Some((part, rest)) => {
                self.rest = Some(rest);
                part
            }
            None => {
                self.rest = None;
                rest
            }
        };
        unescape(part)
    }

    /// Whether every part was read.
    pub fn is_done(&self) -> bool {
        self.rest.is_none()
    }
}

/// The key prefix of one store, `<global>:<store>:`, and the only maker of its keys.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct KeySpace {
    prefix: Box<str>,
    global: usize,
}

impl KeySpace {
    /// Joins a global and a store prefix.
    ///
    /// # Errors
    /// The reason, when one of them is empty, longer than [`MAX_PREFIX_BYTES`] or has a character outside
    /// `[A-Za-z0-9_.-]`.
    pub fn new(global: &str, store: &str) -> Result<Self, String> {
        check_prefix("global prefix", global)?;
        check_prefix("store prefix", store)?;
        Ok(Self { prefix: format!("{global}:{store}:").into(), global: global.len() })
    }

    /// `<global>:<store>:`.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The store segment.
    pub fn store(&self) -> &str {
        &self.prefix[self.global + 1..self.prefix.len() - 1]
    }

    /// The full key of a record.
    pub fn key<Q: KeyRef + ?Sized>(&self, id: &Q) -> String {
        self.text(id).to_owned()
    }

    /// As [`key`](Self::key), without an allocation where the key is not unusually long.
    pub(crate) fn text<Q: KeyRef + ?Sized>(&self, id: &Q) -> KeyText {
        let mut text = KeyText::default();
        text.push_str(&self.prefix);
        let start = text.len();
        let mut writer = KeyWriter { text, start, parts: 0 };
        id.write(&mut writer);
        finish(writer)
    }
}

/// The encoded text of a key, without any prefix.
pub fn encode_id<Q: KeyRef + ?Sized>(id: &Q) -> String {
    id_text(id).to_owned()
}

/// As [`encode_id`], without an allocation where the text is not unusually long.
pub(crate) fn id_text<Q: KeyRef + ?Sized>(id: &Q) -> KeyText {
    let mut writer = KeyWriter { text: KeyText::default(), start: 0, parts: 0 };
    id.write(&mut writer);
    finish(writer)
}

/// The text of a key: in place while it is short.
pub(crate) struct KeyText {
    short: [u8; SHORT_BYTES],
    length: usize,
    /// Holds the text instead once it is longer.
    long: String,
}

impl KeyText {
    fn push_str(&mut self, text: &str) {
        let end = self.length + text.len();
        match self.short.get_mut(self.length..end).filter(|_| self.long.is_empty()) {
            Some(room) => room.copy_from_slice(text.as_bytes()),
            None => {
                if self.long.is_empty() {
                    self.long = self[..].to_owned();
                }
                self.long.push_str(text);
            }
        }
        self.length = end;
    }

    /// Cuts a text off that is longer than `length` and begins a character there.
    fn truncate(&mut self, length: usize) {
        if !self.long.is_empty() {
            self.long.truncate(length);
            let kept = std::mem::take(&mut self.long);
            self.length = 0;
            self.push_str(&kept);
        }
        self.length = length;
    }
}

impl Default for KeyText {
    fn default() -> Self {
        Self { short: [0; SHORT_BYTES], length: 0, long: String::new() }
    }
}

impl AsRef<str> for KeyText {
    fn as_ref(&self) -> &str {
        self
    }
}

impl Deref for KeyText {
    type Target = str;

    fn deref(&self) -> &str {
        if self.long.is_empty() {
            // Texts were appended, each as a whole.
            std::str::from_utf8(&self.short[..self.length]).unwrap_or_default()
        } else {
            &self.long
        }
    }
}

impl fmt::Write for KeyText {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.push_str(text);
        Ok(())
    }
}

impl Debug for KeyText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Debug::fmt(&**self, f)
    }
}

/// Reads a key from its encoded text; `None` when it is no key of this type (or was hashed for its length).
pub fn decode_id<K: Key>(encoded: &str) -> Option<K> {
    let mut parts = KeyParts::new(encoded);
    let key = K::parse(&mut parts)?;
    parts.is_done().then_some(key)
}

/// A key from the texts of its parts; `None` when they are no key of this type.
pub fn from_parts<K: Key>(parts: &[String]) -> Option<K> {
    let escaped: Vec<String> = parts.iter().map(|part| escape(part)).collect();
    decode_id(&escaped.join(","))
}

/// Checks a global or store prefix.
///
/// # Errors
/// The reason it is refused.
pub fn check_prefix(what: &str, prefix: &str) -> Result<(), String> {
    if prefix.is_empty() {
        return Err(format!("the {what} is empty; give it at least one character"));
    }
    if prefix.len() > MAX_PREFIX_BYTES {
        return Err(format!("the {what} is {} bytes long; at most {MAX_PREFIX_BYTES} are allowed", prefix.len()));
    }
    match prefix.chars().find(|c| !c.is_ascii() || !is_plain(*c as u8)) {
        Some(bad) => {
            Err(format!("the {what} has the character {bad:?}; only A-Z, a-z, 0-9, '_', '.' and '-' are allowed"))
        }
        None => Ok(()),
    }
}

fn finish(writer: KeyWriter) -> KeyText {
    let KeyWriter { mut text, start, .. } = writer;
    if text.len() - start > MAX_ID_BYTES {
        let digest = Sha256::digest(&text.as_bytes()[start..]);
        text.truncate(start);
        text.push_str("~h:");
        for byte in digest {
            text.push_str(&escaped(byte, &mut [0; 3])[1..]);
        }
    }
    text
}

fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-')
}

/// The text as it stands inside a key.
pub(crate) fn escape(text: &str) -> String {
    let mut writer = KeyWriter { text: KeyText::default(), start: 0, parts: 0 };
    writer.part(text);
    writer.text.to_owned()
}

/// `%` and the byte in hexadecimal.
fn escaped(byte: u8, buffer: &mut [u8; 3]) -> &str {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    *buffer = [b'%', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]];
    // ASCII alone.
    std::str::from_utf8(buffer).unwrap_or_default()
}

/// How long a key may be without an allocation.
const SHORT_BYTES: usize = 120;

/// The text whose escaped form this is; `None` when it is the escaped form of none, such as a digest.
fn unescape(text: &str) -> Option<Cow<'_, str>> {
    if text.bytes().all(is_plain) {
        return Some(Cow::Borrowed(text));
    }
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let high = (bytes.next()? as char).to_digit(16)?;
            let low = (bytes.next()? as char).to_digit(16)?;
            out.push((high * 16 + low) as u8);
        } else if is_plain(byte) {
            out.push(byte);
        } else {
            return None;
        }
    }
    String::from_utf8(out).ok().map(Cow::Owned)
}

macro_rules! plain_key {
    ($($ty:ty),*) => {$(
        impl KeyRef for $ty {
            type Owned = Self;

            fn to_key(&self) -> Self {
                *self
            }

            fn write(&self, out: &mut KeyWriter) {
                out.plain(self);
            }
        }

        impl Key for $ty {
            fn parse(parts: &mut KeyParts<'_>) -> Option<Self> {
                parts.next_part()?.parse().ok()
            }
        }
    )*};
}

plain_key!(i16, i32, i64);

impl KeyRef for Uuid {
    type Owned = Self;

    fn to_key(&self) -> Self {
        *self
    }

    fn write(&self, out: &mut KeyWriter) {
        out.push(self.as_hyphenated().encode_lower(&mut Self::encode_buffer()));
    }
}

impl Key for Uuid {
    fn parse(parts: &mut KeyParts<'_>) -> Option<Self> {
        parts.next_part()?.parse().ok()
    }
}

impl KeyRef for str {
    type Owned = String;

    fn to_key(&self) -> String {
        self.to_owned()
    }

    fn write(&self, out: &mut KeyWriter) {
        out.part(self);
    }
}

impl KeyRef for String {
    type Owned = Self;

    fn to_key(&self) -> Self {
        self.clone()
    }

    fn write(&self, out: &mut KeyWriter) {
        out.part(self);
    }
}

impl Key for String {
    fn parse(parts: &mut KeyParts<'_>) -> Option<Self> {
        parts.next_part().map(Cow::into_owned)
    }
}

macro_rules! composite_key {
    ($($name:ident . $index:tt),*) => {
        impl<$($name: Key),*> KeyRef for ($($name,)*) {
            type Owned = Self;

            fn to_key(&self) -> Self {
                self.clone()
            }

            fn write(&self, out: &mut KeyWriter) {
                $(self.$index.write(out);)*
            }
        }

        impl<$($name: Key),*> Key for ($($name,)*) {
            fn parse(parts: &mut KeyParts<'_>) -> Option<Self> {
                Some(($($name::parse(parts)?,)*))
            }
        }
    };
}

composite_key!(A.0, B.1);
composite_key!(A.0, B.1, C.2);
composite_key!(A.0, B.1, C.2, D.3);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_documented_examples() {
        let id: Uuid = "123e4567-e89b-12d3-a456-426614174000".parse().unwrap();
        let space = KeySpace::new("myapp", "users").unwrap();
        assert_eq!(space.key(&id), "myapp:users:123e4567-e89b-12d3-a456-426614174000");
        let space = KeySpace::new("myapp", "premium_users").unwrap();
        assert_eq!(space.key(&id), "myapp:premium_users:123e4567-e89b-12d3-a456-426614174000");
        assert_eq!(space.store(), "premium_users");
    }

    #[test]
    fn separators_globs_braces_and_families_are_escaped() {
        let space = KeySpace::new("a", "s").unwrap();
        assert_eq!(space.key("x:*{}[]?%~ ,"), "a:s:x%3a%2a%7b%7d%5b%5d%3f%25%7e%20%2c");
        assert_eq!(space.key("é"), "a:s:%c3%a9");
        assert_ne!(space.key("query:abc"), "a:s:query:abc");
    }

    #[test]
    fn long_ids_are_hashed_and_stay_apart() {
        let space = KeySpace::new("a", "s").unwrap();
        let (one, two) = ("x".repeat(1 << 20), format!("{}y", "x".repeat((1 << 20) - 1)));
        assert_eq!(space.key(one.as_str()).len(), "a:s:~h:".len() + 64);
        assert_ne!(space.key(one.as_str()), space.key(two.as_str()));
        assert_eq!(space.key("x".repeat(MAX_ID_BYTES).as_str()).len(), "a:s:".len() + MAX_ID_BYTES);
        assert_eq!(decode_id::<String>(&encode_id(one.as_str())), None);
    }

    #[test]
    fn prefixes_are_checked() {
        assert!(KeySpace::new("my app", "s").unwrap_err().contains("' '"));
        assert!(KeySpace::new("a", "").unwrap_err().contains("empty"));
        assert!(KeySpace::new("a:b", "s").is_err());
        assert!(KeySpace::new("a", &"s".repeat(65)).is_err());
    }

    #[test]
    fn keys_are_made_of_the_texts_of_their_parts() {
        let parts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        let id: Uuid = "123e4567-e89b-12d3-a456-426614174000".parse().unwrap();
        assert_eq!(from_parts(&parts(&["123e4567-e89b-12d3-a456-426614174000"])), Some(id));
        assert_eq!(from_parts(&parts(&["123E4567E89B12D3A456426614174000"])), Some(id));
        assert_eq!(from_parts(&parts(&["-7"])), Some(-7i64));
        assert_eq!(from_parts(&parts(&["a,b:%"])), Some("a,b:%".to_owned()));
        assert_eq!(from_parts(&parts(&[""])), Some(String::new()));
        let long = "x".repeat(2 * MAX_ID_BYTES);
        assert_eq!(from_parts(&parts(&[&long])), Some(long));
        assert_eq!(from_parts(&parts(&["7", "a,b"])), Some((7i32, "a,b".to_owned())));
        assert_eq!(from_parts::<(i32, String)>(&parts(&["7"])), None);
        assert_eq!(from_parts::<i16>(&parts(&["70000"])), None);
        assert_eq!(from_parts::<i64>(&parts(&["1", "2"])), None);
        assert_eq!(from_parts::<i64>(&[]), None);
    }

    #[test]
    fn a_key_of_any_length_is_one_text() {
        for length in SHORT_BYTES - 8..SHORT_BYTES + 8 {
            let id = "x".repeat(length);
            assert_eq!(KeySpace::new("a", "s").unwrap().key(id.as_str()), format!("a:s:{id}"));
            let composite = (id.clone(), "y:".to_owned(), 7i64);
            assert_eq!(KeySpace::new("a", "s").unwrap().key(&composite), format!("a:s:{id},y%3a,7"));
        }
    }

    proptest! {
        #[test]
        fn text_ids_round_trip(id in any::<String>()) {
            prop_assert_eq!(decode_id::<String>(&encode_id(&id)), (encode_id(&id).len() <= MAX_ID_BYTES).then_some(id));
        }

        #[test]
        fn composite_ids_round_trip(id in any::<(i64, String, i32)>()) {
            prop_assume!(encode_id(&id).len() <= MAX_ID_BYTES);
            prop_assert_eq!(decode_id::<(i64, String, i32)>(&encode_id(&id)), Some(id));
        }

        #[test]
        fn keys_are_injective(
            a in "[a-z.:%*,~{}]{0,6}", b in "[a-z.:%*,~{}]{0,6}", c in "[a-z.:%*,~{}]{0,6}", d in "[a-z.:%*,~{}]{0,6}",
            s in "[a-c.-]{1,3}", t in "[a-c.-]{1,3}", g in "[a-c.-]{1,3}", h in "[a-c.-]{1,3}",
        ) {
            let (one, two) = (KeySpace::new(&g, &s).unwrap(), KeySpace::new(&h, &t).unwrap());
            let same = (&g, &s, &a, &b) == (&h, &t, &c, &d);
            prop_assert_eq!(one.key(&(a.clone(), b.clone())) == two.key(&(c.clone(), d.clone())), same);
            let same = (&g, &s, &a) == (&h, &t, &c);
            prop_assert_eq!(one.key(&a) == two.key(&c), same);
        }

        #[test]
        fn keys_are_printable_and_have_two_separators(id in any::<String>()) {
            prop_assume!(encode_id(&id).len() <= MAX_ID_BYTES);
            let key = KeySpace::new("g", "s").unwrap().key(&id);
            prop_assert!(key.bytes().all(|b| b.is_ascii_graphic()));
            prop_assert_eq!(key.matches(':').count(), 2);
        }
    }
}
