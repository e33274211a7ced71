//! Columns that hold the label of an enum: text, or an enum type of Postgres.
//!
//! `postgres_enum` is the type's name as it stands in SQL, quotes included: `Some("\"mood\"")`. SQLite ignores it.

use super::{SqlType, decode_error};
use crate::backend::{Backend, BindError};

/// A backend that holds labels.
pub trait TextColumn: Backend {
    /// The type of a text column.
    const TEXT: SqlType;

    /// Whether the database has enum types.
    const ENUM_TYPES: bool;

    /// Binds a label, or NULL.
    ///
    /// # Errors
    /// When the driver refuses it.
    fn bind_text(label: Option<&'static str>, args: &mut Self::Arguments) -> Result<(), BindError>;

    /// Binds many labels as one array of text.
    ///
    /// # Errors
    /// When the backend has no arrays.
    fn bind_text_array(
        labels: impl Iterator<Item = Option<&'static str>>,
        args: &mut Self::Arguments,
    ) -> Result<(), BindError>;

    /// Reads a label; `None` for NULL.
    ///
    /// # Errors
    /// When there is no such column or it holds no text.
    fn read_text(row: &Self::Row, index: usize) -> Result<Option<String>, sqlx::Error>;
}

/// The type of a column of labels.
///
/// # Panics
/// At compile time, when the name of the enum type is not quoted.
pub const fn sql_type<DB: TextColumn>(postgres_enum: Option<&'static str>) -> SqlType {
    match postgres_enum {
        Some(name) if DB::ENUM_TYPES => {
            let quoted = name.as_bytes();
            assert!(
                quoted.len() > 2 && quoted[0] == b'"' && quoted[quoted.len() - 1] == b'"',
                "the name of an enum type is given with its quotes"
            );
            SqlType { name, element: DB::TEXT.name, nullable: false, cast: true }
        }
        _ => DB::TEXT,
    }
}

/// Binds a label. It travels as text; the statement casts it where [`SqlType::cast`] says so.
///
/// # Errors
/// When the driver refuses it.
pub fn bind_label<DB: TextColumn>(
    label: &'static str,
    _postgres_enum: Option<&'static str>,
    args: &mut DB::Arguments,
) -> Result<(), BindError> {
    DB::bind_text(Some(label), args)
}

/// Binds a NULL in place of a label.
///
/// # Errors
/// When the driver refuses it.
pub fn bind_null<DB: TextColumn>(
    _postgres_enum: Option<&'static str>,
    args: &mut DB::Arguments,
) -> Result<(), BindError> {
    DB::bind_text(None, args)
}

/// Binds many labels as one array of text.
///
/// # Errors
/// When the backend has no arrays.
pub fn bind_labels<DB: TextColumn>(
    labels: impl Iterator<Item = Option<&'static str>>,
    _postgres_enum: Option<&'static str>,
    args: &mut DB::Arguments,
) -> Result<(), BindError> {
    DB::bind_text_array(labels, args)
}

/// Reads a label; `None` for NULL.
///
/// # Errors
/// When there is no such column or it holds no text.
pub fn read_label<DB: TextColumn>(row: &DB::Row, index: usize) -> Result<Option<String>, sqlx::Error> {
    DB::read_text(row, index)
}

/// The error for a label that no variant of the enum has. It does not quote the label.
pub fn unknown_label(index: usize, type_name: &'static str) -> sqlx::Error {
    decode_error(index, format!("the label is no variant of `{type_name}`"))
}
