//! What a transaction changed, savepoint by savepoint.

use std::any::Any;

use futures_util::future::{BoxFuture, join_all};
use storehaus_cache::CacheError;
use storehaus_cache::record::Change;

use crate::backend::Backend;
use crate::error::{Context, Result};
use crate::model::Persist;
use crate::store::GenericStore;

/// What was done since a savepoint, or since the transaction began.
#[derive(Default)]
pub(crate) struct Level {
    pub(crate) changes: Changes,
    /// Why it can only be rolled back.
    pub(crate) broken: Option<&'static str>,
}

/// The changes of any number of tables.
#[derive(Default)]
pub(crate) struct Changes(Vec<Box<dyn Pending>>);

impl Changes {
    /// The change of the rows of a store, begun where there is none yet; nothing without a cache.
    pub(crate) async fn of<T: Persist<DB>, DB: Backend>(
        &mut self,
        store: &GenericStore<T, DB>,
    ) -> Result<Option<&mut Change<T::Key>>> {
        let Some(cache) = store.records()? else { return Ok(None) };
        let at = match self.0.iter_mut().position(|pending| of::<T, DB>(&mut **pending, store).is_some()) {
            Some(at) => at,
            None => {
                let change = cache.announce(Vec::new()).await.map_err(|error| commit_of::<T, DB>().refused(&error))?;
                self.0.push(Box::new(Announced { store: store.clone(), change }));
                self.0.len() - 1
            }
        };
        Ok(of(&mut *self.0[at], store))
    }

    /// Takes over what was changed after a savepoint.
    pub(super) fn merge(&mut self, inner: Self) {
        self.0.extend(inner.0);
    }

    pub(super) async fn confirm(&mut self) -> Result<()> {
        join_all(self.0.iter_mut().map(|pending| pending.confirm())).await.into_iter().collect()
    }

    pub(super) async fn settle(self) -> Result<()> {
        join_all(self.0.into_iter().map(Pending::settle)).await.into_iter().collect()
    }

    pub(super) async fn doubt(self) {
        join_all(self.0.into_iter().map(Pending::doubt)).await;
    }

    pub(super) async fn withdraw(self) {
        join_all(self.0.into_iter().map(Pending::withdraw)).await;
    }
}

/// A [`Change`] of a table that is not known here.
trait Pending: Any + Send + Sync {
    fn confirm(&mut self) -> BoxFuture<'_, Result<()>>;
    fn settle(self: Box<Self>) -> BoxFuture<'static, Result<()>>;
    fn doubt(self: Box<Self>) -> BoxFuture<'static, ()>;
    fn withdraw(self: Box<Self>) -> BoxFuture<'static, ()>;
}

struct Announced<T: Persist<DB>, DB: Backend> {
    /// Whose change it is.
    store: GenericStore<T, DB>,
    change: Change<T::Key>,
}

impl<T: Persist<DB>, DB: Backend> Pending for Announced<T, DB> {
    fn confirm(&mut self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async { self.change.confirm().await.map_err(|error| commit_of::<T, DB>().refused(&error)) })
    }

    fn settle(self: Box<Self>) -> BoxFuture<'static, Result<()>> {
        Box::pin(async {
            let not_invalidated = |error: CacheError| commit_of::<T, DB>().not_invalidated(&error);
            self.change.settle().await.map_err(not_invalidated)
        })
    }

    fn doubt(self: Box<Self>) -> BoxFuture<'static, ()> {
        Box::pin(self.change.doubt())
    }

    fn withdraw(self: Box<Self>) -> BoxFuture<'static, ()> {
        Box::pin(self.change.withdraw())
    }
}

/// The change of a store, where this is one.
fn of<'p, T: Persist<DB>, DB: Backend>(
    pending: &'p mut dyn Pending,
    store: &GenericStore<T, DB>,
) -> Option<&'p mut Change<T::Key>> {
    let pending: &mut dyn Any = pending;
    let announced = pending.downcast_mut::<Announced<T, DB>>()?;
    announced.store.is(store).then_some(&mut announced.change)
}

fn commit_of<T: Persist<DB>, DB: Backend>() -> Context {
    Context::write(T::TABLE.name, "commit")
}
