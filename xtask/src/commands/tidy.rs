//! `tidy`: everything that is not a test.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::check_feature_sets;
use crate::run::{Failure, Outcome, cargo, root, step, tool};

/// The cargo-deny that is installed when there is none.
const CARGO_DENY: &str = "0.20.2";

/// What cargo-deny says when it cannot have the advisory database, as against a finding in it.
const NO_DATABASE: &str = "failed to fetch advisory database";

/// Runs every check, also after one has failed, and names those that failed.
pub(crate) fn run(args: &[String]) -> Outcome {
    if !args.is_empty() {
        return Err(Failure::Usage(format!("cannot read `{}`", args.join(" "))));
    }
    let clippy = ["clippy", "--quiet", "--workspace", "--all-targets", "--", "-D", "warnings"];
    let mut docs = cargo(["doc", "--quiet", "--no-deps", "--workspace"]);
    let outcomes = [
        step("rustfmt", &mut cargo(["fmt", "--all", "--check"])),
        step("rustfmt of fuzz", &mut cargo(["fmt", "--manifest-path", "fuzz/Cargo.toml", "--check"])),
        source_rules(),
        check_feature_sets(),
        step("clippy", &mut cargo(clippy)),
        step("docs", docs.env("RUSTDOCFLAGS", "-D warnings")),
        dependencies(),
    ];
    conclude(outcomes)
}

fn conclude(outcomes: impl IntoIterator<Item = Outcome>) -> Outcome {
    let texts = outcomes.into_iter().filter_map(Result::err).map(|failure| match failure {
        Failure::Failed(text) | Failure::Usage(text) => text,
        Failure::Status(code) => format!("a check ended with status {code}"),
    });
    let failed: Vec<_> = texts.collect();
    if failed.is_empty() { Ok(()) } else { Err(Failure::new(failed.join("; "))) }
}

/// Licences, bans and sources always; advisories when their database can be reached.
fn dependencies() -> Outcome {
    let deny = tool("cargo-deny", CARGO_DENY)?;
    let check = |what: &[&str]| {
        let mut command = Command::new(&deny);
        command
            .args(["--workspace", "--all-features", "check", "--hide-inclusion-graph"])
            .args(what)
            .current_dir(root());
        command
    };
    step("cargo-deny: bans, licenses, sources", &mut check(&["bans", "licenses", "sources"]))?;
    let advisories =
        check(&["advisories"]).output().map_err(|error| Failure::new(format!("cannot run cargo-deny: {error}")))?;
    let text = String::from_utf8_lossy(&advisories.stderr);
    if advisories.status.success() {
        println!("==> cargo-deny: advisories: ok");
    } else if text.contains(NO_DATABASE) {
        println!("==> cargo-deny: advisories NOT CHECKED: the advisory database cannot be reached from this machine");
    } else {
        eprintln!("{text}");
        return Err(Failure::new("cargo-deny: advisories failed"));
    }
    Ok(())
}

/// A word that product code may hold in some places only.
struct Rule {
    word: &'static str,
    allowed_in: &'static [&'static str],
    reason: &'static str,
}

const RULES: [Rule; 2] = [
    Rule {
        word: "AssertSqlSafe",
        allowed_in: &["storehaus-core/src/sql_text.rs"],
        reason: "SQL text is vouched for in one place; call the function there",
    },
    Rule {
        word: "bincode::",
        allowed_in: &["storehaus-cache/src/codec/mod.rs"],
        reason: "the codec is replaceable because one module names it",
    },
];

/// No product file is longer than this, its tests and docs not counted.
const MAX_LINES: usize = 500;

/// Checks what no lint checks.
fn source_rules() -> Outcome {
    let root = root();
    let mut files = Vec::new();
    for dir in [
        "src",
        "storehaus-cache/src",
        "storehaus-core/src",
        "storehaus-derive/src",
        "proof/src",
        "benches/src",
        "xtask/src",
    ] {
        rust_files(&root.join(dir), &mut files);
    }
    let mut broken = Vec::new();
    for file in &files {
        let name = file.strip_prefix(&root).unwrap_or(file).to_string_lossy().into_owned();
        let text = fs::read_to_string(file).map_err(|error| Failure::new(format!("cannot read {name}: {error}")))?;
        broken.extend(complaints(&name, &text));
    }
    for complaint in &broken {
        eprintln!("{complaint}");
    }
    if broken.is_empty() { Ok(()) } else { Err(Failure::new("rules of the source are broken")) }
}

fn rust_files(dir: &Path, files: &mut Vec<PathBuf>) {
    for path in fs::read_dir(dir).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path())) {
        if path.is_dir() {
            rust_files(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

fn complaints(name: &str, text: &str) -> Vec<String> {
    // The rules name the words themselves.
    if name == "xtask/src/commands/tidy.rs" {
        return Vec::new();
    }
    let lines: Vec<_> = text.lines().collect();
    let tests = lines.windows(2).position(|pair| pair[0] == "#[cfg(test)]" && pair[1] == "mod tests {");
    let code: Vec<_> = lines[..tests.unwrap_or(lines.len())]
        .iter()
        .enumerate()
        .filter(|(_, line)| !line.trim_start().starts_with("//"))
        .collect();
    let mut found = Vec::new();
    if code.len() > MAX_LINES {
        found.push(format!("{name}: {} lines of code, {MAX_LINES} at most; split it by operation", code.len()));
    }
    for rule in RULES.iter().filter(|rule| !rule.allowed_in.contains(&name)) {
        for (at, _) in code.iter().filter(|(_, line)| line.contains(rule.word)) {
            found.push(format!("{name}:{}: {} is not allowed here: {}", at + 1, rule.word, rule.reason));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_banned_word_is_named_with_its_line() {
        let text = "//! AssertSqlSafe\nuse sqlx::AssertSqlSafe;\n";
        let found = complaints("storehaus-core/src/store.rs", text);
        assert_eq!(found.len(), 1);
        assert!(found[0].starts_with("storehaus-core/src/store.rs:2: AssertSqlSafe"), "{found:?}");
        assert!(complaints("storehaus-core/src/sql_text.rs", text).is_empty());
    }

    #[test]
    fn one_failed_check_fails_all_and_each_is_named() {
        assert!(conclude([Ok(()), Ok(())]).is_ok());
        let failure = conclude([Ok(()), Err(Failure::new("docs failed")), Err(Failure::Status(3)), Ok(())]);
        let Err(Failure::Failed(text)) = failure else { panic!("{failure:?}") };
        assert_eq!(text, "docs failed; a check ended with status 3");
    }

    #[test]
    fn tests_are_free() {
        assert!(complaints("src/a.rs", "#[cfg(test)]\nmod tests {\n    use sqlx::AssertSqlSafe;\n}\n").is_empty());
        assert_eq!(complaints("src/a.rs", "#[cfg(test)]\nuse a::b;\nuse sqlx::AssertSqlSafe;\n").len(), 1);
    }

    #[test]
    fn long_files_are_named() {
        let found = complaints("src/a.rs", &"fn a() {}\n".repeat(MAX_LINES + 1));
        assert!(found[0].contains("501 lines"), "{found:?}");
        assert!(complaints("src/a.rs", &"/// doc\n".repeat(MAX_LINES + 1)).is_empty());
    }
}
