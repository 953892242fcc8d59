//! One control connection, from segments to actions.

use std::{net::IpAddr, sync::Arc};

use firewall_common::flow::Direction;

use super::{
    action::Actions,
    dialogue::Dialogue,
    hole::Hole,
    note::Note,
    parse::{Command, ReplyReader, command},
    policy::Policy,
    stream::{Line, Read, Seq, Stream},
};

/// Follows a control connection whose client is the flow's originator.
///
/// Bounded: see [`Conversation::memory`]. What its bytes are does not matter;
/// no segment can make it fail.
#[derive(Clone, Debug)]
pub struct Conversation {
    commands: Stream,
    replies: Stream,
    reader: ReplyReader,
    dialogue: Dialogue,
}

impl Conversation {
    /// `start_seen`: the first segment of each direction that will come is the
    /// first one with payload, as when the flow was NEW under this daemon. The
    /// connection must then begin as FTP does. Otherwise it was joined in its
    /// middle, and proves itself by a command that is answered; the first line
    /// of each direction may be a fragment and counts only if it reads as a
    /// command or a reply.
    pub fn new(client: IpAddr, server: IpAddr, start_seen: bool, policy: Arc<Policy>) -> Self {
        Self {
            commands: Stream::new(start_seen),
            replies: Stream::new(start_seen),
            reader: ReplyReader::default(),
            dialogue: Dialogue::new(client, server, start_seen, policy),
        }
    }

    /// The first byte of a direction has this number (ISN + 1), for callers
    /// who know it. Then even the first two segments may come out of order.
    pub fn starts_at(&mut self, direction: Direction, seq: u32) {
        match direction {
            Direction::Original => self.commands.starts_at(Seq(seq)),
            Direction::Reply => self.replies.starts_at(Seq(seq)),
        }
    }

    /// Reads a segment. Its actions are due before it goes on.
    pub fn segment(&mut self, direction: Direction, seq: u32, payload: &[u8]) -> Actions {
        let mut actions = Actions::default();
        if !self.dialogue.is_followed() {
            return actions;
        }
        match direction {
            Direction::Original => self.hear_client(Seq(seq), payload, &mut actions),
            Direction::Reply => self.hear_server(Seq(seq), payload, &mut actions),
        }
        if !self.dialogue.is_followed() {
            self.forget();
        }
        actions
    }

    /// What the sender of a direction has received of the other one, by its
    /// acknowledgement number; before the segment that carries it. Bytes that
    /// have reached the receiver and were not seen here will not be seen any more.
    pub fn acknowledged(&mut self, direction: Direction, ack: u32) -> Actions {
        let mut actions = Actions::default();
        if !self.dialogue.is_followed() {
            return actions;
        }
        let Self { commands, replies, reader, dialogue } = self;
        match direction {
            Direction::Original => replies.acknowledged(Seq(ack), &mut |read| {
                server_said(dialogue, reader, read, &mut actions);
            }),
            Direction::Reply => commands.acknowledged(Seq(ack), &mut |read| {
                client_said(dialogue, read, &mut actions);
            }),
        }
        actions
    }

    /// Takes over a hole that a former daemon has opened for this connection.
    pub fn restore_hole(&mut self, hole: Hole) {
        self.dialogue.restore_hole(hole);
    }

    /// The hole that stands, unless a data connection has used it since.
    pub fn hole(&self) -> Option<Hole> {
        self.dialogue.hole()
    }

    /// Whether segments still matter: not after encryption, nor when the
    /// connection has turned out not to be FTP.
    pub fn is_followed(&self) -> bool {
        self.dialogue.is_followed()
    }

    pub fn is_encrypted(&self) -> bool {
        self.dialogue.is_encrypted()
    }

    /// The connection is over: its flow was closed, deleted or has expired.
    pub fn ended(&mut self) -> Actions {
        let mut actions = Actions::default();
        self.dialogue.ended(&mut actions);
        self.forget();
        actions
    }

    /// Bytes held, at most [`Self::MAX_MEMORY`].
    pub fn memory(&self) -> usize {
        let heap = self.commands.memory() + self.replies.memory() + self.dialogue.memory();
        size_of::<Self>() + heap
    }

    /// What one conversation can hold, whatever its peers send.
    pub const MAX_MEMORY: usize = 48 * 1024;

    fn hear_client(&mut self, seq: Seq, payload: &[u8], actions: &mut Actions) {
        let Self { commands, dialogue, .. } = self;
        if commands.is_fresh() && is_tls_record(payload) {
            return dialogue.encrypted(actions);
        }
        commands.segment(seq, payload, &mut |read| client_said(dialogue, read, actions));
    }

    fn hear_server(&mut self, seq: Seq, payload: &[u8], actions: &mut Actions) {
        let Self { replies, reader, dialogue, .. } = self;
        replies.segment(seq, payload, &mut |read| server_said(dialogue, reader, read, actions));
    }

    fn forget(&mut self) {
        self.commands = Stream::new(false);
        self.replies = Stream::new(false);
    }
}

fn client_said(dialogue: &mut Dialogue, read: Read<'_>, actions: &mut Actions) {
    let sender = dialogue.client();
    if !dialogue.is_followed() {
        return;
    }
    match read {
        Read::Line(line) => command_line(dialogue, line, actions),
        Read::TooLong { whole } => {
            actions.note(Note::LineTooLong { sender });
            if whole {
                dialogue.unreadable_command(actions);
            }
        }
        Read::Lost(loss) => {
            actions.note(Note::Lost { sender, loss });
            dialogue.lost();
        }
    }
}

fn command_line(dialogue: &mut Dialogue, line: Line<'_>, actions: &mut Actions) {
    match command(line.text) {
        Ok(Command::Unknown) if !line.whole => {}
        Ok(command) => dialogue.command(command, actions),
        Err(error) => {
            let sender = dialogue.client();
            actions.note(Note::Unparsed { sender, what: error.what, error: error.error });
            dialogue.command(Command::Other, actions);
        }
    }
}

fn server_said(
    dialogue: &mut Dialogue,
    reader: &mut ReplyReader,
    read: Read<'_>,
    actions: &mut Actions,
) {
    let sender = dialogue.server();
    if !dialogue.is_followed() {
        return;
    }
    match read {
        Read::Line(line) => {
            if let Some(reply) = reader.line(line.text) {
                dialogue.reply(reply, actions);
            }
        }
        Read::TooLong { .. } => {
            actions.note(Note::LineTooLong { sender });
            // Within a multi-line reply it is text; else it was a reply.
            if !reader.is_within() {
                dialogue.lost();
            }
        }
        Read::Lost(loss) => {
            actions.note(Note::Lost { sender, loss });
            reader.reset();
            dialogue.lost();
        }
    }
}

/// The content type and major version of RFC 8446 section 5.1, which no line
/// of FTP begins with: implicit TLS, or a session joined after AUTH.
fn is_tls_record(payload: &[u8]) -> bool {
    matches!(payload, [20..=23, 3, ..])
}
