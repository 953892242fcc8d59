//! What passes between a watcher and the daemon: one request, then messages, each a
//! header of eight bytes and a body. Both ends are the same program.

use std::io::{self, ErrorKind, Read};

use bytemuck::{Pod, Zeroable, bytes_of, pod_read_unaligned};
use firewall_common::{
    event::Event,
    flow_event::{FlowChange, FlowEvent},
    time::Nanos,
};

use serde::{Deserialize, Serialize};

use crate::listing::{
    helper_event::HelperEvent,
    json,
    lost::{Loss, Place},
};

/// Of this form of request and messages.
const VERSION: u32 = 1;
/// No body is longer: that of a helper's note has a line of the control connection.
const LONGEST: usize = 16 << 10;

/// Bits of [`Request::wants`].
pub mod want {
    pub const DROPS: u32 = 1 << 0;
    pub const HELPER: u32 = 1 << 1;
    /// Flows by their changes: `NEW << FlowChange as u32`.
    pub const NEW: u32 = 1 << 2;
    pub const UPDATE: u32 = 1 << 3;
    pub const DESTROY: u32 = 1 << 4;
    pub const FLOWS: u32 = NEW | UPDATE | DESTROY;
    /// The causes of the most recent drops, the helpers' troubles, and then nothing more.
    pub const CAUSES: u32 = 1 << 5;
    /// Nothing: flows that the sender has ended follow, as [`super::FlowEvent`]s.
    pub const TO_TELL: u32 = 1 << 31;
}

/// The first that a watcher says.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct Request {
    version: u32,
    /// Bits of [`want`].
    pub wants: u32,
}

impl Request {
    pub const fn new(wants: u32) -> Self {
        Self { version: VERSION, wants }
    }

    /// Whether it is one of this program's version.
    pub const fn is_understood(self) -> bool {
        self.version == VERSION
    }
}

/// What a watcher is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// From now on nothing is missed.
    Ready,
    /// A packet was dropped.
    Drop(Box<Event>),
    Flow(Box<FlowEvent>),
    Helper(Box<HelperEvent>),
    Lost(Loss),
    Cause(Box<Cause>),
    Trouble(Box<Trouble>),
}

/// What went wrong with a helper, of one kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trouble {
    /// The latest of them.
    pub event: HelperEvent,
    pub count: u64,
}

/// Drops of one cause, between the same hosts.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct Cause {
    /// The latest of them.
    pub event: Event,
    pub first: Nanos,
    /// As many as were reported.
    pub count: u64,
}

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Header {
    kind: u32,
    /// Bytes of the body.
    len: u32,
}

const READY: u32 = 0;
const DROP: u32 = 1;
const FLOW: u32 = 2;
const HELPER: u32 = 3;
const LOST: u32 = 4;
const CAUSE: u32 = 5;
const TROUBLE: u32 = 6;

impl Message {
    /// Which of [`want`] it answers; 0 when it is for everybody.
    pub const fn wanted_by(&self) -> u32 {
        match self {
            Self::Ready => 0,
            Self::Lost(Loss { place, .. }) => match place {
                Place::Reader => 0,
                Place::FlowRing => want::FLOWS,
                Place::DropRing => want::DROPS,
            },
            Self::Drop(_) => want::DROPS,
            Self::Flow(event) => match FlowChange::from_byte(event.change) {
                Some(change) => want::NEW << change as u32,
                None => 0,
            },
            Self::Helper(_) => want::HELPER,
            Self::Cause(_) | Self::Trouble(_) => want::CAUSES,
        }
    }

    /// Adds it to what will be sent.
    pub fn encode(&self, into: &mut Vec<u8>) {
        match self {
            Self::Ready => put(into, READY, &[]),
            Self::Drop(event) => put(into, DROP, bytes_of(&**event)),
            Self::Flow(event) => put(into, FLOW, bytes_of(&**event)),
            Self::Helper(event) => put(into, HELPER, event.to_json().as_bytes()),
            Self::Cause(cause) => put(into, CAUSE, bytes_of(&**cause)),
            Self::Trouble(trouble) => put(into, TROUBLE, json::line(trouble).as_bytes()),
            Self::Lost(Loss { place, count }) => {
                put(into, LOST, bytes_of(&[u64::from(*place as u8), *count]));
            }
        }
    }

    /// The next one; `None` at the end of the stream. `body` is room to use again.
    ///
    /// # Errors
    /// When the stream fails, breaks off, or holds something else.
    pub fn read(stream: &mut impl Read, body: &mut Vec<u8>) -> io::Result<Option<Self>> {
        let mut header = Header::zeroed();
        match stream.read_exact(bytemuck::bytes_of_mut(&mut header)) {
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(None),
            other => other?,
        }
        let len = header.len as usize;
        if len > LONGEST {
            return Err(ErrorKind::InvalidData.into());
        }
        body.resize(len, 0);
        stream.read_exact(body)?;
        let message = Self::decode(header.kind, body).ok_or(ErrorKind::InvalidData)?;
        Ok(Some(message))
    }

    fn decode(kind: u32, body: &[u8]) -> Option<Self> {
        Some(match (kind, body.len()) {
            (READY, 0) => Self::Ready,
            (DROP, len) if len == size_of::<Event>() => {
                Self::Drop(Box::new(pod_read_unaligned(body)))
            }
            (FLOW, len) if len == size_of::<FlowEvent>() => {
                Self::Flow(Box::new(pod_read_unaligned(body)))
            }
            (CAUSE, len) if len == size_of::<Cause>() => {
                Self::Cause(Box::new(pod_read_unaligned(body)))
            }
            (TROUBLE, _) => Self::Trouble(Box::new(serde_json::from_slice(body).ok()?)),
            (HELPER, _) => Self::Helper(Box::new(HelperEvent::from_json(body)?)),
            (LOST, len) if len == size_of::<[u64; 2]>() => {
                let [place, count]: [u64; 2] = pod_read_unaligned(body);
                let places = [Place::Reader, Place::FlowRing, Place::DropRing];
                let place = places.into_iter().find(|known| *known as u64 == place)?;
                Self::Lost(Loss { place, count })
            }
            _ => return None,
        })
    }
}

fn put(into: &mut Vec<u8>, kind: u32, body: &[u8]) {
    let body = &body[..body.len().min(LONGEST)];
    into.extend_from_slice(bytes_of(&Header { kind, len: body.len() as u32 }));
    into.extend_from_slice(body);
}

#[cfg(test)]
mod tests {
    use super::*;
    use firewall_common::flow::helper;

    use crate::listing::helper_event::{Early, HelperChange};

    fn messages() -> Vec<Message> {
        let helper = HelperEvent {
            helper: helper::FTP,
            at: 7,
            client: "192.0.2.2:4000".parse().unwrap(),
            server: "198.51.100.2:21".parse().unwrap(),
            change: HelperChange::Note("a \"line\"\n".into()),
        };
        let trouble = HelperEvent { change: HelperChange::Early(Early::Ahead), ..helper.clone() };
        vec![
            Message::Ready,
            Message::Drop(Box::new(Event::zeroed())),
            Message::Flow(Box::new(FlowEvent {
                change: FlowChange::Destroy as u8,
                ..FlowEvent::default()
            })),
            Message::Helper(Box::new(helper)),
            Message::Lost(Loss { place: Place::FlowRing, count: 9 }),
            Message::Cause(Box::new(Cause::zeroed())),
            Message::Trouble(Box::new(Trouble { event: trouble, count: 3 })),
        ]
    }

    #[test]
    fn messages_survive_the_stream_one_after_the_other() {
        let mut bytes = Vec::new();
        messages().iter().for_each(|message| message.encode(&mut bytes));
        let mut stream = &bytes[..];
        for message in messages() {
            assert_eq!(Message::read(&mut stream, &mut Vec::new()).unwrap(), Some(message));
        }
        assert_eq!(Message::read(&mut stream, &mut Vec::new()).unwrap(), None);
    }

    #[test]
    fn a_stream_that_breaks_off_or_holds_something_else_is_an_error() {
        let mut bytes = Vec::new();
        messages()[2].encode(&mut bytes);
        assert!(Message::read(&mut &bytes[..20], &mut Vec::new()).is_err());
        let mut unknown = Vec::new();
        put(&mut unknown, 99, b"?");
        assert!(Message::read(&mut &unknown[..], &mut Vec::new()).is_err());
    }

    #[test]
    fn each_change_of_a_flow_can_be_asked_for_alone() {
        let flow = |change| {
            Message::Flow(Box::new(FlowEvent { change: change as u8, ..FlowEvent::default() }))
        };
        assert_eq!(flow(FlowChange::New).wanted_by(), want::NEW);
        assert_eq!(flow(FlowChange::Update).wanted_by(), want::UPDATE);
        assert_eq!(flow(FlowChange::Destroy).wanted_by(), want::DESTROY);
    }
}
