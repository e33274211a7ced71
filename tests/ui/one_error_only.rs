//! A refused model is still a model for the code that uses it.
use storehaus::model::Model as _;
use storehaus::{Column, Model};

#[derive(Clone, Model)]
#[model(table = "t", colour = "red")]
struct User {
    #[key]
    id: i64,
    kind: Kind,
}

#[derive(Clone, Column)]
#[column(colour = "red")]
enum Kind {
    A,
}

fn cached<T: storehaus::model::Model<Key = i64>>(row: &T) -> i64 {
    row.key()
}

fn main() {
    let user = User { id: 1, kind: Kind::A };
    let _: i64 = user.key() + cached(&user);
}
