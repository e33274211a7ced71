//! Connections that are lost at COMMIT.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use storehaus::prelude::*;
use storehaus::sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::{all_connections_are_free, in_database, stock, stocked};
use crate::models::{Item, item};
use crate::world::{PATIENCE, Tiers, World, run, until};

const ALL: [Tiers; 4] = [Tiers::None, Tiers::InProcess, Tiers::Redis, Tiers::Both];

/// What happens to the next COMMIT.
#[derive(Clone, Copy, PartialEq)]
#[repr(u8)]
enum Cut {
    Never = 0,
    /// The server does not hear it.
    Request = 1,
    /// The client does not hear the answer.
    Reply = 2,
    /// The server hears it late: when it is [let go](Line::let_go).
    Late = 3,
}

/// Stands between client and server, and cuts the connection on which a COMMIT is sent.
struct Line {
    port: u16,
    cut: Arc<AtomicU8>,
    /// Whether a COMMIT is held back.
    holds: Arc<watch::Sender<bool>>,
}

impl Line {
    async fn to(options: &PgConnectOptions) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let cut = Arc::new(AtomicU8::new(Cut::Never as u8));
        let holds = Arc::new(watch::Sender::new(false));
        let (server, when) = ((options.get_host().to_owned(), options.get_port()), Arc::clone(&cut));
        let held = Arc::clone(&holds);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let server = TcpStream::connect(server.clone()).await.unwrap();
                tokio::spawn(carry(client, server, Arc::clone(&when), Arc::clone(&held)));
            }
        });
        Self { port, cut, holds }
    }

    async fn holds(&self) {
        self.holds.subscribe().wait_for(|holds| *holds).await.unwrap();
    }

    fn let_go(&self) {
        self.holds.send_replace(false);
    }

    fn cut(&self, cut: Cut) {
        self.cut.store(cut as u8, Ordering::SeqCst);
    }
}

async fn carry(mut client: TcpStream, mut server: TcpStream, cut: Arc<AtomicU8>, holds: Arc<watch::Sender<bool>>) {
    let (mut from_client, mut from_server) = (vec![0; 65536], vec![0; 65536]);
    loop {
        tokio::select! {
            read = client.read(&mut from_client) => {
                let Some(read) = read.ok().filter(|read| *read > 0) else { return };
                let sent = &from_client[..read];
                let cut = cut.load(Ordering::SeqCst);
                let is_commit = cut != Cut::Never as u8 && sent.windows(7).any(|bytes| bytes == b"COMMIT\0");
                if is_commit && cut == Cut::Request as u8 {
                    return;
                }
                if is_commit && cut == Cut::Late as u8 {
                    holds.send_replace(true);
                    holds.subscribe().wait_for(|holds| !holds).await.unwrap();
                }
                if server.write_all(sent).await.is_err() {
                    return;
                }
                if is_commit && cut == Cut::Reply as u8 {
                    // The answer comes, and goes no further.
                    let _ = server.read(&mut from_server).await;
                    return;
                }
            }
            read = server.read(&mut from_server) => {
                let Some(read) = read.ok().filter(|read| *read > 0) else { return };
                if client.write_all(&from_server[..read]).await.is_err() {
                    return;
                }
            }
        }
    }
}

/// The world's database over a line, behind a cache of the same configuration.
async fn over(line: &Line, world: &World<Postgres>) -> StoreHaus {
    let options = (*world.haus.pool().connect_options()).clone().host("127.0.0.1").port(line.port);
    let pool = PgPoolOptions::new().max_connections(4).acquire_timeout(PATIENCE).connect_with(options).await.unwrap();
    let builder = StoreHaus::builder().database(pool);
    match world.config() {
        Some(config) => builder.cache(config).build().await.unwrap(),
        None => builder.build().await.unwrap(),
    }
}

#[test]
fn a_commit_whose_answer_is_lost_is_invalidated() {
    for tiers in ALL {
        run::<Postgres, _>(tiers, async |world: World<Postgres>| {
            stocked(&world, 2).await;
            let line = Line::to(&world.haus.pool().connect_options()).await;
            let haus = over(&line, &world).await;
            let items = haus.store::<Item>();
            for (cut, before, after) in [(Cut::Request, 1, 1), (Cut::Reply, 1, 7), (Cut::Request, 7, 7)] {
                assert_eq!(items.get_many(&[1, 2]).await.unwrap(), [Some(stock(1, before)), Some(stock(2, before))]);
                if let Ok(manager) = haus.cache() {
                    manager.settle().await;
                }
                let done = haus.transaction(async |tx| {
                    items.on(tx).update(&1i64, stock(1, 7)).await?;
                    items.on(tx).update_many(vec![(2, stock(2, 7))]).await?;
                    items.on(tx).delete_many(&[98, 99]).await?;
                    line.cut(cut);
                    Ok(())
                });
                let error = done.await.unwrap_err();
                line.cut(Cut::Never);
                assert!(matches!(error, StorehausError::OutcomeUnknown(_)) && !error.is_unchanged(), "{error}");
                assert_eq!(in_database(&world, 1).await, Some(after));
                assert_eq!(items.get_many(&[1, 2]).await.unwrap(), [Some(stock(1, after)), Some(stock(2, after))]);
                if world.tiers == Tiers::Redis {
                    let neighbour = world.haus.store::<Item>();
                    assert_eq!(neighbour.get_by_id(&1i64).await.unwrap(), Some(stock(1, after)));
                }
            }
            haus.pool().close().await;
        });
    }
}

/// Its caller goes away while COMMIT is under way: what readers find meanwhile is not there afterwards.
#[test]
fn a_commit_whose_caller_went_away_is_invalidated_when_it_took_place() {
    for tiers in ALL {
        run::<Postgres, _>(tiers, async |world: World<Postgres>| {
            stocked(&world, 1).await;
            let line = Line::to(&world.haus.pool().connect_options()).await;
            let haus = over(&line, &world).await;
            let items = haus.store::<Item>();
            let mut tx = haus.begin().await.unwrap();
            items.on(&mut tx).update(&1i64, stock(1, 7)).await.unwrap();
            line.cut(Cut::Late);
            tokio::select! {
                biased;
                () = line.holds() => {}
                done = tx.commit() => panic!("COMMIT is held back: {done:?}"),
            }
            line.cut(Cut::Never);
            for _ in 0..3 {
                assert_eq!(items.get_by_id(&1i64).await.unwrap(), Some(stock(1, 1)));
            }
            line.let_go();
            until("the commit", async || in_database(&world, 1).await == Some(7)).await;
            if let Ok(manager) = haus.cache() {
                manager.settle().await;
            }
            assert_eq!(items.get_by_id(&1i64).await.unwrap(), Some(stock(1, 7)));
            haus.pool().close().await;
        });
    }
}

/// Before COMMIT is sent a lost connection means that nothing was changed.
#[test]
fn a_connection_that_is_lost_before_commit_changes_nothing() {
    for tiers in ALL {
        run::<Postgres, _>(tiers, async |world: World<Postgres>| {
            let items = stocked(&world, 1).await;
            let mut tx = world.haus.begin().await.unwrap();
            items.on(&mut tx).update(&1i64, stock(1, 7)).await.unwrap();
            let pid: i32 = storehaus::sqlx::query_scalar("SELECT pg_backend_pid()")
                .fetch_one(tx.connection().unwrap())
                .await
                .unwrap();
            world.number(&format!("SELECT pg_terminate_backend({pid})::int::bigint")).await;
            until("the end of the backend", async || {
                world.number(&format!("SELECT COUNT(*) FROM pg_stat_activity WHERE pid = {pid}")).await == 0
            })
            .await;
            let error = items.on(&mut tx).create(item(2, "b")).await.unwrap_err();
            assert!(matches!(error, StorehausError::Unavailable(_)) && error.is_unchanged(), "{error}");
            let error = tx.commit().await.unwrap_err();
            assert!(error.is_unchanged(), "{error}");
            assert_eq!(items.get_many(&[1, 2]).await.unwrap(), [Some(stock(1, 1)), None]);
            all_connections_are_free(&world).await;
        });
    }
}

/// The server goes away while it commits.
#[test]
fn a_backend_that_ends_at_commit_leaves_the_outcome_unknown() {
    for tiers in ALL {
        run::<Postgres, _>(tiers, async |world: World<Postgres>| {
            let items = stocked(&world, 1).await;
            world
                .sql(
                    "CREATE FUNCTION end_backend() RETURNS trigger LANGUAGE plpgsql AS
                     $$ BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NULL; END $$;
                     CREATE CONSTRAINT TRIGGER at_commit AFTER UPDATE ON items DEFERRABLE INITIALLY DEFERRED
                     FOR EACH ROW EXECUTE FUNCTION end_backend()",
                )
                .await;
            let error =
                world.haus.transaction(async |tx| items.on(tx).update(&1i64, stock(1, 7)).await).await.unwrap_err();
            assert!(matches!(error, StorehausError::OutcomeUnknown(_)), "{error}");
            let now = in_database(&world, 1).await.unwrap();
            assert_eq!(items.get_by_id(&1i64).await.unwrap(), Some(stock(1, now)));
            all_connections_are_free(&world).await;
        });
    }
}
