//! Another endpoint in the spelling of an announcement.

use std::net::{IpAddr, SocketAddr};

use super::Form;

/// What stands between fields that cannot stand within one.
const DELIMITER: u8 = b'|';

/// Spells an endpoint as the text of an announcement does, with its delimiter. Six numbers
/// cannot name a host of IPv6: only a 227 that names none, 0.0.0.0, announces one there, and
/// goes on naming none.
pub fn spell(form: Form, old: &[u8], told: SocketAddr) -> Vec<u8> {
    let delimiter = char::from(delimiter(old));
    let port = told.port();
    let text = match (form, told.ip()) {
        (Form::HostPort, IpAddr::V4(ip)) => {
            let [a, b, c, d] = ip.octets();
            format!("{a},{b},{c},{d},{},{}", port >> 8, port & 255)
        }
        (Form::HostPort, IpAddr::V6(_)) => format!("0,0,0,0,{},{}", port >> 8, port & 255),
        (Form::Delimited, ip) => {
            let family = if ip.is_ipv4() { 1 } else { 2 };
            [String::new(), family.to_string(), ip.to_string(), port.to_string(), String::new()]
                .join(&delimiter.to_string())
        }
        (Form::PortOnly, _) => format!("{delimiter}{delimiter}{delimiter}{port}{delimiter}"),
    };
    text.into_bytes()
}

/// The one that the text begins with, unless an address could contain it.
fn delimiter(old: &[u8]) -> u8 {
    match old.first() {
        Some(byte) if byte.is_ascii_punctuation() && !b".:".contains(byte) => *byte,
        _ => DELIMITER,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spelled(form: Form, old: &str, told: &str) -> String {
        String::from_utf8(spell(form, old.as_bytes(), told.parse().unwrap())).unwrap()
    }

    #[test]
    fn each_form_has_its_own_spelling() {
        for (form, old, told, wanted) in [
            (Form::HostPort, "10,0,0,2,4,1", "203.0.113.7:65535", "203,0,113,7,255,255"),
            (Form::Delimited, "|1|10.0.0.2|4000|", "203.0.113.7:80", "|1|203.0.113.7|80|"),
            (Form::Delimited, "!2!fd00::2!4000!", "[2001:db8::7]:4000", "!2!2001:db8::7!4000!"),
            (Form::PortOnly, "|||4000|", "203.0.113.7:4001", "|||4001|"),
            (Form::PortOnly, "!!!4000!", "[2001:db8::7]:4001", "!!!4001!"),
        ] {
            assert_eq!(spelled(form, old, told), wanted);
        }
    }

    #[test]
    fn a_delimiter_that_an_address_contains_is_replaced() {
        assert_eq!(spelled(Form::Delimited, ".1.x.", "203.0.113.7:80"), "|1|203.0.113.7|80|");
    }

    #[test]
    fn six_numbers_name_no_host_of_ipv6() {
        let spelled = spelled(Form::HostPort, "0,0,0,0,4,1", "[2001:db8::7]:2049");
        assert_eq!(spelled, "0,0,0,0,8,1");
    }
}
