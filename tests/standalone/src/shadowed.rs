//! Names of the prelude with other meanings: generated code meets none of them.
#![allow(dead_code, non_camel_case_types, non_upper_case_globals, missing_docs)]

use storehaus::{Column, Model};

pub struct Option;
pub struct Result;
pub struct Vec;
pub struct Box;
pub struct Some;
pub struct None;
pub struct Ok;
pub struct Err;
pub struct u64;
pub struct usize;
pub struct bool;
pub struct str;
pub trait Clone {}
pub trait Iterator {}
pub trait Send {}
pub trait Sync {}
pub mod std {}
pub mod core {}
pub mod storehaus_core {}
pub mod sqlx {}

type Text = ::std::string::String;

#[derive(::core::clone::Clone, Debug, PartialEq, Eq, Hash, Column)]
pub struct String(Text);

#[derive(::core::clone::Clone, Debug, Column)]
pub enum Level {
    Some,
    None,
    Ok,
}

#[derive(::core::clone::Clone, Model)]
#[model(table = "shadowed")]
pub struct Shadowed {
    #[key]
    pub id: i64,
    #[unique]
    pub name: String,
    pub maybe: ::core::option::Option<String>,
    pub level: Level,
    #[json]
    pub json: ::std::vec::Vec<Text>,
}

#[derive(::core::clone::Clone, Model)]
#[model(table = "by_text")]
pub struct ByText {
    #[key]
    pub name: String,
}
