use storehaus::Model;

#[derive(Clone)]
struct Settings;

#[derive(Clone, Model)]
#[model(table = "t")]
struct User {
    #[key]
    id: i64,
    #[json]
    settings: Settings,
}

fn main() {}
