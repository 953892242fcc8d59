//! Two hosts talk, and each tells whom it takes the other for.

use std::{
    io::{Read as _, Write as _},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};

use crate::{Netns, wait};

const PATIENCE: Duration = Duration::from_secs(10);

/// Any address of the family of another one.
fn any(like: SocketAddr, port: u16) -> SocketAddr {
    let address = if like.is_ipv4() { [0; 4].into() } else { IpAddr::V6([0; 16].into()) };
    SocketAddr::new(address, port)
}

/// Connects to `to`, which is to lead to this port of `host`, and says something both ways;
/// gives whom the host takes the client for, and the client the host.
///
/// # Errors
/// When they do not come together, or something else is heard than was said.
///
/// # Panics
/// When the host's thread does.
pub fn meet(
    from: &Netns,
    to: SocketAddr,
    host: &Netns,
    port: u16,
) -> Result<(SocketAddr, SocketAddr)> {
    let listener = host.enter(|| TcpListener::bind(any(to, port))).context("cannot listen")?;
    let accepting = std::thread::spawn(move || -> Result<SocketAddr> {
        let (mut stream, peer) = listener.accept()?;
        let mut said = [0; 5];
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.read_exact(&mut said)?;
        stream.write_all(&said)?;
        Ok(peer)
    });
    let stream = from.enter(|| TcpStream::connect_timeout(&to, PATIENCE));
    let mut stream = stream.with_context(|| format!("cannot connect to {to}"))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(b"hello")?;
    let mut heard = [0; 5];
    stream.read_exact(&mut heard).context("nothing came back")?;
    ensure!(&heard == b"hello", "heard {heard:?}");
    let peer = accepting.join().expect("no panic")?;
    Ok((peer, stream.peer_addr()?))
}

/// A datagram of this length to `to`, which is to lead to this port of `host`, and its answer;
/// gives whom the host takes the sender for.
///
/// # Errors
/// When one of them does not arrive, or not as it was sent.
pub fn ask(
    from: &Netns,
    to: SocketAddr,
    host: &Netns,
    port: u16,
    length: usize,
) -> Result<SocketAddr> {
    // A process that is being started may still hold the socket of the last question.
    let bind = || host.enter(|| UdpSocket::bind(any(to, port))).ok();
    let server = wait::until("a free port", PATIENCE, bind)?;
    let client = from.enter(|| UdpSocket::bind(any(to, 0)))?;
    for socket in [&server, &client] {
        socket.set_read_timeout(Some(PATIENCE))?;
    }
    let question = vec![7; length];
    let mut answer = vec![0; length + 1];
    client.connect(to)?;
    client.send(&question)?;
    let (count, peer) = server.recv_from(&mut answer).context("the question did not arrive")?;
    ensure!(count == length, "{count} of {length} bytes arrived");
    server.send_to(&question, peer)?;
    let count = client.recv(&mut answer).context("the answer did not arrive")?;
    ensure!(answer[..count] == question, "another answer than was sent");
    Ok(peer)
}
