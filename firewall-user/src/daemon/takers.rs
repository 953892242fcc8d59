//! The interfaces that take redirected frames, or may.

use std::collections::{BTreeMap, BTreeSet};

use crate::netlink::{links::Link, xdp_features::XdpFeatures};

/// What drivers can do, by the index of the interface; empty before Linux 6.3, which tells
/// nothing.
pub type Features = BTreeMap<u32, XdpFeatures>;

/// Indexes of interfaces.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Takers(BTreeSet<u32>);

impl Takers {
    /// Those that take redirected frames now. XDP redirects frames of Ethernet alone.
    pub fn now(links: &[Link], features: &Features) -> Self {
        let takes = |link: &&Link| {
            features.get(&link.index).is_some_and(|of| of.has(XdpFeatures::NDO_XMIT))
        };
        let takers = links.iter().filter(|link| link.is_ethernet()).filter(takes);
        Self(takers.map(|link| link.index).collect())
    }

    /// Adds one that is to have XDP, if it may become one by that: most drivers of cards that have
    /// XDP have queues for redirected frames only as long as there is a program. That of a pair of
    /// virtual devices goes by the other end. `features` is `None` where the kernel could not be
    /// asked.
    pub fn hope_for(&mut self, link: &Link, features: Option<&Features>) {
        let is_pair = link.kind.as_deref() == Some("veth");
        let has_xdp = features.is_none_or(|features| {
            features.get(&link.index).is_some_and(|of| of.has(XdpFeatures::BASIC))
        });
        if link.is_ethernet() && !is_pair && has_xdp {
            self.0.insert(link.index);
        }
    }

    /// Whether frames can be redirected from an interface, or to it from another one of `routers`: a
    /// driver may take frames only while it has a program itself.
    pub fn has_use_at(&self, index: u32, routers: &BTreeSet<u32>) -> bool {
        let has_others = routers.iter().any(|other| *other != index);
        self.0.iter().any(|taker| *taker != index || has_others)
    }
}

#[cfg(test)]
mod tests {
    use nix::libc;

    use super::*;

    fn link(index: u32, kind: Option<&str>) -> Link {
        Link {
            index,
            name: format!("eth{index}"),
            mac: None,
            mtu: 1500,
            kind: kind.map(String::from),
            link_type: libc::ARPHRD_ETHER,
            flags: 0,
            xdp: vec![],
        }
    }

    fn features(of: &[(u32, XdpFeatures)]) -> Features {
        of.iter().copied().collect()
    }

    #[test]
    fn one_alone_has_nobody_to_redirect_to() {
        let links = [link(1, None), link(2, None)];
        let takers = Takers::now(&links, &features(&[(1, XdpFeatures::NDO_XMIT)]));
        assert!(!takers.has_use_at(1, &BTreeSet::from([1])));
        assert!(takers.has_use_at(2, &BTreeSet::from([2])));
        // The other one redirects to it.
        assert!(takers.has_use_at(1, &BTreeSet::from([1, 2])));
        let nobody = Takers::now(&links, &features(&[]));
        assert!(!nobody.has_use_at(1, &BTreeSet::from([1, 2])));
    }

    #[test]
    fn frames_of_ethernet_go_to_no_other_device() {
        let tun = Link { link_type: libc::ARPHRD_NONE, ..link(1, Some("tun")) };
        let features = features(&[(1, XdpFeatures::NDO_XMIT)]);
        let mut takers = Takers::now(std::slice::from_ref(&tun), &features);
        takers.hope_for(&tun, None);
        assert_eq!(takers, Takers::default());
    }

    #[test]
    fn a_card_with_xdp_may_become_one_and_others_do_not() {
        let features = features(&[
            (1, XdpFeatures::BASIC),
            (2, XdpFeatures::BASIC),
            (3, XdpFeatures::default()),
        ]);
        let [card, pair, bridge] = [(1, None), (2, Some("veth")), (3, Some("bridge"))]
            .map(|(index, kind)| link(index, kind));
        let mut takers = Takers::default();
        takers.hope_for(&pair, Some(&features));
        takers.hope_for(&bridge, Some(&features));
        takers.hope_for(&link(4, None), Some(&features));
        assert_eq!(takers, Takers::default());
        takers.hope_for(&card, Some(&features));
        assert_eq!(takers, Takers(BTreeSet::from([1])));
    }

    #[test]
    fn where_the_kernel_could_not_be_asked_all_but_pairs_may() {
        let mut takers = Takers::default();
        takers.hope_for(&link(1, None), None);
        takers.hope_for(&link(2, Some("veth")), None);
        assert_eq!(takers, Takers(BTreeSet::from([1])));
    }
}
