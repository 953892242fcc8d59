//! How the firewall is linked: as a whole, with musl, where the compiler has a standard library for
//! that. Else it uses the C library of this machine, which works as well and starts later
//! (`docs/adr/0021-linked-with-musl.md`).

use std::{env, env::consts::ARCH, fs, path::PathBuf, process::Command};

use crate::shell;

/// For whom the compiler builds a program that is linked with musl.
fn triple() -> String {
    format!("{ARCH}-unknown-linux-musl")
}

/// The target to build the firewall for; `None` is this machine as it is.
pub(crate) fn target() -> Option<String> {
    has_library().then(triple)
}

/// Asks rustup for musl's standard library, where rustup manages the compiler.
pub(crate) fn install() {
    if has_library() || env::var_os("RUSTUP_TOOLCHAIN").is_none() {
        return;
    }
    if let Err(error) = shell::run(Command::new("rustup").args(["target", "add", &triple()])) {
        eprintln!("{error:#}: the firewall is linked with this machine's C library");
    }
}

fn has_library() -> bool {
    let Some(entries) = library().and_then(|directory| fs::read_dir(directory).ok()) else {
        return false;
    };
    entries.flatten().any(|entry| entry.file_name().to_string_lossy().starts_with("libstd-"))
}

/// Where the compiler looks for it.
fn library() -> Option<PathBuf> {
    let compiler = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output =
        Command::new(compiler).args(["--print", "target-libdir", "--target", &triple()]).output();
    let path = output.ok().filter(|output| output.status.success())?.stdout;
    Some(PathBuf::from(String::from_utf8(path).ok()?.trim()))
}
