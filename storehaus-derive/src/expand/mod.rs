//! Writes the code. Reads no attributes and reports nothing: what arrives here was checked.
//!
//! Everything stands in `const _` with `__p` for `storehaus::__private`, and every other path is absolute, so that a
//! user's `Option`, `Result` or `u64` of another meaning is not met. What belongs to a field has the location of its
//! type, which is where rustc then reports a missing trait.

mod cacheable;
mod enumeration;
mod model;
mod newtype;
mod persist;
mod skeleton;

pub(crate) use skeleton::{column_skeleton, model_skeleton};

use proc_macro2::{Span, TokenStream};
use quote::{format_ident, quote, quote_spanned};
use syn::spanned::Spanned as _;
use syn::{Ident, Path, Type};

use crate::ir::{Column, Field, Model, Role, Shape};

pub(crate) fn model(model: &Model) -> TokenStream {
    let demands = demands(model);
    let (cacheable, described) = (cacheable::impl_cacheable(model, &demands), model::impl_model(model, &demands));
    let persist = gated(|database| persist::impl_persist(model, &demands, database));
    enclosed(
        model.krate.as_ref(),
        &quote! {
            #cacheable
            #described
            #persist
        },
    )
}

pub(crate) fn column(column: &Column) -> TokenStream {
    let impls = match &column.shape {
        Shape::Newtype(inner) => newtype::impls(&column.ident, inner),
        Shape::Enum { variants, postgres } => enumeration::impls(&column.ident, variants, postgres.as_deref()),
    };
    enclosed(column.krate.as_ref(), &impls)
}

/// The errors, and impls that keep code using the type from being reported too.
pub(crate) fn with_errors(errors: syn::Error, skeleton: TokenStream) -> TokenStream {
    let errors = errors.into_compile_error();
    quote!(#errors #skeleton)
}

/// What the impls need of the struct and of its marked fields, as a `where` clause: the one place where rustc reports
/// what is missing, because the bodies may rely on it.
fn demands(model: &Model) -> TokenStream {
    let ident = &model.ident;
    let clone = quote_spanned!(Span::call_site().located_at(ident.span())=> #ident: ::core::clone::Clone);
    let fields = model.fields.iter().filter_map(demand);
    quote!(where #clone, #(#fields,)*)
}

fn demand(field: &Field) -> Option<TokenStream> {
    let ty = &field.ty;
    if matches!(field.role, Role::Key) {
        return Some(quote_spanned!(location(ty)=> #ty: __p::model::ModelKey));
    }
    field.stamp.map(|_| quote_spanned!(location(ty)=> #ty: __p::model::Timestamp))
}

fn enclosed(krate: Option<&Path>, body: &TokenStream) -> TokenStream {
    let krate = krate.map_or_else(|| quote!(::storehaus), |path| quote!(#path));
    quote! {
        #[allow(deprecated)]
        const _: () = {
            use #krate::__private as __p;
            #body
        };
    }
}

/// A database of sqlx.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Database {
    Postgres,
    Sqlite,
}

impl Database {
    fn path(self, span: Span) -> TokenStream {
        match self {
            Self::Postgres => quote_spanned!(span=> __p::sqlx::Postgres),
            Self::Sqlite => quote_spanned!(span=> __p::sqlx::Sqlite),
        }
    }

    /// The name of an item of `Field` for this database.
    fn item(self, name: &str) -> Ident {
        let prefix = match self {
            Self::Postgres => "postgres",
            Self::Sqlite => "sqlite",
        };
        let prefix = if name == "TYPE" { prefix.to_uppercase() } else { prefix.to_owned() };
        format_ident!("{prefix}_{name}")
    }
}

/// The code for each database, behind the library's switch for it.
fn gated(code: impl Fn(Database) -> TokenStream) -> TokenStream {
    let (postgres, sqlite) = (code(Database::Postgres), code(Database::Sqlite));
    quote! {
        __p::if_postgres! { #postgres }
        __p::if_sqlite! { #sqlite }
    }
}

/// `<ty as Field>`, located at the type: the one trait that stands for the cache and every database, so that a type
/// that is no column is one error.
fn as_field(ty: &Type) -> TokenStream {
    quote_spanned!(location(ty)=> <#ty as __p::field::Field>)
}

/// `<ty as JsonField>`, located at the type.
fn as_json(ty: &Type) -> TokenStream {
    quote_spanned!(location(ty)=> <#ty as __p::field::JsonField>)
}

/// Where a type stands, with the hygiene of generated code.
fn location(ty: &Type) -> Span {
    Span::call_site().located_at(ty.span())
}

fn arguments_of(database: Database) -> TokenStream {
    let path = database.path(Span::call_site());
    quote!(<#path as __p::sqlx::Database>::Arguments)
}

fn row_of(database: Database) -> TokenStream {
    let path = database.path(Span::call_site());
    quote!(<#path as __p::sqlx::Database>::Row)
}

fn bind_result() -> TokenStream {
    quote!(::core::result::Result<(), __p::backend::BindError>)
}

fn optional(text: Option<&str>) -> TokenStream {
    match text {
        Some(text) => quote!(::core::option::Option::Some(#text)),
        None => quote!(::core::option::Option::None),
    }
}
