use storehaus::Model;

#[derive(Clone, Model)]
#[model(table = "t")]
struct Borrowed {
    #[key]
    id: i64,
    text: &'static str,
    bytes: Option<&'static [u8]>,
    other: &'static i64,
}

#[derive(Clone, Model)]
#[model(table = "t")]
struct Units {
    #[key]
    id: i64,
    list: Vec<()>,
    #[json]
    set: Option<std::collections::BTreeSet<()>>,
    array: [(); 3],
}

fn main() {}
