//! What is in the way: what, where, and what to do.

use std::{fmt, path::PathBuf};

use crate::netlink::links::XdpProgram;

/// The reason why nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    /// The names of the capabilities that this process lacks.
    Privileges(Vec<&'static str>),
    /// The kernel lacks something.
    Kernel {
        release: String,
        feature: &'static str,
        remedy: &'static str,
    },
    /// The pin directory lies on another kind of filesystem.
    NoBpffs {
        pin: PathBuf,
        /// The part of `pin` that is there.
        existing: PathBuf,
    },
    PinIsNoDirectory(PathBuf),
    UnknownInterface {
        name: String,
        present: Vec<String>,
        /// The one that was probably meant.
        similar: Option<String>,
    },
    Loopback(String),
    Twice(String),
    ForeignXdp {
        name: String,
        program: XdpProgram,
    },
    /// XDP was asked for on a device without Ethernet header.
    NoEthernet(String),
}

impl std::error::Error for Problem {}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Privileges(missing) => write!(
                f,
                "not permitted: this needs root, or the capabilities {}: run it with sudo, or \
                 give them to the service with AmbientCapabilities=",
                missing.join(", ")
            ),
            Self::Kernel { release, feature, remedy } => {
                write!(f, "this kernel ({release}) lacks {feature}: {remedy}")
            }
            Self::NoBpffs { pin, existing } => no_bpffs(f, pin, existing),
            Self::PinIsNoDirectory(path) => {
                write!(f, "{} is not a directory: choose another --pin", path.display())
            }
            Self::UnknownInterface { name, present, similar } => {
                write!(f, "no interface '{name}' here; there are: {}", present.join(", "))?;
                match similar {
                    Some(similar) => write!(f, "; did you mean {similar}?"),
                    None => Ok(()),
                }
            }
            Self::Loopback(name) => write!(
                f,
                "{name} is the loopback interface, whose packets are not judged: leave out -i {name}"
            ),
            Self::Twice(name) => write!(f, "-i {name} is given twice: leave one out"),
            Self::ForeignXdp { name, program } => foreign_xdp(f, name, *program),
            Self::NoEthernet(name) => write!(
                f,
                "{name} has no Ethernet header, which XDP needs: use --hook tc, or auto, which \
                 chooses for each interface"
            ),
        }
    }
}

fn no_bpffs(
    f: &mut fmt::Formatter<'_>,
    pin: &std::path::Path,
    existing: &std::path::Path,
) -> fmt::Result {
    write!(
        f,
        "the pin directory {} is not on a bpffs ({} is none): run `mount -t bpf bpf /sys/fs/bpf`, \
         or choose another --pin",
        pin.display(),
        existing.display()
    )?;
    if pin.starts_with("/sys") {
        // ip-netns(8): it mounts a /sys of its own, without what lay below.
        write!(f, "; under `ip netns exec` use `nsenter --net=/run/netns/NAME` instead")?;
    }
    Ok(())
}

fn foreign_xdp(f: &mut fmt::Formatter<'_>, name: &str, program: XdpProgram) -> fmt::Result {
    let XdpProgram { id, mode } = program;
    let keyword = mode.keyword();
    write!(
        f,
        "{name} has an XDP program that is not ours (id {id}, {mode} mode): `bpftool net show dev \
         {name}` and `ip link show dev {name}` tell more; if it is not needed, remove it with \
         `ip link set dev {name} {keyword} off` (where a link holds it: `bpftool link detach`), or \
         leave it and use --hook tc"
    )
}
