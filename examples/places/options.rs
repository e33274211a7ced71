//! The command line.

use std::path::PathBuf;
use std::time::Duration;

pub(crate) const USAGE: &str = "\
usage: places [--data DIR] [--database URL] [--redis URL] [--seconds N] [--tasks N] [--verify | --no-verify]

  --data DIR       a directory with cities, admin1 and admin2, each .csv.gz or .csv; default: the sample
  --database URL   sqlite://PATH or postgres://…; default: an SQLite file in a temporary directory
  --redis URL      keep the cache in Redis; default: in process
  --seconds N      how long to serve reads and updates; default: 5, with the sample 2
  --tasks N        how many tasks serve; default: 8
  --verify         compare the tables with the files after the import; this is the default
  --no-verify      do not";

/// What the program is asked to do.
#[derive(Debug)]
pub(crate) struct Options {
    pub(crate) data: Option<PathBuf>,
    pub(crate) database: Option<Database>,
    pub(crate) redis: Option<String>,
    pub(crate) serve: Duration,
    pub(crate) tasks: usize,
    pub(crate) verify: bool,
}

/// A database by its URL.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Database {
    Postgres(String),
    Sqlite(String),
}

/// What the arguments ask for, when they can be read.
#[derive(Debug)]
pub(crate) enum Asked {
    Help,
    Run(Options),
}

impl Options {
    /// Reads the arguments, the program's name not among them.
    pub(crate) fn parse(args: impl IntoIterator<Item = String>) -> Result<Asked, String> {
        let mut options =
            Self { data: None, database: None, redis: None, serve: Duration::ZERO, tasks: 8, verify: true };
        let mut seconds = None;
        let mut args = args.into_iter();
        while let Some(name) = args.next() {
            let mut value = || args.next().ok_or_else(|| format!("{name} needs a value"));
            match name.as_str() {
                "--data" => options.data = Some(value()?.into()),
                "--database" => options.database = Some(database(value()?)?),
                "--redis" => options.redis = Some(value()?),
                "--seconds" => seconds = Some(number(&name, &value()?, 0, 86_400)?),
                "--tasks" => options.tasks = number(&name, &value()?, 1, 1_024)? as usize,
                "--verify" => options.verify = true,
                "--no-verify" => options.verify = false,
                "--help" | "-h" => return Ok(Asked::Help),
                _ => return Err(format!("there is no option {name}")),
            }
        }
        let default = if options.data.is_some() { 5 } else { 2 };
        options.serve = Duration::from_secs(seconds.unwrap_or(default));
        Ok(Asked::Run(options))
    }
}

fn database(url: String) -> Result<Database, String> {
    if url.starts_with("postgres://") || url.starts_with("postgresql://") {
        Ok(Database::Postgres(url))
    } else if url.starts_with("sqlite:") {
        // Creates the file, unless the URL says how to open it.
        let is_plain = !url.contains(['?']) && !url.contains(":memory:");
        Ok(Database::Sqlite(if is_plain { format!("{url}?mode=rwc") } else { url }))
    } else {
        // The URL is not repeated: it may carry a password.
        Err("--database needs a URL that begins with sqlite:// or postgres://".to_owned())
    }
}

fn number(name: &str, text: &str, least: u64, most: u64) -> Result<u64, String> {
    match text.parse() {
        Ok(number) if (least..=most).contains(&number) => Ok(number),
        _ => Err(format!("{name} needs a whole number from {least} to {most}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Asked, String> {
        Options::parse(line.split_whitespace().map(str::to_owned))
    }

    fn options(line: &str) -> Options {
        match parse(line) {
            Ok(Asked::Run(options)) => options,
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn defaults_depend_on_the_data() {
        assert_eq!((options("").serve, options("").tasks, options("").verify), (Duration::from_secs(2), 8, true));
        assert_eq!(options("--data x").serve, Duration::from_secs(5));
        assert_eq!(options("--data x --seconds 0").serve, Duration::ZERO);
        assert!(!options("--no-verify").verify);
    }

    #[test]
    fn a_file_is_created_unless_the_url_says_otherwise() {
        let sqlite = |url: &str| Some(Database::Sqlite(url.to_owned()));
        assert_eq!(options("--database sqlite://a.db").database, sqlite("sqlite://a.db?mode=rwc"));
        assert_eq!(options("--database sqlite://a.db?mode=ro").database, sqlite("sqlite://a.db?mode=ro"));
        let postgres = Database::Postgres("postgres://h/d".to_owned());
        assert_eq!(options("--database postgres://h/d").database, Some(postgres));
    }

    #[test]
    fn wrong_arguments_are_named_and_urls_are_not() {
        for (line, problem) in [
            ("--nope", "there is no option --nope"),
            ("--data", "--data needs a value"),
            ("--tasks 0", "--tasks needs a whole number from 1 to 1024"),
            ("--seconds -1", "--seconds needs a whole number from 0 to 86400"),
            ("--database mysql://u:secret@h", "--database needs a URL that begins with sqlite:// or postgres://"),
        ] {
            assert_eq!(parse(line).unwrap_err(), problem);
        }
    }
}
