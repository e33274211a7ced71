//! Rows in process that are served only after the shared tier said that they are still what stands there.
//!
//! A value carries the token of the lease it was filled under, and no token is ever used twice: while the header under a
//! key names the same token, the value behind it is the same. What a load left here before its value was filled, or was
//! refused, is therefore harmless: no header names its token. For the same reason nothing here is joined or fenced.

use std::sync::Arc;

use super::handle::Handle;
use super::{Found, Inner, Loaded, Outcome};
#[cfg(storehaus_broken)]
use crate::broken::{self, Bug};
use crate::codec::Cacheable;
use crate::codec::header::{self, Expected, Token};
use crate::l2::L2;
use crate::loader::Loader;
use crate::remote::Remote;

impl<Ld: Loader, L: L2> Inner<Ld, L> {
    /// One row: from this process if the shared tier confirms it, else as without rows in process.
    pub(super) async fn read_validated(
        self: &Arc<Self>,
        remote: &Remote<L>,
        held: &Handle<Ld, Option<Token>>,
        key: Ld::Key,
    ) -> Outcome<Ld> {
        if remote.is_up()
            && let Some((row, token)) = held.tier.get_as(&key, self.manager.env().nanos())
        {
            #[cfg(storehaus_broken)]
            if broken::is(Bug::ValidateNothing) {
                return Ok(row);
            }
            let text = self.space.key(&key);
            if let Ok(reply) = remote.head(&text, remote.deadline()).await {
                let expected = Expected {
                    schema: Ld::Value::SCHEMA,
                    identity: header::identity(&text),
                    incarnation: reply.incarnation,
                    now: self.wall(),
                };
                if reply.bytes.is_some_and(|bytes| header::is_still(&bytes, token, &expected)) {
                    self.counters.l1_hits.add(1);
                    return Ok(row);
                }
            }
        }
        match self.read_shared(remote, &key).await? {
            Found::Loaded(loaded) => Ok(self.hold(&key, loaded)),
            Found::Writing => self.load_beside(&key).await,
        }
    }

    /// Keeps a row in process that can be asked about. Its row.
    pub(super) fn hold(&self, key: &Ld::Key, loaded: Loaded<Ld::Value>) -> Option<Arc<Ld::Value>> {
        if let (Some(held), Some(token), Some(keep)) = (&self.validated, loaded.token, loaded.keep) {
            let keep = u64::try_from(keep.as_nanos()).unwrap_or(u64::MAX);
            let now = self.manager.env().nanos();
            held.tier.put_as(key.clone(), loaded.row.clone(), token, now, now.saturating_add(keep));
        }
        loaded.row
    }
}
