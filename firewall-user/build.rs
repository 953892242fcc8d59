//! Builds the kernel side (`firewall-ebpf`) and names the object in
//! `FIREWALL_EBPF_OBJECT`, for
//! `aya::include_bytes_aligned!(env!("FIREWALL_EBPF_OBJECT"))`.
//!
//! The kernel side needs `core` built from source and a linker of LLVM bitcode,
//! so it is built by a child cargo with a toolchain of its own; none of this
//! touches the toolchain or the flags of the user side.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

/// v3 for 32-bit compare-and-swap and smaller programs, BTF from debug info. The
/// last one has structs cleared and copied by words in place; the linker's default
/// makes each a call that goes byte by byte.
const RUSTFLAGS: [&str; 4] = [
    "-Ctarget-cpu=v3",
    "-Cdebuginfo=2",
    "-Clink-arg=--btf",
    "-Clink-arg=--disable-expand-memcpy-in-order",
];
const TARGET: &str = "bpfel-unknown-none";

fn main() {
    for source in ["../firewall-ebpf", "../firewall-common", "../Cargo.lock", "build.rs"] {
        println!("cargo:rerun-if-changed={source}");
    }
    println!("cargo:rerun-if-env-changed=EBPF_TOOLCHAIN");

    let toolchain = toolchain().unwrap_or_else(|| {
        missing("no Rust toolchain with the sources of `core`");
    });
    let linker = linker().unwrap_or_else(|| missing("bpf-linker"));
    let target_dir = target_dir();
    build(&toolchain, &linker, &target_dir);

    let built = target_dir.join(TARGET).join("release");
    println!("cargo:rustc-env=FIREWALL_EBPF_OBJECT={}", built.join("firewall").display());
    // For the build scripts of dependents: DEP_FIREWALL_PROGRAMS_PEERS.
    println!("cargo:peers={}", built.join("peers").display());
}

/// One directory for all builds of the user side: whatever those are for, the programs are the same,
/// unless a toolchain is chosen.
fn target_dir() -> PathBuf {
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let triple = env::var_os("TARGET").expect("cargo sets TARGET");
    if env::var_os("EBPF_TOOLCHAIN").is_some() {
        return out.join("ebpf");
    }
    // TARGET_DIR/[TRIPLE/]PROFILE/build/PACKAGE/out; cargo marks TARGET_DIR and TRIPLE.
    let is_whole = |directory: &&Path| {
        directory.join("CACHEDIR.TAG").exists() && directory.file_name() != Some(&triple)
    };
    out.ancestors().take(6).find(is_whole).unwrap_or(&out).join("ebpf")
}

fn build(toolchain: &Path, linker: &Path, target_dir: &Path) {
    let status = Command::new(toolchain.join("bin/cargo"))
        .args(["build", "--locked", "--release", "--package=firewall-ebpf", "--bins"])
        .args(["--target", TARGET, "-Zbuild-std=core", "--target-dir"])
        .arg(target_dir)
        .env("RUSTC", toolchain.join("bin/rustc"))
        .env("RUSTC_BOOTSTRAP", "1")
        .env("CARGO_ENCODED_RUSTFLAGS", RUSTFLAGS.join("\x1f"))
        .env("CARGO_TARGET_BPFEL_UNKNOWN_NONE_LINKER", linker)
        .env_remove("RUSTC_WRAPPER")
        .env_remove("RUSTC_WORKSPACE_WRAPPER")
        .env_remove("RUSTUP_TOOLCHAIN")
        .status();
    match status {
        Ok(status) if status.success() => {}
        Ok(status) => {
            panic!("the eBPF programs did not build with {}: {status}", toolchain.display())
        }
        Err(error) => panic!("cannot run {}/bin/cargo: {error}", toolchain.display()),
    }
}

/// The sysroot to build with: `$EBPF_TOOLCHAIN`, rustup's nightly, the system's.
fn toolchain() -> Option<PathBuf> {
    if let Some(chosen) = env::var_os("EBPF_TOOLCHAIN") {
        return Some(PathBuf::from(chosen));
    }
    let system = ["/usr", "/usr/local"].map(|root| Some(PathBuf::from(root)));
    [nightly()].into_iter().chain(system).flatten().find(|sysroot| has_core(sysroot))
}

fn nightly() -> Option<PathBuf> {
    let output = Command::new("rustup")
        .args(["run", "nightly", "rustc", "--print", "sysroot"])
        .env("RUSTUP_AUTO_INSTALL", "0")
        .env_remove("RUSTUP_TOOLCHAIN")
        .output()
        .ok()?;
    let sysroot = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| PathBuf::from(sysroot.trim()))
}

fn has_core(sysroot: &Path) -> bool {
    ["bin/rustc", "bin/cargo", "lib/rustlib/src/rust/library/core/Cargo.toml"]
        .iter()
        .all(|file| sysroot.join(file).exists())
}

fn linker() -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    let cargo_home = env::var_os("CARGO_HOME").map(PathBuf::from);
    let installed = cargo_home.or_else(|| Some(env::home_dir()?.join(".cargo")))?.join("bin");
    env::split_paths(&path)
        .chain([installed])
        .map(|dir| dir.join("bpf-linker"))
        .find(|file| file.exists())
}

fn missing(what: &str) -> ! {
    panic!(
        "{what} was not found, and the eBPF programs need it\n\
         on Debian, as root: cargo xtask setup\n\
         elsewhere: rustup toolchain install nightly --component rust-src && cargo install bpf-linker\n\
         or name a sysroot with bin/cargo and the sources: EBPF_TOOLCHAIN=/path"
    );
}
