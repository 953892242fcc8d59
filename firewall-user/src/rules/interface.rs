//! Interface patterns: `eth0`, or `eth+` for every name that begins so.

use std::fmt;

/// Longest interface name that the kernel has (IFNAMSIZ without its NUL).
pub const LONGEST_NAME: usize = 15;

/// What `-i` and `-o` name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct InterfacePattern {
    /// Without the `+`.
    pub name: String,
    /// Any name that begins with `name` fits.
    pub wildcard: bool,
}

impl InterfacePattern {
    pub fn matches(&self, ifname: &str) -> bool {
        if self.wildcard { ifname.starts_with(&self.name) } else { ifname == self.name }
    }

    /// `+` alone.
    pub fn is_any(&self) -> bool {
        self.wildcard && self.name.is_empty()
    }
}

impl fmt::Display for InterfacePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        f.write_str(if self.wildcard { "+" } else { "" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wildcard_fits_every_name_that_begins_so() {
        let pattern = InterfacePattern { name: "eth".into(), wildcard: true };
        assert!(pattern.matches("eth0") && pattern.matches("eth"));
        assert!(!pattern.matches("wlan0"));
    }

    #[test]
    fn a_name_fits_only_itself() {
        let pattern = InterfacePattern { name: "eth0".into(), wildcard: false };
        assert!(pattern.matches("eth0"));
        assert!(!pattern.matches("eth01"));
    }
}
