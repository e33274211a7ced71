use storehaus::Model;

#[derive(Clone, Model)]
#[model(table = "my table", schema = "app\"; --")]
struct Quoted {
    #[key]
    id: i64,
}

#[derive(Clone, Model)]
#[model(table = "a2345678901234567890123456789012345678901234567890123456789012345")]
struct Long {
    #[key]
    id: i64,
    größe: i64,
    #[model(rename = "1st")]
    first: i64,
}

#[derive(Clone, Model)]
#[model(table = "t")]
struct Same {
    #[key]
    id: i64,
    #[model(rename = "ID")]
    other: i64,
}

fn main() {}
