//! One control connection, from segments to actions.

use std::{net::IpAddr, sync::Arc};

use firewall_common::flow::Direction;

use super::{
    dialogue::Dialogue,
    note::Note,
    parse::{
        Command, CommandError, ErrorKind, MAX_SPELLING, ParseError, ReplyReader, Sight,
        argument_of, begun_argument, command,
    },
    policy::Policy,
    stream::{Line, Read, Seq, Stream},
};
use crate::helper::{Actions, Announced, Beginning, Hole, Names, Place, Reader, Unfinished};

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
    /// Where the server's present line has announced an endpoint before its end has come.
    told: Option<Place>,
}

impl Conversation {
    /// A connection whose beginning was [seen](Beginning::Seen) must begin as FTP
    /// does. One that was [missed](Beginning::Missed) proves itself by a command that
    /// is answered; the first line of each direction may be a fragment and counts
    /// only if it reads as a command or a reply. One that was
    /// [forgotten](Beginning::Forgotten) opens nothing towards its client any more.
    pub fn new(client: IpAddr, server: IpAddr, beginning: Beginning, policy: Arc<Policy>) -> Self {
        let is_seen = beginning == Beginning::Seen;
        Self {
            commands: Stream::new(is_seen),
            replies: Stream::new(is_seen),
            reader: ReplyReader::default(),
            dialogue: Dialogue::new(client, server, beginning, policy),
            told: None,
        }
    }

    /// The same, whose hosts are known to each other by these names.
    #[must_use]
    pub fn known_as(mut self, names: Names) -> Self {
        self.dialogue.known_as(names);
        self
    }

    /// The first byte of a direction has this number (ISN + 1), for callers
    /// who know it. Then even the first two segments may come out of order.
    pub fn starts_at(&mut self, direction: Direction, seq: u32) {
        match direction {
            Direction::Original => self.commands.starts_at(Seq(seq)),
            Direction::Reply => self.replies.starts_at(Seq(seq)),
        }
    }

    /// Whether segments still matter: not after encryption that has no visible end,
    /// nor when the connection has turned out not to be FTP.
    pub fn is_followed(&self) -> bool {
        self.dialogue.is_followed()
    }

    pub fn is_encrypted(&self) -> bool {
        self.dialogue.is_encrypted()
    }

    /// Bytes held, at most [`Self::MAX_MEMORY`].
    pub fn memory(&self) -> usize {
        size_of::<Self>() + self.heap()
    }

    /// What one conversation can hold, whatever its peers send.
    pub const MAX_MEMORY: usize = 48 * 1024;

    fn hear_client(&mut self, seq: Seq, payload: &[u8], actions: &mut Actions) {
        if self.commands.is_fresh() && is_tls_record(payload) {
            self.dialogue.sealed_from_the_start(actions);
            self.seal();
        }
        let Self { commands, dialogue, .. } = self;
        commands.segment(seq, payload, &mut |read| client_said(dialogue, read, actions));
    }

    fn hear_server(&mut self, seq: Seq, payload: &[u8], actions: &mut Actions) {
        let was_sealed = self.dialogue.is_sealed();
        let Self { replies, reader, dialogue, told, .. } = self;
        replies
            .segment(seq, payload, &mut |read| server_said(dialogue, reader, told, read, actions));
        if self.dialogue.is_sealed() && !was_sealed {
            self.seal();
        }
        let Self { replies, reader, dialogue, told, .. } = self;
        if let Some(line) = replies.begun() {
            announce_within(dialogue, reader, told, line, actions);
        }
    }

    /// Where what has come of a line may be the beginning of an announcement.
    fn begun_endpoint(&self, direction: Direction, line: &[u8]) -> Option<usize> {
        if direction == Direction::Original {
            let start = begun_argument(line).filter(|_| self.dialogue.is_heard())?;
            return (line.len() - start < MAX_SPELLING).then_some(start);
        }
        match self.reader.sight(line)? {
            (code, Sight::Begun(start)) => self.dialogue.awaits(code).then_some(start),
            (_, Sight::Nothing | Sight::Found(..)) => None,
        }
    }

    const fn stream(&self, direction: Direction) -> &Stream {
        match direction {
            Direction::Original => &self.commands,
            Direction::Reply => &self.replies,
        }
    }

    /// TLS begins in both directions.
    fn seal(&mut self) {
        self.commands.seal();
        self.replies.seal();
        self.reader.reset();
    }

    fn forget(&mut self) {
        self.commands = Stream::new(false);
        self.replies = Stream::new(false);
    }
}

impl Reader for Conversation {
    fn segment(&mut self, direction: Direction, seq: u32, payload: &[u8]) -> Actions {
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

    /// Bytes that have reached the receiver and were not seen here will not be seen
    /// any more.
    fn acknowledged(&mut self, direction: Direction, ack: u32) -> Actions {
        let mut actions = Actions::default();
        if !self.dialogue.is_followed() {
            return actions;
        }
        let Self { commands, replies, reader, dialogue, told } = self;
        match direction {
            Direction::Original => replies.acknowledged(Seq(ack), &mut |read| {
                server_said(dialogue, reader, told, read, &mut actions);
            }),
            Direction::Reply => commands.acknowledged(Seq(ack), &mut |read| {
                client_said(dialogue, read, &mut actions);
            }),
        }
        actions
    }

    fn doubt(&mut self) {
        self.dialogue.doubt();
    }

    fn is_sure(&self) -> bool {
        self.dialogue.is_sure()
    }

    fn expects(&self, direction: Direction) -> Option<u32> {
        self.dialogue.is_followed().then(|| self.stream(direction).next())?.map(|next| next.0)
    }

    fn unfinished(&self, direction: Direction) -> Option<Unfinished> {
        let line = self.stream(direction).begun()?;
        let start = self.begun_endpoint(direction, line.text)?;
        let before = start.checked_sub(1).map_or(b'\n', |before| line.text[before]);
        let (at, bytes) = (line.at.plus(start).0, line.text[start..].to_vec());
        Some(Unfinished { at, before, bytes })
    }

    fn ended(&mut self) -> Actions {
        let mut actions = Actions::default();
        self.dialogue.ended(&mut actions);
        self.forget();
        actions
    }

    fn hole(&self) -> Option<Hole> {
        self.dialogue.hole()
    }

    fn restore_hole(&mut self, hole: Hole) {
        self.dialogue.restore_hole(hole);
    }

    fn heap(&self) -> usize {
        self.commands.memory() + self.replies.memory() + self.dialogue.memory()
    }

    fn shed(&mut self) {
        self.commands.shed();
        self.replies.shed();
        self.reader.reset();
        self.dialogue.lost();
    }

    fn copy(&self) -> Box<dyn Reader> {
        Box::new(self.clone())
    }
}

fn client_said(dialogue: &mut Dialogue, read: Read<'_>, actions: &mut Actions) {
    let sender = dialogue.client();
    if !dialogue.is_followed() {
        return;
    }
    match read {
        Read::Line(line) if !dialogue.counts(line.whole) => {
            dialogue.command(Command::Other, actions);
        }
        Read::Line(line) => command_line(dialogue, line, actions),
        Read::TooLong(line) => {
            actions.note(Note::LineTooLong { sender });
            if line.whole {
                dialogue.unreadable_command(actions);
            }
        }
        Read::Lost(loss) => {
            actions.note(Note::Lost { sender, loss });
            dialogue.lost_of_client(actions);
        }
        Read::Clear => dialogue.client_is_clear(actions),
    }
}

fn command_line(dialogue: &mut Dialogue, line: Line<'_>, actions: &mut Actions) {
    let argument = argument_of(line.text);
    let command = command(line.text).and_then(|command| match command {
        // As much as is kept in mind while the end of the line is awaited.
        Command::Active(what, _) if line.len - argument.start >= MAX_SPELLING => {
            let error = ParseError { position: argument.start, kind: ErrorKind::TooLong };
            Err(CommandError { what, error })
        }
        _ => Ok(command),
    });
    match command {
        Ok(Command::Unknown) if !line.whole => {}
        Ok(command) => {
            dialogue.command(command, actions);
            let at = line.at.plus(argument.start).0;
            announce(dialogue, Some(Place { at, len: argument.len() as u16 }), actions);
        }
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
    told: &mut Option<Place>,
    read: Read<'_>,
    actions: &mut Actions,
) {
    let sender = dialogue.server();
    let mut told = told.take();
    if !dialogue.is_followed() {
        return;
    }
    match read {
        Read::Line(line) if !dialogue.counts(line.whole) => {}
        Read::Line(line) => {
            if let Some(reply) = reader.line(line.text, line.at.0) {
                dialogue.reply(reply, actions);
                // What an earlier line has named was told with that.
                let place = reply.place.filter(|place| Seq(place.at).since(line.at) >= 0);
                announce(dialogue, place.filter(|place| told != Some(*place)), actions);
            } else if let Some((code, endpoint, place)) = reader.named_within(line.at.0)
                && told != Some(place)
                && dialogue.begins_to_announce(code, endpoint)
            {
                announce(dialogue, Some(place), actions);
            }
        }
        Read::TooLong(line) => {
            announce_within(dialogue, reader, &mut told, line, actions);
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
        Read::Clear => dialogue.server_is_clear(actions),
    }
}

/// An endpoint that stands whole in the beginning of a line is told with that, once: the rest of
/// the line may be long, and come much later.
fn announce_within(
    dialogue: &mut Dialogue,
    reader: &ReplyReader,
    told: &mut Option<Place>,
    line: Line<'_>,
    actions: &mut Actions,
) {
    if !dialogue.counts(line.whole) {
        return;
    }
    let Some((code, Sight::Found(endpoint, text))) = reader.sight(line.text) else { return };
    let place = Place { at: line.at.plus(text.start).0, len: text.len() as u16 };
    if *told != Some(place) && dialogue.begins_to_announce(code, endpoint) {
        *told = Some(place);
        announce(dialogue, Some(place), actions);
    }
}

/// Says where the line at hand has announced an endpoint, if it did.
fn announce(dialogue: &mut Dialogue, place: Option<Place>, actions: &mut Actions) {
    if let Some(((form, hole), place)) = dialogue.take_announced().zip(place) {
        actions.announce(Announced { form, hole, place });
    }
}

/// The content type and major version of RFC 8446 section 5.1, or the first of them
/// alone, which no line of FTP begins with: implicit TLS, or a session joined after AUTH.
fn is_tls_record(payload: &[u8]) -> bool {
    matches!(payload, [20..=23] | [20..=23, 3, ..])
}
