//! Checks what was written and resolves it. Reads no attributes and writes no code.

mod column;
mod model;
mod types;

pub(crate) use column::column;
pub(crate) use model::model;

use crate::ctxt::Ctxt;
use crate::ir::Spanned;
use crate::names::identifier_error;

/// The identifier, after it was checked.
fn identifier(what: &str, name: Option<Spanned<String>>, ctxt: &mut Ctxt) -> Option<String> {
    let Spanned { value, span } = name?;
    if let Some(problem) = identifier_error(&value) {
        ctxt.error(span, format!("the {what} name {value:?} {problem}"));
    }
    Some(value)
}
