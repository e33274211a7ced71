//! Which Rust types a column may have, and how each backend stores them.

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
    /// The type in a column definition, such as `BIGINT`.
    pub name: &'static str,
    /// The element type under which many values travel as one array; differs from `name` where the driver has no
    /// array of it (arrays of arrays, user enums). Those are cast back to `name`.
    pub element: &'static str,
    /// Whether the column may be NULL.
    pub nullable: bool,
}
