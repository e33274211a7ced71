//! What generated code asks of a field's type. Not a public API.
//!
//! A type that cannot be a column misses one trait for the cache and one for each backend. Generated code goes through
//! one trait that stands for all of them and has no supertraits, so that rustc reports one error, at the field.

use serde::Serialize;
use serde::de::DeserializeOwned;
use storehaus_cache::codec::JsonField as JsonCodec;
use storehaus_cache::{CacheField, DecodeError, Decoder, EncodeError, Encoder};

use crate::backend::BindError;

macro_rules! field_traits {
    ($($feature:literal $db:ident $bound:ident:
        $ty:ident $bind:ident $bind_null:ident $bind_array:ident $read:ident;)*) => {
        /// A type that can be a column: of the cache and of every backend that is switched on.
        #[diagnostic::on_unimplemented(
            message = "a field of type `{Self}` cannot be a column",
            label = "not a column type",
            note = "supported are bool, i16, i32, i64, f32, f64, String, Vec<u8>, Uuid, NaiveDate, NaiveTime, NaiveDateTime, DateTime<Utc>, Decimal, serde_json::Value, Json<T>, Vec<String>, Vec<i64>, Vec<Uuid> and an Option of each",
            note = "for your own enum or newtype add `#[derive(Column)]`; for any serde type put `#[json]` on the field"
        )]
        pub trait Field: Sized {
            const LAYOUT: u64;
            fn encode(&self, out: &mut Encoder) -> Result<(), EncodeError>;
            fn decode(input: &mut Decoder<'_>) -> Result<Self, DecodeError>;
            $(
                #[cfg(feature = $feature)]
                const $ty: crate::column::SqlType;
                #[cfg(feature = $feature)]
                fn $bind(&self, args: &mut <sqlx::$db as sqlx::Database>::Arguments) -> Result<(), BindError>;
                #[cfg(feature = $feature)]
                fn $bind_null(args: &mut <sqlx::$db as sqlx::Database>::Arguments) -> Result<(), BindError>;
                #[cfg(feature = $feature)]
                fn $bind_array<'v>(
                    values: impl Iterator<Item = Option<&'v Self>>,
                    args: &mut <sqlx::$db as sqlx::Database>::Arguments,
                ) -> Result<(), BindError>
                where
                    Self: 'v;
                #[cfg(feature = $feature)]
                fn $read(row: &<sqlx::$db as sqlx::Database>::Row, index: usize) -> Result<Option<Self>, sqlx::Error>;
            )*
        }

        #[diagnostic::do_not_recommend]
        impl<T: CacheField $(+ $bound)*> Field for T {
            const LAYOUT: u64 = <T as CacheField>::LAYOUT;

            fn encode(&self, out: &mut Encoder) -> Result<(), EncodeError> {
                CacheField::encode(self, out)
            }

            fn decode(input: &mut Decoder<'_>) -> Result<Self, DecodeError> {
                CacheField::decode(input)
            }
            $(
                #[cfg(feature = $feature)]
                const $ty: crate::column::SqlType = <T as crate::column::Column<sqlx::$db>>::TYPE;

                #[cfg(feature = $feature)]
                fn $bind(&self, args: &mut <sqlx::$db as sqlx::Database>::Arguments) -> Result<(), BindError> {
                    <T as crate::column::Column<sqlx::$db>>::bind(self, args)
                }

                #[cfg(feature = $feature)]
                fn $bind_null(args: &mut <sqlx::$db as sqlx::Database>::Arguments) -> Result<(), BindError> {
                    <T as crate::column::Column<sqlx::$db>>::bind_null(args)
                }

                #[cfg(feature = $feature)]
                fn $bind_array<'v>(
                    values: impl Iterator<Item = Option<&'v Self>>,
                    args: &mut <sqlx::$db as sqlx::Database>::Arguments,
                ) -> Result<(), BindError>
                where
                    Self: 'v,
                {
                    <T as crate::column::Column<sqlx::$db>>::bind_array(values, args)
                }

                #[cfg(feature = $feature)]
                fn $read(row: &<sqlx::$db as sqlx::Database>::Row, index: usize) -> Result<Option<Self>, sqlx::Error> {
                    <T as crate::column::Column<sqlx::$db>>::read(row, index)
                }
            )*
        }

        /// A type that can stand in a `#[json]` field.
        #[diagnostic::on_unimplemented(
            message = "a `#[json]` field of type `{Self}` cannot be stored",
            label = "not a JSON type",
            note = "derive `serde::Serialize` and `serde::Deserialize` for it; it must also be `Send`, `Sync` and `'static`"
        )]
        pub trait JsonField: Sized {
            fn encode(&self, out: &mut Encoder) -> Result<(), EncodeError>;
            fn decode(input: &mut Decoder<'_>) -> Result<Self, DecodeError>;
            $(
                #[cfg(feature = $feature)]
                fn $bind(&self, args: &mut <sqlx::$db as sqlx::Database>::Arguments) -> Result<(), BindError>;
                #[cfg(feature = $feature)]
                fn $bind_array<'v>(
                    values: impl Iterator<Item = &'v Self>,
                    args: &mut <sqlx::$db as sqlx::Database>::Arguments,
                ) -> Result<(), BindError>
                where
                    Self: 'v;
                #[cfg(feature = $feature)]
                fn $read(row: &<sqlx::$db as sqlx::Database>::Row, index: usize) -> Result<Self, sqlx::Error>;
            )*
        }

        #[diagnostic::do_not_recommend]
        impl<T: Serialize + DeserializeOwned + Send + Sync + 'static> JsonField for T {
            fn encode(&self, out: &mut Encoder) -> Result<(), EncodeError> {
                JsonCodec::encode(self, out)
            }

            fn decode(input: &mut Decoder<'_>) -> Result<Self, DecodeError> {
                JsonCodec::decode(input)
            }
            $(
                #[cfg(feature = $feature)]
                fn $bind(&self, args: &mut <sqlx::$db as sqlx::Database>::Arguments) -> Result<(), BindError> {
                    crate::column::json::bind::<sqlx::$db, T>(self, args)
                }

                #[cfg(feature = $feature)]
                fn $bind_array<'v>(
                    values: impl Iterator<Item = &'v Self>,
                    args: &mut <sqlx::$db as sqlx::Database>::Arguments,
                ) -> Result<(), BindError>
                where
                    Self: 'v,
                {
                    crate::column::json::bind_array::<sqlx::$db, T>(values, args)
                }

                #[cfg(feature = $feature)]
                fn $read(row: &<sqlx::$db as sqlx::Database>::Row, index: usize) -> Result<Self, sqlx::Error> {
                    crate::column::json::read::<sqlx::$db, T>(row, index)
                }
            )*
        }
    };
}

field_traits! {
    "postgres" Postgres InPostgres:
        POSTGRES_TYPE postgres_bind postgres_bind_null postgres_bind_array postgres_read;
    "sqlite" Sqlite InSqlite: SQLITE_TYPE sqlite_bind sqlite_bind_null sqlite_bind_array sqlite_read;
}

macro_rules! in_backend {
    ($($feature:literal $db:ident $bound:ident;)*) => {$(
        /// A column of this backend.
        #[cfg(feature = $feature)]
        pub trait $bound: crate::column::Column<sqlx::$db> {}

        #[cfg(feature = $feature)]
        impl<T: crate::column::Column<sqlx::$db>> $bound for T {}

        /// Any type: the backend is off.
        #[cfg(not(feature = $feature))]
        pub trait $bound {}

        #[cfg(not(feature = $feature))]
        impl<T> $bound for T {}
    )*};
}

in_backend! {
    "postgres" Postgres InPostgres;
    "sqlite" Sqlite InSqlite;
}

/// The error for a column number that a model does not have.
pub fn no_such_column(model: &'static str, column: usize) -> BindError {
    format!("the model {model} has no column number {column}").into()
}
