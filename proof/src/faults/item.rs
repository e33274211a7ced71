//! The row the faults are tried on. The database counts its versions, so that whatever was applied, and in whichever
//! order, the version says how late a read is.

use std::sync::atomic::{AtomicU64, Ordering};

use storehaus::prelude::*;
use storehaus::sqlx;

/// A row whose version the database counts.
#[derive(Clone, Debug, PartialEq, Eq, Model)]
#[model(table = "proof_faults")]
pub(super) struct Item {
    /// The key.
    #[key]
    pub(super) id: i64,
    /// One more at each update, by a trigger.
    #[generated]
    pub(super) version: i64,
    /// Says whose content it is and who wrote it; see [`Item::new`].
    pub(super) note: String,
}

impl Item {
    /// A row as a writer passes it. Its note names the key and a number no other write of this process has.
    pub(super) fn new(id: i64) -> Self {
        static WRITES: AtomicU64 = AtomicU64::new(1);
        Self::written_by(id, WRITES.fetch_add(1, Ordering::Relaxed))
    }

    fn written_by(id: i64, write: u64) -> Self {
        Self { id, version: 0, note: format!("{id}/{write}/{:x>160}", id ^ write as i64) }
    }

    /// Whether this is a whole row of that key.
    pub(super) fn is_of(&self, id: i64) -> bool {
        let write = self.note.split('/').nth(1).and_then(|write| write.parse().ok());
        self.id == id && write.is_some_and(|write| Self::written_by(id, write).note == self.note)
    }
}

/// Makes the table with rows 1 to `keys` at version 0, whatever was there.
///
/// # Errors
/// As the database.
pub(super) async fn reset(pool: &PgPool, keys: i64) -> Result<(), sqlx::Error> {
    let statement = "
        CREATE TABLE IF NOT EXISTS proof_faults (id BIGINT PRIMARY KEY, version BIGINT NOT NULL DEFAULT 0, note TEXT NOT NULL);
        CREATE OR REPLACE FUNCTION proof_faults_count() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN NEW.version := OLD.version + 1; RETURN NEW; END $$;
        CREATE OR REPLACE TRIGGER proof_faults_count BEFORE UPDATE ON proof_faults
            FOR EACH ROW EXECUTE FUNCTION proof_faults_count();
        TRUNCATE proof_faults";
    sqlx::raw_sql(statement).execute(pool).await?;
    let (ids, notes): (Vec<i64>, Vec<String>) = (1..=keys).map(|id| (id, Item::new(id).note)).unzip();
    let statement = "INSERT INTO proof_faults (id, note) SELECT * FROM UNNEST($1::bigint[], $2::text[])";
    sqlx::query(statement).bind(ids).bind(notes).execute(pool).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_of_another_key_is_recognised() {
        let row = Item::new(7);
        assert!(row.is_of(7) && !row.is_of(8));
        assert!(!Item { id: 8, ..row.clone() }.is_of(8));
        assert!(!Item { note: row.note.replace("7/", "7/1"), ..row.clone() }.is_of(7));
        assert!(!Item { note: row.note[..100].to_owned(), ..row }.is_of(7));
        assert_ne!(Item::new(7), Item::new(7));
    }
}
