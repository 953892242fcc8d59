//! A file by a data connection, over a control connection that a test speaks itself; the server is
//! [`crate::server::own`].

use std::{
    io::Read as _,
    net::{SocketAddr, TcpListener, TcpStream},
};

use anyhow::{Context as _, Result, ensure};

use crate::{
    control::{Control, extended, host_port},
    server::own::contents,
    wait,
};

/// Over a data connection that the server opens to where the client has said; gives whom the client
/// sees, and what it has listened to.
pub fn active(control: &mut Control, is_extended: bool) -> Result<(SocketAddr, SocketAddr)> {
    let listener = TcpListener::bind(SocketAddr::new(control.local()?.ip(), 0))?;
    let own = listener.local_addr()?;
    let line = match is_extended {
        false => format!("PORT {}", host_port(own)),
        true => format!("EPRT {}", extended(own)),
    };
    let reply = control.command(&line)?;
    ensure!(reply.code == 200, "{reply:?}");
    control.write(b"RETR file\r\n")?;
    Ok((fetch_from(control, &listener)?, own))
}

/// Over the data connection that comes to this port; gives whom the client sees.
pub fn fetch_from(control: &mut Control, listener: &TcpListener) -> Result<SocketAddr> {
    listener.set_nonblocking(true)?;
    let stream = wait::until("the data connection", wait::DEADLINE, || listener.accept().ok());
    let (stream, from) = stream?;
    stream.set_nonblocking(false)?;
    finish(control, stream)?;
    Ok(from)
}

/// Over a data connection that the client opens, to where this command is answered.
pub fn passive(control: &mut Control, command: &str) -> Result<()> {
    let reply = control.command(command)?;
    let port = reply.port()?;
    let to = SocketAddr::new(control.peer()?.ip(), port);
    let stream = TcpStream::connect_timeout(&to, wait::DEADLINE)
        .with_context(|| format!("to {to}, by {}", reply.text))?;
    control.write(b"RETR file\r\n")?;
    finish(control, stream)
}

/// The whole file, and the replies that end its transfer.
pub fn finish(control: &mut Control, mut stream: TcpStream) -> Result<()> {
    stream.set_read_timeout(Some(wait::DEADLINE))?;
    let mut arrived = String::new();
    stream.read_to_string(&mut arrived)?;
    ensure!(arrived == contents("file"), "arrived: {arrived:?}");
    for code in [150, 226] {
        let reply = control.reply()?;
        ensure!(reply.code == code, "{reply:?}");
    }
    Ok(())
}
