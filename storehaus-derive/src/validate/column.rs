//! Checks a column type.

use std::collections::HashMap;

use proc_macro2::Span;
use syn::Ident;
use syn::ext::IdentExt;

use super::types::{check, no_generics};
use crate::ctxt::Ctxt;
use crate::ir::{Column, DeclaredColumn, DeclaredShape, DeclaredVariant, Shape, Spanned, Variant};
use crate::names::{Case, identifier_error, label_error};

pub(crate) fn column(declared: DeclaredColumn, ctxt: &mut Ctxt) -> Option<Column> {
    no_generics("a column type", &declared.generics, ctxt);
    let DeclaredColumn { ident, krate, rename_all, postgres_enum, shape, .. } = declared;
    let shape = match shape? {
        DeclaredShape::Newtype(ty) => {
            for (name, setting) in [("rename_all", &rename_all), ("postgres_enum", &postgres_enum)] {
                if let Some(setting) = setting {
                    ctxt.error(setting.span, format!("`{name}` is for enums; remove it from this newtype"));
                }
            }
            check(&ty, ctxt);
            Shape::Newtype(ty)
        }
        DeclaredShape::Enum(written) => {
            let postgres = postgres_enum.map(|name| type_name(name, ctxt));
            let case = rename_all.and_then(|name| case(&name, ctxt));
            Shape::Enum { variants: variants(&ident, written, case, ctxt), postgres }
        }
    };
    Some(Column { ident, krate, shape })
}

fn case(name: &Spanned<String>, ctxt: &mut Ctxt) -> Option<Case> {
    let case = Case::of(&name.value);
    if case.is_none() {
        ctxt.error(name.span, format!("unknown case {:?}; use one of {}", name.value, Case::known()));
    }
    case
}

fn type_name(name: Spanned<String>, ctxt: &mut Ctxt) -> String {
    let Spanned { value, span } = name;
    if value.contains('.') {
        let message = "the enum type name has a schema; give the name alone and put the schema on the search path";
        ctxt.error(span, message);
    } else if let Some(problem) = identifier_error(&value) {
        ctxt.error(span, format!("the enum type name {value:?} {problem}"));
    }
    value
}

fn variants(ident: &Ident, written: Vec<DeclaredVariant>, case: Option<Case>, ctxt: &mut Ctxt) -> Vec<Variant> {
    if written.is_empty() {
        ctxt.error(ident.span(), "an enum without variants has nothing to store; add a variant");
    }
    let mut labels: HashMap<String, Ident> = HashMap::new();
    written
        .into_iter()
        .map(|variant| {
            let (label, span) = label(&variant, case);
            if let Some(problem) = label_error(&label) {
                ctxt.error(span, format!("the label {label:?} {problem}"));
            }
            if let Some(first) = labels.get(&label) {
                ctxt.error(span, format!("the label {label:?} belongs to the variant `{first}` already; rename one"));
            } else {
                labels.insert(label.clone(), variant.ident.clone());
            }
            Variant { ident: variant.ident, label }
        })
        .collect()
}

fn label(variant: &DeclaredVariant, case: Option<Case>) -> (String, Span) {
    match &variant.rename {
        Some(rename) => (rename.value.clone(), rename.span),
        None => {
            let name = variant.ident.unraw().to_string();
            (case.map_or_else(|| name.clone(), |case| case.apply(&name)), variant.ident.span())
        }
    }
}
