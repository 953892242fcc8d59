//! Ports from one to another.

use std::{fmt, str::FromStr};

/// Both ends belong to it; neither is 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PortRange {
    first: u16,
    last: u16,
}

impl PortRange {
    /// `None` for port 0, and when they stand in the wrong order.
    pub const fn new(first: u16, last: u16) -> Option<Self> {
        if first == 0 || last < first { None } else { Some(Self { first, last }) }
    }

    pub const fn first(&self) -> u16 {
        self.first
    }

    pub const fn last(&self) -> u16 {
        self.last
    }

    pub const fn contains(&self, port: u16) -> bool {
        self.first <= port && port <= self.last
    }
}

/// A text that is no range of ports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortRangeError(String);

impl fmt::Display for PortRangeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "'{}' is no range of ports; wanted e.g. 50000-50100, or one port", self.0)
    }
}

impl std::error::Error for PortRangeError {}

impl FromStr for PortRange {
    type Err = PortRangeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (first, last) = text.split_once(['-', ':']).unwrap_or((text, text));
        let [first, last] = [first, last].map(|port| port.trim().parse().ok());
        first
            .zip(last)
            .and_then(|(first, last)| Self::new(first, last))
            .ok_or_else(|| PortRangeError(text.to_owned()))
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.first == self.last {
            true => write!(f, "{}", self.first),
            false => write!(f, "{}-{}", self.first, self.last),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_and_a_single_port_are_read_and_printed() {
        for (text, printed) in
            [("50000-50100", "50000-50100"), ("6000:6063", "6000-6063"), ("69", "69")]
        {
            assert_eq!(text.parse::<PortRange>().unwrap().to_string(), printed);
        }
        let range: PortRange = "50000-50100".parse().unwrap();
        assert!(range.contains(50_000) && range.contains(50_100));
        assert!(!range.contains(49_999) && !range.contains(50_101));
    }

    #[test]
    fn what_is_no_range_says_what_is_wanted() {
        for wrong in ["", "0", "0-9", "9-8", "1-65536", "a", "1-2-3", "-"] {
            let error = wrong.parse::<PortRange>().unwrap_err().to_string();
            assert!(error.contains("wanted e.g. 50000-50100"), "{error}");
        }
    }
}
