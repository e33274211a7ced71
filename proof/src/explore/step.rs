//! What can happen next, and what it touches.

use std::fmt;

/// A step of a schedule. Equal steps of two schedules of a scenario stand for the same thing, as long as everything that
/// leads up to them happened in both.
///
/// The order is that of a calm run: replies first, then commands, then whoever begins something new, then mishaps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Step {
    pub(super) phase: Phase,
    pub(super) who: Who,
    pub(super) what: &'static str,
    pub(super) keys: Keys,
    /// Tells apart what is alike otherwise.
    pub(super) nth: u16,
}

/// What becomes of something that waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Phase {
    /// The reply arrives.
    Answer,
    /// The command or statement arrives and is executed.
    Serve,
    /// An actor begins an operation.
    Begin,
    /// The connection to the database breaks while a statement is on its way.
    Break,
    /// The caller goes away.
    Leave,
    /// The command or statement is executed and its reply is lost.
    LoseReply,
    /// The next timer fires.
    Time,
    /// Something breaks.
    Fault,
}

/// Who takes a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Who {
    /// An actor of the scenario.
    Actor(u8),
    /// An instance of the application: commands and loads of its cache.
    Instance(u8),
    /// Nobody.
    World,
}

/// A set of rows, by their ids.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Keys(u8);

impl Keys {
    pub(super) const NONE: Self = Self(0);

    pub(super) fn of(ids: impl IntoIterator<Item = u8>) -> Self {
        Self(ids.into_iter().fold(0, |keys, id| keys | 1 << id))
    }

    pub(super) fn iter(self) -> impl Iterator<Item = u8> {
        (0..MOST_KEYS).filter(move |id| self.0 & 1 << id != 0)
    }
}

/// Rows a scenario may have.
pub(super) const MOST_KEYS: u8 = 4;

/// What a step reads and what it writes. Two steps may change places if neither writes what the other touches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Footprint {
    reads: u32,
    writes: u32,
}

impl Footprint {
    /// Of a step that nothing may change places with.
    pub(super) const EVERYTHING: Self = Self { reads: u32::MAX, writes: u32::MAX };

    pub(super) fn read(&mut self, what: Resource) {
        self.reads |= what.bit();
    }

    /// Reads what stands for each of the rows.
    pub(super) fn read_each(&mut self, keys: Keys, what: fn(u8) -> Resource) {
        keys.iter().for_each(|key| self.read(what(key)));
    }

    pub(super) fn write(&mut self, what: Resource) {
        self.writes |= what.bit();
    }

    /// Writes what stands for each of the rows.
    pub(super) fn write_each(&mut self, keys: Keys, what: fn(u8) -> Resource) {
        keys.iter().for_each(|key| self.write(what(key)));
    }

    pub(super) fn add(&mut self, other: Self) {
        self.reads |= other.reads;
        self.writes |= other.writes;
    }

    pub(super) fn changes_anything(self) -> bool {
        self.writes != 0
    }

    pub(super) fn conflicts(self, other: Self) -> bool {
        self.writes & (other.reads | other.writes) != 0 || self.reads & other.writes != 0
    }
}

/// What steps can have in common.
#[derive(Clone, Copy, Debug)]
pub(super) enum Resource {
    /// What an instance holds in its memory.
    Instance(u8),
    /// The content of a key of the cache server.
    Entry(u8),
    /// A row, its lock included.
    Row(u8),
    /// The writes of a row that have ended.
    Ended(u8),
    /// The reads of a row that have ended.
    Seen(u8),
    /// The cache server as a whole: its incarnation, its memory.
    Server,
    /// The connection of an instance to the cache server.
    Link(u8),
    /// How many mishaps are left.
    Mishaps,
}

impl Resource {
    fn bit(self) -> u32 {
        let at = match self {
            Self::Instance(n) => n,
            Self::Entry(n) => 4 + n,
            Self::Row(n) => 8 + n,
            Self::Ended(n) => 12 + n,
            Self::Seen(n) => 16 + n,
            Self::Link(n) => 20 + n,
            Self::Server => 24,
            Self::Mishaps => 25,
        };
        1 << at
    }
}

impl fmt::Display for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, id) in self.iter().enumerate() {
            write!(f, "{}{id}", if at == 0 { " " } else { "," })?;
        }
        Ok(())
    }
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Actor(n) => write!(f, "actor {n}"),
            Self::Instance(n) => write!(f, "instance {n}"),
            Self::World => f.write_str("world"),
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { who, what, keys, .. } = self;
        match self.phase {
            Phase::Answer => write!(f, "{who}: {what}{keys} is answered")?,
            Phase::Serve => write!(f, "{who}: {what}{keys} is executed")?,
            Phase::Begin => write!(f, "{who}: begins {what}{keys}")?,
            Phase::Break => write!(f, "{who}: the connection of {what}{keys} breaks")?,
            Phase::Leave => write!(f, "{who}: the caller of {what}{keys} goes away")?,
            Phase::LoseReply => write!(f, "{who}: {what}{keys} is executed and its reply is lost")?,
            Phase::Fault => write!(f, "{who}: {what}{keys}")?,
            Phase::Time => write!(f, "{who}: the next timer fires")?,
        }
        if self.nth > 0 { write!(f, " (no. {})", self.nth + 1) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_only_reads_may_change_places() {
        let mut get = Footprint::default();
        get.read(Resource::Entry(1));
        let (mut fill, mut other) = (Footprint::default(), Footprint::default());
        fill.write(Resource::Entry(1));
        other.write(Resource::Entry(2));
        [&mut get, &mut fill, &mut other].into_iter().for_each(|step| step.read(Resource::Server));
        assert!(!get.conflicts(get) && !fill.conflicts(other));
        assert!(get.conflicts(fill) && fill.conflicts(get) && fill.conflicts(fill));
        assert!(Footprint::EVERYTHING.conflicts(get));
    }
}
