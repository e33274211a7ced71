//! Models in a package whose only dependency is `storehaus`: what the derives write names nothing else.

pub mod shadowed;

use storehaus::{Column, Model};

/// The key of a user: a newtype around a key is a key.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Column)]
pub struct UserId(i64);

/// A newtype around a type that is no key.
#[derive(Clone, Debug, Column)]
pub struct Ratio(f64);

/// A newtype that may be NULL.
#[derive(Clone, Debug, Column)]
pub struct Nickname(Option<String>);

/// An enum stored as text.
#[derive(Clone, Copy, Debug, Column)]
#[column(rename_all = "kebab-case")]
pub enum Plan {
    /// `free-of-charge`
    FreeOfCharge,
    /// `paid, yearly`
    #[column(rename = "paid, yearly")]
    Yearly,
}

/// An enum stored as a native enum on Postgres.
#[derive(Clone, Copy, Debug, Column)]
#[column(rename_all = "SCREAMING_SNAKE_CASE", postgres_enum = "mood")]
pub enum Mood {
    /// `VERY_HAPPY`
    VeryHappy,
    /// `SAD`
    Sad,
}

/// A model with every attribute whose field types need no other package.
#[derive(Clone, Debug, Model)]
#[model(table = "users", schema = "app", cache = "local", prefix = "people", ttl = 300)]
#[model(unique(tenant, email), index(name, tenant))]
pub struct User {
    /// The key.
    #[key]
    pub id: UserId,
    /// A part of a constraint over two columns.
    #[readonly]
    pub tenant: i64,
    /// A constraint of its own.
    #[unique]
    pub email: String,
    /// A column that may be NULL.
    #[index]
    pub name: Option<String>,
    /// A column with a reserved word as its name.
    pub r#type: String,
    /// A renamed column.
    #[model(rename = "select", index)]
    pub selected: bool,
    /// A serde type.
    #[json]
    pub settings: Vec<(String, Option<bool>)>,
    /// Made by the database from an expression.
    #[generated("lower(email)")]
    pub email_lower: String,
    /// Made by the database.
    #[model(generated)]
    pub revision: i64,
    /// An enum.
    pub plan: Plan,
    /// A native enum that may be NULL.
    pub mood: Option<Mood>,
    /// Newtypes.
    pub ratio: Ratio,
    /// A newtype around an `Option`.
    pub nickname: Nickname,
    /// Plain columns.
    pub small: i16,
    /// Plain columns.
    pub middle: i32,
    /// Plain columns.
    pub half: f32,
    /// Plain columns.
    pub bytes: Vec<u8>,
    /// Plain columns.
    pub words: Vec<String>,
    /// Plain columns.
    pub numbers: Option<Vec<i64>>,
}

/// A model with the types that `storehaus` hands on.
#[derive(Clone, Debug, Model)]
#[model(table = "documents")]
pub struct Document {
    /// Made by StoreHaus.
    #[key]
    pub id: storehaus::uuid::Uuid,
    /// A JSON value.
    pub value: storehaus::serde_json::Value,
    /// A serde type in a wrapper.
    pub wrapped: Option<storehaus::Json<Vec<bool>>>,
    /// A list.
    pub links: Vec<storehaus::uuid::Uuid>,
    /// An exact number.
    pub price: storehaus::rust_decimal::Decimal,
    /// A day.
    pub day: storehaus::chrono::NaiveDate,
    /// A time of day.
    pub time: Option<storehaus::chrono::NaiveTime>,
    /// Set by the insert.
    #[created_at]
    pub created: storehaus::chrono::DateTime<storehaus::chrono::Utc>,
    /// Set by each write.
    #[updated_at]
    pub updated: Option<storehaus::chrono::NaiveDateTime>,
}

/// A model with a composite key, in a table of the same name.
#[derive(Clone, Debug, Model)]
#[model(table = "memberships", cache = "never", crate = storehaus)]
pub struct Membership {
    /// First part.
    #[key]
    pub user_id: UserId,
    /// Second part.
    #[key]
    pub team: String,
    /// Who made it.
    pub role: String,
}

/// A model inside a function.
pub fn local() -> &'static str {
    #[derive(Clone, Model)]
    #[model(table = "notes")]
    struct Note {
        #[key]
        id: i64,
        text: String,
    }

    let note = Note { id: 1, text: String::new() };
    let _: (i64, &String) = (storehaus::model::Model::key(&note), &note.text);
    <Note as storehaus::model::Model>::TABLE.name
}
