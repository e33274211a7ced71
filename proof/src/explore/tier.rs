//! The shared tier as an instance sees it: every command waits for its leave, and so does every reply.

use std::sync::Arc;
use std::time::Duration;

use storehaus_cache::codec::header::Token;
use storehaus_cache::l2::{Claim, Cleared, Fill, Incarnation, L2, L2Error, LeaseReply, ManyReply, Reply};

use super::broken::Bug;
use super::command::{Answer, Answered, Command};
use super::state::{Fate, row_of};
use super::step::{Footprint, Keys, Resource, Who};
use super::world::{Asked, World};

/// The tier of one instance.
#[derive(Clone)]
pub(super) struct Gated {
    pub(super) world: Arc<World>,
    pub(super) instance: u8,
}

impl Gated {
    async fn send(&self, mut command: Command) -> Answered {
        let bug = self.world.state().bug;
        if bug == Some(Bug::TokenReused) {
            command.tokens().into_iter().for_each(|token| *token = Token { instance: 1, serial: 1 });
        }
        let rows = command.keys().into_iter().filter_map(row_of);
        let keys = Keys::of(rows);
        let mut touches = Footprint::default();
        touches.read(Resource::Server);
        touches.read(Resource::Link(self.instance));
        if command.only_reads() {
            touches.read_each(keys, Resource::Entry);
        } else if command.keys().is_empty() {
            touches = Footprint::EVERYTHING;
        } else {
            touches.write_each(keys, Resource::Entry);
        }
        let asked = Asked {
            who: Who::Instance(self.instance),
            instance: self.instance,
            what: command.name(),
            keys,
            touches,
            statement: None,
        };
        let clears = matches!(command, Command::Clear(_));
        if matches!(command, Command::Lease(..)) {
            self.world.state().look_early(self.instance, keys);
        }
        let lost = |what: &str| Err(L2Error::Connection(what.to_owned()));
        let served = self.world.ask(asked, move |state, fate| match fate {
            Fate::Served => state.command(&command),
            Fate::ReplyLost => {
                drop(state.command(&command));
                lost("the reply was lost")
            }
            Fate::Cut => lost("refused"),
        });
        match served.await.unwrap_or_else(|| lost("the world ended")) {
            Err(_) if clears && bug == Some(Bug::ClearErrorIgnored) => Ok(Answer::Cleared(Cleared::default())),
            answered => answered,
        }
    }
}

/// An answer that does not belong to the command; the world never gives one.
fn misfit<T>() -> Result<T, L2Error> {
    Err(L2Error::Connection("the answer does not fit the command".to_owned()))
}

impl L2 for Gated {
    async fn get(&self, key: &str) -> Result<Reply, L2Error> {
        match self.send(Command::Get(key.to_owned())).await? {
            Answer::One(reply) => Ok(reply),
            _ => misfit(),
        }
    }

    async fn get_many<K: AsRef<str> + Sync>(&self, keys: &[K]) -> Result<ManyReply, L2Error> {
        let keys = keys.iter().map(|key| key.as_ref().to_owned()).collect();
        match self.send(Command::GetMany(keys)).await? {
            Answer::Many(reply) => Ok(reply),
            _ => misfit(),
        }
    }

    async fn lease(&self, key: &str, token: Token, ttl: Duration) -> Result<LeaseReply, L2Error> {
        match self.lease_many(&[(key.to_owned(), token)], ttl).await?.pop() {
            Some(reply) => Ok(reply),
            None => misfit(),
        }
    }

    async fn lease_many(&self, keys: &[(String, Token)], ttl: Duration) -> Result<Vec<LeaseReply>, L2Error> {
        match self.send(Command::Lease(keys.to_vec(), ttl)).await? {
            Answer::Leases(replies) => Ok(replies),
            _ => misfit(),
        }
    }

    async fn replace(&self, key: &str, seen: &[u8], token: Token, ttl: Duration) -> Result<LeaseReply, L2Error> {
        match self.replace_many(&[(key.to_owned(), seen.to_vec(), token)], ttl).await?.pop() {
            Some(reply) => Ok(reply),
            None => misfit(),
        }
    }

    async fn replace_many(&self, keys: &[(String, Vec<u8>, Token)], ttl: Duration) -> Result<Vec<LeaseReply>, L2Error> {
        match self.send(Command::Replace(keys.to_vec(), ttl)).await? {
            Answer::Replaced(replies) => Ok(replies),
            _ => misfit(),
        }
    }

    async fn fill(&self, fills: &[Fill]) -> Result<Vec<bool>, L2Error> {
        match self.send(Command::Fill(fills.to_vec())).await? {
            Answer::Stored(stored) => Ok(stored),
            _ => misfit(),
        }
    }

    async fn release(&self, leases: &[(String, Token)]) -> Result<(), L2Error> {
        self.send(Command::Release(leases.to_vec())).await.map(drop)
    }

    async fn announce(&self, keys: &[String], token: Token, ttl: Duration) -> Result<Incarnation, L2Error> {
        match self.send(Command::Announce(keys.to_vec(), token, ttl)).await? {
            Answer::Announced(incarnation) => Ok(incarnation),
            _ => misfit(),
        }
    }

    async fn renew(&self, keys: &[String], token: Token, ttl: Duration) -> Result<Vec<bool>, L2Error> {
        match self.send(Command::Renew(keys.to_vec(), token, ttl)).await? {
            Answer::Renewed(stood) => Ok(stood),
            _ => misfit(),
        }
    }

    async fn clear(&self, keys: &[Claim]) -> Result<Cleared, L2Error> {
        match self.send(Command::Clear(keys.to_vec())).await? {
            Answer::Cleared(cleared) => Ok(cleared),
            _ => misfit(),
        }
    }

    async fn withdraw(&self, keys: &[String], token: Token) -> Result<(), L2Error> {
        self.send(Command::Withdraw(keys.to_vec(), token)).await.map(drop)
    }

    async fn ttl(&self, key: &str) -> Result<Option<Duration>, L2Error> {
        match self.send(Command::Ttl(key.to_owned())).await? {
            Answer::Ttl(left) => Ok(left),
            _ => misfit(),
        }
    }

    async fn delete_matching(&self, glob: &str) -> Result<u64, L2Error> {
        match self.send(Command::DeleteMatching(glob.to_owned())).await? {
            Answer::Count(count) => Ok(count),
            _ => misfit(),
        }
    }

    async fn probe(&self) -> Result<(), L2Error> {
        self.send(Command::Probe).await.map(drop)
    }

    fn reset(&self) {}
}
