//! Reads an enum or newtype with `#[derive(Column)]`.

use syn::spanned::Spanned as _;
use syn::{Attribute, Data, DataEnum, DataStruct, DeriveInput, Fields, Meta};

use super::{krate, name_of, set, settings, text};
use crate::ctxt::Ctxt;
use crate::ir::{DeclaredColumn, DeclaredShape, DeclaredVariant};

pub(crate) fn column(input: &DeriveInput, ctxt: &mut Ctxt) -> DeclaredColumn {
    let mut column = DeclaredColumn {
        ident: input.ident.clone(),
        generics: input.generics.clone(),
        krate: None,
        rename_all: None,
        postgres_enum: None,
        shape: None,
    };
    for meta in own(&input.attrs, ctxt) {
        setting(&mut column, &meta, ctxt);
    }
    column.shape = match &input.data {
        Data::Enum(data) => variants(data, ctxt),
        Data::Struct(data) => newtype(data, input, ctxt),
        Data::Union(data) => {
            ctxt.error(data.union_token.span, "a union cannot be a column; use a newtype or an enum of unit variants");
            None
        }
    };
    column
}

fn own(attrs: &[Attribute], ctxt: &mut Ctxt) -> Vec<Meta> {
    let own = attrs.iter().filter(|attr| attr.path().is_ident("column"));
    own.flat_map(|attr| settings(attr, "column", ctxt)).collect()
}

fn setting(column: &mut DeclaredColumn, meta: &Meta, ctxt: &mut Ctxt) {
    let span = meta.span();
    match name_of(meta.path()).as_str() {
        "crate" => set(&mut column.krate, krate(meta, ctxt), "crate", span, ctxt),
        "rename_all" => set(&mut column.rename_all, text(meta, "rename_all", ctxt), "rename_all", span, ctxt),
        "postgres_enum" => {
            set(&mut column.postgres_enum, text(meta, "postgres_enum", ctxt), "postgres_enum", span, ctxt);
        }
        "rename" => ctxt.error(span, "`rename` goes on a variant; for all variants use `rename_all`"),
        name => {
            let known = "`rename_all`, `postgres_enum`, `crate`";
            ctxt.error(meta.path().span(), format!("unknown setting `{name}`; a column type has {known}"));
        }
    }
}

fn newtype(data: &DataStruct, input: &DeriveInput, ctxt: &mut Ctxt) -> Option<DeclaredShape> {
    for field in &data.fields {
        for meta in own(&field.attrs, ctxt) {
            ctxt.error(meta.span(), "the field of a newtype has no settings; put `#[column(...)]` on the struct");
        }
    }
    match &data.fields {
        Fields::Unnamed(fields) if fields.unnamed.len() == 1 => {
            return fields.unnamed.first().map(|field| DeclaredShape::Newtype(Box::new(field.ty.clone())));
        }
        Fields::Unit => ctxt.error(
            input.ident.span(),
            "a unit struct has nothing to store; a column type is a newtype such as `struct Id(i64);` or an enum",
        ),
        fields => ctxt.error(
            fields.span(),
            "a column type has exactly one unnamed field, such as `struct Id(i64);`; to store several values in one \
             column put `#[json]` on the model's field",
        ),
    }
    None
}

fn variants(data: &DataEnum, ctxt: &mut Ctxt) -> Option<DeclaredShape> {
    let mut variants = Vec::new();
    let mut are_units = true;
    for variant in &data.variants {
        let mut rename = None;
        for meta in own(&variant.attrs, ctxt) {
            match name_of(meta.path()).as_str() {
                "rename" => set(&mut rename, text(&meta, "rename", ctxt), "rename", meta.span(), ctxt),
                name @ ("rename_all" | "postgres_enum" | "crate") => {
                    ctxt.error(meta.span(), format!("`{name}` goes on the enum, not on a variant"));
                }
                name => {
                    ctxt.error(meta.path().span(), format!("unknown setting `{name}`; a variant has `rename`"));
                }
            }
        }
        if !matches!(variant.fields, Fields::Unit) {
            are_units = false;
            ctxt.error(
                variant.fields.span(),
                "a variant with data cannot be stored as a label; remove the data, or put `#[json]` on the model's field",
            );
        }
        variants.push(DeclaredVariant { ident: variant.ident.clone(), rename });
    }
    are_units.then_some(DeclaredShape::Enum(variants))
}
