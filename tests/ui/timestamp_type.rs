use storehaus::Model;

#[derive(Clone, Model)]
#[model(table = "t")]
struct User {
    #[key]
    id: i64,
    #[created_at]
    created: String,
}

fn main() {}
