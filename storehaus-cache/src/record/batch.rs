//! Many keys at once: per thousand one `MGET`, one round of leases, one statement, one round of fills.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures_util::FutureExt as _;
use tokio::time::Instant;

use super::fill::FILLED_AT_ONCE;
use super::shared::Seen;
use super::{Inner, LeaseId, Led, Loaded, Outcome, RecordCache};
use crate::flight::{Follower, Registered};
use crate::key::KeyText;
use crate::l2::{Incarnation, L2, LeaseReply, Reply};
use crate::loader::Loader;
use crate::local::{Join, Ticket};
use crate::remote::Remote;

/// Is told the places of keys that are being written.
type Written<'a> = &'a (dyn Fn(usize) + Sync);

type Row<Ld> = Option<Arc<<Ld as Loader>::Value>>;

/// A lease to ask for, the place of its key, and the key.
type Wanted<Ld> = (usize, Registered<LeaseId, Led<Ld>>, String);

impl<Ld: Loader, L: L2> RecordCache<Ld, L> {
    /// Many rows, in the order asked; a key asked twice is read once and answered twice.
    ///
    /// # Errors
    /// As the loader; a failing tier is a miss.
    pub async fn get_many(&self, ids: &[Ld::Key]) -> Result<Vec<Row<Ld>>, Ld::Error> {
        let mut unique = Vec::with_capacity(ids.len());
        let mut places = HashMap::with_capacity(ids.len());
        let order: Vec<usize> = ids
            .iter()
            .map(|id| {
                *places.entry(id).or_insert_with(|| {
                    unique.push(id.clone());
                    unique.len() - 1
                })
            })
            .collect();
        let inner = &self.inner;
        let rows = if inner.local_now().is_some() {
            inner.many_behind_local(unique).boxed().await?
        } else if let Some(remote) = &inner.remote {
            inner.many_behind_look(remote, unique).boxed().await?
        } else {
            inner.load_many(&unique).await?.into_iter().map(|loaded| loaded.row).collect::<Vec<_>>()
        };
        Ok(order.into_iter().map(|place| rows[place].clone()).collect())
    }
}

impl<Ld: Loader, L: L2> Inner<Ld, L> {
    /// Reads what Redis has, and the rest in a task of its own.
    async fn many_behind_look(
        self: &Arc<Self>,
        remote: &Remote<L>,
        keys: Vec<Ld::Key>,
    ) -> Result<Vec<Row<Ld>>, Ld::Error> {
        let mut rows = Vec::with_capacity(keys.len());
        for part in keys.chunks(PART) {
            let look = self.look_many(remote, part, &|_| ()).await;
            let loaded = match self.complete(look) {
                Ok(loaded) => loaded,
                Err(look) => {
                    let (inner, remote, part) = (Arc::clone(self), remote.clone(), part.to_vec());
                    self.detached(async move { inner.read_on_many(&remote, &part, look, &|_| ()).await }).await?
                }
            };
            rows.extend(part.iter().zip(loaded).map(|(key, loaded)| self.hold(key, loaded)));
        }
        Ok(rows)
    }

    async fn many_behind_local(self: &Arc<Self>, keys: Vec<Ld::Key>) -> Result<Vec<Row<Ld>>, Ld::Error> {
        let Some(local) = &self.local else { return Ok(Vec::new()) };
        let now = self.manager.env().nanos();
        let mut rows = vec![None; keys.len()];
        let mut followers: Vec<(usize, Follower<Outcome<Ld>>)> = Vec::new();
        let (mut places, mut tickets, mut written) = (Vec::new(), Vec::new(), Vec::new());
        for (place, key) in keys.iter().enumerate() {
            match local.tier.join(key, now, self.l1_bound) {
                Join::Hit(row) => {
                    self.counters.l1_hits.add(1);
                    self.audit_local(&local.tier, key);
                    rows[place] = row;
                }
                Join::Follow(follower) => followers.push((place, follower)),
                Join::Lead(ticket) => {
                    places.push(place);
                    tickets.push(ticket);
                }
                Join::Write => written.push(place),
            }
        }
        if !tickets.is_empty() || !written.is_empty() {
            let inner = Arc::clone(self);
            let others: Vec<_> = written.iter().map(|place| keys[*place].clone()).collect();
            places.extend(written);
            let read = self.detached(async move { inner.read_and_land(tickets, others).await }).await?;
            places.into_iter().zip(read).for_each(|(place, row)| rows[place] = row);
        }
        let mut stranded = Vec::new();
        for (place, follower) in followers {
            match follower.outcome().await {
                Some(outcome) => {
                    self.counters.joined.add(1);
                    rows[place] = outcome?;
                }
                None => stranded.push(place),
            }
        }
        if !stranded.is_empty() {
            let again: Vec<_> = stranded.iter().map(|place| keys[*place].clone()).collect();
            let loaded = self.load_many(&again).await?;
            stranded.into_iter().zip(loaded).for_each(|(place, loaded)| rows[place] = loaded.row);
        }
        Ok(rows)
    }

    /// Reads the rows of tickets, which may land, and others, which are being written.
    async fn read_and_land(
        self: &Arc<Self>,
        tickets: Vec<Ticket<Ld::Key, Ld::Value, Outcome<Ld>>>,
        others: Vec<Ld::Key>,
    ) -> Result<Vec<Row<Ld>>, Ld::Error> {
        let keys: Vec<_> = tickets.iter().map(|ticket| ticket.key().clone()).chain(others).collect();
        let written = |place: usize| tickets.get(place).into_iter().for_each(Ticket::keep_to_itself);
        match self.read_many(&keys, &written).await {
            Ok(loaded) => {
                keys[tickets.len()..].iter().for_each(|key| self.overtake(key));
                let mut tickets = tickets.into_iter();
                Ok(loaded
                    .into_iter()
                    .map(|loaded| {
                        if let Some(ticket) = tickets.next() {
                            self.land(&ticket, &loaded);
                            ticket.publish(Ok(loaded.row.clone()));
                        }
                        loaded.row
                    })
                    .collect())
            }
            Err(error) => {
                tickets.into_iter().for_each(|ticket| ticket.publish(Err(error.clone())));
                Err(error)
            }
        }
    }

    /// Reads distinct keys from Redis and, for what it lacks, from the database; in parts, so that no reply is so large
    /// that others wait behind it past their budget. `written` is told the place of each key that is being written,
    /// before the statement that reads its row begins.
    async fn read_many(
        self: &Arc<Self>,
        keys: &[Ld::Key],
        written: Written<'_>,
    ) -> Result<Vec<Loaded<Ld::Value>>, Ld::Error> {
        let Some(remote) = &self.remote else { return self.load_many(keys).await };
        let mut rows = Vec::with_capacity(keys.len());
        for part in keys.chunks(PART) {
            let before = rows.len();
            let written = |place: usize| written(before + place);
            let look = self.look_many(remote, part, &written).await;
            rows.extend(match self.complete(look) {
                Ok(loaded) => loaded,
                Err(look) => self.read_on_many(remote, part, look, &written).await?,
            });
        }
        Ok(rows)
    }

    /// Asks Redis what stands under distinct keys.
    async fn look_many(
        self: &Arc<Self>,
        remote: &Remote<L>,
        keys: &[Ld::Key],
        written: Written<'_>,
    ) -> LookMany<Ld::Value> {
        let texts: Vec<KeyText> = keys.iter().map(|key| self.space.text(key)).collect();
        let deadline = remote.deadline();
        let mut look =
            LookMany { texts, deadline, answered: false, rows: Vec::new(), free: Vec::new(), unusable: Vec::new() };
        if !remote.is_up() {
            return look;
        }
        let Ok(found) = remote.get_many(&look.texts, deadline).await else { return look };
        let now = self.wall();
        look.answered = true;
        look.rows.reserve(keys.len());
        for (place, bytes) in found.bytes.into_iter().enumerate() {
            let reply = Reply { bytes, incarnation: found.incarnation };
            look.rows.push(match self.see_at(now, &look.texts[place], &reply) {
                Seen::Row(loaded) => {
                    self.audit_shared(&keys[place], &reply);
                    Some(loaded)
                }
                Seen::Free => {
                    look.free.push(place);
                    None
                }
                Seen::Unusable(seen) => {
                    look.unusable.push((place, seen));
                    None
                }
                Seen::Leased(_) => None,
                Seen::Writing => {
                    written(place);
                    None
                }
            });
        }
        look
    }

    /// The rows of a look that found all of them, else the look.
    fn complete(&self, look: LookMany<Ld::Value>) -> Result<Vec<Loaded<Ld::Value>>, LookMany<Ld::Value>> {
        if !look.answered || look.rows.iter().any(Option::is_none) {
            return Err(look);
        }
        self.counters.l2_hits.add(look.rows.len() as u64);
        self.expect_hits();
        Ok(look.rows.into_iter().flatten().collect())
    }

    /// Goes on after a look: with leases, one statement for what is missing, and fills.
    async fn read_on_many(
        self: &Arc<Self>,
        remote: &Remote<L>,
        keys: &[Ld::Key],
        look: LookMany<Ld::Value>,
        written: Written<'_>,
    ) -> Result<Vec<Loaded<Ld::Value>>, Ld::Error> {
        let LookMany { texts, deadline, answered, mut rows, free, unusable } = look;
        if !answered {
            self.counters.bypassed.add(keys.len() as u64);
            self.counters.loads.add(keys.len() as u64);
            return self.select(keys).await;
        }
        let mut leases = self.lease_many(remote, &texts, free, &mut rows, written, deadline).await;
        leases.extend(self.replace_many(remote, &texts, unusable, &mut rows, written, deadline).await);
        let missing: Vec<usize> = (0..keys.len()).filter(|place| rows[*place].is_none()).collect();
        self.counters.l2_hits.add((keys.len() - missing.len()) as u64);
        if missing.len() < keys.len() || leases.is_empty() {
            self.expect_hits();
        } else {
            self.misses_in_a_row.fetch_add(leases.len() as u64, Ordering::Relaxed);
        }
        if missing.is_empty() {
            return Ok(rows.into_iter().flatten().collect());
        }
        let wanted: Vec<_> = missing.iter().map(|place| keys[*place].clone()).collect();
        let loaded = match self.load_many(&wanted).await {
            Ok(loaded) => loaded,
            Err(error) => {
                self.give_back(remote, leases, &error);
                return Err(error);
            }
        };
        missing.into_iter().zip(loaded).for_each(|(place, loaded)| rows[place] = Some(loaded));
        let mut rows: Vec<_> = rows.into_iter().flatten().collect();
        leases.iter().for_each(|(place, lease)| rows[*place].token = Some(lease.registered.key().token));
        self.fill_many(remote, leases, &rows);
        Ok(rows)
    }

    /// One round of leases for the keys at `free`; rows that stand there go into `rows`.
    async fn lease_many(
        self: &Arc<Self>,
        remote: &Remote<L>,
        texts: &[KeyText],
        free: Vec<usize>,
        rows: &mut [Option<Loaded<Ld::Value>>],
        written: Written<'_>,
        deadline: Instant,
    ) -> Vec<(usize, Lease<Ld>)> {
        if free.is_empty() {
            return Vec::new();
        }
        let token = self.new_token();
        let registered: Vec<_> = free.iter().map(|place| self.new_lease(token, &texts[*place])).collect();
        let asked: Vec<_> = free.iter().map(|place| (texts[*place].to_owned(), token)).collect();
        let lasts = self.manager.config().load_timeout;
        let Ok(replies) = remote.lease_many(&asked, lasts, deadline).await else { return Vec::new() };
        let wanted =
            free.into_iter().zip(registered).zip(asked).map(|((place, lease), (text, _))| (place, lease, text));
        self.granted(wanted.zip(replies), rows, written)
    }

    /// One round of leases over what must not be served, at the places given with how it begins.
    async fn replace_many(
        self: &Arc<Self>,
        remote: &Remote<L>,
        texts: &[KeyText],
        unusable: Vec<(usize, Vec<u8>)>,
        rows: &mut [Option<Loaded<Ld::Value>>],
        written: Written<'_>,
        deadline: Instant,
    ) -> Vec<(usize, Lease<Ld>)> {
        if unusable.is_empty() {
            return Vec::new();
        }
        let (mut registered, mut asked) = (Vec::with_capacity(unusable.len()), Vec::with_capacity(unusable.len()));
        let token = self.new_token();
        for (place, seen) in unusable {
            registered.push((place, self.new_lease(token, &texts[place])));
            asked.push((texts[place].to_owned(), seen, token));
        }
        let lasts = self.manager.config().load_timeout;
        let Ok(replies) = remote.replace_many(&asked, lasts, deadline).await else { return Vec::new() };
        let wanted = registered.into_iter().zip(asked).map(|((place, lease), (text, ..))| (place, lease, text));
        self.granted(wanted.zip(replies), rows, written)
    }

    /// The leases that were granted; rows that stand there instead go into `rows`.
    fn granted(
        &self,
        replies: impl Iterator<Item = (Wanted<Ld>, LeaseReply)>,
        rows: &mut [Option<Loaded<Ld::Value>>],
        written: Written<'_>,
    ) -> Vec<(usize, Lease<Ld>)> {
        let mut leases = Vec::with_capacity(replies.size_hint().0);
        for ((place, registered, text), reply) in replies {
            match reply {
                LeaseReply::Granted(incarnation) => leases.push((place, Lease { registered, text, incarnation })),
                LeaseReply::Taken(reply) => match self.see(&text, &reply) {
                    Seen::Row(loaded) => rows[place] = Some(loaded),
                    Seen::Writing => written(place),
                    Seen::Free | Seen::Leased(_) | Seen::Unusable(_) => {}
                },
            }
        }
        leases
    }

    /// Publishes what was loaded and fills it, behind the caller's back.
    fn fill_many(self: &Arc<Self>, remote: &Remote<L>, leases: Vec<(usize, Lease<Ld>)>, rows: &[Loaded<Ld::Value>]) {
        if leases.is_empty() {
            return;
        }
        let (mut fills, mut absent) = (Vec::with_capacity(leases.len()), Vec::new());
        for (place, lease) in leases {
            let Lease { registered, text, incarnation } = lease;
            let row = rows[place].row.clone();
            registered.leader.publish((Ok(row.clone()), incarnation));
            match rows[place].keep {
                Some(keep) => fills.push((registered, text, row, keep, incarnation)),
                None => absent.push((registered, text)),
            }
        }
        // The first are stored while the next are written.
        while !fills.is_empty() {
            let rest = fills.split_off(fills.len().min(FILLED_AT_ONCE));
            let part = std::mem::replace(&mut fills, rest);
            let (inner, remote) = (Arc::clone(self), remote.clone());
            self.manager.in_background(async move { inner.fill(&remote, part).await });
        }
        if !absent.is_empty() {
            let (inner, remote) = (Arc::clone(self), remote.clone());
            self.manager.in_background(async move {
                let given_up =
                    absent.iter_mut().map(|(lease, text)| (std::mem::take(text), lease.key().token)).collect();
                inner.release(&remote, given_up).await;
            });
        }
    }

    /// Publishes a failure and gives the leases back.
    fn give_back(self: &Arc<Self>, remote: &Remote<L>, mut leases: Vec<(usize, Lease<Ld>)>, error: &Ld::Error) {
        if leases.is_empty() {
            return;
        }
        leases.iter().for_each(|(_, lease)| {
            // For those who wait, and nobody who comes while the lease still stands.
            self.leases.remove(&lease.registered.key());
            lease.registered.leader.publish((Err(error.clone()), lease.incarnation));
        });
        let (inner, remote) = (Arc::clone(self), remote.clone());
        self.manager.in_background(async move {
            let given_up = leases
                .iter_mut()
                .map(|(_, lease)| (std::mem::take(&mut lease.text), lease.registered.key().token))
                .collect();
            inner.release(&remote, given_up).await;
        });
    }

    async fn load_many(&self, keys: &[Ld::Key]) -> Result<Vec<Loaded<Ld::Value>>, Ld::Error> {
        self.counters.misses.add(keys.len() as u64);
        self.counters.loads.add(keys.len() as u64);
        self.select(keys).await
    }

    /// One statement for distinct keys; the rows in their order.
    async fn select(&self, keys: &[Ld::Key]) -> Result<Vec<Loaded<Ld::Value>>, Ld::Error> {
        let mut found: HashMap<_, _> = self.in_time(self.loader.load_many(keys)).await?.into_iter().collect();
        let mut rows: Vec<_> = keys.iter().map(|key| self.loaded(key, found.remove(key).map(Arc::new))).collect();
        if !found.is_empty() || (!Ld::EXACT_KEYS && rows.iter().any(|loaded| loaded.row.is_some())) {
            // The database takes keys for equal that are not: which of the missing rows they are is not known.
            rows.iter_mut().filter(|loaded| loaded.row.is_none()).for_each(|loaded| loaded.keep = None);
        }
        Ok(rows)
    }
}

/// How many keys one round takes.
const PART: usize = 1_000;

/// What a first look at many keys ended with.
struct LookMany<V> {
    texts: Vec<KeyText>,
    /// By when the read has to be over with Redis.
    deadline: Instant,
    /// Whether Redis answered at all; without, the rest is empty.
    answered: bool,
    rows: Vec<Option<Loaded<V>>>,
    /// The places under which nothing stands.
    free: Vec<usize>,
    /// The places of what must not be served, with how it begins.
    unusable: Vec<(usize, Vec<u8>)>,
}

/// A lease that was granted, and by which server.
struct Lease<Ld: Loader> {
    registered: Registered<LeaseId, Led<Ld>>,
    text: String,
    incarnation: Incarnation,
}
