//! What a schedule has come to: servers, what waits for them, what was read and written.

use std::sync::Arc;

use storehaus_cache::codec::header::{self, Content as Entry, Expected, Millis};
use storehaus_cache::codec::{Cacheable, from_bytes};
use tokio::time::Instant;

use super::broken::Bug;
use super::command::{Answered, Command};
use super::database::{Content, Database, Session, Statement};
use super::history::{Breach, History};
use super::memory::Memory;
use super::mishap::Mishaps;
use super::scenario::Scenario;
use super::step::{Footprint, Keys, Phase, Resource, Step, Who};
use super::twin::Twin;

/// The version a row has; what the cache under test holds.
pub(super) type Version = i64;

/// The state of one schedule.
pub(super) struct State {
    pub(super) database: Database,
    pub(super) memory: Memory,
    pub(super) history: History,
    pub(super) mishaps: Mishaps,
    /// Real servers that execute everything too.
    pub(super) twin: Option<Arc<Twin>>,
    pub(super) bug: Option<Bug>,
    pub(super) breach: Option<Breach>,
    pub(super) waiting: Vec<Waiting>,
    /// What dead processes asked: kept, so that they wait for ever.
    pub(super) graveyard: Vec<Work>,
    /// How often something of a kind began to wait.
    pub(super) counts: Vec<(Step, u16)>,
    pub(super) next_id: u64,
    /// Counts what happened, to see when nothing happens any more.
    pub(super) progress: u64,
    /// What the step under way touches.
    pub(super) footprint: Footprint,
    /// The instance of each actor.
    pub(super) actors: Vec<u8>,
    /// How many actors run on each instance.
    pub(super) running: Vec<usize>,
    /// The session, row and place of each commit whose writer has not ended.
    pub(super) open_commits: Vec<(Session, u8, usize)>,
    /// Sessions whose connection broke: what they sent is executed all the same.
    pub(super) broken_off: Vec<Session>,
    /// Until when each instance looks after a write whose outcome it does not know.
    pub(super) doubts: Vec<(u8, Instant)>,
    /// What every read came to.
    pub(super) outcome: Vec<(u8, u8, Content)>,
    /// What happened within the steps, when somebody wants to know.
    pub(super) notes: Option<Vec<String>>,
    /// What rows held when a lease was asked for, for [`Bug::SelectBeforeLease`].
    pub(super) early: Vec<(u8, u8, Content)>,
}

/// What becomes of a command or statement at its server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Served,
    /// Executed; the reply does not arrive.
    ReplyLost,
    /// The connection is cut: not executed.
    Cut,
}

/// Something that can be let go.
pub(super) struct Waiting {
    pub(super) id: u64,
    pub(super) step: Step,
    pub(super) instance: u8,
    pub(super) touches: Footprint,
    /// A statement waits for its locks too.
    pub(super) statement: Option<Statement>,
    /// Nobody waits for it any more, but it is on its way.
    pub(super) gone: bool,
    pub(super) work: Work,
}

impl Waiting {
    /// Whether its caller waits for a limited time: commands and loads of a cache. A writer waits for its database.
    fn is_timed(&self) -> bool {
        matches!(self.step.who, Who::Instance(_))
    }
}

pub(super) enum Work {
    Serve(Serve),
    Deliver(Deliver),
}

/// Executes a command or statement; what hands its reply over.
pub(super) type Serve = Box<dyn FnOnce(&mut State, Fate) -> Deliver + Send>;

/// Hands a reply over.
pub(super) type Deliver = Box<dyn FnOnce() + Send>;

impl State {
    pub(super) fn new(scenario: &Scenario, twin: Option<Arc<Twin>>, told: bool) -> Self {
        let bug = scenario.bug;
        Self {
            database: Database::new(scenario.rows, bug),
            memory: Memory::new(bug),
            history: History::new(scenario.rows.len(), scenario.promise),
            mishaps: scenario.mishaps,
            twin,
            bug,
            breach: None,
            waiting: Vec::new(),
            graveyard: Vec::new(),
            counts: Vec::new(),
            next_id: 0,
            progress: 0,
            footprint: Footprint::default(),
            actors: scenario.actors.iter().map(|actor| actor.instance).collect(),
            running: vec![0; scenario.instances.len()],
            open_commits: Vec::new(),
            broken_off: Vec::new(),
            doubts: Vec::new(),
            outcome: Vec::new(),
            notes: told.then(Vec::new),
            early: Vec::new(),
        }
    }

    /// What happened so far was the preparation.
    pub(super) fn begin(&mut self, mishaps: Mishaps) {
        self.mishaps = mishaps;
        self.counts.clear();
        self.outcome.clear();
        self.take_notes();
    }

    /// The steps that can be taken, in order.
    pub(super) fn enabled(&mut self, into: &mut Vec<Step>) {
        into.clear();
        let mishaps = self.mishaps;
        // A question that nobody waits for has no effect.
        self.waiting.retain(|waiting| {
            !waiting.gone || (matches!(waiting.work, Work::Serve(_)) && waiting.touches.changes_anything())
        });
        // A process looks after a doubtful write for some time: what its caller waits for may come after that.
        let (mut waits, mut moves) = (self.next_doubt().is_some(), false);
        let mut undecided = false;
        for waiting in &self.waiting {
            undecided |= waiting.gone && waiting.statement.is_some();
            let dead = mishaps.is_dead(waiting.instance);
            let step = waiting.step;
            match step.phase {
                Phase::Serve => {
                    if waiting.statement.is_some_and(|statement| !self.database.is_free(statement)) {
                        continue;
                    }
                    waits |= !dead && !waiting.gone && waiting.is_timed();
                    moves = true;
                    into.push(step);
                    if mishaps.lost_replies > 0 && !dead && !waiting.gone && !mishaps.is_cut(waiting.instance) {
                        into.push(Step { phase: Phase::LoseReply, ..step });
                    }
                }
                Phase::Leave if mishaps.leaves == 0 => {}
                Phase::Break if mishaps.breaks == 0 => {}
                _ if !dead => {
                    waits |= waiting.is_timed();
                    moves |= !matches!(step.phase, Phase::Break | Phase::Leave);
                    into.push(step);
                }
                _ => {}
            }
        }
        mishaps.enabled(self, into);
        // Somebody who waits for nothing but time gets it. The database decides before anybody's time is over.
        if (waits && !undecided && mishaps.timers > 0) || (!moves && !self.is_over()) {
            into.push(TIME);
        }
        into.sort_unstable();
    }

    /// When a living instance next is done with a write whose outcome it does not know.
    pub(super) fn next_doubt(&self) -> Option<Instant> {
        let now = Instant::now();
        let open = self.doubts.iter().filter(|(by, until)| *until > now && !self.mishaps.is_dead(*by));
        open.map(|(_, until)| *until).min()
    }

    /// Whether every actor has come to its end, nothing is on its way, and no write is in doubt.
    pub(super) fn is_over(&self) -> bool {
        let dead = |instance: u8| self.mishaps.is_dead(instance);
        let mut running = (0..).zip(&self.running);
        running.all(|(instance, running)| *running == 0 || dead(instance))
            && self.next_doubt().is_none()
            && self.waiting.iter().all(|waiting| dead(waiting.instance) && waiting.step.phase != Phase::Serve)
    }

    /// Takes a step other than [`TIME`].
    pub(super) fn take(&mut self, step: Step) {
        self.footprint = Footprint::default();
        let serving = Step { phase: Phase::Serve, ..step };
        let sought = if step.phase == Phase::LoseReply { serving } else { step };
        let Some(at) = self.waiting.iter().position(|waiting| waiting.step == sought) else {
            Mishaps::strike(self, step);
            return;
        };
        let mut waiting = self.waiting.swap_remove(at);
        match waiting.work {
            Work::Deliver(deliver) => {
                self.footprint.write(Resource::Instance(waiting.instance));
                let left = match step.phase {
                    Phase::Break => Some(&mut self.mishaps.breaks),
                    Phase::Leave => Some(&mut self.mishaps.leaves),
                    _ => None,
                };
                if let Some(left) = left {
                    *left -= 1;
                    self.footprint.write(Resource::Mishaps);
                }
                deliver();
            }
            Work::Serve(serve) => {
                self.footprint.add(waiting.touches);
                let fate = if self.mishaps.is_cut(waiting.instance) && waiting.statement.is_none() {
                    Fate::Cut
                } else if step.phase == Phase::LoseReply {
                    self.mishaps.lost_replies -= 1;
                    self.footprint.write(Resource::Mishaps);
                    Fate::ReplyLost
                } else {
                    Fate::Served
                };
                let deliver = serve(self, fate);
                if !waiting.gone && !self.mishaps.is_dead(waiting.instance) {
                    waiting.step.phase = Phase::Answer;
                    self.waiting.push(Waiting { work: Work::Deliver(deliver), ..waiting });
                }
            }
        }
    }

    /// The next timer is to fire.
    pub(super) fn take_time(&mut self) {
        self.footprint = Footprint::EVERYTHING;
        self.mishaps.timers = self.mishaps.timers.saturating_sub(1);
    }

    /// A commit counts from now on.
    pub(super) fn end_commit(&mut self, key: u8, place: usize, by: u8, owed: bool) {
        self.open_commits.retain(|(_, row, at)| (*row, *at) != (key, place));
        self.footprint.write(Resource::Ended(key));
        self.history.end_write(key, place, by, owed);
    }

    /// What a killed instance committed counts from now on, where a scenario says so.
    fn end_killed(&mut self, by: u8) {
        if self.history.counts_killed() {
            let is_dead = |session: Session| self.actors[usize::from(session)] == by;
            let open: Vec<_> = self.open_commits.iter().copied().filter(|(session, ..)| is_dead(*session)).collect();
            open.into_iter().for_each(|(_, key, place)| self.end_commit(key, place, by, false));
        }
    }

    /// What a session has committed and not reported.
    pub(super) fn commits_of(&self, session: Session) -> Vec<(u8, usize)> {
        let of_session = self.open_commits.iter().filter(|(by, ..)| *by == session);
        of_session.map(|(_, key, place)| (*key, *place)).collect()
    }

    /// The connection of a session breaks; what it has committed so far.
    pub(super) fn break_off(&mut self, session: Session) -> Vec<(u8, usize)> {
        self.broken_off.push(session);
        self.commits_of(session)
    }

    /// An instance has delivered what it owed.
    pub(super) fn delivered(&mut self, instance: u8) {
        self.history.delivered(instance);
        self.footprint.write_each(self.database.keys(), Resource::Ended);
    }

    /// Whether a living instance owes anything.
    pub(super) fn is_owing(&self) -> bool {
        (0..self.instances()).any(|instance| !self.mishaps.is_dead(instance) && self.history.owes(instance))
    }

    /// What the last step touched. To be asked once the world has settled.
    pub(super) fn footprint(&self) -> Footprint {
        self.footprint
    }

    /// Marks what the step under way touches.
    pub(super) fn touch(&mut self) -> &mut Footprint {
        &mut self.footprint
    }

    /// Whether the server holds a value that is older than a write that was acknowledged: whoever reads it next is
    /// served that.
    pub(super) fn check_entries(&mut self) {
        self.expire();
        for key in self.database.keys().iter() {
            let text = entry(key);
            let (bytes, incarnation) = self.memory.peek(&text);
            let Some(bytes) = bytes else { continue };
            let identity = header::identity(&text);
            let expected = Expected { schema: Version::SCHEMA, identity, incarnation, now: Millis(0) };
            let Entry::Value(value) = header::parse(bytes, &expected) else { continue };
            let got = value.payload.and_then(|payload| from_bytes::<Version>(payload).ok());
            let breach = match self.database.place(key, got) {
                None => Breach::Uncommitted { instance: u8::MAX, key, got },
                Some(place) => match self.history.floor_of_entries(key) {
                    floor if place < floor => Breach::StaleEntry { key, got, place, floor },
                    _ => continue,
                },
            };
            self.breach.get_or_insert(breach);
        }
    }

    /// Keeps what a row holds when a lease on it is asked for.
    pub(super) fn look_early(&mut self, instance: u8, keys: Keys) {
        if self.bug == Some(Bug::SelectBeforeLease) {
            let (rows, _) = self.database.run(Statement::Select(keys));
            self.early.retain(|(by, key, _)| *by != instance || !rows.iter().any(|(row, _)| row == key));
            self.early.extend(rows.into_iter().map(|(key, content)| (instance, key, content)));
        }
    }

    /// What a load of an instance finds.
    pub(super) fn select(&mut self, instance: u8, keys: Keys) -> Vec<(u8, Content)> {
        let (mut rows, _) = self.execute(Statement::Select(keys));
        for (key, content) in &mut rows {
            if let Some((.., early)) = self.early.iter().find(|(by, row, _)| (*by, *row) == (instance, *key)) {
                *content = *early;
            }
        }
        rows
    }

    /// Executes a statement here and on the real database.
    pub(super) fn execute(&mut self, statement: Statement) -> (Vec<(u8, Content)>, Keys) {
        let done = self.database.run(statement);
        if let Statement::Write(session, ..) | Statement::Commit(session) = statement {
            for key in done.1.iter() {
                self.open_commits.push((session, key, self.database.last(key)));
            }
            let by = self.actors[usize::from(session)];
            if self.mishaps.is_dead(by) {
                self.end_killed(by);
            } else if self.broken_off.contains(&session) {
                // Nobody reports it any more.
                for (key, place) in self.commits_of(session) {
                    self.open_commits.retain(|(_, row, at)| (*row, *at) != (key, place));
                    self.footprint.write(Resource::Ended(key));
                    self.history.commit_late(key, place, by);
                }
            }
        }
        if let Some(twin) = self.twin.clone() {
            let made = match statement {
                Statement::Write(_, keys, _) => keys.iter().map(|key| (key, self.database.committed(key))).collect(),
                Statement::WriteWithin(_, keys, _) => keys.iter().map(|key| (key, self.database.draft(key))).collect(),
                Statement::Commit(_) | Statement::Rollback(_) | Statement::Select(_) => Vec::new(),
            };
            self.differs(twin.statement(statement, &done.0, made));
        }
        done
    }

    /// Executes a command here and on the real server.
    pub(super) fn command(&mut self, command: &Command) -> Answered {
        self.expire();
        let answered = self.memory.run(command);
        if let Some(twin) = self.twin.clone() {
            self.differs(twin.command(command, &answered));
        }
        answered
    }

    /// Removes a key as an eviction does, here and on the real server.
    pub(super) fn evict(&mut self, key: &str) {
        if self.memory.evict(key)
            && let Some(twin) = self.twin.clone()
        {
            self.differs(twin.evict(key));
        }
    }

    /// Removes what has expired, here and on the real server.
    fn expire(&mut self) {
        for key in self.memory.expire() {
            if let Some(twin) = self.twin.clone() {
                self.differs(twin.evict(&key));
            }
        }
    }

    fn differs(&mut self, compared: Result<(), String>) {
        if let Err(difference) = compared {
            self.breach.get_or_insert(Breach::Differs(difference));
        }
    }

    /// What dies with the process of an instance: its transactions, but for a COMMIT that is on its way.
    pub(super) fn bury(&mut self, instance: u8) {
        let actors: Vec<Session> = (0..).zip(&self.actors).filter(|(_, at)| **at == instance).map(|(n, _)| n).collect();
        for session in actors {
            let commits = |waiting: &Waiting| waiting.statement == Some(Statement::Commit(session));
            if !self.waiting.iter().any(commits) {
                self.execute(Statement::Rollback(session));
            }
        }
        self.waiting.retain(|waiting| {
            waiting.instance != instance || !matches!(waiting.statement, Some(Statement::WriteWithin(..)))
        });
        self.end_killed(instance);
    }

    pub(super) fn instances(&self) -> u8 {
        self.running.len() as u8
    }

    /// What the reads came to, whatever their order.
    pub(super) fn take_outcome(&mut self) -> Vec<(u8, u8, Content)> {
        let mut outcome = std::mem::take(&mut self.outcome);
        outcome.sort_unstable();
        outcome
    }

    pub(super) fn note(&mut self, note: impl FnOnce() -> String) {
        if let Some(notes) = &mut self.notes {
            notes.push(note());
        }
    }

    pub(super) fn take_notes(&mut self) -> Vec<String> {
        self.notes.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Who still waits, for the report of a schedule that does not end.
    pub(super) fn still_waiting(&self) -> String {
        let waiting: Vec<_> = self.waiting.iter().map(|waiting| waiting.step.to_string()).collect();
        format!("{} actors run; waiting: [{}]", self.running.iter().sum::<usize>(), waiting.join("; "))
    }

    pub(super) fn numbered(&mut self, step: Step) -> Step {
        match self.counts.iter_mut().find(|(counted, _)| *counted == step) {
            Some((_, count)) => {
                *count += 1;
                Step { nth: *count, ..step }
            }
            None => {
                self.counts.push((step, 0));
                step
            }
        }
    }
}

/// The key under which the server holds a row.
pub(super) fn entry(key: u8) -> String {
    format!("app:rows:{key}")
}

/// The row whose entry stands under a key.
pub(super) fn row_of(entry: &str) -> Option<u8> {
    entry.strip_prefix("app:rows:")?.parse().ok()
}

/// The next timer fires.
pub(super) const TIME: Step = Step { phase: Phase::Time, who: Who::World, what: "", keys: Keys::NONE, nth: 0 };
