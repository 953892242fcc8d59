//! The chunk of an SCTP packet that somebody asks about (RFC 9260 section 3.2).

/// Types by name.
const NAMES: [(&str, u8); 13] = [
    ("DATA", 0),
    ("INIT", INIT),
    ("INIT_ACK", 2),
    ("SACK", 3),
    ("HEARTBEAT", 4),
    ("HEARTBEAT_ACK", 5),
    ("ABORT", 6),
    ("SHUTDOWN", 7),
    ("SHUTDOWN_ACK", 8),
    ("ERROR", 9),
    ("COOKIE_ECHO", 10),
    ("COOKIE_ACK", 11),
    ("SHUTDOWN_COMPLETE", 14),
];

/// The one that begins an association.
pub const INIT: u8 = 1;

/// The tag by which the sender of an INIT or INIT ACK wants to be called.
const OWN_TAG: [u8; 4] = [0, 0x0f, 0x42, 0x40];

/// The type with this name; a blank or a dash in it may be an underscore.
pub fn named(text: &str) -> Option<u8> {
    let wanted = text.to_ascii_uppercase().replace(['-', ' '], "_");
    NAMES.iter().find(|(name, _)| *name == wanted).map(|(_, number)| *number)
}

pub fn name(number: u8) -> &'static str {
    NAMES.iter().find(|(_, known)| *known == number).map_or("UNKNOWN", |(name, _)| name)
}

/// All names, for a message.
pub fn names() -> String {
    NAMES.map(|(name, _)| name).join(", ")
}

/// What the other side says to it, where it says anything.
pub const fn answer(number: u8) -> Option<u8> {
    Some(match number {
        // DATA: SACK.
        0 => 3,
        INIT => 2,
        // INIT ACK: COOKIE ECHO, and that its own answer.
        2 => 10,
        10 => 11,
        // HEARTBEAT, SHUTDOWN.
        4 => 5,
        7 => 8,
        // SHUTDOWN ACK: SHUTDOWN COMPLETE.
        8 => 14,
        _ => return None,
    })
}

/// The chunk, with so many bytes behind what its type has.
pub fn bytes(number: u8, payload: u16) -> Vec<u8> {
    let fixed = match number {
        // Tag, window, streams out and in, first number.
        INIT | 2 => [&OWN_TAG[..], &[0, 1, 0, 0, 0, 1, 0, 1, 0, 0, 0, 1]].concat(),
        // Number, stream, number in it, protocol; or number, window, two counts.
        0 | 3 => vec![0; 12],
        7 => vec![0; 4],
        // A parameter without content.
        4 | 5 => vec![0, 1, 0, 4],
        _ => Vec::new(),
    };
    // DATA that begins and ends a message.
    let flags = if number == 0 { 3 } else { 0 };
    let [high, low] = (4 + fixed.len() as u16 + payload).to_be_bytes();
    let mut chunk = [&[number, flags, high, low][..], &fixed].concat();
    let length = chunk.len() + usize::from(payload);
    chunk.resize(length.next_multiple_of(4), 0);
    chunk
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_read_and_written() {
        for (text, number) in NAMES {
            assert_eq!((named(text), name(number)), (Some(number), text));
        }
        assert_eq!((named("cookie-echo"), named("SYN")), (Some(10), None));
    }

    #[test]
    fn a_chunk_tells_its_length_without_what_fills_it_up() {
        let chunk = bytes(0, 3);
        assert_eq!((chunk.len(), chunk[3]), (20, 19));
    }
}
