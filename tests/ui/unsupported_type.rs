use storehaus::Model;

#[derive(Clone, Model)]
#[model(table = "t")]
struct Unsupported {
    #[key]
    id: i64,
    count: u64,
    other: Option<Vec<u64>>,
}

fn main() {}
