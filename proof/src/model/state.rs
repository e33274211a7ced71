//! The state, its compact form, and its symmetries.

use super::setup::{Bug, DELTA, Local, Setup};

/// What stands under the key in Redis.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Content {
    Empty,
    /// Members by bit: writer 0, writer 1, writes that are over ([`GHOST`]). `shared`: the members that were not
    /// always alone. `under`: what the first one replaced, one more than its version; used by a broken variant.
    Intents {
        members: u8,
        shared: u8,
        under: u8,
    },
    /// The loader that holds it is the one with the permission; without one it is an orphan.
    Lease,
    /// What a broken variant leaves instead of nothing.
    Tombstone,
    Value {
        ver: u8,
        inc: u8,
    },
}

/// The intent of a write whose writer is gone or has gone on.
pub(super) const GHOST: u8 = 4;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stage {
    Idle,
    /// Loaded, not yet leased; used by a broken variant.
    Early,
    /// May fill, has not yet read the database.
    Asking,
    /// Has not yet read the database, and fills nothing shared.
    Bypass,
    /// Has the row; what is left to do is in `fill` and `land`.
    Loaded,
}

/// A load under way. Reads that hit or join need no state of their own: they are checked where they happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Load {
    pub(super) stage: Stage,
    /// The version read.
    pub(super) ver: u8,
    /// The incarnation when the lease was granted.
    pub(super) inc: u8,
    /// What everybody who waits for this load must at least get.
    pub(super) floor: u8,
    /// The key still holds the token (of a refresh: the value) that permits the fill.
    pub(super) permit: bool,
    /// So does the copy.
    pub(super) copy_permit: bool,
    /// Its flight is still registered in the in-process tier.
    pub(super) ticket: bool,
    /// The fill of the shared tier is still to be done.
    pub(super) fill: bool,
    /// The insertion into the in-process tier is still to be done.
    pub(super) land: bool,
    /// Ticks since it began.
    pub(super) age: u8,
}

pub(super) const IDLE: Load = Load {
    stage: Stage::Idle,
    ver: 0,
    inc: 0,
    floor: 0,
    permit: false,
    copy_permit: false,
    ticket: false,
    fill: false,
    land: false,
    age: 0,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    Idle,
    /// Before COMMIT.
    Open,
    /// After COMMIT; the shared tier is still to be cleared.
    Committed,
    /// The in-process tier is still to be cleared.
    Local,
    /// The message to other instances is still to be sent.
    Publish,
    /// All that is left is the acknowledgement.
    Ack,
    Dead,
}

/// How the writer prepared the key before COMMIT.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Prepared {
    No,
    /// Its intent is confirmed.
    Intent,
    /// Redis could not be reached, or had no memory, or somebody else's intent was thought to be enough.
    Without,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Writer {
    pub(super) phase: Phase,
    /// Writes not yet begun.
    pub(super) left: u8,
    pub(super) prepared: Prepared,
    /// Holds the row lock with an uncommitted change.
    pub(super) changed: bool,
    /// Its intent expired before COMMIT, so the transaction is over its deadline.
    pub(super) late: bool,
    /// The version committed; 0 when the outcome is unknown and nothing was.
    pub(super) ver: u8,
    /// The reply to COMMIT came.
    pub(super) known: bool,
    /// The incarnation when the intent was placed.
    pub(super) inc: u8,
    /// The invalidation is owed by the journal.
    pub(super) owed: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Instance {
    /// The entry of the in-process tier, one more than its version.
    pub(super) entry: u8,
    /// Ticks since the load of the entry began.
    pub(super) age: u8,
    /// Redis can be reached.
    pub(super) linked: bool,
    /// Cached reads are allowed.
    pub(super) up: bool,
    /// The journal holds the key.
    pub(super) journal: bool,
    /// The newest version acknowledged here whose invalidation the journal owes.
    pub(super) own: u8,
}

/// A message of the bus: nothing, an invalidation, or a heartbeat with its age (from [`BEAT`] on).
pub(super) type Message = u8;
pub(super) const NOTHING: Message = 0;
pub(super) const INVALIDATE: Message = 1;
pub(super) const BEAT: Message = 2;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct State {
    /// The version of the row.
    pub(super) committed: u8,
    pub(super) key: Content,
    /// A replica's or a snapshot's copy of the key.
    pub(super) copy: Content,
    pub(super) loads: [Load; 4],
    pub(super) writers: [Writer; 2],
    pub(super) instances: [Instance; 2],
    /// The identity of the server.
    pub(super) inc: u8,
    pub(super) oom: bool,
    /// Faults still to come: failover, cut, lack of memory.
    pub(super) faults: [bool; 3],
    /// The newest version whose write has ended.
    pub(super) ended: u8,
    /// The same, one and two ticks ago.
    pub(super) past: [u8; DELTA as usize],
    /// The newest version committed by a writer that died, until every tier was seen empty.
    pub(super) orphan: u8,
    /// The newest version any read has returned.
    pub(super) seen: u8,
    /// Messages on their way to instance 1, oldest first.
    pub(super) bus: [Message; 2],
    /// A message before the next one was lost.
    pub(super) gap: bool,
    /// Ticks since the last heartbeat that reached instance 1 was sent.
    pub(super) silence: u8,
}

/// Indices of `faults`.
pub(super) const FAILOVER: usize = 0;
pub(super) const CUT: usize = 1;
pub(super) const OOM: usize = 2;

pub(super) type Packed = [u64; 3];

impl State {
    pub(super) fn initial(setup: &Setup) -> Self {
        let writer = |writes| Writer {
            phase: Phase::Idle,
            left: writes,
            prepared: Prepared::No,
            changed: false,
            late: false,
            ver: 0,
            known: false,
            inc: 0,
            owed: false,
        };
        let instance = Instance { entry: 0, age: 0, linked: true, up: true, journal: false, own: 0 };
        Self {
            committed: 0,
            key: Content::Empty,
            copy: Content::Empty,
            loads: [IDLE; 4],
            writers: setup.writes.map(writer),
            instances: [instance; 2],
            inc: 0,
            oom: false,
            faults: [setup.failover, setup.cut, setup.oom],
            ended: 0,
            past: [0; DELTA as usize],
            orphan: 0,
            seen: 0,
            bus: [NOTHING; 2],
            gap: false,
            silence: 0,
        }
    }

    /// Puts something else under the key: no permission survives that.
    pub(super) fn set_key(&mut self, content: Content) {
        self.key = content;
        for load in &mut self.loads {
            load.permit = false;
        }
    }

    /// Ends a load. A lease that it leaves behind is an orphan.
    pub(super) fn drop_load(&mut self, load: usize) {
        self.loads[load] = IDLE;
    }

    /// Ends a load that has nothing left to do.
    pub(super) fn rest(&mut self, load: usize) {
        let done = &self.loads[load];
        if !done.fill && !done.land {
            self.drop_load(load);
        }
    }

    /// Whether the shared tier may serve this content.
    pub(super) fn usable(&self, setup: &Setup, content: Content) -> Option<u8> {
        match content {
            Content::Value { ver, inc } if inc == self.inc || setup.has(Bug::IncarnationIgnored) => Some(ver),
            _ => None,
        }
    }

    /// Whether an instance reads the shared tier.
    pub(super) fn reads_shared(&self, setup: &Setup, instance: usize) -> bool {
        setup.shared() && self.instances[instance].linked && self.instances[instance].up
    }

    /// Whether an instance uses its in-process tier.
    pub(super) fn uses_local(&self, setup: &Setup, instance: usize) -> bool {
        match setup.local {
            Local::Off => false,
            Local::Aged | Local::Strict => true,
            Local::Bus => instance == 0 || self.silence < DELTA,
        }
    }

    /// The version in the in-process tier that an instance would serve.
    pub(super) fn local_hit(&self, setup: &Setup, instance: usize) -> Option<u8> {
        let at = &self.instances[instance];
        let live = setup.local != Local::Aged || at.age < DELTA;
        (self.uses_local(setup, instance) && live && at.entry > 0).then(|| at.entry - 1)
    }

    /// What a read must at least return that starts now on an instance.
    pub(super) fn floor(&self, setup: &Setup, instance: usize) -> u8 {
        let seen = if setup.monotonic { self.seen } else { 0 };
        self.promised(instance).max(seen)
    }

    /// The same, for a read of the in-process tier.
    pub(super) fn local_floor(&self, setup: &Setup, instance: usize) -> u8 {
        if setup.bounded(instance) { self.past[DELTA as usize - 1] } else { self.floor(setup, instance) }
    }

    /// The newest version whose write has ended, as far as an instance must know it.
    pub(super) fn promised(&self, instance: usize) -> u8 {
        self.ended.max(self.instances[instance].own)
    }

    /// A read returned this version.
    pub(super) fn returned(&mut self, setup: &Setup, ver: u8) {
        if setup.monotonic {
            self.seen = self.seen.max(ver);
        }
    }

    /// Renames equals so that states that differ in names alone are one.
    pub(super) fn canonical(mut self, setup: &Setup) -> Self {
        let mut from = 0;
        while from < setup.loads.len() {
            let same = setup.loads[from..].iter().take_while(|at| **at == setup.loads[from]).count();
            self.loads[from..from + same].sort_unstable();
            from += same;
        }
        if setup.writer_at[0] == setup.writer_at[1] && setup.writes[0] == setup.writes[1] {
            let sorted = |a: &Self| (a.writers, a.key, a.copy);
            let other = self.swapped();
            if sorted(&other) < sorted(&self) {
                return other;
            }
        }
        self
    }

    fn swapped(&self) -> Self {
        let bits = |mask: u8| mask & GHOST | (mask & 1) << 1 | (mask & 2) >> 1;
        let swap = |content| match content {
            Content::Intents { members, shared, under } => {
                Content::Intents { members: bits(members), shared: bits(shared), under }
            }
            other => other,
        };
        let [a, b] = self.writers;
        Self { writers: [b, a], key: swap(self.key), copy: swap(self.copy), ..*self }
    }

    pub(super) fn pack(&self) -> Packed {
        let mut bits = Bits::default();
        for load in &self.loads {
            bits.push(load.stage as u8, 3).push(load.ver, 3).push(load.inc, 1).push(load.floor, 3).push(load.age, 2);
            bits.flags(&[load.permit, load.copy_permit, load.ticket, load.fill, load.land]);
        }
        for writer in &self.writers {
            bits.push(writer.phase as u8, 3).push(writer.left, 2).push(writer.prepared as u8, 2).push(writer.ver, 3);
            bits.push(writer.inc, 1).flags(&[writer.changed, writer.late, writer.known, writer.owed]);
        }
        for content in [self.key, self.copy] {
            match content {
                Content::Empty => bits.push(0, 3),
                Content::Intents { members, shared, under } => {
                    bits.push(1, 3).push(members, 3).push(shared, 3).push(under, 3)
                }
                Content::Lease => bits.push(2, 3),
                Content::Tombstone => bits.push(3, 3),
                Content::Value { ver, inc } => bits.push(4, 3).push(ver, 3).push(inc, 1),
            };
        }
        for at in &self.instances {
            bits.push(at.entry, 3).push(at.age, 2).push(at.own, 3).flags(&[at.linked, at.up, at.journal]);
        }
        bits.push(self.committed, 3).push(self.inc, 1).push(self.ended, 3).push(self.orphan, 3).push(self.seen, 3);
        bits.push(self.past[0], 3).push(self.past[1], 3).push(self.silence, 2);
        bits.push(self.bus[0], 3).push(self.bus[1], 3).flags(&[self.oom, self.gap]).flags(&self.faults);
        bits.words
    }
}

#[derive(Default)]
struct Bits {
    words: Packed,
    at: u32,
}

impl Bits {
    fn push(&mut self, value: u8, width: u32) -> &mut Self {
        debug_assert!(u32::from(value) < 1 << width, "{value} needs more than {width} bits");
        let (word, shift) = ((self.at / 64) as usize, self.at % 64);
        self.words[word] |= u64::from(value) << shift;
        if shift + width > 64 {
            self.words[word + 1] |= u64::from(value) >> (64 - shift);
        }
        self.at += width;
        self
    }

    fn flags(&mut self, flags: &[bool]) -> &mut Self {
        for flag in flags {
            self.push(u8::from(*flag), 1);
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_compact_form_tells_states_apart() {
        let a = State::initial(&Setup::LEASE);
        let mut b = a;
        b.faults[OOM] = true;
        let mut c = a;
        c.loads[3].land = true;
        let mut d = a;
        d.copy = Content::Value { ver: 4, inc: 1 };
        let packed = [a.pack(), b.pack(), c.pack(), d.pack()];
        for (at, one) in packed.iter().enumerate() {
            assert!(packed[at + 1..].iter().all(|other| other != one));
        }
    }

    #[test]
    fn names_do_not_matter() {
        let setup = Setup::INTENTS;
        let mut a = State::initial(&setup);
        a.loads[0].stage = Stage::Asking;
        a.writers[0].phase = Phase::Open;
        a.key = Content::Intents { members: 1, shared: 0, under: 0 };
        let mut b = State::initial(&setup);
        b.loads[2].stage = Stage::Asking;
        b.writers[1].phase = Phase::Open;
        b.key = Content::Intents { members: 2, shared: 0, under: 0 };
        assert_ne!(a.pack(), b.pack());
        assert_eq!(a.canonical(&setup), b.canonical(&setup));
    }
}
