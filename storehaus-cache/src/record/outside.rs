//! Rows that were changed past the stores, by somebody who tells of it afterwards.

use super::RecordCache;
use crate::error::CacheError;
use crate::l2::L2;
use crate::loader::Loader;

impl<Ld: Loader, L: L2> RecordCache<Ld, L> {
    /// [`invalidate`](Self::invalidate), and whether the shared tier confirmed it.
    ///
    /// # Errors
    /// [`CacheError::ConnectionError`] when it did not: other instances may be served older rows. This one is not.
    pub async fn invalidate_confirmed(&self, keys: Vec<Ld::Key>) -> Result<(), CacheError> {
        let mut change = self.change();
        change.add(keys);
        change.settle_confirmed().await
    }

    /// Removes every row of the table from every tier of every store on it.
    ///
    /// # Errors
    /// [`CacheError::ConnectionError`], [`CacheError::Refused`], [`CacheError::Timeout`] from the shared tier: some rows
    /// may still be there.
    ///
    /// # Cost
    /// With Redis a `SCAN` over all keys of the server per store prefix of the table.
    pub async fn invalidate_table(&self) -> Result<(), CacheError> {
        let inner = &self.inner;
        let _running = inner.manager.background();
        let mut swept = Ok(());
        if let Some(remote) = inner.manager.remote() {
            for glob in inner.scope.group.shared_globs() {
                if let Err(error) = remote.sweep(&glob).await {
                    swept = Err(CacheError::from_l2("invalidate_table", inner.space.store(), &error));
                    break;
                }
            }
        }
        inner.scope.group.clear_local();
        swept
    }
}
