//! `-m ipv6header` and `-m frag`: headers between that of IPv6 and the transport's.

use firewall_common::{flow::protocol, headers::extension};

/// `--header`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeaderChain {
    /// Bits of [`extension`].
    pub headers: u8,
    /// `--soft`: these are among the packet's; else they are all that it has. With `!`
    /// none of them is, or they are not all.
    pub is_soft: bool,
    pub negated: bool,
}

/// A header's names, the one first that iptables prints, its number, and its bit.
pub(crate) type HeaderNames = (&'static str, &'static str, Option<u8>, u8);

/// In the order in which they are printed.
pub(crate) const HEADERS: [HeaderNames; 8] = [
    ("hop-by-hop", "hop", Some(protocol::HOP_BY_HOP), extension::HOP_BY_HOP),
    ("ipv6-opts", "dst", Some(protocol::DESTINATION_OPTIONS), extension::DESTINATION_OPTIONS),
    ("ipv6-route", "route", Some(protocol::ROUTING), extension::ROUTING),
    ("ipv6-frag", "frag", Some(protocol::FRAGMENT), extension::FRAGMENT),
    ("ah", "auth", Some(protocol::AUTHENTICATION), extension::AUTHENTICATION),
    ("esp", "esp", Some(protocol::ESP), extension::ESP),
    ("ipv6-nonxt", "none", Some(protocol::NO_NEXT_HEADER), extension::NO_NEXT_HEADER),
    ("protocol", "prot", None, extension::UPPER_LAYER),
];

/// `-m frag`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FragmentHeader {
    /// `--fragid`: first and last.
    pub ids: (u32, u32),
    pub ids_negated: bool,
    /// `--fraglen`, and whether it is negated.
    pub length: Option<(bool, u32)>,
    /// `--fragres`
    pub is_reserved: bool,
    /// `--fragfirst`
    pub is_first: bool,
    pub more: Option<More>,
}

/// Whether another fragment comes behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum More {
    /// `--fragmore`
    Yes,
    /// `--fraglast`
    No,
}

impl FragmentHeader {
    pub const ALL_IDS: (u32, u32) = (0, u32::MAX);
}

impl Default for FragmentHeader {
    /// Any.
    fn default() -> Self {
        Self {
            ids: Self::ALL_IDS,
            ids_negated: false,
            length: None,
            is_reserved: false,
            is_first: false,
            more: None,
        }
    }
}
