//! What must be so before anything is changed.
//!
//! Facts are gathered first ([`Facts::gather`]), then judged by pure functions:
//! privileges, kernel, pin directory, interfaces, in this order. The first
//! [`Problem`] is told, with what to do about it.

mod interfaces;
mod kernel;
mod pin;
mod privileges;
mod problem;

use std::{collections::BTreeSet, path::Path};

use anyhow::{Context as _, Result};

pub use kernel::Kernel;
pub use pin::Filesystem;
pub use privileges::Capabilities;
pub use problem::Problem;

use crate::{
    cli::{InterfaceName, args::HookChoice},
    netlink::links::{self, Link},
    role::Role,
};

/// What `firewall run` was asked for.
#[derive(Clone, Copy, Debug)]
pub struct Request<'r> {
    pub pin: &'r Path,
    pub interfaces: &'r [InterfaceName],
    pub hook: HookChoice,
    /// Interfaces, by index, where an XDP link of this instance is pinned.
    pub ours: &'r BTreeSet<u32>,
}

/// What this machine is, as far as it matters.
#[derive(Clone, Debug)]
pub struct Facts {
    pub capabilities: Capabilities,
    pub kernel: Kernel,
    pub filesystem: Filesystem,
    /// All interfaces of this network namespace.
    pub links: Vec<Link>,
    /// What each is to this host, in the same order.
    pub roles: Vec<Role>,
}

impl Facts {
    /// # Errors
    /// When the kernel cannot be asked.
    pub fn gather(pin: &Path) -> Result<Self> {
        let links = links::all().context("cannot list the interfaces")?;
        // Where that cannot be read, `--hook auto` says so when it comes to choose.
        let roles = links.iter().map(|link| Role::of(link).unwrap_or(Role::Router)).collect();
        Ok(Self {
            capabilities: Capabilities::of_this_process()?,
            kernel: Kernel::running()?,
            filesystem: Filesystem::of(pin)?,
            links,
            roles,
        })
    }

    /// The interfaces that were asked for, in that order.
    ///
    /// # Errors
    /// The first thing that is in the way.
    pub fn check(&self, request: &Request<'_>) -> Result<Vec<Link>, Problem> {
        self.capabilities.check()?;
        self.kernel.check()?;
        self.filesystem.check(request.pin)?;
        interfaces::choose(request, &self.links, &self.roles)
    }
}

/// Gathers the facts and judges them.
///
/// # Errors
/// The [`Problem`], or what kept the facts from being gathered.
pub fn check(request: &Request<'_>) -> Result<Vec<Link>> {
    Ok(Facts::gather(request.pin)?.check(request)?)
}

/// For commands that only look or change tables: may this process, and is the
/// pin directory on a bpffs?
///
/// # Errors
/// The [`Problem`], or what kept the facts from being gathered.
pub fn check_access(pin: &Path) -> Result<()> {
    Capabilities::of_this_process()?.check()?;
    Filesystem::of(pin)?.check(pin)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_facts_of_this_machine_can_be_gathered() {
        let facts = Facts::gather(Path::new("/proc/no/such/directory")).unwrap();
        assert!(facts.links.iter().any(Link::is_loopback));
        assert!(matches!(facts.filesystem, Filesystem::Other { .. }));
    }
}
