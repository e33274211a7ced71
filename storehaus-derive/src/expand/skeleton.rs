//! Impls for an input that was refused: they do nothing, and keep the code that uses the type from being reported.

use proc_macro2::{Span, TokenStream};
use quote::quote;
use syn::Generics;

use super::{arguments_of, bind_result, enclosed, gated, row_of};
use crate::ir::Skeleton;

pub(crate) fn model_skeleton(skeleton: &Skeleton) -> TokenStream {
    let Skeleton { ident, generics, key, .. } = skeleton;
    let (impl_generics, ty_generics, _) = generics.split_for_impl();
    let bounds =
        bounds(generics, &quote!(::core::clone::Clone + ::core::marker::Send + ::core::marker::Sync + 'static));
    let key = match &**key {
        [] => quote!(::core::primitive::i64),
        [one] => quote!(#one),
        parts => quote!((#(#parts),*)),
    };
    let never = never();
    let persist = gated(|database| {
        let path = database.path(Span::call_site());
        let (arguments, row, result) = (arguments_of(database), row_of(database), bind_result());
        quote! {
            #[automatically_derived]
            impl #impl_generics __p::model::Persist<#path> for #ident #ty_generics #bounds {
                const TYPES: &'static [__p::column::SqlType] = &[];

                fn bind(&self, _: ::core::primitive::usize, _: &mut #arguments) -> #result {
                    #never
                }

                fn bind_array(_: &[Self], _: ::core::primitive::usize, _: &mut #arguments) -> #result {
                    #never
                }

                fn bind_key(_: &Self::Key, _: &mut #arguments) -> #result {
                    #never
                }

                fn bind_key_arrays(_: &[Self::Key], _: &mut #arguments) -> #result {
                    #never
                }

                fn from_row(_: &#row) -> ::core::result::Result<Self, __p::sqlx::Error> {
                    #never
                }
            }
        }
    });
    enclosed(
        skeleton.krate.as_ref(),
        &quote! {
            #[automatically_derived]
            impl #impl_generics __p::cache::Cacheable for #ident #ty_generics #bounds {
                const SCHEMA: ::core::primitive::u64 = 0;

                fn write(
                    &self,
                    _: &mut __p::cache::Encoder,
                ) -> ::core::result::Result<(), __p::cache::EncodeError> {
                    #never
                }

                fn read(
                    _: &mut __p::cache::Decoder<'_>,
                ) -> ::core::result::Result<Self, __p::cache::DecodeError> {
                    #never
                }
            }

            #[automatically_derived]
            impl #impl_generics __p::model::Model for #ident #ty_generics #bounds {
                type Key = #key;

                const TABLE: __p::model::TableDef = __p::model::TableDef {
                    model: "",
                    schema: ::core::option::Option::None,
                    name: "",
                    columns: &[],
                    key: &[],
                    indexes: &[],
                    cache: __p::model::CacheMode::Never,
                    prefix: ::core::option::Option::None,
                    ttl: ::core::option::Option::None,
                };

                fn key(&self) -> Self::Key {
                    #never
                }

                fn before_create(&mut self, _: __p::chrono::DateTime<__p::chrono::Utc>) {}

                fn before_update(&mut self, _: __p::chrono::DateTime<__p::chrono::Utc>) {}
            }
            #persist
        },
    )
}

pub(crate) fn column_skeleton(skeleton: &Skeleton) -> TokenStream {
    let Skeleton { ident, generics, .. } = skeleton;
    let (impl_generics, ty_generics, _) = generics.split_for_impl();
    let bounds = bounds(generics, &quote!('static));
    let never = never();
    let columns = gated(|database| {
        let path = database.path(Span::call_site());
        let (arguments, row, result) = (arguments_of(database), row_of(database), bind_result());
        quote! {
            #[automatically_derived]
            impl #impl_generics __p::column::Column<#path> for #ident #ty_generics #bounds {
                const TYPE: __p::column::SqlType =
                    <::core::primitive::i64 as __p::column::Column<#path>>::TYPE;

                fn bind(&self, _: &mut #arguments) -> #result {
                    #never
                }

                fn bind_null(_: &mut #arguments) -> #result {
                    #never
                }

                fn bind_array<'__v>(
                    _: impl ::core::iter::Iterator<Item = ::core::option::Option<&'__v Self>>,
                    _: &mut #arguments,
                ) -> #result
                where
                    Self: '__v,
                {
                    #never
                }

                fn read(
                    _: &#row,
                    _: ::core::primitive::usize,
                ) -> ::core::result::Result<::core::option::Option<Self>, __p::sqlx::Error> {
                    #never
                }
            }
        }
    });
    enclosed(
        skeleton.krate.as_ref(),
        &quote! {
            #[automatically_derived]
            impl #impl_generics __p::cache::CacheField for #ident #ty_generics #bounds {
                const LAYOUT: ::core::primitive::u64 = 0;

                fn encode(
                    &self,
                    _: &mut __p::cache::Encoder,
                ) -> ::core::result::Result<(), __p::cache::EncodeError> {
                    #never
                }

                fn decode(
                    _: &mut __p::cache::Decoder<'_>,
                ) -> ::core::result::Result<Self, __p::cache::DecodeError> {
                    #never
                }
            }
            #columns
        },
    )
}

/// What the traits demand of a type with parameters; one without is left to rustc.
fn bounds(generics: &Generics, demanded: &TokenStream) -> TokenStream {
    if generics.params.is_empty() {
        return TokenStream::new();
    }
    let own = generics.where_clause.iter().flat_map(|clause| &clause.predicates);
    quote!(where Self: #demanded, #(#own,)*)
}

fn never() -> TokenStream {
    quote!(::core::panic!("the derive refused this type"))
}
