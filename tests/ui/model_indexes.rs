use storehaus::Model;

#[derive(Clone, Model)]
#[model(table = "t", unique(a, z), index(a, a), unique(), index = "a", index(j))]
#[model(unique(a), index(b, a), unique(b, a), index(id))]
struct Indexes {
    #[key]
    id: i64,
    #[unique]
    a: i64,
    b: i64,
    #[json]
    j: i64,
}

#[derive(Clone, Model)]
#[model(table = "t")]
struct KeyTwice {
    #[key]
    #[unique]
    id: i64,
}

fn main() {}
