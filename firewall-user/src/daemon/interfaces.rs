//! The interfaces that are enforced on, and what the datapath knows of each: kept
//! true as interfaces come, go, and change their names and abilities.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    io,
};

use anyhow::{Context, Result};
use firewall_common::control::{Device, device, slot};

use super::takers::{Features, Takers};
use crate::{
    kernel::{
        attach::{Hook, Mode, Target},
        load::Programs,
        maps::Maps,
        pins::{LinkKind, LinkName, Pins},
    },
    netlink::{
        links::{self, Link, XdpMode},
        xdp_features::{self, XdpFeatures},
    },
    role::Role,
    ruleset::Running,
};

/// The programs, and where they are attached.
#[derive(Debug)]
pub struct Interfaces {
    maps: Maps,
    programs: Programs,
    hook: Hook,
    /// The names that were asked for: an interface that goes and comes back under
    /// one of them is enforced on again.
    wanted: Vec<String>,
    /// By index.
    ours: HashMap<u32, Mode>,
    /// What they are to this host, as far as that decided about the mode.
    roles: HashMap<u32, Role>,
    /// XDP was attached in the driver just now, and is to show that it can redirect.
    on_trial: BTreeSet<u32>,
    /// Wanted, and refused when it was last attached to.
    refused: BTreeSet<u32>,
    /// Judged at TC ingress beside XDP, while one takes over from the other.
    in_transit: HashSet<u32>,
    /// While the daemon begins it waits for whoever changes the rules; later it looks again.
    is_patient: bool,
    /// The rules in force, as far as they were last looked at.
    running: Option<Running>,
    /// The rules that come back, while those in force are on trial.
    former: Option<Running>,
}

impl Interfaces {
    pub fn new(maps: Maps, programs: Programs, hook: Hook, wanted: Vec<String>) -> Self {
        Self {
            maps,
            programs,
            hook,
            wanted,
            ours: HashMap::new(),
            roles: HashMap::new(),
            on_trial: BTreeSet::new(),
            refused: BTreeSet::new(),
            in_transit: HashSet::new(),
            is_patient: false,
            running: None,
            former: None,
        }
    }

    /// Attaches to every wanted interface, or to none that was not ours before.
    ///
    /// # Errors
    /// What went wrong; the former programs still enforce where they did.
    pub fn begin(&mut self) -> Result<()> {
        let before = self.pins().links()?;
        self.is_patient = true;
        let begun = self.attach_wanted();
        if begun.is_err() {
            self.take_back(&before)?;
        }
        self.is_patient = false;
        begun?;
        self.programs.pin(self.maps.pins())
    }

    /// Detaches what was not attached before. Where TC has judged alone it does again, before
    /// XDP goes.
    fn take_back(&mut self, before: &[LinkName]) -> Result<()> {
        let mut added = self.pins().links()?;
        added.retain(|link| !before.contains(link));
        for LinkName { kind, ifindex } in &added {
            let ingress = LinkName { kind: LinkKind::Ingress, ifindex: *ifindex };
            if *kind == LinkKind::Xdp && before.contains(&ingress) {
                self.ours.insert(*ifindex, Mode::Tc);
            } else if !before.iter().any(|link| link.ifindex == *ifindex) {
                self.ours.remove(ifindex);
            }
        }
        self.describe_all(&links::all().context("cannot list the interfaces")?)?;
        added.into_iter().try_for_each(|link| self.pins().detach(link))
    }

    /// Attaches to the wanted interfaces that are new or have another role now, lets go of
    /// those that are gone, and tells the datapath of all.
    ///
    /// # Errors
    /// What went wrong with the first interface that failed; the others are
    /// enforced on.
    pub fn look_around(&mut self) -> Result<()> {
        let attached = self.attach_wanted();
        self.let_go()?;
        attached
    }

    fn attach_wanted(&mut self) -> Result<()> {
        let links = links::all().context("cannot list the interfaces")?;
        self.notice_losses(&links);
        self.refused.retain(|index| links.iter().any(|link| link.index == *index));
        let takers = self.likely_takers(&links);
        let mut attached = Ok(());
        let wanted = self.wanted.clone();
        for link in links.iter().filter(|link| wanted.contains(&link.name)) {
            let done = self.attach_anew(link, &takers, &links);
            match done {
                Ok(()) => self.refused.remove(&link.index),
                Err(_) => self.refused.insert(link.index),
            };
            attached = attached.and(done);
        }
        attached = attached.and(self.end_trials());
        self.describe_all(&links)?;
        attached
    }

    /// Those that take redirected frames, and those that may do so with the program that they are
    /// to have; of one that was refused before nothing is hoped for.
    fn likely_takers(&self, links: &[Link]) -> Takers {
        let features = features();
        let known = features.as_ref();
        let mut takers = known.map(|known| Takers::now(links, known)).unwrap_or_default();
        let is_new = |link: &&Link| {
            self.wanted.contains(&link.name)
                && !self.ours.contains_key(&link.index)
                && !self.refused.contains(&link.index)
        };
        for link in links.iter().filter(is_new) {
            if Role::of(link).is_ok_and(Role::is_for_xdp) {
                takers.hope_for(link, known);
            }
        }
        takers
    }

    /// The indices of those from which XDP may redirect.
    fn routers(&self, links: &[Link]) -> BTreeSet<u32> {
        let wanted = links.iter().filter(|link| self.wanted.contains(&link.name));
        let routers = wanted.filter(|link| Role::of(link).is_ok_and(Role::is_for_xdp));
        routers.map(|link| link.index).collect()
    }

    /// Has TC judge where XDP was attached in the driver and no interface has turned out to
    /// take redirected frames.
    fn end_trials(&mut self) -> Result<()> {
        while !self.on_trial.is_empty() {
            let links = links::all().context("cannot list the interfaces")?;
            // Who cannot be asked now is asked at the next look.
            let Some(features) = features() else { return Ok(()) };
            let (takers, routers) = (Takers::now(&links, &features), self.routers(&links));
            let is_in_vain = |link: &&Link| {
                self.on_trial.contains(&link.index) && !takers.has_use_at(link.index, &routers)
            };
            let Some(link) = links.iter().find(is_in_vain) else { break };
            tracing::info!("no interface takes redirected frames: TC is to judge at {}", link.name);
            self.attach(link, Role::StackRouter, &links)?;
            if self.ours.get(&link.index) != Some(&Mode::Tc) {
                // The rules are being changed.
                return Ok(());
            }
            self.on_trial.remove(&link.index);
        }
        self.on_trial.clear();
        Ok(())
    }

    /// Attaches to an interface that is new, or from which frames can be redirected now and could
    /// not. The other way round it stays with XDP, which is only slower: a card may lose
    /// packets when its program goes.
    fn attach_anew(&mut self, link: &Link, takers: &Takers, links: &[Link]) -> Result<()> {
        let role = match self.hook {
            Hook::Auto => {
                let routers = self.routers(links);
                Role::of(link)?.where_redirects(takers.has_use_at(link.index, &routers))
            }
            // Somebody has chosen.
            Hook::Xdp | Hook::XdpGeneric | Hook::Tc => Role::Router,
        };
        let is_ours = self.ours.contains_key(&link.index);
        let known = self.roles.get(&link.index).copied();
        let is_due = role.is_for_xdp()
            && known.is_some_and(|known| !known.is_for_xdp())
            && self.ours.get(&link.index) == Some(&Mode::Tc);
        if is_ours && !is_due {
            self.roles.insert(link.index, role);
            return Ok(());
        }
        if is_ours {
            let news = match known {
                Some(Role::StackRouter) => "frames can be redirected",
                _ => "packets are forwarded",
            };
            tracing::info!("{news} from {} now: XDP is to judge there", link.name);
        }
        self.attach(link, role, links)?;
        if self.hook == Hook::Auto && self.ours.get(&link.index) == Some(&Mode::Native) {
            self.on_trial.insert(link.index);
        }
        Ok(())
    }

    /// An interface without the program is not ours any more: it was made anew
    /// with the same index, or somebody took the program away.
    fn notice_losses(&mut self, links: &[Link]) {
        self.ours.retain(|index, mode| {
            let link = links.iter().find(|link| link.index == *index);
            *mode == Mode::Tc || link.is_none_or(|link| !link.xdp.is_empty())
        });
    }

    /// Forgets interfaces that are gone, and detaches from those that a former
    /// daemon enforced on and nobody wants now. One that was renamed stays ours.
    ///
    /// # Errors
    /// When a link cannot be removed.
    pub fn let_go(&mut self) -> Result<()> {
        let links = links::all().context("cannot list the interfaces")?;
        let stays = |index: u32| {
            links.iter().any(|link| {
                link.index == index
                    && (self.ours.contains_key(&index) || self.wanted.contains(&link.name))
            })
        };
        let pinned = self.pins().links()?;
        let (_, others): (Vec<_>, Vec<_>) = pinned.iter().partition(|link| stays(link.ifindex));
        for link in &others {
            self.pins().detach(*link)?;
        }
        let gone: BTreeSet<_> = others.iter().map(|link| link.ifindex).collect();
        for index in gone {
            tracing::info!("no longer enforcing on the interface with index {index}");
            self.ours.remove(&index);
            self.roles.remove(&index);
            self.on_trial.remove(&index);
        }
        Ok(())
    }

    fn attach(&mut self, link: &Link, role: Role, links: &[Link]) -> Result<()> {
        let target = self.target(link, role)?;
        // The datapath knows the interface before its first packet comes. Judged
        // twice while the hook changes is better than not at all.
        let first = self.hook.modes(&target).first().copied().unwrap_or(Mode::Tc);
        let was_tc = self
            .maps
            .devices()?
            .iter()
            .any(|(index, known)| *index == link.index && known.flags & device::TC != 0);
        let changes = target.attached.is_some_and(|attached| attached != first);
        let former = if was_tc { Some(Mode::Tc) } else { target.attached };
        if was_tc || changes || first == Mode::Tc {
            self.in_transit.insert(link.index);
        }
        self.ours.insert(link.index, target.attached.unwrap_or(first));
        let told = self.describe_all(links);
        if former.is_some() && !matches!(told, Ok(true)) {
            // By what the datapath knows, nobody might judge, or two.
            self.in_transit.remove(&link.index);
            former.map(|mode| self.ours.insert(link.index, mode));
            told?;
            tracing::info!("the rules are being changed: the hook of {} waits", link.name);
            return Ok(());
        }
        let attached = self.programs.attach_by(self.maps.pins(), &target, self.hook);
        self.in_transit.remove(&link.index);
        self.roles.insert(link.index, role);
        match attached {
            Ok(mode) => {
                self.ours.insert(link.index, mode);
                tracing::info!("enforcing on {} by {}", link.name, mode.name());
                Ok(())
            }
            Err(error) => {
                match former {
                    Some(mode) => self.ours.insert(link.index, mode),
                    None => self.ours.remove(&link.index),
                };
                Err(error.context(format!("cannot enforce on {}", link.name)))
            }
        }
    }

    fn target(&self, link: &Link, role: Role) -> Result<Target> {
        let name = LinkName { kind: LinkKind::Xdp, ifindex: link.index };
        let is_pinned = self.pins().links()?.contains(&name);
        let attached = link.xdp.first().filter(|_| is_pinned);
        Ok(Target {
            ifindex: link.index,
            role,
            attached: attached.map(|program| match program.mode {
                XdpMode::Generic => Mode::Generic,
                XdpMode::Driver | XdpMode::Hardware => Mode::Native,
            }),
        })
    }

    const fn pins(&self) -> &Pins {
        self.maps.pins()
    }

    /// Writes what has changed to the `devices` map, with the patterns of the rules
    /// in force; `false` when somebody changes the rules, who writes the patterns, too: the
    /// next look comes soon.
    fn describe_all(&mut self, links: &[Link]) -> Result<bool> {
        let pins = self.pins();
        let lock = if self.is_patient { pins.lock_ruleset()? } else { pins.try_lock_ruleset()? };
        let Some(_lock) = lock else { return Ok(false) };
        if self.maps.end_trial_over()? {
            tracing::warn!("nobody confirmed the rules that were on trial: the old rules are back");
        }
        self.read_rules()?;
        let patterns = |name: &str| self.patterns(name);
        let features = features().unwrap_or_default();
        let known: HashMap<_, _> = self.maps.devices()?.into_iter().collect();
        let mut has_changed = false;
        for link in links {
            let device = self.describe(link, features.get(&link.index), &patterns);
            if known.get(&link.index) != Some(&device) {
                self.maps.set_device(link.index, device)?;
                has_changed = true;
            }
        }
        for gone in known.keys().filter(|index| !links.iter().any(|link| link.index == **index)) {
            self.maps.remove_device(*gone)?;
            has_changed = true;
        }
        // What flows remember of a way holds for the interfaces as they were.
        if has_changed {
            self.maps.raise_epoch()?;
        }
        Ok(true)
    }

    /// Has the rules at hand that are in force, and those that may come back.
    fn read_rules(&mut self) -> Result<()> {
        let wanted = [Some(self.maps.generation()?), self.maps.former_generation()?];
        for (known, wanted) in [&mut self.running, &mut self.former].into_iter().zip(wanted) {
            if known.as_ref().map(|known| known.generation) != wanted {
                let load = |generation| Running::load_generation(&self.maps, generation);
                *known = wanted.map(load).transpose()?.flatten();
            }
        }
        Ok(())
    }

    /// The interface patterns that a name fits, of the ruleset in each slot.
    fn patterns(&self, name: &str) -> [u64; 2] {
        let fits = |running: &Running| running.patterns(name);
        let mut patterns = [self.running.as_ref().map_or(0, fits); 2];
        if let Some(former) = &self.former {
            patterns[slot(former.generation) as usize & 1] = fits(former);
        }
        patterns
    }

    fn describe(
        &self,
        link: &Link,
        features: Option<&XdpFeatures>,
        patterns: &dyn Fn(&str) -> [u64; 2],
    ) -> Device {
        let mut flags = 0;
        if link.is_ethernet() {
            flags |= device::ETHERNET;
        }
        if features.is_some_and(|features| features.has(XdpFeatures::NDO_XMIT)) {
            flags |= device::TAKES_REDIRECT;
        }
        let mode = self.ours.get(&link.index);
        if mode.is_some() {
            flags |= device::OURS;
        }
        match mode {
            Some(Mode::Generic) => flags |= device::GENERIC,
            Some(Mode::Tc) => flags |= device::TC,
            Some(Mode::Native) | None => {}
        }
        if self.in_transit.contains(&link.index) {
            flags |= device::TC;
        }
        if self.hook == Hook::Auto && mode.is_some() {
            flags |= self.roles.get(&link.index).map_or(0, |role| role.bits());
        }
        // A driver of hardware hands finished frames to native XDP; whatever else
        // there is may pass on what a local sender left to hardware.
        if link.kind.is_some() || mode != Some(&Mode::Native) {
            flags |= device::PARTIAL_CHECKSUMS;
        }
        let mut described = Device {
            patterns: patterns(&link.name),
            flags,
            mac: link.mac.unwrap_or_default(),
            ..Device::default()
        };
        described.set_name(&link.name);
        described
    }
}

/// Without this part of netlink (before Linux 6.3) nothing is known to take
/// redirected frames, and all goes through the stack. `None` when it did not answer.
fn features() -> Option<Features> {
    match xdp_features::all() {
        Ok(features) => Some(features.unwrap_or_default()),
        Err(error) => {
            log_once(&error);
            None
        }
    }
}

fn log_once(error: &io::Error) {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        tracing::warn!(
            "cannot read the XDP features of the interfaces ({error}): forwarded packets go \
             through the stack"
        );
    });
}
