//! News of what a route may depend on: interfaces, addresses, neighbours, routes, rules and
//! next hops (rtnetlink(7), linux/rtnetlink.h).
//!
//! Nobody here asks what has changed: whoever remembers an answer of the routing table asks
//! again.

use std::io;

use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use nix::{errno::Errno, libc};
use tokio::io::unix::AsyncFd;

/// The multicast groups of rtnetlink that are listened to.
const GROUPS: [u32; 9] = [
    libc::RTNLGRP_LINK,
    libc::RTNLGRP_NEIGH,
    libc::RTNLGRP_IPV4_IFADDR,
    libc::RTNLGRP_IPV4_ROUTE,
    libc::RTNLGRP_IPV4_RULE,
    libc::RTNLGRP_IPV6_IFADDR,
    libc::RTNLGRP_IPV6_ROUTE,
    libc::RTNLGRP_IPV6_RULE,
    libc::RTNLGRP_NEXTHOP,
];

/// Datagrams that are taken in one go: others want to be served, too.
const AT_ONCE: usize = 256;

/// The news in one network namespace, from the moment of [`news`] on.
#[derive(Debug)]
pub struct News {
    socket: AsyncFd<Socket>,
}

/// Begins to listen in the calling thread's network namespace, within a tokio runtime.
///
/// # Errors
/// When the kernel gives no socket, or does not know one of the groups.
pub fn news() -> io::Result<News> {
    let mut socket = Socket::new(NETLINK_ROUTE)?;
    socket.set_non_blocking(true)?;
    socket.bind(&SocketAddr::new(0, 0))?;
    for group in GROUPS {
        socket.add_membership(group)?;
    }
    // SAFETY: the socket owns its descriptor and is never replaced.
    let socket = unsafe { AsyncFd::register(socket) }?;
    Ok(News { socket })
}

impl News {
    /// Waits until there is news, and takes what has come. It may be dropped while it
    /// waits: nothing is lost.
    ///
    /// # Errors
    /// When the socket fails for good.
    pub async fn next(&mut self) -> io::Result<()> {
        let mut is_news = false;
        while !is_news {
            let mut ready = self.socket.readable().await?;
            for _ in 0..AT_ONCE {
                let Ok(received) = ready.try_io(|socket| receive(socket.get_ref())) else { break };
                received?;
                is_news = true;
            }
        }
        Ok(())
    }
}

/// Takes one datagram; that others were lost is news as well.
fn receive(socket: &Socket) -> io::Result<()> {
    match socket.recv_from_full() {
        Err(error) if error.raw_os_error() == Some(Errno::ENOBUFS as i32) => Ok(()),
        received => received.map(drop),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::scratch::Namespace;
    use super::*;

    #[test]
    fn each_change_that_a_route_depends_on_is_news() {
        let Some(namespace) = Namespace::new("routes") else { return };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        namespace.enter(|| {
            // Timers and sockets are made within the runtime.
            let _guard = runtime.enter();
            namespace.ip("link add eth0 type veth peer name eth1");
            namespace.ip("link set eth0 up");
            namespace.ip("link set eth1 up");
            let mut news = news().unwrap();
            let mut is_told = |within| {
                let told = tokio::time::timeout(Duration::from_millis(within), news.next());
                runtime.block_on(told).is_ok()
            };
            // The interfaces come up in their own time.
            while is_told(1_500) {}
            for change in [
                "address add 192.0.2.1/24 dev eth0",
                "route add 203.0.113.0/24 via 192.0.2.2",
                "neigh replace 192.0.2.2 lladdr 02:00:00:00:00:01 dev eth0",
                "rule add fwmark 1 lookup 7",
                "nexthop add id 1 via 192.0.2.2 dev eth0",
                "link set eth0 mtu 1400",
            ] {
                namespace.ip(change);
                assert!(is_told(5_000), "{change}");
                while is_told(200) {}
            }
        });
    }
}
