//! What the derive says about a struct, and how the store reads and writes it.

use std::time::Duration;

use chrono::{DateTime, NaiveDateTime, Utc};
use storehaus_cache::{Cacheable, Key};
use uuid::Uuid;

use crate::backend::{Backend, BindError};
use crate::column::SqlType;

/// A struct that is a row of a table. Written by `#[derive(Model)]`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a model",
    note = "add `#[derive(Clone, Model)]` and `#[model(table = \"…\")]` to the struct, and `#[key]` to its key field"
)]
pub trait Model: Cacheable + Clone {
    /// The key: the type of the `#[key]` field, or a tuple of them in field order.
    type Key: ModelKey;

    /// The table and its columns.
    const TABLE: TableDef;

    /// The key of this row.
    fn key(&self) -> Self::Key;

    /// Fills what a new row gets before it is written: an unset key that the client makes (UUIDv7), `#[created_at]`
    /// and `#[updated_at]`.
    fn before_create(&mut self, now: DateTime<Utc>);

    /// Fills what a changed row gets before it is written: `#[updated_at]`.
    fn before_update(&mut self, now: DateTime<Utc>);
}

/// A model on one database. Written by `#[derive(Model)]` for each backend that is switched on.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be stored in `{DB}`",
    note = "`#[derive(Model)]` writes this for every backend whose feature is on; check the features of `storehaus`"
)]
pub trait Persist<DB: Backend>: Model {
    /// The SQL type of each column, in the order of [`TableDef::columns`].
    const TYPES: &'static [SqlType];

    /// Binds one column of this row.
    ///
    /// # Errors
    /// When the backend cannot hold the value.
    fn bind(&self, column: usize, args: &mut DB::Arguments) -> Result<(), BindError>;

    /// Binds one column of many rows as one array.
    ///
    /// # Errors
    /// When the backend cannot hold a value or has no arrays.
    fn bind_array(rows: &[Self], column: usize, args: &mut DB::Arguments) -> Result<(), BindError>;

    /// Binds the parts of a key, in order.
    ///
    /// # Errors
    /// When the backend cannot hold a part.
    fn bind_key(key: &Self::Key, args: &mut DB::Arguments) -> Result<(), BindError>;

    /// Binds each part of many keys as one array.
    ///
    /// # Errors
    /// When the backend cannot hold a part or has no arrays.
    fn bind_key_arrays(keys: &[Self::Key], args: &mut DB::Arguments) -> Result<(), BindError>;

    /// Reads a row whose columns stand in the order of [`TableDef::columns`].
    ///
    /// # Errors
    /// When a column is missing, NULL where the field is not an `Option`, or of another type.
    fn from_row(row: &DB::Row) -> Result<Self, sqlx::Error>;
}

/// The key of a model, as the database sees it.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be the key of a model",
    note = "use `Uuid`, `i32`, `i64`, `String`, or a newtype around one of them with `#[derive(Column)]`"
)]
pub trait ModelKey: Key {
    /// Who makes a key for a new row that has none.
    const ASSIGNED_BY: AssignedBy;

    /// Whether this key stands for "none yet": the nil UUID, zero.
    fn is_unset(&self) -> bool;

    /// A new key, where the client makes them.
    fn generate() -> Option<Self>;
}

/// Who makes the key of a new row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AssignedBy {
    /// The caller, always: `String` and composite keys.
    Caller,
    /// StoreHaus, when it is nil: UUIDv7.
    Client,
    /// The database, when it is zero: auto-increment.
    Database,
}

/// A table as the derive describes it. Every identifier was validated at compile time.
#[derive(Clone, Copy, Debug)]
pub struct TableDef {
    /// The struct's name, for messages.
    pub model: &'static str,
    /// The schema, when one was given (Postgres; SQLite has none and ignores it).
    pub schema: Option<&'static str>,
    /// The table's name.
    pub name: &'static str,
    /// The columns, in field order.
    pub columns: &'static [ColumnDef],
    /// Which columns are the key, in order.
    pub key: &'static [usize],
    /// Unique constraints and indexes.
    pub indexes: &'static [IndexDef],
    /// Which tiers may hold rows of this model.
    pub cache: CacheMode,
    /// The store prefix given on the struct; the table's name when there is none.
    pub prefix: Option<&'static str>,
    /// The TTL given on the struct.
    pub ttl: Option<Duration>,
}

/// A column.
#[derive(Clone, Copy, Debug)]
pub struct ColumnDef {
    /// The field's name.
    pub field: &'static str,
    /// The column's name.
    pub name: &'static str,
    /// What is written to it, and when.
    pub role: Role,
}

/// When a column is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Inserted and updated.
    Plain,
    /// A part of the key: inserted, never updated.
    Key,
    /// `#[readonly]`, `#[created_at]`: inserted, never updated.
    InsertOnly,
    /// `#[generated]`: never written, read back after each write. With the SQL expression when one was given.
    Generated(Option<&'static str>),
}

impl Role {
    /// Whether an INSERT writes the column.
    pub const fn is_inserted(self) -> bool {
        !matches!(self, Self::Generated(_))
    }

    /// Whether an UPDATE writes the column.
    pub const fn is_updated(self) -> bool {
        matches!(self, Self::Plain)
    }
}

/// An index or unique constraint.
#[derive(Clone, Copy, Debug)]
pub struct IndexDef {
    /// Its columns, in order.
    pub columns: &'static [usize],
    /// Whether it is unique.
    pub unique: bool,
}

/// Which tiers may hold rows of a model: `#[model(cache = "…")]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CacheMode {
    /// `"shared"`, the default: every tier.
    Shared,
    /// `"local"`: in process only, never in Redis.
    Local,
    /// `"never"`: no tier; every read asks the database.
    Never,
}

/// A time column that StoreHaus fills: `DateTime<Utc>`, `NaiveDateTime`, or an `Option` of one.
#[diagnostic::on_unimplemented(
    message = "a field of type `{Self}` cannot be `#[created_at]` or `#[updated_at]`",
    note = "use `DateTime<Utc>`, `NaiveDateTime`, or an `Option` of one of them"
)]
pub trait Timestamp: Sized {
    /// The column's value for a time. Cut to microseconds, which every backend keeps.
    fn at(now: DateTime<Utc>) -> Self;
}

impl Timestamp for DateTime<Utc> {
    fn at(now: DateTime<Utc>) -> Self {
        Self::from_timestamp_micros(now.timestamp_micros()).unwrap_or(now)
    }
}

impl Timestamp for NaiveDateTime {
    fn at(now: DateTime<Utc>) -> Self {
        DateTime::<Utc>::at(now).naive_utc()
    }
}

impl<T: Timestamp> Timestamp for Option<T> {
    fn at(now: DateTime<Utc>) -> Self {
        Some(T::at(now))
    }
}

impl ModelKey for Uuid {
    const ASSIGNED_BY: AssignedBy = AssignedBy::Client;

    fn is_unset(&self) -> bool {
        self.is_nil()
    }

    fn generate() -> Option<Self> {
        Some(Self::now_v7())
    }
}

macro_rules! auto_increment {
    ($($ty:ty),*) => {$(
        impl ModelKey for $ty {
            const ASSIGNED_BY: AssignedBy = AssignedBy::Database;

            fn is_unset(&self) -> bool {
                *self == 0
            }

            fn generate() -> Option<Self> {
                None
            }
        }
    )*};
}

auto_increment!(i16, i32, i64);

macro_rules! given_by_caller {
    ($([$($generic:ident),*] $ty:ty),* $(,)?) => {$(
        impl<$($generic: ModelKey),*> ModelKey for $ty {
            const ASSIGNED_BY: AssignedBy = AssignedBy::Caller;

            fn is_unset(&self) -> bool {
                false
            }

            fn generate() -> Option<Self> {
                None
            }
        }
    )*};
}

given_by_caller!([] String, [A, B] (A, B), [A, B, C] (A, B, C), [A, B, C, D] (A, B, C, D));
