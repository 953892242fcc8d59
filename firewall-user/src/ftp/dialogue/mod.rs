//! What a control connection has negotiated.
//!
//! The rules, for one connection:
//! - It must behave like FTP. When its start was seen, the server speaks first
//!   and greets (220, also after 120), and the client's first line is a command
//!   of FTP. A request of HTTP ends the matter at any time. What is not FTP
//!   opens nothing for the rest of its life, so a browser that is made to send
//!   `PORT` inside of a request (NAT slipstreaming) opens nothing.
//! - A 227 or 229 only answers an outstanding PASV or EPSV.
//! - A PORT or EPRT opens its hole as it passes, so that a server that connects
//!   early finds it, once a login has succeeded; before, when the server has
//!   accepted it (2xx). A failure reply closes it.
//! - When the start was not seen (the daemon came later), a first command that
//!   the server answers with success stands for greeting and login.
//! - One hole at a time. The next PORT, EPRT, PASV or EPSV closes the former;
//!   so do 421, the replies to QUIT and REIN, encryption, and the end.
//! - After AUTH was accepted nothing is read. A CCC that ends the encryption is
//!   itself encrypted, so the connection stays unread.

mod questions;

use std::{fmt, net::IpAddr, num::NonZeroU16, sync::Arc};

use questions::{Question, Questions, Serial};

use super::{
    action::Actions,
    hole::Hole,
    note::{Announcement, Note},
    parse::{Code, Command, Endpoint, Named, Reply},
    policy::Policy,
};

/// Why a connection is held not to be FTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotFtp {
    ClientSpokeFirst,
    NoGreeting(Code),
    FirstLine,
    Http,
}

impl fmt::Display for NotFtp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ClientSpokeFirst => f.write_str("the client spoke before the server's greeting"),
            Self::NoGreeting(code) => write!(f, "the server greeted with {}, not 220", code.get()),
            Self::FirstLine => f.write_str("the client's first line is no FTP command"),
            Self::Http => f.write_str("the client speaks HTTP"),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The greeting is awaited; `announced` after a 120.
    Greeting {
        announced: bool,
    },
    Talking,
    Encrypted,
    NotFtp,
}

/// A hole that stands, and the PORT that made it if its reply is awaited.
#[derive(Clone, Copy, Debug)]
struct Standing {
    hole: Hole,
    serial: Option<Serial>,
}

/// The state of one control connection.
#[derive(Clone, Debug)]
pub struct Dialogue {
    client: IpAddr,
    server: IpAddr,
    policy: Arc<Policy>,
    start_seen: bool,
    phase: Phase,
    /// Whether the client has said a line.
    spoken: bool,
    /// Whether a login has succeeded, or what stands for it.
    proven: bool,
    questions: Questions,
    /// The latest PORT or EPRT.
    serial: Serial,
    standing: Option<Standing>,
    /// A hole that opens when the server accepts the PORT.
    pending: Option<(Serial, Hole)>,
}

impl Dialogue {
    pub fn new(client: IpAddr, server: IpAddr, start_seen: bool, policy: Arc<Policy>) -> Self {
        Self {
            client: client.to_canonical(),
            server: server.to_canonical(),
            policy,
            start_seen,
            phase: if start_seen { Phase::Greeting { announced: false } } else { Phase::Talking },
            spoken: false,
            proven: false,
            questions: Questions::default(),
            serial: Serial::default(),
            standing: None,
            pending: None,
        }
    }

    /// The hole that this connection has open, unless it was used since.
    pub fn hole(&self) -> Option<Hole> {
        self.standing.map(|standing| standing.hole)
    }

    /// Takes over a hole that stands already, so that it can be superseded.
    pub fn restore_hole(&mut self, hole: Hole) {
        self.standing = Some(Standing { hole, serial: None });
    }

    /// Whether there is any sense in reading on.
    pub fn is_followed(&self) -> bool {
        matches!(self.phase, Phase::Greeting { .. } | Phase::Talking)
    }

    pub fn is_encrypted(&self) -> bool {
        self.phase == Phase::Encrypted
    }

    pub fn client(&self) -> IpAddr {
        self.client
    }

    pub fn server(&self) -> IpAddr {
        self.server
    }

    /// Bytes held on the heap.
    pub fn memory(&self) -> usize {
        self.questions.memory()
    }

    /// The client said this.
    pub fn command(&mut self, command: Command, actions: &mut Actions) {
        if !self.is_followed() {
            return;
        }
        if let Some(why) = self.unlike_ftp(command) {
            return self.give_up(why, actions);
        }
        self.spoken |= command != Command::Empty;
        match command {
            Command::Active(what, endpoint) => self.active(what, endpoint, actions),
            Command::Pasv => self.passive(Question::Pasv, actions),
            Command::Epsv => self.passive(Question::Epsv, actions),
            Command::Auth { tls } => self.ask(Question::Auth { tls }, actions),
            Command::Login => self.ask(Question::Login, actions),
            Command::Reinitialize => self.ask(Question::Reinitialize, actions),
            Command::Quit => self.ask(Question::Quit, actions),
            Command::Other | Command::Unknown | Command::Http => {
                self.ask(Question::Other, actions);
            }
            Command::Empty => {}
        }
    }

    /// The client said something that cannot be read; the server will answer.
    pub fn unreadable_command(&mut self, actions: &mut Actions) {
        // A request line of HTTP may be too long; a first command is not.
        let unread = if self.spoken { Command::Other } else { Command::Unknown };
        self.command(unread, actions);
    }

    /// The server said this.
    pub fn reply(&mut self, reply: Reply, actions: &mut Actions) {
        match self.phase {
            Phase::Greeting { .. } => self.greeting(reply.code, actions),
            Phase::Talking if !reply.code.is_preliminary() => self.final_reply(reply, actions),
            Phase::Talking | Phase::Encrypted | Phase::NotFtp => {}
        }
    }

    /// A part of either direction was missed: which command the next reply
    /// answers is unknown, so none that is outstanding opens anything.
    pub fn lost(&mut self) {
        self.questions.clear();
        self.pending = None;
    }

    /// The connection is over to TLS from its first byte or by a 234.
    pub fn encrypted(&mut self, actions: &mut Actions) {
        if self.is_followed() {
            self.retire(Phase::Encrypted, actions);
            actions.encrypted();
        }
    }

    /// The control connection has ended.
    pub fn ended(&mut self, actions: &mut Actions) {
        self.close(actions);
    }

    fn unlike_ftp(&self, command: Command) -> Option<NotFtp> {
        match (command, self.phase) {
            (Command::Http, _) => Some(NotFtp::Http),
            (_, Phase::Greeting { announced: false }) => Some(NotFtp::ClientSpokeFirst),
            (Command::Unknown, _) if !self.spoken => Some(NotFtp::FirstLine),
            _ => None,
        }
    }

    fn give_up(&mut self, why: NotFtp, actions: &mut Actions) {
        self.retire(Phase::NotFtp, actions);
        actions.note(Note::NotFtp { client: self.client, why });
    }

    fn retire(&mut self, phase: Phase, actions: &mut Actions) {
        self.close(actions);
        self.questions.clear();
        self.phase = phase;
    }

    fn ask(&mut self, question: Question, actions: &mut Actions) {
        if !self.questions.ask(question) {
            actions.note(Note::TooManyCommands { sender: self.client });
        }
    }

    fn passive(&mut self, question: Question, actions: &mut Actions) {
        self.close(actions);
        self.ask(question, actions);
    }

    fn active(&mut self, what: Announcement, endpoint: Endpoint, actions: &mut Actions) {
        self.close(actions);
        self.serial = self.serial.next();
        let host = endpoint.host.unwrap_or(self.client);
        match self.policy.admit(self.client, host, endpoint.port) {
            Ok(()) => self.active_hole(host, endpoint.port, actions),
            Err(why) => actions.note(Note::Refused { sender: self.client, what, why }),
        }
        self.ask(Question::Active(self.serial), actions);
    }

    fn active_hole(&mut self, host: IpAddr, port: NonZeroU16, actions: &mut Actions) {
        let hole = Hole { src: self.server, dst: host, dport: port.get() };
        if self.proven {
            self.open(hole, Some(self.serial), actions);
        } else {
            self.pending = Some((self.serial, hole));
        }
    }

    fn greeting(&mut self, code: Code, actions: &mut Actions) {
        match code {
            Code::READY | Code::LOGGED_IN => self.phase = Phase::Talking,
            _ if code.is_preliminary() => self.phase = Phase::Greeting { announced: true },
            // "421 too many connections": no greeting, and no reason to worry.
            _ if code.is_failure() => {}
            _ => self.give_up(NotFtp::NoGreeting(code), actions),
        }
    }

    fn final_reply(&mut self, reply: Reply, actions: &mut Actions) {
        if reply.code.is_protected() {
            return self.encrypted(actions);
        }
        if reply.code == Code::CLOSING {
            self.close(actions);
        }
        let question = self.questions.answer(reply.code);
        match (reply.code, question) {
            (Code::PASSIVE, Some(Question::Pasv)) => {
                self.announced(Announcement::Passive, reply.named, actions);
            }
            (Code::EXTENDED_PASSIVE, Some(Question::Epsv)) => {
                self.announced(Announcement::ExtendedPassive, reply.named, actions);
            }
            (Code::PASSIVE, _) => self.unasked(Announcement::Passive, actions),
            (Code::EXTENDED_PASSIVE, _) => self.unasked(Announcement::ExtendedPassive, actions),
            (code, Some(question)) => self.outcome(question, code, actions),
            (_, None) => return,
        }
        let is_accepted = reply.code.is_success() || reply.code.is_intermediate();
        self.proven |= !self.start_seen && is_accepted && question.is_some();
    }

    /// What the reply to a command without a port in it means.
    fn outcome(&mut self, question: Question, code: Code, actions: &mut Actions) {
        match question {
            Question::Active(serial) => self.active_outcome(serial, code, actions),
            Question::Auth { .. } if code == Code::SECURITY_ACCEPTED => self.encrypted(actions),
            // Servers older than RFC 4217 begin TLS after this one.
            Question::Auth { tls: true } if code == Code::SECURITY_CONTINUES => {
                self.encrypted(actions);
            }
            Question::Login if code.is_success() => self.proven = true,
            Question::Reinitialize if code.is_success() => {
                self.close(actions);
                self.proven = false;
            }
            Question::Quit if code.is_success() => self.close(actions),
            Question::Pasv
            | Question::Epsv
            | Question::Auth { .. }
            | Question::Login
            | Question::Reinitialize
            | Question::Quit
            | Question::Other => {}
        }
    }

    fn active_outcome(&mut self, serial: Serial, code: Code, actions: &mut Actions) {
        let pending = self.pending.take_if(|(of, _)| *of == serial);
        match pending {
            Some((_, hole)) if code.is_success() => self.open(hole, None, actions),
            _ if code.is_failure() && self.stands_by(serial) => self.close(actions),
            _ => {}
        }
    }

    fn stands_by(&self, serial: Serial) -> bool {
        self.standing.is_some_and(|standing| standing.serial == Some(serial))
    }

    /// The server answers PASV or EPSV with this.
    fn announced(&mut self, what: Announcement, named: Named, actions: &mut Actions) {
        let sender = self.server;
        match named {
            Named::Endpoint(endpoint) => self.passive_hole(what, endpoint, actions),
            Named::Unreadable(error) => actions.note(Note::Unparsed { sender, what, error }),
            Named::Nothing => {}
        }
    }

    fn passive_hole(&mut self, what: Announcement, endpoint: Endpoint, actions: &mut Actions) {
        // Clients read 0.0.0.0 as the host that they are talking to.
        let named = endpoint.host.filter(|host| !host.is_unspecified());
        let host = named.unwrap_or(self.server);
        match self.policy.admit(self.server, host, endpoint.port) {
            Ok(()) => {
                let hole = Hole { src: self.client, dst: host, dport: endpoint.port.get() };
                self.open(hole, None, actions);
            }
            Err(why) => actions.note(Note::Refused { sender: self.server, what, why }),
        }
    }

    fn unasked(&self, what: Announcement, actions: &mut Actions) {
        actions.note(Note::Unasked { sender: self.server, what });
    }

    fn open(&mut self, hole: Hole, serial: Option<Serial>, actions: &mut Actions) {
        self.close(actions);
        self.standing = Some(Standing { hole, serial });
        actions.open(hole);
    }

    /// Nothing is open or about to open any more.
    fn close(&mut self, actions: &mut Actions) {
        self.pending = None;
        if let Some(standing) = self.standing.take() {
            actions.close(standing.hole);
        }
    }
}

#[cfg(test)]
mod tests;
