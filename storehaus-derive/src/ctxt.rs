//! Collects the errors of one input, so that all of them are reported together.

use std::fmt::Display;

use proc_macro2::Span;
use syn::Error;

/// The errors found so far.
pub(crate) struct Ctxt {
    /// `None` once they were handed out; dropping them unreported is a bug.
    errors: Option<Vec<Error>>,
}

impl Ctxt {
    pub(crate) fn new() -> Self {
        Self { errors: Some(Vec::new()) }
    }

    /// Adds an error at a place of the input.
    pub(crate) fn error(&mut self, span: Span, message: impl Display) {
        self.push(Error::new(span, message));
    }

    /// Adds an error of the parser.
    pub(crate) fn push(&mut self, error: Error) {
        if let Some(errors) = &mut self.errors {
            errors.push(error);
        }
    }

    /// The errors, combined; `None` when there are none.
    pub(crate) fn finish(mut self) -> Option<Error> {
        self.errors.take()?.into_iter().reduce(|mut all, next| {
            all.combine(next);
            all
        })
    }
}

impl Drop for Ctxt {
    fn drop(&mut self) {
        if self.errors.is_some() && !std::thread::panicking() {
            panic!("the errors of the input were not reported");
        }
    }
}
