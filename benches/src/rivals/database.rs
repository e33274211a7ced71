//! Reads by key without a cache. All pools have the same size; sea-orm and diesel-async have their defaults but for
//! that, and diesel-async once more without its test query per checkout. deadpool-postgres has none by default.

use std::sync::Arc;

use deadpool_postgres::{Manager, ManagerConfig, RecyclingMethod};
use diesel::prelude::*;
use diesel_async::pooled_connection::deadpool::Pool as DieselPool;
use diesel_async::pooled_connection::{self, AsyncDieselConnectionManager};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use sea_orm::{ConnectOptions, Database, DatabaseConnection, EntityTrait};
use storehaus::prelude::*;
use tokio_postgres::NoTls;

use crate::harness::{Contestant, Failure, looped};
use crate::user::{SELECT, User};
use crate::workloads::wrong_row;
use crate::world::{CONNECTIONS, World};

pub(crate) async fn readers(world: &Arc<World>, tasks: &[usize]) -> Result<Vec<Vec<Contestant>>, Failure> {
    let all = Arc::new(Rivals::open(world).await?);
    let of =
        |&tasks| {
            vec![
                Contestant::other(
                    "sea-orm",
                    looped(&all, tasks, |all, task, number| async move {
                        let id = all.id(task, number);
                        let found = entity::Entity::find_by_id(id).one(&all.sea_orm).await?.ok_or_else(wrong_row)?;
                        if found.id == id { Ok(()) } else { Err(wrong_row()) }
                    }),
                ),
                Contestant::other(
                    "diesel-async",
                    looped(&all, tasks, |all, task, number| async move {
                        diesel_find(&all.diesel, all.id(task, number)).await
                    }),
                ),
                Contestant::other(
                    "diesel-async, unchecked",
                    looped(&all, tasks, |all, task, number| async move {
                        diesel_find(&all.diesel_unchecked, all.id(task, number)).await
                    }),
                ),
                Contestant::other(
                    "tokio-postgres, deadpool",
                    looped(&all, tasks, |all, task, number| async move {
                        let id = all.id(task, number);
                        if all.tokio_postgres(id).await?.id == id { Ok(()) } else { Err(wrong_row()) }
                    }),
                ),
            ]
        };
    Ok(tasks.iter().map(of).collect())
}

struct Rivals {
    world: Arc<World>,
    sea_orm: DatabaseConnection,
    diesel: DieselPool<AsyncPgConnection>,
    diesel_unchecked: DieselPool<AsyncPgConnection>,
    deadpool: deadpool_postgres::Pool,
}

impl Rivals {
    async fn open(world: &Arc<World>) -> Result<Self, Failure> {
        let mut options = ConnectOptions::new(&world.database);
        options.max_connections(CONNECTIONS);
        let diesel = |recycling| {
            let mut config = pooled_connection::ManagerConfig::default();
            config.recycling_method = recycling;
            let manager = AsyncDieselConnectionManager::<AsyncPgConnection>::new_with_config(&world.database, config);
            DieselPool::builder(manager).max_size(CONNECTIONS as usize).build()
        };
        let unchecked = ManagerConfig { recycling_method: RecyclingMethod::Fast };
        let manager = Manager::from_config(world.database.parse()?, NoTls, unchecked);
        Ok(Self {
            world: Arc::clone(world),
            sea_orm: Database::connect(options).await?,
            diesel: diesel(pooled_connection::RecyclingMethod::default())?,
            diesel_unchecked: diesel(pooled_connection::RecyclingMethod::Fast)?,
            deadpool: deadpool_postgres::Pool::builder(manager).max_size(CONNECTIONS as usize).build()?,
        })
    }

    fn id(&self, task: usize, number: usize) -> Uuid {
        self.world.ids[self.world.next(task, number)]
    }

    async fn tokio_postgres(&self, id: Uuid) -> Result<User, Failure> {
        let client = self.deadpool.get().await?;
        let row = client.query_one(&client.prepare_cached(SELECT).await?, &[&id]).await?;
        Ok(User {
            id: row.try_get(0)?,
            version: row.try_get(1)?,
            email: row.try_get(2)?,
            name: row.try_get(3)?,
            city: row.try_get(4)?,
            about: row.try_get(5)?,
            active: row.try_get(6)?,
            score: row.try_get(7)?,
            joined: row.try_get(8)?,
        })
    }
}

async fn diesel_find(pool: &DieselPool<AsyncPgConnection>, id: Uuid) -> Result<(), Failure> {
    use storehaus_bench_users::table;
    let mut connection = pool.get().await?;
    let found: Row = table.find(id).select(Row::as_select()).first(&mut connection).await?;
    if found.id == id { Ok(()) } else { Err(wrong_row()) }
}

diesel::table! {
    storehaus_bench_users (id) {
        id -> Uuid,
        version -> Int8,
        email -> Text,
        name -> Text,
        city -> Text,
        about -> Text,
        active -> Bool,
        score -> Float8,
        joined -> Timestamptz,
    }
}

#[derive(Queryable, Selectable)]
#[diesel(table_name = storehaus_bench_users, check_for_backend(diesel::pg::Pg))]
#[expect(dead_code, reason = "read from the database and looked at no further")]
struct Row {
    id: Uuid,
    version: i64,
    email: String,
    name: String,
    city: String,
    about: String,
    active: bool,
    score: f64,
    joined: DateTime<Utc>,
}

mod entity {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
    #[sea_orm(table_name = "storehaus_bench_users")]
    pub(crate) struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub(crate) id: Uuid,
        pub(crate) version: i64,
        pub(crate) email: String,
        pub(crate) name: String,
        pub(crate) city: String,
        pub(crate) about: String,
        pub(crate) active: bool,
        pub(crate) score: f64,
        pub(crate) joined: DateTimeUtc,
    }

    #[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
    pub(crate) enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}
