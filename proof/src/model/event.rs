//! What can happen, in words, and what must not.

use std::fmt;

/// One step of somebody. Loaders are named A, B, C, D, writers 1 and 2, instances 0 and 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    Abandon(usize),
    Acknowledge(usize),
    Append(usize),
    AppendLost(usize),
    AppendOom(usize),
    AppendUnreached(usize),
    Beat,
    CallerGone(usize),
    Change(usize),
    Clear(usize),
    ClearEarly(usize),
    ClearLocal(usize),
    ClearLost(usize),
    ClearOwed(usize),
    ClearSkipped(usize),
    Commit(usize, u8),
    CommitLost(usize, bool),
    Crash(usize),
    Cut,
    Deliver,
    Expire,
    ExpireLocal(usize),
    Failover,
    Fill(usize),
    FillLost(usize),
    Heal,
    Hit(u8),
    JoinLease(usize),
    JoinLocal(usize),
    Land(usize),
    LeaseLate(usize),
    Lose,
    LoseMessage,
    Notice,
    Oom,
    OomOver,
    Publish(usize),
    Refresh(usize),
    Refuse(usize),
    Release(usize),
    Replay(usize),
    Resubscribe,
    Rollback(usize),
    Select(usize, u8),
    Snapshot,
    Start(usize),
    StartLost(usize),
    Tick,
}

impl Event {
    /// Whether this belongs to a run without faults, so that it counts when the question is whether all ends.
    pub(super) fn is_orderly(self) -> bool {
        !matches!(
            self,
            Self::Abandon(_)
                | Self::AppendLost(_)
                | Self::AppendUnreached(_)
                | Self::CallerGone(_)
                | Self::ClearLost(_)
                | Self::CommitLost(..)
                | Self::Crash(_)
                | Self::Cut
                | Self::Failover
                | Self::FillLost(_)
                | Self::Lose
                | Self::LoseMessage
                | Self::Oom
                | Self::Refuse(_)
                | Self::Release(_)
                | Self::Resubscribe
                | Self::StartLost(_)
        )
    }
}

fn load(at: usize) -> char {
    ['A', 'B', 'C', 'D'].get(at).copied().unwrap_or('?')
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Abandon(l) => write!(f, "load {} dies; what it left in Redis stays", load(l)),
            Self::Acknowledge(w) => write!(f, "writer {} acknowledges its write", w + 1),
            Self::Append(w) => write!(f, "writer {} places its intent", w + 1),
            Self::AppendLost(w) => write!(f, "writer {} places its intent; the reply is lost", w + 1),
            Self::AppendOom(w) => write!(f, "writer {} cannot place its intent (no memory) and deletes", w + 1),
            Self::AppendUnreached(w) => write!(f, "writer {} cannot reach Redis; the key enters the journal", w + 1),
            Self::Beat => f.write_str("instance 0 sends a heartbeat"),
            Self::CallerGone(w) => write!(f, "the caller of writer {} goes away, and the write path with it", w + 1),
            Self::Change(w) => write!(f, "writer {} changes the row, not yet committed", w + 1),
            Self::Clear(w) => write!(f, "writer {} clears the key in Redis", w + 1),
            Self::ClearEarly(w) => write!(f, "writer {} clears the key in Redis, before COMMIT", w + 1),
            Self::ClearLocal(w) => write!(f, "writer {} clears the in-process tier", w + 1),
            Self::ClearLost(w) => write!(f, "writer {} clears the key in Redis; the reply is lost", w + 1),
            Self::ClearOwed(w) => write!(f, "writer {} cannot clear; the key enters the journal", w + 1),
            Self::ClearSkipped(w) => write!(f, "writer {} does not clear the key in Redis, and goes on", w + 1),
            Self::Commit(w, ver) => write!(f, "writer {} commits version {ver}", w + 1),
            Self::CommitLost(w, true) => write!(f, "writer {} commits; the reply is lost", w + 1),
            Self::CommitLost(w, false) => write!(f, "COMMIT of writer {} is lost; nothing is committed", w + 1),
            Self::Crash(w) => write!(f, "writer {} dies", w + 1),
            Self::Cut => f.write_str("instance 0 loses its connection to Redis"),
            Self::Deliver => f.write_str("instance 1 receives the next message"),
            Self::Expire => f.write_str("what stands under the key expires"),
            Self::ExpireLocal(i) => write!(f, "the in-process entry of instance {i} expires"),
            Self::Failover => f.write_str("Redis fails over to (or restarts from) the copy"),
            Self::Fill(l) => write!(f, "load {} fills Redis, if it is permitted", load(l)),
            Self::FillLost(l) => write!(f, "the fill of load {} is lost", load(l)),
            Self::Heal => f.write_str("instance 0 can reach Redis again"),
            Self::Hit(ver) => write!(f, "a read hits version {ver}"),
            Self::JoinLease(l) => write!(f, "a read sees the lease of load {} and waits for it", load(l)),
            Self::JoinLocal(l) => write!(f, "a read joins the flight of load {}", load(l)),
            Self::Land(l) => write!(f, "load {} fills the in-process tier, if it is permitted", load(l)),
            Self::LeaseLate(l) => write!(f, "load {} takes a lease for what it has already read", load(l)),
            Self::Lose => f.write_str("what stands under the key is evicted or flushed"),
            Self::LoseMessage => f.write_str("the next message to instance 1 is lost"),
            Self::Notice => f.write_str("instance 0 notices and bypasses Redis"),
            Self::Oom => f.write_str("Redis has no memory left"),
            Self::OomOver => f.write_str("Redis has memory again"),
            Self::Publish(w) => write!(f, "writer {} sends an invalidation to instance 1", w + 1),
            Self::Refresh(l) => write!(f, "load {} begins to refresh the value", load(l)),
            Self::Refuse(w) => write!(f, "writer {} cannot reach Redis and refuses", w + 1),
            Self::Release(l) => write!(f, "load {} fails and gives its lease back", load(l)),
            Self::Replay(i) => write!(f, "instance {i} replays its journal and uses Redis again"),
            Self::Resubscribe => f.write_str("instance 1 subscribes anew"),
            Self::Rollback(w) => write!(f, "writer {} rolls back", w + 1),
            Self::Select(l, ver) => write!(f, "load {} selects version {ver}", load(l)),
            Self::Snapshot => f.write_str("a copy of the key is taken"),
            Self::Start(l) => write!(f, "load {} begins", load(l)),
            Self::StartLost(l) => write!(f, "load {} begins; the reply to its lease is lost", load(l)),
            Self::Tick => f.write_str("time passes"),
        }
    }
}

/// Which promise is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rule {
    /// M: a read returned less than an earlier read.
    Backwards,
    /// R: a read returned less than a write that had ended before it began.
    Stale,
    /// Something never ends.
    Stuck,
    /// C: something is cached that is not committed.
    Uncommitted,
}

impl Rule {
    pub(super) fn letter(self) -> &'static str {
        match self {
            Self::Backwards => "M",
            Self::Stale => "R",
            Self::Stuck => "stuck",
            Self::Uncommitted => "C",
        }
    }
}

/// A broken promise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Breach {
    pub(super) rule: Rule,
    /// Where the read was served.
    pub(super) tier: &'static str,
    pub(super) instance: usize,
    pub(super) got: u8,
    pub(super) wanted: u8,
}

impl fmt::Display for Breach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { tier, instance, got, wanted, .. } = *self;
        match self.rule {
            Rule::Backwards => {
                write!(f, "M: {tier} of instance {instance} serves version {got}; a read has returned {wanted}")
            }
            Rule::Stale => {
                write!(f, "R: {tier} of instance {instance} serves version {got}; the write of {wanted} has ended")
            }
            Rule::Stuck => f.write_str("stuck: nothing but another fault leads to rest"),
            Rule::Uncommitted => {
                write!(f, "C: {tier} of instance {instance} holds version {got}; {wanted} is committed")
            }
        }
    }
}
