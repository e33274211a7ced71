use storehaus::Model;

#[derive(Model)]
#[model(table = "t")]
struct User {
    #[key]
    id: i64,
}

fn main() {}
