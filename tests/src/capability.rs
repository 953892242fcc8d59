//! What a scenario needs of the machine. Without it the scenario says SKIP and
//! why; under `CI=true` that is a failure.

use std::{env, path::Path};

/// Leaves the test, loudly, when this machine cannot run scenarios.
#[macro_export]
macro_rules! needs {
    ($($capability:expr),+ $(,)?) => {
        $(if let Err(reason) = $capability {
            $crate::capability::skip(module_path!(), &reason);
            return;
        })+
    };
}

/// Says that a test was not run.
///
/// # Panics
/// With `CI=true`, where every test has to run.
pub fn skip(test: &str, reason: &str) {
    assert!(
        env::var("CI").as_deref() != Ok("true"),
        "SKIP {test}: {reason}, but CI runs every test"
    );
    eprintln!("SKIP {test}: {reason}");
}

/// Namespaces and packet sockets.
pub fn namespaces() -> Result<(), String> {
    if !nix::unistd::geteuid().is_root() {
        return Err("needs root to make network namespaces".into());
    }
    program("ip").and_then(|()| program("ethtool"))
}

/// Devices without Ethernet.
pub fn tun() -> Result<(), String> {
    file(Path::new("/dev/net/tun"))
        .map_err(|_| "needs /dev/net/tun, of a kernel with CONFIG_TUN".into())
}

/// The firewall's binary.
pub fn firewall() -> Result<(), String> {
    namespaces()?;
    crate::firewall::binary().map(drop).map_err(|error| error.to_string())
}

/// The kernel's connection tracking, and the programs that set it up and list it.
pub fn oracle() -> Result<(), String> {
    let switch = Path::new("/proc/sys/net/netfilter/nf_conntrack_acct");
    if !switch.exists() {
        return Err("needs a kernel with nf_conntrack".into());
    }
    program("nft").and_then(|()| program("conntrack"))
}

/// A program on the search path.
pub fn program(name: &str) -> Result<(), String> {
    let path = env::var_os("PATH").unwrap_or_default();
    let mut directories = env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);
    if directories.any(|directory| directory.join(name).exists()) {
        return Ok(());
    }
    Err(format!("needs the program {name}; run: cargo xtask setup"))
}

/// A file, such as an unpacked server.
pub fn file(path: &Path) -> Result<(), String> {
    if path.exists() {
        return Ok(());
    }
    Err(format!("needs {}; run: cargo xtask setup", path.display()))
}

/// Whether every combination is wanted (`cargo xtask test --full`).
pub fn full() -> bool {
    env::var("FIREWALL_FULL").as_deref() == Ok("1")
}
