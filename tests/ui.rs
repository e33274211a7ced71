//! Every message of the derives, as rustc prints it, and inputs that must compile.
//!
//! `TRYBUILD=overwrite cargo test --test ui` writes the expected messages anew.

#[test]
fn messages() {
    let cases = trybuild::TestCases::new();
    cases.pass("tests/ui/pass/*.rs");
    cases.compile_fail("tests/ui/*.rs");
}
