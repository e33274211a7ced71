//! Columns of SQLite. Tables are STRICT, so the types are INTEGER, REAL, TEXT and BLOB.
//!
//! Times are text in sqlx' own format, which sorts as time within the years 0 to 9999; other years are refused.
//! Decimals are exact text with their scale (which does not sort as numbers); lists are JSON text.

use chrono::{DateTime, Datelike, NaiveDate, NaiveDateTime, NaiveTime, Utc};
use rust_decimal::Decimal;
use serde::Serialize;
use serde::de::DeserializeOwned;
use sqlx::sqlite::{SqliteArguments, SqliteRow};
use sqlx::{Arguments, Decode, Row, Sqlite, Type};
use uuid::Uuid;

use super::json::{JsonColumn, REFUSED, shape};
use super::text::TextColumn;
use super::{Column, SqlType, decode_error, refuse_leap_second, refuse_leap_second_at};
use crate::backend::BindError;

const NO_ARRAYS: &str = "SQLite has no arrays";

macro_rules! column {
    ($($ty:ty => $name:literal, $check:expr, $read:expr;)*) => {$(
        impl Column<Sqlite> for $ty {
            const TYPE: SqlType = SqlType::new($name);

            fn bind(&self, args: &mut SqliteArguments) -> Result<(), BindError> {
                let check: fn(&Self) -> Result<(), BindError> = $check;
                check(self)?;
                args.add(self)
            }

            fn bind_null(args: &mut SqliteArguments) -> Result<(), BindError> {
                args.add(None::<Self>)
            }

            fn bind_array<'v>(
                _values: impl Iterator<Item = Option<&'v Self>>,
                _args: &mut SqliteArguments,
            ) -> Result<(), BindError> {
                Err(NO_ARRAYS.into())
            }

            fn read(row: &SqliteRow, index: usize) -> Result<Option<Self>, sqlx::Error> {
                let read: fn(&SqliteRow, usize) -> Result<Option<Self>, sqlx::Error> = $read;
                read(row, index)
            }
        }
    )*};
}

column!(
    bool => "INTEGER", any, plain;
    i16 => "INTEGER", any, plain;
    i32 => "INTEGER", any, plain;
    i64 => "INTEGER", any, plain;
    f32 => "REAL", |value| refuse_nan(value.is_nan()), narrow;
    f64 => "REAL", |value| refuse_nan(value.is_nan()), plain;
    String => "TEXT", any, plain;
    Vec<u8> => "BLOB", any, plain;
    Uuid => "BLOB", any, plain;
    NaiveDate => "TEXT", |value| sortable(value.year()), time;
    NaiveTime => "TEXT", |value| refuse_leap_second(*value), time;
    NaiveDateTime => "TEXT", |value| sortable(value.year()).and_then(|()| refuse_leap_second_at(*value)), time;
    DateTime<Utc> => "TEXT",
        |value| sortable(value.year()).and_then(|()| refuse_leap_second_at(value.naive_utc())), time;
);

fn any<T>(_value: &T) -> Result<(), BindError> {
    Ok(())
}

fn plain<T>(row: &SqliteRow, index: usize) -> Result<Option<T>, sqlx::Error>
where
    T: for<'r> Decode<'r, Sqlite> + Type<Sqlite>,
{
    row.try_get(index)
}

fn refuse_nan(is_nan: bool) -> Result<(), BindError> {
    if is_nan {
        return Err("SQLite stores NaN as NULL; make the field an `Option` and write `None`".into());
    }
    Ok(())
}

/// An `f32` of a column whose values are 64 bits wide.
fn narrow(row: &SqliteRow, index: usize) -> Result<Option<f32>, sqlx::Error> {
    let Some(wide) = row.try_get::<Option<f64>, _>(index)? else { return Ok(None) };
    let narrow = wide as f32;
    if narrow.is_infinite() && wide.is_finite() {
        return Err(decode_error(index, "the number is out of the range of `f32`".to_owned()));
    }
    Ok(Some(narrow))
}

fn sortable(year: i32) -> Result<(), BindError> {
    if (0..=9999).contains(&year) {
        return Ok(());
    }
    Err("the year is outside 0 to 9999, so the text SQLite holds would not sort as time".into())
}

/// sqlx' text is kept out of the error: it quotes the value.
fn time<T>(row: &SqliteRow, index: usize) -> Result<Option<T>, sqlx::Error>
where
    T: for<'r> Decode<'r, Sqlite> + Type<Sqlite>,
{
    // The type is checked on its own, because that error says what the column holds instead.
    let value = row.try_get_raw(index)?;
    if sqlx::ValueRef::is_null(&value) {
        return Ok(None);
    }
    let ty = sqlx::ValueRef::type_info(&value);
    if !T::compatible(&ty) {
        return Err(decode_error(index, format!("the column holds {ty}, not a date or time")));
    }
    match T::decode(value) {
        Ok(time) => Ok(Some(time)),
        Err(_) => Err(decode_error(index, "the text is not the date or time the field holds".to_owned())),
    }
}

macro_rules! as_text {
    ($($ty:ty, $to:expr, $from:expr;)*) => {$(
        impl Column<Sqlite> for $ty {
            const TYPE: SqlType = SqlType::new("TEXT");

            fn bind(&self, args: &mut SqliteArguments) -> Result<(), BindError> {
                let to: fn(&Self) -> Result<String, BindError> = $to;
                args.add(to(self)?)
            }

            fn bind_null(args: &mut SqliteArguments) -> Result<(), BindError> {
                args.add(None::<String>)
            }

            fn bind_array<'v>(
                _values: impl Iterator<Item = Option<&'v Self>>,
                _args: &mut SqliteArguments,
            ) -> Result<(), BindError> {
                Err(NO_ARRAYS.into())
            }

            fn read(row: &SqliteRow, index: usize) -> Result<Option<Self>, sqlx::Error> {
                let Some(text) = row.try_get::<Option<String>, _>(index)? else { return Ok(None) };
                let from: fn(&str) -> Result<Self, String> = $from;
                from(&text).map(Some).map_err(|message| decode_error(index, message))
            }
        }
    )*};
}

as_text!(
    Decimal, |value| Ok(value.to_string()), decimal;
    Vec<String>, to_json, from_json;
    Vec<i64>, to_json, from_json;
    Vec<Uuid>, to_json, from_json;
);

fn decimal(text: &str) -> Result<Decimal, String> {
    Decimal::from_str_exact(text).map_err(|_| "the text is no number that a `Decimal` holds exactly".to_owned())
}

fn to_json<T: Serialize>(value: &T) -> Result<String, BindError> {
    Ok(serde_json::to_string(value).map_err(|_| REFUSED)?)
}

fn from_json<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    serde_json::from_str(text).map_err(|error| shape(&error))
}

impl TextColumn for Sqlite {
    const TEXT: SqlType = SqlType::new("TEXT");
    const ENUM_TYPES: bool = false;

    fn bind_text(label: Option<&'static str>, args: &mut SqliteArguments) -> Result<(), BindError> {
        args.add(label)
    }

    fn bind_text_array(
        _labels: impl Iterator<Item = Option<&'static str>>,
        _args: &mut SqliteArguments,
    ) -> Result<(), BindError> {
        Err(NO_ARRAYS.into())
    }

    fn read_text(row: &SqliteRow, index: usize) -> Result<Option<String>, sqlx::Error> {
        row.try_get(index)
    }
}

impl JsonColumn for Sqlite {
    const JSON: SqlType = SqlType::new("TEXT");

    fn bind_json<T: Serialize>(value: &T, args: &mut SqliteArguments) -> Result<(), BindError> {
        args.add(to_json(value)?)
    }

    fn bind_json_null(args: &mut SqliteArguments) -> Result<(), BindError> {
        args.add(None::<String>)
    }

    fn bind_json_array<'v, T: Serialize + 'v>(
        _values: impl Iterator<Item = Option<&'v T>>,
        _args: &mut SqliteArguments,
    ) -> Result<(), BindError> {
        Err(NO_ARRAYS.into())
    }

    fn read_json<T: DeserializeOwned>(row: &SqliteRow, index: usize) -> Result<Option<T>, sqlx::Error> {
        let Some(text) = row.try_get::<Option<String>, _>(index)? else { return Ok(None) };
        from_json(&text).map(Some).map_err(|message| decode_error(index, message))
    }
}
