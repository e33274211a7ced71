//! What the macros know about their input: as written (`Declared…`), and after it was checked.

use std::collections::BTreeMap;

use proc_macro2::Span;
use syn::{Generics, Ident, Path, Type};

/// A value and where it was written.
pub(crate) struct Spanned<T> {
    pub(crate) value: T,
    pub(crate) span: Span,
}

/// The input of `#[derive(Model)]` as written.
pub(crate) struct DeclaredModel {
    pub(crate) ident: Ident,
    pub(crate) generics: Generics,
    pub(crate) krate: Option<Path>,
    /// Whether `table` was given, even if its value could not be read.
    pub(crate) table_is_set: bool,
    pub(crate) table: Option<Spanned<String>>,
    pub(crate) schema: Option<Spanned<String>>,
    pub(crate) cache: Option<Spanned<String>>,
    pub(crate) prefix: Option<Spanned<String>>,
    pub(crate) ttl: Option<Spanned<u64>>,
    pub(crate) groups: Vec<Group>,
    /// `None` when the input is no struct with named fields, which was reported.
    pub(crate) fields: Option<Vec<DeclaredField>>,
}

/// `unique(a, b)` or `index(a, b)`.
pub(crate) struct Group {
    pub(crate) unique: bool,
    pub(crate) fields: Vec<Ident>,
    pub(crate) span: Span,
}

/// A field as written.
pub(crate) struct DeclaredField {
    pub(crate) ident: Ident,
    pub(crate) ty: Type,
    pub(crate) marks: BTreeMap<Mark, Span>,
    pub(crate) expression: Option<Spanned<String>>,
    pub(crate) rename: Option<Spanned<String>>,
}

impl DeclaredField {
    pub(crate) fn has(&self, mark: Mark) -> bool {
        self.marks.contains_key(&mark)
    }
}

/// A word that may stand on a field.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Mark {
    Key,
    Unique,
    Index,
    Json,
    Generated,
    Readonly,
    CreatedAt,
    UpdatedAt,
}

impl Mark {
    pub(crate) const ALL: [Self; 8] = [
        Self::Key,
        Self::Unique,
        Self::Index,
        Self::Json,
        Self::Generated,
        Self::Readonly,
        Self::CreatedAt,
        Self::UpdatedAt,
    ];

    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Key => "key",
            Self::Unique => "unique",
            Self::Index => "index",
            Self::Json => "json",
            Self::Generated => "generated",
            Self::Readonly => "readonly",
            Self::CreatedAt => "created_at",
            Self::UpdatedAt => "updated_at",
        }
    }

    pub(crate) fn of(word: &Ident) -> Option<Self> {
        Self::ALL.into_iter().find(|mark| word == mark.word())
    }
}

/// A checked model.
pub(crate) struct Model {
    pub(crate) ident: Ident,
    pub(crate) krate: Option<Path>,
    pub(crate) table: String,
    pub(crate) schema: Option<String>,
    pub(crate) cache: Cache,
    pub(crate) prefix: Option<String>,
    pub(crate) ttl: Option<u64>,
    pub(crate) fields: Vec<Field>,
    /// Positions of the key fields; one to four.
    pub(crate) key: Vec<usize>,
    pub(crate) indexes: Vec<Index>,
}

/// Which tiers may hold rows.
#[derive(Clone, Copy)]
pub(crate) enum Cache {
    Shared,
    Local,
    Never,
}

/// A checked field.
pub(crate) struct Field {
    pub(crate) ident: Ident,
    /// The field's name without `r#`.
    pub(crate) name: String,
    pub(crate) column: String,
    pub(crate) ty: Type,
    pub(crate) json: bool,
    pub(crate) stamp: Option<Stamp>,
    pub(crate) role: Role,
}

/// A time that StoreHaus fills.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stamp {
    Created,
    Updated,
}

/// When a column is written.
pub(crate) enum Role {
    Plain,
    Key,
    InsertOnly,
    Generated(Option<String>),
}

/// An index or unique constraint over the fields at these positions.
pub(crate) struct Index {
    pub(crate) columns: Vec<usize>,
    pub(crate) unique: bool,
}

/// The input of `#[derive(Column)]` as written.
pub(crate) struct DeclaredColumn {
    pub(crate) ident: Ident,
    pub(crate) generics: Generics,
    pub(crate) krate: Option<Path>,
    pub(crate) rename_all: Option<Spanned<String>>,
    pub(crate) postgres_enum: Option<Spanned<String>>,
    /// `None` when the input is neither a newtype nor an enum of unit variants, which was reported.
    pub(crate) shape: Option<DeclaredShape>,
}

/// The two kinds of column types.
pub(crate) enum DeclaredShape {
    Newtype(Box<Type>),
    Enum(Vec<DeclaredVariant>),
}

/// A variant as written.
pub(crate) struct DeclaredVariant {
    pub(crate) ident: Ident,
    pub(crate) rename: Option<Spanned<String>>,
}

/// A checked column type.
pub(crate) struct Column {
    pub(crate) ident: Ident,
    pub(crate) krate: Option<Path>,
    pub(crate) shape: Shape,
}

/// The two kinds of checked column types.
pub(crate) enum Shape {
    Newtype(Box<Type>),
    Enum { variants: Vec<Variant>, postgres: Option<String> },
}

/// A variant and its label in the database.
pub(crate) struct Variant {
    pub(crate) ident: Ident,
    pub(crate) label: String,
}

/// What the impls after an error need.
pub(crate) struct Skeleton {
    pub(crate) ident: Ident,
    pub(crate) generics: Generics,
    pub(crate) krate: Option<Path>,
    /// The types of the key fields, where they can be a key.
    pub(crate) key: Vec<Type>,
}

impl DeclaredModel {
    pub(crate) fn skeleton(&self) -> Skeleton {
        let fields = self.fields.as_deref().unwrap_or_default();
        let key: Vec<_> = fields.iter().filter(|field| field.has(Mark::Key)).collect();
        let usable = key.iter().all(|field| matches!(&field.ty, Type::Path(path) if path_is_plain(&path.path)));
        Skeleton {
            ident: self.ident.clone(),
            generics: self.generics.clone(),
            krate: self.krate.clone(),
            key: if usable && key.len() <= 4 { key.iter().map(|field| field.ty.clone()).collect() } else { Vec::new() },
        }
    }
}

impl DeclaredColumn {
    pub(crate) fn skeleton(&self) -> Skeleton {
        Skeleton {
            ident: self.ident.clone(),
            generics: self.generics.clone(),
            krate: self.krate.clone(),
            key: Vec::new(),
        }
    }
}

fn path_is_plain(path: &Path) -> bool {
    path.segments.iter().all(|segment| segment.arguments.is_empty())
}
