//! Columns that hold JSON: `serde_json::Value`, [`Json`] and `#[json]` fields.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use storehaus_cache::Json;

use super::{Column, SqlType, null_column};
use crate::backend::{Backend, BindError};

/// A backend that holds JSON: `JSONB` on Postgres, `TEXT` on SQLite.
///
/// JSON has no NaN and no infinity: serde_json writes them as `null`. `JSONB` keeps no order of an object's keys, and
/// PostgreSQL refuses text with U+0000.
pub trait JsonColumn: Backend {
    /// The type of a JSON column.
    const JSON: SqlType;

    /// Binds a value as JSON.
    ///
    /// # Errors
    /// When the type refuses to serialize.
    fn bind_json<T: Serialize>(value: &T, args: &mut Self::Arguments) -> Result<(), BindError>;

    /// Binds a NULL.
    ///
    /// # Errors
    /// When the driver refuses it.
    fn bind_json_null(args: &mut Self::Arguments) -> Result<(), BindError>;

    /// Binds many values as one array.
    ///
    /// # Errors
    /// When the type refuses to serialize, or the backend has no arrays.
    fn bind_json_array<'v, T: Serialize + 'v>(
        values: impl Iterator<Item = Option<&'v T>>,
        args: &mut Self::Arguments,
    ) -> Result<(), BindError>;

    /// Reads a value; `None` for SQL's NULL.
    ///
    /// # Errors
    /// When the column holds no JSON or JSON of another shape.
    fn read_json<T: DeserializeOwned>(row: &Self::Row, index: usize) -> Result<Option<T>, sqlx::Error>;
}

/// The type of a `#[json]` column.
pub const fn sql_type<DB: JsonColumn>() -> SqlType {
    DB::JSON
}

/// Binds a `#[json]` field.
///
/// # Errors
/// When the type refuses to serialize.
pub fn bind<DB: JsonColumn, T: Serialize>(value: &T, args: &mut DB::Arguments) -> Result<(), BindError> {
    DB::bind_json(value, args)
}

/// Binds a `#[json]` field of many rows as one array.
///
/// # Errors
/// When the type refuses to serialize, or the backend has no arrays.
pub fn bind_array<'v, DB: JsonColumn, T: Serialize + 'v>(
    values: impl Iterator<Item = &'v T>,
    args: &mut DB::Arguments,
) -> Result<(), BindError> {
    DB::bind_json_array(values.map(Some), args)
}

/// Reads a `#[json]` field. SQL's NULL is an error: the `None` of an `Option` is JSON's `null`.
///
/// # Errors
/// When the column is NULL, or holds no JSON or JSON of another shape.
pub fn read<DB: JsonColumn, T: DeserializeOwned>(row: &DB::Row, index: usize) -> Result<T, sqlx::Error> {
    DB::read_json(row, index)?.ok_or_else(|| null_column(index, "#[json]"))
}

/// Why a value has no JSON. serde's own text is kept out: it may quote the value.
pub(super) const REFUSED: &str = "the value refused to serialize as JSON";

/// Why JSON was not read. serde's own text is kept out: it may quote the value.
pub(super) fn shape(error: &serde_json::Error) -> String {
    format!("the JSON does not fit the field's type (line {}, column {})", error.line(), error.column())
}

impl<DB: JsonColumn> Column<DB> for Value {
    const TYPE: SqlType = DB::JSON;

    fn bind(&self, args: &mut DB::Arguments) -> Result<(), BindError> {
        DB::bind_json(self, args)
    }

    fn bind_null(args: &mut DB::Arguments) -> Result<(), BindError> {
        DB::bind_json_null(args)
    }

    fn bind_array<'v>(
        values: impl Iterator<Item = Option<&'v Self>>,
        args: &mut DB::Arguments,
    ) -> Result<(), BindError> {
        DB::bind_json_array(values, args)
    }

    fn read(row: &DB::Row, index: usize) -> Result<Option<Self>, sqlx::Error> {
        DB::read_json(row, index)
    }
}

impl<DB: JsonColumn, T: Serialize + DeserializeOwned> Column<DB> for Json<T> {
    const TYPE: SqlType = DB::JSON;

    fn bind(&self, args: &mut DB::Arguments) -> Result<(), BindError> {
        DB::bind_json(&self.0, args)
    }

    fn bind_null(args: &mut DB::Arguments) -> Result<(), BindError> {
        DB::bind_json_null(args)
    }

    fn bind_array<'v>(values: impl Iterator<Item = Option<&'v Self>>, args: &mut DB::Arguments) -> Result<(), BindError>
    where
        Self: 'v,
    {
        DB::bind_json_array(values.map(|value| value.map(|json| &json.0)), args)
    }

    fn read(row: &DB::Row, index: usize) -> Result<Option<Self>, sqlx::Error> {
        Ok(DB::read_json(row, index)?.map(Self))
    }
}
