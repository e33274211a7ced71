use storehaus::Model;

#[derive(Clone, Model)]
#[model(table = "t")]
struct None {
    id: i64,
}

#[derive(Clone, Model)]
#[model(table = "t")]
struct Five {
    #[key]
    a: i64,
    #[key]
    b: i64,
    #[key]
    c: i64,
    #[key]
    d: i64,
    #[key]
    e: i64,
}

#[derive(Clone, Model)]
#[model(table = "t")]
struct Nullable {
    #[key]
    id: Option<i64>,
}

fn main() {}
