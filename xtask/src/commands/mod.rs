//! One module per command.

pub(crate) mod bench;
pub(crate) mod fuzz;
pub(crate) mod programs;
pub(crate) mod servers;
pub(crate) mod test;
pub(crate) mod tidy;

use crate::run::{Outcome, cargo, step};

/// The feature sets of the facade that must compile; the default set is compiled by everything else.
const FEATURE_SETS: [&str; 5] = ["sqlite", "postgres", "sqlite,redis", "postgres,redis", "sqlite,postgres"];

/// Compiles each feature set of the facade.
fn check_feature_sets() -> Outcome {
    FEATURE_SETS.iter().try_for_each(|features| {
        let args = ["check", "--quiet", "-p", "storehaus", "--no-default-features", "--features", features];
        step(&format!("check the features {features}"), &mut cargo(args))
    })
}
