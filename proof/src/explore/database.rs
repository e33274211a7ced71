//! The database in memory: rows, row locks, transactions that read committed rows.

use super::broken::Bug;
use super::step::Keys;

/// What a row holds: the number of a version, or nothing when there is no such row.
pub(super) type Content = Option<i64>;

/// Who holds locks: a session.
pub(super) type Session = u8;

/// A statement on its way to the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Statement {
    /// Reads rows.
    Select(Keys),
    /// Changes rows and commits.
    Write(Session, Keys, Change),
    /// Changes rows within the session's transaction.
    WriteWithin(Session, Keys, Change),
    Commit(Session),
    Rollback(Session),
}

/// What a statement makes of rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// A new version of each.
    Put,
    /// No such rows.
    Delete,
}

/// The rows.
#[derive(Debug)]
pub(super) struct Database {
    rows: Vec<Row>,
    bug: Option<Bug>,
}

#[derive(Debug)]
struct Row {
    /// What was committed, in order; the last is what a reader sees.
    commits: Vec<Content>,
    locked: Option<Session>,
    /// What the holder of the lock will commit.
    draft: Option<Content>,
    versions: i64,
}

impl Database {
    pub(super) fn new(rows: &[bool], bug: Option<Bug>) -> Self {
        let rows = rows.iter().map(|present| {
            let versions = i64::from(*present);
            Row { commits: vec![present.then_some(versions)], locked: None, draft: None, versions }
        });
        Self { rows: rows.collect(), bug }
    }

    /// Whether a statement would not wait for a lock.
    pub(super) fn is_free(&self, statement: Statement) -> bool {
        match statement {
            Statement::Write(session, keys, _) | Statement::WriteWithin(session, keys, _) => {
                keys.iter().all(|key| self.row(key).locked.is_none_or(|holder| holder == session))
            }
            Statement::Commit(_) | Statement::Rollback(_) | Statement::Select(_) => true,
        }
    }

    /// Executes a statement that [is free](Self::is_free): what it read, and the rows it committed.
    pub(super) fn run(&mut self, statement: Statement) -> (Vec<(u8, Content)>, Keys) {
        match statement {
            Statement::Select(keys) => (keys.iter().map(|key| (key, self.visible(key))).collect(), Keys::default()),
            Statement::Write(session, keys, change) => {
                self.change(session, keys, change);
                (Vec::new(), self.commit(session))
            }
            Statement::WriteWithin(session, keys, change) => {
                self.change(session, keys, change);
                (Vec::new(), Keys::default())
            }
            Statement::Commit(session) => (Vec::new(), self.commit(session)),
            Statement::Rollback(session) => {
                self.roll_back(session);
                (Vec::new(), Keys::default())
            }
        }
    }

    /// Ends the transaction of a session that is gone.
    pub(super) fn roll_back(&mut self, session: Session) {
        for row in self.rows.iter_mut().filter(|row| row.locked == Some(session)) {
            (row.locked, row.draft) = (None, None);
        }
    }

    /// The rows a session has changed and not committed.
    pub(super) fn drafts(&self, session: Session) -> Keys {
        Keys::of((0_u8..).zip(&self.rows).filter(|(_, row)| row.locked == Some(session)).map(|(key, _)| key))
    }

    /// All rows, absent ones included.
    pub(super) fn keys(&self) -> Keys {
        Keys::of(0..self.rows.len() as u8)
    }

    /// What a row is.
    pub(super) fn committed(&self, key: u8) -> Content {
        self.row(key).commits.last().copied().flatten()
    }

    /// What the holder of a row's lock made of it.
    pub(super) fn draft(&self, key: u8) -> Content {
        self.row(key).draft.flatten()
    }

    /// The place of the last commit of a row.
    pub(super) fn last(&self, key: u8) -> usize {
        self.row(key).commits.len() - 1
    }

    /// The place of the last commit that made the row this; none when nobody ever committed that.
    pub(super) fn place(&self, key: u8, content: Content) -> Option<usize> {
        self.row(key).commits.iter().rposition(|committed| *committed == content)
    }

    fn visible(&self, key: u8) -> Content {
        let row = self.row(key);
        let committed = match self.bug {
            Some(Bug::LaggingReplica) => row.commits.iter().rev().nth(1).or_else(|| row.commits.last()),
            _ => row.commits.last(),
        };
        match (self.bug, row.draft) {
            (Some(Bug::DirtyRead), Some(draft)) => draft,
            _ => committed.copied().flatten(),
        }
    }

    fn change(&mut self, session: Session, keys: Keys, change: Change) {
        for key in keys.iter() {
            let row = &mut self.rows[usize::from(key)];
            let content = match change {
                Change::Put => {
                    row.versions += 1;
                    Some(row.versions)
                }
                Change::Delete => None,
            };
            (row.locked, row.draft) = (Some(session), Some(content));
        }
    }

    fn commit(&mut self, session: Session) -> Keys {
        let changed = self.drafts(session);
        for key in changed.iter() {
            let row = &mut self.rows[usize::from(key)];
            row.commits.extend(row.draft.take());
            row.locked = None;
        }
        changed
    }

    fn row(&self, key: u8) -> &Row {
        &self.rows[usize::from(key)]
    }
}
