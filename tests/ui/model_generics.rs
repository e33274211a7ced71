use storehaus::Model;

#[derive(Clone, Model)]
#[model(table = "t")]
struct OfType<T> {
    #[key]
    id: i64,
    value: T,
}

#[derive(Clone, Model)]
#[model(table = "t")]
struct OfConst<const N: usize> {
    #[key]
    id: i64,
}

#[derive(Clone, Model)]
#[model(table = "t")]
struct OfLifetime<'a> {
    #[key]
    id: i64,
    text: std::borrow::Cow<'a, str>,
}

fn main() {}
