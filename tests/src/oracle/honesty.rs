//! Whether an announcement of a control connection was part of an honest dialogue: asked for,
//! and agreed to. Told by the lines of a capture alone, and by none of the firewall's code.

use crate::wire::End;

/// Why nobody has negotiated a hole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dishonest {
    /// To a port below 1024.
    Privileged,
    /// 227 or 229 that answers no PASV or EPSV.
    Unasked,
    /// PORT or EPRT that the server has not answered with 200.
    NotAccepted,
    /// PORT, EPRT or PASV behind `EPSV ALL`.
    Forsworn,
}

impl Dishonest {
    pub const ALL: [Self; 4] = [Self::Privileged, Self::Unasked, Self::NotAccepted, Self::Forsworn];

    /// Of the difference in `docs/differences.md`.
    pub const fn id(self) -> &'static str {
        match self {
            Self::Forsworn => "epsv-all",
            Self::Privileged | Self::Unasked | Self::NotAccepted => "negotiated",
        }
    }

    pub const fn sentence(self) -> &'static str {
        match self {
            Self::Privileged => "the port is privileged",
            Self::Unasked => "the reply answers no PASV or EPSV",
            Self::NotAccepted => "the server has not agreed with 200",
            Self::Forsworn => "the client has said EPSV ALL",
        }
    }
}

/// The lines of a control connection in the order in which they were sent.
#[derive(Clone, Debug, Default)]
pub struct Dialogue {
    /// The frame that ends each line, who says it, and the line.
    lines: Vec<(usize, End, String)>,
    /// What has no end yet, of client and server.
    begun: [Vec<u8>; 2],
}

impl Dialogue {
    /// Takes in what a segment says.
    pub fn say(&mut self, frame: usize, from: End, bytes: &[u8]) {
        for byte in bytes {
            let begun = &mut self.begun[from as usize];
            if *byte != b'\n' {
                begun.push(*byte);
                continue;
            }
            let line = String::from_utf8_lossy(begun).trim_end().to_ascii_uppercase();
            begun.clear();
            self.lines.push((frame, from, line));
        }
    }

    /// What is wrong with a hole to this port that was opened by this frame; `None` where it
    /// was negotiated.
    pub fn dishonesty(&self, frame: usize, dport: u16) -> Option<Dishonest> {
        if dport < 1024 {
            return Some(Dishonest::Privileged);
        }
        let at = self.lines.iter().position(|(number, _, line)| {
            *number == frame && ANNOUNCING.iter().any(|word| line.starts_with(word))
        })?;
        let (_, from, line) = &self.lines[at];
        let forswears = |(_, from, line): &(usize, End, String)| {
            *from == End::Client && line.starts_with("EPSV ALL")
        };
        let is_extended = line.starts_with("229");
        if !is_extended && self.lines[..at].iter().any(forswears) {
            return Some(Dishonest::Forsworn);
        }
        match from {
            End::Server => (!self.is_asked_for(at)).then_some(Dishonest::Unasked),
            End::Client => (!self.is_accepted(at)).then_some(Dishonest::NotAccepted),
        }
    }

    /// Whether the command before a reply asks for it.
    fn is_asked_for(&self, at: usize) -> bool {
        let before = self.lines[..at].iter().rev();
        let mut before =
            before.take_while(|(_, from, line)| *from == End::Client || !is_reply(line));
        before.any(|(_, from, line)| {
            *from == End::Client && (line.starts_with("PASV") || line.starts_with("EPSV"))
        })
    }

    /// Whether the reply to a command is 200.
    fn is_accepted(&self, at: usize) -> bool {
        let mut behind = self.lines[at + 1..].iter();
        let reply = behind.find(|(_, from, line)| *from == End::Server && is_reply(line));
        reply.is_some_and(|(_, _, line)| line.starts_with("200"))
    }
}

const ANNOUNCING: [&str; 4] = ["PORT", "EPRT", "227", "229"];

/// The last line of a reply: three digits, and no hyphen.
fn is_reply(line: &str) -> bool {
    line.len() >= 3
        && line.bytes().take(3).all(|byte| byte.is_ascii_digit())
        && line.as_bytes().get(3) != Some(&b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dialogue(lines: &[(End, &str)]) -> Dialogue {
        let mut dialogue = Dialogue::default();
        for (frame, (from, line)) in lines.iter().enumerate() {
            dialogue.say(frame, *from, format!("{line}\r\n").as_bytes());
        }
        dialogue
    }

    const PORT: (End, &str) = (End::Client, "PORT 192,0,2,2,200,1");
    const PASSIVE: (End, &str) = (End::Server, "227 Entering (198,51,100,2,200,1)");

    #[test]
    fn a_port_counts_with_the_server_s_200() {
        let accepted = dialogue(&[PORT, (End::Server, "200 fine")]);
        assert_eq!(accepted.dishonesty(0, 51_201), None);
        let refused = dialogue(&[PORT, (End::Server, "530 log in"), (End::Server, "200 no")]);
        assert_eq!(refused.dishonesty(0, 51_201), Some(Dishonest::NotAccepted));
        assert_eq!(accepted.dishonesty(0, 22), Some(Dishonest::Privileged));
    }

    #[test]
    fn a_227_counts_when_it_was_asked_for() {
        let asked = dialogue(&[(End::Client, "pasv"), (End::Server, "227-soon"), PASSIVE]);
        assert_eq!(asked.dishonesty(2, 51_201), None);
        let unasked = dialogue(&[(End::Client, "NOOP"), PASSIVE]);
        assert_eq!(unasked.dishonesty(1, 51_201), Some(Dishonest::Unasked));
        let answered = dialogue(&[(End::Client, "PASV"), (End::Server, "500 no"), PASSIVE]);
        assert_eq!(answered.dishonesty(2, 51_201), Some(Dishonest::Unasked));
    }

    #[test]
    fn behind_epsv_all_nothing_else_counts() {
        let said = dialogue(&[(End::Client, "EPSV ALL"), PORT, (End::Server, "200 fine")]);
        assert_eq!(said.dishonesty(1, 51_201), Some(Dishonest::Forsworn));
    }

    #[test]
    fn a_line_in_pieces_belongs_to_the_frame_that_ends_it() {
        let mut dialogue = Dialogue::default();
        dialogue.say(1, End::Client, b"PORT 192,0,2,2,");
        dialogue.say(2, End::Client, b"200,1\r\n");
        dialogue.say(3, End::Server, b"200 fine\r\n");
        assert_eq!(dialogue.dishonesty(2, 51_201), None);
        assert_eq!(dialogue.lines.len(), 2);
    }
}
