//! Columns of Postgres.

use std::io;

use chrono::{DateTime, NaiveDate, NaiveDateTime, NaiveTime, TimeDelta, Utc};
use rust_decimal::Decimal;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::ser::{CompactFormatter, Formatter, Serializer};
use sqlx::encode::IsNull;
use sqlx::postgres::{
    PgArgumentBuffer, PgArguments, PgBindIterExt, PgHasArrayType, PgRow, PgTypeInfo, PgValueFormat, PgValueRef,
};
use sqlx::{Arguments, Decode, Encode, Postgres, Row, Type};
use uuid::Uuid;

use super::json::{JsonColumn, REFUSED, shape};
use super::text::TextColumn;
use super::{Column, SqlType, decimal, refuse_leap_second, refuse_leap_second_at};
use crate::backend::BindError;

macro_rules! native {
    ($($ty:ty => $name:literal),* $(,)?) => {$(
        impl Column<Postgres> for $ty {
            const TYPE: SqlType = SqlType::new($name);

            fn bind(&self, args: &mut PgArguments) -> Result<(), BindError> {
                args.add(self)
            }

            fn bind_null(args: &mut PgArguments) -> Result<(), BindError> {
                args.add(None::<Self>)
            }

            fn bind_array<'v>(
                values: impl Iterator<Item = Option<&'v Self>>,
                args: &mut PgArguments,
            ) -> Result<(), BindError> {
                args.add(values.bind_iter())
            }

            fn read(row: &PgRow, index: usize) -> Result<Option<Self>, sqlx::Error> {
                row.try_get(index)
            }
        }
    )*};
}

native!(
    bool => "BOOLEAN",
    i16 => "SMALLINT",
    i32 => "INTEGER",
    i64 => "BIGINT",
    f32 => "REAL",
    f64 => "DOUBLE PRECISION",
    String => "TEXT",
    Vec<u8> => "BYTEA",
    Uuid => "UUID",
);

/// A type whose binary form is written here, because sqlx' own conversion panics or changes values at the ends of
/// the range.
trait Wire: Copy + Type<Postgres> + PgHasArrayType {
    fn put(self, out: &mut Vec<u8>) -> Result<(), BindError>;

    fn take(bytes: &[u8]) -> Result<Self, BindError>;
}

/// A [`Wire`] type as sqlx sees it.
struct Exact<T>(T);

impl<T: Wire> Type<Postgres> for Exact<T> {
    fn type_info() -> PgTypeInfo {
        T::type_info()
    }

    fn compatible(ty: &PgTypeInfo) -> bool {
        T::compatible(ty)
    }
}

impl<T: Wire> PgHasArrayType for Exact<T> {
    fn array_type_info() -> PgTypeInfo {
        T::array_type_info()
    }
}

impl<T: Wire> Encode<'_, Postgres> for Exact<T> {
    fn encode_by_ref(&self, buf: &mut PgArgumentBuffer) -> Result<IsNull, BindError> {
        self.0.put(buf)?;
        Ok(IsNull::No)
    }
}

impl<T: Wire> Decode<'_, Postgres> for Exact<T> {
    fn decode(value: PgValueRef<'_>) -> Result<Self, BindError> {
        if value.format() != PgValueFormat::Binary {
            return Err("the row came in text format; read it by a prepared statement".into());
        }
        T::take(value.as_bytes()?).map(Self)
    }
}

macro_rules! exact {
    ($($ty:ty => $name:literal),* $(,)?) => {$(
        impl Column<Postgres> for $ty {
            const TYPE: SqlType = SqlType::new($name);

            fn bind(&self, args: &mut PgArguments) -> Result<(), BindError> {
                args.add(Exact(*self))
            }

            fn bind_null(args: &mut PgArguments) -> Result<(), BindError> {
                args.add(None::<Exact<Self>>)
            }

            fn bind_array<'v>(
                values: impl Iterator<Item = Option<&'v Self>>,
                args: &mut PgArguments,
            ) -> Result<(), BindError> {
                args.add(values.map(|value| value.copied().map(Exact)).bind_iter())
            }

            fn read(row: &PgRow, index: usize) -> Result<Option<Self>, sqlx::Error> {
                Ok(row.try_get::<Option<Exact<Self>>, _>(index)?.map(|exact| exact.0))
            }
        }
    )*};
}

exact!(
    NaiveDate => "DATE",
    NaiveTime => "TIME",
    NaiveDateTime => "TIMESTAMP",
    DateTime<Utc> => "TIMESTAMPTZ",
    Decimal => "NUMERIC",
);

/// Days from the Unix epoch to 2000-01-01, from which Postgres counts.
const EPOCH_DAYS: i64 = 10_957;
const DAY_MICROS: i64 = 86_400_000_000;
const EPOCH_MICROS: i64 = EPOCH_DAYS * DAY_MICROS;
const OUT_OF_RANGE: &str = "the time is infinite or out of chrono's range";

fn fixed<const N: usize>(bytes: &[u8]) -> Result<[u8; N], BindError> {
    Ok(bytes.try_into()?)
}

impl Wire for NaiveDate {
    fn put(self, out: &mut Vec<u8>) -> Result<(), BindError> {
        let days = self.signed_duration_since(DateTime::UNIX_EPOCH.date_naive()).num_days() - EPOCH_DAYS;
        out.extend_from_slice(&i32::try_from(days)?.to_be_bytes());
        Ok(())
    }

    fn take(bytes: &[u8]) -> Result<Self, BindError> {
        let days = i64::from(i32::from_be_bytes(fixed(bytes)?)) + EPOCH_DAYS;
        let since = TimeDelta::try_days(days).ok_or(OUT_OF_RANGE)?;
        Ok(DateTime::UNIX_EPOCH.date_naive().checked_add_signed(since).ok_or(OUT_OF_RANGE)?)
    }
}

/// Cut to the microseconds Postgres keeps.
impl Wire for NaiveTime {
    fn put(self, out: &mut Vec<u8>) -> Result<(), BindError> {
        refuse_leap_second(self)?;
        let micros = self.signed_duration_since(Self::MIN).num_microseconds().ok_or(OUT_OF_RANGE)?;
        out.extend_from_slice(&micros.to_be_bytes());
        Ok(())
    }

    fn take(bytes: &[u8]) -> Result<Self, BindError> {
        let micros = i64::from_be_bytes(fixed(bytes)?);
        if !(0..DAY_MICROS).contains(&micros) {
            return Err("the time is 24:00:00, which a `NaiveTime` cannot express".into());
        }
        Ok(Self::MIN.overflowing_add_signed(TimeDelta::microseconds(micros)).0)
    }
}

/// Cut to the microseconds Postgres keeps, towards the past like the time columns StoreHaus fills.
impl Wire for DateTime<Utc> {
    fn put(self, out: &mut Vec<u8>) -> Result<(), BindError> {
        refuse_leap_second_at(self.naive_utc())?;
        let micros = self.timestamp_micros() - EPOCH_MICROS;
        out.extend_from_slice(&micros.to_be_bytes());
        Ok(())
    }

    fn take(bytes: &[u8]) -> Result<Self, BindError> {
        let micros = i64::from_be_bytes(fixed(bytes)?).checked_add(EPOCH_MICROS).ok_or(OUT_OF_RANGE)?;
        Ok(Self::from_timestamp_micros(micros).ok_or(OUT_OF_RANGE)?)
    }
}

impl Wire for NaiveDateTime {
    fn put(self, out: &mut Vec<u8>) -> Result<(), BindError> {
        self.and_utc().put(out)
    }

    fn take(bytes: &[u8]) -> Result<Self, BindError> {
        DateTime::<Utc>::take(bytes).map(|time| time.naive_utc())
    }
}

impl Wire for Decimal {
    fn put(self, out: &mut Vec<u8>) -> Result<(), BindError> {
        decimal::put(self, out);
        Ok(())
    }

    fn take(bytes: &[u8]) -> Result<Self, BindError> {
        decimal::take(bytes)
    }
}

macro_rules! list {
    ($($item:ty => $name:literal),* $(,)?) => {$(
        /// Postgres has no array of arrays: many lists travel as an array of array literals.
        impl Column<Postgres> for Vec<$item> {
            const TYPE: SqlType = SqlType { element: "TEXT", ..SqlType::new($name) };

            fn bind(&self, args: &mut PgArguments) -> Result<(), BindError> {
                args.add(self)
            }

            fn bind_null(args: &mut PgArguments) -> Result<(), BindError> {
                args.add(None::<Self>)
            }

            fn bind_array<'v>(
                values: impl Iterator<Item = Option<&'v Self>>,
                args: &mut PgArguments,
            ) -> Result<(), BindError> {
                args.add(values.map(|value| value.map(|items| literal(items))).bind_iter())
            }

            fn read(row: &PgRow, index: usize) -> Result<Option<Self>, sqlx::Error> {
                row.try_get(index)
            }
        }
    )*};
}

list!(String => "TEXT[]", i64 => "BIGINT[]", Uuid => "UUID[]");

/// A list as an array literal, every item quoted.
fn literal<T: ToString>(items: &[T]) -> String {
    let mut out = String::from("{");
    for (at, item) in items.iter().enumerate() {
        out.push_str(if at == 0 { "\"" } else { ",\"" });
        for c in item.to_string().chars() {
            if c == '"' || c == '\\' {
                out.push('\\');
            }
            out.push(c);
        }
        out.push('"');
    }
    out.push('}');
    out
}

impl TextColumn for Postgres {
    const TEXT: SqlType = SqlType::new("TEXT");
    const ENUM_TYPES: bool = true;

    fn bind_text(label: Option<&'static str>, args: &mut PgArguments) -> Result<(), BindError> {
        args.add(label)
    }

    fn bind_text_array(
        labels: impl Iterator<Item = Option<&'static str>>,
        args: &mut PgArguments,
    ) -> Result<(), BindError> {
        args.add(labels.bind_iter())
    }

    fn read_text(row: &PgRow, index: usize) -> Result<Option<String>, sqlx::Error> {
        // Unchecked, because sqlx takes an enum type for no text; its binary form is the label.
        row.try_get_unchecked(index)
    }
}

/// A value that is serialized straight into the message.
struct JsonRef<'a, T>(&'a T);

impl<T> Type<Postgres> for JsonRef<'_, T> {
    fn type_info() -> PgTypeInfo {
        <sqlx::types::Json<()> as Type<Postgres>>::type_info()
    }
}

impl<T> PgHasArrayType for JsonRef<'_, T> {
    fn array_type_info() -> PgTypeInfo {
        <sqlx::types::Json<()> as PgHasArrayType>::array_type_info()
    }
}

impl<T: Serialize> Encode<'_, Postgres> for JsonRef<'_, T> {
    fn encode_by_ref(&self, buf: &mut PgArgumentBuffer) -> Result<IsNull, BindError> {
        buf.push(JSONB_VERSION);
        let out: &mut Vec<u8> = buf;
        self.0.serialize(&mut Serializer::with_formatter(out, KeepFloats)).map_err(|_| REFUSED)?;
        Ok(IsNull::No)
    }
}

const JSONB_VERSION: u8 = 1;

struct JsonOwned<T>(T);

impl<T> Type<Postgres> for JsonOwned<T> {
    fn type_info() -> PgTypeInfo {
        <sqlx::types::Json<()> as Type<Postgres>>::type_info()
    }

    fn compatible(ty: &PgTypeInfo) -> bool {
        <sqlx::types::Json<()> as Type<Postgres>>::compatible(ty)
    }
}

impl<T: DeserializeOwned> Decode<'_, Postgres> for JsonOwned<T> {
    fn decode(value: PgValueRef<'_>) -> Result<Self, BindError> {
        let bytes = value.as_bytes()?;
        // JSON text never starts with this byte, so JSON and text format need no other treatment.
        let text = bytes.strip_prefix(&[JSONB_VERSION]).unwrap_or(bytes);
        Ok(Self(serde_json::from_slice(text).map_err(|error| shape(&error))?))
    }
}

/// Writes whole floats with a fraction. JSONB rewrites `1e16` as `10000000000000000`, which reads back as an integer;
/// it keeps `10000000000000000.0`.
struct KeepFloats;

impl Formatter for KeepFloats {
    fn write_f32<W: ?Sized + io::Write>(&mut self, writer: &mut W, value: f32) -> io::Result<()> {
        if is_large(value.into()) { write!(writer, "{value:.1}") } else { CompactFormatter.write_f32(writer, value) }
    }

    fn write_f64<W: ?Sized + io::Write>(&mut self, writer: &mut W, value: f64) -> io::Result<()> {
        if is_large(value) { write!(writer, "{value:.1}") } else { CompactFormatter.write_f64(writer, value) }
    }
}

/// Whether the float is whole, written with an exponent by serde_json and within the range of its integers.
fn is_large(value: f64) -> bool {
    (1e16..2e19).contains(&value.abs())
}

impl JsonColumn for Postgres {
    const JSON: SqlType = SqlType::new("JSONB");

    fn bind_json<T: Serialize>(value: &T, args: &mut PgArguments) -> Result<(), BindError> {
        args.add(JsonRef(value))
    }

    fn bind_json_null(args: &mut PgArguments) -> Result<(), BindError> {
        args.add(None::<JsonRef<'_, ()>>)
    }

    fn bind_json_array<'v, T: Serialize + 'v>(
        values: impl Iterator<Item = Option<&'v T>>,
        args: &mut PgArguments,
    ) -> Result<(), BindError> {
        args.add(values.map(|value| value.map(JsonRef)).bind_iter())
    }

    fn read_json<T: DeserializeOwned>(row: &PgRow, index: usize) -> Result<Option<T>, sqlx::Error> {
        Ok(row.try_get::<Option<JsonOwned<T>>, _>(index)?.map(|json| json.0))
    }
}
