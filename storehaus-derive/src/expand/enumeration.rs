//! An enum is stored as the label of its variant.

use proc_macro2::{Literal, Span, TokenStream};
use quote::quote;
use syn::Ident;

use super::{Database, arguments_of, bind_result, gated, optional, row_of};
use crate::ir::Variant;

pub(super) fn impls(ident: &Ident, variants: &[Variant], postgres: Option<&str>) -> TokenStream {
    let cache = impl_cache_field(ident, variants);
    let columns = gated(|database| impl_column(ident, variants, postgres, database));
    let (names, labels) = names_and_labels(variants);
    quote! {
        #[allow(dead_code)]
        fn __label(__value: &#ident) -> &'static ::core::primitive::str {
            match __value {
                #(#ident::#names => #labels,)*
            }
        }
        #cache
        #columns
    }
}

/// In an entry an enum is the number of its variant; the layout names all labels in order.
fn impl_cache_field(ident: &Ident, variants: &[Variant]) -> TokenStream {
    let layout =
        format!("enum:{}", variants.iter().map(|variant| escaped(&variant.label)).collect::<Vec<_>>().join(","));
    let (names, _) = names_and_labels(variants);
    let numbers: Vec<_> = (0..variants.len()).map(Literal::usize_unsuffixed).collect();
    let unknown = format!("no variant of `{ident}` has this number");
    let number = quote!(<::core::primitive::i32 as __p::cache::CacheField>);
    quote! {
        #[automatically_derived]
        impl __p::cache::CacheField for #ident {
            const LAYOUT: ::core::primitive::u64 = __p::cache::codec::layout(#layout);

            fn encode(
                &self,
                __out: &mut __p::cache::Encoder,
            ) -> ::core::result::Result<(), __p::cache::EncodeError> {
                let __number: ::core::primitive::i32 = match self {
                    #(Self::#names => #numbers,)*
                };
                #number::encode(&__number, __out)
            }

            fn decode(
                __input: &mut __p::cache::Decoder<'_>,
            ) -> ::core::result::Result<Self, __p::cache::DecodeError> {
                match #number::decode(__input)? {
                    #(#numbers => ::core::result::Result::Ok(Self::#names),)*
                    _ => ::core::result::Result::Err(__p::cache::DecodeError::new(#unknown)),
                }
            }
        }
    }
}

fn impl_column(ident: &Ident, variants: &[Variant], postgres: Option<&str>, database: Database) -> TokenStream {
    let path = database.path(Span::call_site());
    let (arguments, row, result) = (arguments_of(database), row_of(database), bind_result());
    let name = ident.to_string();
    // The library takes the type's name as SQL has it, in quotes.
    let quoted = postgres.filter(|_| database == Database::Postgres).map(|name| format!("\"{name}\""));
    let native = optional(quoted.as_deref());
    let (names, labels) = names_and_labels(variants);
    let text = quote!(__p::column::text);
    quote! {
        #[automatically_derived]
        impl __p::column::Column<#path> for #ident {
            const TYPE: __p::column::SqlType = #text::sql_type::<#path>(#native);

            fn bind(&self, __args: &mut #arguments) -> #result {
                #text::bind_label::<#path>(__label(self), #native, __args)
            }

            fn bind_null(__args: &mut #arguments) -> #result {
                #text::bind_null::<#path>(#native, __args)
            }

            fn bind_array<'__v>(
                __values: impl ::core::iter::Iterator<Item = ::core::option::Option<&'__v Self>>,
                __args: &mut #arguments,
            ) -> #result
            where
                Self: '__v,
            {
                #text::bind_labels::<#path>(
                    ::core::iter::Iterator::map(__values, |__value| ::core::option::Option::map(__value, __label)),
                    #native,
                    __args,
                )
            }

            fn read(
                __row: &#row,
                __index: ::core::primitive::usize,
            ) -> ::core::result::Result<::core::option::Option<Self>, __p::sqlx::Error> {
                let ::core::option::Option::Some(__label) = #text::read_label::<#path>(__row, __index)? else {
                    return ::core::result::Result::Ok(::core::option::Option::None);
                };
                match &*__label {
                    #(#labels => ::core::result::Result::Ok(::core::option::Option::Some(Self::#names)),)*
                    _ => ::core::result::Result::Err(#text::unknown_label(__index, #name)),
                }
            }
        }
    }
}

fn names_and_labels(variants: &[Variant]) -> (Vec<&Ident>, Vec<&str>) {
    variants.iter().map(|variant| (&variant.ident, &*variant.label)).unzip()
}

/// A label inside the list that names the layout.
fn escaped(label: &str) -> String {
    label.replace('\\', "\\\\").replace(',', "\\,")
}
