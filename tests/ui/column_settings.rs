use storehaus::Column;

#[derive(Column)]
#[column(rename_all = "Snake", postgres_enum = "app.mood", case = "x")]
enum Mood {
    #[column(rename = "")]
    Happy,
    #[column(rename_all = "lowercase", label = "x")]
    Sad,
}

#[derive(Column)]
#[column(postgres_enum = "my mood", rename = "x", rename_all = 5)]
enum Other {
    #[column(rename = "x", rename = "y")]
    A,
    #[column]
    B,
}

#[derive(Column)]
#[column(rename_all = "lowercase")]
enum Labels {
    Same,
    SAME,
    #[column(rename = "same")]
    Third,
    #[column(rename = "a\0b")]
    Nul,
}

#[derive(Column)]
#[column(rename_all = "lowercase", postgres_enum = "x", crate = "storehaus", crate = storehaus)]
struct Id(#[column(rename = "x")] i64);

fn main() {}
