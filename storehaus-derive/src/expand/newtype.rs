//! A newtype is stored as the type inside it.

use proc_macro2::{Span, TokenStream};
use quote::quote;
use syn::{Ident, Type};

use super::{Database, arguments_of, as_field, bind_result, gated, row_of};

pub(super) fn impls(ident: &Ident, inner: &Type) -> TokenStream {
    let cache = impl_cache_field(ident, inner);
    let keys = impl_keys(ident, inner);
    let columns = gated(|database| impl_column(ident, inner, database));
    quote! {
        #cache
        #keys
        #columns
    }
}

fn impl_cache_field(ident: &Ident, inner: &Type) -> TokenStream {
    let inner = as_field(inner);
    quote! {
        #[automatically_derived]
        impl __p::cache::CacheField for #ident {
            const LAYOUT: ::core::primitive::u64 = #inner::LAYOUT;

            fn encode(
                &self,
                __out: &mut __p::cache::Encoder,
            ) -> ::core::result::Result<(), __p::cache::EncodeError> {
                #inner::encode(&self.0, __out)
            }

            fn decode(
                __input: &mut __p::cache::Decoder<'_>,
            ) -> ::core::result::Result<Self, __p::cache::DecodeError> {
                ::core::result::Result::Ok(Self(#inner::decode(__input)?))
            }
        }
    }
}

fn impl_column(ident: &Ident, inner: &Type, database: Database) -> TokenStream {
    let path = database.path(Span::call_site());
    let (arguments, row, result) = (arguments_of(database), row_of(database), bind_result());
    let inner = as_field(inner);
    let [ty, bind, bind_null, bind_array, read] =
        ["TYPE", "bind", "bind_null", "bind_array", "read"].map(|name| database.item(name));
    quote! {
        #[automatically_derived]
        impl __p::column::Column<#path> for #ident {
            const TYPE: __p::column::SqlType = #inner::#ty;

            fn bind(&self, __args: &mut #arguments) -> #result {
                #inner::#bind(&self.0, __args)
            }

            fn bind_null(__args: &mut #arguments) -> #result {
                #inner::#bind_null(__args)
            }

            fn bind_array<'__v>(
                __values: impl ::core::iter::Iterator<Item = ::core::option::Option<&'__v Self>>,
                __args: &mut #arguments,
            ) -> #result
            where
                Self: '__v,
            {
                #inner::#bind_array(
                    ::core::iter::Iterator::map(__values, |__value| {
                        ::core::option::Option::map(__value, |__value| &__value.0)
                    }),
                    __args,
                )
            }

            fn read(
                __row: &#row,
                __index: ::core::primitive::usize,
            ) -> ::core::result::Result<::core::option::Option<Self>, __p::sqlx::Error> {
                ::core::result::Result::Ok(::core::option::Option::map(#inner::#read(__row, __index)?, Self))
            }
        }
    }
}

/// The key traits, where the inner type is a key and the newtype derives what a key needs. The unused lifetime keeps
/// rustc from refusing a condition that does not hold: then there is no impl, and no error.
fn impl_keys(ident: &Ident, inner: &Type) -> TokenStream {
    let conditions = |key: TokenStream| {
        quote! {
            for<'__k> #inner: #key,
            for<'__k> Self: ::core::clone::Clone
                + ::core::cmp::Eq
                + ::core::fmt::Debug
                + ::core::hash::Hash,
        }
    };
    let is_key = conditions(quote!(__p::cache::Key));
    let is_model_key = conditions(quote!(__p::model::ModelKey));
    quote! {
        #[automatically_derived]
        impl __p::cache::KeyRef for #ident
        where
            #is_key
        {
            type Owned = Self;

            fn to_key(&self) -> Self {
                ::core::clone::Clone::clone(self)
            }

            fn write(&self, __out: &mut __p::cache::KeyWriter) {
                <#inner as __p::cache::KeyRef>::write(&self.0, __out)
            }
        }

        #[automatically_derived]
        impl __p::cache::Key for #ident
        where
            #is_key
        {
            fn parse(__parts: &mut __p::cache::KeyParts<'_>) -> ::core::option::Option<Self> {
                ::core::option::Option::map(<#inner as __p::cache::Key>::parse(__parts), Self)
            }
        }

        #[automatically_derived]
        impl __p::model::ModelKey for #ident
        where
            #is_model_key
        {
            const ASSIGNED_BY: __p::model::AssignedBy = <#inner as __p::model::ModelKey>::ASSIGNED_BY;

            fn is_unset(&self) -> ::core::primitive::bool {
                <#inner as __p::model::ModelKey>::is_unset(&self.0)
            }

            fn generate() -> ::core::option::Option<Self> {
                ::core::option::Option::map(<#inner as __p::model::ModelKey>::generate(), Self)
            }
        }
    }
}
