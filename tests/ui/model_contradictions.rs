use storehaus::Model;

#[derive(Clone, Model)]
#[model(table = "t")]
struct Keys {
    #[key]
    #[generated]
    #[readonly]
    #[json]
    #[created_at]
    #[updated_at]
    id: i64,
}

#[derive(Clone, Model)]
#[model(table = "t")]
struct Others {
    #[key]
    id: i64,
    #[unique]
    #[index]
    a: i64,
    #[json]
    #[unique]
    b: i64,
    #[json]
    #[index]
    c: i64,
    #[generated]
    #[readonly]
    d: i64,
    #[readonly]
    #[updated_at]
    e: i64,
    #[generated]
    #[created_at]
    f: i64,
    #[generated]
    #[updated_at]
    g: i64,
}

fn main() {}
