//! A server that says the same to every command.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

/// Speaks Redis' protocol on a free loopback port and answers every command alike. Gone when this is dropped.
pub(super) struct Parrot {
    addr: SocketAddr,
    task: JoinHandle<()>,
}

impl Parrot {
    /// Answers with these bytes.
    pub(super) async fn saying(reply: &[u8]) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let (addr, reply) = (listener.local_addr()?, Arc::<[u8]>::from(reply));
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                // A client that goes away ends its connection.
                connections.spawn(answer(stream, Arc::clone(&reply)));
            }
        });
        Ok(Self { addr, task })
    }

    pub(super) fn addr(&self) -> SocketAddr {
        self.addr
    }
}

impl Drop for Parrot {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn answer(mut stream: TcpStream, reply: Arc<[u8]>) -> io::Result<()> {
    let (mut pending, mut buffer) = (Vec::new(), vec![0; 16 << 10]);
    loop {
        while let Some(length) = command(&pending) {
            pending.drain(..length);
            stream.write_all(&reply).await?;
        }
        match stream.read(&mut buffer).await? {
            0 => return Ok(()),
            length => pending.extend_from_slice(&buffer[..length]),
        }
    }
}

/// The length of the command at the start of `bytes`, once all of it is there: an array of bulk strings.
fn command(bytes: &[u8]) -> Option<usize> {
    let (count, mut at) = number(bytes, 0)?;
    for _ in 0..count {
        let (length, text) = number(bytes, at)?;
        at = text + length + 2;
    }
    (at <= bytes.len()).then_some(at)
}

/// The number of a line such as `*3` or `$12` that starts at `at`, and where the line after it starts.
fn number(bytes: &[u8], at: usize) -> Option<(usize, usize)> {
    let line = bytes.get(at + 1..)?;
    let end = line.windows(2).position(|pair| pair == b"\r\n")?;
    let number = std::str::from_utf8(&line[..end]).ok()?.parse().ok()?;
    Some((number, at + 1 + end + 2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_ends_where_its_last_argument_does() {
        let bytes = b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n*1\r\n$4\r\nPING\r\n";
        assert_eq!(command(bytes), Some(20));
        assert_eq!(command(&bytes[20..]), Some(14));
        assert!((0..20).all(|length| command(&bytes[..length]).is_none()));
    }

    #[tokio::test]
    async fn each_command_has_one_answer() {
        let parrot = Parrot::saying(b":7\r\n").await.unwrap();
        let mut stream = TcpStream::connect(parrot.addr()).await.unwrap();
        stream.write_all(b"*1\r\n$4\r\nPING\r\n*1\r\n$4\r\nPING\r\n").await.unwrap();
        let mut replies = [0; 8];
        stream.read_exact(&mut replies).await.unwrap();
        assert_eq!(&replies, b":7\r\n:7\r\n");
    }
}
