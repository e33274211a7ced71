//! A tier that fails on command.

use std::collections::BTreeMap;
use std::future::pending;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use storehaus_cache::codec::header::Token;
use storehaus_cache::l2::{Claim, Cleared, Fill, Incarnation, L2, L2Error, LeaseReply, ManyReply, Reply};
use storehaus_cache::remote::{Bypass, Remote, RemoteSettings};
use tokio::sync::Notify;

use crate::log;

pub(super) const TTL: Duration = Duration::from_secs(1);
pub(super) const TOKEN: Token = Token { instance: 1, serial: 1 };

#[derive(Clone, Default)]
pub(super) struct Fake(pub(super) Arc<State>);

#[derive(Default)]
pub(super) struct State {
    pub(super) reads: Script,
    pub(super) writes: Script,
    pub(super) announces: Script,
    pub(super) clears: Script,
    pub(super) probes: Script,
    pub(super) flushes: Script,
    pub(super) resets: AtomicUsize,
    pub(super) store: Mutex<BTreeMap<String, Vec<u8>>>,
}

/// The next answers, then the same one for ever.
#[derive(Default)]
pub(super) struct Script {
    next: Mutex<Vec<Answer>>,
    always: Mutex<Answer>,
    calls: AtomicUsize,
}

#[derive(Clone, Default)]
pub(super) enum Answer {
    Fail(L2Error),
    Hang,
    /// Waits for the signal, then succeeds.
    Held(Arc<Notify>),
    #[default]
    Succeed,
}

impl Script {
    pub(super) fn set(&self, answer: Answer) {
        *self.always.lock().unwrap() = answer;
    }

    /// First in, last out is avoided by inserting at the front.
    pub(super) fn once(&self, answer: Answer) {
        self.next.lock().unwrap().insert(0, answer);
    }

    pub(super) fn calls(&self) -> usize {
        self.calls.load(Ordering::Relaxed)
    }

    pub(super) async fn play(&self) -> Result<(), L2Error> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        let next = self.next.lock().unwrap().pop();
        let answer = next.unwrap_or_else(|| self.always.lock().unwrap().clone());
        match answer {
            Answer::Fail(error) => Err(error),
            Answer::Hang => pending().await,
            Answer::Held(signal) => {
                signal.notified().await;
                Ok(())
            }
            Answer::Succeed => Ok(()),
        }
    }
}

impl L2 for Fake {
    async fn get(&self, key: &str) -> Result<Reply, L2Error> {
        self.0.reads.play().await?;
        Ok(Reply { bytes: self.0.store.lock().unwrap().get(key).cloned().map(Into::into), incarnation: 1 })
    }

    async fn get_many<K: AsRef<str> + Sync>(&self, keys: &[K]) -> Result<ManyReply, L2Error> {
        self.0.reads.play().await?;
        Ok(ManyReply { bytes: vec![None; keys.len()], incarnation: 1 })
    }

    async fn lease(&self, _: &str, _: Token, _: Duration) -> Result<LeaseReply, L2Error> {
        self.0.writes.play().await.map(|()| LeaseReply::Granted(1))
    }

    async fn lease_many(&self, keys: &[(String, Token)], _: Duration) -> Result<Vec<LeaseReply>, L2Error> {
        self.0.writes.play().await.map(|()| vec![LeaseReply::Granted(1); keys.len()])
    }

    async fn replace(&self, _: &str, _: &[u8], _: Token, _: Duration) -> Result<LeaseReply, L2Error> {
        self.0.writes.play().await.map(|()| LeaseReply::Granted(1))
    }

    async fn fill(&self, fills: &[Fill]) -> Result<Vec<bool>, L2Error> {
        self.0.writes.play().await.map(|()| vec![true; fills.len()])
    }

    async fn release(&self, _: &[(String, Token)]) -> Result<(), L2Error> {
        self.0.writes.play().await
    }

    async fn announce(&self, _: &[String], _: Token, _: Duration) -> Result<Incarnation, L2Error> {
        self.0.announces.play().await.map(|()| 1)
    }

    async fn renew(&self, keys: &[String], _: Token, _: Duration) -> Result<Vec<bool>, L2Error> {
        self.0.announces.play().await.map(|()| vec![true; keys.len()])
    }

    async fn clear(&self, keys: &[Claim]) -> Result<Cleared, L2Error> {
        self.0.clears.play().await?;
        let mut store = self.0.store.lock().unwrap();
        Ok(Cleared { removed: keys.iter().filter(|(key, _)| store.remove(key).is_some()).count() as u64, lost: 0 })
    }

    async fn withdraw(&self, _: &[String], _: Token) -> Result<(), L2Error> {
        self.0.clears.play().await
    }

    async fn ttl(&self, _: &str) -> Result<Option<Duration>, L2Error> {
        self.0.reads.play().await.map(|()| None)
    }

    async fn delete_matching(&self, glob: &str) -> Result<u64, L2Error> {
        assert_eq!(glob, "app:*");
        self.0.flushes.play().await?;
        Ok(std::mem::take(&mut *self.0.store.lock().unwrap()).len() as u64)
    }

    async fn probe(&self) -> Result<(), L2Error> {
        self.0.probes.play().await
    }

    fn reset(&self) {
        self.0.resets.fetch_add(1, Ordering::Relaxed);
    }
}

pub(super) fn remote() -> (Fake, Remote<Fake>) {
    let fake = Fake::default();
    fake.0.store.lock().unwrap().insert("k".to_owned(), b"old".to_vec());
    (fake.clone(), over(&fake, RemoteSettings::new("app:*")))
}

pub(super) fn over(fake: &Fake, settings: RemoteSettings) -> Remote<Fake> {
    log::watch();
    Remote::new(fake.clone(), settings)
}

pub(super) fn claims(names: &[&str]) -> Vec<Claim> {
    names.iter().map(|name| ((*name).to_owned(), None)).collect()
}

pub(super) fn keys(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

pub(super) fn gone() -> Answer {
    Answer::Fail(L2Error::Connection("connection refused".to_owned()))
}

pub(super) fn refused(code: &str) -> Answer {
    Answer::Fail(L2Error::Refused { code: code.to_owned(), detail: "as scripted".to_owned() })
}

pub(super) async fn read(remote: &Remote<Fake>) -> Result<Option<Vec<u8>>, Bypass> {
    remote.get("k", remote.deadline()).await.map(|reply| reply.bytes.map(Vec::from))
}
