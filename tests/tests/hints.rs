//! Hints of the short way: what comes to a wire face is led inside by what its flow's former packet
//! has found, and by the table of translations where there is no hint.
//!
//! ```text
//!   client ── eth0 │ gateway: MASQUERADE │ eth1 ── server, who knows only the gateway
//! ```

use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use aya::{
    Pod,
    maps::{Array, HashMap, Map, MapData, MapInfo},
    programs::ProgramInfo,
};
use firewall_tests::{
    Family, Firewall, Gateway, Offload, capability,
    exchange::{connect, until_acknowledged},
    firewall::Setup,
    needs, wait,
};
use firewall_user::kernel::pins::Pins;
use nix::{
    libc::linger,
    sys::socket::{setsockopt, sockopt::Linger},
};

const RULES: &str = "\
*nat
-A POSTROUTING -o eth1 -j MASQUERADE
COMMIT
*filter
:FORWARD DROP [0:0]
-A FORWARD -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT
-A FORWARD -i eth0 -j ACCEPT
COMMIT
";
const PATIENCE: Duration = Duration::from_secs(10);
const ROUNDS: u64 = 20;

/// A table of translations: bytes of a key, which are as many as the family wants, bytes of a way
/// in.
type Translations<const KEY: usize> = HashMap<MapData, [u8; KEY], [u8; 48]>;
/// Without translation.
const PLAIN: &str = "\
*filter
:FORWARD DROP [0:0]
-A FORWARD -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT
-A FORWARD -i eth0 -j ACCEPT
COMMIT
";

/// Places of the table of hints that one hint fills.
const fn places_of(family: Family) -> usize {
    match family {
        Family::V4 => 1,
        Family::V6 => 2,
    }
}

/// Two ends of one connection.
struct Talk {
    client: TcpStream,
    server: TcpStream,
}

impl Talk {
    fn begin(network: &Gateway, family: Family) -> Result<Self> {
        let listener = listen(network)?;
        Self::between(network, &listener, family)
    }

    fn between(network: &Gateway, listener: &TcpListener, family: Family) -> Result<Self> {
        let port = listener.local_addr()?.port();
        let to = SocketAddr::new(network.server_address(family), port);
        let client = connect(&network.client, to)?;
        let (server, _) = listener.accept()?;
        for stream in [&client, &server] {
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.set_nodelay(true)?;
        }
        Ok(Self { client, server })
    }

    /// A byte to the server and one back, some times.
    fn go_on(&mut self) -> Result<()> {
        for _ in 0..ROUNDS {
            self.client.write_all(b"?")?;
            self.server.read_exact(&mut [0]).context("the client is not heard")?;
            self.server.write_all(b"!")?;
            self.client.read_exact(&mut [0]).context("the server is not heard")?;
        }
        Ok(())
    }

    /// Waits until nothing is on its way any more: the client has acknowledged all.
    fn settle(&self) -> Result<()> {
        until_acknowledged(&self.server)
    }
}

/// A server of both families.
fn listen(network: &Gateway) -> Result<TcpListener> {
    network.server.enter(|| TcpListener::bind(("::", 0))).context("cannot listen")
}

/// A server that knows no way to the client but the gateway's address.
fn network() -> Result<Gateway> {
    let network = Gateway::new(Offload::Tuned)?;
    network.server.ip("route del default")?;
    network.server.ip("-6 route del default")?;
    Ok(network)
}

/// Removes all that leads inside; gives how many entries that were.
fn forget_translations(firewall: &Firewall<'_>, family: Family) -> Result<usize> {
    match family {
        Family::V4 => empty::<16>(firewall, "translations"),
        Family::V6 => empty::<40>(firewall, "translations6"),
    }
}

fn empty<const KEY: usize>(firewall: &Firewall<'_>, name: &str) -> Result<usize>
where
    [u8; KEY]: Pod,
{
    let map = MapData::from_pin(Pins::new(firewall.pin()).map(name))?;
    let mut table: Translations<KEY> = Map::HashMap(map).try_into()?;
    let keys = table.keys().collect::<Result<Vec<_>, _>>()?;
    keys.iter().try_for_each(|key| table.remove(key))?;
    Ok(keys.len())
}

/// Has a connection go on, which must take the short way both ways.
fn goes_shortly(talk: &mut Talk, firewall: &Firewall<'_>) -> Result<()> {
    let before = firewall.stat("forward-short")?;
    talk.go_on()?;
    let taken = firewall.stat("forward-short")? - before;
    ensure!(taken > ROUNDS + ROUNDS / 2, "{taken} of {} took the short way", 2 * ROUNDS);
    Ok(())
}

/// The hints of the program in XDP, which are its own.
fn hints(firewall: &Firewall<'_>) -> Result<Array<MapData, [u64; 2]>> {
    let program = ProgramInfo::from_pin(Pins::new(firewall.pin()).program("firewall_xdp"))?;
    for id in program.map_ids()?.context("the kernel does not tell a program's maps")? {
        if MapInfo::from_id(id)?.name_as_str() == Some("hints") {
            return Ok(Map::Array(MapData::from_id(id)?).try_into()?);
        }
    }
    bail!("the program has no hints")
}

/// The places where hints stand.
fn places(hints: &Array<MapData, [u64; 2]>) -> Result<Vec<u32>> {
    let mut places = Vec::new();
    for place in 0..hints.len() {
        if hints.get(&place, 0)? != [0; 2] {
            places.push(place);
        }
    }
    Ok(places)
}

#[test]
fn who_is_not_translated_takes_the_short_way_over_both_families() {
    needs!(capability::firewall());
    not_translated().unwrap();
}

fn not_translated() -> Result<()> {
    let network = Gateway::new(Offload::Tuned)?;
    let setup = Setup::on(&["eth0", "eth1"]).both(PLAIN).option("--hook=xdp");
    let firewall = setup.start(network.gateway())?;
    for family in [Family::V4, Family::V6] {
        let mut talk = Talk::begin(&network, family)?;
        talk.go_on()?;
        goes_shortly(&mut talk, &firewall).with_context(|| format!("{family:?}"))?;
        talk.settle()?;
    }
    ensure!(places(&hints(&firewall)?)?.is_empty(), "nobody comes to a wire face");
    Ok(())
}

#[test]
fn a_wire_face_is_looked_up_once() {
    needs!(capability::firewall());
    looked_up_once(Family::V4).unwrap();
}

#[test]
fn so_is_one_of_ipv6() {
    needs!(capability::firewall());
    looked_up_once(Family::V6).unwrap();
}

fn looked_up_once(family: Family) -> Result<()> {
    let network = network()?;
    let setup = Setup::on(&["eth0", "eth1"]).both(RULES).option("--hook=xdp");
    let firewall = setup.start(network.gateway())?;
    let mut talk = Talk::begin(&network, family)?;
    talk.go_on()?;

    // From here on nothing but the hint leads the server's packets inside.
    let count = forget_translations(&firewall, family)?;
    ensure!(count == 1, "the connection has one wire face, not {count}");
    goes_shortly(&mut talk, &firewall)?;

    // It leads nowhere when the flow is gone: they come to the gateway itself.
    let hints = hints(&firewall)?;
    ensure!(places(&hints)?.len() == places_of(family), "one wire face has one hint");
    talk.settle()?;
    firewall.text(&["conntrack", "flush"])?;
    let before = firewall.stat("accept-input")?;
    talk.server.write_all(b"!")?;
    wait::until_true("the server's answer at the gateway", || {
        firewall.stat("accept-input").is_ok_and(|now| now > before)
    })?;
    // What a second place holds belongs to nobody without the first.
    wait::until_true("no hint where what it leads to is gone", || {
        places(&hints).is_ok_and(|left| left.len() < places_of(family))
    })
}

#[test]
fn datagrams_are_translated_on_the_short_way_over_both_families() {
    needs!(capability::firewall());
    [Family::V4, Family::V6].into_iter().try_for_each(datagrams).unwrap();
}

/// There and back until the flow is a stream, and then on the short way. A host drops what has a
/// wrong checksum.
fn datagrams(family: Family) -> Result<()> {
    let network = network()?;
    let setup = Setup::on(&["eth0", "eth1"]).both(RULES).option("--hook=xdp");
    let firewall = setup.start(network.gateway())?;
    let own = || UdpSocket::bind(("::", 0)).context("cannot bind");
    let (server, client) = (network.server.enter(own)?, network.client.enter(own)?);
    for socket in [&server, &client] {
        socket.set_read_timeout(Some(PATIENCE))?;
    }
    let port = server.local_addr()?.port();
    let address = match network.server_address(family) {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    };
    client.connect((address, port))?;
    let mut heard = [0; 64];
    let mut exchange = || -> Result<()> {
        client.send(b"what is long enough to be read")?;
        let (len, from) = server.recv_from(&mut heard).context("the client is not heard")?;
        server.send_to(&heard[..len], from)?;
        let len = client.recv(&mut heard).context("the server is not heard")?;
        ensure!(heard[..len] == *b"what is long enough to be read", "{heard:?}");
        Ok(())
    };
    wait::until_true("a stream", || {
        exchange().unwrap();
        firewall.stat("forward-short").is_ok_and(|count| count > 0)
    })?;
    let before = firewall.stat("forward-short")?;
    (0..ROUNDS).try_for_each(|_| exchange())?;
    let taken = firewall.stat("forward-short")? - before;
    ensure!(taken > ROUNDS + ROUNDS / 2, "{taken} of {} took the short way", 2 * ROUNDS);
    Ok(())
}

#[test]
fn who_has_lost_a_port_hears_nothing_of_who_has_it_now() {
    needs!(capability::firewall());
    given_to_another(Family::V4, "198.51.100.1:61000").unwrap();
}

#[test]
fn nor_over_ipv6() {
    needs!(capability::firewall());
    given_to_another(Family::V6, "[2001:db8:2::1]:61000").unwrap();
}

/// All connections have one port of the gateway: one at a time to each port of the server.
fn given_to_another(family: Family, port: &str) -> Result<()> {
    let network = network()?;
    let one = RULES.replace("-j MASQUERADE", &format!("-p tcp -j SNAT --to-source {port}"));
    let setup = Setup::on(&["eth0", "eth1"]).option("--hook=xdp");
    let setup = match family {
        Family::V4 => setup.rules(&one),
        Family::V6 => setup.rules6(&one),
    };
    let firewall = setup.start(network.gateway())?;
    let listener = listen(&network)?;
    let mut former = Talk::between(&network, &listener, family)?;
    former.go_on()?;
    let count = places(&hints(&firewall)?)?.len();
    ensure!(count == places_of(family), "one wire face has one hint, in {count} places");

    former.settle()?;
    firewall.text(&["conntrack", "flush"])?;
    end_at_once(&former.server)?;
    drop(former.server);
    let mut next = Talk::between(&network, &listener, family)?;
    goes_shortly(&mut next, &firewall)?;
    former.client.set_nonblocking(true)?;
    let heard = former.client.read(&mut [0]).map_err(|error| error.kind());
    ensure!(heard == Err(ErrorKind::WouldBlock), "the former client hears: {heard:?}");
    Ok(())
}

/// Has a connection end without a farewell when its stream is closed.
fn end_at_once(stream: &TcpStream) -> Result<()> {
    let at_once = linger { l_onoff: 1, l_linger: 0 };
    setsockopt(stream, Linger, &at_once).context("cannot set a socket's linger")
}
