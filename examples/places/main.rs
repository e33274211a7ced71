//! Imports the places of the world, compares the tables with the files, then serves reads and updates from a cache.
//!
//! ```sh
//! cargo run --release --example places
//! cargo run --release --example places -- --help
//! ```
//!
//! The exit status is 1 when a row was bad, a table differs, a read was stale or a call failed; 2 for wrong arguments.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "the program reports on standard output")]

mod import;
mod input;
mod model;
mod numbers;
mod options;
mod progress;
mod serve;
mod verify;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use storehaus::model::Persist;
use storehaus::schema::Inspect;
use storehaus::{CacheConfig, Postgres, Result, Sqlite, StoreHaus, Ttl};

use import::{Imported, import};
use input::Data;
use model::{City, Region1, Region2};
use options::{Asked, Database, Options, USAGE};

#[tokio::main]
async fn main() -> ExitCode {
    let options = match Options::parse(std::env::args().skip(1)) {
        Ok(Asked::Run(options)) => options,
        Ok(Asked::Help) => {
            println!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        Err(problem) => {
            eprintln!("places: {problem}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    let outcome = tokio::select! {
        outcome = run(&options) => outcome,
        _ = tokio::signal::ctrl_c() => Err("interrupted".to_owned()),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(problem) => {
            eprintln!("places: {problem}");
            ExitCode::FAILURE
        }
    }
}

/// Does it all; whether everything was as it should be.
async fn run(options: &Options) -> Result<bool, String> {
    let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/places/sample");
    let data = Data::read(options.data.as_deref().unwrap_or(&sample))?;
    let temporary;
    let url = match &options.database {
        Some(Database::Postgres(url)) => return work::<Postgres>(options, url, data).await,
        Some(Database::Sqlite(url)) => url,
        None => {
            temporary = TempDir::new()?;
            &format!("sqlite://{}?mode=rwc", temporary.0.join("places.db").display())
        }
    };
    work::<Sqlite>(options, url, data).await
}

async fn work<DB>(options: &Options, url: &str, data: Data) -> Result<bool, String>
where
    DB: Inspect,
    City: Persist<DB>,
    Region1: Persist<DB>,
    Region2: Persist<DB>,
{
    let cache = match &options.redis {
        Some(redis) => CacheConfig::new(redis, Ttl::MEDIUM, "places"),
        None => CacheConfig::in_process(Ttl::MEDIUM, "places"),
    };
    let tier = if options.redis.is_some() { "Redis" } else { "in process" };
    println!("database {}, cache {tier}", DB::NAME);
    let failed = |error: storehaus::StorehausError| error.to_string();
    let haus = StoreHaus::<DB>::builder().url(url).cache(cache).build().await.map_err(failed)?;
    let outcome = steps(options, &haus, data).await;
    haus.shutdown(Duration::from_secs(5)).await.map_err(failed)?;
    outcome.map_err(failed)
}

async fn steps<DB>(options: &Options, haus: &StoreHaus<DB>, data: Data) -> Result<bool>
where
    DB: Inspect,
    City: Persist<DB>,
    Region1: Persist<DB>,
    Region2: Persist<DB>,
{
    if options.redis.is_some() {
        haus.cache()?.health_check().await?;
    }
    haus.create_missing_tables::<(Region1, Region2, City)>().await?;
    let (regions1, regions2, cities) = (haus.store::<Region1>(), haus.store::<Region2>(), haus.store::<City>());

    let admin1 = import(data.admin1, &regions1).await?;
    let admin2 = import(data.admin2, &regions2).await?;
    let places = import(data.cities, &cities).await?;
    let mut is_good = report(&admin1) & report(&admin2) & report(&places);

    if options.verify {
        is_good &= verify::table(&admin1, &regions1).await?;
        is_good &= verify::table(&admin2, &regions2).await?;
        is_good &= verify::table(&places, &cities).await?;
        is_good &= verify::cached(&places, &cities).await?;
    }
    if !options.serve.is_zero() && !places.rows.is_empty() {
        is_good &= serve::serve(&places.rows, &cities, options.tasks, options.serve).await?;
    }
    Ok(is_good)
}

/// Prints how an import went; whether no row was bad.
fn report<R>(imported: &Imported<R>) -> bool {
    let rows = imported.rows.len() as u64;
    let rate = rows as f64 / imported.took.as_secs_f64().max(f64::MIN_POSITIVE);
    println!(
        "import {:>7}: {} rows in {:.2} s, {} rows/s, {} bad rows",
        imported.name,
        thousands(rows),
        imported.took.as_secs_f64(),
        thousands(rate as u64),
        thousands(imported.bad.len() as u64)
    );
    for bad in &imported.bad {
        eprintln!("{bad}; skipped");
    }
    imported.bad.is_empty()
}

/// A number with a comma between its thousands.
fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A directory that is removed with what is in it.
struct TempDir(PathBuf);

impl TempDir {
    fn new() -> Result<Self, String> {
        let dir = std::env::temp_dir().join(format!("storehaus-places-{}", std::process::id()));
        std::fs::create_dir(&dir).map_err(|error| format!("cannot create {}: {error}", dir.display()))?;
        Ok(Self(dir))
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            eprintln!("places: cannot remove {}: {error}", self.0.display());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_separated() {
        assert_eq!([0, 999, 1_000, 1_234_567].map(thousands), ["0", "999", "1,000", "1,234,567"]);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn the_sample_is_imported_verified_and_served_twice() {
        let dir = TempDir::new().unwrap();
        let options = Options {
            data: None,
            database: Some(Database::Sqlite(format!("sqlite://{}?mode=rwc", dir.0.join("test.db").display()))),
            redis: None,
            serve: Duration::from_millis(200),
            tasks: 3,
            verify: true,
        };
        for _ in 0..2 {
            assert_eq!(run(&options).await, Ok(true));
        }
    }
}
