//! Programs on interfaces, by pinned links: a new daemon replaces the program
//! of a link in one step, and no packet passes between.

use std::fs;

use anyhow::{Context, Result, anyhow};
use aya::programs::{
    LinkOrder, ProgramError, SchedClassifier, TcAttachType, Xdp, XdpMode,
    links::{FdLink, PinnedLink},
    tc::{SchedClassifierLink, TcAttachOptions},
    xdp::XdpLink,
};
use nix::{libc, net::if_::if_indextoname};

use super::{
    load::{Programs, classifier, xdp},
    pins::{LinkKind, LinkName, Pins},
};
use crate::role::Role;

/// Where packets that come in are judged, as asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Hook {
    /// By the interface's [`Role`]: XDP where packets are forwarded and can be redirected, in the
    /// driver if it has it; else TC.
    #[default]
    Auto,
    Xdp,
    XdpGeneric,
    Tc,
}

/// Where packets that come in are judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Native,
    Generic,
    Tc,
}

impl Mode {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Native => "xdp",
            Self::Generic => "xdp-generic",
            Self::Tc => "tc",
        }
    }
}

impl Programs {
    /// Judges what comes in by an interface, and what leaves by it.
    ///
    /// # Errors
    /// What the kernel said, and about which interface.
    pub fn attach(&mut self, pins: &Pins, ifindex: u32, mode: Mode) -> Result<()> {
        // What leaves is judged first: an answer then finds its flow.
        for kind in [LinkKind::Egress, LinkKind::Ingress] {
            self.attach_classifier(pins, LinkName { kind, ifindex })?;
        }
        let link = LinkName { kind: LinkKind::Xdp, ifindex };
        match mode {
            Mode::Native => self.attach_xdp(pins, link, XdpMode::Driver),
            Mode::Generic => self.attach_xdp(pins, link, XdpMode::Skb),
            Mode::Tc => pins.detach(link),
        }
    }

    fn attach_xdp(&mut self, pins: &Pins, name: LinkName, mode: XdpMode) -> Result<()> {
        let program = xdp(&mut self.ebpf)?;
        if take_over(pins, name, |link| replace_xdp(program, link))? {
            return Ok(());
        }
        let id = program
            .attach_to_if_index(name.ifindex, mode)
            .map_err(|error| anyhow!("cannot attach XDP ({mode:?}): {}", cause(&error)))?;
        let link: FdLink = program.take_link(id)?.try_into()?;
        pin(pins, name, link)
    }

    fn attach_classifier(&mut self, pins: &Pins, name: LinkName) -> Result<()> {
        let (program, direction) = match name.kind {
            LinkKind::Egress => ("firewall_egress", TcAttachType::Egress),
            LinkKind::Ingress | LinkKind::Xdp => ("firewall_ingress", TcAttachType::Ingress),
        };
        let program = classifier(&mut self.ebpf, program)?;
        if take_over(pins, name, |link| replace_classifier(program, link))? {
            return Ok(());
        }
        let interface = if_indextoname(name.ifindex)?;
        let interface = interface.to_str()?;
        // Before all others: one that ends the hook must not hide packets from us.
        let order = TcAttachOptions::TcxOrder(LinkOrder::first());
        let id = program
            .attach_with_options(interface, direction, order)
            .map_err(|error| anyhow!("cannot attach TC {}: {}", name.kind.name(), cause(&error)))?;
        let link: FdLink = program.take_link(id)?.try_into()?;
        pin(pins, name, link)
    }
}

/// An interface to enforce on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    pub ifindex: u32,
    pub role: Role,
    /// Where a former daemon has attached the program of XDP.
    pub attached: Option<Mode>,
}

impl Hook {
    /// The modes to try, the best one first. One that a former daemon found comes
    /// before all: its link passes from program to program without a gap.
    pub fn modes(self, target: &Target) -> Vec<Mode> {
        let possible: &[Mode] = match self {
            Self::Auto if target.role.is_for_xdp() => &[Mode::Native, Mode::Generic],
            Self::Auto => &[Mode::Tc],
            Self::Xdp => &[Mode::Native],
            Self::XdpGeneric => &[Mode::Generic],
            Self::Tc => &[Mode::Tc],
        };
        let mut modes = possible.to_vec();
        modes.sort_by_key(|mode| Some(*mode) != target.attached);
        modes
    }
}

impl Programs {
    /// Attaches where `hook` says; tells where that was.
    ///
    /// # Errors
    /// As [`Programs::attach`].
    pub fn attach_by(&mut self, pins: &Pins, target: &Target, hook: Hook) -> Result<Mode> {
        let modes = hook.modes(target);
        let link = LinkName { kind: LinkKind::Xdp, ifindex: target.ifindex };
        // The kernel has one mode at a time on an interface.
        let replaced = target.attached.filter(|attached| modes.first() != Some(attached));
        if replaced.is_some() && modes.first() != Some(&Mode::Tc) {
            pins.detach(link)?;
        }
        let mut failed = None;
        for mode in modes {
            match self.attach(pins, target.ifindex, mode) {
                Ok(()) => return Ok(mode),
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        if let Some(former) = replaced {
            self.attach(pins, target.ifindex, former)
                .context("cannot go back to the former hook")?;
        }
        Err(failed.unwrap_or_else(|| anyhow!("there is no hook to attach to")))
    }

    /// Pins the programs beside their links, for people and tools to find.
    ///
    /// # Errors
    /// When a pin cannot be made.
    pub fn pin(&mut self, pins: &Pins) -> Result<()> {
        for (name, program) in self.ebpf.programs_mut() {
            let path = pins.program(name);
            match fs::remove_file(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(error)
                        .with_context(|| format!("cannot replace {}", path.display()));
                }
                _ => {}
            }
            program.pin(&path).with_context(|| format!("cannot pin {}", path.display()))?;
        }
        Ok(())
    }
}

/// Puts the program into the link that is pinned; `false` when there is none, or
/// its interface is gone.
fn take_over(
    pins: &Pins,
    name: LinkName,
    replace: impl FnOnce(FdLink) -> Result<()>,
) -> Result<bool> {
    let path = pins.link(name);
    if !path.exists() {
        return Ok(false);
    }
    let link = PinnedLink::from_pin(&path)
        .with_context(|| format!("cannot open the link {}", path.display()))?;
    match replace(link.into()) {
        Ok(()) => Ok(true),
        Err(error) if is_of_a_lost_interface(&error) => {
            pins.detach(name)?;
            Ok(false)
        }
        Err(error) => Err(error.context(format!("cannot take over the link {}", path.display()))),
    }
}

/// Whether a link has outlived its interface.
fn is_of_a_lost_interface(error: &anyhow::Error) -> bool {
    let codes = error.chain().filter_map(|cause| cause.downcast_ref::<std::io::Error>());
    let codes = codes.filter_map(std::io::Error::raw_os_error);
    { codes }.any(|code| code == libc::ENOLINK || code == libc::ENODEV)
}

fn replace_xdp(program: &mut Xdp, link: FdLink) -> Result<()> {
    let id = program.attach_to_link(XdpLink::try_from(link)?)?;
    forget(program.take_link(id)?.try_into()?);
    Ok(())
}

fn replace_classifier(program: &mut SchedClassifier, link: FdLink) -> Result<()> {
    let id = program.attach_to_link(SchedClassifierLink::try_from(link)?)?;
    forget(program.take_link(id)?.try_into()?);
    Ok(())
}

/// The pin keeps it.
fn forget(link: FdLink) {
    drop(link);
}

fn pin(pins: &Pins, name: LinkName, link: FdLink) -> Result<()> {
    let path = pins.link(name);
    link.pin(&path).with_context(|| format!("cannot pin the link {}", path.display()))?;
    Ok(())
}

/// What the kernel said, without the name of the system call around it.
fn cause(error: &ProgramError) -> String {
    match error {
        ProgramError::SyscallError(error) => error.io_error.to_string(),
        other => other.to_string(),
    }
}
