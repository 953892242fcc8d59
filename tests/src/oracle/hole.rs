//! Holes that helpers open for data connections, in the kernel and in the firewall, and what is
//! printed of them.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
};

use serde::Serialize;

use super::{difference::is_in_document, honesty::Dishonest, judgement::Judgement};

/// One more connection of TCP, from any port of a host, is expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Hole {
    pub src: IpAddr,
    pub dst: IpAddr,
    pub dport: u16,
}

impl Hole {
    /// Whether a connection with these ends is what it is for.
    pub fn is_for(&self, [src, dst]: [IpAddr; 2], dport: u16) -> bool {
        (self.src, self.dst, self.dport) == (src, dst, dport)
    }
}

impl fmt::Display for Hole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} -> {}", self.src, SocketAddr::new(self.dst, self.dport))
    }
}

/// When each has opened a hole first, by the number of the frame in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opening {
    pub hole: Hole,
    pub kernel: Option<usize>,
    pub firewall: Option<usize>,
    /// What is wrong with the dialogue that the kernel has opened it for.
    pub dishonest: Option<Dishonest>,
    /// Whether it stands when the capture is over, in the kernel and in the firewall.
    pub left: [bool; 2],
}

impl Opening {
    /// The id of the difference in `docs/differences.md`, when there is one and it is meant.
    pub fn documented(&self) -> Option<&'static str> {
        let id = match (self.kernel, self.firewall) {
            (Some(_), None) => self.dishonest?.id(),
            (None, Some(_)) => MISSED,
            _ => return None,
        };
        is_in_document(id).then_some(id)
    }

    /// Whether the two differ and no document says why.
    pub fn is_mistake(&self) -> bool {
        self.kernel.is_some() != self.firewall.is_some() && self.documented().is_none()
    }
}

/// What the kernel's helper does not read, we do.
const MISSED: &str = "whole-lines";

/// A frame of which the two made something else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parting {
    pub frame: usize,
    /// Kernel and firewall.
    pub pair: [Judgement; 2],
    pub kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A segment of a control connection that says something.
    Control,
    /// It begins a connection that one of the two holes is for, and not the other's.
    Data(Hole),
    Other,
}

/// What has become of a capture.
#[derive(Debug, Default)]
pub struct Played {
    pub frames: usize,
    /// Segments of control connections that say something.
    pub read: usize,
    pub openings: Vec<Opening>,
    pub partings: Vec<Parting>,
}

impl Played {
    /// The kernel drops what it does not read whole; a data connection is what its hole makes
    /// of it.
    pub fn documented(&self, parting: &Parting) -> Option<&'static str> {
        match (parting.kind, parting.pair) {
            (Kind::Control, [Judgement::Dropped, Judgement::Forwarded(_)]) => {
                is_in_document(MISSED).then_some(MISSED)
            }
            (Kind::Data(hole), _) => self.openings.iter().find(|it| it.hole == hole)?.documented(),
            _ => None,
        }
    }

    /// Holes that both have opened.
    pub fn agreed(&self) -> usize {
        let both = |it: &&Opening| it.kernel.is_some() && it.firewall.is_some();
        self.openings.iter().filter(both).count()
    }

    /// Differences that no document names.
    pub fn mistakes(&self) -> usize {
        let openings = self.openings.iter().filter(|it| it.is_mistake()).count();
        openings + self.partings.iter().filter(|it| self.documented(it).is_none()).count()
    }

    /// Those that are meant.
    pub fn deliberate(&self) -> usize {
        let openings = self.openings.iter().filter(|it| it.documented().is_some()).count();
        openings + self.partings.iter().filter(|it| self.documented(it).is_some()).count()
    }

    /// A line of JSON for each hole, and for each frame about which the two disagree.
    pub fn lines(&self, file: &str) -> Vec<String> {
        let openings = self.openings.iter().map(|it| {
            json(&OpeningJson {
                file,
                hole: it.hole.to_string(),
                kernel: it.kernel,
                firewall: it.firewall,
                agree: it.kernel.is_some() == it.firewall.is_some(),
                because: it.dishonest.map(Dishonest::sentence),
                documented: it.documented(),
                left: it.left,
            })
        });
        let partings = self.partings.iter().map(|it| {
            let [kernel, firewall] = it.pair.map(|judgement| judgement.to_string());
            let documented = self.documented(it);
            json(&PartingJson { file, helper: true, frame: it.frame, kernel, firewall, documented })
        });
        openings.chain(partings).collect()
    }
}

/// `{"file":"a.pcap","hole":"192.0.2.2 -> 198.51.100.2:40123","kernel":9,"firewall":9,…}`:
/// the numbers are of the frames that have opened it.
#[derive(Serialize)]
struct OpeningJson<'a> {
    file: &'a str,
    hole: String,
    kernel: Option<usize>,
    firewall: Option<usize>,
    agree: bool,
    because: Option<&'static str>,
    documented: Option<&'static str>,
    /// In the kernel, and in the firewall.
    left: [bool; 2],
}

/// Of a frame with the helpers on.
#[derive(Serialize)]
struct PartingJson<'a> {
    file: &'a str,
    helper: bool,
    frame: usize,
    kernel: String,
    firewall: String,
    documented: Option<&'static str>,
}

fn json(line: &impl Serialize) -> String {
    serde_json::to_string(line).expect("names and numbers")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opening(kernel: Option<usize>, firewall: Option<usize>) -> Opening {
        let [src, dst] = ["192.0.2.2", "198.51.100.2"].map(|text| text.parse().unwrap());
        let hole = Hole { src, dst, dport: 40_000 };
        Opening { hole, kernel, firewall, dishonest: None, left: [false; 2] }
    }

    #[test]
    fn a_hole_of_the_kernel_alone_is_a_mistake_unless_its_dialogue_was_dishonest() {
        let missed = opening(Some(7), None);
        assert!(missed.is_mistake());
        let meant = Opening { dishonest: Some(Dishonest::Unasked), ..missed };
        assert!(!meant.is_mistake() && meant.documented().is_some());
        assert!(!opening(Some(7), Some(9)).is_mistake());
    }

    #[test]
    fn every_reason_stands_in_the_document() {
        for reason in Dishonest::ALL {
            assert!(is_in_document(reason.id()), "docs/differences.md has no [{}]", reason.id());
        }
        assert!(is_in_document(MISSED), "docs/differences.md has no [{MISSED}]");
    }
}
