//! Captures with the helpers on: nf_conntrack's and the firewall's, at the addresses that the
//! packets have, since FTP speaks of them.

use std::collections::HashMap;

use anyhow::{Context as _, Result};

use super::{gateway::Site, reference::Reference, session::stay_on_this_cpu, subject};
use crate::{
    oracle::{
        Content, Frame, Place, Settings,
        bench::{Hook, Sites},
        capture::{self, AtHome, Packet},
        hole::{Hole, Kind, Opening, Parting, Played},
        honesty::Dialogue,
    },
    wire::End,
};

/// The port of control connections.
const FTP: u16 = 21;

/// Both gateways with their helpers.
#[derive(Debug)]
pub struct Openings<'a> {
    sites: [&'a Site; 2],
    kernel: Reference<'a>,
    firewall: subject::Subject<'a>,
    tag: u32,
}

/// A control connection: its client, with the port, and its server.
type Control = (std::net::SocketAddr, std::net::IpAddr);

/// What is known of a capture while it is played.
#[derive(Debug, Default)]
struct Course {
    played: Played,
    dialogues: HashMap<Control, Dialogue>,
    /// Whose line the kernel has opened each hole for.
    by: HashMap<Hole, Control>,
    standing: [Vec<Hole>; 2],
}

impl<'a> Openings<'a> {
    /// # Errors
    /// When one of the gateways cannot be set up.
    pub fn start(sites: &'a Sites, hook: Hook) -> Result<Self> {
        let [reference, subject] = sites.both();
        let kernel = Reference::start(reference).context("nf_conntrack's gateway")?;
        kernel.read_ftp(FTP)?;
        let firewall = subject::Subject::reading(subject, hook, &FTP.to_string())
            .context("the firewall's gateway")?;
        Ok(Self { sites: [reference, subject], kernel, firewall, tag: 0 })
    }

    /// Whether a capture has a control connection that says something.
    pub fn concern(capture: &AtHome) -> bool {
        capture.packets.iter().any(|packet| control(packet).is_some())
    }

    /// Plays a capture, and compares holes behind each segment of a control connection.
    ///
    /// # Errors
    /// When a gateway cannot route its hosts, or no longer forwards anything.
    pub fn play(&mut self, capture: &AtHome) -> Result<Played> {
        stay_on_this_cpu()?;
        self.house(capture)?;
        self.kernel.settle(Settings::DEFAULT)?;
        self.firewall.settle(Settings::DEFAULT)?;
        self.kernel.forget_holes()?;
        self.firewall.forget_holes()?;
        let mut course = Course::default();
        for packet in &capture.packets {
            self.step(&mut course, packet)
                .with_context(|| format!("{}, frame {}", capture.path.display(), packet.number))?;
        }
        self.evict(capture)?;
        Ok(course.end())
    }

    fn house(&self, capture: &AtHome) -> Result<()> {
        for (host, end) in &capture.hosts {
            for site in self.sites {
                site.house(*host, *end).with_context(|| format!("a way to {host}"))?;
            }
        }
        Ok(())
    }

    fn evict(&self, capture: &AtHome) -> Result<()> {
        for (host, end) in &capture.hosts {
            self.sites.iter().try_for_each(|site| site.evict(*host, *end))?;
        }
        Ok(())
    }

    fn step(&mut self, course: &mut Course, packet: &Packet) -> Result<()> {
        self.tag = self.tag % 0xffff + 1;
        let nowhere = Place::numbered(crate::Family::V4, 0);
        let frame = Frame::new(packet.from, Content::Raw(packet.bytes.clone()));
        let bytes = frame.ip(&nowhere, self.tag, 0);
        let said = control(packet);
        let kernel = self.kernel.judge(packet.from, &bytes)?;
        let firewall = match said {
            Some(_) => self.firewall.judge_read(packet.from, &bytes, kernel.state())?,
            None => self.firewall.judge(packet.from, &bytes, kernel.state())?,
        };
        course.played.frames += 1;
        if let Some((control, speaker, payload)) = said {
            course.played.read += 1;
            let dialogue = course.dialogues.entry(control).or_default();
            dialogue.say(packet.number, speaker, payload);
            let holes = [self.kernel.holes()?, self.firewall.holes()?];
            course.note(packet.number, control, holes);
        }
        let pair = [kernel, firewall];
        if kernel != firewall {
            let kind = course.kind(packet, said.is_some());
            course.played.partings.push(Parting { frame: packet.number, pair, kind });
        }
        Ok(())
    }
}

impl Course {
    /// Notes what stands that did not stand before.
    fn note(&mut self, frame: usize, control: Control, holes: [Vec<Hole>; 2]) {
        for (side, holes) in holes.into_iter().enumerate() {
            let before = std::mem::replace(&mut self.standing[side], holes.clone());
            for hole in holes.into_iter().filter(|hole| !before.contains(hole)) {
                if side == 0 {
                    self.by.insert(hole, control);
                }
                self.open(frame, hole, side);
            }
        }
    }

    fn open(&mut self, frame: usize, hole: Hole, side: usize) {
        let openings = &mut self.played.openings;
        let at = openings.iter().position(|it| it.hole == hole).unwrap_or_else(|| {
            let (dishonest, left) = (None, [false; 2]);
            openings.push(Opening { hole, kernel: None, firewall: None, dishonest, left });
            openings.len() - 1
        });
        let of_side = match side {
            0 => &mut openings[at].kernel,
            _ => &mut openings[at].firewall,
        };
        of_side.get_or_insert(frame);
    }

    /// What a frame is that the two judge differently.
    fn kind(&self, packet: &Packet, is_control: bool) -> Kind {
        if is_control {
            return Kind::Control;
        }
        let ends = capture::ends(&packet.bytes).zip(capture::segment(&packet.bytes));
        let hole = ends.and_then(|(ends, ([_, dport], _))| {
            self.played.openings.iter().find(|it| it.hole.is_for(ends, dport))
        });
        hole.map_or(Kind::Other, |it| Kind::Data(it.hole))
    }

    /// Asks what was negotiated, when all has been said.
    fn end(mut self) -> Played {
        for opening in &mut self.played.openings {
            opening.left = self.standing.each_ref().map(|holes| holes.contains(&opening.hole));
            let by = self.by.get(&opening.hole).and_then(|control| self.dialogues.get(control));
            opening.dishonest = opening
                .kernel
                .zip(by)
                .and_then(|(frame, dialogue)| dialogue.dishonesty(frame, opening.hole.dport));
        }
        self.played
    }
}

/// The control connection of a segment that says something, who of it speaks, and what.
fn control(packet: &Packet) -> Option<(Control, End, &[u8])> {
    let [source, destination] = capture::ends(&packet.bytes)?;
    let ([sport, dport], payload) = capture::segment(&packet.bytes)?;
    let (control, speaker) = match (sport, dport) {
        (_, FTP) => (((source, sport).into(), destination), End::Client),
        (FTP, _) => (((destination, dport).into(), source), End::Server),
        _ => return None,
    };
    (!payload.is_empty()).then_some((control, speaker, payload))
}
