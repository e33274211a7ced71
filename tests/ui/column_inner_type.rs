use storehaus::Column;

#[derive(Column)]
struct Count(u64);

fn main() {}
