//! A progress bar on standard error.

use std::io::{self, IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

use crate::thousands;

const WIDTH: usize = 30;

/// How far an import has come: a bar at a terminal, else a line per tenth.
pub(crate) struct Progress {
    name: &'static str,
    total: usize,
    done: usize,
    start: Instant,
    /// When the bar was drawn last, or how many tenths were told.
    drawn: Option<Instant>,
    tenths: usize,
    at_terminal: bool,
}

impl Progress {
    pub(crate) fn new(name: &'static str, total: usize) -> Self {
        let at_terminal = io::stderr().is_terminal();
        Self { name, total, done: 0, start: Instant::now(), drawn: None, tenths: 0, at_terminal }
    }

    /// Counts rows that are done.
    pub(crate) fn add(&mut self, rows: usize) {
        self.done += rows;
        if self.at_terminal {
            let is_due = self.drawn.is_none_or(|drawn| drawn.elapsed() > Duration::from_millis(50));
            if is_due || self.done == self.total {
                self.drawn = Some(Instant::now());
                let filled = self.share(WIDTH);
                self.write(&format!(
                    "\r{:>7} [{}{}] {}",
                    self.name,
                    "#".repeat(filled),
                    " ".repeat(WIDTH - filled),
                    self
                ));
            }
        } else if self.share(10) > self.tenths {
            self.tenths = self.share(10);
            self.write(&format!("{:>7} {self}\n", self.name));
        }
    }

    /// Ends the line; how long it all took.
    pub(crate) fn finish(self) -> Duration {
        let took = self.start.elapsed();
        if self.at_terminal {
            self.write("\n");
        }
        took
    }

    /// How many of `parts` equal parts are done.
    fn share(&self, parts: usize) -> usize {
        (self.done * parts).checked_div(self.total).unwrap_or(parts)
    }

    fn write(&self, text: &str) {
        // Nobody is there to be told that standard error is closed.
        let _ = io::stderr().write_all(text.as_bytes());
    }
}

impl std::fmt::Display for Progress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:>3} %  {} of {} rows", self.share(100), thousands(self.done as u64), thousands(self.total as u64))
    }
}
