//! Create, read, update, delete; no server is needed. `cargo run --example quickstart`
#![expect(clippy::print_stdout, reason = "the program reports on standard output")]

use storehaus::prelude::*;

#[derive(Debug, Clone, Model)]
#[model(table = "users")]
struct User {
    #[key]
    id: Uuid,
    #[unique]
    email: String,
    name: String,
}

#[tokio::main]
async fn main() -> storehaus::Result<()> {
    let haus = StoreHaus::<Sqlite>::open("sqlite::memory:").await?;
    haus.create_missing_tables::<(User,)>().await?;
    let users = haus.store::<User>();
    let ada = users.create(User { id: Uuid::nil(), email: "ada@example.org".into(), name: "Ada".into() }).await?;
    users.get_by_id(&ada.id).await?;
    users.get_by_id(&ada.id).await?;
    println!("2 reads, {} SELECT", haus.cache()?.get_stats().await?.total.loads);
    users.update(&ada.id, User { name: "Ada L.".into(), ..ada.clone() }).await?;
    println!("after the update: {}", users.require(&ada.id).await?.name);
    println!("deleted: {}, then read: {:?}", users.delete(&ada.id).await?, users.get_by_id(&ada.id).await?);
    println!("{}", haus.cache()?.get_stats().await?);
    Ok(())
}
