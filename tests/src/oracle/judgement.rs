//! What became of a frame.

use std::fmt;

use firewall_common::flow::CtState;
use serde::Serialize;

/// What one side made of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// It went on, under this ctstate; `None` when no rule or several saw it.
    Forwarded(Option<CtState>),
    /// It went on, but not as it was sent.
    Changed,
    /// Of a datagram in pieces, some came out and others did not.
    Partly,
    Dropped,
    /// A piece: the datagram is judged with its last one.
    Pending,
}

impl Judgement {
    pub const fn state(self) -> Option<CtState> {
        match self {
            Self::Forwarded(state) => state,
            Self::Changed | Self::Partly | Self::Dropped | Self::Pending => None,
        }
    }
}

impl fmt::Display for Judgement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Forwarded(Some(state)) => state.name(),
            Self::Forwarded(None) => "forwarded in no known state",
            Self::Changed => "forwarded with other bytes",
            Self::Partly => "forwarded in part",
            Self::Dropped => "dropped",
            Self::Pending => "pending",
        })
    }
}

/// As it stands in a line of JSON: `{"forwarded":true,"ctstate":"NEW"}`.
#[derive(Debug, Serialize)]
pub struct JudgementJson {
    pub forwarded: bool,
    pub ctstate: Option<&'static str>,
}

impl From<Judgement> for JudgementJson {
    fn from(judgement: Judgement) -> Self {
        Self {
            forwarded: matches!(judgement, Judgement::Forwarded(_)),
            ctstate: judgement.state().map(CtState::name),
        }
    }
}
