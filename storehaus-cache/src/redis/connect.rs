//! Opening a connection: greeting, incarnation, scripts.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bb8_redis::bb8;
use redis::io::tcp::TcpSettings;
use redis::{AsyncConnectionConfig, Client, IntoConnectionInfo, Pipeline, Value};
use xxhash_rust::xxh3::xxh3_64;

use crate::l2::{Incarnation, L2Error};

use super::error::{classify, of_server, unexpected};
use super::link::Link;
use super::script;

/// Opens connections for the pool.
pub(super) struct Manager {
    client: Client,
    timeout: Duration,
    /// Whether it was said that the server does not tell its incarnation.
    warned: AtomicBool,
}

impl Manager {
    pub(super) fn new(url: &str, timeout: Duration) -> Result<Self, String> {
        let info = url.into_connection_info().map_err(|error| invalid_url(&error))?;
        let info = info.set_tcp_settings(TcpSettings::default().set_nodelay(true));
        let client = Client::open(info).map_err(|error| invalid_url(&error))?;
        Ok(Self { client, timeout, warned: AtomicBool::new(false) })
    }

    async fn open(&self) -> Result<Link, L2Error> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(None)
            .set_response_timeout(None)
            .set_pipeline_buffer_size(PIPELINE_BUFFER);
        let connection = self.client.get_multiplexed_async_connection_with_config(&config).await;
        let mut connection = connection.map_err(|error| self.at_server(classify(&error)))?;
        let mut greeting = Pipeline::new();
        greeting.cmd("INFO").arg("replication");
        script::load_all(&mut greeting);
        let sent = connection.send_packed_commands(&greeting, 0, greeting.len()).await;
        let info = sent.map_err(|error| self.at_server(classify(&error)))?.into_iter().next().ok_or_else(unexpected)?;
        Ok(Link::new(connection, self.incarnation(info)?))
    }

    /// The hash of the replication id, which changes when the server restarts and when another one is promoted. A user
    /// that may not ask gets 0.
    fn incarnation(&self, info: Value) -> Result<Incarnation, L2Error> {
        let text = match info {
            Value::BulkString(text) => text,
            Value::VerbatimString { text, .. } => text.into_bytes(),
            // Refused to this user, or renamed: the other commands may work.
            Value::ServerError(error) if matches!(error.code(), "NOPERM" | "ERR") => Vec::new(),
            Value::ServerError(error) => return Err(of_server(&error)),
            _ => return Err(unexpected()),
        };
        if let Some(id) = replication_id(&text) {
            return Ok(xxh3_64(id));
        }
        if !self.warned.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                "the cache server does not tell its replication id: a restart that brings old values back goes unnoticed; \
                 allow INFO to this user"
            );
        }
        Ok(0)
    }

    /// Adds the address to what went wrong.
    fn at_server(&self, error: L2Error) -> L2Error {
        match error {
            L2Error::Connection(cause) => {
                L2Error::Connection(format!("{}: {cause}", self.client.get_connection_info().addr()))
            }
            error => error,
        }
    }
}

impl bb8::ManageConnection for Manager {
    type Connection = Link;
    type Error = L2Error;

    async fn connect(&self) -> Result<Link, L2Error> {
        match tokio::time::timeout(self.timeout, self.open()).await {
            Ok(opened) => opened,
            Err(_) => Err(self.at_server(L2Error::Connection(format!("no greeting within {:?}", self.timeout)))),
        }
    }

    async fn is_valid(&self, _: &mut Link) -> Result<(), L2Error> {
        Ok(())
    }

    fn has_broken(&self, link: &mut Link) -> bool {
        link.is_broken()
    }
}

fn replication_id(info: &[u8]) -> Option<&[u8]> {
    info.split(|&byte| byte == b'\n').find_map(|line| line.strip_prefix(b"master_replid:")).map(<[u8]>::trim_ascii)
}

/// The client library's own texts: they name the part that is wrong; its details may quote the URL and are left out.
fn invalid_url(error: &redis::RedisError) -> String {
    let text = error.to_string();
    let what = text.split(" - ").next().unwrap_or_default();
    format!("the redis url is not valid: {what}; write redis://[user][:password@]host[:port][/database]")
}

const PIPELINE_BUFFER: usize = 1024;
