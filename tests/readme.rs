//! The program in the README is the example `quickstart`.

#[test]
fn the_readme_shows_the_quickstart() {
    let (_, program) = include_str!("../examples/quickstart.rs").split_once("\n\nuse ").unwrap();
    assert!(
        include_str!("../README.md").contains(&format!("```rust\nuse {program}```")),
        "copy examples/quickstart.rs into README.md"
    );
}
