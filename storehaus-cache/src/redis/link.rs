//! One multiplexed connection.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use redis::aio::MultiplexedConnection;
use redis::{Cmd, Pipeline, RedisError, Value};

use crate::l2::{Incarnation, L2Error};

use super::error;

/// A handle on a connection; clones share it.
#[derive(Clone)]
pub(super) struct Link {
    connection: MultiplexedConnection,
    incarnation: Incarnation,
    /// Set once nobody should use the connection any more. Shared by all clones, so that the pool sees it too.
    broken: Arc<AtomicBool>,
}

/// Why a command has no answer.
pub(super) struct Fault {
    pub(super) error: L2Error,
    /// The connection was closed under the command.
    pub(super) dropped: bool,
}

impl Link {
    pub(super) fn new(connection: MultiplexedConnection, incarnation: Incarnation) -> Self {
        Self { connection, incarnation, broken: Arc::new(AtomicBool::new(false)) }
    }

    /// The server behind the connection.
    pub(super) fn incarnation(&self) -> Incarnation {
        self.incarnation
    }

    pub(super) fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Acquire)
    }

    pub(super) fn mark_broken(&self) {
        self.broken.store(true, Ordering::Release);
    }

    /// Sends one command.
    pub(super) async fn command(&mut self, command: &Cmd) -> Result<Value, Fault> {
        let answer = self.connection.send_packed_command(command).await.map_err(|error| self.fault(&error))?;
        judge(answer).map_err(|error| Fault { error, dropped: false })
    }

    /// Sends several commands in one round trip.
    pub(super) async fn pipeline(&mut self, pipeline: &Pipeline) -> Result<Vec<Result<Value, L2Error>>, Fault> {
        let sent = self.connection.send_packed_commands(pipeline, 0, pipeline.len()).await;
        let answers = sent.map_err(|error| self.fault(&error))?;
        if answers.len() != pipeline.len() {
            self.mark_broken();
            return Err(Fault { error: error::unexpected(), dropped: false });
        }
        Ok(answers.into_iter().map(judge).collect())
    }

    /// Gives the connection up if its answers no longer fit the commands.
    pub(super) fn trust<T>(&self, decoded: Result<T, L2Error>) -> Result<T, L2Error> {
        if let Err(L2Error::Connection(_)) = decoded {
            self.mark_broken();
        }
        decoded
    }

    fn fault(&self, error: &RedisError) -> Fault {
        if error::breaks(error) {
            self.mark_broken();
        }
        Fault { error: error::classify(error), dropped: error.is_connection_dropped() }
    }
}

fn judge(answer: Value) -> Result<Value, L2Error> {
    match answer {
        Value::ServerError(refusal) => Err(error::of_server(&refusal)),
        answer => Ok(answer),
    }
}
