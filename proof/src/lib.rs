//! What the programs that try to break the promises of StoreHaus share.

pub mod options;
pub mod proxy;
pub mod report;
