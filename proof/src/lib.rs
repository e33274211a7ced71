//! What the programs that try to break the promises of StoreHaus share, and the programs themselves.

pub mod account;
pub mod model;
pub mod options;
pub mod outage;
pub mod proxy;
pub mod race;
pub mod report;
pub mod rng;
pub mod server;
pub mod subject;
