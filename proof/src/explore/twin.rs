//! Real servers that execute what the ones in memory execute, step by step, and must say the same.

use std::collections::HashMap;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use storehaus::sqlx::{self, Connection as _, PgConnection, Row as _};
use storehaus_cache::l2::{Incarnation, LeaseReply, ManyReply, Reply};
use storehaus_cache::redis::{RedisSettings, RedisTier};

use super::command::{Answer, Answered, Command};
use super::database::{Content, Database, Session, Statement};
use super::intents::without_times;
use super::state::entry;
use super::step::Keys;

/// A Redis and a PostgreSQL. They are spoken to from a thread of their own, as the clock of a schedule stands still
/// while it waits.
pub(super) struct Twin {
    requests: Sender<(Request, Sender<Result<Response, String>>)>,
}

enum Request {
    Command(Command),
    Evict(String),
    /// A statement, and what it makes of each row it changes.
    Statement(Statement, Vec<(u8, Content)>),
    /// Everything from the start, with these rows.
    Reset(Vec<(u8, Content)>),
}

enum Response {
    Answered(Answered),
    Rows(Vec<(u8, Content)>),
}

impl Twin {
    /// Connects, and makes the table.
    ///
    /// # Errors
    /// When a server cannot be reached.
    pub(super) fn connect(database: &str, redis: &str) -> Result<Self, String> {
        let (requests, inbox) = channel::<(Request, Sender<Result<Response, String>>)>();
        let (ready, is_ready) = channel();
        let (database, redis) = (database.to_owned(), redis.to_owned());
        thread::spawn(move || serve(&database, &redis, &ready, &inbox));
        is_ready.recv().map_err(|_| "the thread of the real servers ended".to_owned())??;
        Ok(Self { requests })
    }

    /// Everything as it is when a schedule begins.
    pub(super) fn reset(&self, database: &Database) -> Result<(), String> {
        let rows = database.keys().iter().map(|key| (key, database.committed(key))).collect();
        self.request(Request::Reset(rows)).map(drop)
    }

    /// Removes a key.
    pub(super) fn evict(&self, key: &str) -> Result<(), String> {
        self.request(Request::Evict(key.to_owned())).map(drop)
    }

    /// Executes a command; how the answer differs, if it does.
    pub(super) fn command(&self, command: &Command, ours: &Answered) -> Result<(), String> {
        let Response::Answered(theirs) = self.request(Request::Command(command.clone()))? else { return Ok(()) };
        let theirs = theirs.map(comparable);
        if theirs == ours.clone().map(comparable) {
            return Ok(());
        }
        Err(format!("{}: in memory {ours:?}, in reality {theirs:?}", command.name()))
    }

    /// Executes a statement that was executed in memory; how the rows differ, if they do.
    pub(super) fn statement(
        &self,
        statement: Statement,
        ours: &[(u8, Content)],
        made: Vec<(u8, Content)>,
    ) -> Result<(), String> {
        let Response::Rows(theirs) = self.request(Request::Statement(statement, made))? else { return Ok(()) };
        if theirs == ours {
            return Ok(());
        }
        Err(format!("{statement:?}: in memory {ours:?}, in reality {theirs:?}"))
    }

    fn request(&self, request: Request) -> Result<Response, String> {
        let (reply, replied) = channel();
        self.requests.send((request, reply)).map_err(|_| GONE.to_owned())?;
        replied.recv().map_err(|_| GONE.to_owned())?
    }
}

const GONE: &str = "the thread of the real servers ended";

/// The thread's work, until nobody asks any more.
fn serve(
    database: &str,
    redis: &str,
    ready: &Sender<Result<(), String>>,
    inbox: &Receiver<(Request, Sender<Result<Response, String>>)>,
) {
    let prepared = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| e.to_string());
    let prepared = prepared.and_then(|runtime| {
        let servers = runtime.block_on(Servers::connect(database, redis))?;
        Ok((runtime, servers))
    });
    let (runtime, mut servers) = match prepared {
        Ok(prepared) => prepared,
        Err(error) => return drop(ready.send(Err(error))),
    };
    if ready.send(Ok(())).is_err() {
        return;
    }
    while let Ok((request, reply)) = inbox.recv() {
        let response = runtime.block_on(servers.handle(request));
        drop(reply.send(response));
    }
}

struct Servers {
    tier: RedisTier,
    /// For what no tier can be asked for.
    raw: redis::aio::MultiplexedConnection,
    url: String,
    /// The connection of each session, and whether it is in a transaction; made when it is needed.
    sessions: HashMap<Session, (PgConnection, bool)>,
}

impl Servers {
    async fn connect(database: &str, redis: &str) -> Result<Self, String> {
        let tier = RedisTier::new(RedisSettings::new(redis))?;
        let client = redis::Client::open(redis).map_err(|error| error.to_string())?;
        let raw = client.get_multiplexed_async_connection().await.map_err(|error| error.to_string())?;
        let mut servers = Self { tier, raw, url: database.to_owned(), sessions: HashMap::new() };
        let (connection, _) = servers.session(LOADS).await.map_err(|error| error.to_string())?;
        let table = "DROP TABLE IF EXISTS proof_explore; \
                     CREATE TABLE proof_explore (id int PRIMARY KEY, version bigint NOT NULL)";
        sqlx::raw_sql(table).execute(connection).await.map_err(|error| error.to_string())?;
        Ok(servers)
    }

    async fn handle(&mut self, request: Request) -> Result<Response, String> {
        match request {
            Request::Command(command) => Ok(Response::Answered(command.run(&self.tier).await)),
            Request::Evict(key) => {
                self.remove(&[key]).await?;
                Ok(Response::Rows(Vec::new()))
            }
            Request::Statement(statement, made) => {
                self.statement(statement, &made).await.map(Response::Rows).map_err(|error| error.to_string())
            }
            Request::Reset(rows) => {
                self.remove(&rows.iter().map(|(key, _)| entry(*key)).collect::<Vec<_>>()).await?;
                self.reset(&rows).await.map_err(|error| error.to_string())?;
                Ok(Response::Rows(Vec::new()))
            }
        }
    }

    /// Removes keys whatever stands there.
    async fn remove(&mut self, keys: &[String]) -> Result<(), String> {
        let removed = redis::cmd("DEL").arg(keys).query_async::<()>(&mut self.raw).await;
        removed.map_err(|error| error.to_string())
    }

    async fn reset(&mut self, rows: &[(u8, Content)]) -> Result<(), sqlx::Error> {
        let open: Vec<_> = self.sessions.iter().filter(|(_, (_, open))| *open).map(|(session, _)| *session).collect();
        for session in open {
            self.statement(Statement::Rollback(session), &[]).await?;
        }
        let (connection, _) = self.session(LOADS).await?;
        sqlx::raw_sql("DELETE FROM proof_explore").execute(&mut *connection).await?;
        for (key, content) in rows {
            make(connection, *key, *content).await?;
        }
        Ok(())
    }

    async fn statement(
        &mut self,
        statement: Statement,
        made: &[(u8, Content)],
    ) -> Result<Vec<(u8, Content)>, sqlx::Error> {
        match statement {
            Statement::Select(keys) => {
                let (connection, _) = self.session(LOADS).await?;
                select(connection, keys).await
            }
            Statement::Write(session, ..) | Statement::WriteWithin(session, ..) => {
                let (connection, open) = self.session(session).await?;
                if !*open {
                    sqlx::raw_sql("BEGIN").execute(&mut *connection).await?;
                    *open = true;
                }
                for (key, content) in made {
                    make(connection, *key, *content).await?;
                }
                if matches!(statement, Statement::Write(..)) {
                    sqlx::raw_sql("COMMIT").execute(&mut *connection).await?;
                    *open = false;
                }
                Ok(Vec::new())
            }
            Statement::Commit(session) | Statement::Rollback(session) => {
                let (connection, open) = self.session(session).await?;
                if std::mem::take(open) {
                    let end = if statement == Statement::Commit(session) { "COMMIT" } else { "ROLLBACK" };
                    sqlx::raw_sql(end).execute(&mut *connection).await?;
                }
                Ok(Vec::new())
            }
        }
    }

    async fn session(&mut self, session: Session) -> Result<&mut (PgConnection, bool), sqlx::Error> {
        use std::collections::hash_map::Entry;
        match self.sessions.entry(session) {
            Entry::Occupied(entry) => Ok(entry.into_mut()),
            Entry::Vacant(entry) => Ok(entry.insert((PgConnection::connect(&self.url).await?, false))),
        }
    }
}

async fn select(connection: &mut PgConnection, keys: Keys) -> Result<Vec<(u8, Content)>, sqlx::Error> {
    let ids: Vec<i32> = keys.iter().map(i32::from).collect();
    let rows = sqlx::query("SELECT id, version FROM proof_explore WHERE id = ANY($1)").bind(ids);
    let found: HashMap<i32, i64> =
        rows.fetch_all(connection).await?.into_iter().map(|row| (row.get(0), row.get(1))).collect();
    Ok(keys.iter().map(|key| (key, found.get(&i32::from(key)).copied())).collect())
}

/// Makes a row what it is to be.
async fn make(connection: &mut PgConnection, key: u8, content: Content) -> Result<(), sqlx::Error> {
    let id = i32::from(key);
    let made = match content {
        Some(version) => {
            let put = "INSERT INTO proof_explore VALUES ($1, $2) ON CONFLICT (id) DO UPDATE SET version = $2";
            sqlx::query(put).bind(id).bind(version).execute(connection).await
        }
        None => sqlx::query("DELETE FROM proof_explore WHERE id = $1").bind(id).execute(connection).await,
    };
    made.map(drop)
}

/// An answer without what the real server has of its own: its incarnation and its clock.
fn comparable(answer: Answer) -> Answer {
    const NOBODY: Incarnation = 0;
    let reply = |reply: Reply| Reply { bytes: reply.bytes.map(without_times), incarnation: NOBODY };
    let lease = |granted| match granted {
        LeaseReply::Granted(_) => LeaseReply::Granted(NOBODY),
        LeaseReply::Taken(taken) => LeaseReply::Taken(reply(taken)),
    };
    match answer {
        Answer::Announced(_) => Answer::Announced(NOBODY),
        Answer::Leases(replies) => Answer::Leases(replies.into_iter().map(lease).collect()),
        Answer::Many(many) => {
            let bytes = many.bytes.into_iter().map(|bytes| bytes.map(without_times)).collect();
            Answer::Many(ManyReply { bytes, incarnation: NOBODY })
        }
        Answer::One(one) => Answer::One(reply(one)),
        Answer::Replaced(replies) => Answer::Replaced(replies.into_iter().map(lease).collect()),
        answer => answer,
    }
}

/// The session of the loads.
const LOADS: Session = Session::MAX;
