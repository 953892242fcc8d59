//! Ports: numbers, ranges, names, and the lists of multiport.

use firewall_common::rule::{MULTIPORT_SLOTS, PortRange};

use super::{
    lines::Word,
    values::{Parsed, list, number, wrong},
};
use crate::rules::{ast::TransportProtocol, problem::Problem, services::Services};

/// Reads ports of one protocol, whose names the services tell.
pub(super) struct Ports<'a> {
    pub(super) services: &'a dyn Services,
    pub(super) protocol: TransportProtocol,
}

impl Ports<'_> {
    /// `--sport` and `--dport`: `21`, `ftp`, `1024:`, `:1023`, `20:21`.
    pub(super) fn range(&self, word: &Word) -> Parsed<PortRange> {
        if word.text.contains(',') {
            let problem = Problem::new(format!("'{}' is a list of ports", word.text));
            return wrong(
                word,
                problem.advise("write -m multiport --dports (or --sports) for a list"),
            );
        }
        self.one(&word.text).map_err(|problem| (word.span(), problem))
    }

    /// `--ports` and its like; a range takes two of the places.
    pub(super) fn list(&self, word: &Word) -> Parsed<Vec<PortRange>> {
        let ranges = list(word)
            .map(|(text, span)| self.one(text).map_err(|problem| (span, problem)))
            .collect::<Parsed<Vec<_>>>()?;
        let slots: usize = list(word).map(|(text, _)| 1 + usize::from(text.contains(':'))).sum();
        if slots > MULTIPORT_SLOTS {
            let problem = Problem::new(format!(
                "multiport has {MULTIPORT_SLOTS} places, and this list needs {slots} (a range takes two)"
            ));
            return wrong(word, problem.advise("split it over two rules"));
        }
        Ok(ranges)
    }

    fn one(&self, text: &str) -> Result<PortRange, Problem> {
        let Some((first, last)) = text.split_once(':') else {
            let port = self.port(text)?;
            return Ok(PortRange { first: port, last: port });
        };
        let first = if first.is_empty() { 0 } else { self.port(first)? };
        let last = if last.is_empty() { u16::MAX } else { self.port(last)? };
        if first > last {
            return Err(Problem::new(format!("the port range {text} is empty"))
                .advise(format!("write {last}:{first}")));
        }
        Ok(PortRange { first, last })
    }

    fn port(&self, text: &str) -> Result<u16, Problem> {
        if text.is_empty() {
            return Err(Problem::new("a port is missing").advise("write a number or a name"));
        }
        if text.bytes().all(|byte| byte.is_ascii_digit()) {
            let port = number(text).and_then(|number| u16::try_from(number).ok());
            return port.ok_or_else(|| {
                Problem::new(format!("port {text} is out of range")).advise("write 0 to 65535")
            });
        }
        self.services.port(text, self.protocol).ok_or_else(|| self.bad_port(text))
    }

    fn bad_port(&self, text: &str) -> Problem {
        let is_range = text.split_once('-').is_some_and(|(first, last)| {
            !first.is_empty() && number(first).is_some() && number(last).is_some()
        });
        if is_range {
            return Problem::new(format!("'{text}' is no port range"))
                .advise(format!("write {}", text.replacen('-', ":", 1)));
        }
        let protocol = self.protocol.name();
        Problem::new(format!("'{text}' is neither a port number nor a {protocol} service"))
            .advise("write a number from 0 to 65535, or a name of /etc/services")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::services::BuiltinServices;

    const PORTS: Ports<'static> =
        Ports { services: &BuiltinServices, protocol: TransportProtocol::Tcp };

    fn word(text: &str) -> Word {
        Word { text: text.into(), start: 10, end: 10 + text.len(), quoted: false }
    }

    fn range(text: &str) -> Result<(u16, u16), String> {
        let range = PORTS.range(&word(text)).map_err(|(_, problem)| problem.to_string())?;
        Ok((range.first, range.last))
    }

    #[test]
    fn ranges_may_be_open_and_names_are_looked_up() {
        assert_eq!(range("1024:"), Ok((1024, 65535)));
        assert_eq!(range(":1023"), Ok((0, 1023)));
        assert_eq!(range("ftp-data:ftp"), Ok((20, 21)));
    }

    #[test]
    fn bad_ports_say_what_to_write() {
        assert_eq!(range("65536"), Err("port 65536 is out of range; write 0 to 65535".into()));
        assert_eq!(range("20-21"), Err("'20-21' is no port range; write 20:21".into()));
        assert_eq!(range("21:20"), Err("the port range 21:20 is empty; write 20:21".into()));
        assert!(range("21,22").unwrap_err().contains("-m multiport"));
        assert!(range("99999999999999999999999").unwrap_err().contains("out of range"));
        assert!(range("").is_err() && range("nonsense").is_err());
    }

    #[test]
    fn a_range_takes_two_of_fifteen_places() {
        assert!(PORTS.list(&word("1:2,3:4,5:6,7:8,9:10,11:12,13:14,15")).is_ok());
        let (_, problem) = PORTS.list(&word("1:2,3:4,5:6,7:8,9:10,11:12,13:14,15,16")).unwrap_err();
        assert!(problem.to_string().contains("needs 16"));
        let (span, _) = PORTS.list(&word("21,x")).unwrap_err();
        assert_eq!((span.start, span.end), (13, 14));
    }
}
