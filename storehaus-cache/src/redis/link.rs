//! One multiplexed connection.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use redis::aio::MultiplexedConnection;
use redis::{Cmd, Pipeline, RedisError};
use tokio::time::Instant;

use crate::l2::{Incarnation, L2Error};

use super::error;
use super::resp::{Commands, Measure, Value};
use super::wire::{Asked, Cut, Wire};

/// A handle on a connection; clones share it.
#[derive(Clone)]
pub(super) struct Link {
    inner: Arc<Inner>,
}

struct Inner {
    transport: Transport,
    incarnation: Incarnation,
    /// Set once nobody should use the connection any more. Shared by all clones, so that the pool sees it too.
    broken: AtomicBool,
}

/// What carries the commands.
pub(super) enum Transport {
    /// TCP.
    Wire(Wire),
    /// What only the client library speaks: TLS, and the sockets of the machine.
    Client(MultiplexedConnection),
}

/// Why a command has no answer.
pub(super) struct Fault {
    pub(super) error: L2Error,
    /// The connection was closed under the command.
    pub(super) dropped: bool,
}

impl Link {
    pub(super) fn new(transport: Transport, incarnation: Incarnation) -> Self {
        Self { inner: Arc::new(Inner { transport, incarnation, broken: AtomicBool::new(false) }) }
    }

    /// The server behind the connection.
    pub(super) fn incarnation(&self) -> Incarnation {
        self.inner.incarnation
    }

    pub(super) fn is_broken(&self) -> bool {
        self.inner.broken.load(Ordering::Acquire)
            || matches!(&self.inner.transport, Transport::Wire(wire) if wire.has_ended())
    }

    pub(super) fn mark_broken(&self) {
        self.inner.broken.store(true, Ordering::Release);
    }

    /// Whether a further command had better go elsewhere.
    pub(super) fn is_busy(&self) -> bool {
        match &self.inner.transport {
            Transport::Wire(wire) => wire.in_flight() >= BUSY,
            // It does not say.
            Transport::Client(_) => true,
        }
    }

    /// Sends one command that changes nothing, if the connection sees to it that it is answered, or given up, by the
    /// deadline.
    pub(super) fn read(
        &self,
        deadline: Instant,
        encode: impl FnOnce(&mut Vec<u8>),
    ) -> Option<Result<Asked<Value>, Cut>> {
        match &self.inner.transport {
            Transport::Wire(wire) if wire.is_here() => Some(wire.read(deadline, encode)),
            _ => None,
        }
    }

    /// Sends one command.
    pub(super) async fn command(&self, encode: impl FnOnce(&mut Vec<u8>) + Send) -> Result<Value, Fault> {
        let answer = self.inner.transport.command(encode).await.map_err(|fault| self.note(fault))?;
        judge(answer).map_err(|error| Fault { error, dropped: false })
    }

    /// Sends several commands in one round trip.
    pub(super) async fn pipeline(&self, commands: &Commands) -> Result<Vec<Result<Value, L2Error>>, Fault> {
        let answers = self.inner.transport.pipeline(commands).await.map_err(|fault| self.note(fault))?;
        if answers.len() != commands.count {
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

    fn note(&self, (fault, breaks): (Fault, bool)) -> Fault {
        if breaks {
            self.mark_broken();
        }
        fault
    }
}

impl Transport {
    /// Sends one command. A fault says whether the connection must not be used again.
    async fn command(&self, encode: impl FnOnce(&mut Vec<u8>) + Send) -> Result<Value, (Fault, bool)> {
        match self {
            Self::Wire(wire) => wire.ask(encode).map_err(of_cut)?.await.map_err(of_cut),
            Self::Client(connection) => {
                let mut bytes = Vec::new();
                encode(&mut bytes);
                let command = commands(&bytes).into_iter().next().unwrap_or_default();
                let answer = connection.clone().send_packed_command(&command).await;
                answer.map(value).map_err(|error| of_client(&error))
            }
        }
    }

    /// Sends several commands in one round trip, as [`command`](Self::command).
    pub(super) async fn pipeline(&self, all: &Commands) -> Result<Vec<Value>, (Fault, bool)> {
        match self {
            Self::Wire(wire) => wire.ask_many(all).map_err(of_cut)?.await.map_err(of_cut),
            Self::Client(connection) => {
                let mut pipeline = Pipeline::with_capacity(all.count);
                for command in commands(&all.bytes) {
                    pipeline.add_command(command);
                }
                let answers = connection.clone().send_packed_commands(&pipeline, 0, all.count).await;
                Ok(answers.map_err(|error| of_client(&error))?.into_iter().map(value).collect())
            }
        }
    }
}

/// From so many commands in flight on, two connections carry more than one. Below, one system call carries more commands.
const BUSY: usize = 64;

/// An answer of the server, or the error that it is.
pub(super) fn judge(answer: Value) -> Result<Value, L2Error> {
    match answer {
        Value::Error(text) => Err(error::of_server(&text)),
        answer => Ok(answer),
    }
}

/// What a command without an answer means.
pub(super) fn of_cut(cut: Cut) -> (Fault, bool) {
    let (text, dropped, breaks) = match cut {
        Cut::Closed(why) => (why, true, true),
        Cut::Full => ("too many commands wait for their answers".to_owned(), false, false),
        Cut::Malformed => ("the answer could not be read".to_owned(), false, true),
        Cut::TimedOut => ("no answer in time".to_owned(), false, false),
    };
    (Fault { error: L2Error::Connection(text), dropped }, breaks)
}

fn of_client(error: &RedisError) -> (Fault, bool) {
    let fault = Fault { error: error::classify(error), dropped: error.is_connection_dropped() };
    (fault, error::breaks(error))
}

/// Commands as the client library has them.
fn commands(mut bytes: &[u8]) -> Vec<Cmd> {
    let mut commands = Vec::new();
    while let Ok(Some((Value::Array(parts), length))) = Measure::default().parse(bytes) {
        let mut command = Cmd::new();
        for part in parts {
            if let Value::Bulk(part) = part {
                command.arg(&part[..]);
            }
        }
        commands.push(command);
        bytes = &bytes[length..];
    }
    commands
}

/// An answer as the client library has it. What RESP2 does not have becomes text, which no command expects.
fn value(answer: redis::Value) -> Value {
    use redis::Value as Answer;
    match answer {
        Answer::Nil => Value::Nil,
        Answer::Int(n) => Value::Int(n),
        Answer::BulkString(bytes) => Value::Bulk(bytes.into()),
        Answer::VerbatimString { text, .. } => Value::Bulk(text.into_bytes().into()),
        Answer::Array(items) => Value::Array(items.into_iter().map(value).collect()),
        Answer::Okay => Value::Text("OK".to_owned()),
        Answer::SimpleString(text) => Value::Text(text),
        Answer::ServerError(error) => Value::Error(format!("{} {}", error.code(), error.details().unwrap_or_default())),
        _ => Value::Text(String::new()),
    }
}
