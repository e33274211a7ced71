//! Reads the files.

use std::collections::HashSet;
use std::fmt;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

use csv::{ByteRecord, ReaderBuilder};
use flate2::read::MultiGzDecoder;

use crate::model::{City, Record, Region1, Region2};

/// Everything there is to import.
pub(crate) struct Data {
    pub(crate) admin1: Table<Region1>,
    pub(crate) admin2: Table<Region2>,
    pub(crate) cities: Table<City>,
}

/// The rows of one file, and those that were not taken.
pub(crate) struct Table<R> {
    /// The table's name, which is the file's too.
    pub(crate) name: &'static str,
    pub(crate) file: PathBuf,
    /// The rows, each with its line.
    pub(crate) rows: Vec<(u64, R)>,
    pub(crate) bad: Vec<Bad>,
}

/// A row that was not taken, and why.
#[derive(Debug)]
pub(crate) struct Bad {
    file: PathBuf,
    line: u64,
    reason: String,
}

impl Bad {
    pub(crate) fn new(file: &Path, line: u64, reason: impl Into<String>) -> Self {
        Self { file: file.to_owned(), line, reason: reason.into() }
    }
}

impl fmt::Display for Bad {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file.display(), self.line, self.reason)
    }
}

impl Data {
    /// Reads the three files of a directory.
    pub(crate) fn read(dir: &Path) -> Result<Self, String> {
        Ok(Self {
            admin1: Table::read(dir, "admin1")?,
            admin2: Table::read(dir, "admin2")?,
            cities: Table::read(dir, "cities")?,
        })
    }
}

impl<R: Record> Table<R> {
    fn read(dir: &Path, name: &'static str) -> Result<Self, String> {
        let packed = dir.join(format!("{name}.csv.gz"));
        let plain = dir.join(format!("{name}.csv"));
        let (file, input): (_, Box<dyn Read>) = match File::open(&packed) {
            Ok(input) => (packed, Box::new(MultiGzDecoder::new(BufReader::new(input)))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let input =
                    File::open(&plain).map_err(|error| format!("cannot read {}[.gz]: {error}", plain.display()))?;
                (plain, Box::new(BufReader::new(input)))
            }
            Err(error) => return Err(format!("cannot read {}: {error}", packed.display())),
        };
        let mut table = Self { name, file, rows: Vec::new(), bad: Vec::new() };
        table.fill(input)?;
        Ok(table)
    }

    fn fill(&mut self, input: impl Read) -> Result<(), String> {
        let mut reader = ReaderBuilder::new().has_headers(false).flexible(true).from_reader(input);
        let mut fields = ByteRecord::new();
        let mut keys = HashSet::new();
        let mut is_header = true;
        while reader.read_byte_record(&mut fields).map_err(|error| self.unreadable(&error))? {
            let line = fields.position().map_or(0, csv::Position::line);
            if std::mem::take(&mut is_header) {
                if fields.iter().ne(R::HEADER.iter().map(|name| name.as_bytes())) {
                    return Err(format!("{}:{line}: the header is not {}", self.file.display(), R::HEADER.join(",")));
                }
                continue;
            }
            let row = if fields.len() == R::HEADER.len() {
                R::parse(&fields)
            } else {
                Err(format!("{} fields where {} are expected", fields.len(), R::HEADER.len()))
            };
            match row {
                Ok(row) if keys.insert(row.key()) => self.rows.push((line, row)),
                Ok(_) => self.bad.push(Bad::new(&self.file, line, "its key stands in an earlier line")),
                Err(reason) => self.bad.push(Bad::new(&self.file, line, reason)),
            }
        }
        if is_header {
            return Err(format!("{}: the file is empty", self.file.display()));
        }
        Ok(())
    }

    fn unreadable(&self, error: &csv::Error) -> String {
        match error.kind() {
            csv::ErrorKind::Io(error) => format!("cannot read {}: {error}", self.file.display()),
            _ => format!("cannot read {}: it is no CSV", self.file.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(text: &[u8]) -> Result<Table<City>, String> {
        let mut table = Table { name: "cities", file: "cities.csv".into(), rows: Vec::new(), bad: Vec::new() };
        table.fill(text)?;
        Ok(table)
    }

    #[test]
    fn bad_rows_are_named_by_line_and_skipped() {
        let text = b"id,name,country,admin1,admin2,lat,lng\n\
            1,Vila,AD,03,,42.5,1.5\n\
            x,Vila,AD,03,,42.5,1.5\n\
            2,\"Two\nlines\",AD,03,,91,1.5\n\
            3,N\xff,AD,03,,42.5,1.5\n\
            4,Vila,AD\n\
            1,Again,AD,03,,42.5,1.5\n\
            5,,AD,03,,42.5,1.5\n\
            6,Last,AD,,,-90,180\n";
        let table = table(text).unwrap();
        let bad: Vec<_> = table.bad.iter().map(ToString::to_string).collect();
        assert_eq!(
            bad,
            [
                "cities.csv:3: id is not a number from 1 to 9223372036854775807",
                "cities.csv:4: lat is not a number from -90 to 90",
                "cities.csv:6: name is not UTF-8",
                "cities.csv:7: 3 fields where 7 are expected",
                "cities.csv:8: its key stands in an earlier line",
                "cities.csv:9: name is empty",
            ]
        );
        let rows: Vec<_> = table.rows.iter().map(|(line, row)| (*line, row.id, row.admin1.as_deref())).collect();
        assert_eq!(rows, [(2, 1, Some("03")), (10, 6, None)]);
    }

    #[test]
    fn another_header_is_refused() {
        let problem = table(b"id,nom\n1,x\n").err().unwrap();
        assert_eq!(problem, "cities.csv:1: the header is not id,name,country,admin1,admin2,lat,lng");
        assert_eq!(table(b"").err().unwrap(), "cities.csv: the file is empty");
    }
}
