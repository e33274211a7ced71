//! What a program found: a table for people and a file for machines.

use std::fmt::Display;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::{fs, io};

use serde_json::json;

/// The findings of one program, each with the figure that was promised.
#[derive(Clone, Debug)]
pub struct Report {
    name: String,
    rows: Vec<Row>,
}

#[derive(Clone, Debug)]
struct Row {
    label: String,
    figure: String,
    target: String,
    ok: bool,
}

impl Report {
    /// An empty report; its file is `NAME.json`.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), rows: Vec::new() }
    }

    /// Adds a finding: what was measured, what came out, what was promised, and whether the promise was kept.
    pub fn row(&mut self, label: impl Display, figure: impl Display, target: impl Display, ok: bool) -> &mut Self {
        let (label, figure, target) = (label.to_string(), figure.to_string(), target.to_string());
        self.rows.push(Row { label, figure, target, ok });
        self
    }

    /// Whether every promise was kept. A report without a finding proves nothing and is not ok.
    pub fn ok(&self) -> bool {
        !self.rows.is_empty() && self.rows.iter().all(|row| row.ok)
    }

    /// The aligned table.
    pub fn table(&self) -> String {
        let header = Row { label: self.name.clone(), figure: "measured".into(), target: "target".into(), ok: true };
        let all = || std::iter::once(&header).chain(&self.rows);
        let width = |cell: fn(&Row) -> &str| all().map(|row| cell(row).chars().count()).max().unwrap_or(0);
        let (label, figure, target) = (width(|row| &row.label), width(|row| &row.figure), width(|row| &row.target));
        let mut out = String::new();
        for (at, row) in all().enumerate() {
            let verdict = match (at, row.ok) {
                (0, _) => "",
                (_, true) => "ok",
                (_, false) => "FAILED",
            };
            let line = format!("{:label$}  {:>figure$}  {:>target$}  {verdict}", row.label, row.figure, row.target);
            out.push_str(line.trim_end());
            out.push('\n');
        }
        out
    }

    /// Prints the table and writes `target/xtask/NAME.json` of the workspace; the path of the file.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn finish(&self) -> io::Result<PathBuf> {
        io::stdout().write_all(self.table().as_bytes())?;
        self.write(&output_dir())
    }

    /// Writes `NAME.json` in `dir`; whoever reads meanwhile sees the whole file or none.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write(&self, dir: &Path) -> io::Result<PathBuf> {
        let rows: Vec<_> = self
            .rows
            .iter()
            .map(|row| json!({"label": row.label, "figure": row.figure, "target": row.target, "ok": row.ok}))
            .collect();
        let text = serde_json::to_string_pretty(&json!({"name": self.name, "ok": self.ok(), "rows": rows}))?;
        fs::create_dir_all(dir)?;
        let path = dir.join(format!("{}.json", self.name));
        let draft = dir.join(format!("{}.json.draft", self.name));
        fs::write(&draft, text + "\n")?;
        fs::rename(&draft, &path)?;
        Ok(path)
    }
}

/// Where reports and what belongs to them are written: `target/xtask` of the workspace.
pub fn output_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/xtask")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let mut report = Report::new("race");
        report.row("stale reads", 0, 0, true).row("reads", 12_345, "> 0", true);
        report
    }

    #[test]
    fn the_table_is_aligned() {
        let expected = "race         measured  target\n\
                        stale reads         0       0  ok\n\
                        reads           12345     > 0  ok\n";
        assert_eq!(report().table(), expected);
    }

    #[test]
    fn one_broken_promise_fails_the_report() {
        assert!(report().ok());
        assert!(!report().row("p99", "9 ms", "<= 5 ms", false).ok());
        assert!(!Report::new("empty").ok());
    }

    #[test]
    fn the_file_says_ok_at_its_top() {
        let dir = std::env::temp_dir().join(format!("storehaus-report-{}", std::process::id()));
        let path = report().write(&dir).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        fs::remove_dir_all(&dir).unwrap();
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!((&value["name"], &value["ok"]), (&json!("race"), &json!(true)));
        assert_eq!(value["rows"][1], json!({"label": "reads", "figure": "12345", "target": "> 0", "ok": true}));
        // The line by which `cargo xtask` recognises success.
        assert!(text.lines().any(|line| line == "  \"ok\": true,"), "{text}");
    }
}
