//! The transactions of a task.

use std::time::Duration;

use storehaus::prelude::*;

use super::event::{Call, Op, Outcome};
use super::table::Entry;
use super::worker::{Hand, Wrote};

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// What one transaction does.
struct Course {
    /// Signs what stands outside the savepoint, and what stands inside.
    outside: Op,
    inside: Op,
    /// The rows written outside, and how.
    outer: Vec<(i64, How)>,
    /// The row written inside.
    inner: Option<i64>,
    /// Whether the savepoint, and the whole, is undone.
    undo_inside: bool,
    undo: bool,
}

#[derive(Clone, Copy)]
enum How {
    Delete,
    Raw,
    Upsert,
}

/// What the transaction wrote, outside and inside the savepoint.
#[derive(Default)]
struct Both {
    outside: Wrote,
    inside: Wrote,
}

impl Hand {
    /// Some writes and a savepoint in one transaction; each may be undone, and the whole may be dropped half way.
    pub(super) async fn transaction(&mut self) -> Result<(), Failure> {
        let mut keys = self.keys(5, 0);
        let inner = if keys.len() > 1 { keys.pop() } else { None };
        let outer: Vec<_> = keys.into_iter().map(|key| (key, self.how())).collect();
        let course = Course {
            outside: self.desk.new_op(self.task),
            inside: self.desk.new_op(self.task),
            outer,
            inner,
            undo_inside: self.rng.below(3) == 0,
            undo: self.rng.below(4) == 0,
        };
        let (outside, inside, undo_inside) = (course.outside, course.inside, course.undo_inside);
        let of = |deleted: bool| {
            let chosen = course.outer.iter().filter(move |(_, how)| matches!(how, How::Delete) == deleted);
            chosen.map(|(key, _)| *key).collect::<Vec<_>>()
        };
        self.desk.begin(outside, Call::Transaction, of(false), of(true))?;
        self.desk.begin(inside, Call::Savepoint, inner.into_iter().collect(), Vec::new())?;
        let (haus, store) = (self.desk.haus.clone(), self.desk.store.clone());
        let body = haus.transaction(async |tx| run(tx, &store, &course).await);
        let ended = match self.rng.below(24) {
            0 => tokio::time::timeout(Duration::from_micros(self.rng.below(20_000)), body).await.ok(),
            _ => Some(body.await),
        };
        let (ended, savepoint) = match ended {
            Some(Ok(both)) => (Some(Ok(both.outside)), Some(Ok(both.inside))),
            Some(Err(error)) => (Some(Err(error.clone())), Some(Err(error))),
            None => (None, None),
        };
        self.desk.ended(outside, ended)?;
        if undo_inside {
            self.desk.end(inside, Outcome::Failed, Vec::new(), 0)
        } else {
            self.desk.ended(inside, savepoint)
        }
    }

    fn how(&mut self) -> How {
        match self.rng.below(8) {
            0 => How::Delete,
            1 | 2 => How::Raw,
            _ => How::Upsert,
        }
    }
}

async fn run(tx: &mut Tx, store: &GenericStore<Entry>, course: &Course) -> storehaus::Result<Both> {
    let mut both = Both::default();
    for (key, how) in &course.outer {
        let row = Entry::new(*key, course.outside);
        match how {
            How::Delete => both.outside.deleted += u64::from(store.on(tx).delete(key).await?),
            How::Upsert => {
                let row = store.on(tx).upsert(row).await?;
                both.outside.versions.push((row.id, row.ver));
            }
            How::Raw => {
                tx.touch::<Entry>(key).await?;
                both.outside.versions.push((*key, update_by_hand(tx, &row).await?));
            }
        }
    }
    if let Some(key) = course.inner {
        let inside = tx.savepoint(async |tx| {
            let row = store.on(tx).upsert(Entry::new(key, course.inside)).await?;
            if course.undo_inside { Err(undone()) } else { Ok((row.id, row.ver)) }
        });
        match inside.await {
            Ok(wrote) => both.inside.versions.push(wrote),
            Err(StorehausError::NotFound(_)) if course.undo_inside => {}
            Err(error) => return Err(error),
        }
    }
    if course.undo { Err(undone()) } else { Ok(both) }
}

/// An update that no store knows of; the version it made.
async fn update_by_hand(tx: &mut Tx, row: &Entry) -> storehaus::Result<i64> {
    let Some(conn) = tx.as_postgres() else { return Err(undone()) };
    let sql = "UPDATE proof_history SET writer = $2, digest = $3, note = $4 WHERE id = $1 RETURNING ver";
    let update = storehaus::sqlx::query_scalar(sql).bind(row.id).bind(row.writer).bind(row.digest).bind(&row.note);
    update.fetch_optional(conn).await?.ok_or_else(undone)
}

/// What ends a transaction that is to change nothing.
fn undone() -> StorehausError {
    StorehausError::not_found::<Entry>()
}
