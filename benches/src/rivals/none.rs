//! Nobody.

use std::sync::Arc;

use crate::harness::{Contestant, Failure};
use crate::world::World;

pub(crate) async fn readers(_: &Arc<World>, tasks: &[usize]) -> Result<Vec<Vec<Contestant>>, Failure> {
    Ok(nobody(tasks))
}

pub(crate) async fn redis(_: &Arc<World>, tasks: &[usize]) -> Result<Vec<Vec<Contestant>>, Failure> {
    Ok(nobody(tasks))
}

pub(crate) async fn local(_: &Arc<World>, tasks: &[usize]) -> Result<Vec<Vec<Contestant>>, Failure> {
    Ok(nobody(tasks))
}

fn nobody(tasks: &[usize]) -> Vec<Vec<Contestant>> {
    tasks.iter().map(|_| Vec::new()).collect()
}
