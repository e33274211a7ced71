//! Reads without a cache. `store` and `sqlx` have pools of the same kind; `store, own pool` has the one that the
//! builder opens for a URL.

use std::sync::Arc;

use storehaus::prelude::*;

use super::{TASKS, wrong_row};
use crate::harness::{Contestant, Failure, Group, Plan, compete, load};
use crate::user::{User, select};
use crate::world::World;

pub(super) async fn run(world: Arc<World>, plan: Plan) -> Result<Vec<Group>, Failure> {
    let opened = StoreHaus::<Postgres>::builder().url(world.database.as_str()).build().await?.store::<User>();
    let mut groups = Vec::new();
    for tasks in TASKS {
        let hand = Arc::clone(&world);
        let contestants = vec![
            reader("store, get_by_id", &world, &world.plain, tasks),
            reader("store, own pool", &world, &opened, tasks),
            Contestant::other("sqlx, query_as", move |lasts| {
                let world = Arc::clone(&hand);
                Box::pin(load(tasks, lasts, move |task, number| {
                    let world = Arc::clone(&world);
                    async move {
                        let id = world.ids[world.next(task, number)];
                        let user = select(&world.pool, id).await?;
                        if user.id == id { Ok(()) } else { Err(wrong_row()) }
                    }
                }))
            }),
        ];
        groups.push(compete(&plan, "read without a cache", tasks, contestants).await?);
    }
    Ok(groups)
}

fn reader(name: &'static str, world: &Arc<World>, store: &GenericStore<User>, tasks: usize) -> Contestant {
    let (world, store) = (Arc::clone(world), store.clone());
    Contestant::ours(name, move |lasts| {
        let (world, store) = (Arc::clone(&world), store.clone());
        Box::pin(load(tasks, lasts, move |task, number| {
            let (world, store) = (Arc::clone(&world), store.clone());
            async move {
                let id = world.ids[world.next(task, number)];
                let user = store.get_by_id(&id).await?;
                user.filter(|user| user.id == id).map(drop).ok_or_else(wrong_row)
            }
        }))
    })
}
