//! A line under construction, for listings of a million lines: words, numbers and
//! addresses go into one buffer that is used again, and nothing else is allocated.

use firewall_common::addr::{Addr, Family};

/// Bytes of one line or several.
#[derive(Clone, Debug, Default)]
pub struct Line(Vec<u8>);

impl Line {
    pub fn with_capacity(bytes: usize) -> Self {
        Self(Vec::with_capacity(bytes))
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    pub fn clear(&mut self) {
        self.0.clear();
    }

    pub fn text(&mut self, text: &str) -> &mut Self {
        self.0.extend_from_slice(text.as_bytes());
        self
    }

    pub fn number(&mut self, number: impl Into<u64>) -> &mut Self {
        let mut digits = itoa::Buffer::new();
        self.text(digits.format(number.into()))
    }

    /// Takes away a blank at the end.
    pub fn without_last_blank(&mut self) {
        if self.0.last() == Some(&b' ') {
            self.0.pop();
        }
    }

    /// `0x1f`
    pub fn hex(&mut self, number: u16) -> &mut Self {
        self.text("0x").hex_digits(number)
    }

    /// Without leading zeroes.
    fn hex_digits(&mut self, number: u16) -> &mut Self {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut shift = 12;
        while shift > 0 && number >> shift == 0 {
            shift -= 4;
        }
        loop {
            self.0.push(DIGITS[usize::from(number >> shift & 15)]);
            if shift == 0 {
                return self;
            }
            shift -= 4;
        }
    }

    /// As `IpAddr` prints it (RFC 5952).
    pub fn address(&mut self, address: Addr) -> &mut Self {
        match address.family() {
            Family::Ipv4 => self.ipv4(address.words[3].to_ne_bytes()),
            Family::Ipv6 => self.ipv6(address),
        }
    }

    fn ipv4(&mut self, [a, b, c, d]: [u8; 4]) -> &mut Self {
        self.number(a).text(".").number(b).text(".").number(c).text(".").number(d)
    }

    fn ipv6(&mut self, address: Addr) -> &mut Self {
        let groups = groups(address);
        let (start, end) = longest_zeroes(&groups);
        self.joined(&groups[..start]);
        if start < end {
            self.text("::");
        }
        self.joined(&groups[end..])
    }

    fn joined(&mut self, groups: &[u16]) -> &mut Self {
        for (number, group) in groups.iter().enumerate() {
            if number > 0 {
                self.0.push(b':');
            }
            self.hex_digits(*group);
        }
        self
    }
}

fn groups(address: Addr) -> [u16; 8] {
    let mut groups = [0; 8];
    for (pair, word) in groups.chunks_exact_mut(2).zip(address.words) {
        let [a, b, c, d] = word.to_ne_bytes();
        pair.copy_from_slice(&[u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])]);
    }
    groups
}

/// The first of the longest runs of two zero groups or more; where there is none,
/// an empty one at the end.
fn longest_zeroes(groups: &[u16; 8]) -> (usize, usize) {
    let mut longest = (8, 8);
    let mut start = 0;
    for (number, group) in groups.iter().enumerate() {
        if *group != 0 {
            start = number + 1;
        } else if number + 1 - start >= 2 && number + 1 - start > longest.1 - longest.0 {
            longest = (start, number + 1);
        }
    }
    longest
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

    use proptest::prelude::*;

    use super::*;

    fn shown(address: IpAddr) -> String {
        let mut line = Line::default();
        line.address(address.into());
        String::from_utf8(line.0).unwrap()
    }

    #[test]
    fn addresses_are_shortened_at_the_first_of_the_longest_runs_of_zeroes() {
        for text in ["::", "::1", "1::", "2001:db8::1", "2001:0:0:1::1", "1:0:2:3:4:5:6:7"] {
            assert_eq!(shown(text.parse().unwrap()), text);
        }
        assert_eq!(shown("2001:db8:0:0:1:0:0:1".parse().unwrap()), "2001:db8::1:0:0:1");
    }

    #[test]
    fn hexadecimal_numbers_have_no_leading_zeroes() {
        for (number, text) in [(0, "0x0"), (15, "0xf"), (256, "0x100"), (0xffff, "0xffff")] {
            let mut line = Line::default();
            line.hex(number);
            assert_eq!(line.as_bytes(), text.as_bytes());
        }
    }

    proptest! {
        #[test]
        fn addresses_read_as_the_standard_library_prints_them(
            bits in any::<u128>(),
            // Groups that are zero now and then.
            mask in proptest::collection::vec(any::<bool>(), 8),
            word in any::<u32>(),
        ) {
            let mut address = Ipv6Addr::from(bits).segments();
            for (group, is_kept) in address.iter_mut().zip(mask) {
                *group *= u16::from(is_kept);
            }
            let six = Ipv6Addr::from(address);
            // What maps an IPv4 address stands for it.
            prop_assert_eq!(shown(six.into()), six.to_canonical().to_string());
            let four = Ipv4Addr::from(word);
            prop_assert_eq!(shown(four.into()), four.to_string());
        }
    }
}
