//! `cargo xtask setup`: what building and testing need, when it is missing.
//!
//! On Debian (and what derives from it) it installs packages, as root or by
//! sudo; elsewhere it prints what to install and fails. When nothing is missing
//! it only looks for files.

use std::{
    fs,
    path::Path,
    process::Command,
    time::{Duration, SystemTime},
};

use anyhow::{Result, bail};

use crate::{linking, servers, shell};

/// LLVM's major version is that of the compiler in `rustc-web`.
const LLVM: &str = "/usr/lib/llvm-22";
const RUST_SOURCES: &str = "/usr/lib/rustlib/src/rust/library/core/Cargo.toml";

/// A Debian package, and the file or program that shows that it is there.
struct Package(&'static str, &'static str);

/// A compiler with the sources of `core`, and the LLVM that its bitcode needs.
const TOOLCHAIN: &[Package] = &[
    Package("rustc-web", "/usr/bin/rustc"),
    Package("cargo-web", "/usr/bin/cargo"),
    Package("rust-web-src", RUST_SOURCES),
    Package("llvm-22-dev", "/usr/lib/llvm-22/include/llvm-c/Core.h"),
    Package("libclang-22-dev", "/usr/lib/llvm-22/include/clang-c/Index.h"),
    Package("libpolly-22-dev", "/usr/lib/llvm-22/lib/libPolly.a"),
    Package("build-essential", "c++"),
];

/// What the scenarios are made of: networks, FTP clients, and the kernel's own
/// tracking, which is the reference.
const SCENARIOS: &[Package] = &[
    Package("iproute2", "ip"),
    Package("ethtool", "ethtool"),
    Package("curl", "curl"),
    Package("lftp", "lftp"),
    Package("tnftp", "tnftp"),
    Package("wget", "wget"),
    Package("python3", "/usr/bin/python3"),
    Package("python3-pyftpdlib", "/usr/lib/python3/dist-packages/pyftpdlib"),
    Package("conntrack", "conntrack"),
    Package("nftables", "nft"),
    Package("iptables", "iptables"),
    Package("ipset", "ipset"),
];

impl Package {
    fn is_missing(&self) -> bool {
        if self.1.starts_with('/') {
            !Path::new(self.1).exists()
        } else {
            shell::find_program(self.1).is_none()
        }
    }
}

pub(crate) fn setup() -> Result<()> {
    linking::install();
    let nightly = has_nightly_with_sources();
    let toolchain = if nightly { &[][..] } else { TOOLCHAIN };
    let missing: Vec<_> = toolchain.iter().chain(SCENARIOS).filter(|p| p.is_missing()).collect();
    let names: Vec<_> = missing.iter().map(|package| package.0).collect();
    let bpf_linker = shell::find_program("bpf-linker").is_none().then(|| bpf_linker(nightly));
    let servers = servers::missing();

    if names.is_empty() && bpf_linker.is_none() && servers.is_empty() {
        return Ok(());
    }
    if shell::find_program("apt-get").is_none() {
        return print_instructions(&names, bpf_linker.as_ref());
    }
    if !names.is_empty() || !servers.is_empty() {
        refresh_package_lists()?;
    }
    install(&names)?;
    if let Some(mut command) = bpf_linker {
        shell::run(&mut command)?;
    }
    servers.iter().try_for_each(|server| server.unpack())
}

/// Installs Debian packages; nothing for an empty list.
pub(crate) fn install(packages: &[&str]) -> Result<()> {
    if packages.is_empty() {
        return Ok(());
    }
    let mut command = shell::as_root("env");
    command.args(["DEBIAN_FRONTEND=noninteractive", "apt-get", "install", "--yes", "--quiet"]);
    shell::run(command.arg("--no-install-recommends").args(packages))
}

/// `apt-get update` unless that was done within a day.
fn refresh_package_lists() -> Result<()> {
    let day = Duration::from_secs(24 * 3600);
    let fresh = newest_package_list()
        .and_then(|changed| SystemTime::now().duration_since(changed).ok())
        .is_some_and(|age| age < day);
    if fresh {
        return Ok(());
    }
    shell::run(shell::as_root("apt-get").args(["update", "--quiet"]))
}

fn newest_package_list() -> Option<SystemTime> {
    fs::read_dir("/var/lib/apt/lists")
        .ok()?
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().contains("Packages"))
        .filter_map(|entry| fs::metadata(entry.path()).ok()?.modified().ok())
        .max()
}

fn has_nightly_with_sources() -> bool {
    Command::new("rustup")
        .args(["run", "nightly", "rustc", "--print", "sysroot"])
        .env("RUSTUP_AUTO_INSTALL", "0")
        .env_remove("RUSTUP_TOOLCHAIN")
        .output()
        .is_ok_and(|output| {
            let sysroot = String::from_utf8_lossy(&output.stdout);
            Path::new(sysroot.trim()).join("lib/rustlib/src/rust/library/core").exists()
        })
}

/// How to build the linker of eBPF objects, against the compiler's own LLVM.
fn bpf_linker(nightly: bool) -> Command {
    let mut command = shell::cargo();
    command.args(["install", "bpf-linker", "--version", "0.13.0", "--locked"]);
    if !nightly {
        command.args(["--no-default-features", "--features", "llvm-22"]);
        command.env("LLVM_PREFIX", LLVM);
    }
    command
}

fn print_instructions(packages: &[&str], bpf_linker: Option<&Command>) -> Result<()> {
    eprintln!("This is not a Debian system. Please install, by their names in Debian:\n");
    eprintln!("    {}", packages.join(" "));
    eprintln!("\nInstead of rustc-web, cargo-web, rust-web-src and the LLVM packages:\n");
    eprintln!("    rustup toolchain install nightly --component rust-src");
    if let Some(command) = bpf_linker {
        eprintln!("\nThen:\n\n    {}", shell::display(command));
    }
    eprintln!("\nThe FTP servers of the tests: vsftpd, proftpd, pure-ftpd, unpacked in");
    eprintln!("{}/NAME/", servers::directory().display());
    bail!("some tools are missing")
}
