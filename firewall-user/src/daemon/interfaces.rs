//! What the datapath knows of each interface, kept true as interfaces come, go,
//! and change their names and abilities.

use std::{
    collections::{BTreeMap, HashMap},
    io,
};

use anyhow::{Context, Result};
use firewall_common::control::{Device, device};

use crate::{
    kernel::{attach::Mode, maps::Maps, ruleset::Patterns},
    netlink::{
        links::{self, Link},
        xdp_features::{self, XdpFeatures},
    },
};

/// The interfaces that we enforce on, and where.
#[derive(Clone, Debug, Default)]
pub struct Interfaces {
    pub ours: HashMap<u32, Mode>,
}

impl Interfaces {
    /// Writes what has changed to the `devices` map. The caller holds the lock of
    /// the ruleset whose `patterns` these are.
    ///
    /// # Errors
    /// When netlink or the map fails.
    pub fn refresh(&self, maps: &Maps, patterns: Patterns<'_>) -> Result<()> {
        let links = links::all().context("cannot list the interfaces")?;
        let features = features();
        let known: HashMap<_, _> = maps.devices()?.into_iter().collect();
        for link in &links {
            let device = self.describe(link, features.get(&link.index), patterns);
            if known.get(&link.index) != Some(&device) {
                maps.set_device(link.index, device)?;
            }
        }
        for gone in known.keys().filter(|index| !links.iter().any(|link| link.index == **index)) {
            maps.remove_device(*gone)?;
        }
        Ok(())
    }

    fn describe(
        &self,
        link: &Link,
        features: Option<&XdpFeatures>,
        patterns: Patterns<'_>,
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
        // A driver of hardware hands finished frames to native XDP; whatever else
        // there is may pass on what a local sender left to hardware.
        if link.kind.is_some() || mode != Some(&Mode::Native) {
            flags |= device::PARTIAL_CHECKSUMS;
        }
        Device {
            patterns: [patterns(&link.name); 2],
            flags,
            mac: link.mac.unwrap_or_default(),
            ..Device::default()
        }
    }
}

/// Without this part of netlink (before Linux 6.3) nothing is known to take
/// redirected frames, and all goes through the stack.
fn features() -> BTreeMap<u32, XdpFeatures> {
    match xdp_features::all() {
        Ok(features) => features.unwrap_or_default(),
        Err(error) => {
            log_once(&error);
            BTreeMap::new()
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
