//! The row.

use serde::{Deserialize, Serialize};
use storehaus::prelude::*;

/// A row of about 300 bytes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Model)]
#[model(table = "storehaus_bench_users")]
#[cfg_attr(feature = "rivals", derive(hitbox_fn::CacheableResponse))]
pub(crate) struct User {
    #[key]
    pub(crate) id: Uuid,
    pub(crate) version: i64,
    pub(crate) email: String,
    pub(crate) name: String,
    pub(crate) city: String,
    pub(crate) about: String,
    pub(crate) active: bool,
    pub(crate) score: f64,
    pub(crate) joined: DateTime<Utc>,
}

impl User {
    /// The `n`th user.
    pub(crate) fn new(n: u64) -> Self {
        Self {
            id: Uuid::from_u64_pair(mix(n), mix(!n)),
            version: 0,
            email: format!("user{n}@example.org"),
            name: format!("User {n} of many"),
            city: format!("City {}", n % 977),
            about: "A line about somebody that is as long as such lines are. ".repeat(3),
            active: !n.is_multiple_of(3),
            score: n as f64 / 7.0,
            joined: DateTime::from_timestamp(1_700_000_000 + n as i64, 0).unwrap_or_default(),
        }
    }
}

/// The step of SplitMix64 (Steele, Lea, Flood 2014), which spreads consecutive numbers.
pub(crate) fn mix(n: u64) -> u64 {
    let mut z = n.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use storehaus_cache::codec::{from_bytes, to_bytes};

    use super::*;

    #[test]
    fn a_row_has_about_300_bytes() {
        let bytes = to_bytes(&User::new(1_234)).unwrap();
        assert!((280..340).contains(&bytes.len()), "{}", bytes.len());
        assert_eq!(from_bytes::<User>(&bytes).unwrap(), User::new(1_234));
    }

    #[test]
    fn users_have_keys_of_their_own() {
        let ids: std::collections::HashSet<_> = (0..20_000).map(|n| User::new(n).id).collect();
        assert_eq!(ids.len(), 20_000);
    }
}
