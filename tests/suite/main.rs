//! The behaviour of stores, on every database and every cache topology.
//!
//! | module | what it shows |
//! |---|---|
//! | [`crud`] | one row: create, read, update, delete, upsert, and what each fails with |
//! | [`batch`] | many rows: order, repetitions, all or nothing, the row that failed |
//! | [`keys`] | every kind of key, and every odd text in one |
//! | [`columns`] | every column type, through the database and through the cache |
//! | [`reads`] | reads of whole tables, and of what is absent |
//! | [`options`] | what the options of a store and a manager change |
//! | [`lending`] | connections between operations and the pool |
//! | [`manual`] | the manual cache API, statistics, health |
//! | [`cost`] | how many statements and Redis commands each operation takes |
//! | [`gather`] | reads of single rows that come together |
//! | [`inspect`] | the cache of one store by hand, what it says of an entry, the auditor |
//! | [`outage`] | Redis away, restarted, silent |
//! | [`outbox`] | changes past the stores, and writers that are gone |
//! | [`regressions`] | defects that stores of this kind had, each by its name |
//! | [`transactions`] | what is seen of a transaction, by whom and when, and how it ends |
//! | [`writers`] | writes that Redis does not take part in, and writers that do not live to their end |
//! | [`schema`] | tables from models, migrations written by hand, drift |
//!
//! [`world`] makes the worlds they run in: {SQLite, PostgreSQL} × {no cache, in process, Redis, both}. `cargo xtask test`
//! brings the servers; without them the tests of SQLite without Redis run, and the others fail.

mod batch;
mod columns;
mod cost;
mod crud;
mod gather;
mod inspect;
mod keys;
mod lending;
mod manual;
mod models;
mod options;
mod outage;
mod outbox;
mod reads;
mod regressions;
mod schema;
mod server;
mod statements;
mod transactions;
mod world;
mod writers;
