//! What the macros write, against files in `snapshots/`: `UPDATE_SNAPSHOTS=1` writes those anew.

use std::path::Path;
use std::{env, fs};

use proc_macro2::TokenStream;
use quote::quote;
use syn::{Block, Expr, File, Item, Stmt, parse_quote};

use crate::{column, guard, model};

#[test]
fn model_with_defaults() {
    snapshot(
        "model_defaults",
        model(
            quote! {
                struct User {
                    #[key]
                    id: Uuid,
                    name: Option<String>,
                }
            }
            .with(quote!(#[model(table = "users")])),
        ),
    );
}

#[test]
fn model_with_every_setting() {
    snapshot("model_settings", model(quote! {
        struct User {
            #[key]
            id: i64,
            tenant: i64,
            email: String,
        }
    }
    .with(quote! {
        #[model(table = "users", schema = "app", cache = "local", prefix = "people", ttl = 300, crate = crate::reexport)]
        #[model(unique(tenant, email), index(email), index(email, tenant))]
    })));
    snapshot(
        "model_cache_never",
        model(
            quote! {
                struct Event {
                    #[key]
                    id: i64,
                }
            }
            .with(quote!(#[model(table = "events", cache = "never")])),
        ),
    );
}

#[test]
fn model_with_every_mark() {
    snapshot(
        "model_marks",
        model(
            quote! {
                struct User {
                    #[key]
                    id: Uuid,
                    #[unique]
                    email: String,
                    #[index]
                    name: String,
                    #[json]
                    settings: HashMap<String, Option<dyn_like::Value>>,
                    #[generated]
                    revision: i64,
                    #[generated("lower(email)")]
                    email_lower: String,
                    #[readonly]
                    tenant: i64,
                    #[created_at]
                    created: DateTime<Utc>,
                    #[updated_at]
                    updated: Option<NaiveDateTime>,
                    #[model(rename = "select")]
                    r#type: String,
                    #[serde(skip)]
                    other: bool,
                }
            }
            .with(quote!(#[model(table = "users")])),
        ),
    );
}

#[test]
fn marks_mean_the_same_inside_model() {
    let bare = quote! {
        struct User {
            #[key] id: i64,
            #[unique] #[readonly] a: i64,
            #[index] #[generated("1")] b: i64,
            #[json] c: i64,
            #[created_at] d: T,
            #[updated_at] e: T,
        }
    };
    let inside = quote! {
        struct User {
            #[model(key)] id: i64,
            #[model(unique, readonly)] a: i64,
            #[model(index, generated = "1")] b: i64,
            #[model(json)] c: i64,
            #[model(created_at)] d: T,
            #[model(updated_at)] e: T,
        }
    };
    let table = quote!(#[model(table = "users")]);
    assert_eq!(pretty(model(bare.with(table.clone()))), pretty(model(inside.with(table))));
}

#[test]
fn model_with_a_composite_key() {
    snapshot(
        "model_composite_key",
        model(
            quote! {
                struct Membership {
                    #[key]
                    user: UserId,
                    role: String,
                    #[key]
                    team: String,
                }
            }
            .with(quote!(#[model(table = "memberships")])),
        ),
    );
}

#[test]
fn model_that_is_refused() {
    snapshot(
        "model_refused",
        model(
            quote! {
                struct User {
                    #[key]
                    id: Uuid,
                }
            }
            .with(quote!(#[model(table = "users", colour = "red")])),
        ),
    );
}

#[test]
fn newtype() {
    snapshot(
        "column_newtype",
        column(quote!(
            struct UserId(Uuid);
        )),
    );
}

#[test]
fn enums() {
    let variants = quote! {
        enum Mood {
            VeryHappy,
            #[column(rename = "so, so")]
            Indifferent,
            r#Sad,
        }
    };
    snapshot("column_enum", column(variants.clone()));
    snapshot(
        "column_enum_settings",
        column(variants.with(quote! {
            #[column(rename_all = "snake_case", postgres_enum = "mood", crate = storehaus)]
        })),
    );
}

#[test]
fn column_that_is_refused() {
    snapshot(
        "column_refused",
        column(quote!(
            struct Pair(i64, i64);
        )),
    );
}

#[test]
fn every_error_is_reported_at_once() {
    let written = model(quote! {
        #[model(colour = "red", ttl = 0)]
        struct User {
            id: &'static str,
            #[model(rename = "1")]
            name: Vec<()>,
        }
    });
    assert_eq!(written.to_string().matches("compile_error").count(), 7);
}

#[test]
fn a_panic_is_reported_as_ours() {
    let written = guard("Model", || panic!("a bug")).to_string();
    assert!(written.contains("compile_error") && written.contains("this is a bug of storehaus-derive"), "{written}");
}

trait With {
    fn with(self, attributes: TokenStream) -> TokenStream;
}

impl With for TokenStream {
    fn with(self, attributes: TokenStream) -> TokenStream {
        quote!(#attributes #self)
    }
}

fn snapshot(name: &str, written: TokenStream) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("snapshots").join(name).with_extension("rs");
    let written = pretty(written);
    if env::var_os("UPDATE_SNAPSHOTS").is_some_and(|value| value == "1") {
        fs::write(&path, written).unwrap();
        return;
    }
    let expected = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        expected == written,
        "snapshot {name} differs (UPDATE_SNAPSHOTS=1 accepts):\n{}",
        diff(&expected, &written)
    );
}

fn pretty(written: TokenStream) -> String {
    let mut file: File = syn::parse2(written).unwrap();
    for item in &mut file.items {
        if let Item::Const(item) = item
            && let Expr::Block(block) = &mut *item.expr
        {
            open_gates(&mut block.block);
        }
    }
    prettyplease::unparse(&file)
}

/// Replaces `__p::if_postgres! { items }` by the items, each under `#[if_postgres]`, so that they are formatted.
fn open_gates(block: &mut Block) {
    block.stmts = std::mem::take(&mut block.stmts)
        .into_iter()
        .flat_map(|stmt| match stmt {
            Stmt::Macro(gate) => {
                let name = &gate.mac.path.segments.last().unwrap().ident;
                let items: File = syn::parse2(gate.mac.tokens.clone()).unwrap();
                items.items.into_iter().map(|item| parse_quote!(#[#name] #item)).collect()
            }
            other => vec![other],
        })
        .collect();
}

/// The lines around the first difference.
fn diff(expected: &str, written: &str) -> String {
    let (old, new): (Vec<_>, Vec<_>) = (expected.lines().collect(), written.lines().collect());
    let same = old.iter().zip(&new).take_while(|(old, new)| old == new).count();
    let tail = old[same..].iter().rev().zip(new[same..].iter().rev()).take_while(|(old, new)| old == new).count();
    let lines = |sign: char, lines: &[&str]| -> String {
        lines[same..lines.len() - tail].iter().map(|line| format!("{sign} {line}\n")).collect()
    };
    format!("at line {}:\n{}{}", same + 1, lines('-', &old), lines('+', &new))
}
