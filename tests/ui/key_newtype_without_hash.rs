use storehaus::{Column, Model};

#[derive(Clone, Debug, PartialEq, Eq, Column)]
struct UserId(i64);

#[derive(Clone, Model)]
#[model(table = "users")]
struct User {
    #[key]
    id: UserId,
    name: String,
}

fn main() {}
