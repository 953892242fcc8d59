//! What the helpers do, as `firewall monitor` shows it.

use std::{
    net::{IpAddr, SocketAddr},
    time::SystemTime,
};

use firewall_common::flow::helper;
use serde::{Deserialize, Serialize};

use super::{json, line::Line, time::rfc3339};

/// What has happened on a control connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HelperEvent {
    /// Nanoseconds of the monotonic clock.
    pub at: u64,
    /// One of [`helper`].
    pub helper: u8,
    /// The control connection.
    pub client: SocketAddr,
    pub server: SocketAddr,
    pub change: HelperChange,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum HelperChange {
    /// A data connection was announced, and is RELATED once.
    Expects {
        src: IpAddr,
        dst: IpAddr,
        dport: u16,
    },
    /// What was announced does not hold any more, and nobody has used it.
    Withdraws {
        src: IpAddr,
        dst: IpAddr,
        dport: u16,
    },
    /// The connection goes on under TLS.
    Encrypted,
    /// It speaks in the clear again.
    Decrypted,
    /// A range of ports is open as long as the connection is encrypted: `SRC ->
    /// DST:FIRST-LAST`.
    Admits(String),
    Dismisses(String),
    /// Something opened nothing, and why.
    Note(String),
    /// An announcement could not be told to the other side of a translated connection, and
    /// opens nothing.
    Untold(Untold, String),
    /// A segment of one was let go of; its sender repeats it.
    Early(Early),
}

/// Why an announcement could not be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Untold {
    /// No port of the address that the other side knows was free.
    NoPort,
    /// Its beginning had gone on, or it does not fit.
    InPart,
    /// The table of rewritten connections is full.
    NoRoom,
}

/// Why a segment could not be read yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Early {
    /// Something before it is missing.
    Overtook,
    /// As many texts as are remembered have not arrived.
    Ahead,
}

impl Early {
    pub const fn sentence(self) -> &'static str {
        match self {
            Self::Overtook => "a segment came before what it follows, and waits to be repeated",
            Self::Ahead => "a segment waits to be repeated until what was told has arrived",
        }
    }
}

impl HelperChange {
    const fn name(&self) -> &'static str {
        match self {
            Self::Expects { .. } => "expects",
            Self::Withdraws { .. } => "withdraws",
            Self::Encrypted => "encrypted",
            Self::Decrypted => "decrypted",
            Self::Admits(_) => "admits",
            Self::Dismisses(_) => "dismisses",
            Self::Note(_) => "note",
            Self::Untold(..) => "untold",
            Self::Early(_) => "early",
        }
    }
}

impl HelperEvent {
    /// The form in which it passes between processes.
    pub(crate) fn to_json(&self) -> String {
        json::line(self)
    }

    pub(crate) fn from_json(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice(bytes).ok()
    }
}

/// `2026-11-21T10:16:57.042Z FTP expects 192.0.2.2 -> 198.51.100.2:9556
/// control=192.0.2.2:56132->198.51.100.2:21`, on one line.
pub fn text(line: &mut Line, event: &HelperEvent, time: SystemTime) {
    let helper = name(event).to_ascii_uppercase();
    line.text(&rfc3339(time)).text(" ").text(&helper).text(" ").text(event.change.name());
    match &event.change {
        HelperChange::Expects { src, dst, dport } | HelperChange::Withdraws { src, dst, dport } => {
            let to = SocketAddr::new(*dst, *dport);
            line.text(" ").text(&src.to_string()).text(" -> ").text(&to.to_string());
        }
        HelperChange::Encrypted | HelperChange::Decrypted => {}
        HelperChange::Admits(range) | HelperChange::Dismisses(range) => {
            line.text(" ").text(range);
        }
        HelperChange::Note(note) | HelperChange::Untold(_, note) => {
            line.text(": ").text(note);
        }
        HelperChange::Early(early) => {
            line.text(": ").text(early.sentence());
        }
    }
    let HelperEvent { client, server, .. } = event;
    line.text(" control=").text(&client.to_string()).text("->").text(&server.to_string());
}

fn name(event: &HelperEvent) -> &'static str {
    helper::name(event.helper).unwrap_or("unknown")
}

#[derive(Serialize)]
struct HelperJson<'e> {
    event: &'static str,
    time: String,
    helper: &'static str,
    what: &'static str,
    src: Option<IpAddr>,
    dst: Option<IpAddr>,
    dport: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    range: Option<&'e str>,
    note: Option<&'e str>,
    control: Control,
}

#[derive(Serialize)]
struct Control {
    src: IpAddr,
    dst: IpAddr,
    sport: u16,
    dport: u16,
}

/// One JSON object, `"event":"helper"`.
pub fn json(line: &mut Line, event: &HelperEvent, time: SystemTime) {
    let (mut hole, mut note, mut range) = (None, None, None);
    match &event.change {
        HelperChange::Expects { src, dst, dport } | HelperChange::Withdraws { src, dst, dport } => {
            hole = Some((*src, *dst, *dport));
        }
        HelperChange::Encrypted | HelperChange::Decrypted => {}
        HelperChange::Admits(text) | HelperChange::Dismisses(text) => range = Some(text.as_str()),
        HelperChange::Note(text) | HelperChange::Untold(_, text) => note = Some(text.as_str()),
        HelperChange::Early(early) => note = Some(early.sentence()),
    }
    line.text(&json::line(&HelperJson {
        event: "helper",
        time: rfc3339(time),
        helper: name(event),
        what: event.change.name(),
        src: hole.map(|(src, _, _)| src),
        dst: hole.map(|(_, dst, _)| dst),
        dport: hole.map(|(_, _, dport)| dport),
        range,
        note,
        control: Control {
            src: event.client.ip(),
            dst: event.server.ip(),
            sport: event.client.port(),
            dport: event.server.port(),
        },
    }));
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    fn event(change: HelperChange) -> HelperEvent {
        let endpoint = |text: &str| text.parse().unwrap();
        let (client, server) = (endpoint("192.0.2.2:56132"), endpoint("198.51.100.2:21"));
        HelperEvent { at: 0, helper: helper::FTP, client, server, change }
    }

    fn shown(write: fn(&mut Line, &HelperEvent, SystemTime), change: HelperChange) -> String {
        let mut line = Line::default();
        write(&mut line, &event(change), UNIX_EPOCH);
        String::from_utf8(line.as_bytes().to_vec()).unwrap()
    }

    fn expects() -> HelperChange {
        let address = |text: &str| text.parse().unwrap();
        HelperChange::Expects {
            src: address("192.0.2.2"),
            dst: address("198.51.100.2"),
            dport: 9556,
        }
    }

    #[test]
    fn what_is_expected_is_named_with_its_control_connection() {
        assert_eq!(
            shown(text, expects()),
            "1970-01-01T00:00:00.000Z FTP expects 192.0.2.2 -> 198.51.100.2:9556 \
             control=192.0.2.2:56132->198.51.100.2:21"
        );
        assert_eq!(
            shown(json, expects()),
            concat!(
                r#"{"event":"helper","time":"1970-01-01T00:00:00.000Z","helper":"ftp","#,
                r#""what":"expects","src":"192.0.2.2","dst":"198.51.100.2","dport":9556,"#,
                r#""note":null,"control":{"src":"192.0.2.2","dst":"198.51.100.2","#,
                r#""sport":56132,"dport":21}}"#
            )
        );
    }

    #[test]
    fn a_note_says_what_opened_nothing() {
        let note = HelperChange::Note("PORT from 192.0.2.2 names a privileged port".into());
        assert!(shown(text, note.clone()).contains(" FTP note: PORT from 192.0.2.2 names "));
        assert!(shown(json, note).contains(r#""dport":null,"note":"PORT from "#));
        let admits = HelperChange::Admits("192.0.2.2 -> 198.51.100.2:50000-50100".into());
        assert!(
            shown(text, admits.clone()).contains(" FTP admits 192.0.2.2 -> 198.51.100.2:50000-")
        );
        assert!(
            shown(json, admits).contains(r#""range":"192.0.2.2 -> 198.51.100.2:50000-50100","#)
        );
        let untold = HelperChange::Untold(Untold::NoPort, "no port is free".into());
        assert!(shown(text, untold.clone()).contains(" FTP untold: no port is free control="));
        assert!(shown(json, untold).contains(r#""what":"untold""#));
        assert!(shown(json, HelperChange::Early(Early::Overtook)).contains("came before"));
        assert!(shown(text, HelperChange::Encrypted).contains(" FTP encrypted control="));
    }
}
