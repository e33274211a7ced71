//! Several statements as one: how a transaction begins and ends on a connection.

use sqlx::{Connection as _, SqlStr, Transaction};

use crate::backend::{Backend, Dialect};

/// A transaction of its own on a connection that has none, a savepoint on one that is inside a transaction.
pub(crate) enum Unit<'c, DB: Backend> {
    Savepoint(&'c mut DB::Connection),
    Transaction(Transaction<'c, DB>),
}

impl<'c, DB: Backend> Unit<'c, DB> {
    pub(crate) async fn begin(conn: &'c mut DB::Connection) -> Result<Self, sqlx::Error> {
        if conn.is_in_transaction() {
            // Not sqlx's: on Postgres, one of those that is dropped while it begins ends the whole transaction.
            DB::run(conn, SqlStr::from_static("SAVEPOINT storehaus_unit")).await?;
            return Ok(Self::Savepoint(conn));
        }
        conn.begin_with(DB::BEGIN).await.map(Self::Transaction)
    }

    pub(crate) fn conn(&mut self) -> &mut DB::Connection {
        match self {
            Self::Savepoint(conn) => conn,
            Self::Transaction(transaction) => transaction,
        }
    }

    /// Keeps what was done: COMMIT, where it is a transaction.
    pub(crate) async fn keep(self) -> Result<(), sqlx::Error> {
        match self {
            Self::Savepoint(conn) => DB::run(conn, SqlStr::from_static("RELEASE SAVEPOINT storehaus_unit")).await,
            Self::Transaction(transaction) => commit(transaction).await,
        }
    }

    /// Undoes what was done.
    pub(crate) async fn undo(self) -> Result<(), sqlx::Error> {
        match self {
            Self::Savepoint(conn) => {
                let undo = "ROLLBACK TO SAVEPOINT storehaus_unit; RELEASE SAVEPOINT storehaus_unit";
                DB::run(conn, SqlStr::from_static(undo)).await
            }
            Self::Transaction(transaction) => roll_back(transaction).await,
        }
    }
}

/// Commits. After an error the connection is fit for further use, and the transaction is over unless the connection is
/// lost.
pub(crate) async fn commit<DB: Backend>(mut tx: Transaction<'_, DB>) -> Result<(), sqlx::Error> {
    if DB::DIALECT == Dialect::Postgres {
        return tx.commit().await;
    }
    // SQLite may end a transaction whose COMMIT fails (a full disk) or leave it open (a deferred constraint). sqlx goes on
    // counting it in both cases, so it is given one to roll back in all of them.
    let done = DB::run(&mut tx, SqlStr::from_static("COMMIT; BEGIN")).await;
    let ended = if done.is_ok() { tx.rollback().await } else { roll_back(tx).await };
    if let Err(error) = ended {
        tracing::warn!(%error, "a connection was not cleaned up after COMMIT");
    }
    done
}

/// Rolls back, also where SQLite ended the transaction by itself, as it does for some errors (a full disk, a trigger's
/// `RAISE(ROLLBACK)`). sqlx goes on counting it, and the connection would never begin another; so it is given one to end.
pub(crate) async fn roll_back<DB: Backend>(mut tx: Transaction<'_, DB>) -> Result<(), sqlx::Error> {
    if DB::DIALECT == Dialect::Sqlite {
        // Refused where the transaction is still open.
        DB::run(&mut tx, SqlStr::from_static("BEGIN")).await.ok();
    }
    tx.rollback().await
}
