//! tests/standalone
