use storehaus::{Column, Model};

#[derive(Clone, Debug, Column)]
enum Kind {
    A,
}

#[derive(Clone, Model)]
#[model(table = "t")]
struct ByFloat {
    #[key]
    id: f64,
}

#[derive(Clone, Model)]
#[model(table = "t")]
struct ByEnum {
    #[key]
    kind: Kind,
}

fn main() {}
