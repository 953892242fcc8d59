//! Whether the interfaces are there and free.

use std::collections::BTreeSet;

use super::{Problem, Request};
use crate::{cli::args::HookChoice, netlink::links::Link, role::Role};

/// More edits than this make another name.
const TYPING_ERROR: usize = 2;

/// The links that were asked for, in that order; `roles` stand in that of `links`.
pub fn choose(request: &Request<'_>, links: &[Link], roles: &[Role]) -> Result<Vec<Link>, Problem> {
    let mut chosen = BTreeSet::new();
    let choose = |name: &crate::cli::InterfaceName| {
        let (link, role) = find(name.as_str(), links, roles)?;
        if !chosen.insert(link.index) {
            return Err(Problem::Twice(link.name.clone()));
        }
        check(link, role, request)?;
        Ok(link.clone())
    };
    request.interfaces.iter().map(choose).collect()
}

fn find<'l>(name: &str, links: &'l [Link], roles: &[Role]) -> Result<(&'l Link, Role), Problem> {
    let mut known = links.iter().zip(roles.iter().copied());
    known.find(|(link, _)| link.name == name).ok_or_else(|| Problem::UnknownInterface {
        name: name.into(),
        present: links.iter().map(|link| link.name.clone()).collect(),
        similar: similar(name, links),
    })
}

fn similar(name: &str, links: &[Link]) -> Option<String> {
    let candidates = links.iter().filter(|link| !link.is_loopback());
    candidates
        .map(|link| (distance(name, &link.name), &link.name))
        .filter(|(distance, candidate)| *distance <= TYPING_ERROR && *distance < candidate.len())
        .min()
        .map(|(_, candidate)| candidate.clone())
}

fn check(link: &Link, role: Role, request: &Request<'_>) -> Result<(), Problem> {
    if link.is_loopback() {
        return Err(Problem::Loopback(link.name.clone()));
    }
    let uses_xdp = match request.hook {
        HookChoice::Tc => false,
        HookChoice::Auto => role.is_for_xdp(),
        HookChoice::Xdp | HookChoice::XdpGeneric if !link.is_ethernet() => {
            return Err(Problem::NoEthernet(link.name.clone()));
        }
        HookChoice::Xdp | HookChoice::XdpGeneric => true,
    };
    match link.xdp.first() {
        Some(&program) if uses_xdp && !request.ours.contains(&link.index) => {
            Err(Problem::ForeignXdp { name: link.name.clone(), program })
        }
        _ => Ok(()),
    }
}

/// How many letters were left out, added, mistaken or swapped (optimal string
/// alignment distance).
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut before = vec![0; b.len() + 1];
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i; b.len() + 1];
        for j in 1..=b.len() {
            let mistaken = last[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            row[j] = mistaken.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                row[j] = row[j].min(before[j - 2] + 1);
            }
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use nix::libc;

    use super::*;
    use crate::{
        cli::InterfaceName,
        netlink::links::{XdpMode, XdpProgram},
    };

    fn link(index: u32, name: &str) -> Link {
        Link {
            index,
            name: name.into(),
            mac: None,
            mtu: 1500,
            kind: None,
            link_type: libc::ARPHRD_ETHER,
            flags: 0,
            xdp: vec![],
        }
    }

    /// lo, eth0, eth1 with somebody's XDP program, tun0.
    fn links() -> [Link; 4] {
        let lo = Link { flags: libc::IFF_LOOPBACK as u32, ..link(1, "lo") };
        let program = XdpProgram { id: 77, mode: XdpMode::Generic };
        let eth1 = Link { xdp: vec![program], ..link(3, "eth1") };
        let tun0 = Link { link_type: libc::ARPHRD_NONE, ..link(4, "tun0") };
        [lo, link(2, "eth0"), eth1, tun0]
    }

    fn choose_with(names: &str, hook: HookChoice, ours: &[u32]) -> Result<Vec<u32>, String> {
        choose_as(Role::Router, names, hook, ours)
    }

    /// With so many interfaces of one role, but for the one without Ethernet.
    fn choose_as(
        role: Role,
        names: &str,
        hook: HookChoice,
        ours: &[u32],
    ) -> Result<Vec<u32>, String> {
        let interfaces: Vec<InterfaceName> =
            names.split(' ').map(|name| name.parse().unwrap()).collect();
        let ours = ours.iter().copied().collect();
        let request = Request { pin: Path::new("/"), interfaces: &interfaces, hook, ours: &ours };
        let roles = [role, role, role, Role::Bare];
        let chosen = choose(&request, &links(), &roles).map_err(|problem| problem.to_string())?;
        Ok(chosen.iter().map(|link| link.index).collect())
    }

    fn refused(names: &str) -> String {
        choose_with(names, HookChoice::Auto, &[]).unwrap_err()
    }

    #[test]
    fn those_asked_for_come_back_in_their_order() {
        assert_eq!(choose_with("tun0 eth0", HookChoice::Auto, &[]), Ok(vec![4, 2]));
    }

    #[test]
    fn an_unknown_name_is_refused_with_those_that_are_there() {
        assert_eq!(
            refused("wlp3s0"),
            "no interface 'wlp3s0' here; there are: lo, eth0, eth1, tun0"
        );
    }

    #[test]
    fn a_typing_error_is_seen_through() {
        for name in ["ethO", "eht0", "eth", "eth00"] {
            let message = refused(name);
            assert!(message.ends_with("; did you mean eth0?"), "{message}");
        }
        assert!(!refused("l0").contains("did you mean"));
    }

    #[test]
    fn loopback_and_doubles_are_refused() {
        assert_eq!(
            refused("lo"),
            "lo is the loopback interface, whose packets are not judged: leave out -i lo"
        );
        assert_eq!(refused("eth0 eth0"), "-i eth0 is given twice: leave one out");
    }

    mod a_foreign_xdp_program {
        use super::*;

        #[test]
        fn is_refused_with_its_id_its_mode_and_how_to_remove_it() {
            assert_eq!(
                refused("eth1"),
                "eth1 has an XDP program that is not ours (id 77, generic mode): `bpftool net \
                 show dev eth1` and `ip link show dev eth1` tell more; if it is not needed, remove \
                 it with `ip link set dev eth1 xdpgeneric off` (where a link holds it: `bpftool \
                 link detach`), or leave it and use --hook tc"
            );
        }

        #[test]
        fn does_not_disturb_tc() {
            assert_eq!(choose_with("eth1", HookChoice::Tc, &[]), Ok(vec![3]));
        }

        #[test]
        fn does_not_disturb_where_nothing_is_forwarded() {
            assert_eq!(choose_as(Role::Host, "eth1", HookChoice::Auto, &[]), Ok(vec![3]));
            assert!(choose_as(Role::Host, "eth1", HookChoice::Xdp, &[]).is_err());
        }

        #[test]
        fn is_our_own_when_its_link_is_pinned_here() {
            assert_eq!(choose_with("eth1", HookChoice::Auto, &[3]), Ok(vec![3]));
        }
    }

    #[test]
    fn xdp_on_a_device_without_ethernet_is_refused_and_auto_takes_it() {
        let message = choose_with("tun0", HookChoice::Xdp, &[]).unwrap_err();
        assert!(message.starts_with("tun0 has no Ethernet header"), "{message}");
        assert_eq!(choose_with("tun0", HookChoice::Auto, &[]), Ok(vec![4]));
    }

    #[test]
    fn the_distance_counts_edits() {
        for (a, b, edits) in [("", "", 0), ("eth0", "eth0", 0), ("eht0", "eth0", 1), ("a", "", 1)] {
            assert_eq!(distance(a, b), edits, "{a} {b}");
        }
    }
}
