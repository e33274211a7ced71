//! Savepoints.

use super::{DROPPED, Level, NOT_UNDONE, Tx};
use crate::backend::Backend;
use crate::error::{Context, Result, StorehausError};
use crate::sql_text::sql;

impl<DB: Backend> Tx<DB> {
    /// Runs a part of the transaction that can fail by itself: an error or a panic undoes what `body` did, and nothing else.
    ///
    /// ```no_run
    /// # use storehaus_core::{GenericStore, Result, StoreHaus, StorehausError, Tx, model::Persist};
    /// # async fn example<User: Persist<sqlx::Postgres>>(users: GenericStore<User>, tx: &mut Tx, user: User) -> Result<()> {
    /// match tx.savepoint(async |tx| users.on(tx).create(user).await).await {
    ///     Err(StorehausError::Conflict(_)) => {}, // It is there already; the transaction goes on.
    ///     done => drop(done?),
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// The error of `body`; [`StorehausError::Aborted`] when `body` ignored an error after which Postgres refuses to go on.
    /// In both cases it was undone. When the undoing itself fails, the transaction can only be rolled back.
    ///
    /// # Consistency
    /// What was undone is withdrawn from the cache: its rows are not invalidated at COMMIT.
    ///
    /// # Cancel safety
    /// Dropped before it ends, it leaves the transaction, or the savepoint it is in, fit for a rollback only. Put a time
    /// limit inside: `tx.savepoint(async |tx| timeout(limit, work(tx)).await…)`.
    ///
    /// # Cost
    /// Two statements. When it fails, with Redis, one round trip behind the caller's back.
    pub async fn savepoint<R, F>(&mut self, body: F) -> Result<R>
    where
        F: AsyncFnOnce(&mut Self) -> Result<R>,
    {
        let context = Context::read("", "savepoint");
        self.ready(context).await?;
        let name = format!("storehaus_{}", self.levels.len());
        self.run(context, format!("SAVEPOINT {name}")).await?;
        self.levels.push(Level::default());
        let was_doubtful = self.is_doubtful;
        let mut inside = Inside { tx: self, was_doubtful, ended: false };
        let done = match body(&mut *inside.tx).await {
            Ok(value) => inside.release(context, &name).await.map(|()| value),
            Err(error) => Err(error),
        };
        if done.is_err() {
            inside.undo(context, &name).await;
        }
        done
    }

    async fn run(&mut self, context: Context, text: String) -> Result<()> {
        match &mut self.sql {
            Some(conn) => DB::run(&mut *conn, sql(text)).await.map_err(|error| context.error(&error)),
            None => Err(StorehausError::Aborted(context.failed("the transaction is over"))),
        }
    }
}

/// The innermost savepoint, while its body runs.
struct Inside<'t, DB: Backend> {
    tx: &'t mut Tx<DB>,
    /// What [`Tx::is_doubtful`] is again when it is undone.
    was_doubtful: bool,
    ended: bool,
}

impl<DB: Backend> Inside<'_, DB> {
    async fn release(&mut self, context: Context, name: &str) -> Result<()> {
        self.tx.ready(context).await?;
        self.tx.run(context, format!("RELEASE SAVEPOINT {name}")).await?;
        self.leave(None);
        Ok(())
    }

    async fn undo(&mut self, context: Context, name: &str) {
        let undo = format!("ROLLBACK TO SAVEPOINT {name}; RELEASE SAVEPOINT {name}");
        if let Err(error) = self.tx.run(context, undo).await {
            // The error of the body says more.
            tracing::debug!(%error, "a savepoint was not rolled back");
            return self.leave(Some(NOT_UNDONE));
        }
        self.ended = true;
        self.tx.is_doubtful = self.was_doubtful;
        if let Some(level) = self.tx.levels.pop() {
            level.changes.withdraw().await;
        }
    }

    /// Hands what was changed to the level around, which may be broken by that.
    fn leave(&mut self, broken: Option<&'static str>) {
        self.ended = true;
        if let Some(inner) = self.tx.levels.pop()
            && let Some(outer) = self.tx.levels.last_mut()
        {
            outer.changes.merge(inner.changes);
            outer.broken = outer.broken.or(broken);
        }
    }
}

impl<DB: Backend> Drop for Inside<'_, DB> {
    fn drop(&mut self) {
        if !self.ended {
            self.leave(Some(DROPPED));
        }
    }
}
