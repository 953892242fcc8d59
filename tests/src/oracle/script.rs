//! What is played: frames in their order, and the settings that they meet.

use std::time::Duration;

use super::{Content, Frame, Settings};
use crate::Family;

/// A conversation, or several, at one place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Script {
    pub name: String,
    pub family: Family,
    pub settings: Settings,
    pub steps: Vec<Step>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    Send(Frame),
    /// Nothing happens for so long.
    Pause(Duration),
}

impl Script {
    /// The frames, in their order.
    pub fn frames(&self) -> impl Iterator<Item = &Frame> {
        self.steps.iter().filter_map(|step| match step {
            Step::Send(frame) => Some(frame),
            Step::Pause(_) => None,
        })
    }

    /// Whether its packets bring their own addresses.
    pub fn is_raw(&self) -> bool {
        self.frames().any(|frame| matches!(frame.content, Content::Raw(_)))
    }
}
