//! Transactions that commit when their body succeeds.

use std::time::Duration;

use uuid::Uuid;

use super::{Tx, TxOptions};
use crate::backend::Backend;
use crate::error::{Result, StorehausError};
use crate::haus::StoreHaus;

impl<DB: Backend> StoreHaus<DB> {
    /// Runs a transaction: committed when `body` returns `Ok`, rolled back when it returns an error, panics, or is dropped.
    ///
    /// ```no_run
    /// # use storehaus_core::{GenericStore, Result, StoreHaus, StorehausError, model::Persist};
    /// # async fn example<User: Persist<sqlx::Postgres, Key = i64>, Post: Persist<sqlx::Postgres, Key = i64>>(
    /// #     haus: StoreHaus, users: GenericStore<User>, posts: GenericStore<Post>, id: i64, post: Post) -> Result<()> {
    /// haus.transaction(async |tx| {
    ///     users.on(tx).require(&id).await?;
    ///     posts.on(tx).create(post).await
    /// })
    /// .await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// The error of `body`, as [`begin`](Self::begin), as [`Tx::commit`].
    ///
    /// # Consistency
    /// See [`Tx`] and [`Tx::commit`].
    ///
    /// # Cancel safety
    /// Dropped before COMMIT is sent, it is rolled back; afterwards COMMIT and invalidation run to their end.
    ///
    /// # Cost
    /// Two statements beside those of `body`; see [`Tx::commit`].
    pub async fn transaction<R, F>(&self, body: F) -> Result<R>
    where
        F: AsyncFnOnce(&mut Tx<DB>) -> Result<R>,
    {
        self.transaction_with(TxOptions::new(), body).await
    }

    /// As [`transaction`](Self::transaction), with an isolation level or for reading only.
    ///
    /// # Errors
    /// As [`transaction`](Self::transaction).
    pub async fn transaction_with<R, F>(&self, options: TxOptions, body: F) -> Result<R>
    where
        F: AsyncFnOnce(&mut Tx<DB>) -> Result<R>,
    {
        let mut tx = self.begin_with(options).await?;
        match body(&mut tx).await {
            Ok(value) => tx.commit().await.map(|()| value),
            Err(error) => {
                // The first error says more; a lost connection is rolled back too.
                tx.rollback().await.ok();
                Err(error)
            }
        }
    }

    /// As [`transaction_with`](Self::transaction_with), again from the start when the database gave the transaction up
    /// because of a concurrent one ([`StorehausError::Serialization`]: a deadlock, a serialization failure), after a short
    /// pause of random length. `body` makes what is run each time, and may run several times.
    ///
    /// ```no_run
    /// # use storehaus_core::{GenericStore, Isolation, Result, StoreHaus, TxOptions, model::Persist};
    /// # async fn example<User: Persist<sqlx::Postgres, Key = i64>>(haus: StoreHaus, users: GenericStore<User>, id: i64)
    /// # -> Result<()> {
    /// let options = TxOptions::new().isolation(Isolation::Serializable).attempts(3);
    /// let user = haus
    ///     .transaction_with_retry(options, || async |tx| {
    ///         let user = users.on(tx).require(&id).await?;
    ///         users.on(tx).update(&id, user).await
    ///     })
    ///     .await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`transaction`](Self::transaction); [`StorehausError::Serialization`] after the last attempt.
    pub async fn transaction_with_retry<R, F, M>(&self, options: TxOptions, mut body: M) -> Result<R>
    where
        M: FnMut() -> F,
        F: AsyncFnOnce(&mut Tx<DB>) -> Result<R>,
    {
        let mut attempt = 1;
        loop {
            match self.transaction_with(options, body()).await {
                Err(StorehausError::Serialization(failed)) if attempt < options.attempts => {
                    tracing::debug!(attempt, %failed, "the transaction is tried again");
                    tokio::time::sleep(pause(attempt)).await;
                    attempt += 1;
                }
                done => return done,
            }
        }
    }
}

/// Up to 5 ms after the first attempt, then up to twice as long each time, up to 320 ms.
fn pause(attempt: u32) -> Duration {
    let longest = 5_000 << attempt.saturating_sub(1).min(6);
    Duration::from_micros(Uuid::new_v4().as_u64_pair().1 % longest)
}
