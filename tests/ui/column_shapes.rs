use storehaus::Column;

#[derive(Column)]
struct Named {
    id: i64,
}

#[derive(Column)]
struct Two(i64, i64);

#[derive(Column)]
struct Unit;

#[derive(Column)]
union Bits {
    a: i32,
    b: f32,
}

#[derive(Column)]
enum Data {
    A,
    B(i64),
    C { d: i64 },
}

#[derive(Column)]
enum Empty {}

#[derive(Column)]
struct Of<T>(T);

#[derive(Column)]
struct Borrowed(&'static str);

#[derive(Column)]
struct Units(Vec<()>);

fn main() {}
