//! What this process may do (capabilities(7)).

use std::io;

use anyhow::{Context as _, Result};
use nix::libc;

use super::Problem;

/// `struct __user_cap_header_struct`; process 0 is this one.
#[repr(C)]
struct Header {
    version: u32,
    pid: i32,
}

/// `struct __user_cap_data_struct`: 32 capabilities.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Data {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// The third version of the call: 64 capabilities.
const VERSION: u32 = 0x2008_0522;

/// The effective capabilities of a process, as the kernel's bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities(pub u64);

const SYS_ADMIN: u64 = 1 << 21;

/// What is needed, and why: to configure interfaces, to send held segments on,
/// to load programs, and to have the verifier allow pointer arithmetic.
const NEEDED: [(u64, &str); 4] = [
    (1 << 12, "CAP_NET_ADMIN"),
    (1 << 13, "CAP_NET_RAW"),
    (1 << 39 | SYS_ADMIN, "CAP_BPF"),
    (1 << 38 | SYS_ADMIN, "CAP_PERFMON"),
];

impl Capabilities {
    /// # Errors
    /// When /proc cannot be read.
    pub fn of_this_process() -> Result<Self> {
        let mut header = Header { version: VERSION, pid: 0 };
        let mut data = [Data::default(); 2];
        // SAFETY: both live through the call, and are as long as the version says.
        let answer = unsafe { libc::syscall(libc::SYS_capget, &raw mut header, data.as_mut_ptr()) };
        if answer != 0 {
            let error = io::Error::last_os_error();
            return Err(error).context("cannot ask for the capabilities of this process");
        }
        let [low, high] = data.map(|data| u64::from(data.effective));
        Ok(Self(high << 32 | low))
    }

    pub(super) fn check(self) -> Result<(), Problem> {
        let lacks = |&(any_of, _): &(u64, &str)| self.0 & any_of == 0;
        let missing: Vec<_> = NEEDED.into_iter().filter(lacks).map(|(_, name)| name).collect();
        if missing.is_empty() { Ok(()) } else { Err(Problem::Privileges(missing)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_tells_what_this_process_may_do() {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let told = status.lines().find_map(|line| line.strip_prefix("CapEff:")).unwrap();
        let told = u64::from_str_radix(told.trim(), 16).unwrap();
        assert_eq!(Capabilities::of_this_process().unwrap(), Capabilities(told));
    }

    #[test]
    fn root_may() {
        assert_eq!(Capabilities(0x1ff_ffff_ffff).check(), Ok(()));
    }

    #[test]
    fn an_ordinary_user_is_told_of_root_and_of_the_capabilities() {
        let message = Capabilities(0).check().unwrap_err().to_string();
        assert_eq!(
            message,
            "not permitted: this needs root, or the capabilities CAP_NET_ADMIN, CAP_NET_RAW, \
             CAP_BPF, CAP_PERFMON: run it with sudo, or give them to the service with \
             AmbientCapabilities="
        );
    }

    #[test]
    fn only_what_is_missing_is_named() {
        let has = 1 << 12 | 1 << 38 | 1 << 39;
        let problem = Capabilities(has).check().unwrap_err();
        assert_eq!(problem, Problem::Privileges(vec!["CAP_NET_RAW"]));
    }
}
