//! eBPF programs and pins of somebody else, which the firewall must leave alone.

use std::{
    ffi::CString,
    io,
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use nix::libc;

use crate::Netns;

/// Where a program can hang on an interface: enum values of `linux/bpf.h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    Xdp,
    TcxIngress,
    TcxEgress,
}

impl Place {
    const fn program_type(self) -> u32 {
        match self {
            Self::Xdp => 6,
            Self::TcxIngress | Self::TcxEgress => 3,
        }
    }

    const fn attach_type(self) -> u32 {
        match self {
            Self::Xdp => 37,
            Self::TcxIngress => 46,
            Self::TcxEgress => 47,
        }
    }

    /// The verdict that lets everything go on: XDP_PASS, TCX_NEXT.
    const fn verdict(self) -> i32 {
        match self {
            Self::Xdp => 2,
            Self::TcxIngress | Self::TcxEgress => -1,
        }
    }
}

const PROG_LOAD: u32 = 5;
const OBJ_PIN: u32 = 6;
const PROG_QUERY: u32 = 16;
const LINK_CREATE: u32 = 28;

#[repr(C)]
struct ProgLoad {
    kind: u32,
    instruction_count: u32,
    instructions: u64,
    license: u64,
    log: [u32; 4],
    kernel_version: u32,
    flags: u32,
    name: [u8; 16],
    ifindex: u32,
    expected_attach_type: u32,
}

#[repr(C)]
struct LinkCreate {
    program: u32,
    ifindex: u32,
    attach_type: u32,
    flags: u32,
    rest: [u64; 4],
}

#[repr(C)]
struct ObjPin {
    path: u64,
    descriptor: u32,
    flags: u32,
}

/// A program that lets everything pass, on an interface; gone on drop.
#[derive(Debug)]
pub struct Program {
    program: OwnedFd,
    _link: OwnedFd,
}

impl Program {
    pub fn attach(netns: &Netns, interface: &str, place: Place) -> Result<Self> {
        let program = load(place).context("cannot load a foreign program")?;
        let link = netns.enter(|| link(&program, interface, place));
        let link = link.with_context(|| format!("cannot attach {place:?} to {interface}"))?;
        Ok(Self { program, _link: link })
    }

    /// Pins the program below a bpffs; the file is removed on drop of the pin.
    pub fn pin(&self, path: &Path) -> Result<Pin> {
        let name = CString::new(path.as_os_str().as_encoded_bytes())?;
        let attributes = ObjPin {
            path: name.as_ptr() as u64,
            descriptor: self.program.as_raw_fd().cast_unsigned(),
            flags: 0,
        };
        bpf(OBJ_PIN, attributes).with_context(|| format!("cannot pin {}", path.display()))?;
        Ok(Pin(path.into()))
    }
}

/// A pinned program.
#[derive(Debug)]
pub struct Pin(PathBuf);

impl Pin {
    pub fn exists(&self) -> bool {
        self.0.exists()
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// `r0 = verdict; exit`
fn load(place: Place) -> io::Result<OwnedFd> {
    let verdict = u64::from(place.verdict().cast_unsigned()) << 32 | 0xb7;
    let instructions: [u64; 2] = [verdict, 0x95];
    let attributes = ProgLoad {
        kind: place.program_type(),
        instruction_count: 2,
        instructions: instructions.as_ptr() as u64,
        license: c"GPL".as_ptr() as u64,
        log: [0; 4],
        kernel_version: 0,
        flags: 0,
        name: *b"somebody_else\0\0\0",
        ifindex: 0,
        expected_attach_type: place.attach_type(),
    };
    let descriptor = bpf(PROG_LOAD, attributes)?;
    // SAFETY: the descriptor is new and ours alone.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

fn link(program: &OwnedFd, interface: &str, place: Place) -> io::Result<OwnedFd> {
    let attributes = LinkCreate {
        program: program.as_raw_fd().cast_unsigned(),
        ifindex: nix::net::if_::if_nametoindex(interface)?,
        attach_type: place.attach_type(),
        flags: 0,
        rest: [0; 4],
    };
    let descriptor = bpf(LINK_CREATE, attributes)?;
    // SAFETY: the descriptor is new and ours alone.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

#[repr(C)]
#[derive(Default)]
struct ProgQuery {
    ifindex: u32,
    attach_type: u32,
    query_flags: u32,
    attach_flags: u32,
    programs: u64,
    count: u32,
    rest: u32,
    more: [u64; 4],
}

/// How many XDP and TCX programs hang on an interface, whosever they are.
pub fn programs(netns: &Netns, interface: &str) -> Result<usize> {
    let xdp = netns.ip(&format!("-d link show dev {interface}"))?.matches("prog/xdp").count();
    let ifindex = netns.enter(|| nix::net::if_::if_nametoindex(interface))?;
    let count = |place: Place| {
        let mut query =
            ProgQuery { ifindex, attach_type: place.attach_type(), ..ProgQuery::default() };
        netns.enter(|| bpf_mut(PROG_QUERY, &mut query)).map(|_| query.count as usize)
    };
    let tcx = [Place::TcxIngress, Place::TcxEgress].into_iter().map(count);
    let tcx = tcx.sum::<io::Result<usize>>().context("cannot ask for TCX programs")?;
    Ok(xdp + tcx)
}

fn bpf<T>(command: u32, mut attributes: T) -> io::Result<i32> {
    bpf_mut(command, &mut attributes)
}

/// For commands that answer in their attributes.
fn bpf_mut<T>(command: u32, attributes: &mut T) -> io::Result<i32> {
    // SAFETY: the attributes are those of the command, as long as we say; what
    // they point to outlives the call.
    let answer =
        unsafe { libc::syscall(libc::SYS_bpf, command, &raw mut *attributes, size_of::<T>()) };
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(answer as i32) }
}
