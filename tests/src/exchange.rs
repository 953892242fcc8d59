//! Bytes both ways over one TCP connection, compared at both ends.
//!
//! The client says how many bytes it sends and how many it wants, sends them, and gets
//! their checksum and the bytes that it wanted. A greeter says something first.

use std::{
    io::{self, Read, Write},
    net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, TcpStream},
    os::fd::AsRawFd as _,
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use nix::libc;

use crate::{Netns, wait};

/// Where the exchanging server listens, and the one that greets.
pub const PORT: u16 = 8_000;
pub const GREETER: u16 = 8_001;
pub const GREETING: &[u8] = b"220 welcome\r\n";

const CHUNK: usize = 1 << 16;
/// Longer than a connection takes that is said anew several times.
const PATIENCE: Duration = Duration::from_secs(30);

/// Serves both ports of all addresses of a namespace, as long as the process lives.
pub fn serve(netns: &Netns) -> Result<()> {
    listen(netns, PORT, answer)?;
    listen(netns, GREETER, |mut stream| stream.write_all(GREETING))
}

/// Waits until the other end has acknowledged all that was written.
pub fn until_acknowledged(stream: &TcpStream) -> Result<()> {
    wait::until_true("the acknowledgement of a segment", || {
        let mut unsent: libc::c_int = 0;
        // SAFETY: the call writes one int, where we say.
        let asked = unsafe { libc::ioctl(stream.as_raw_fd(), libc::TIOCOUTQ, &raw mut unsent) };
        asked == 0 && unsent == 0
    })
}

fn listen(
    netns: &Netns,
    port: u16,
    task: impl Fn(TcpStream) -> io::Result<()> + Copy + Send + 'static,
) -> Result<()> {
    let address = SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), port);
    let listener = netns.enter(|| TcpListener::bind(address)).context("cannot listen")?;
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            // What fails here fails at the client, too, which says so.
            thread::spawn(move || task(stream));
        }
    });
    Ok(())
}

fn answer(mut stream: TcpStream) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut lengths = [0; 8];
    stream.read_exact(&mut lengths)?;
    let [up, down] = [&lengths[..4], &lengths[4..]]
        .map(|four| u32::from_be_bytes(four.try_into().expect("four bytes")) as usize);
    let sum = receive(&mut stream, up)?;
    stream.write_all(&sum.to_be_bytes())?;
    send(&mut stream, down).map(drop)
}

/// Connects from a namespace.
pub fn connect(netns: &Netns, to: SocketAddr) -> Result<TcpStream> {
    let stream = netns.enter(|| TcpStream::connect_timeout(&to, PATIENCE));
    let stream = stream.with_context(|| format!("cannot connect to {to}"))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// Sends and gets so many bytes over an open connection; both must arrive whole.
pub fn exchange(mut stream: &TcpStream, up: usize, down: usize) -> Result<()> {
    let lengths = [up, down].map(|length| u32::try_from(length).expect("a length").to_be_bytes());
    stream.write_all(&lengths.concat()).context("cannot send")?;
    let sent = send(&mut stream, up).context("cannot send")?;
    let mut told = [0; 8];
    stream.read_exact(&mut told).context("no checksum came")?;
    ensure!(u64::from_be_bytes(told) == sent, "{up} bytes arrived changed at the server");
    let got = receive(&mut stream, down).context("not everything came")?;
    ensure!(got == send(&mut io::sink(), down)?, "{down} bytes arrived changed at the client");
    Ok(())
}

/// Sends the first bytes of an endless row; gives their checksum.
fn send(stream: &mut impl Write, length: usize) -> io::Result<u64> {
    let mut sum = Sum::default();
    let mut chunk = vec![0; CHUNK];
    let mut next = 0usize;
    while next < length {
        let count = CHUNK.min(length - next);
        for (place, number) in chunk[..count].iter_mut().zip(next..) {
            *place = (number ^ (number >> 8) ^ (number >> 17)) as u8;
        }
        stream.write_all(&chunk[..count])?;
        sum.add(&chunk[..count]);
        next += count;
    }
    Ok(sum.0)
}

fn receive(stream: &mut impl Read, length: usize) -> io::Result<u64> {
    let mut sum = Sum::default();
    let mut chunk = vec![0; CHUNK];
    let mut left = length;
    while left > 0 {
        let count = CHUNK.min(left);
        stream.read_exact(&mut chunk[..count])?;
        sum.add(&chunk[..count]);
        left -= count;
    }
    Ok(sum.0)
}

/// FNV-1a, 64 bits.
struct Sum(u64);

impl Default for Sum {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Sum {
    fn add(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
        }
    }
}
