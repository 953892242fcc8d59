//! A control connection that a test speaks itself, byte by byte.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    net::{SocketAddr, TcpStream},
    os::fd::AsRawFd as _,
};

use anyhow::{Context as _, Result, ensure};
use nix::libc;

use crate::{Netns, exchange::until_acknowledged, wait};

/// One end of a control connection, of the client or of the server.
#[derive(Debug)]
pub struct Control {
    stream: TcpStream,
    lines: BufReader<TcpStream>,
}

/// What a server said: all lines of one reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    pub code: u16,
    pub text: String,
}

impl Control {
    pub fn new(stream: TcpStream) -> Result<Self> {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(wait::DEADLINE))?;
        let lines = BufReader::new(stream.try_clone()?);
        Ok(Self { stream, lines })
    }

    /// Connects and hears the greeting.
    pub fn open(netns: &Netns, server: SocketAddr) -> Result<Self> {
        let stream = netns.enter(|| TcpStream::connect_timeout(&server, wait::DEADLINE));
        let mut control = Self::new(stream.context("the control connection")?)?;
        let greeting = control.reply()?;
        ensure!(greeting.code == 220, "not a greeting: {greeting:?}");
        Ok(control)
    }

    pub fn login(&mut self, (user, password): (&str, &str)) -> Result<()> {
        self.command(&format!("USER {user}"))?;
        let welcome = self.command(&format!("PASS {password}"))?;
        ensure!(welcome.code == 230, "not logged in: {welcome:?}");
        Ok(())
    }

    /// The own address.
    pub fn local(&self) -> Result<SocketAddr> {
        Ok(self.stream.local_addr()?)
    }

    /// The other end's address.
    pub fn peer(&self) -> Result<SocketAddr> {
        Ok(self.stream.peer_addr()?)
    }

    /// Sends a line and hears the reply.
    pub fn command(&mut self, line: &str) -> Result<Reply> {
        self.write(format!("{line}\r\n").as_bytes())?;
        self.reply()
    }

    /// Writes at once: one segment.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.stream.write_all(bytes).context("cannot write on the control connection")
    }

    /// Writes one segment for each part, the next when the last has arrived.
    pub fn write_apart(&mut self, parts: &[Vec<u8>]) -> Result<()> {
        for (number, part) in parts.iter().enumerate() {
            if number > 0 {
                self.wait_until_acknowledged()?;
            }
            self.write(part)?;
        }
        Ok(())
    }

    fn wait_until_acknowledged(&self) -> Result<()> {
        until_acknowledged(&self.stream)
    }

    /// Whether something has come that was not read.
    pub fn has_more(&self) -> Result<bool> {
        let mut unread: libc::c_int = 0;
        // SAFETY: the call writes one int, where we say.
        let asked =
            unsafe { libc::ioctl(self.stream.as_raw_fd(), libc::FIONREAD, &raw mut unread) };
        ensure!(asked == 0, "FIONREAD: {}", std::io::Error::last_os_error());
        Ok(unread > 0 || !self.lines.buffer().is_empty())
    }

    /// One line, without its end; empty when the other side has closed.
    pub fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        self.lines.read_line(&mut line).context("no line on the control connection")?;
        Ok(line.trim_end_matches(['\r', '\n']).into())
    }

    /// One reply, of one line or several (RFC 959 section 4.2).
    pub fn reply(&mut self) -> Result<Reply> {
        let first = self.line()?;
        let code = first.get(..3).unwrap_or_default();
        let last = format!("{code} ");
        let mut text = first.clone();
        if first.as_bytes().get(3) == Some(&b'-') {
            loop {
                let line = self.line()?;
                ensure!(!line.is_empty(), "the reply breaks off after: {text}");
                text = format!("{text}\n{line}");
                if line.starts_with(&last) {
                    break;
                }
            }
        }
        let code = code.parse().with_context(|| format!("not a reply: {first:?}"))?;
        Ok(Reply { code, text })
    }
}

impl Reply {
    /// The port in a 227 or 229.
    pub fn port(&self) -> Result<u16> {
        let digits = |text: &str| text.parse::<u16>().ok();
        let last = self.text.lines().last().unwrap_or_default();
        let inside = last.split(['(', ')']).nth(1).unwrap_or_default();
        let port = match self.code {
            227 => {
                let mut numbers = inside.split(',').skip(4).filter_map(digits);
                numbers.next().zip(numbers.next()).map(|(high, low)| high * 256 + low)
            }
            229 => inside.split('|').nth(3).and_then(digits),
            _ => None,
        };
        port.with_context(|| format!("no port in: {}", self.text))
    }
}

/// `192,0,2,2,156,64` as PORT and 227 spell an IPv4 endpoint.
///
/// # Panics
/// For IPv6, which they cannot spell.
pub fn host_port(endpoint: SocketAddr) -> String {
    let SocketAddr::V4(endpoint) = endpoint else { panic!("{endpoint} is not IPv4") };
    let [a, b, c, d] = endpoint.ip().octets();
    let [high, low] = endpoint.port().to_be_bytes();
    format!("{a},{b},{c},{d},{high},{low}")
}

/// `|1|192.0.2.2|40000|` as EPRT spells an endpoint (RFC 2428).
pub fn extended(endpoint: SocketAddr) -> String {
    let family = if endpoint.is_ipv4() { 1 } else { 2 };
    format!("|{family}|{}|{}|", endpoint.ip(), endpoint.port())
}
