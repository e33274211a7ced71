use storehaus::Model;

#[derive(Clone, Model)]
#[model(table = "t")]
struct Values {
    #[key = "yes"]
    id: i64,
    #[unique(a, b)]
    a: i64,
    #[generated(5)]
    b: i64,
    #[generated("")]
    c: i64,
}

#[derive(Clone, Model)]
#[model(table = "t")]
struct Twice {
    #[key]
    #[model(key)]
    id: i64,
    #[index]
    #[index]
    a: i64,
    #[model(rename = "x", rename = "y")]
    b: i64,
}

fn main() {}
