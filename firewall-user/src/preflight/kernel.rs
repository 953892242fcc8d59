//! What the running kernel can do.

use std::path::Path;

use anyhow::{Context as _, Result};

use super::Problem;

/// Facts about a kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kernel {
    /// As `uname -r` prints it.
    pub release: String,
    /// CONFIG_BPF_SYSCALL: programs can be loaded.
    pub has_bpf: bool,
    /// CONFIG_DEBUG_INFO_BTF: the kernel describes its own types.
    pub has_btf: bool,
    /// CONFIG_SYN_COOKIES: programs can make and check SYN cookies.
    pub has_syn_cookies: bool,
}

/// TCX, the last of what the firewall uses to have come.
const NEEDED_VERSION: (u32, u32) = (6, 6);

impl Kernel {
    /// # Errors
    /// When uname(2) fails.
    pub fn running() -> Result<Self> {
        let uname = nix::sys::utsname::uname().context("cannot ask for the kernel's release")?;
        Ok(Self {
            release: uname.release().to_string_lossy().into_owned(),
            has_bpf: Path::new("/proc/sys/kernel/unprivileged_bpf_disabled").exists(),
            has_btf: Path::new("/sys/kernel/btf/vmlinux").exists(),
            has_syn_cookies: Path::new("/proc/sys/net/ipv4/tcp_syncookies").exists(),
        })
    }

    /// Major and minor version; `None` where the release says neither.
    fn version(&self) -> Option<(u32, u32)> {
        let mut numbers = self.release.split(|c: char| !c.is_ascii_digit());
        Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
    }

    pub(super) fn check(&self) -> Result<(), Problem> {
        let lacks = |feature, remedy| {
            Err(Problem::Kernel { release: self.release.clone(), feature, remedy })
        };
        if !self.has_bpf {
            return lacks("eBPF", "use one that is built with CONFIG_BPF_SYSCALL=y");
        }
        // A release that cannot be read is left to the loader to judge.
        if self.version().is_some_and(|version| version < NEEDED_VERSION) {
            return lacks("TCX (BPF programs on TC by link)", "use Linux 6.6 or later");
        }
        if !self.has_btf {
            return lacks(
                "BTF (/sys/kernel/btf/vmlinux)",
                "use one that is built with CONFIG_DEBUG_INFO_BTF=y",
            );
        }
        if !self.has_syn_cookies {
            return lacks("SYN cookies", "use one that is built with CONFIG_SYN_COOKIES=y");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kernel(release: &str) -> Kernel {
        Kernel { release: release.into(), has_bpf: true, has_btf: true, has_syn_cookies: true }
    }

    #[test]
    fn one_that_is_new_enough_will_do() {
        for release in ["6.6.0", "6.18.44-fc-v595", "7.0-rc1", "10.1.2-generic", "custom"] {
            assert_eq!(kernel(release).check(), Ok(()), "{release}");
        }
    }

    #[test]
    fn one_that_is_too_old_is_named_with_what_it_lacks() {
        for release in ["6.5.13", "6.1.0-18-amd64", "5.15.0"] {
            let message = kernel(release).check().unwrap_err().to_string();
            let expected = format!(
                "this kernel ({release}) lacks TCX (BPF programs on TC by link): use Linux 6.6 or \
                 later"
            );
            assert_eq!(message, expected);
        }
    }

    #[test]
    fn a_missing_option_of_its_build_is_named() {
        let message = |kernel: Kernel| kernel.check().unwrap_err().to_string();
        let without_btf = message(Kernel { has_btf: false, ..kernel("6.12.1") });
        assert!(without_btf.contains("lacks BTF (/sys/kernel/btf/vmlinux): "), "{without_btf}");
        assert!(without_btf.contains("CONFIG_DEBUG_INFO_BTF=y"));
        let without_cookies = message(Kernel { has_syn_cookies: false, ..kernel("6.12.1") });
        assert!(without_cookies.contains("CONFIG_SYN_COOKIES=y"), "{without_cookies}");
        let without_bpf = message(Kernel { has_bpf: false, ..kernel("6.12.1") });
        assert!(without_bpf.contains("lacks eBPF: ") && without_bpf.contains("CONFIG_BPF_SYSCALL"));
    }
}
