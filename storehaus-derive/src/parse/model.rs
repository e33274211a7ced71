//! Reads a struct with `#[derive(Model)]`.

use std::collections::BTreeMap;

use proc_macro2::Span;
use syn::spanned::Spanned as _;
use syn::{Attribute, Data, DeriveInput, Fields, Ident, Meta};

use super::{duplicate, krate, name_of, names, number, optional_text, set, settings, text};
use crate::ctxt::Ctxt;
use crate::ir::{DeclaredField, DeclaredModel, Group, Mark};

/// The settings of a struct, as messages list them.
const STRUCT_SETTINGS: [&str; 8] = ["table", "schema", "cache", "prefix", "ttl", "unique", "index", "crate"];

pub(crate) fn model(input: &DeriveInput, ctxt: &mut Ctxt) -> DeclaredModel {
    let mut model = DeclaredModel {
        ident: input.ident.clone(),
        generics: input.generics.clone(),
        krate: None,
        table_is_set: false,
        table: None,
        schema: None,
        cache: None,
        prefix: None,
        ttl: None,
        groups: Vec::new(),
        fields: None,
    };
    for attr in &input.attrs {
        if attr.path().is_ident("model") {
            for meta in settings(attr, "model", ctxt) {
                struct_setting(&mut model, &meta, ctxt);
            }
        } else if let Some(mark) = attr.path().get_ident().and_then(Mark::of) {
            misplaced_mark(mark, attr.meta.span(), ctxt);
        }
    }
    model.fields = fields(input, ctxt);
    model
}

fn fields(input: &DeriveInput, ctxt: &mut Ctxt) -> Option<Vec<DeclaredField>> {
    let (span, problem) = match &input.data {
        Data::Struct(data) => match &data.fields {
            Fields::Named(named) => {
                let fields = named.named.iter();
                return Some(fields.filter_map(|f| Some(field(f.ident.as_ref()?, f, ctxt))).collect());
            }
            Fields::Unnamed(fields) => (
                fields.span(),
                "a model is a struct with named fields, because each field is a column; give the fields names",
            ),
            Fields::Unit => (
                input.ident.span(),
                "a model is a struct with named fields, because each field is a column; add `{ ... }` with the columns",
            ),
        },
        Data::Enum(data) => (
            data.enum_token.span,
            "an enum cannot be a model; use a struct with named fields, and `#[derive(Column)]` for an enum in a column",
        ),
        Data::Union(data) => {
            (data.union_token.span, "a union cannot be a model; use a struct with named fields, one per column")
        }
    };
    ctxt.error(span, problem);
    None
}

fn field(ident: &Ident, input: &syn::Field, ctxt: &mut Ctxt) -> DeclaredField {
    let mut field = DeclaredField {
        ident: ident.clone(),
        ty: input.ty.clone(),
        marks: BTreeMap::new(),
        expression: None,
        rename: None,
    };
    for attr in &input.attrs {
        field_attribute(&mut field, attr, ctxt);
    }
    field
}

fn field_attribute(field: &mut DeclaredField, attr: &Attribute, ctxt: &mut Ctxt) {
    if attr.path().is_ident("model") {
        for meta in settings(attr, "model", ctxt) {
            field_setting(field, &meta, ctxt);
        }
    } else if let Some(found) = attr.path().get_ident().and_then(Mark::of) {
        mark(field, found, &attr.meta, ctxt);
    }
}

fn struct_setting(model: &mut DeclaredModel, meta: &Meta, ctxt: &mut Ctxt) {
    let (path, span) = (meta.path(), meta.span());
    let name = name_of(path);
    match name.as_str() {
        "table" => {
            model.table_is_set = true;
            set(&mut model.table, text(meta, "table", ctxt), "table", span, ctxt);
        }
        "schema" => set(&mut model.schema, text(meta, "schema", ctxt), "schema", span, ctxt),
        "cache" => set(&mut model.cache, text(meta, "cache", ctxt), "cache", span, ctxt),
        "prefix" => set(&mut model.prefix, text(meta, "prefix", ctxt), "prefix", span, ctxt),
        "ttl" => set(&mut model.ttl, number(meta, "ttl", ctxt), "ttl", span, ctxt),
        "crate" => set(&mut model.krate, krate(meta, ctxt), "crate", span, ctxt),
        "unique" | "index" => group(model, meta, &name, ctxt),
        _ => match path.get_ident().and_then(Mark::of) {
            Some(mark) => misplaced_mark(mark, span, ctxt),
            None if name == "rename" => {
                ctxt.error(span, "`rename` goes on a field; the table's name is `table = \"...\"`");
            }
            None => {
                let known = STRUCT_SETTINGS.join("`, `");
                ctxt.error(path.span(), format!("unknown setting `{name}`; a model has `{known}`"));
            }
        },
    }
}

fn group(model: &mut DeclaredModel, meta: &Meta, name: &str, ctxt: &mut Ctxt) {
    let fields = match meta {
        Meta::List(list) => names(list.tokens.clone()),
        _ => Ok(Vec::new()),
    };
    match fields {
        Ok(fields) if !fields.is_empty() => {
            model.groups.push(Group { unique: name == "unique", fields, span: meta.span() });
        }
        _ => ctxt.error(meta.span(), format!("`{name}` takes names of fields: `{name}(a, b)`")),
    }
}

fn misplaced_mark(mark: Mark, span: Span, ctxt: &mut Ctxt) {
    let word = mark.word();
    let fix = match mark {
        Mark::Unique | Mark::Index => format!("put `#[{word}]` on a field, or write `#[model({word}(a, b))]`"),
        _ => format!("put `#[{word}]` on a field"),
    };
    ctxt.error(span, format!("`{word}` says something about a field; {fix}"));
}

fn field_setting(field: &mut DeclaredField, meta: &Meta, ctxt: &mut Ctxt) {
    let (path, span) = (meta.path(), meta.span());
    let name = name_of(path);
    if let Some(found) = path.get_ident().and_then(Mark::of) {
        mark(field, found, meta, ctxt);
    } else if name == "rename" {
        set(&mut field.rename, text(meta, "rename", ctxt), "rename", span, ctxt);
    } else if STRUCT_SETTINGS.contains(&name.as_str()) {
        ctxt.error(span, format!("`{name}` goes on the struct, not on a field"));
    } else {
        let known = Mark::ALL.map(Mark::word).join("`, `");
        ctxt.error(path.span(), format!("unknown setting `{name}`; a field has `{known}`, `rename`"));
    }
}

fn mark(field: &mut DeclaredField, mark: Mark, meta: &Meta, ctxt: &mut Ctxt) {
    let (word, span) = (mark.word(), meta.span());
    if field.has(mark) {
        duplicate(word, span, ctxt);
        return;
    }
    match (mark, meta) {
        (Mark::Generated, _) => field.expression = optional_text(meta, word, ctxt).flatten(),
        (_, Meta::Path(_)) => {}
        (Mark::Unique | Mark::Index, _) => {
            ctxt.error(span, format!("`{word}` on a field takes no value; for several columns write `#[model({word}(a, b))]` on the struct"));
        }
        _ => ctxt.error(span, format!("`{word}` takes no value; write `#[{word}]`")),
    }
    field.marks.insert(mark, span);
}
