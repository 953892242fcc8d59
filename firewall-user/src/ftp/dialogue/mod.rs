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
//! - After `EPSV ALL` was accepted, nothing but EPSV opens (RFC 2428 section 4).
//! - A transfer that ended well has used the hole of its PORT; the next one, without
//!   another PORT, opens it once more (RFC 959 section 3.2: the port stays).
//! - After AUTH was accepted TLS records pass unread, until text follows them
//!   ([`encryption`]).

mod encryption;
mod holes;
mod not_ftp;
mod questions;

use std::{net::IpAddr, sync::Arc};

use holes::Negotiated;
pub use not_ftp::NotFtp;
use questions::{Question, Questions, Serial};

use super::{
    note::{Announcement, Note},
    parse::{Code, Command, Reply},
    policy::Policy,
};
use crate::helper::{Actions, Beginning, Form, Hole, Names, Passage};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The greeting is awaited; `announced` after a 120.
    Greeting {
        announced: bool,
    },
    Talking,
    /// TLS records pass.
    Sealed,
    /// Encrypted by other means.
    Protected,
    NotFtp,
}

/// What shows that a PORT may open before it is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Proof {
    Login,
    /// Any command that is answered with success: a login may have been missed.
    Answer,
}

/// The state of one control connection.
#[derive(Clone, Debug)]
pub struct Dialogue {
    client: IpAddr,
    server: IpAddr,
    names: Names,
    policy: Arc<Policy>,
    beginning: Beginning,
    /// Something of it was missed that its receiver cannot have.
    doubted: bool,
    phase: Phase,
    /// Whether the client has said a line.
    spoken: bool,
    proof: Proof,
    proven: bool,
    /// EPSV ALL was accepted.
    only_epsv: bool,
    questions: Questions,
    /// The latest PORT or EPRT.
    serial: Serial,
    negotiated: Option<Negotiated>,
    /// What the present line announced.
    announced: Option<(Form, Hole)>,
    is_marked: bool,
    is_server_clear: bool,
    passage: Option<Passage>,
}

impl Dialogue {
    pub fn new(client: IpAddr, server: IpAddr, beginning: Beginning, policy: Arc<Policy>) -> Self {
        Self {
            client: client.to_canonical(),
            server: server.to_canonical(),
            names: Names::default(),
            policy,
            beginning,
            doubted: false,
            phase: match beginning {
                Beginning::Seen => Phase::Greeting { announced: false },
                Beginning::Missed | Beginning::Forgotten => Phase::Talking,
                Beginning::Encrypted => Phase::Protected,
            },
            spoken: false,
            proof: if beginning == Beginning::Seen { Proof::Login } else { Proof::Answer },
            proven: false,
            only_epsv: false,
            questions: Questions::default(),
            serial: Serial::default(),
            negotiated: None,
            announced: None,
            is_marked: beginning == Beginning::Encrypted,
            is_server_clear: false,
            passage: None,
        }
    }

    /// Each host may name the address by which the other one knows it, and means its own.
    pub fn known_as(&mut self, names: Names) {
        self.names = names;
    }

    /// Whether a 227 or 229 would be an answer now.
    pub fn awaits(&self, code: Code) -> bool {
        self.phase == Phase::Talking && self.questions.await_code(code)
    }

    /// Whether there is any sense in reading on.
    pub fn is_followed(&self) -> bool {
        !matches!(self.phase, Phase::Protected | Phase::NotFtp)
    }

    /// Whether lines mean anything.
    pub fn is_heard(&self) -> bool {
        matches!(self.phase, Phase::Greeting { .. } | Phase::Talking)
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
        if !self.is_heard() {
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
            Command::EpsvAll => self.ask(Question::EpsvAll, actions),
            Command::Transfer => self.transfer(actions),
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
            Phase::Talking | Phase::Sealed | Phase::Protected | Phase::NotFtp => {}
        }
    }

    /// From now on it is as one that was forgotten, and half a line proves nothing.
    pub fn doubt(&mut self) {
        self.doubted = true;
    }

    /// Whether all was read since its reading began, and nothing was lost before that.
    pub fn is_sure(&self) -> bool {
        self.beginning != Beginning::Forgotten && !self.doubted
    }

    /// Whether a line counts whose beginning was seen, or was not.
    pub fn counts(&self, is_whole: bool) -> bool {
        is_whole || !self.doubted
    }

    /// A part of either direction was missed: which command the next reply
    /// answers is unknown, so none that is outstanding opens anything.
    pub fn lost(&mut self) {
        self.questions.clear();
        self.negotiated = self.negotiated.filter(|_| self.hole().is_some());
    }

    /// A part of what the client said was missed. How it began must be known.
    pub fn lost_of_client(&mut self, actions: &mut Actions) {
        self.lost();
        if self.is_heard() && self.beginning == Beginning::Seen && !self.spoken {
            self.give_up(NotFtp::FirstLineUnseen, actions);
        }
    }

    /// The control connection has ended.
    pub fn ended(&mut self, actions: &mut Actions) {
        self.close(actions);
        self.dismiss(actions);
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
            return self.protected(actions);
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
        self.proven |= self.proof == Proof::Answer && is_accepted && question.is_some();
    }

    /// What the reply to a command without a port in it means.
    fn outcome(&mut self, question: Question, code: Code, actions: &mut Actions) {
        match question {
            Question::Active(serial) => self.active_outcome(serial, code, actions),
            Question::Transfer { is_again } => self.transfer_outcome(is_again, code, actions),
            Question::EpsvAll if code.is_success() => self.only_epsv = true,
            Question::Auth { tls: true } if code == Code::SECURITY_ACCEPTED => {
                self.sealed_by_auth(actions);
            }
            Question::Auth { tls: false } if code == Code::SECURITY_ACCEPTED => {
                self.protected(actions);
            }
            // Servers older than RFC 4217 begin TLS after this one.
            Question::Auth { tls: true } if code == Code::SECURITY_CONTINUES => {
                self.sealed_by_auth(actions);
            }
            Question::Login if code.is_success() => self.proven = true,
            Question::Reinitialize if code.is_success() => {
                self.close(actions);
                (self.proven, self.only_epsv) = (false, false);
            }
            Question::Quit if code.is_success() => self.close(actions),
            Question::Pasv
            | Question::Epsv
            | Question::EpsvAll
            | Question::Auth { .. }
            | Question::Login
            | Question::Reinitialize
            | Question::Quit
            | Question::Other => {}
        }
    }
}

#[cfg(test)]
mod tests;
