//! `Persist`: how the columns are bound and read, once for each database.

use proc_macro2::{Span, TokenStream};
use quote::quote;
use syn::Index;

use super::{Database, arguments_of, as_field, as_json, bind_result, row_of};
use crate::ir::{Field, Model};

pub(super) fn impl_persist(model: &Model, demands: &TokenStream, database: Database) -> TokenStream {
    let ident = &model.ident;
    let name = ident.to_string();
    let path = database.path(Span::call_site());
    let (arguments, row, result) = (arguments_of(database), row_of(database), bind_result());
    let numbers = || 0..model.fields.len();
    let (bind_numbers, array_numbers) = (numbers(), numbers());
    let types = model.fields.iter().map(|field| sql_type(field, database));
    let binds = model.fields.iter().map(|field| bind(field, database));
    let arrays = model.fields.iter().map(|field| bind_array(field, database));
    let reads = model.fields.iter().enumerate().map(|(i, field)| read(i, field, database));
    let (key, keys) = (bind_key(model, database), bind_key_arrays(model, database));
    quote! {
        #[automatically_derived]
        impl __p::model::Persist<#path> for #ident #demands {
            const TYPES: &'static [__p::column::SqlType] = &[#(#types),*];

            fn bind(&self, __column: ::core::primitive::usize, __args: &mut #arguments) -> #result {
                match __column {
                    #(#bind_numbers => #binds,)*
                    _ => ::core::result::Result::Err(__p::field::no_such_column(#name, __column)),
                }
            }

            fn bind_array(
                __rows: &[Self],
                __column: ::core::primitive::usize,
                __args: &mut #arguments,
            ) -> #result {
                match __column {
                    #(#array_numbers => #arrays,)*
                    _ => ::core::result::Result::Err(__p::field::no_such_column(#name, __column)),
                }
            }

            fn bind_key(__key: &Self::Key, __args: &mut #arguments) -> #result {
                #key
            }

            fn bind_key_arrays(__keys: &[Self::Key], __args: &mut #arguments) -> #result {
                #keys
            }

            fn from_row(__row: &#row) -> ::core::result::Result<Self, __p::sqlx::Error> {
                ::core::result::Result::Ok(Self { #(#reads)* })
            }
        }
    }
}

fn sql_type(field: &Field, database: Database) -> TokenStream {
    if field.json {
        let path = database.path(Span::call_site());
        return quote!(__p::column::json::sql_type::<#path>());
    }
    let (ty, item) = (as_field(&field.ty), database.item("TYPE"));
    quote!(#ty::#item)
}

fn bind(field: &Field, database: Database) -> TokenStream {
    let (ident, item) = (&field.ident, database.item("bind"));
    let ty = if field.json { as_json(&field.ty) } else { as_field(&field.ty) };
    quote!(#ty::#item(&self.#ident, __args))
}

fn bind_array(field: &Field, database: Database) -> TokenStream {
    let Field { ident, ty, .. } = field;
    let (rows, item) = (quote!(<[Self]>::iter(__rows)), database.item("bind_array"));
    if field.json {
        let ty = as_json(ty);
        return quote!(#ty::#item(::core::iter::Iterator::map(#rows, |__row| &__row.#ident), __args));
    }
    let ty = as_field(ty);
    quote! {
        #ty::#item(
            ::core::iter::Iterator::map(#rows, |__row| ::core::option::Option::Some(&__row.#ident)),
            __args,
        )
    }
}

fn bind_key(model: &Model, database: Database) -> TokenStream {
    let (columns, item) = (key_columns(model), database.item("bind"));
    if let [column] = &*columns {
        return quote!(#column::#item(__key, __args));
    }
    let parts = (0..columns.len()).map(Index::from);
    quote! {
        #(#columns::#item(&__key.#parts, __args)?;)*
        ::core::result::Result::Ok(())
    }
}

fn bind_key_arrays(model: &Model, database: Database) -> TokenStream {
    let (columns, item) = (key_columns(model), database.item("bind_array"));
    let keys = quote!(<[Self::Key]>::iter(__keys));
    if let [column] = &*columns {
        return quote!(#column::#item(::core::iter::Iterator::map(#keys, ::core::option::Option::Some), __args));
    }
    let parts = (0..columns.len()).map(Index::from);
    quote! {
        #(#columns::#item(
            ::core::iter::Iterator::map(#keys, |__key| ::core::option::Option::Some(&__key.#parts)),
            __args,
        )?;)*
        ::core::result::Result::Ok(())
    }
}

fn key_columns(model: &Model) -> Vec<TokenStream> {
    model.key.iter().map(|&i| as_field(&model.fields[i].ty)).collect()
}

fn read(index: usize, field: &Field, database: Database) -> TokenStream {
    let Field { ident, name, ty, .. } = field;
    let item = database.item("read");
    if field.json {
        let ty = as_json(ty);
        return quote!(#ident: #ty::#item(__row, #index)?,);
    }
    let ty = as_field(ty);
    quote! {
        #ident: match #ty::#item(__row, #index)? {
            ::core::option::Option::Some(__value) => __value,
            ::core::option::Option::None => {
                return ::core::result::Result::Err(__p::column::null_column(#index, #name));
            }
        },
    }
}
