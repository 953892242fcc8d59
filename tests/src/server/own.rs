//! A small FTP server in this process: quick, and a test may choose its words.

use std::{
    fmt,
    io::{self, Write as _},
    net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, TcpStream},
    os::fd::{AsRawFd as _, OwnedFd},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use nix::{
    errno::Errno,
    sys::{
        socket::{self, AddressFamily, SockFlag, SockType, SockaddrStorage, setsockopt, sockopt},
        time::TimeVal,
    },
};

use crate::{Netns, control::Control, wait};

type Wording = dyn Fn(String) -> Vec<Vec<u8>> + Send + Sync;
type Data = dyn Fn(&str, &mut TcpStream) -> io::Result<()> + Send + Sync;

/// How it replies, and what it sends on data connections.
#[derive(Clone)]
pub struct Script {
    wording: Arc<Wording>,
    data: Arc<Data>,
    /// Where it accepts data connections; 0 for any port.
    passive_port: u16,
}

impl fmt::Debug for Script {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Script").finish_non_exhaustive()
    }
}

impl Default for Script {
    fn default() -> Self {
        Self {
            wording: Arc::new(|reply| vec![format!("{reply}\r\n").into_bytes()]),
            data: Arc::new(|name, stream| stream.write_all(contents(name).as_bytes())),
            passive_port: 0,
        }
    }
}

impl Script {
    /// How a reply, given without its line end, is cut into segments.
    #[must_use]
    pub fn wording(self, wording: impl Fn(String) -> Vec<Vec<u8>> + Send + Sync + 'static) -> Self {
        Self { wording: Arc::new(wording), ..self }
    }

    /// What RETR of a name sends.
    #[must_use]
    pub fn data(
        self,
        data: impl Fn(&str, &mut TcpStream) -> io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        Self { data: Arc::new(data), ..self }
    }

    /// Where passive data connections are accepted.
    #[must_use]
    pub fn passive_port(self, passive_port: u16) -> Self {
        Self { passive_port, ..self }
    }
}

/// What a file contains by default.
pub fn contents(name: &str) -> String {
    format!("this is {name}\n")
}

/// The server; it accepts until it is dropped, its sessions end with their
/// control connections.
#[derive(Debug)]
pub struct Own {
    stop: Arc<AtomicBool>,
    acceptor: Option<thread::JoinHandle<()>>,
}

impl Own {
    /// On port 21 of every address, IPv4 and IPv6.
    pub fn start(netns: &Netns, script: Script) -> Result<Self> {
        let everywhere = SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), 21);
        let listener = netns.enter(|| TcpListener::bind(everywhere)).context("port 21")?;
        listener.set_nonblocking(true)?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let acceptor = netns.spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                match listener.accept() {
                    Ok((stream, _)) => {
                        let script = script.clone();
                        // A thread inherits the namespace of the one that starts it.
                        thread::spawn(move || drop(Session::run(stream, script)));
                    }
                    Err(_) => thread::sleep(Duration::from_millis(2)),
                }
            }
        });
        Ok(Self { stop, acceptor: Some(acceptor) })
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        drop(self.acceptor.take().map(thread::JoinHandle::join));
    }
}

/// Where the next data connection is made.
enum Announced {
    Nothing,
    Active(SocketAddr),
    Passive(TcpListener),
}

struct Session {
    control: Control,
    script: Script,
    announced: Announced,
}

impl Session {
    fn run(stream: TcpStream, script: Script) -> Result<()> {
        stream.set_nonblocking(false)?;
        let mut session =
            Self { control: Control::new(stream)?, script, announced: Announced::Nothing };
        session.control.write(b"220 ready\r\n")?;
        loop {
            let line = session.control.line()?;
            if line.is_empty() {
                return Ok(());
            }
            session.obey(&line)?;
        }
    }

    fn reply(&mut self, reply: &str) -> Result<()> {
        let parts = (self.script.wording)(reply.into());
        self.control.write_apart(&parts)
    }

    fn obey(&mut self, line: &str) -> Result<()> {
        let (verb, argument) = line.split_once(' ').unwrap_or((line, ""));
        match verb.to_ascii_uppercase().as_str() {
            "USER" => self.reply("331 password"),
            "PASS" => self.reply("230 welcome"),
            "TYPE" | "NOOP" => self.reply("200 fine"),
            "PORT" => {
                self.announced = Announced::Active(read_host_port(argument)?);
                self.reply("200 port")
            }
            "EPRT" => {
                self.announced = Announced::Active(read_extended(argument)?);
                self.reply("200 port")
            }
            "PASV" => {
                let endpoint = self.listen()?;
                let spelled = crate::control::host_port(endpoint);
                self.reply(&format!("227 Entering Passive Mode ({spelled})."))
            }
            "EPSV" => {
                let port = self.listen()?.port();
                self.reply(&format!("229 Entering Extended Passive Mode (|||{port}|)"))
            }
            "RETR" => self.retrieve(argument),
            "QUIT" => self.reply("221 bye"),
            _ => self.reply("502 not here"),
        }
    }

    fn listen(&mut self) -> Result<SocketAddr> {
        let SocketAddr::V6(mut endpoint) = self.control.local()? else { bail!("an IPv6 socket") };
        endpoint.set_port(self.script.passive_port);
        let listener = TcpListener::bind(endpoint)?;
        let limit = TimeVal::new(10, 0);
        setsockopt(&listener, sockopt::ReceiveTimeout, &limit)?;
        let endpoint = listener.local_addr()?;
        self.announced = Announced::Passive(listener);
        Ok(SocketAddr::new(endpoint.ip().to_canonical(), endpoint.port()))
    }

    fn retrieve(&mut self, name: &str) -> Result<()> {
        let stream = match std::mem::replace(&mut self.announced, Announced::Nothing) {
            Announced::Nothing => return self.reply("425 no data connection"),
            Announced::Passive(listener) => listener.accept().map(|(stream, _)| stream),
            Announced::Active(client) => {
                let own = self.control.local()?.ip().to_canonical();
                connect_from(SocketAddr::new(own, 20), client)
            }
        };
        let Ok(mut stream) = stream else { return self.reply("425 no data connection") };
        self.reply("150 here it comes")?;
        let sent = (self.script.data)(name, &mut stream);
        drop(stream);
        self.reply(if sent.is_ok() { "226 done" } else { "426 broken off" })
    }
}

/// Connects from a chosen endpoint; gives up after some seconds.
pub fn connect_from(own: SocketAddr, to: SocketAddr) -> io::Result<TcpStream> {
    let socket = open_socket(Some(own), to, SockFlag::empty())?;
    setsockopt(&socket, sockopt::SendTimeout, &TimeVal::new(10, 0))?;
    socket::connect(socket.as_raw_fd(), &SockaddrStorage::from(to))?;
    let stream = TcpStream::from(socket);
    stream.set_write_timeout(Some(wait::DEADLINE))?;
    Ok(stream)
}

/// Sends a SYN and does not wait for an answer; the attempt ends with the socket.
pub fn begin_to_connect(own: Option<SocketAddr>, to: SocketAddr) -> io::Result<OwnedFd> {
    let socket = open_socket(own, to, SockFlag::SOCK_NONBLOCK)?;
    match socket::connect(socket.as_raw_fd(), &SockaddrStorage::from(to)) {
        Ok(()) | Err(Errno::EINPROGRESS) => Ok(socket),
        Err(error) => Err(error.into()),
    }
}

fn open_socket(own: Option<SocketAddr>, to: SocketAddr, flags: SockFlag) -> io::Result<OwnedFd> {
    let family = if to.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let flags = flags | SockFlag::SOCK_CLOEXEC;
    let socket = socket::socket(family, SockType::Stream, flags, None)?;
    setsockopt(&socket, sockopt::ReuseAddr, &true)?;
    if let Some(own) = own {
        socket::bind(socket.as_raw_fd(), &SockaddrStorage::from(own))?;
    }
    Ok(socket)
}

fn read_host_port(text: &str) -> Result<SocketAddr> {
    let numbers: Vec<u8> =
        text.split(',').filter_map(|number| number.trim().parse().ok()).collect();
    let [a, b, c, d, high, low] = numbers[..] else { bail!("not h1,h2,h3,h4,p1,p2: {text}") };
    Ok(SocketAddr::new([a, b, c, d].into(), u16::from_be_bytes([high, low])))
}

fn read_extended(text: &str) -> Result<SocketAddr> {
    let mut fields = text.split('|').skip(2);
    let address = fields.next().context("EPRT without an address")?.parse()?;
    let port = fields.next().context("EPRT without a port")?.parse()?;
    Ok(SocketAddr::new(address, port))
}
