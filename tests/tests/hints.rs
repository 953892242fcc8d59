//! Hints of the short way: what comes to a wire face is led inside by what its flow's former packet
//! has found, and by the table of translations where there is no hint.
//!
//! ```text
//!   client ── eth0 │ gateway: MASQUERADE │ eth1 ── server, who knows only the gateway
//! ```

use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use aya::{
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

/// A table of translations of IPv4: bytes of a key, bytes of a way in.
type Translations = HashMap<MapData, [u8; 16], [u8; 48]>;

/// Two ends of one connection.
struct Talk {
    client: TcpStream,
    server: TcpStream,
}

impl Talk {
    fn begin(network: &Gateway) -> Result<Self> {
        let listener = network.server.enter(|| TcpListener::bind(("0.0.0.0", 0)))?;
        Self::between(network, &listener)
    }

    fn between(network: &Gateway, listener: &TcpListener) -> Result<Self> {
        let port = listener.local_addr()?.port();
        let to = SocketAddr::new(network.server_address(Family::V4), port);
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

fn translations(firewall: &Firewall<'_>) -> Result<Translations> {
    let map = MapData::from_pin(Pins::new(firewall.pin()).map("translations"))?;
    Ok(Map::HashMap(map).try_into()?)
}

/// Removes all that leads inside; gives how many entries that were.
fn remove_all(table: &mut Translations) -> Result<usize> {
    let keys = table.keys().collect::<Result<Vec<_>, _>>()?;
    keys.iter().try_for_each(|key| table.remove(key))?;
    Ok(keys.len())
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
fn a_wire_face_is_looked_up_once() {
    needs!(capability::firewall());
    looked_up_once().unwrap();
}

fn looked_up_once() -> Result<()> {
    let network = Gateway::new(Offload::Tuned)?;
    network.server.ip("route del default")?;
    let setup = Setup::on(&["eth0", "eth1"]).rules(RULES).option("--hook=xdp");
    let firewall = setup.start(network.gateway())?;
    let mut talk = Talk::begin(&network)?;
    talk.go_on()?;

    // From here on nothing but the hint leads the server's packets inside.
    let mut table = translations(&firewall)?;
    ensure!(remove_all(&mut table)? == 1, "the connection has one wire face");
    let before = firewall.stat("forward-short")?;
    talk.go_on()?;
    let taken = firewall.stat("forward-short")? - before;
    ensure!(taken > ROUNDS + ROUNDS / 2, "{taken} of {} took the short way", 2 * ROUNDS);

    // It leads nowhere when the flow is gone: they come to the gateway itself.
    let hints = hints(&firewall)?;
    ensure!(places(&hints)?.len() == 1, "one wire face has one hint");
    talk.settle()?;
    firewall.text(&["conntrack", "flush"])?;
    let before = firewall.stat("accept-input")?;
    talk.server.write_all(b"!")?;
    wait::until_true("the server's answer at the gateway", || {
        firewall.stat("accept-input").is_ok_and(|now| now > before)
    })?;
    ensure!(places(&hints)?.is_empty(), "what leads nowhere has no hint");
    Ok(())
}

#[test]
fn who_has_lost_a_port_hears_nothing_of_who_has_it_now() {
    needs!(capability::firewall());
    given_to_another().unwrap();
}

/// All connections have one port of the gateway: one at a time to each port of the server.
fn given_to_another() -> Result<()> {
    let network = Gateway::new(Offload::Tuned)?;
    network.server.ip("route del default")?;
    let one = RULES.replace("-j MASQUERADE", "-p tcp -j SNAT --to-source 198.51.100.1:61000");
    let setup = Setup::on(&["eth0", "eth1"]).rules(&one).option("--hook=xdp");
    let firewall = setup.start(network.gateway())?;
    let listener = network.server.enter(|| TcpListener::bind(("0.0.0.0", 0)))?;
    let mut former = Talk::between(&network, &listener)?;
    former.go_on()?;
    ensure!(places(&hints(&firewall)?)?.len() == 1, "one wire face has one hint");

    former.settle()?;
    firewall.text(&["conntrack", "flush"])?;
    end_at_once(&former.server)?;
    drop(former.server);
    let mut next = Talk::between(&network, &listener)?;
    let before = firewall.stat("forward-short")?;
    next.go_on()?;
    let taken = firewall.stat("forward-short")? - before;
    ensure!(taken > ROUNDS + ROUNDS / 2, "{taken} of {} took the short way", 2 * ROUNDS);
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
