//! Compares the tables with the files.

use futures_util::TryStreamExt as _;
use storehaus::model::Persist;
use storehaus::schema::Inspect;
use storehaus::{GenericStore, Result};

use crate::import::Imported;
use crate::model::{Checksum, Record};
use crate::thousands;

/// How many rows of a table are read through the cache.
const SAMPLED: usize = 3_000;

/// Reads the whole table back and compares it with what was imported; whether they are equal.
pub(crate) async fn table<R, DB>(imported: &Imported<R>, store: &GenericStore<R, DB>) -> Result<bool>
where
    R: Record + Persist<DB>,
    DB: Inspect,
{
    let expected = (imported.rows.len() as u64, Checksum::of(&imported.rows));
    let found = store
        .stream()
        .try_fold((0, 0u64), async |(rows, sum), row| Ok((rows + 1, sum.wrapping_add(Checksum::of_row(&row)))))
        .await?;
    let is_equal = expected == found;
    println!(
        "verify {:>7}: file {} rows {:016x}, table {} rows {:016x}: {}",
        imported.name,
        thousands(expected.0),
        expected.1,
        thousands(found.0),
        found.1,
        if is_equal { "equal" } else { "DIFFERENT" }
    );
    Ok(is_equal)
}

/// Reads some rows through the cache, twice, and compares them with what was imported; whether all are equal.
pub(crate) async fn cached<R, DB>(imported: &Imported<R>, store: &GenericStore<R, DB>) -> Result<bool>
where
    R: Record + Persist<DB>,
    DB: Inspect,
{
    let cache = store.cache_manager()?;
    let step = imported.rows.len().div_ceil(SAMPLED).max(1);
    let mut is_equal = true;
    for pass in ["first", "second"] {
        let before = cache.get_stats().await?.total;
        let (mut read, mut different) = (0, 0);
        for row in imported.rows.iter().step_by(step) {
            read += 1;
            different += u64::from(store.get_by_id(&row.key()).await?.as_ref() != Some(row));
        }
        // Redis is filled behind the readers' backs.
        cache.settle().await;
        let after = cache.get_stats().await?.total;
        println!(
            "verify {:>7}: {pass} pass through the cache, {} rows, {} different, {} SELECTs",
            imported.name,
            thousands(read),
            different,
            thousands(after.loads - before.loads)
        );
        is_equal &= different == 0;
    }
    Ok(is_equal)
}
