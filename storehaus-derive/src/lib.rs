//! The derive macros of StoreHaus: `#[derive(Model)]` and `#[derive(Column)]`.
//!
//! Depend on `storehaus`, which re-exports both; this crate is not meant to be named directly. The generated code
//! names everything through `storehaus::__private`, so a user's package needs no other dependency.
//!
//! Each macro is a pipeline of three steps that share the types of `ir`: `parse` reads the input and its attributes,
//! `validate` checks them against each other, `expand` writes the code. All errors of one input are collected in a
//! `ctxt::Ctxt` and reported together; skeleton impls follow them, so that code using the type is not reported too.

mod ctxt;
mod expand;
mod ir;
mod names;
mod parse;
mod validate;

#[cfg(test)]
mod tests;

use std::panic::{AssertUnwindSafe, catch_unwind};

use proc_macro2::{Span, TokenStream};

use ctxt::Ctxt;

/// Makes a struct with named fields a model: a row of a table that a store reads, writes and caches.
///
/// It implements `Cacheable` (how a row stands in the cache), `Model` (what its table is) and, for each backend whose
/// feature is on, `Persist` (how its columns are bound and read). The struct must be `Clone`; every field needs a
/// column type (see below), `#[derive(Column)]` on its own type, or `#[json]`.
///
/// # On the struct, inside `#[model(...)]`
///
/// | Attribute | Meaning | Default |
/// |---|---|---|
/// | `table = "users"` | the table's name | required |
/// | `schema = "app"` | the table's schema on Postgres; SQLite ignores it | the search path |
/// | `cache = "shared"` | every tier may hold rows; `"local"`: in process only; `"never"`: no tier | `"shared"` |
/// | `prefix = "users"` | the store's part of every cache key: 1 to 64 of `A-Z a-z 0-9 _ . -` | the table's name |
/// | `ttl = 300` | how many seconds a cached row lives | the cache's setting |
/// | `unique(a, b)` | a unique constraint over the columns of these fields; repeatable | none |
/// | `index(a, b)` | an index over the columns of these fields; repeatable | none |
/// | `crate = path` | where `storehaus` is, for crates that re-export it | `::storehaus` |
///
/// # On a field
///
/// Each word stands alone, as `#[key]`, or inside `#[model(...)]`, as `#[model(key)]`; `rename` only inside.
///
/// | Attribute | Meaning |
/// |---|---|
/// | `#[key]` | the primary key, or one of its two to four parts in field order; never updated |
/// | `#[unique]` | a unique constraint over this column |
/// | `#[index]` | an index over this column |
/// | `#[json]` | any serde type, stored as JSON; the column is NOT NULL |
/// | `#[generated]` | the database makes the value; never written, read back after each write |
/// | `#[generated("sql")]` | the same, with the expression for a table that StoreHaus creates; also `#[model(generated = "sql")]` |
/// | `#[readonly]` | written by an insert, never by an update |
/// | `#[created_at]` | set to the time of the insert, never updated |
/// | `#[updated_at]` | set to the time of each insert and update |
/// | `#[model(rename = "column")]` | the column's name; without it, the field's |
///
/// A nil `Uuid` key is replaced by a UUIDv7 when the row is created; a zero integer key is assigned by the database;
/// `String` and composite keys come from the caller. Attributes of other derives are ignored.
///
/// # Column types
///
/// `bool`, `i16`, `i32`, `i64`, `f32`, `f64`, `String`, `Vec<u8>`, `Uuid`, `NaiveDate`, `NaiveTime`, `NaiveDateTime`,
/// `DateTime<Utc>`, `Decimal`, `serde_json::Value`, `Json<T>`, `Vec<String>`, `Vec<i64>`, `Vec<Uuid>`, an `Option` of
/// each (a column that may be NULL), and types with `#[derive(Column)]`.
///
/// # Examples
///
/// The example is not compiled here, because this crate cannot depend on `storehaus`; the tests of `storehaus` compile
/// a model with every attribute.
///
/// ```ignore
/// use storehaus::{Column, Model};
///
/// #[derive(Clone, Debug, PartialEq, Eq, Hash, Column)]
/// struct UserId(i64);
///
/// #[derive(Clone, Debug, Model)]
/// #[model(table = "users", schema = "app", ttl = 300, unique(tenant, email))]
/// struct User {
///     #[key]
///     id: UserId,
///     tenant: i64,
///     email: String,
///     #[index]
///     name: Option<String>,
///     #[json]
///     settings: Vec<(String, bool)>,
///     #[generated("lower(email)")]
///     email_lower: String,
///     #[model(rename = "type")]
///     kind: String,
/// }
/// ```
#[proc_macro_derive(Model, attributes(model, key, unique, index, json, generated, readonly, created_at, updated_at))]
pub fn derive_model(input: proc_macro::TokenStream) -> proc_macro::TokenStream {
    guard("Model", || model(input.into())).into()
}

/// Makes a newtype or an enum of unit variants a column type.
///
/// A newtype, `struct UserId(Uuid);`, is stored as the type inside it and is a key where that type is one; a key also
/// needs `Clone`, `Debug`, `PartialEq`, `Eq` and `Hash`. An enum is stored as text, or as a native enum of Postgres,
/// and is no key. A label in the database that no variant has is an error of the read.
///
/// # Attributes, inside `#[column(...)]`
///
/// | Attribute | On | Meaning | Default |
/// |---|---|---|---|
/// | `rename_all = "snake_case"` | enum | how variants become labels: `snake_case`, `camelCase`, `PascalCase`, `SCREAMING_SNAKE_CASE`, `kebab-case`, `lowercase`, `UPPERCASE` | as written |
/// | `rename = "x"` | variant | the variant's label, whatever `rename_all` says | none |
/// | `postgres_enum = "mood"` | enum | the native enum type on Postgres; SQLite stores text | text |
/// | `crate = path` | both | where `storehaus` is, for crates that re-export it | `::storehaus` |
///
/// A word starts at an upper-case letter that follows a lower-case letter or a digit, and at the last of several
/// upper-case letters before a lower-case one: `HttpError` and `HTTPError` are both `http_error`.
///
/// # Examples
///
/// The example is not compiled here, because this crate cannot depend on `storehaus`; the tests of `storehaus` compile
/// every attribute.
///
/// ```ignore
/// use storehaus::Column;
///
/// #[derive(Clone, Debug, PartialEq, Eq, Hash, Column)]
/// struct Email(String);
///
/// #[derive(Clone, Copy, Debug, Column)]
/// #[column(rename_all = "snake_case", postgres_enum = "mood")]
/// enum Mood {
///     VeryHappy,
///     #[column(rename = "meh")]
///     Indifferent,
/// }
/// ```
#[proc_macro_derive(Column, attributes(column))]
pub fn derive_column(input: proc_macro::TokenStream) -> proc_macro::TokenStream {
    guard("Column", || column(input.into())).into()
}

fn model(input: TokenStream) -> TokenStream {
    let input = match syn::parse2(input) {
        Ok(input) => input,
        Err(error) => return error.into_compile_error(),
    };
    let mut ctxt = Ctxt::new();
    let declared = parse::model(&input, &mut ctxt);
    let skeleton = declared.skeleton();
    let model = validate::model(declared, &mut ctxt);
    match (ctxt.finish(), model) {
        (None, Some(model)) => expand::model(&model),
        (Some(errors), _) => expand::with_errors(errors, expand::model_skeleton(&skeleton)),
        (None, None) => panic!("the input was refused without a message"),
    }
}

fn column(input: TokenStream) -> TokenStream {
    let input = match syn::parse2(input) {
        Ok(input) => input,
        Err(error) => return error.into_compile_error(),
    };
    let mut ctxt = Ctxt::new();
    let declared = parse::column(&input, &mut ctxt);
    let skeleton = declared.skeleton();
    let column = validate::column(declared, &mut ctxt);
    match (ctxt.finish(), column) {
        (None, Some(column)) => expand::column(&column),
        (Some(errors), _) => expand::with_errors(errors, expand::column_skeleton(&skeleton)),
        (None, None) => panic!("the input was refused without a message"),
    }
}

/// Turns a panic of the macro into an error that says whose fault it is.
fn guard(name: &str, expand: impl FnOnce() -> TokenStream) -> TokenStream {
    catch_unwind(AssertUnwindSafe(expand)).unwrap_or_else(|_| {
        let message = format!(
            "`#[derive({name})]` panicked; this is a bug of storehaus-derive {}: please report it with this type at {}",
            env!("CARGO_PKG_VERSION"),
            env!("CARGO_PKG_REPOSITORY"),
        );
        syn::Error::new(Span::call_site(), message).into_compile_error()
    })
}
