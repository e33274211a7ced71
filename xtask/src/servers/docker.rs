//! Servers in containers, the last resort.

use std::process::Command;
use std::time::Instant;

use super::READY_WITHIN;
use crate::run::{find, output};
use crate::supervisor::{Supervisor, pause};

/// Starts `image` with its `port` published on a free port of the loopback; that port.
pub(super) fn start(
    supervisor: &mut Supervisor,
    image: &str,
    port: u16,
    options: &[&str],
    args: &[&str],
    is_ready: impl Fn(u16) -> bool,
) -> Result<u16, String> {
    if find("docker", &[]).is_none() {
        return Err("there is no docker".to_owned());
    }
    if output(Command::new("docker").arg("info")).is_none() {
        return Err("docker is installed but does not answer".to_owned());
    }
    println!("==> starting a container of {image}");
    let mut run = Command::new("docker");
    run.args(["run", "--rm", "-d", "-p", &format!("127.0.0.1:0:{port}")]).args(options).arg(image).args(args);
    let id = output(&mut run).ok_or_else(|| format!("docker could not run {image}"))?;
    supervisor.owns_container(&id).map_err(|_| "the container cannot be watched".to_owned())?;
    let published = output(Command::new("docker").args(["port", &id, &format!("{port}/tcp")]))
        .and_then(|text| host_port(&text))
        .ok_or_else(|| format!("docker does not tell the port of {image}"))?;
    let deadline = Instant::now() + READY_WITHIN;
    while Instant::now() < deadline {
        if is_ready(published) {
            return Ok(published);
        }
        pause();
    }
    let log = output(Command::new("docker").args(["logs", "--tail", "20", &id])).unwrap_or_default();
    Err(format!("{image} did not answer within {READY_WITHIN:?}; its log:\n{log}"))
}

/// The port in `127.0.0.1:49153`, the answer of `docker port`.
fn host_port(text: &str) -> Option<u16> {
    text.lines().next()?.rsplit_once(':')?.1.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_port_is_read() {
        assert_eq!(host_port("127.0.0.1:49153\n"), Some(49153));
        assert_eq!(host_port("0.0.0.0:1\n[::]:2"), Some(1));
        assert_eq!(host_port("Error: no such container"), None);
    }
}
