//! Reads without a cache.

use std::sync::{Arc, Mutex};

use storehaus::prelude::*;
use storehaus::sqlx::postgres::PgConnection;
use storehaus::sqlx::{self, Connection};
use tokio::sync::Semaphore;

use super::wrong_row;
use crate::harness::{Contestant, Failure, Group, Plan, compete, looped};
use crate::rivals;
use crate::user::{SELECT, User, select};
use crate::world::{CONNECTIONS, World};

pub(super) async fn run(world: Arc<World>, plan: Plan) -> Result<Vec<Group>, Failure> {
    let held = Arc::new(Held::open(&world).await?);
    let mut groups = Vec::new();
    let rivals = rivals::readers(&world, plan.tasks).await?;
    for (&tasks, rivals) in plan.tasks.iter().zip(rivals) {
        let mut contestants = vec![
            Contestant::ours(
                "store, get_by_id",
                looped(&world, tasks, |world, task, number| async move {
                    let id = world.ids[world.next(task, number)];
                    found(world.plain.get_by_id(&id).await?, id)
                }),
            ),
            Contestant::ours(
                "store, pool of sqlx",
                looped(&world, tasks, |world, task, number| async move {
                    let id = world.ids[world.next(task, number)];
                    found(world.pooled.get_by_id(&id).await?, id)
                }),
            ),
            Contestant::other(
                "sqlx, query_as",
                looped(&world, tasks, |world, task, number| async move {
                    let id = world.ids[world.next(task, number)];
                    found(Some(select(&world.pool, id).await?), id)
                }),
            ),
            Contestant::other(
                "sqlx, held connections",
                looped(&held, tasks, |held, task, number| async move {
                    let id = held.world.ids[held.world.next(task, number)];
                    found(Some(held.select(id).await?), id)
                }),
            ),
        ];
        contestants.extend(rivals);
        groups.push(compete(&plan, "read without a cache", tasks, contestants).await?);
    }
    Ok(groups)
}

fn found(user: Option<User>, id: Uuid) -> Result<(), Failure> {
    user.filter(|user| user.id == id).map(drop).ok_or_else(wrong_row)
}

/// Connections that nobody pings: what sqlx costs without its pool.
struct Held {
    world: Arc<World>,
    free: Semaphore,
    connections: Mutex<Vec<PgConnection>>,
}

impl Held {
    async fn open(world: &Arc<World>) -> Result<Self, Failure> {
        let mut connections = Vec::new();
        for _ in 0..CONNECTIONS {
            connections.push(PgConnection::connect(&world.database).await?);
        }
        let free = Semaphore::new(connections.len());
        Ok(Self { world: Arc::clone(world), free, connections: Mutex::new(connections) })
    }

    async fn select(&self, id: Uuid) -> Result<User, Failure> {
        let _permit = self.free.acquire().await?;
        let taken = self.connections.lock().map_err(|_| "a task panicked")?.pop();
        let mut connection = taken.ok_or("there are fewer connections than permits")?;
        let user = sqlx::query_as(SELECT).bind(id).fetch_one(&mut connection).await?;
        self.connections.lock().map_err(|_| "a task panicked")?.push(connection);
        Ok(user)
    }
}
