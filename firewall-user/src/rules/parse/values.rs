//! Arguments that are words or numbers: protocols, interfaces, TCP flags,
//! states, ICMP types, helpers.

use std::fmt;

use firewall_common::{addr::Family, flow::helper};

use super::lines::Word;
use crate::rules::{
    ast::{DNAT, IcmpType, SNAT, StateForm, TcpFlags},
    interface::{InterfacePattern, LONGEST_NAME},
    names,
    problem::{Problem, nearest},
    source::Span,
};

/// A value, or what is wrong and where.
pub(super) type Parsed<T> = Result<T, (Span, Problem)>;

pub(super) fn wrong<T>(word: &Word, problem: Problem) -> Parsed<T> {
    Err((word.span(), problem))
}

/// The pieces between commas, each with its place.
pub(super) fn list(word: &Word) -> impl Iterator<Item = (&str, Span)> {
    let mut start = 0;
    word.text.split(',').map(move |piece| {
        let span = word.part(start, start + piece.len());
        start += piece.len() + 1;
        (piece, span)
    })
}

/// Digits alone, so that `+5` and the empty word are none.
pub(super) fn number(text: &str) -> Option<u64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

/// A name or number; `None` is any protocol.
pub(super) fn protocol(word: &Word) -> Parsed<Option<u8>> {
    let text = &word.text;
    if ["all", "any", "ip"].iter().any(|all| text.eq_ignore_ascii_case(all)) {
        return Ok(None);
    }
    if let Some(known) = names::protocol_number(text) {
        return Ok(Some(known));
    }
    match number(text).map(u8::try_from) {
        Some(Ok(0)) => Ok(None),
        Some(Ok(number)) => Ok(Some(number)),
        Some(Err(_)) => wrong(
            word,
            Problem::new(format!("protocol {text} is out of range")).advise("write 0 to 255"),
        ),
        None if text.contains(',') => {
            let problem = Problem::new("-p takes one protocol");
            wrong(word, problem.advise("write one rule for each protocol"))
        }
        None => {
            let problem = Problem::new(format!("unknown protocol '{text}'"));
            wrong(word, problem.did_you_mean(nearest(text, names::protocol_names())))
        }
    }
}

pub(super) fn interface(word: &Word) -> Parsed<InterfacePattern> {
    let text = &word.text;
    let is_bad = |c: char| c.is_whitespace() || c.is_control() || c == '/' || c == ',';
    if text.is_empty() || text.contains(is_bad) {
        let problem = Problem::new(format!("'{text}' is no interface name"));
        return wrong(
            word,
            problem.advise("write one name, as in: -i eth0, or -i eth+ for several"),
        );
    }
    if text.len() > LONGEST_NAME {
        let problem = Problem::new(format!("the interface name '{text}' is too long"));
        return wrong(
            word,
            problem.advise(format!("names have at most {LONGEST_NAME} characters")),
        );
    }
    Ok(match text.strip_suffix('+') {
        Some(name) => InterfacePattern { name: name.to_owned(), wildcard: true },
        None => InterfacePattern { name: text.clone(), wildcard: false },
    })
}

pub(super) fn tcp_flags(mask: &Word, compare: &Word) -> Parsed<TcpFlags> {
    Ok(TcpFlags { mask: flag_bits(mask)?, compare: flag_bits(compare)? })
}

fn flag_bits(word: &Word) -> Parsed<u8> {
    let mut bits = 0;
    for (name, span) in list(word) {
        let upper = name.to_ascii_uppercase();
        bits |= match upper.as_str() {
            "ALL" => names::ALL_TCP_FLAGS,
            "NONE" => 0,
            _ => match names::TCP_FLAGS.iter().find(|(known, _)| *known == upper) {
                Some((_, bit)) => *bit,
                None => {
                    let problem = Problem::new(format!("unknown TCP flag '{name}'"));
                    let known =
                        "write FIN, SYN, RST, PSH, ACK, URG, ALL or NONE, with commas between";
                    return Err((span, problem.advise(known)));
                }
            },
        };
    }
    Ok(bits)
}

pub(super) fn states(word: &Word, form: StateForm) -> Parsed<u8> {
    let mut states = 0;
    for (name, span) in list(word) {
        let upper = name.to_ascii_uppercase();
        match names::states().find(|(known, _)| *known == upper) {
            Some((_, bit)) if form == StateForm::Conntrack || bit & (SNAT | DNAT) == 0 => {
                states |= bit;
            }
            Some(_) => return Err((span, needs_conntrack(&upper))),
            None => return Err((span, unknown_state(name, &upper))),
        }
    }
    Ok(states)
}

fn needs_conntrack(state: &str) -> Problem {
    Problem::new(format!("-m state does not know {state}"))
        .advise(format!("write -m conntrack --ctstate {state}"))
}

fn unknown_state(name: &str, upper: &str) -> Problem {
    if name.is_empty() {
        return Problem::new("a state is missing beside the comma")
            .advise("write the list without blanks");
    }
    let problem = Problem::new(format!("unknown connection state '{name}'"));
    match nearest(upper, names::STATES.iter().map(|state| state.name())) {
        Some(near) => problem.did_you_mean(Some(near)),
        None => problem
            .advise("write NEW, ESTABLISHED, RELATED, INVALID or UNTRACKED, with commas between"),
    }
}

/// A name, `type` or `type/code`.
pub(super) fn icmp_type(word: &Word, family: Family) -> Parsed<IcmpType> {
    let text = &word.text;
    let known = names::icmp_types(family);
    if let Some((_, icmp)) = known.iter().find(|(name, _)| name.eq_ignore_ascii_case(text)) {
        return Ok(*icmp);
    }
    let (kind, code) = match text.split_once('/') {
        Some((kind, code)) => (kind, Some(code)),
        None => (text.as_str(), None),
    };
    let Some(kind) = byte(kind) else { return wrong(word, unknown_icmp_type(text, family)) };
    match (kind, code.map(byte)) {
        (255, None) if family == Family::Ipv4 => Ok(IcmpType::Any),
        (_, None) => Ok(IcmpType::Type(kind)),
        (_, Some(Some(code))) => Ok(IcmpType::Code(kind, code)),
        (_, Some(None)) => wrong(word, unknown_icmp_type(text, family)),
    }
}

fn byte(text: &str) -> Option<u8> {
    number(text).and_then(|number| u8::try_from(number).ok())
}

fn unknown_icmp_type(text: &str, family: Family) -> Problem {
    let what = match family {
        Family::Ipv4 => "ICMP",
        Family::Ipv6 => "ICMPv6",
    };
    let problem = Problem::new(format!("unknown {what} type '{text}'"));
    match nearest(text, names::icmp_types(family).iter().map(|(name, _)| *name)) {
        Some(near) => problem.did_you_mean(Some(near)),
        None => {
            problem.advise("write a name as echo-request, a type as 8, or a type and code as 3/4")
        }
    }
}

pub(super) fn helper(word: &Word) -> Parsed<u8> {
    let text = &word.text;
    if let Some(helper) = helper::from_name(text) {
        return Ok(helper);
    }
    let problem = Problem::new(format!("unknown helper '{text}'"));
    wrong(word, match text.split_once('-') {
        Some(("ftp", port)) => problem.advise(format!(
            "write ftp: it stands for FTP on every port; port {port} gets it by -t raw -A PREROUTING -p tcp --dport {port} -j CT --helper ftp"
        )),
        _ => problem.advise("there are ftp and tftp"),
    })
}

/// `--mss` of SYNPROXY, in bytes.
pub(super) fn segment_size(word: &Word) -> Parsed<u16> {
    let size = number(&word.text).and_then(|size| u16::try_from(size).ok());
    size.filter(|size| *size > 0).ok_or_else(|| {
        let problem = Problem::new(format!("'{}' is no segment size", word.text));
        (word.span(), problem.advise("write the server's in bytes, as 1460; at most 65535"))
    })
}

/// The kind of a TCP option.
pub(super) fn tcp_option(word: &Word) -> Parsed<u8> {
    let kind = number(&word.text).and_then(|kind| u8::try_from(kind).ok());
    kind.filter(|kind| *kind > 0).ok_or_else(|| {
        let problem = Problem::new(format!("'{}' is no kind of TCP option", word.text));
        (word.span(), problem.advise("write 1 to 255, as 2 for the segment size"))
    })
}

/// The largest shift of windows (RFC 7323 section 2.3).
const LARGEST_SCALE: u8 = 14;

pub(super) fn window_scale(word: &Word) -> Parsed<u8> {
    let scale = number(&word.text).and_then(|scale| u8::try_from(scale).ok());
    scale.filter(|scale| *scale <= LARGEST_SCALE).ok_or_else(|| {
        let problem = Problem::new(format!("'{}' is no window scale", word.text));
        (word.span(), problem.advise(format!("write the server's, 0 to {LARGEST_SCALE}")))
    })
}

pub(super) fn log_level(word: &Word) -> Parsed<u8> {
    let level = match number(&word.text) {
        Some(number) => u8::try_from(number).ok().filter(|level| *level < 8),
        None => names::log_level(&word.text),
    };
    level.ok_or_else(|| {
        let problem = Problem::new(format!("unknown log level '{}'", word.text));
        let levels = "write 0 to 7, or emerg, alert, crit, error, warning, notice, info or debug";
        (word.span(), problem.advise(levels))
    })
}

/// Longest text of `--log-prefix`, as the kernel has it.
const LONGEST_PREFIX: usize = 29;
/// Longest text of `--comment`.
const LONGEST_COMMENT: usize = 255;

pub(super) fn log_prefix(word: &Word) -> Parsed<String> {
    text(word, "log prefix", LONGEST_PREFIX)
}

/// The kernel keeps 64 bytes, with the end.
pub(super) fn nflog_prefix(word: &Word) -> Parsed<String> {
    text(word, "log prefix", 63)
}

/// A number that is not above `most`.
pub(super) fn upto<T: TryFrom<u64> + fmt::Display + Copy>(
    word: &Word,
    what: &str,
    most: T,
) -> Parsed<T> {
    let value = number(&word.text).filter(|_| !word.text.is_empty());
    value.and_then(|value| T::try_from(value).ok()).ok_or_else(|| {
        let problem = Problem::new(format!("'{}' is no {what}", word.text));
        (word.span(), problem.advise(format!("write 0 to {most}")))
    })
}

pub(super) fn comment(word: &Word) -> Parsed<String> {
    text(word, "comment", LONGEST_COMMENT)
}

fn text(word: &Word, what: &str, longest: usize) -> Parsed<String> {
    if word.text.len() > longest {
        let problem = Problem::new(format!("the {what} has {} bytes", word.text.len()));
        return wrong(word, problem.advise(format!("it may have {longest}")));
    }
    if word.text.contains(char::is_control) {
        return wrong(word, Problem::new(format!("the {what} contains a control character")));
    }
    Ok(word.text.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn word(text: &str) -> Word {
        Word { text: text.into(), start: 0, end: text.len(), quoted: false }
    }

    fn message<T: fmt::Debug>(parsed: Parsed<T>) -> String {
        parsed.unwrap_err().1.to_string()
    }

    #[test]
    fn protocols_go_by_name_number_or_all() {
        assert_eq!(protocol(&word("TCP")).unwrap(), Some(6));
        assert_eq!(protocol(&word("47")).unwrap(), Some(47));
        assert_eq!(protocol(&word("all")).unwrap(), None);
        assert_eq!(message(protocol(&word("tpc"))), "unknown protocol 'tpc'; did you mean tcp?");
        assert!(message(protocol(&word("256"))).contains("out of range"));
    }

    #[test]
    fn a_trailing_plus_is_a_wildcard() {
        assert_eq!(interface(&word("ppp+")).unwrap().to_string(), "ppp+");
        assert!(interface(&word("a-name-of-16-chars")).is_err());
    }

    #[test]
    fn states_are_a_set_and_misspelt_ones_are_named() {
        assert_eq!(states(&word("established,RELATED"), StateForm::State).unwrap(), 6);
        let (span, problem) = states(&word("NEW,ESTABLISHD"), StateForm::State).unwrap_err();
        assert_eq!(span.start, 4);
        assert_eq!(
            problem.to_string(),
            "unknown connection state 'ESTABLISHD'; did you mean ESTABLISHED?"
        );
    }

    #[test]
    fn icmp_types_go_by_name_number_and_code() {
        let v4 = |text| icmp_type(&word(text), Family::Ipv4);
        assert_eq!(v4("fragmentation-needed").unwrap(), IcmpType::Code(3, 4));
        assert_eq!(v4("3/4").unwrap(), IcmpType::Code(3, 4));
        assert_eq!(v4("any").unwrap(), IcmpType::Any);
        assert!(v4("256").is_err() && v4("3/").is_err() && v4("/3").is_err());
        assert_eq!(icmp_type(&word("ping"), Family::Ipv6).unwrap(), IcmpType::Type(128));
    }

    #[test]
    fn a_helper_of_another_port_is_pointed_to_the_raw_table() {
        assert!(message(helper(&word("ftp-2121"))).contains("--dport 2121 -j CT --helper ftp"));
        assert_eq!(message(helper(&word("sip"))), "unknown helper 'sip'; there are ftp and tftp");
    }
}
