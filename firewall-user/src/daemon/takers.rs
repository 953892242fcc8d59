//! The interfaces that take redirected frames, or may.

use std::collections::{BTreeMap, BTreeSet};

use crate::netlink::{links::Link, xdp_features::XdpFeatures};

/// What drivers can do, by the index of the interface; empty before Linux 6.3.
pub type Features = BTreeMap<u32, XdpFeatures>;

/// Indexes of interfaces.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Takers(BTreeSet<u32>);

impl Takers {
    /// Those that take redirected frames as they are now. XDP redirects frames of Ethernet alone.
    pub fn now(links: &[Link], features: &Features) -> Self {
        let takes = |link: &&Link| {
            features.get(&link.index).is_some_and(|of| of.has(XdpFeatures::NDO_XMIT))
        };
        let takers = links.iter().filter(|link| link.is_ethernet()).filter(takes);
        Self(takers.map(|link| link.index).collect())
    }

    /// Adds one that is to have XDP, if it may become one by that: most drivers of cards have
    /// queues for redirected frames only as long as there is a program. That of a pair of virtual
    /// devices goes by the other end.
    pub fn hope_for(&mut self, link: &Link, features: &Features) {
        let is_pair = link.kind.as_deref() == Some("veth");
        if link.is_ethernet() && !is_pair && features.contains_key(&link.index) {
            self.0.insert(link.index);
        }
    }

    /// Whether frames from an interface can be redirected to another one.
    pub fn has_beside(&self, index: u32) -> bool {
        self.0.iter().any(|taker| *taker != index)
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
        let both = [(1, XdpFeatures::NDO_XMIT), (2, XdpFeatures::NDO_XMIT)];
        let takers = Takers::now(&links, &features(&both[..1]));
        assert!(!takers.has_beside(1) && takers.has_beside(2));
        let takers = Takers::now(&links, &features(&both));
        assert!(takers.has_beside(1) && takers.has_beside(2));
    }

    #[test]
    fn frames_of_ethernet_go_to_no_other_device() {
        let tun = Link { link_type: libc::ARPHRD_NONE, ..link(1, Some("tun")) };
        let features = features(&[(1, XdpFeatures::NDO_XMIT)]);
        let mut takers = Takers::now(std::slice::from_ref(&tun), &features);
        takers.hope_for(&tun, &features);
        assert_eq!(takers, Takers::default());
    }

    #[test]
    fn a_card_may_become_one_and_a_virtual_pair_does_not() {
        let features = features(&[(1, XdpFeatures::BASIC), (2, XdpFeatures::BASIC)]);
        let (card, pair, unknown) = (link(1, None), link(2, Some("veth")), link(3, None));
        let mut takers = Takers::now(&[card.clone(), pair.clone(), unknown.clone()], &features);
        takers.hope_for(&pair, &features);
        takers.hope_for(&unknown, &features);
        assert_eq!(takers, Takers::default());
        takers.hope_for(&card, &features);
        assert!(takers.has_beside(2) && !takers.has_beside(1));
    }
}
