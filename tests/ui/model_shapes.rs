use storehaus::Model;

#[derive(Clone, Model)]
#[model(table = "t")]
enum Choice {
    A,
}

#[derive(Clone, Copy, Model)]
#[model(table = "t")]
union Bits {
    a: i32,
    b: f32,
}

#[derive(Clone, Model)]
#[model(table = "t")]
struct Tuple(i64, String);

#[derive(Clone, Model)]
#[model(table = "t")]
struct Unit;

#[derive(Clone, Model)]
#[model(table = "t")]
struct Empty {}

fn main() {}
