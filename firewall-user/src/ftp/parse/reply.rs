//! The server's lines as replies (RFC 959 section 4.2).

use crate::helper::Place;

use super::{
    Endpoint, ParseError, Sight,
    address::{find_host_port, find_passive, sight_host_port, sight_passive},
};

/// A three-digit reply code, 100 to 699 (6xx: RFC 2228).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Code(u16);

impl Code {
    pub const READY: Self = Self(220);
    pub const PASSIVE: Self = Self(227);
    pub const EXTENDED_PASSIVE: Self = Self(229);
    pub const LOGGED_IN: Self = Self(230);
    pub const SECURITY_ACCEPTED: Self = Self(234);
    pub const SECURITY_CONTINUES: Self = Self(334);
    pub const CLOSING: Self = Self(421);

    pub fn new(code: u16) -> Option<Self> {
        (100..700).contains(&code).then_some(Self(code))
    }

    fn read(line: &[u8]) -> Option<Self> {
        let digits = line.get(..3).filter(|digits| digits.iter().all(u8::is_ascii_digit))?;
        Self::new(digits.iter().fold(0, |code, digit| code * 10 + u16::from(digit - b'0')))
    }

    pub const fn get(self) -> u16 {
        self.0
    }

    /// 1xx: another reply to the same command follows.
    pub const fn is_preliminary(self) -> bool {
        self.0 / 100 == 1
    }

    /// 2xx: done.
    pub const fn is_success(self) -> bool {
        self.0 / 100 == 2
    }

    /// 226 and 250: a transfer has ended well.
    pub const fn is_transferred(self) -> bool {
        matches!(self.0, 226 | 250)
    }

    /// 3xx: accepted so far, another command is wanted.
    pub const fn is_intermediate(self) -> bool {
        self.0 / 100 == 3
    }

    /// 4xx and 5xx.
    pub const fn is_failure(self) -> bool {
        matches!(self.0 / 100, 4 | 5)
    }

    /// 6xx: the true reply stands encoded in the text.
    pub const fn is_protected(self) -> bool {
        self.0 / 100 == 6
    }
}

/// The endpoint that a reply announces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Named {
    /// Not a reply that announces any.
    Nothing,
    Endpoint(Endpoint),
    Unreadable(ParseError),
}

/// A whole reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reply {
    pub code: Code,
    pub named: Named,
    /// Where the endpoint stands that it names.
    pub place: Option<Place>,
}

/// Joins the lines of multi-line replies.
///
/// The address of a 227 or 229 may stand in any of its lines; when it stands
/// in several, the last one counts, which is the one that clients look at.
#[derive(Clone, Debug, Default)]
pub struct ReplyReader {
    open: Option<Reply>,
}

impl ReplyReader {
    /// Takes a line without its end, which stands at `at` in the stream; a reply when
    /// it is the last of one.
    ///
    /// A line that is no reply, outside of any, is passed over.
    pub fn line(&mut self, line: &[u8], at: u32) -> Option<Reply> {
        let (code, separator) = (Code::read(line), line.get(3));
        let ends = matches!(separator, None | Some(b' ' | b'\t'));
        match (self.open.take(), code) {
            (Some(open), Some(code)) if ends && code == open.code => Some(open.with(line, 3, at)),
            (Some(open), Some(code)) if separator == Some(&b'-') && code == open.code => {
                self.open = Some(open.with(line, 4, at));
                None
            }
            (Some(open), _) => {
                self.open = Some(open.with(line, 0, at));
                None
            }
            (None, Some(code)) if ends => Some(Reply::first(code, line, at)),
            (None, Some(code)) if separator == Some(&b'-') => {
                self.open = Some(Reply::first(code, line, at));
                None
            }
            (None, _) => None,
        }
    }

    /// Whether a multi-line reply has begun and not ended.
    pub fn is_within(&self) -> bool {
        self.open.is_some()
    }

    /// What the line at hand, which stands at `at`, names in a reply that goes on, and where.
    pub fn named_within(&self, at: u32) -> Option<(Code, Endpoint, Place)> {
        let Reply { code, named, place } = self.open?;
        let Named::Endpoint(endpoint) = named else { return None };
        let place = place.filter(|place| place.at.wrapping_sub(at).cast_signed() >= 0)?;
        Some((code, endpoint, place))
    }

    /// What a line of which no more than this has come shows of the endpoint of a 227 or 229.
    pub fn sight(&self, line: &[u8]) -> Option<(Code, Sight)> {
        let separator = line.get(3);
        let (code, from) = match (&self.open, Code::read(line)) {
            (Some(Reply { code, .. }), Some(read)) if read == *code => {
                let from = match separator {
                    Some(b' ' | b'\t') => 3,
                    Some(b'-') => 4,
                    _ => 0,
                };
                (read, from)
            }
            (Some(open), _) => (open.code, 0),
            (None, Some(code)) if matches!(separator, Some(b' ' | b'\t' | b'-')) => (code, 4),
            (None, _) => return None,
        };
        match code {
            Code::PASSIVE => Some((code, sight_host_port(line, from))),
            Code::EXTENDED_PASSIVE => Some((code, sight_passive(line, from))),
            _ => None,
        }
    }

    /// Lines were missed: whatever reply was open may have ended.
    pub fn reset(&mut self) {
        self.open = None;
    }
}

impl Reply {
    fn first(code: Code, line: &[u8], at: u32) -> Self {
        Self { code, named: Named::Nothing, place: None }.with(line, 4, at)
    }

    /// Looks for an address in one more line.
    fn with(mut self, line: &[u8], from: usize, at: u32) -> Self {
        let found = match self.code {
            Code::PASSIVE => find_host_port(line, from),
            Code::EXTENDED_PASSIVE => find_passive(line, from),
            _ => return self,
        };
        self.named = match (self.named, found) {
            (_, Ok((endpoint, text))) => {
                let len = text.len() as u16;
                self.place = Some(Place { at: at.wrapping_add(text.start as u32), len });
                Named::Endpoint(endpoint)
            }
            (Named::Nothing, Err(error)) => Named::Unreadable(error),
            (Named::Unreadable(before), Err(error)) if error.position > before.position => {
                Named::Unreadable(error)
            }
            (before, Err(_)) => before,
        };
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ftp::parse::ErrorKind;

    #[test]
    fn a_line_of_a_reply_that_goes_on_tells_what_it_names_itself() {
        let mut reader = ReplyReader::default();
        let mut named = |line: &[u8], at| {
            reader.line(line, at);
            reader.named_within(at).map(|(code, _, place)| (code.get(), place))
        };
        assert_eq!(named(b"227-first", 100), None);
        let place = Place { at: 206, len: 19 };
        assert_eq!(named(b" here (198,51,100,1,156,65)", 199), Some((227, place)));
        assert_eq!(named(b" nothing", 300), None);
        assert_eq!(named(b"227 end", 400), None);
    }

    /// The replies in some lines, as code and what they name.
    fn replies(lines: &str) -> Vec<(u16, Named)> {
        let mut reader = ReplyReader::default();
        let replies = lines.lines().filter_map(|line| reader.line(line.as_bytes(), 0));
        replies.map(|reply| (reply.code.get(), reply.named)).collect()
    }

    fn named(line: &str) -> Named {
        let [(_, named)] = replies(line)[..] else { panic!("{line} is not one reply") };
        named
    }

    fn at(host: &str, port: u16) -> Named {
        let host = (!host.is_empty()).then(|| host.parse().unwrap());
        Named::Endpoint(Endpoint { host, port: port.try_into().unwrap() })
    }

    fn unreadable(position: usize, kind: ErrorKind) -> Named {
        Named::Unreadable(ParseError { position, kind })
    }

    #[test]
    fn the_address_of_a_227_is_found_wherever_it_stands() {
        for line in [
            "227 Entering Passive Mode (192,0,2,1,156,65).",
            "227 Entering Passive Mode 192,0,2,1,156,65",
            "227 Entering passive mode =192,0,2,1,156,65",
            "227 ok 123 (192,0,2,1,156,65)",
            "227 2 of 1,2,3 files (192, 0, 2, 1, 156, 65)",
            "227 192,0,2,1,156,65",
        ] {
            assert_eq!(named(line), at("192.0.2.1", 40_001), "{line}");
        }
    }

    #[test]
    fn a_227_without_a_good_address_says_where_it_fails() {
        assert_eq!(named("227 Entering"), unreadable(4, ErrorKind::NoAddress));
        assert_eq!(named("227"), unreadable(4, ErrorKind::NoAddress));
        assert_eq!(named("227 (1,2,3,4,5)"), unreadable(14, ErrorKind::Wanted("a comma")));
        assert_eq!(named("227 (1,2,3,4,5,6,7)"), unreadable(16, ErrorKind::TooManyNumbers));
        assert_eq!(named("227 (1,2,3,4,500,6)"), unreadable(13, ErrorKind::NumberAbove(255)));
        assert_eq!(named("227 (1,2,3,4,0,0)"), unreadable(13, ErrorKind::PortZero));
        assert_eq!(named("227 7, 1,2,3,4,5,6"), unreadable(16, ErrorKind::TooManyNumbers));
    }

    #[test]
    fn the_port_of_a_229_is_found_in_its_short_and_long_form() {
        for line in [
            "229 Entering Extended Passive Mode (|||5000|)",
            "229 Extended Passive Mode OK (!!!5000!)",
            "229 ok |||5000|",
            "229 (aaa5000a)",
            "229 (1) || (|||5000",
        ] {
            assert_eq!(named(line), at("", 5000), "{line}");
        }
        assert_eq!(named("229 ok (|1|192.0.2.1|5000|)"), at("192.0.2.1", 5000));
        assert_eq!(named("229 ok (|2|2001:db8::1|5000|)"), at("2001:db8::1", 5000));
    }

    #[test]
    fn a_229_without_a_good_port_says_where_it_fails() {
        assert_eq!(named("229 (|||0|)"), unreadable(8, ErrorKind::PortZero));
        assert_eq!(named("229 (|||65536|)"), unreadable(8, ErrorKind::NumberAbove(65_535)));
        assert_eq!(named("229 (|||)"), unreadable(8, ErrorKind::Wanted("a number")));
        assert_eq!(named("229 (|1|nowhere|5000|)"), unreadable(8, ErrorKind::BadAddress));
        assert_eq!(named("229 fine"), unreadable(4, ErrorKind::NoAddress));
    }

    #[test]
    fn the_place_of_an_address_is_its_text_and_no_more() {
        for (line, text) in [
            ("227 Entering (192,0,2,1,156,65).", "192,0,2,1,156,65"),
            ("227 =192,0,2,1,4,0", "192,0,2,1,4,0"),
            ("229 ok (|||5000|)", "|||5000|"),
            ("229 ok (|1|192.0.2.1|5000|)", "|1|192.0.2.1|5000|"),
        ] {
            let reply = ReplyReader::default().line(line.as_bytes(), u32::MAX).unwrap();
            let Place { at, len } = reply.place.unwrap();
            let start = at.wrapping_add(1) as usize;
            assert_eq!(&line[start..start + usize::from(len)], text);
        }
    }

    #[test]
    fn a_multi_line_reply_counts_once_and_at_its_last_line() {
        let lines = "227-Entering\n (192,0,2,1,156,65)\n227-more\n227 done";
        assert_eq!(replies(lines), [(227, at("192.0.2.1", 40_001))]);
        assert_eq!(replies("229-a (|||5000|)\n229 b (|||5001|)"), [(229, at("", 5001))]);
    }

    #[test]
    fn other_codes_within_a_multi_line_reply_do_not_count() {
        let lines = "220-Welcome\n227 Entering Passive Mode (192,0,2,1,156,65)\n227-x\n220 ready";
        assert_eq!(replies(lines), [(220, Named::Nothing)]);
    }

    #[test]
    fn lines_that_are_no_reply_are_passed_over() {
        assert_eq!(replies("hello\n\n12\n2200 x\n000 x\n999 x\n220"), [(220, Named::Nothing)]);
    }

    #[test]
    fn addresses_in_other_replies_name_nothing() {
        assert_eq!(named("200 PORT (192,0,2,1,156,65)"), Named::Nothing);
    }
}
