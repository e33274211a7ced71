//! Subscriptions: each on a connection of its own.

use std::time::Duration;

use futures_util::StreamExt as _;
use redis::Client;
use redis::aio::PubSub;
use tokio::time::timeout;

use crate::l2::{L2Error, Messages};

use super::connect::{at_server, late};
use super::error::classify;

/// Opens subscriptions.
pub(super) struct Subscriber {
    client: Client,
    timeout: Duration,
}

impl Subscriber {
    pub(super) fn new(client: Client, timeout: Duration) -> Self {
        Self { client, timeout }
    }

    pub(super) async fn subscribe(&self, channels: &[String]) -> Result<Messages, L2Error> {
        let subscribed = async {
            let mut connection = self.client.get_async_pubsub().await?;
            connection.subscribe(channels).await?;
            Ok::<PubSub, redis::RedisError>(connection)
        };
        let connection = match timeout(self.timeout, subscribed).await {
            Ok(subscribed) => subscribed.map_err(|error| at_server(&self.client, classify(&error)))?,
            Err(_) => return Err(at_server(&self.client, late(self.timeout))),
        };
        Ok(Box::pin(connection.into_on_message().map(|message| message.get_payload_bytes().to_vec())))
    }
}
