//! Reads the input of the macros and its attributes. Reports what cannot be read; what does not fit together is left
//! to `validate`.

mod column;
mod model;

pub(crate) use column::column;
pub(crate) use model::model;

use proc_macro2::{Span, TokenStream};
use syn::ext::IdentExt;
use syn::parse::Parser;
use syn::punctuated::Punctuated;
use syn::spanned::Spanned as _;
use syn::{Attribute, Expr, Ident, Lit, LitStr, Meta, Path, Token};

use crate::ctxt::Ctxt;
use crate::ir::Spanned;

/// The settings inside `#[name(...)]`.
fn settings(attr: &Attribute, name: &str, ctxt: &mut Ctxt) -> Vec<Meta> {
    let Meta::List(list) = &attr.meta else {
        ctxt.error(attr.meta.span(), format!("`#[{name}]` takes its settings in parentheses: `#[{name}(...)]`"));
        return Vec::new();
    };
    match list.parse_args_with(Punctuated::<Meta, Token![,]>::parse_terminated) {
        Ok(metas) => metas.into_iter().collect(),
        Err(error) => {
            ctxt.push(error);
            Vec::new()
        }
    }
}

/// Sets a value that may be given once.
fn set<T>(slot: &mut Option<T>, value: Option<T>, name: &str, span: Span, ctxt: &mut Ctxt) {
    if slot.is_some() {
        duplicate(name, span, ctxt);
    } else {
        *slot = value;
    }
}

fn duplicate(name: &str, span: Span, ctxt: &mut Ctxt) {
    ctxt.error(span, format!("`{name}` is given twice; remove one"));
}

/// The string of `name = "text"`.
fn text(meta: &Meta, name: &str, ctxt: &mut Ctxt) -> Option<Spanned<String>> {
    if let Meta::NameValue(pair) = meta
        && let Some(Lit::Str(text)) = literal(&pair.value)
    {
        return Some(Spanned { value: text.value(), span: text.span() });
    }
    ctxt.error(meta.span(), format!("`{name}` takes a string: `{name} = \"...\"`"));
    None
}

/// The whole number of `name = 300`; 0 is left to `validate`.
fn number(meta: &Meta, name: &str, ctxt: &mut Ctxt) -> Option<Spanned<u64>> {
    if let Meta::NameValue(pair) = meta
        && let Some(Lit::Int(number)) = literal(&pair.value)
        && matches!(number.suffix(), "" | "u64")
        && let Ok(value) = number.base10_parse()
    {
        return Some(Spanned { value, span: number.span() });
    }
    ctxt.error(meta.span(), format!("`{name}` takes a whole number of seconds: `{name} = 300`"));
    None
}

/// The path of `crate = path`.
fn krate(meta: &Meta, ctxt: &mut Ctxt) -> Option<Path> {
    if let Meta::NameValue(pair) = meta
        && let Expr::Path(path) = ungrouped(&pair.value)
        && path.qself.is_none()
    {
        return Some(path.path.clone());
    }
    ctxt.error(meta.span(), "`crate` takes a path without quotes: `crate = my_crate::storehaus`");
    None
}

/// The names of `unique(a, b)`.
fn names(tokens: TokenStream) -> syn::Result<Vec<Ident>> {
    let parser = Punctuated::<Ident, Token![,]>::parse_terminated_with;
    Ok((|input: syn::parse::ParseStream<'_>| parser(input, Ident::parse_any)).parse2(tokens)?.into_iter().collect())
}

/// The string of `word("text")` or `word = "text"`, `None` for the word alone.
fn optional_text(meta: &Meta, word: &str, ctxt: &mut Ctxt) -> Option<Option<Spanned<String>>> {
    match meta {
        Meta::Path(_) => Some(None),
        Meta::NameValue(_) => text(meta, word, ctxt).map(Some),
        Meta::List(list) => match list.parse_args::<LitStr>() {
            Ok(text) => Some(Some(Spanned { value: text.value(), span: text.span() })),
            Err(_) => {
                ctxt.error(meta.span(), format!("`{word}` takes one string: `{word}(\"...\")`"));
                None
            }
        },
    }
}

fn literal(expr: &Expr) -> Option<&Lit> {
    match ungrouped(expr) {
        Expr::Lit(literal) => Some(&literal.lit),
        _ => None,
    }
}

/// The expression inside the invisible group that `macro_rules!` puts around its captures.
fn ungrouped(expr: &Expr) -> &Expr {
    match expr {
        Expr::Group(group) => ungrouped(&group.expr),
        other => other,
    }
}

/// The name of a setting as written.
fn name_of(path: &Path) -> String {
    path.segments.iter().map(|segment| segment.ident.to_string()).collect::<Vec<_>>().join("::")
}
