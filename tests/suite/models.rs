//! The models most tests share.

use storehaus::prelude::*;

use crate::world::{TestDb, World};

/// A key that the client makes, and a unique column.
#[derive(Debug, Clone, PartialEq, Model)]
#[model(table = "users")]
pub(crate) struct User {
    #[key]
    pub(crate) id: Uuid,
    #[unique]
    pub(crate) email: String,
    pub(crate) name: String,
    #[index]
    pub(crate) age: Option<i32>,
}

/// A user whose key is made when it is created.
pub(crate) fn user(name: &str) -> User {
    User { id: Uuid::nil(), email: format!("{name}@example.org"), name: name.to_owned(), age: None }
}

/// A key that the database makes.
#[derive(Debug, Clone, PartialEq, Model)]
#[model(table = "items")]
pub(crate) struct Item {
    #[key]
    pub(crate) id: i64,
    #[unique]
    pub(crate) code: String,
    pub(crate) stock: i32,
}

/// An item; `id` 0 leaves the key to the database.
pub(crate) fn item(id: i64, code: &str) -> Item {
    Item { id, code: code.to_owned(), stock: 1 }
}

/// A key of text.
#[derive(Debug, Clone, PartialEq, Model)]
#[model(table = "docs")]
pub(crate) struct Doc {
    #[key]
    pub(crate) id: String,
    pub(crate) body: String,
}

/// The table of documents, on a Postgres that takes keys of different case for equal.
pub(crate) async fn make_caseless_docs<DB: TestDb>(world: &World<DB>)
where
    Doc: storehaus::model::Persist<DB>,
    (Doc,): storehaus::Models<DB>,
{
    world.haus.create_missing_tables::<(Doc,)>().await.unwrap();
    world.sql("CREATE COLLATION caseless (provider = icu, locale = 'und-u-ks-level2', deterministic = false)").await;
    world.sql("ALTER TABLE docs ALTER COLUMN id TYPE text COLLATE caseless").await;
}

pub(crate) fn doc(id: &str, body: &str) -> Doc {
    Doc { id: id.to_owned(), body: body.to_owned() }
}

/// A key of two columns.
#[derive(Debug, Clone, PartialEq, Model)]
#[model(table = "grades")]
pub(crate) struct Grade {
    #[key]
    pub(crate) student: i64,
    #[key]
    pub(crate) course: String,
    pub(crate) points: i16,
}

pub(crate) fn grade(student: i64, course: &str, points: i16) -> Grade {
    Grade { student, course: course.to_owned(), points }
}

/// Columns that StoreHaus or the database fills.
#[derive(Debug, Clone, PartialEq, Model)]
#[model(table = "articles")]
pub(crate) struct Article {
    #[key]
    pub(crate) id: i64,
    pub(crate) title: String,
    #[readonly]
    pub(crate) origin: String,
    #[created_at]
    pub(crate) created_at: DateTime<Utc>,
    #[updated_at]
    pub(crate) updated_at: Option<NaiveDateTime>,
    #[generated("lower(title)")]
    pub(crate) slug: String,
}

pub(crate) fn article(title: &str) -> Article {
    Article {
        id: 0,
        title: title.to_owned(),
        origin: "import".to_owned(),
        created_at: DateTime::UNIX_EPOCH,
        updated_at: None,
        slug: String::new(),
    }
}
