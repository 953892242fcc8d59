//! Network namespaces as guards, named `fw<pid>-<n>-<role>`.
//!
//! Only the network namespace is entered, never a mount namespace: the bpffs of
//! the machine stays visible. (`ip netns exec` would mount a fresh /sys.)

use std::{
    fs::{self, File},
    os::unix::process::CommandExt as _,
    path::Path,
    process::{self, Command},
    sync::{
        Once,
        atomic::{AtomicU32, Ordering},
    },
    thread,
};

use anyhow::{Context as _, Result};
use nix::sched::{CloneFlags, setns};

use crate::command;

const DIRECTORY: &str = "/run/netns";

/// A network namespace; its processes end and it is removed on drop.
#[derive(Debug)]
pub struct Netns {
    name: String,
    file: File,
}

impl Netns {
    /// A new namespace with the loopback device up.
    pub fn new(role: &str) -> Result<Self> {
        static SWEEP: Once = Once::new();
        SWEEP.call_once(sweep);

        let name = format!("{}-{role}", unique());
        command::output(Command::new("ip").args(["netns", "add", &name]))?;
        let file = File::open(Path::new(DIRECTORY).join(&name)).context("a new namespace")?;
        let netns = Self { name, file };
        // Whoever still looks for duplicates of its address asks for no neighbour, for seconds.
        netns.set("ipv6/conf/default/accept_dad", "0")?;
        netns.ip("link set lo up")?;
        Ok(netns)
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// A command that will run in this namespace.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        let netns = self.file.try_clone().expect("a descriptor for the namespace");
        let enter = move || setns(&netns, CloneFlags::CLONE_NEWNET).map_err(Into::into);
        // SAFETY: between fork and exec only the system call setns is made.
        unsafe { command.pre_exec(enter) };
        command
    }

    /// Runs a command line, split at blanks, to its end; returns its stdout.
    pub fn run(&self, line: &str) -> Result<String> {
        let mut words = line.split_whitespace();
        let program = words.next().context("an empty command line")?;
        command::output(self.command(program).args(words))
    }

    /// `ip LINE`
    pub fn ip(&self, line: &str) -> Result<String> {
        self.run(&format!("ip {line}"))
    }

    /// Writes a setting under /proc/sys/net: `set("ipv4/ip_forward", "1")`.
    pub fn set(&self, setting: &str, value: &str) -> Result<()> {
        let path = format!("/proc/sys/net/{setting}");
        self.enter(|| fs::write(&path, value)).with_context(|| format!("cannot write {path}"))
    }

    /// Runs a closure on a thread in this namespace. Sockets made there stay in
    /// the namespace, whichever thread uses them later.
    pub fn enter<T: Send>(&self, task: impl FnOnce() -> T + Send) -> T {
        let enter_and_run = || {
            setns(&self.file, CloneFlags::CLONE_NEWNET).expect("a namespace that we made");
            task()
        };
        thread::scope(|scope| match scope.spawn(enter_and_run).join() {
            Ok(answer) => answer,
            Err(panic) => std::panic::resume_unwind(panic),
        })
    }

    /// Runs a task of its own on a thread in this namespace.
    pub fn spawn<T: Send + 'static>(
        &self,
        task: impl FnOnce() -> T + Send + 'static,
    ) -> thread::JoinHandle<T> {
        let netns = self.file.try_clone().expect("a descriptor for the namespace");
        thread::spawn(move || {
            setns(&netns, CloneFlags::CLONE_NEWNET).expect("a namespace that we made");
            drop(netns);
            task()
        })
    }

    /// Whether frames on an interface begin with an Ethernet header.
    pub fn has_ethernet(&self, interface: &str) -> Result<bool> {
        Ok(self.ip(&format!("link show dev {interface}"))?.contains("link/ether"))
    }

    /// The Ethernet address of an interface.
    pub fn mac(&self, interface: &str) -> Result<[u8; 6]> {
        let shown = self.ip(&format!("-br link show dev {interface}"))?;
        let text = shown.split_whitespace().find(|word| word.len() == 17 && word.contains(':'));
        let bytes = text.into_iter().flat_map(|text| text.split(':'));
        let bytes: Vec<_> = bytes.filter_map(|byte| u8::from_str_radix(byte, 16).ok()).collect();
        bytes.try_into().ok().with_context(|| format!("no Ethernet address in: {shown}"))
    }

    /// Joins two namespaces by a pair of virtual Ethernet devices.
    pub fn connect(&self, interface: &str, peer: &Self, peer_interface: &str) -> Result<()> {
        self.ip(&format!(
            "link add {interface} type veth peer name {peer_interface} netns {}",
            peer.name
        ))?;
        for (netns, interface) in [(self, interface), (peer, peer_interface)] {
            netns.ip(&format!("link set {interface} up"))?;
        }
        Ok(())
    }

    /// Gives an interface an address, usable at once (no duplicate detection).
    pub fn address(&self, interface: &str, address: &str) -> Result<()> {
        let nodad = if address.contains(':') { "nodad" } else { "" };
        self.ip(&format!("addr add {address} dev {interface} {nodad}")).map(drop)
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        remove(&self.name);
    }
}

/// A name of this process that was not used before: `fw4711-3`.
pub(crate) fn unique() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("fw{}-{}", process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Whether a name was given by [`unique`] in a process that is gone.
pub(crate) fn is_stale(name: &str) -> bool {
    let pid = name.strip_prefix("fw").and_then(|rest| rest.split('-').next());
    pid.and_then(|pid| pid.parse::<u32>().ok())
        .is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists())
}

/// Removes the namespaces of test processes that died without doing so.
fn sweep() {
    let Ok(names) = fs::read_dir(DIRECTORY) else { return };
    let names = names.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.filter(|name| is_stale(name)).for_each(|name| remove(&name));
}

fn remove(name: &str) {
    let pids = Command::new("ip").args(["netns", "pids", name]).output();
    let pids = pids.map(|output| output.stdout).unwrap_or_default();
    for pid in String::from_utf8_lossy(&pids).lines().filter_map(|line| line.trim().parse().ok()) {
        let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::SIGKILL);
    }
    let _ = Command::new("ip").args(["netns", "del", name]).output();
}
