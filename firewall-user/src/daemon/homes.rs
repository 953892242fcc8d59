//! The addresses of this host that MASQUERADE gives to connections: when one goes, its
//! connections are over, as in nf_nat_masquerade. Nothing can come back to them, and the host's
//! next address is another.

use std::collections::HashSet;

use anyhow::Result;
use firewall_common::{
    addr::Addr,
    flow::{Direction, Flow, status},
    nat::translation::face,
};

use crate::why::host;

/// What this host had, from look to look.
///
/// An address that was never seen is not missed: the routing table may name one that no
/// interface has.
#[derive(Debug, Default)]
pub struct Homes {
    present: HashSet<Addr>,
    lost: HashSet<Addr>,
}

impl Homes {
    /// Looks which addresses there are.
    ///
    /// # Errors
    /// When the kernel cannot be asked.
    pub fn look(&mut self) -> Result<()> {
        self.note(host::addresses_up()?.into_iter().map(Addr::from).collect());
        Ok(())
    }

    fn note(&mut self, present: HashSet<Addr>) {
        self.lost.extend(self.present.difference(&present));
        self.lost.retain(|address| !present.contains(address));
        self.present = present;
    }

    /// Whether the flow is masqueraded by an address that this host has no more.
    pub fn has_lost(&self, flow: &Flow) -> bool {
        flow.has(status::SOURCE_TRANSLATED)
            && flow.faces.flags & face::MASQUERADE != 0
            && self.lost.contains(&flow.faces.source[Direction::Original.index()])
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use firewall_common::nat::Faces;

    use super::*;

    fn address(last: u8) -> Addr {
        IpAddr::from([203, 0, 113, last]).into()
    }

    fn flow(last: u8, flags: u8) -> Flow {
        let faces = Faces { source: [address(last), Addr::ANY], flags, ..Faces::default() };
        Flow { faces, status: status::SOURCE_TRANSLATED, ..Flow::default() }
    }

    #[test]
    fn a_masqueraded_flow_ends_with_its_address_and_one_of_snat_does_not() {
        let mut homes = Homes::default();
        homes.note([address(1), address(2)].into());
        assert!(!homes.has_lost(&flow(1, face::MASQUERADE)));
        homes.note([address(2)].into());
        assert!(homes.has_lost(&flow(1, face::MASQUERADE)));
        assert!(!homes.has_lost(&flow(2, face::MASQUERADE)));
        assert!(!homes.has_lost(&flow(1, 0)));
    }

    #[test]
    fn an_address_that_comes_back_serves_again() {
        let mut homes = Homes::default();
        for present in [HashSet::from([address(1)]), HashSet::new(), HashSet::from([address(1)])] {
            homes.note(present);
        }
        assert!(!homes.has_lost(&flow(1, face::MASQUERADE)));
    }

    #[test]
    fn an_address_that_no_interface_ever_had_is_not_missed() {
        let mut homes = Homes::default();
        homes.note([address(1)].into());
        homes.note(HashSet::new());
        assert!(!homes.has_lost(&flow(9, face::MASQUERADE)));
    }
}
