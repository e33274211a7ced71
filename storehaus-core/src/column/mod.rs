//! Which Rust types a column may have, and how each backend stores them.

pub mod json;
pub mod text;

#[cfg(feature = "postgres")]
mod decimal;
#[cfg(feature = "postgres")]
mod postgres;
#[cfg(feature = "sqlite")]
mod sqlite;

use chrono::{NaiveDateTime, NaiveTime, Timelike};

use crate::backend::{Backend, BindError};

/// A type that can be a column of `DB`.
///
/// Implemented for the types listed in the documentation of `#[derive(Model)]`; `#[derive(Column)]` writes it for
/// enums and newtypes.
#[diagnostic::on_unimplemented(
    message = "a field of type `{Self}` cannot be a column of `{DB}`",
    note = "supported are bool, i16, i32, i64, f32, f64, String, Vec<u8>, Uuid, NaiveDate, NaiveTime, NaiveDateTime, DateTime<Utc>, Decimal, serde_json::Value, Json<T>, Vec<String>, Vec<i64>, Vec<Uuid> and an Option of each",
    note = "for your own enum or newtype add `#[derive(Column)]`; for any serde type put `#[json]` on the field"
)]
pub trait Column<DB: Backend>: Sized {
    /// The column's SQL type.
    const TYPE: SqlType;

    /// Binds the value.
    ///
    /// # Errors
    /// When the backend cannot hold it.
    fn bind(&self, args: &mut DB::Arguments) -> Result<(), BindError>;

    /// Binds a NULL of this type.
    ///
    /// # Errors
    /// When the driver refuses it.
    fn bind_null(args: &mut DB::Arguments) -> Result<(), BindError>;

    /// Binds many values as one array of [`SqlType::element`].
    ///
    /// # Errors
    /// When the backend cannot hold a value, or has no arrays.
    fn bind_array<'v>(
        values: impl Iterator<Item = Option<&'v Self>>,
        args: &mut DB::Arguments,
    ) -> Result<(), BindError>
    where
        Self: 'v;

    /// Reads the column at `index`; `None` for NULL.
    ///
    /// # Errors
    /// When there is no such column or it holds another type.
    fn read(row: &DB::Row, index: usize) -> Result<Option<Self>, sqlx::Error>;
}

/// How a backend spells and transports a column type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SqlType {
    /// The type in a column definition, such as `BIGINT`; ready to paste, quoted where it is a user's type.
    pub name: &'static str,
    /// The element type under which many values travel as one array; differs from `name` where the driver has no
    /// array of it (arrays of arrays, user enums). Those are cast back to `name`.
    pub element: &'static str,
    /// Whether the column may be NULL.
    pub nullable: bool,
    /// Whether a single parameter travels as another type too, so that its placeholder is written `$n::name`.
    pub cast: bool,
}

impl SqlType {
    /// A NOT NULL type that travels as itself.
    pub const fn new(name: &'static str) -> Self {
        Self { name, element: name, nullable: false, cast: false }
    }
}

/// The error for a column that is NULL where the field is not an `Option`.
pub fn null_column(index: usize, field: &str) -> sqlx::Error {
    decode_error(index, format!("the column of the field `{field}` is NULL; make the field an `Option`"))
}

fn decode_error(index: usize, message: String) -> sqlx::Error {
    sqlx::Error::ColumnDecode { index: index.to_string(), source: message.into() }
}

impl<DB: Backend, T: Column<DB>> Column<DB> for Option<T> {
    const TYPE: SqlType = {
        assert!(!T::TYPE.nullable, "an `Option` of an `Option` cannot be a column: SQL has one NULL");
        SqlType { nullable: true, ..T::TYPE }
    };

    fn bind(&self, args: &mut DB::Arguments) -> Result<(), BindError> {
        match self {
            Some(value) => value.bind(args),
            None => T::bind_null(args),
        }
    }

    fn bind_null(args: &mut DB::Arguments) -> Result<(), BindError> {
        T::bind_null(args)
    }

    fn bind_array<'v>(values: impl Iterator<Item = Option<&'v Self>>, args: &mut DB::Arguments) -> Result<(), BindError>
    where
        Self: 'v,
    {
        T::bind_array(values.map(|value| value.and_then(Self::as_ref)), args)
    }

    fn read(row: &DB::Row, index: usize) -> Result<Option<Self>, sqlx::Error> {
        T::read(row, index).map(Some)
    }
}

/// chrono can express 23:59:60, no backend can: read back it is another time.
fn refuse_leap_second(time: NaiveTime) -> Result<(), BindError> {
    if time.nanosecond() >= 1_000_000_000 {
        return Err("the time is within a leap second, which the database cannot hold".into());
    }
    Ok(())
}

/// [`refuse_leap_second`] of a date and time.
fn refuse_leap_second_at(time: NaiveDateTime) -> Result<(), BindError> {
    refuse_leap_second(time.time())
}
