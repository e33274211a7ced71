//! The derive macros of StoreHaus.

use proc_macro::TokenStream;

/// Makes a struct a model.
#[proc_macro_derive(Model, attributes(model, key, unique, index, json, generated, readonly, created_at, updated_at))]
pub fn derive_model(_input: TokenStream) -> TokenStream {
    TokenStream::new()
}

/// Makes an enum or a newtype a column type.
#[proc_macro_derive(Column, attributes(column))]
pub fn derive_column(_input: TokenStream) -> TokenStream {
    TokenStream::new()
}
