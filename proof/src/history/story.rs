//! What is kept of a run in which a promise was broken.

use std::fmt::Write as _;
use std::fs;
use std::io::{self, Write as _};
use std::path::PathBuf;

use super::Run;
use super::check::Violation;
use crate::report::output_dir;

/// Writes the violations, the faults, and what happened to the first of the keys around its violation; prints the
/// beginning and where the rest is.
///
/// # Errors
/// When it cannot be written.
pub fn write(run: &Run) -> io::Result<PathBuf> {
    let name = format!("history-{}-{}.txt", run.variant.name(), run.seed);
    let path = output_dir().join(name);
    fs::create_dir_all(output_dir())?;
    fs::write(&path, text(run))?;
    let mut out = io::stderr();
    for violation in run.verdict.violations.iter().take(SHOWN) {
        writeln!(out, "{violation}")?;
    }
    writeln!(
        out,
        "{} violations; they, the faults and the key's story: {}",
        run.verdict.violations.len(),
        path.display()
    )?;
    Ok(path)
}

fn text(run: &Run) -> String {
    let mut out = format!("variant {}, seed {}\n\nviolations\n", run.variant.name(), run.seed);
    for violation in run.verdict.violations.iter().take(KEPT) {
        line(&mut out, format_args!("{violation}"));
    }
    line(&mut out, format_args!("\nfaults, from the end of the first calm"));
    for step in &run.script {
        line(&mut out, format_args!("{step}"));
    }
    for violation in run.verdict.violations.iter().take(TOLD) {
        tell(&mut out, run, violation);
    }
    out
}

/// The operations on the key of a violation, in the order in which they began.
fn tell(out: &mut String, run: &Run, violation: &Violation) {
    let key = violation.key;
    line(out, format_args!("\nkey {key}: {violation}"));
    let mut lines = Vec::new();
    for write in run.history.writes.iter().filter(|write| write.writes.contains(&key) || write.deletes.contains(&key)) {
        let made = run.ground.get(&key).and_then(|all| all.iter().rev().find(|made| made.writer == Some(write.op)));
        let made = made.map_or_else(|| "-".to_owned(), |made| made.ver.to_string());
        let (call, outcome, process) = (write.call, write.outcome, write.process());
        lines.push((
            write.begin,
            write.end,
            format!("{process} {call:?} {:#x}: {outcome:?}, version {made}", write.op),
        ));
    }
    for read in &run.history.reads {
        for seen in read.seen.iter().filter(|seen| seen.key == key) {
            let ver = seen.ver.map_or_else(|| "none".to_owned(), |ver| ver.to_string());
            let (call, process, task) = (read.call, read.process, read.task);
            lines.push((read.at, read.end, format!("{process} task {task} {call:?}: {ver}")));
        }
    }
    lines.sort_unstable();
    let first = lines.first().map_or(0, |(at, ..)| *at);
    for (at, end, what) in lines {
        let ms = |time: u64| time.saturating_sub(first) as f64 / 1e6;
        line(out, format_args!("{:>12.3} to {:>12.3} ms [{at} {end}] {what}", ms(at), ms(end)));
    }
}

fn line(out: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a string does not fail.
    writeln!(out, "{text}").ok();
}

/// Violations that are printed, that are written down, and whose keys' stories are told.
const SHOWN: usize = 10;
const KEPT: usize = 1_000;
const TOLD: usize = 3;
