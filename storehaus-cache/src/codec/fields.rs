//! The column types the cache can hold.

use chrono::{DateTime, Datelike, NaiveDate, NaiveDateTime, NaiveTime, Timelike, Utc};
use rust_decimal::Decimal;
use serde::Serialize;
use serde::de::DeserializeOwned;
use uuid::Uuid;

use super::{CacheField, Cacheable, DecodeError, Decoder, EncodeError, Encoder, join, layout};

/// A column held as JSON text; the wrapper the derive puts around `#[json]` fields inside an entry.
#[derive(Debug)]
pub struct JsonField;

impl JsonField {
    /// The layout of a JSON field whose Rust type is spelled `type_name`.
    pub const fn layout(type_name: &str) -> u64 {
        join(layout("json"), layout(type_name))
    }

    /// Writes `value` as JSON.
    ///
    /// # Errors
    /// When the type refuses to serialize.
    pub fn encode<T: Serialize>(value: &T, out: &mut Encoder) -> Result<(), EncodeError> {
        let text = if out.canonical {
            serde_json::to_value(value).and_then(|mut value| {
                sort(&mut value);
                serde_json::to_vec(&value)
            })
        } else {
            serde_json::to_vec(value)
        };
        out.put_slice(&text.map_err(|_| EncodeError::new("a JSON column refused to serialize"))?)
    }

    /// Reads a value from JSON.
    ///
    /// # Errors
    /// When the text is no such value.
    pub fn decode<T: DeserializeOwned>(input: &mut Decoder<'_>) -> Result<T, DecodeError> {
        serde_json::from_slice(input.slice()?).map_err(|_| DecodeError::new("a JSON column has another shape"))
    }
}

/// Sorts objects by their names, and arrays by the text of what they hold.
fn sort(value: &mut serde_json::Value) {
    match value {
        serde_json::Value::Array(items) => {
            items.iter_mut().for_each(sort);
            items.sort_by_cached_key(ToString::to_string);
        }
        serde_json::Value::Object(map) => {
            let mut members: Vec<_> = std::mem::take(map).into_iter().collect();
            members.iter_mut().for_each(|(_, value)| sort(value));
            // A map that keeps the order of insertion, as another crate may have asked for, is sorted by this.
            members.sort_by(|(one, _), (other, _)| one.cmp(other));
            *map = members.into_iter().collect();
        }
        _ => {}
    }
}

macro_rules! native {
    ($($ty:ty),*) => {$(
        impl CacheField for $ty {
            const LAYOUT: u64 = layout(stringify!($ty));

            fn encode(&self, out: &mut Encoder) -> Result<(), EncodeError> {
                out.put(self)
            }

            fn decode(input: &mut Decoder<'_>) -> Result<Self, DecodeError> {
                input.take()
            }
        }
    )*};
}

native!(bool, i16, i32, i64, f32, f64);

impl CacheField for String {
    const LAYOUT: u64 = layout("String");

    fn encode(&self, out: &mut Encoder) -> Result<(), EncodeError> {
        out.put_slice(self.as_bytes())
    }

    fn decode(input: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        let text = str::from_utf8(input.slice()?).map_err(|_| DecodeError::new("a text is no UTF-8"))?;
        Ok(text.to_owned())
    }
}

impl CacheField for Vec<u8> {
    const LAYOUT: u64 = layout("bytes");

    fn encode(&self, out: &mut Encoder) -> Result<(), EncodeError> {
        out.put_slice(self)
    }

    fn decode(input: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        input.slice().map(<[u8]>::to_vec)
    }
}

impl CacheField for Uuid {
    const LAYOUT: u64 = layout("uuid");

    fn encode(&self, out: &mut Encoder) -> Result<(), EncodeError> {
        out.put(self.as_bytes())
    }

    fn decode(input: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        input.take().map(Self::from_bytes)
    }
}

impl CacheField for NaiveDate {
    const LAYOUT: u64 = layout("date");

    fn encode(&self, out: &mut Encoder) -> Result<(), EncodeError> {
        out.put(&self.num_days_from_ce())
    }

    fn decode(input: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Self::from_num_days_from_ce_opt(input.take()?).ok_or_else(|| DecodeError::new("no such date"))
    }
}

impl CacheField for NaiveTime {
    const LAYOUT: u64 = layout("time");

    fn encode(&self, out: &mut Encoder) -> Result<(), EncodeError> {
        out.put(&self.num_seconds_from_midnight())?;
        out.put(&self.nanosecond())
    }

    fn decode(input: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        let (seconds, nanos) = (input.take()?, input.take()?);
        Self::from_num_seconds_from_midnight_opt(seconds, nanos).ok_or_else(|| DecodeError::new("no such time"))
    }
}

impl CacheField for NaiveDateTime {
    const LAYOUT: u64 = layout("datetime");

    fn encode(&self, out: &mut Encoder) -> Result<(), EncodeError> {
        self.date().encode(out)?;
        self.time().encode(out)
    }

    fn decode(input: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Ok(Self::new(NaiveDate::decode(input)?, NaiveTime::decode(input)?))
    }
}

impl CacheField for DateTime<Utc> {
    const LAYOUT: u64 = layout("datetime-utc");

    fn encode(&self, out: &mut Encoder) -> Result<(), EncodeError> {
        self.naive_utc().encode(out)
    }

    fn decode(input: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Ok(NaiveDateTime::decode(input)?.and_utc())
    }
}

impl CacheField for Decimal {
    const LAYOUT: u64 = layout("decimal");

    fn encode(&self, out: &mut Encoder) -> Result<(), EncodeError> {
        out.put(&self.serialize())
    }

    fn decode(input: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        let value = Self::deserialize(input.take()?);
        if value.scale() > Self::MAX_SCALE {
            return Err(DecodeError::new("no such decimal"));
        }
        Ok(value)
    }
}

impl CacheField for serde_json::Value {
    const LAYOUT: u64 = layout("json-value");

    fn encode(&self, out: &mut Encoder) -> Result<(), EncodeError> {
        JsonField::encode(self, out)
    }

    fn decode(input: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        JsonField::decode(input)
    }
}

impl<T: CacheField> CacheField for Option<T> {
    const LAYOUT: u64 = join(layout("option"), T::LAYOUT);

    fn encode(&self, out: &mut Encoder) -> Result<(), EncodeError> {
        out.put(&self.is_some())?;
        self.as_ref().map_or(Ok(()), |value| value.encode(out))
    }

    fn decode(input: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        if input.take()? { T::decode(input).map(Some) } else { Ok(None) }
    }
}

macro_rules! list {
    ($($ty:ty),*) => {$(
        impl CacheField for Vec<$ty> {
            const LAYOUT: u64 = join(layout("list"), <$ty as CacheField>::LAYOUT);

            fn encode(&self, out: &mut Encoder) -> Result<(), EncodeError> {
                out.put(&(self.len() as u64))?;
                self.iter().try_for_each(|item| item.encode(out))
            }

            fn decode(input: &mut Decoder<'_>) -> Result<Self, DecodeError> {
                let len: u64 = input.take()?;
                // Every item takes input, so a length that lies runs into the end of the bytes; the vector grows
                // as items arrive and is never sized by the length alone.
                let mut items = Self::with_capacity(len.min(64) as usize);
                for _ in 0..len {
                    items.push(CacheField::decode(input)?);
                }
                Ok(items)
            }
        }
    )*};
}

list!(String, i64, Uuid);

macro_rules! cacheable {
    ($($ty:ty),*) => {$(
        impl Cacheable for $ty {
            const SCHEMA: u64 = <Self as CacheField>::LAYOUT;

            fn write(&self, out: &mut Encoder) -> Result<(), EncodeError> {
                CacheField::encode(self, out)
            }

            fn read(input: &mut Decoder<'_>) -> Result<Self, DecodeError> {
                CacheField::decode(input)
            }
        }
    )*};
}

cacheable!(
    bool,
    i16,
    i32,
    i64,
    f32,
    f64,
    String,
    Vec<u8>,
    Uuid,
    NaiveDate,
    NaiveTime,
    NaiveDateTime,
    DateTime<Utc>,
    Decimal,
    serde_json::Value,
    Vec<String>,
    Vec<i64>,
    Vec<Uuid>
);

#[cfg(test)]
mod tests {
    use std::fmt::Debug;

    use super::super::{from_bytes, to_bytes};
    use super::*;
    use proptest::prelude::*;

    fn same<V: Cacheable + PartialEq + Debug>(value: V) {
        assert_eq!(from_bytes::<V>(&to_bytes(&value).unwrap()).unwrap(), value);
    }

    proptest! {
        #[test]
        fn plain_values_round_trip(b: bool, i: i64, j: i32, k: i16, s: String, v: Vec<u8>, u: u128) {
            same(b);
            same(i);
            same(j);
            same(k);
            same(s);
            same(v);
            same(Uuid::from_u128(u));
        }

        #[test]
        fn floats_keep_their_bits(a: u64, b: u32) {
            let back: f64 = from_bytes(&to_bytes(&f64::from_bits(a)).unwrap()).unwrap();
            prop_assert_eq!(back.to_bits(), a);
            let back: f32 = from_bytes(&to_bytes(&f32::from_bits(b)).unwrap()).unwrap();
            prop_assert_eq!(back.to_bits(), b);
        }

        #[test]
        fn times_round_trip(secs in -200_000_000_000i64..200_000_000_000, nanos in 0u32..1_000_000_000) {
            let time = DateTime::<Utc>::from_timestamp(secs, nanos).unwrap();
            same(time);
            same(time.naive_utc());
            same(time.date_naive());
            same(time.time());
        }

        #[test]
        fn decimals_keep_value_and_scale(lo: u32, mid: u32, hi: u32, neg: bool, scale in 0u32..=28) {
            let value = Decimal::from_parts(lo, mid, hi, neg, scale);
            let back: Decimal = from_bytes(&to_bytes(&value).unwrap()).unwrap();
            prop_assert_eq!((back, back.scale()), (value, value.scale()));
        }

        #[test]
        fn lists_round_trip(a: Vec<String>, b: Vec<i64>, c: Vec<u128>) {
            same(a);
            same(b);
            same(c.into_iter().map(Uuid::from_u128).collect::<Vec<_>>());
        }

        #[test]
        fn json_numbers_round_trip(x in any::<f64>().prop_filter("finite", |x| x.is_finite()), i: i64, u: u64) {
            same(serde_json::json!({"x": x}));
            same(serde_json::json!([i, u, null, {"a": "b"}]));
        }

        #[test]
        fn hostile_bytes_never_panic(bytes: Vec<u8>) {
            let _: Result<String, _> = from_bytes(&bytes);
            let _: Result<Vec<u8>, _> = from_bytes(&bytes);
            let _: Result<Vec<String>, _> = from_bytes(&bytes);
            let _: Result<DateTime<Utc>, _> = from_bytes(&bytes);
            let _: Result<Decimal, _> = from_bytes(&bytes);
            let _: Result<serde_json::Value, _> = from_bytes(&bytes);
        }
    }

    #[test]
    fn a_length_that_lies_allocates_nothing() {
        for len in [u64::MAX, 1 << 40, (super::super::DECODE_LIMIT + 1) as u64] {
            assert!(from_bytes::<Vec<u8>>(&len.to_le_bytes()).is_err());
            assert!(from_bytes::<String>(&len.to_le_bytes()).is_err());
            assert!(from_bytes::<Vec<String>>(&len.to_le_bytes()).is_err());
        }
    }

    #[test]
    fn equal_values_are_comparable_whatever_their_order() {
        let bytes = |value: serde_json::Value| super::super::to_comparable(&value).unwrap();
        let one = bytes(serde_json::json!({"a": [1, {"x": 1, "y": 2}], "b": null}));
        assert_eq!(one, bytes(serde_json::json!({"b": null, "a": [{"y": 2, "x": 1}, 1]})));
        assert_ne!(one, bytes(serde_json::json!({"b": null, "a": [{"y": 2, "x": 1}, 2]})));
        let set = |n| super::super::Json((0..n).collect::<std::collections::HashSet<i64>>());
        assert_eq!(super::super::to_comparable(&set(99)), super::super::to_comparable(&set(99)));
        assert_ne!(super::super::to_comparable(&set(99)), super::super::to_comparable(&set(98)));
    }

    #[test]
    fn left_over_bytes_are_refused() {
        let mut bytes = to_bytes(&7i64).unwrap();
        bytes.push(0);
        assert!(from_bytes::<i64>(&bytes).is_err());
    }
}
