//! The one place where SQL text is made at run time.

use sqlx::{AssertSqlSafe, SqlSafeStr, SqlStr};

/// SQL text put together by this crate.
///
/// It is safe because it consists of fixed fragments, of identifiers and type names that the derive validated at
/// compile time and that are quoted, and of SQL expressions written in the model's attributes; values never stand in
/// it, they are always bound.
pub(crate) fn sql(text: String) -> SqlStr {
    AssertSqlSafe(text).into_sql_str()
}

/// A statement, and whether it is worth keeping prepared.
#[derive(Clone, Debug)]
pub struct Sql {
    pub(crate) text: SqlStr,
    pub(crate) reusable: bool,
}

impl Sql {
    pub(crate) fn kept(text: String) -> Self {
        Self { text: sql(text), reusable: true }
    }

    pub(crate) fn once(text: String) -> Self {
        Self { text: sql(text), reusable: false }
    }
}

impl From<SqlStr> for Sql {
    fn from(text: SqlStr) -> Self {
        Self { text, reusable: true }
    }
}
