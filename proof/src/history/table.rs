//! The table of the history run: its triggers count the versions of each key and write down what was committed.

use std::collections::BTreeMap;

use storehaus::prelude::*;
use storehaus::sqlx::Row as _;

use super::event::Op;

/// A row whose parts can be checked against each other.
#[derive(Clone, Debug, PartialEq, Eq, Model)]
#[model(table = "proof_history")]
pub struct Entry {
    /// The key.
    #[key]
    pub id: i64,
    /// The version; a trigger counts it under the lock of the row. A delete takes a version too.
    #[generated]
    pub ver: i64,
    /// The write that made this version.
    pub writer: Op,
    /// Follows from key and writer.
    pub digest: i64,
    /// Follows from the digest.
    pub note: String,
}

impl Entry {
    /// The row that the write `writer` puts under `id`.
    pub fn new(id: i64, writer: Op) -> Self {
        let digest = digest(id, writer);
        Self { id, ver: 0, writer, digest, note: note(digest) }
    }

    /// Whether it is a row of `id`, and one that some write made as a whole.
    pub fn is_whole(&self, id: i64) -> bool {
        self.id == id && self.digest == digest(id, self.writer) && self.note == note(self.digest)
    }
}

fn digest(id: i64, writer: Op) -> i64 {
    let mixed = (id as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (writer as u64).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    (mixed ^ mixed >> 29) as i64
}

fn note(digest: i64) -> String {
    format!("{digest:016x}").repeat(8)
}

/// A version of a key that was committed, as the trigger wrote it down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// The version.
    pub ver: i64,
    /// The write that made it; a delete does not say.
    pub writer: Option<Op>,
    /// The process that made it, where its connection says so.
    pub process: Option<u16>,
    /// Whether a later version of the same transaction hides it from everybody else.
    pub hidden: bool,
}

/// What was committed, by key, in the order of versions.
pub type Ground = BTreeMap<i64, Vec<Version>>;

/// Makes the table, empty, for keys from 1 to `keys`.
///
/// # Errors
/// As the database.
pub async fn create(pool: &PgPool, keys: i64) -> Result<(), storehaus::sqlx::Error> {
    for statement in CREATE {
        storehaus::sqlx::raw_sql(*statement).execute(pool).await?;
    }
    let fill = "INSERT INTO proof_history_keys SELECT id, 0 FROM generate_series(1, $1) AS id";
    storehaus::sqlx::query(fill).bind(keys).execute(pool).await.map(drop)
}

/// The name by which the connections of a process are known to the trigger.
pub fn application(process: u16) -> String {
    format!("proof-{process}")
}

/// What the trigger wrote down.
///
/// # Errors
/// As the database.
pub async fn ground(pool: &PgPool) -> Result<Ground, storehaus::sqlx::Error> {
    let rows = storehaus::sqlx::query(
        "SELECT id, ver, writer, application, xid::text FROM proof_history_audit ORDER BY id, ver",
    )
    .fetch_all(pool)
    .await?;
    let mut ground = Ground::new();
    let mut last: Option<(i64, String)> = None;
    for row in rows {
        let (id, xid): (i64, String) = (row.try_get(0)?, row.try_get(4)?);
        let versions = ground.entry(id).or_default();
        let here = Some((id, xid));
        if here == last
            && let Some(before) = versions.last_mut()
        {
            before.hidden = true;
        }
        last = here;
        let process = row.try_get::<String, _>(3)?.strip_prefix("proof-").and_then(|process| process.parse().ok());
        versions.push(Version { ver: row.try_get(1)?, writer: row.try_get(2)?, process, hidden: false });
    }
    Ok(ground)
}

/// The rows that the table holds: version by key.
///
/// # Errors
/// As the database.
pub async fn rows(pool: &PgPool) -> Result<BTreeMap<i64, i64>, storehaus::sqlx::Error> {
    storehaus::sqlx::query_as("SELECT id, ver FROM proof_history")
        .fetch_all(pool)
        .await
        .map(|rows| rows.into_iter().collect())
}

/// An insert waits for a delete of its key that is under way, then for other inserts of the key, and takes the version
/// after the last one of the key's former life. An update holds the lock of its row.
const CREATE: &[&str] = &[
    "DROP TABLE IF EXISTS proof_history, proof_history_keys, proof_history_audit",
    "CREATE TABLE proof_history (id bigint PRIMARY KEY, ver bigint NOT NULL, writer bigint NOT NULL, \
     digest bigint NOT NULL, note text NOT NULL)",
    "CREATE TABLE proof_history_keys (id bigint PRIMARY KEY, ver bigint NOT NULL)",
    "CREATE TABLE proof_history_audit (id bigint, ver bigint, writer bigint, application text NOT NULL, \
     xid xid8 NOT NULL, PRIMARY KEY (id, ver))",
    "CREATE OR REPLACE FUNCTION proof_history_count() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
       IF TG_OP = 'UPDATE' THEN
         NEW.ver := OLD.ver + 1;
       ELSE
         PERFORM 1 FROM proof_history WHERE id = NEW.id FOR UPDATE;
         SELECT ver + 1 INTO STRICT NEW.ver FROM proof_history_keys WHERE id = NEW.id FOR UPDATE;
       END IF;
       RETURN NEW;
     END $$",
    "CREATE OR REPLACE FUNCTION proof_history_audit() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
       IF TG_OP = 'DELETE' THEN
         UPDATE proof_history_keys SET ver = OLD.ver + 1 WHERE id = OLD.id;
         INSERT INTO proof_history_audit
           VALUES (OLD.id, OLD.ver + 1, NULL, current_setting('application_name'), pg_current_xact_id());
       ELSE
         INSERT INTO proof_history_audit
           VALUES (NEW.id, NEW.ver, NEW.writer, current_setting('application_name'), pg_current_xact_id());
       END IF;
       RETURN NULL;
     END $$",
    "CREATE TRIGGER count BEFORE INSERT OR UPDATE ON proof_history FOR EACH ROW EXECUTE FUNCTION proof_history_count()",
    "CREATE TRIGGER audit AFTER INSERT OR UPDATE OR DELETE ON proof_history FOR EACH ROW \
     EXECUTE FUNCTION proof_history_audit()",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_of_another_key_or_of_two_writes_is_not_whole() {
        let row = Entry::new(7, 99);
        assert!(row.is_whole(7) && !row.is_whole(8));
        assert!(!Entry { writer: 98, ..row.clone() }.is_whole(7));
        assert!(!Entry { note: Entry::new(7, 98).note, ..row }.is_whole(7));
    }
}
