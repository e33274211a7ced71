//! What a field's type says without being resolved.

use syn::spanned::Spanned as _;
use syn::{GenericArgument, GenericParam, Generics, PathArguments, Type};

use crate::ctxt::Ctxt;

/// Reports the parameters of a type that must have none.
pub(super) fn no_generics(what: &str, generics: &Generics, ctxt: &mut Ctxt) {
    for param in &generics.params {
        let (kind, reason) = match param {
            GenericParam::Lifetime(_) => {
                ("lifetime", "a cached row is 'static and owns its values; use owned types such as `String`")
            }
            GenericParam::Type(_) => ("type", "one schema fingerprint names one layout; write one type per instance"),
            GenericParam::Const(_) => ("const", "one schema fingerprint names one layout; write one type per instance"),
        };
        ctxt.error(param.span(), format!("{what} cannot have {kind} parameters: {reason}"));
    }
}

/// Reports types that can be no column whatever they resolve to.
pub(super) fn check(ty: &Type, ctxt: &mut Ctxt) {
    match ty {
        Type::Reference(reference) => {
            let owned = match &*reference.elem {
                Type::Path(path) if path.path.is_ident("str") => "`String`",
                Type::Slice(_) => "`Vec`",
                _ => "the owned type",
            };
            ctxt.error(ty.span(), format!("a field cannot be a reference: rows own what they hold; use {owned}"));
        }
        Type::Array(array) if is_unit(&array.elem) => unit_elements(ty, ctxt),
        Type::Array(array) => check(&array.elem, ctxt),
        Type::Group(group) => check(&group.elem, ctxt),
        Type::Paren(paren) => check(&paren.elem, ctxt),
        Type::Tuple(tuple) => tuple.elems.iter().for_each(|elem| check(elem, ctxt)),
        Type::Path(_) => {
            let arguments = arguments(ty);
            if is_list(ty) && arguments.iter().any(|argument| is_unit(argument)) {
                unit_elements(ty, ctxt);
            }
            arguments.into_iter().for_each(|argument| check(argument, ctxt));
        }
        _ => {}
    }
}

/// Whether the type is spelled `Option<…>`.
pub(super) fn is_option(ty: &Type) -> bool {
    last_name(ty).is_some_and(|name| name == "Option") && arguments(ty).len() == 1
}

fn unit_elements(ty: &Type, ctxt: &mut Ctxt) {
    ctxt.error(
        ty.span(),
        "a list of `()` has a length and no contents, so its stored form cannot be bounded; store the length as `i64`",
    );
}

fn is_unit(ty: &Type) -> bool {
    match ty {
        Type::Tuple(tuple) => tuple.elems.is_empty(),
        Type::Group(group) => is_unit(&group.elem),
        Type::Paren(paren) => is_unit(&paren.elem),
        _ => false,
    }
}

fn is_list(ty: &Type) -> bool {
    const LISTS: [&str; 6] = ["Vec", "VecDeque", "LinkedList", "BinaryHeap", "HashSet", "BTreeSet"];
    last_name(ty).is_some_and(|name| LISTS.contains(&name.as_str()))
}

fn last_name(ty: &Type) -> Option<String> {
    match ty {
        Type::Path(path) => path.path.segments.last().map(|segment| segment.ident.to_string()),
        Type::Group(group) => last_name(&group.elem),
        Type::Paren(paren) => last_name(&paren.elem),
        _ => None,
    }
}

fn arguments(ty: &Type) -> Vec<&Type> {
    match ty {
        Type::Path(path) => match path.path.segments.last().map(|segment| &segment.arguments) {
            Some(PathArguments::AngleBracketed(arguments)) => {
                let types = arguments.args.iter();
                types.filter_map(|a| if let GenericArgument::Type(ty) = a { Some(ty) } else { None }).collect()
            }
            _ => Vec::new(),
        },
        Type::Group(group) => arguments(&group.elem),
        Type::Paren(paren) => arguments(&paren.elem),
        _ => Vec::new(),
    }
}
