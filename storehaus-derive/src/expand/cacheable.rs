//! `Cacheable`: how a row stands in the cache.

use proc_macro2::{Delimiter, TokenStream, TokenTree};
use quote::{ToTokens as _, quote};

use super::{as_field, as_json};
use crate::ir::{Field, Model};

pub(super) fn impl_cacheable(model: &Model, demands: &TokenStream) -> TokenStream {
    let ident = &model.ident;
    let table = match &model.schema {
        Some(schema) => format!("{schema}.{}", model.table),
        None => model.table.clone(),
    };
    let (layouts, writes, reads) =
        (model.fields.iter().map(layout), model.fields.iter().map(write), model.fields.iter().map(read));
    quote! {
        #[automatically_derived]
        impl __p::cache::Cacheable for #ident #demands {
            const SCHEMA: ::core::primitive::u64 = __p::cache::codec::schema(#table, &[#(#layouts),*]);

            fn write(
                &self,
                __out: &mut __p::cache::Encoder,
            ) -> ::core::result::Result<(), __p::cache::EncodeError> {
                #(#writes)*
                ::core::result::Result::Ok(())
            }

            fn read(
                __input: &mut __p::cache::Decoder<'_>,
            ) -> ::core::result::Result<Self, __p::cache::DecodeError> {
                ::core::result::Result::Ok(Self { #(#reads)* })
            }
        }
    }
}

fn layout(field: &Field) -> TokenStream {
    let column = &field.column;
    if field.json {
        let name = spelled(field.ty.to_token_stream());
        return quote!((#column, __p::cache::codec::JsonField::layout(#name)));
    }
    let ty = as_field(&field.ty);
    quote!((#column, #ty::LAYOUT))
}

fn write(field: &Field) -> TokenStream {
    let (ident, ty) = (&field.ident, stored(field));
    quote!(#ty::encode(&self.#ident, __out)?;)
}

fn read(field: &Field) -> TokenStream {
    let (ident, ty) = (&field.ident, stored(field));
    quote!(#ident: #ty::decode(__input)?,)
}

fn stored(field: &Field) -> TokenStream {
    if field.json { as_json(&field.ty) } else { as_field(&field.ty) }
}

/// The type as text without white space except between words, whatever the compiler's printing of tokens.
fn spelled(tokens: TokenStream) -> String {
    let mut text = String::new();
    spell(tokens, &mut text);
    text
}

fn spell(tokens: TokenStream, out: &mut String) {
    for token in tokens {
        match token {
            TokenTree::Group(group) => {
                let (open, close) = match group.delimiter() {
                    Delimiter::Parenthesis => ("(", ")"),
                    Delimiter::Brace => ("{", "}"),
                    Delimiter::Bracket => ("[", "]"),
                    Delimiter::None => ("", ""),
                };
                out.push_str(open);
                spell(group.stream(), out);
                out.push_str(close);
            }
            TokenTree::Punct(punct) => out.push(punct.as_char()),
            word => {
                if out.ends_with(|last: char| last.is_alphanumeric() || last == '_') {
                    out.push(' ');
                }
                out.push_str(&word.to_string());
            }
        }
    }
}
