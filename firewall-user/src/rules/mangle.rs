//! Targets that change a packet or a mark, and let the walk go on.

use std::fmt::{self, Display};

use super::extra::{Masked, TOS_NAME_MASK, TOS_NAMES};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mangle {
    /// The packet's mark loses the bits of the mask, then those of the value change: so with
    /// the connection's mark, and with the type of service.
    Mark(Masked),
    CtMark(CtMark),
    Dscp(u8),
    Tos(Masked),
    /// IPv4.
    Ttl(Hops),
    /// IPv6.
    HopLimit(Hops),
    SegmentSize(SegmentSize),
}

/// `-j CONNMARK`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CtMark {
    Set(Masked),
    /// From the packet's mark, under the masks of both.
    Save(Masks),
    /// To the packet's mark.
    Restore(Masks),
}

/// Which bits count of the packet's mark, and of the connection's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Masks {
    pub packet: u32,
    pub connection: u32,
}

impl Masks {
    pub const ALL: Self = Self { packet: u32::MAX, connection: u32::MAX };
}

/// What becomes of the TTL or hop limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hops {
    Set(u8),
    Add(u8),
    Subtract(u8),
}

/// `-j TCPMSS`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SegmentSize {
    Set(u16),
    /// What the way's MTU has room for.
    Clamp,
}

impl Mangle {
    /// As `-j` has it.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Mark(_) => "MARK",
            Self::CtMark(_) => "CONNMARK",
            Self::Dscp(_) => "DSCP",
            Self::Tos(_) => "TOS",
            Self::Ttl(_) => "TTL",
            Self::HopLimit(_) => "HL",
            Self::SegmentSize(_) => "TCPMSS",
        }
    }

    /// Whether it works in table mangle only.
    pub const fn is_of_mangle(&self) -> bool {
        matches!(self, Self::Dscp(_) | Self::Tos(_) | Self::Ttl(_) | Self::HopLimit(_))
    }

    /// Whether the routing table may ask for what it changes.
    pub const fn changes_way(&self) -> bool {
        matches!(
            self,
            Self::Mark(_) | Self::CtMark(CtMark::Restore(_)) | Self::Dscp(_) | Self::Tos(_)
        )
    }

    /// As a line of iptables-save writes it behind `-j NAME`.
    pub(crate) fn options(&self) -> String {
        let xmark = |Masked { value, mask }| format!("--set-xmark {value:#x}/{mask:#x}");
        let masks =
            |Masks { packet, connection }| format!("--nfmask {packet:#x} --ctmask {connection:#x}");
        match *self {
            Self::Mark(mark) | Self::CtMark(CtMark::Set(mark)) => xmark(mark),
            Self::CtMark(CtMark::Save(of)) => format!("--save-mark {}", masks(of)),
            Self::CtMark(CtMark::Restore(of)) => format!("--restore-mark {}", masks(of)),
            Self::Dscp(value) => format!("--set-dscp {value:#04x}"),
            Self::Tos(Masked { value, mask }) => format!("--set-tos {value:#04x}/{mask:#04x}"),
            Self::Ttl(hops) => format!("--ttl-{hops}"),
            Self::HopLimit(hops) => format!("--hl-{hops}"),
            Self::SegmentSize(SegmentSize::Set(size)) => format!("--set-mss {size}"),
            Self::SegmentSize(SegmentSize::Clamp) => "--clamp-mss-to-pmtu".to_owned(),
        }
    }

    /// What stands behind the addresses of a listing, with a blank before it; with names for
    /// numbers that have one.
    pub(crate) fn remark(&self, with_names: bool) -> String {
        let what = match *self {
            Self::Mark(mark) | Self::CtMark(CtMark::Set(mark)) => change(mark),
            Self::CtMark(CtMark::Save(Masks { packet, connection })) => {
                format!("save{}", masked(["nfmask", "ctmask"], packet, connection))
            }
            Self::CtMark(CtMark::Restore(Masks { packet, connection })) => {
                format!("restore{}", masked(["ctmask", "nfmask"], connection, packet))
            }
            Self::Dscp(value) => format!("set {value:#04x}"),
            Self::Tos(tos) if with_names => return named_tos(tos),
            Self::Tos(Masked { value, mask }) => format!("set {value:#04x}/{mask:#04x}"),
            Self::Ttl(hops) | Self::HopLimit(hops) => match hops {
                Hops::Set(count) => format!("set to {count}"),
                Hops::Add(count) => format!("increment by {count}"),
                Hops::Subtract(count) => format!("decrement by {count}"),
            },
            Self::SegmentSize(SegmentSize::Set(size)) => format!("set {size}"),
            Self::SegmentSize(SegmentSize::Clamp) => "clamp to PMTU".to_owned(),
        };
        format!(" {} {what}", self.name())
    }
}

/// In the words of iptables, which knows what and, or and xor were written as.
fn change(Masked { value, mask }: Masked) -> String {
    match (value, mask) {
        (0, _) => format!("and {:#x}", !mask),
        (_, _) if value == mask => format!("or {value:#x}"),
        (_, 0) => format!("xor {value:#x}"),
        (_, u32::MAX) => format!("set {value:#x}"),
        (_, _) => format!("xset {value:#x}/{mask:#x}"),
    }
}

/// The masks of where a mark comes from and where it goes, unless they are whole.
fn masked([from, to]: [&str; 2], source: u32, target: u32) -> String {
    match (source, target) {
        (u32::MAX, u32::MAX) => String::new(),
        _ if source == target => format!(" mask {source:#x}"),
        _ => format!(" {from} {source:#x} {to} ~{target:#x}"),
    }
}

/// With its blanks where iptables has them.
fn named_tos(Masked { value, mask }: Masked) -> String {
    let known = TOS_NAMES.iter().find(|(_, tos)| *tos == value && mask == TOS_NAME_MASK);
    match known {
        Some((name, _)) => format!("  TOS set{name}"),
        None if value == 0 => format!(" TOS and {:#04x}", !mask & 0xff),
        None if value == mask => format!(" TOS or {value:#04x}"),
        None if mask == 0 => format!(" TOS xor {value:#04x}"),
        None => format!(" TOS set {value:#04x}/{mask:#04x}"),
    }
}

impl Display for Hops {
    /// Behind `--ttl-`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Set(count) => write!(f, "set {count}"),
            Self::Add(count) => write!(f, "inc {count}"),
            Self::Subtract(count) => write!(f, "dec {count}"),
        }
    }
}
