//! How a row becomes the bytes of a cache entry and back.
//!
//! The derive writes one [`Cacheable`] impl per model: the columns in order, each by its [`CacheField`]. The format
//! is positional and knows nothing of the model's serde attributes, so what the cache returns is what the database
//! returned. bincode 2.0.1 (fixed-width integers) does the primitive writing behind [`Encoder`] and [`Decoder`];
//! nothing outside this module names it, and the [header] carries a codec id so that it can be replaced.

mod fields;
mod json;

pub mod header;

pub use fields::JsonField;
pub use json::Json;

use bincode::config::{Configuration, Fixint, Limit, LittleEndian};
use bincode::de::read::SliceReader;
use bincode::de::{BorrowDecode, Decode, DecoderImpl};
use bincode::enc::{Encode, EncoderImpl};
use thiserror::Error;
use xxhash_rust::const_xxh3::xxh3_64;

/// No decode claims more than this many bytes, whatever the input says.
pub const DECODE_LIMIT: usize = 16 << 20;

/// A value the cache can hold: a model (by `#[derive(Model)]`) or one of the plain types with a [`CacheField`].
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be stored in the cache",
    note = "use a type with `#[derive(Model)]`, a column type, or `Json<T>` around any serde type"
)]
pub trait Cacheable: Send + Sync + Sized + 'static {
    /// Names the layout: table, field names, field types, codec. Entries with another fingerprint are misses.
    const SCHEMA: u64;

    /// Writes the value.
    ///
    /// # Errors
    /// When a column cannot be represented, such as a JSON column whose type refuses to serialize.
    fn write(&self, out: &mut Encoder) -> Result<(), EncodeError>;

    /// Reads a value.
    ///
    /// # Errors
    /// When the bytes are no such value. Never panics and never allocates beyond [`DECODE_LIMIT`].
    fn read(input: &mut Decoder<'_>) -> Result<Self, DecodeError>;
}

/// One column of a cached row.
#[diagnostic::on_unimplemented(
    message = "a field of type `{Self}` cannot be stored in the cache",
    note = "use a supported column type, `#[derive(Column)]` on your own enum or newtype, or `#[json]` on the field"
)]
pub trait CacheField: Sized {
    /// Names the type's layout inside an entry; part of [`Cacheable::SCHEMA`].
    const LAYOUT: u64;

    /// Writes the field.
    ///
    /// # Errors
    /// When the value cannot be represented.
    fn encode(&self, out: &mut Encoder) -> Result<(), EncodeError>;

    /// Reads the field.
    ///
    /// # Errors
    /// When the bytes are no such value.
    fn decode(input: &mut Decoder<'_>) -> Result<Self, DecodeError>;
}

/// Why a value could not be written. Carries no part of the value.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("cannot encode a cache entry: {0}")]
pub struct EncodeError(pub(crate) String);

impl EncodeError {
    /// An error with a reason; the reason must not contain row contents.
    pub fn new(reason: impl Into<String>) -> Self {
        Self(reason.into())
    }
}

/// Why bytes could not be read back. Carries no part of the bytes.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("cannot decode a cache entry: {0}")]
pub struct DecodeError(pub(crate) String);

impl DecodeError {
    /// An error with a reason; the reason must not contain row contents.
    pub fn new(reason: impl Into<String>) -> Self {
        Self(reason.into())
    }
}

type Format = Configuration<LittleEndian, Fixint, Limit<DECODE_LIMIT>>;

const FORMAT: Format = bincode::config::standard().with_fixed_int_encoding().with_limit::<DECODE_LIMIT>();

/// Writes the fields of one entry.
pub struct Encoder {
    inner: EncoderImpl<Bytes, Format>,
    /// Whether equal values shall be equal bytes, also where a type has no order of its own.
    canonical: bool,
}

impl std::fmt::Debug for Encoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Encoder").finish_non_exhaustive()
    }
}

impl Encoder {
    pub(crate) fn over(buffer: Vec<u8>) -> Self {
        Self { inner: EncoderImpl::new(Bytes(buffer), FORMAT), canonical: false }
    }

    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.inner.into_writer().0
    }

    pub(crate) fn put<T: Encode>(&mut self, value: &T) -> Result<(), EncodeError> {
        // bincode's text is kept out: for some errors it quotes the value.
        value.encode(&mut self.inner).map_err(|_| EncodeError::new("the value does not fit the format"))
    }

    pub(crate) fn put_slice(&mut self, bytes: &[u8]) -> Result<(), EncodeError> {
        bytes.encode(&mut self.inner).map_err(|_| EncodeError::new("the bytes do not fit the format"))
    }
}

/// Reads the fields of one entry.
pub struct Decoder<'a> {
    inner: DecoderImpl<SliceReader<'a>, Format, ()>,
}

impl std::fmt::Debug for Decoder<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Decoder").finish_non_exhaustive()
    }
}

impl<'a> Decoder<'a> {
    pub(crate) fn over(bytes: &'a [u8]) -> Self {
        Self { inner: DecoderImpl::new(SliceReader::new(bytes), FORMAT, ()) }
    }

    pub(crate) fn take<T: Decode<()>>(&mut self) -> Result<T, DecodeError> {
        T::decode(&mut self.inner).map_err(|_| DecodeError::new("the bytes are no value of this type"))
    }

    /// What stands in the input under a length, without a copy: to own it then costs one allocation that nobody clears.
    pub(crate) fn slice(&mut self) -> Result<&'a [u8], DecodeError> {
        BorrowDecode::borrow_decode(&mut self.inner).map_err(|_| DecodeError::new("the bytes end too early"))
    }

    fn is_done(&mut self) -> bool {
        self.take::<u8>().is_err()
    }
}

/// Encodes a value without a header.
///
/// # Errors
/// As [`Cacheable::write`].
pub fn to_bytes<V: Cacheable>(value: &V) -> Result<Vec<u8>, EncodeError> {
    let mut out = Encoder::over(Vec::with_capacity(256));
    value.write(&mut out)?;
    Ok(out.into_bytes())
}

/// As [`to_bytes`], for comparing: JSON is written sorted, objects and arrays, as hash maps and hash sets have no order.
pub(crate) fn to_comparable<V: Cacheable>(value: &V) -> Result<Vec<u8>, EncodeError> {
    let mut out = Encoder::over(Vec::with_capacity(256));
    out.canonical = true;
    value.write(&mut out)?;
    Ok(out.into_bytes())
}

/// Decodes what [`to_bytes`] wrote; trailing bytes are refused.
///
/// # Errors
/// As [`Cacheable::read`].
pub fn from_bytes<V: Cacheable>(bytes: &[u8]) -> Result<V, DecodeError> {
    let mut input = Decoder::over(bytes);
    let value = V::read(&mut input)?;
    if input.is_done() { Ok(value) } else { Err(DecodeError::new("bytes are left over")) }
}

/// The layout name of a primitive or user type.
pub const fn layout(name: &str) -> u64 {
    xxh3_64(name.as_bytes())
}

/// Joins two layout names, in order.
pub const fn join(left: u64, right: u64) -> u64 {
    let mut bytes = [0; 16];
    let (left, right) = (left.to_le_bytes(), right.to_le_bytes());
    let mut i = 0;
    while i < 8 {
        bytes[i] = left[i];
        bytes[8 + i] = right[i];
        i += 1;
    }
    xxh3_64(&bytes)
}

/// The fingerprint of a model: its table and the names and layouts of its fields, in order.
pub const fn schema(table: &str, fields: &[(&str, u64)]) -> u64 {
    let mut sum = layout(table);
    let mut i = 0;
    while i < fields.len() {
        sum = join(sum, join(layout(fields[i].0), fields[i].1));
        i += 1;
    }
    sum
}

struct Bytes(Vec<u8>);

impl bincode::enc::write::Writer for Bytes {
    fn write(&mut self, bytes: &[u8]) -> Result<(), bincode::error::EncodeError> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }
}
