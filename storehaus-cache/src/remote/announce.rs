//! Intents: one attempt each, within a bound that a writer can bear to wait for.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use crate::codec::header::Token;
use crate::l2::{Claim, Incarnation, L2, L2Error};

use super::Inner;

/// Places intents. Without memory the keys are cleared instead: `None`.
pub(super) async fn announce<L: L2>(
    inner: &Arc<Inner<L>>,
    keys: &[String],
    token: Token,
    ttl: Duration,
) -> Result<Option<Incarnation>, L2Error> {
    let mut placed_on = None;
    for part in keys.chunks(PART) {
        match once(inner, part, inner.l2.announce(part, token, ttl)).await {
            Ok(incarnation) => placed_on = Some(incarnation),
            Err(error) if is_oom(&error) => {
                let claims: Vec<Claim> = keys.iter().map(|key| (key.clone(), Some(token))).collect();
                once(inner, keys, inner.l2.clear(&claims)).await?;
                return Ok(None);
            }
            Err(error) => return Err(error),
        }
    }
    Ok(placed_on)
}

/// Begins the time of intents again; whether each still stood.
pub(super) async fn renew<L: L2>(
    inner: &Arc<Inner<L>>,
    keys: &[String],
    token: Token,
    ttl: Duration,
) -> Result<Vec<bool>, L2Error> {
    let mut stood = Vec::with_capacity(keys.len());
    for part in keys.chunks(PART) {
        stood.extend(once(inner, part, inner.l2.renew(part, token, ttl)).await?);
    }
    Ok(stood)
}

/// One attempt. Once one of an outage failed, further ones fail at once, so that a server that does not answer keeps each
/// writer waiting no more than once.
async fn once<L: L2, T>(
    inner: &Arc<Inner<L>>,
    keys: &[String],
    command: impl Future<Output = Result<T, L2Error>> + Send,
) -> Result<T, L2Error> {
    let Some(seen) = inner.gate.enter_to_announce() else {
        inner.revive();
        return Err(L2Error::Connection("an earlier command is not answered yet".to_owned()));
    };
    let limit = inner.settings.timeout / SHARE;
    let answer = timeout_at(Instant::now() + limit, command).await.unwrap_or(Err(L2Error::Timeout(limit)));
    let error = match answer {
        Ok(done) => return Ok(done),
        Err(error) => error,
    };
    inner.counters.count(&error);
    if is_oom(&error) {
        inner.gate.note(&error);
    } else {
        let proof = keys.first().filter(|_| matches!(error, L2Error::Refused { .. }));
        inner.act(inner.gate.announce_failed(seen, &error, proof.map(String::as_str)));
    }
    Err(error)
}

fn is_oom(error: &L2Error) -> bool {
    matches!(error, L2Error::Refused { code, .. } if code == "OOM")
}

/// How many keys one round trip takes.
const PART: usize = 1000;

/// The part of the timeout that an attempt may take. What comes after COMMIT may take all of it.
const SHARE: u32 = 4;
