use storehaus::Model;

#[derive(Clone, Model)]
#[model(tabel = "t")]
struct Unknown {
    #[key]
    id: i64,
    #[model(optional)]
    name: String,
}

#[derive(Clone, Model)]
struct NoTable {
    #[key]
    id: i64,
}

#[derive(Clone, Model)]
#[model]
struct NoSettings {
    #[key]
    id: i64,
}

#[derive(Clone, Model)]
#[model(table = "t", table = "u", cache = "redis", ttl = 0)]
struct Values {
    #[key]
    id: i64,
}

#[derive(Clone, Model)]
#[model(table = 5, ttl = "300", prefix = "a:b", crate = "storehaus")]
struct Types {
    #[key]
    id: i64,
}

#[derive(Clone, Model)]
#[model(table = "t", ttl = -1, prefix = "", rename = "x")]
struct MoreValues {
    #[key]
    id: i64,
}

#[derive(Clone, Model)]
#[model(table = "t", key)]
#[readonly]
#[unique(id)]
struct MarksOnStruct {
    #[key]
    id: i64,
}

#[derive(Clone, Model)]
#[model(table = "t")]
struct SettingsOnField {
    #[key]
    id: i64,
    #[model(table = "t")]
    a: i64,
    #[model(ttl = 5)]
    b: i64,
}

fn main() {}
