//! `Model`: what the table is.

use proc_macro2::TokenStream;
use quote::{quote, quote_spanned};

use super::{location, optional};
use crate::ir::{Cache, Field, Index, Model, Role, Stamp};

pub(super) fn impl_model(model: &Model, demands: &TokenStream) -> TokenStream {
    let ident = &model.ident;
    let table = table(model);
    let (key_type, key_value) = key(model);
    let generate = generate(model);
    let at_create = model.fields.iter().filter(|field| field.stamp.is_some()).map(stamp);
    let at_update = model.fields.iter().filter(|field| field.stamp == Some(Stamp::Updated)).map(stamp);
    let now = quote!(__p::chrono::DateTime<__p::chrono::Utc>);
    quote! {
        #[automatically_derived]
        impl __p::model::Model for #ident #demands {
            type Key = #key_type;

            const TABLE: __p::model::TableDef = #table;

            fn key(&self) -> Self::Key {
                #key_value
            }

            fn before_create(&mut self, __now: #now) {
                #generate
                #(#at_create)*
            }

            fn before_update(&mut self, __now: #now) {
                #(#at_update)*
            }
        }
    }
}

fn table(model: &Model) -> TokenStream {
    let name = model.ident.to_string();
    let name = name.strip_prefix("r#").unwrap_or(&name);
    let table = &model.table;
    let (schema, prefix) = (optional(model.schema.as_deref()), optional(model.prefix.as_deref()));
    let columns = model.fields.iter().map(column);
    let key = &model.key;
    let indexes = model.indexes.iter().map(index);
    let cache = match model.cache {
        Cache::Shared => quote!(Shared),
        Cache::Local => quote!(Local),
        Cache::Never => quote!(Never),
    };
    let ttl = match model.ttl {
        Some(seconds) => quote!(::core::option::Option::Some(::core::time::Duration::from_secs(#seconds))),
        None => optional(None),
    };
    quote! {
        __p::model::TableDef {
            model: #name,
            schema: #schema,
            name: #table,
            columns: &[#(#columns),*],
            key: &[#(#key),*],
            indexes: &[#(#indexes),*],
            cache: __p::model::CacheMode::#cache,
            prefix: #prefix,
            ttl: #ttl,
        }
    }
}

fn column(field: &Field) -> TokenStream {
    let (name, column) = (&field.name, &field.column);
    let role = match &field.role {
        Role::Plain => quote!(Plain),
        Role::Key => quote!(Key),
        Role::InsertOnly => quote!(InsertOnly),
        Role::Generated(expression) => {
            let expression = optional(expression.as_deref());
            quote!(Generated(#expression))
        }
    };
    quote!(__p::model::ColumnDef { field: #name, name: #column, role: __p::model::Role::#role })
}

fn index(index: &Index) -> TokenStream {
    let Index { columns, unique } = index;
    quote!(__p::model::IndexDef { columns: &[#(#columns),*], unique: #unique })
}

/// The key's type and its value.
fn key(model: &Model) -> (TokenStream, TokenStream) {
    let parts = model.key.iter().map(|&i| &model.fields[i]);
    let (types, values): (Vec<_>, Vec<_>) = parts
        .map(|Field { ident, ty, .. }| {
            (quote!(#ty), quote_spanned!(location(ty)=> <#ty as ::core::clone::Clone>::clone(&self.#ident)))
        })
        .unzip();
    if let ([ty], [value]) = (&*types, &*values) {
        return (ty.clone(), value.clone());
    }
    (quote!((#(#types),*)), quote!((#(#values),*)))
}

/// Gives a new row a key that the client makes. The parts of a composite key come from the caller.
fn generate(model: &Model) -> Option<TokenStream> {
    let &[key] = &*model.key else { return None };
    let Field { ident, ty, .. } = &model.fields[key];
    let key = quote_spanned!(location(ty)=> <#ty as __p::model::ModelKey>);
    Some(quote! {
        if #key::is_unset(&self.#ident) {
            if let ::core::option::Option::Some(__key) = #key::generate() {
                self.#ident = __key;
            }
        }
    })
}

fn stamp(field: &Field) -> TokenStream {
    let Field { ident, ty, .. } = field;
    let time = quote_spanned!(location(ty)=> <#ty as __p::model::Timestamp>);
    quote!(self.#ident = #time::at(__now);)
}
