//! The commands of the shared tier as values: they can be held back, executed twice over, and compared.

use std::time::Duration;

use storehaus_cache::codec::header::Token;
use storehaus_cache::l2::{Claim, Cleared, Fill, Incarnation, L2, L2Error, LeaseReply, ManyReply, Reply};

/// A command on its way to the cache server.
#[derive(Clone, Debug)]
pub(super) enum Command {
    Announce(Vec<String>, Token, Duration),
    Clear(Vec<Claim>),
    DeleteMatching(String),
    Fill(Vec<Fill>),
    Get(String),
    GetMany(Vec<String>),
    Lease(Vec<(String, Token)>, Duration),
    Probe,
    Release(Vec<(String, Token)>),
    Renew(Vec<String>, Token, Duration),
    Replace(Vec<(String, Vec<u8>, Token)>, Duration),
    Ttl(String),
    Withdraw(Vec<String>, Token),
}

/// What the server said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Announced(Incarnation),
    Cleared(Cleared),
    Count(u64),
    Done,
    Leases(Vec<LeaseReply>),
    Many(ManyReply),
    One(Reply),
    Renewed(Vec<bool>),
    Replaced(Vec<LeaseReply>),
    Stored(Vec<bool>),
    Ttl(Option<Duration>),
}

pub(super) type Answered = Result<Answer, L2Error>;

impl Command {
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Announce(..) => "intent",
            Self::Clear(_) => "clearing",
            Self::DeleteMatching(_) => "SCAN and UNLINK",
            Self::Fill(_) => "fill",
            Self::Get(_) => "GET",
            Self::GetMany(_) => "MGET",
            Self::Lease(..) => "lease",
            Self::Probe => "PING",
            Self::Release(_) => "release",
            Self::Renew(..) => "renewal",
            Self::Replace(..) => "replace",
            Self::Ttl(_) => "PTTL",
            Self::Withdraw(..) => "withdrawal",
        }
    }

    /// The keys it touches; none means all.
    pub(super) fn keys(&self) -> Vec<&str> {
        match self {
            Self::Announce(keys, ..) | Self::GetMany(keys) | Self::Renew(keys, ..) | Self::Withdraw(keys, _) => {
                keys.iter().map(String::as_str).collect()
            }
            Self::Clear(claims) => claims.iter().map(|(key, _)| key.as_str()).collect(),
            Self::DeleteMatching(_) | Self::Probe => Vec::new(),
            Self::Fill(fills) => fills.iter().map(|fill| fill.key.as_str()).collect(),
            Self::Get(key) | Self::Ttl(key) => vec![key],
            Self::Lease(keys, _) | Self::Release(keys) => keys.iter().map(|(key, _)| key.as_str()).collect(),
            Self::Replace(keys, _) => keys.iter().map(|(key, ..)| key.as_str()).collect(),
        }
    }

    /// The tokens of the leases it names.
    pub(super) fn tokens(&mut self) -> Vec<&mut Token> {
        match self {
            Self::Fill(fills) => fills.iter_mut().map(|fill| &mut fill.token).collect(),
            Self::Lease(keys, _) | Self::Release(keys) => keys.iter_mut().map(|(_, token)| token).collect(),
            Self::Replace(keys, _) => keys.iter_mut().map(|(.., token)| token).collect(),
            _ => Vec::new(),
        }
    }

    /// Whether it changes nothing.
    pub(super) fn only_reads(&self) -> bool {
        matches!(self, Self::Get(_) | Self::GetMany(_) | Self::Probe | Self::Ttl(_))
    }

    /// Executes it on a tier.
    pub(super) async fn run(self, tier: &impl L2) -> Answered {
        Ok(match self {
            Self::Announce(keys, token, ttl) => Answer::Announced(tier.announce(&keys, token, ttl).await?),
            Self::Clear(claims) => Answer::Cleared(tier.clear(&claims).await?),
            Self::DeleteMatching(glob) => Answer::Count(tier.delete_matching(&glob).await?),
            Self::Fill(fills) => Answer::Stored(tier.fill(&fills).await?),
            Self::Get(key) => Answer::One(tier.get(&key).await?),
            Self::GetMany(keys) => Answer::Many(tier.get_many(&keys).await?),
            Self::Lease(keys, ttl) => Answer::Leases(match &keys[..] {
                [(key, token)] => vec![tier.lease(key, *token, ttl).await?],
                keys => tier.lease_many(keys, ttl).await?,
            }),
            Self::Probe => {
                tier.probe().await?;
                Answer::Done
            }
            Self::Release(leases) => {
                tier.release(&leases).await?;
                Answer::Done
            }
            Self::Renew(keys, token, ttl) => Answer::Renewed(tier.renew(&keys, token, ttl).await?),
            Self::Replace(keys, ttl) => Answer::Replaced(match &keys[..] {
                [(key, seen, token)] => vec![tier.replace(key, seen, *token, ttl).await?],
                keys => tier.replace_many(keys, ttl).await?,
            }),
            Self::Ttl(key) => Answer::Ttl(tier.ttl(&key).await?),
            Self::Withdraw(keys, token) => {
                tier.withdraw(&keys, token).await?;
                Answer::Done
            }
        })
    }
}
