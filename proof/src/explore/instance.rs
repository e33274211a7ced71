//! One instance of the application: the real cache over the gated tier, its loader, and what its callers do.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use storehaus_cache::codec::header::Millis;
use storehaus_cache::env::Environment;
use storehaus_cache::l2::L2 as _;
use storehaus_cache::loader::{Aborted, Loader, Rows};
use storehaus_cache::record::{Change as Announced, RecordCache, StoreInfo, Tiers as Allowed};
use storehaus_cache::{CacheConfig, CacheError, CacheManager, CacheParams, L1};

use super::broken::Bug;
use super::database::{Change, Content, Statement};
use super::history::Breach;
use super::scenario::{Actor, Ends, Op, Scenario, Tiers};
use super::state::{Fate, Version, entry};
use super::step::{Footprint, Keys, Resource, Who};
use super::tier::Gated;
use super::world::{Asked, World};

/// One instance of the application.
#[derive(Clone)]
pub(super) struct Instance {
    world: Arc<World>,
    id: u8,
    cache: RecordCache<Table, Gated>,
    bug: Option<Bug>,
}

/// How long an intent stands, and a write of unknown outcome is looked after.
pub(super) const INTENT_TTL: Duration = Duration::from_secs(30);

/// What became of a statement that may commit.
struct Written {
    /// The rows that were committed, with the place of the commit.
    committed: Vec<(u8, usize)>,
    /// The reply was lost: the writer does not know what became of it.
    unknown: bool,
}

impl Instance {
    pub(super) fn new(world: &Arc<World>, id: u8, scenario: &Scenario) -> Result<Self, CacheError> {
        let tier = Gated { world: Arc::clone(world), instance: id };
        let env = Arc::new(Virtual { world: Arc::clone(world), drawn: AtomicU64::new(u64::from(id) << 32) });
        let config = CacheConfig::in_process(60, "app").with_intent_ttl(INTENT_TTL);
        let manager = CacheManager::simulated(config, tier, env)?;
        let mut params = CacheParams::new(manager);
        params = params.with_coherence(scenario.coherence).with_on_cache_down(scenario.on_cache_down);
        if scenario.negative {
            params = params.with_negative_ttl(60);
        }
        let (params, tiers) = match scenario.instances[usize::from(id)] {
            Tiers::Both(bound) => (params.with_l1(L1::Bounded(bound)), Allowed::All),
            Tiers::Local => (params, Allowed::Local),
            Tiers::Off => (params.disabled(), Allowed::All),
            Tiers::Redis => (params, Allowed::All),
        };
        let info = StoreInfo { table: "rows", prefix: "rows", ttl: None, tiers };
        let table = Table { world: Arc::clone(world), instance: id };
        Ok(Self { world: Arc::clone(world), id, cache: RecordCache::new(table, params, &info)?, bug: scenario.bug })
    }

    /// Does what an actor does, one thing after the other.
    pub(super) async fn act(self, actor: u8, does: Actor) {
        let _running = self.world.running(self.id);
        for op in does.does {
            if self.perform(actor, *op).await.is_none() {
                return;
            }
        }
    }

    /// How many invalidations wait for their delivery.
    pub(super) async fn owes(&self) -> bool {
        self.cache.manager().get_stats().await.is_ok_and(|stats| stats.pending_invalidations > 0)
    }

    async fn perform(&self, actor: u8, op: Op) -> Option<()> {
        match op {
            Op::Read(key) => {
                self.world.begin(actor, "a read of", Keys::of([key])).await?;
                self.read(actor, key).await;
            }
            Op::ReadMany(keys) => {
                self.world.begin(actor, "a read of", Keys::of(keys.iter().copied())).await?;
                self.read_many(actor, keys).await;
            }
            Op::Write(keys, change) => {
                self.world.begin(actor, "a write of", Keys::of(keys.iter().copied())).await?;
                self.write(actor, keys, change).await;
            }
            Op::Transaction(keys, ends) => {
                self.world.begin(actor, "a transaction on", Keys::of(keys.iter().copied())).await?;
                self.transaction(actor, keys, ends).await;
            }
        }
        Some(())
    }

    pub(super) async fn read(&self, actor: u8, key: u8) {
        let floor = self.world.begin_read(self.id, key);
        let id = i64::from(key);
        tokio::select! {
            biased;
            outcome = self.cache.get(&id) => {
                self.ended(actor, key, floor, outcome.map(|row| row.map(|version| *version)));
            }
            () = self.world.leave(actor, "a read of", Keys::of([key])) => {}
        }
    }

    async fn read_many(&self, actor: u8, keys: &[u8]) {
        let floors: Vec<_> = keys.iter().map(|key| self.world.begin_read(self.id, *key)).collect();
        let ids: Vec<_> = keys.iter().map(|key| i64::from(*key)).collect();
        let outcome = tokio::select! {
            biased;
            outcome = self.cache.get_many(&ids) => outcome,
            () = self.world.leave(actor, "a read of", Keys::of(keys.iter().copied())) => return,
        };
        for (at, (key, floor)) in keys.iter().zip(floors).enumerate() {
            let got = outcome.as_ref().map(|rows| rows[at].as_deref().copied()).map_err(Clone::clone);
            self.ended(actor, *key, floor, got);
        }
    }

    fn ended(&self, actor: u8, key: u8, floor: usize, got: Result<Content, LoadError>) {
        match got {
            Ok(got) => self.world.end_read(actor, self.id, key, floor, got),
            // The database was silent, and the read says so.
            Err(LoadError::Lost | LoadError::Aborted(Aborted::TimedOut(_))) => {}
            Err(LoadError::Aborted(Aborted::Lost)) => self.world.fail(Breach::Panicked),
        }
    }

    /// One statement, as the store sends it: announced before, ended after.
    async fn write(&self, actor: u8, keys: &[u8], change: Change) {
        let statement = Statement::Write(actor, Keys::of(keys.iter().copied()), change);
        let ids = || keys.iter().map(|key| i64::from(*key)).collect::<Vec<_>>();
        if self.bug == Some(Bug::ClearBeforeCommit) {
            self.cache.invalidate(&ids()).await;
            let Some(written) = self.execute(actor, statement).await else { return };
            return self.world.end_write(self.id, &written.committed, false);
        }
        if self.bug == Some(Bug::AnnouncedLate) {
            let Some(written) = self.execute(actor, statement).await else { return };
            let Ok(change) = self.cache.announce(ids()).await else { return };
            return self.end(change, written).await;
        }
        let Ok(change) = self.cache.announce(ids()).await else { return };
        let Some(written) = self.execute(actor, statement).await else { return };
        self.end(change, written).await;
    }

    /// A transaction: each row announced beside its statement, everything confirmed before the COMMIT.
    async fn transaction(&self, actor: u8, keys: &[u8], ends: Ends) {
        let mut change: Option<Announced<i64, Gated>> = None;
        for key in keys {
            let ids = vec![i64::from(*key)];
            let statement = Statement::WriteWithin(actor, Keys::of([*key]), Change::Put);
            let announcing = async {
                match &mut change {
                    Some(change) => change.announce(ids).await,
                    None => self.cache.announce(ids).await.map(|new| change = Some(new)),
                }
            };
            let (announced, written) = tokio::join!(announcing, self.execute(actor, statement));
            if written.is_none() {
                return;
            }
            if announced.is_err() {
                return self.roll_back(actor, change).await;
            }
        }
        let Some(mut change) = change else { return };
        if ends == Ends::Rollback || change.confirm().await.is_err() {
            return self.roll_back(actor, Some(change)).await;
        }
        let Some(written) = self.execute(actor, Statement::Commit(actor)).await else { return };
        self.end(change, written).await;
    }

    async fn roll_back(&self, actor: u8, change: Option<Announced<i64, Gated>>) {
        if self.execute(actor, Statement::Rollback(actor)).await.is_none() {
            return;
        }
        if let Some(change) = change {
            change.withdraw().await;
        }
        self.world.end_write(self.id, &[], false);
    }

    async fn end(&self, change: Announced<i64, Gated>, written: Written) {
        let committed = &written.committed;
        match self.bug {
            Some(Bug::AckBeforeClear) => self.world.end_write(self.id, committed, false),
            Some(Bug::LocalForgotten) => {
                let keys: Vec<_> = committed.iter().map(|(key, _)| (entry(*key), None)).collect();
                let tier = Gated { world: Arc::clone(&self.world), instance: self.id };
                tier.clear(&keys).await.ok();
                // Not over, and over for whoever asked: nothing in process is removed.
                std::mem::forget(change);
                return self.world.end_write(self.id, committed, false);
            }
            Some(Bug::UnknownNotCleared) if written.unknown => {
                change.withdraw().await;
                return self.world.end_write(self.id, committed, false);
            }
            _ => {}
        }
        if written.unknown && self.bug != Some(Bug::UnknownSettled) {
            change.doubt().await;
            self.world.doubt(self.id, INTENT_TTL);
            return self.world.end_write(self.id, committed, self.owes().await);
        }
        let settled = change.settle().await;
        self.world.end_write(self.id, committed, settled.is_err() || self.owes().await);
    }

    async fn execute(&self, actor: u8, statement: Statement) -> Option<Written> {
        let (what, mut keys) = match statement {
            Statement::Write(_, keys, Change::Put) => ("UPDATE and COMMIT", keys),
            Statement::Write(_, keys, Change::Delete) => ("DELETE and COMMIT", keys),
            Statement::WriteWithin(_, keys, _) => ("UPDATE", keys),
            Statement::Commit(_) => ("COMMIT", Keys::NONE),
            Statement::Rollback(_) => ("ROLLBACK", Keys::NONE),
            Statement::Select(keys) => ("SELECT", keys),
        };
        if keys == Keys::NONE {
            keys = self.world.state().database.drafts(actor);
        }
        let mut touches = Footprint::default();
        touches.write_each(keys, Resource::Row);
        let who = Who::Actor(actor);
        let asked = Asked { who, instance: self.id, what, keys, touches, statement: Some(statement) };
        let served = self.world.ask(asked, move |state, fate| {
            let (_, changed) = state.execute(statement);
            let committed = changed.iter().map(|key| (key, state.database.last(key))).collect();
            Written { committed, unknown: fate == Fate::ReplyLost }
        });
        if !matches!(statement, Statement::Write(..) | Statement::Commit(_)) {
            return served.await;
        }
        tokio::select! {
            biased;
            written = served => written,
            () = self.world.breaks(actor, what, keys) => {
                Some(Written { committed: self.world.state().break_off(actor), unknown: true })
            }
        }
    }
}

/// The rows, as an instance loads them.
pub(super) struct Table {
    world: Arc<World>,
    instance: u8,
}

/// Why a load failed.
#[derive(Clone, Debug)]
pub(super) enum LoadError {
    Aborted(Aborted),
    /// The reply of the database was lost.
    Lost,
}

impl Table {
    async fn select(&self, keys: Keys) -> Result<Vec<(u8, Content)>, LoadError> {
        let mut touches = Footprint::default();
        touches.read_each(keys, Resource::Row);
        let (who, instance) = (Who::Instance(self.instance), self.instance);
        let statement = Some(Statement::Select(keys));
        let asked = Asked { who, instance, what: "SELECT", keys, touches, statement };
        let served = self.world.ask(asked, move |state, fate| match fate {
            Fate::ReplyLost => Err(LoadError::Lost),
            Fate::Cut | Fate::Served => Ok(state.select(instance, keys)),
        });
        served.await.unwrap_or(Err(LoadError::Lost))
    }
}

impl Loader for Table {
    type Key = i64;
    type Value = Version;
    type Error = LoadError;

    async fn load(&self, key: &i64) -> Result<Option<Version>, LoadError> {
        let rows = self.select(Keys::of([*key as u8])).await?;
        Ok(rows.into_iter().next().and_then(|(_, content)| content))
    }

    async fn load_many(&self, keys: &[i64]) -> Result<Rows<Self>, LoadError> {
        let rows = self.select(Keys::of(keys.iter().map(|key| *key as u8))).await?;
        Ok(rows.into_iter().filter_map(|(key, content)| Some((i64::from(key), content?))).collect())
    }

    fn aborted(&self, why: Aborted) -> LoadError {
        LoadError::Aborted(why)
    }
}

/// Virtual time, and randomness that every run of a schedule repeats.
struct Virtual {
    world: Arc<World>,
    drawn: AtomicU64,
}

impl Environment for Virtual {
    fn nanos(&self) -> u64 {
        self.world.elapsed().as_nanos() as u64
    }

    fn wall(&self) -> Millis {
        Millis(1_700_000_000_000).plus(self.world.elapsed())
    }

    /// Different for every instance and every draw; nothing of the cache asks for more.
    fn random(&self) -> u64 {
        self.drawn.fetch_add(1, Ordering::Relaxed).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }
}
