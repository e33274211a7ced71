//! What the programs that try to break the promises of StoreHaus share, and the programs themselves.

pub mod account;
pub mod explore;
pub mod faults;
pub mod history;
pub mod kill;
pub mod model;
pub mod options;
pub mod outage;
mod parallel;
pub mod postgres;
pub mod proxy;
pub mod race;
pub mod report;
pub mod rng;
pub mod server;
pub mod subject;
