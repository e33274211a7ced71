//! What the library says in the log.

use std::fmt::{Debug, Write};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

/// Collects the warnings of this library, for as long as the program runs.
pub(super) struct Warnings {
    lines: Mutex<Vec<String>>,
    /// When they were taken last.
    since: Mutex<Instant>,
}

impl Warnings {
    /// The collector; listens from the first call on.
    pub(super) fn heard() -> &'static Self {
        static HEARD: OnceLock<Warnings> = OnceLock::new();
        static LISTENING: OnceLock<()> = OnceLock::new();
        let heard = HEARD.get_or_init(|| Self { lines: Mutex::default(), since: Mutex::new(Instant::now()) });
        // Fails when a listener is there already: then nothing is heard, and the row that counts says so.
        LISTENING.get_or_init(|| tracing::subscriber::set_global_default(Listener(heard)).unwrap_or(()));
        heard
    }

    /// What was said since the last look, and how long ago that was.
    pub(super) fn take(&self) -> (Vec<String>, Duration) {
        let mut since = self.since.lock().unwrap_or_else(PoisonError::into_inner);
        let listened = std::mem::replace(&mut *since, Instant::now()).elapsed();
        (std::mem::take(&mut *self.lines.lock().unwrap_or_else(PoisonError::into_inner)), listened)
    }
}

struct Listener(&'static Warnings);

impl Subscriber for Listener {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= Level::WARN && metadata.target().starts_with("storehaus")
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut line = Line::default();
        event.record(&mut line);
        self.0.lines.lock().unwrap_or_else(PoisonError::into_inner).push(line.0);
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

#[derive(Default)]
struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        // Writing to a string does not fail.
        write!(self.0, "{}={value:?} ", field.name()).unwrap_or(());
    }
}
