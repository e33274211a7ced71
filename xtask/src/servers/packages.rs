//! Debian packages, installed without starting the services they bring.

use std::process::{Command, Stdio};
use std::sync::OnceLock;

use crate::run::{find, output};

/// Denies the start of services for the time of the installation, unless a policy is there already.
const SCRIPT: &str = r#"
set -e
policy=/usr/sbin/policy-rc.d
if [ ! -e $policy ]; then
  trap 'rm -f $policy' EXIT
  trap 'exit 130' INT TERM HUP
  printf '#!/bin/sh\nexit 101\n' > $policy
  chmod 755 $policy
fi
RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$1"
"#;

/// Installs a package; the reason when that is impossible.
pub(super) fn install(package: &str) -> Result<(), String> {
    static UPDATED: OnceLock<bool> = OnceLock::new();
    if find("apt-get", &[]).is_none() {
        return Err("there is no apt-get".to_owned());
    }
    let sudo: &[&str] = match output(Command::new("id").arg("-u")).as_deref() {
        Some("0") => &[],
        _ if output(Command::new("sudo").args(["-n", "true"])).is_some() => &["sudo", "-n"],
        _ => return Err("installing packages needs root or sudo without a password".to_owned()),
    };
    println!("==> installing the package {package}");
    // A stale list may still do.
    UPDATED.get_or_init(|| run(sudo, &["apt-get", "update", "-q"]));
    if run(sudo, &["sh", "-c", SCRIPT, "sh", package]) {
        Ok(())
    } else {
        Err(format!("apt-get could not install {package}"))
    }
}

fn run(prefix: &[&str], command: &[&str]) -> bool {
    let words: Vec<_> = prefix.iter().chain(command).collect();
    let Some((program, args)) = words.split_first() else { return false };
    Command::new(program).args(args).stdin(Stdio::null()).status().is_ok_and(|status| status.success())
}
