//! Counts the statements a world sends: sqlx emits one event per executed statement.
//!
//! Every thread of a world carries the world's name: those of its runtime, where Postgres statements are logged, and
//! those of its SQLite connections. So worlds that run at the same time are told apart.

use std::collections::HashMap;
use std::sync::{Mutex, Once, PoisonError};

use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

/// The start of the name of every world.
pub(crate) const WORLD: &str = "world-";

static SEEN: Mutex<Option<HashMap<String, Vec<String>>>> = Mutex::new(None);

/// Begins to count, once per process.
pub(crate) fn watch() {
    static START: Once = Once::new();
    START.call_once(|| {
        tracing::subscriber::set_global_default(Statements).expect("nobody else subscribes");
        // A test without a world that came to a statement meanwhile has turned it off for all.
        tracing::callsite::rebuild_interest_cache();
    });
}

/// Forgets what a world sent, and says what it was.
pub(crate) fn take(world: &str) -> Vec<String> {
    SEEN.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_default().remove(world).unwrap_or_default()
}

struct Statements;

impl Subscriber for Statements {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == "sqlx::query"
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(LevelFilter::TRACE)
    }

    fn new_span(&self, _span: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _span: &Id, _values: &Record<'_>) {}

    fn record_follows_from(&self, _span: &Id, _follows: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let thread = std::thread::current();
        let Some(world) = thread.name().filter(|name| name.starts_with(WORLD)) else { return };
        let mut text = Text::default();
        event.record(&mut text);
        let statement = if text.statement.trim().is_empty() { text.summary } else { text.statement };
        // What a new connection of SQLite begins with.
        if statement.trim_start().starts_with("PRAGMA") {
            return;
        }
        let mut seen = SEEN.lock().unwrap_or_else(PoisonError::into_inner);
        seen.get_or_insert_default().entry(world.to_owned()).or_default().push(statement.trim().to_owned());
    }

    fn enter(&self, _span: &Id) {}

    fn exit(&self, _span: &Id) {}
}

#[derive(Default)]
struct Text {
    summary: String,
    statement: String,
}

impl Visit for Text {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "summary" => value.clone_into(&mut self.summary),
            "db.statement" => value.clone_into(&mut self.statement),
            _ => {}
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        match field.name() {
            "summary" => self.summary = format!("{value:?}"),
            "db.statement" => self.statement = format!("{value:?}"),
            _ => {}
        }
    }
}
