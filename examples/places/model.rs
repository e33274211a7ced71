//! The models, and how a row of a file becomes one.

use csv::ByteRecord;
use storehaus::model::Model;
use storehaus::prelude::*;

/// A city.
#[derive(Clone, Debug, PartialEq, Model)]
#[model(table = "cities")]
pub(crate) struct City {
    #[key]
    pub(crate) id: i64,
    pub(crate) name: String,
    pub(crate) country: String,
    pub(crate) admin1: Option<String>,
    pub(crate) admin2: Option<String>,
    pub(crate) lat: f64,
    pub(crate) lng: f64,
    /// How often it was updated since the import; not in the file.
    pub(crate) revision: i64,
}

/// A first-level region, such as a state.
#[derive(Clone, Debug, PartialEq, Model)]
#[model(table = "admin1")]
pub(crate) struct Region1 {
    #[key]
    pub(crate) code: String,
    pub(crate) name: String,
}

/// A second-level region, such as a county.
#[derive(Clone, Debug, PartialEq, Model)]
#[model(table = "admin2")]
pub(crate) struct Region2 {
    #[key]
    pub(crate) code: String,
    pub(crate) name: String,
}

/// A model that is read from a file.
pub(crate) trait Record: Model<Key: Ord> + PartialEq {
    /// The columns of the file, as its first line names them.
    const HEADER: &'static [&'static str];

    /// The row, or what is wrong with it; never its contents.
    fn parse(fields: &ByteRecord) -> Result<Self, String>;

    /// Adds every column to a checksum.
    fn digest(&self, sum: &mut Checksum);
}

impl Record for City {
    const HEADER: &'static [&'static str] = &["id", "name", "country", "admin1", "admin2", "lat", "lng"];

    fn parse(fields: &ByteRecord) -> Result<Self, String> {
        Ok(Self {
            // 0 would ask the database for a key.
            id: number(fields, 0, "id", 1, i64::MAX)?,
            name: required(fields, 1, "name")?,
            country: required(fields, 2, "country")?,
            admin1: optional(fields, 3, "admin1")?,
            admin2: optional(fields, 4, "admin2")?,
            lat: number(fields, 5, "lat", -90.0, 90.0)?,
            lng: number(fields, 6, "lng", -180.0, 180.0)?,
            revision: 0,
        })
    }

    fn digest(&self, sum: &mut Checksum) {
        sum.number(self.id as u64);
        sum.text(&self.name);
        sum.text(&self.country);
        sum.option(self.admin1.as_deref());
        sum.option(self.admin2.as_deref());
        sum.number(self.lat.to_bits());
        sum.number(self.lng.to_bits());
        sum.number(self.revision as u64);
    }
}

macro_rules! region {
    ($model:ident) => {
        impl Record for $model {
            const HEADER: &'static [&'static str] = &["code", "name"];

            fn parse(fields: &ByteRecord) -> Result<Self, String> {
                Ok(Self { code: required(fields, 0, "code")?, name: required(fields, 1, "name")? })
            }

            fn digest(&self, sum: &mut Checksum) {
                sum.text(&self.code);
                sum.text(&self.name);
            }
        }
    };
}

region!(Region1);
region!(Region2);

fn required(fields: &ByteRecord, at: usize, name: &str) -> Result<String, String> {
    optional(fields, at, name)?.ok_or_else(|| format!("{name} is empty"))
}

fn optional(fields: &ByteRecord, at: usize, name: &str) -> Result<Option<String>, String> {
    let text = str::from_utf8(&fields[at]).map_err(|_| format!("{name} is not UTF-8"))?;
    Ok((!text.is_empty()).then(|| text.to_owned()))
}

fn number<N>(fields: &ByteRecord, at: usize, name: &str, least: N, most: N) -> Result<N, String>
where
    N: std::str::FromStr + PartialOrd + std::fmt::Display,
{
    match str::from_utf8(&fields[at]).ok().and_then(|text| text.parse().ok()) {
        Some(number) if least <= number && number <= most => Ok(number),
        _ => Err(format!("{name} is not a number from {least} to {most}")),
    }
}

/// FNV-1a of one row, 64 bits. Every field is preceded by its length, so that no two rows read alike.
#[derive(Debug)]
pub(crate) struct Checksum(u64);

impl Checksum {
    /// The sum over rows, in whatever order they come.
    pub(crate) fn of<'r, R: Record + 'r>(rows: impl IntoIterator<Item = &'r R>) -> u64 {
        rows.into_iter().fold(0, |total, row| total.wrapping_add(Self::of_row(row)))
    }

    /// The sum of one row.
    pub(crate) fn of_row(row: &impl Record) -> u64 {
        let mut sum = Self(0xcbf2_9ce4_8422_2325);
        row.digest(&mut sum);
        sum.0
    }

    fn number(&mut self, number: u64) {
        self.bytes(&number.to_le_bytes());
    }

    fn text(&mut self, text: &str) {
        self.number(text.len() as u64);
        self.bytes(text.as_bytes());
    }

    fn option(&mut self, text: Option<&str>) {
        match text {
            Some(text) => self.text(text),
            None => self.number(u64::MAX),
        }
    }

    fn bytes(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}
