//! What a program is told on its command line.

use std::time::Duration;

/// How a program runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// How long the load lasts, if that was told.
    pub run_for: Option<Duration>,
    /// Where the random choices start; the same seed makes the same choices.
    pub seed: u64,
    /// The schedule to repeat, instead of a search.
    pub replay: Option<String>,
    /// The parts to run, by name; all of them when empty.
    pub only: Vec<String>,
    /// How many seeds are run in turn.
    pub seeds: u64,
    /// How often a process is killed.
    pub kills: u64,
    /// The only variant to run.
    pub variant: Option<String>,
    /// The bug that is built in and must be found, or `all`.
    pub broken: Option<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            run_for: None,
            seed: 1,
            replay: None,
            only: Vec::new(),
            seeds: 1,
            kills: 200,
            variant: None,
            broken: None,
        }
    }
}

impl Options {
    /// How long the load lasts in a program that has no time of its own for it: a minute, unless told.
    pub(crate) fn lasts(&self) -> Duration {
        self.run_for.unwrap_or(Duration::from_secs(60))
    }

    /// Reads options and their values, in any order.
    ///
    /// # Errors
    /// With a text for the user when an option is unknown or its value is missing or no number.
    pub fn parse(args: &[String]) -> Result<Self, String> {
        let mut options = Self::default();
        let mut args = args.iter();
        while let Some(name) = args.next() {
            let mut value = |what: &str| args.next().ok_or_else(|| format!("{name} needs {what}"));
            match name.as_str() {
                "--broken" => options.broken = Some(value("a value")?.clone()),
                "--kills" => options.kills = number(name, value("a number")?)?,
                "--minutes" => options.run_for = Some(Duration::from_secs(60 * number(name, value("a number")?)?)),
                "--only" => options.only.extend(value("names")?.split(',').map(str::to_owned)),
                "--replay" => options.replay = Some(value("a text")?.clone()),
                "--seconds" => options.run_for = Some(Duration::from_secs(number(name, value("a number")?)?)),
                "--seed" => options.seed = number(name, value("a number")?)?,
                "--seeds" => options.seeds = number(name, value("a number")?)?,
                "--variant" => options.variant = Some(value("a value")?.clone()),
                _ => return Err(format!("there is no option `{name}`")),
            }
        }
        Ok(options)
    }
}

fn number(name: &str, value: &str) -> Result<u64, String> {
    value.parse().map_err(|_| format!("{name} needs a number, not `{value}`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Options, String> {
        Options::parse(&text.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn options_are_read() {
        assert_eq!(parse("").unwrap(), Options::default());
        let read = parse("--seed 7 --seconds 5").unwrap();
        assert_eq!((read.seed, read.run_for), (7, Some(Duration::from_secs(5))));
        assert_eq!(parse("--replay hit:0").unwrap().replay.as_deref(), Some("hit:0"));
        assert_eq!(parse("--only a,b --seed 2 --only c").unwrap().only, ["a", "b", "c"]);
        let read = parse("--minutes 2 --broken all --kills 9").unwrap();
        assert_eq!(
            (read.run_for, read.broken.as_deref(), read.kills),
            (Some(Duration::from_secs(120)), Some("all"), 9)
        );
    }

    #[test]
    fn wrong_options_are_named() {
        assert_eq!(parse("--sed 7").unwrap_err(), "there is no option `--sed`");
        assert_eq!(parse("--seed").unwrap_err(), "--seed needs a number");
        assert_eq!(parse("--replay").unwrap_err(), "--replay needs a text");
        assert_eq!(parse("--only").unwrap_err(), "--only needs names");
        assert_eq!(parse("--seed x").unwrap_err(), "--seed needs a number, not `x`");
        assert_eq!(parse("--seed 1 --broken").unwrap_err(), "--broken needs a value");
    }
}
