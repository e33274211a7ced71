//! What a program is told on its command line.

use std::time::Duration;

/// How a program runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// How long the load lasts.
    pub run_for: Duration,
    /// Where the random choices start; the same seed makes the same choices.
    pub seed: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self { run_for: Duration::from_secs(60), seed: 1 }
    }
}

impl Options {
    /// Reads `--seconds N` and `--seed N`, in any order.
    ///
    /// # Errors
    /// With a text for the user when an option is unknown or its value is no number.
    pub fn parse(args: &[String]) -> Result<Self, String> {
        let mut options = Self::default();
        let mut args = args.iter();
        while let Some(name) = args.next() {
            let mut number = || {
                let value = args.next().ok_or_else(|| format!("{name} needs a number"))?;
                value.parse::<u64>().map_err(|_| format!("{name} needs a number, not `{value}`"))
            };
            match name.as_str() {
                "--seconds" => options.run_for = Duration::from_secs(number()?),
                "--seed" => options.seed = number()?,
                _ => return Err(format!("there is no option `{name}`")),
            }
        }
        Ok(options)
    }
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
        assert_eq!((read.seed, read.run_for), (7, Duration::from_secs(5)));
    }

    #[test]
    fn wrong_options_are_named() {
        assert_eq!(parse("--sed 7").unwrap_err(), "there is no option `--sed`");
        assert_eq!(parse("--seed").unwrap_err(), "--seed needs a number");
        assert_eq!(parse("--seed x").unwrap_err(), "--seed needs a number, not `x`");
    }
}
