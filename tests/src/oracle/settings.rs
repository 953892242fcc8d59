//! The switches of nf_conntrack that a script is played under.

/// As `net.netfilter.nf_conntrack_*`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Settings {
    pub tcp_loose: bool,
    pub tcp_be_liberal: bool,
    pub tcp_ignore_invalid_rst: bool,
    pub tcp_max_retrans: u8,
    pub checksum: bool,
}

impl Settings {
    /// The kernel's defaults.
    pub const DEFAULT: Self = Self {
        tcp_loose: true,
        tcp_be_liberal: false,
        tcp_ignore_invalid_rst: false,
        tcp_max_retrans: 3,
        checksum: true,
    };
    pub const STRICT: Self = Self { tcp_loose: false, ..Self::DEFAULT };
    pub const LIBERAL: Self = Self { tcp_be_liberal: true, ..Self::DEFAULT };
    pub const IGNORE_INVALID_RST: Self = Self { tcp_ignore_invalid_rst: true, ..Self::DEFAULT };
    pub const ONE_RETRANSMISSION: Self = Self { tcp_max_retrans: 1, ..Self::DEFAULT };
    pub const NO_CHECKSUM: Self = Self { checksum: false, ..Self::DEFAULT };
}

impl Default for Settings {
    fn default() -> Self {
        Self::DEFAULT
    }
}
