//! Checks a model.

use std::collections::HashMap;

use proc_macro2::Span;
use syn::Ident;
use syn::ext::IdentExt;

use super::identifier;
use super::types::{check, is_option, no_generics};
use crate::ctxt::Ctxt;
use crate::ir::{Cache, DeclaredField, DeclaredModel, Field, Group, Index, Mark, Model, Role, Spanned, Stamp};
use crate::names::{identifier_error, prefix_error};

/// The most parts a composite key has; the cache's key traits end there.
const MAX_KEY_PARTS: usize = 4;

/// Marks that cannot stand on the same field, and why.
const CONTRADICTIONS: [(Mark, Mark, &str); 15] = [
    (
        Mark::Key,
        Mark::Generated,
        "a key is never computed from other columns; an integer key that is 0 is assigned by the database without `#[generated]`",
    ),
    (Mark::Key, Mark::Readonly, "a key is never updated anyway; remove `#[readonly]`"),
    (Mark::Key, Mark::Json, "a key must be comparable, and JSON text is not; use a newtype with `#[derive(Column)]`"),
    (Mark::Key, Mark::CreatedAt, "a time is not unique; use a key of its own"),
    (Mark::Key, Mark::UpdatedAt, "a key is never updated; use a key of its own"),
    (Mark::Unique, Mark::Index, "a unique constraint is an index already; remove `#[index]`"),
    (
        Mark::Unique,
        Mark::Json,
        "equal values may have different JSON texts; move the unique part to a column of its own",
    ),
    (
        Mark::Index,
        Mark::Json,
        "an index over JSON text finds nothing useful; move the searched part to a column of its own",
    ),
    (Mark::Json, Mark::CreatedAt, "a time is a column of its own type; remove `#[json]`"),
    (Mark::Json, Mark::UpdatedAt, "a time is a column of its own type; remove `#[json]`"),
    (Mark::Generated, Mark::Readonly, "a generated column is never written, a readonly one is written once; keep one"),
    (Mark::Generated, Mark::CreatedAt, "either the database or StoreHaus fills a column; keep one"),
    (Mark::Generated, Mark::UpdatedAt, "either the database or StoreHaus fills a column; keep one"),
    (Mark::Readonly, Mark::UpdatedAt, "a readonly column is never updated, `#[updated_at]` at each update; keep one"),
    (Mark::CreatedAt, Mark::UpdatedAt, "one column holds one time; use a field for each"),
];

pub(crate) fn model(declared: DeclaredModel, ctxt: &mut Ctxt) -> Option<Model> {
    no_generics("a model", &declared.generics, ctxt);
    if !declared.table_is_set && declared.fields.is_some() {
        ctxt.error(declared.ident.span(), "the table's name is missing; add `#[model(table = \"...\")]` to the struct");
    }
    let table = identifier("table", declared.table, ctxt);
    let schema = identifier("schema", declared.schema, ctxt);
    let cache = cache(declared.cache, ctxt);
    let prefix = prefix(declared.prefix, ctxt);
    let ttl = ttl(declared.ttl, ctxt);
    let written = declared.fields?;
    if written.is_empty() {
        ctxt.error(declared.ident.span(), "a model has at least one field, its key; add one and put `#[key]` on it");
        return None;
    }
    let key = key(&declared.ident, &written, ctxt);
    let indexes = indexes(&written, &declared.groups, &key, ctxt);
    let fields = fields(written, ctxt);
    Some(Model {
        ident: declared.ident,
        krate: declared.krate,
        table: table?,
        schema,
        cache,
        prefix,
        ttl,
        fields,
        key,
        indexes,
    })
}

fn cache(value: Option<Spanned<String>>, ctxt: &mut Ctxt) -> Cache {
    let Some(Spanned { value, span }) = value else { return Cache::Shared };
    match value.as_str() {
        "shared" => Cache::Shared,
        "local" => Cache::Local,
        "never" => Cache::Never,
        _ => {
            ctxt.error(span, format!("unknown cache mode {value:?}; use \"shared\", \"local\" or \"never\""));
            Cache::Shared
        }
    }
}

fn prefix(value: Option<Spanned<String>>, ctxt: &mut Ctxt) -> Option<String> {
    let Spanned { value, span } = value?;
    if let Some(problem) = prefix_error(&value) {
        ctxt.error(span, format!("the prefix {problem}"));
    }
    Some(value)
}

fn ttl(value: Option<Spanned<u64>>, ctxt: &mut Ctxt) -> Option<u64> {
    let Spanned { value, span } = value?;
    if value == 0 {
        ctxt.error(span, "a ttl of 0 seconds would cache nothing; use `cache = \"never\"`, or at least 1");
    }
    Some(value)
}

fn key(ident: &Ident, fields: &[DeclaredField], ctxt: &mut Ctxt) -> Vec<usize> {
    let key: Vec<usize> = (0..fields.len()).filter(|&i| fields[i].has(Mark::Key)).collect();
    if key.is_empty() {
        ctxt.error(ident.span(), "no field is the key; put `#[key]` on the primary key");
    }
    for &extra in key.iter().skip(MAX_KEY_PARTS) {
        let message =
            format!("a key has at most {MAX_KEY_PARTS} parts; remove `#[key]` here or use one key of its own");
        ctxt.error(fields[extra].marks[&Mark::Key], message);
    }
    key
}

fn fields(written: Vec<DeclaredField>, ctxt: &mut Ctxt) -> Vec<Field> {
    let mut columns = HashMap::new();
    written
        .into_iter()
        .map(|field| {
            check(&field.ty, ctxt);
            contradictions(&field, ctxt);
            let column = column_name(&field, ctxt);
            // SQLite compares column names without case.
            if let Some(first) = columns.insert(column.to_ascii_lowercase(), field.ident.unraw()) {
                let span = field.rename.as_ref().map_or_else(|| field.ident.span(), |rename| rename.span);
                ctxt.error(
                    span,
                    format!(
                        "the column {column:?} belongs to the field `{first}` already; rename one (case does not count)"
                    ),
                );
            }
            Field {
                name: field.ident.unraw().to_string(),
                column,
                json: field.has(Mark::Json),
                stamp: stamp(&field),
                role: role(&field),
                ident: field.ident,
                ty: field.ty,
            }
        })
        .collect()
}

fn contradictions(field: &DeclaredField, ctxt: &mut Ctxt) {
    for (one, two, reason) in CONTRADICTIONS {
        if field.has(one)
            && let Some(&span) = field.marks.get(&two)
        {
            let (one, two) = (one.word(), two.word());
            ctxt.error(span, format!("`{one}` and `{two}` on the same field: {reason}"));
        }
    }
    if field.has(Mark::Key) && is_option(&field.ty) {
        ctxt.error(span_of(&field.ty), "a key is never NULL; remove the `Option`");
    }
    if let Some(expression) = &field.expression
        && expression.value.trim().is_empty()
    {
        ctxt.error(expression.span, "the expression is empty; write the SQL, or `#[generated]` alone");
    }
}

fn column_name(field: &DeclaredField, ctxt: &mut Ctxt) -> String {
    let (name, span, fix) = match &field.rename {
        Some(rename) => (rename.value.clone(), rename.span, ""),
        None => (
            field.ident.unraw().to_string(),
            field.ident.span(),
            "; give the column another with `#[model(rename = \"...\")]`",
        ),
    };
    if let Some(problem) = identifier_error(&name) {
        ctxt.error(span, format!("the column name {name:?} {problem}{fix}"));
    }
    name
}

fn stamp(field: &DeclaredField) -> Option<Stamp> {
    match (field.has(Mark::CreatedAt), field.has(Mark::UpdatedAt)) {
        (true, _) => Some(Stamp::Created),
        (_, true) => Some(Stamp::Updated),
        _ => None,
    }
}

fn role(field: &DeclaredField) -> Role {
    if field.has(Mark::Key) {
        Role::Key
    } else if field.has(Mark::Generated) {
        Role::Generated(field.expression.as_ref().map(|expression| expression.value.clone()))
    } else if field.has(Mark::Readonly) || field.has(Mark::CreatedAt) {
        Role::InsertOnly
    } else {
        Role::Plain
    }
}

/// The indexes of fields, then those of the struct; the same columns twice are refused.
fn indexes(fields: &[DeclaredField], groups: &[Group], key: &[usize], ctxt: &mut Ctxt) -> Vec<Index> {
    let mut found: Vec<(Index, Span)> = Vec::new();
    for (i, field) in fields.iter().enumerate() {
        for (mark, unique) in [(Mark::Unique, true), (Mark::Index, false)] {
            if let Some(&span) = field.marks.get(&mark) {
                // Both marks on one field were reported as a contradiction.
                if unique || !field.has(Mark::Unique) {
                    found.push((Index { columns: vec![i], unique }, span));
                }
            }
        }
    }
    for group in groups {
        if let Some(columns) = positions(fields, group, ctxt) {
            found.push((Index { columns, unique: group.unique }, group.span));
        }
    }
    for (i, (index, span)) in found.iter().enumerate() {
        if index.columns == key {
            ctxt.error(*span, "the key is a unique index already; remove this one");
        } else if found[..i].iter().any(|(other, _)| other.columns == index.columns) {
            ctxt.error(*span, "these columns have an index or unique constraint already; keep one");
        }
    }
    found.into_iter().map(|(index, _)| index).collect()
}

fn positions(fields: &[DeclaredField], group: &Group, ctxt: &mut Ctxt) -> Option<Vec<usize>> {
    let mut columns = Vec::new();
    let mut complete = true;
    for name in &group.fields {
        match fields.iter().position(|field| field.ident.unraw() == name.unraw()) {
            Some(i) if columns.contains(&i) => {
                complete = false;
                ctxt.error(name.span(), format!("`{name}` stands here twice; remove one"));
            }
            Some(i) if fields[i].has(Mark::Json) => {
                complete = false;
                ctxt.error(name.span(), format!("`{name}` is a `#[json]` field and cannot be indexed; remove it here"));
            }
            Some(i) => columns.push(i),
            None => {
                complete = false;
                let known = fields.iter().map(|field| field.ident.unraw().to_string()).collect::<Vec<_>>().join("`, `");
                ctxt.error(name.span(), format!("there is no field `{name}`; the fields are `{known}`"));
            }
        }
    }
    complete.then_some(columns)
}

fn span_of(ty: &syn::Type) -> Span {
    syn::spanned::Spanned::span(ty)
}
