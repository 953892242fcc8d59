//! What is announced, what of it is admitted, and the one hole that stands for it.

use std::net::IpAddr;

use super::{Dialogue, Question, Serial};
use crate::{
    ftp::{
        note::{Announcement, Note},
        parse::{Code, Endpoint, Named},
        policy::Refusal,
    },
    helper::{Actions, Beginning, Form, Hole},
};

/// The hole that an announcement made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// It opens when the server accepts the PORT.
    Pending(Serial),
    /// It stands; a PORT by its serial when its reply is awaited.
    Open(Option<Serial>),
    /// A transfer over it has ended: of a PORT, so that the next transfer may open it again.
    Spent,
}

/// The latest announcement that was admitted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Negotiated {
    pub(super) hole: Hole,
    pub(super) state: State,
    /// By PORT or EPRT: the server connects, as often as it is asked for a transfer.
    is_active: bool,
}

impl Dialogue {
    /// The hole that this connection has open, unless it was used since.
    pub fn hole(&self) -> Option<Hole> {
        let open = self.negotiated.filter(|it| matches!(it.state, State::Open(_)));
        open.map(|negotiated| negotiated.hole)
    }

    /// Takes over a hole that stands already, so that it can be superseded.
    pub fn restore_hole(&mut self, hole: Hole) {
        let is_active = hole.src == self.server;
        self.negotiated = Some(Negotiated { hole, state: State::Open(None), is_active });
    }

    /// What the latest line announced, if that was admitted; told once.
    pub fn take_announced(&mut self) -> Option<(Form, Hole)> {
        self.announced.take()
    }

    /// PASV and EPSV: the server will name another port.
    pub(super) fn passive(&mut self, question: Question, actions: &mut Actions) {
        self.close(actions);
        self.ask(question, actions);
    }

    /// PORT and EPRT.
    pub(super) fn active(&mut self, what: Announcement, endpoint: Endpoint, actions: &mut Actions) {
        self.close(actions);
        self.serial = self.serial.next();
        let named = endpoint.host.filter(|host| Some(*host) != self.names.client);
        let host = named.unwrap_or(self.client);
        match self.admit_active(host, endpoint) {
            Ok(()) => self.active_hole(what, host, endpoint, actions),
            Err(why) => actions.note(Note::Refused { sender: self.client, what, why }),
        }
        self.ask(Question::Active(self.serial), actions);
    }

    fn admit_active(&self, host: IpAddr, endpoint: Endpoint) -> Result<(), Refusal> {
        if self.only_epsv {
            return Err(Refusal::AfterEpsvAll);
        }
        if self.beginning == Beginning::Forgotten || self.doubted {
            return Err(Refusal::Unwitnessed);
        }
        self.policy.admit(self.client, host, endpoint.port)
    }

    fn active_hole(
        &mut self,
        what: Announcement,
        host: IpAddr,
        endpoint: Endpoint,
        actions: &mut Actions,
    ) {
        let hole = Hole::tcp(self.server, host, endpoint.port.get());
        let form = if what == Announcement::Port { Form::HostPort } else { Form::Delimited };
        self.announced = Some((form, hole));
        let state = State::Pending(self.serial);
        self.negotiated = Some(Negotiated { hole, state, is_active: true });
        if self.proven {
            self.open(State::Open(Some(self.serial)), actions);
        }
    }

    /// The reply to a PORT or EPRT.
    pub(super) fn active_outcome(&mut self, serial: Serial, code: Code, actions: &mut Actions) {
        let Some(negotiated) = self.negotiated else { return };
        match negotiated.state {
            State::Pending(of) if of == serial && code.is_success() => {
                self.open(State::Open(None), actions);
            }
            State::Pending(of) if of == serial => self.close(actions),
            State::Open(Some(of)) if of == serial && code.is_failure() => self.close(actions),
            State::Pending(_) | State::Open(_) | State::Spent => {}
        }
    }

    /// A command that moves data: the server may connect once more to where the last
    /// PORT sent it, when an earlier transfer has used that hole.
    pub(super) fn transfer(&mut self, actions: &mut Actions) {
        let is_again = self.negotiated.is_some_and(|it| it.is_active && it.state == State::Spent);
        if is_again {
            self.open(State::Open(None), actions);
        }
        self.ask(Question::Transfer { is_again }, actions);
    }

    /// The final reply to such a command.
    pub(super) fn transfer_outcome(&mut self, is_again: bool, code: Code, actions: &mut Actions) {
        match &mut self.negotiated {
            Some(negotiated) if negotiated.is_active && code.is_transferred() => {
                let hole = negotiated.hole;
                if std::mem::replace(&mut negotiated.state, State::Spent) != State::Spent {
                    actions.close(hole);
                }
            }
            Some(_) if is_again && code.is_failure() => self.close(actions),
            _ => {}
        }
    }

    /// The server answers PASV or EPSV with this.
    pub(super) fn announced(&mut self, what: Announcement, named: Named, actions: &mut Actions) {
        let sender = self.server;
        match named {
            Named::Endpoint(endpoint) => self.passive_hole(what, endpoint, actions),
            Named::Unreadable(error) => actions.note(Note::Unparsed { sender, what, error }),
            Named::Nothing => {}
        }
    }

    /// A reply that goes on names an endpoint, which it announces if it ends so. Says whether
    /// that would be admitted.
    pub fn begins_to_announce(&mut self, code: Code, endpoint: Endpoint) -> bool {
        let what = match code {
            Code::PASSIVE => Announcement::Passive,
            _ => Announcement::ExtendedPassive,
        };
        let hole = self.awaits(code).then(|| self.admit_passive(what, endpoint).ok()).flatten();
        self.announced = hole.map(|hole| (form(what, endpoint), hole));
        hole.is_some()
    }

    fn admit_passive(&self, what: Announcement, endpoint: Endpoint) -> Result<Hole, Refusal> {
        if self.only_epsv && what == Announcement::Passive {
            return Err(Refusal::AfterEpsvAll);
        }
        // Clients read 0.0.0.0 as the host that they are talking to.
        let named =
            endpoint.host.filter(|host| !host.is_unspecified() && Some(*host) != self.names.server);
        let host = named.unwrap_or(self.server);
        self.policy.admit(self.server, host, endpoint.port)?;
        Ok(Hole::tcp(self.client, host, endpoint.port.get()))
    }

    fn passive_hole(&mut self, what: Announcement, endpoint: Endpoint, actions: &mut Actions) {
        let hole = match self.admit_passive(what, endpoint) {
            Ok(hole) => hole,
            Err(why) => return actions.note(Note::Refused { sender: self.server, what, why }),
        };
        self.close(actions);
        self.announced = Some((form(what, endpoint), hole));
        let state = State::Open(None);
        self.negotiated = Some(Negotiated { hole, state, is_active: false });
        actions.open(hole);
    }

    pub(super) fn unasked(&self, what: Announcement, actions: &mut Actions) {
        actions.note(Note::Unasked { sender: self.server, what });
    }

    fn open(&mut self, state: State, actions: &mut Actions) {
        if let Some(negotiated) = &mut self.negotiated {
            negotiated.state = state;
            actions.open(negotiated.hole);
        }
    }

    /// Nothing is open or about to open any more.
    pub(super) fn close(&mut self, actions: &mut Actions) {
        if let Some(Negotiated { hole, state: State::Open(_), .. }) = self.negotiated.take() {
            actions.close(hole);
        }
    }
}

/// How a reply spells its endpoint.
fn form(what: Announcement, endpoint: Endpoint) -> Form {
    match (what, endpoint.host) {
        (Announcement::Port | Announcement::Passive, _) => Form::HostPort,
        (Announcement::ExtendedPassive, None) => Form::PortOnly,
        (Announcement::Eprt | Announcement::ExtendedPassive, _) => Form::Delimited,
    }
}
