//! How each client is told what to transfer, and in which manner.

use std::{fmt::Write as _, fs, process::Command};

use anyhow::Result;

use super::{Direction, Job, Mode};
use crate::{Netns, server::PYTHON};

/// One control connection for all files, by a list of URLs.
pub(super) fn curl(netns: &Netns, job: Job<'_>) -> Result<Command> {
    let mut list = String::new();
    for name in job.load.names() {
        let option = match job.manner.direction {
            Direction::Down => "output",
            Direction::Up => "upload-file",
        };
        writeln!(list, "url = \"{}{name}\"\n{option} = \"{name}\"", job.url())?;
    }
    let path = job.directory.join("curl.list");
    fs::write(&path, list)?;

    let mut command = netns.command("curl");
    command.args(["--silent", "--show-error", "--connect-timeout", "10", "--config"]).arg(path);
    match (job.manner.mode, job.manner.extended) {
        (Mode::Active, true) => command.args(["--ftp-port", "-"]),
        (Mode::Active, false) => command.args(["--ftp-port", "-", "--disable-eprt"]),
        (Mode::Passive, true) => command.args(["--ftp-pasv"]),
        (Mode::Passive, false) => command.args(["--ftp-pasv", "--disable-epsv"]),
    };
    Ok(command)
}

pub(super) fn lftp(netns: &Netns, job: Job<'_>) -> Command {
    let on = |setting: bool| if setting { "yes" } else { "no" };
    let verb = match job.manner.direction {
        Direction::Down => "mget",
        Direction::Up => "mput",
    };
    let files = job.load.names().collect::<Vec<_>>().join(" ");
    let script = format!(
        "set cmd:fail-exit yes; set net:timeout 10; set net:max-retries 2; set ftp:ssl-allow no; \
         set ftp:use-mdtm no; set xfer:clobber yes; \
         set ftp:passive-mode {}; set ftp:prefer-epsv {}; open {}; {verb} {files}; bye",
        on(job.manner.mode == Mode::Passive),
        on(job.manner.extended),
        job.url(),
    );
    let mut command = netns.command("lftp");
    command.args(["--norc", "-c", &script]);
    command
}

/// Types at the prompt. tnftp starts with the extended commands.
pub(super) fn tnftp(netns: &Netns, job: Job<'_>) -> Result<Command> {
    let (user, password) = job.account;
    let (address, port) = (job.called.ip(), job.called.port());
    let mut script = format!("open {address} {port}\nuser {user} {password}\nbinary\n");
    if !job.manner.extended {
        script.push_str("epsv4 off\n");
    }
    let verb = match job.manner.direction {
        Direction::Down => "get",
        Direction::Up => "put",
    };
    for name in job.load.names() {
        writeln!(script, "{verb} {name}")?;
    }
    script.push_str("bye\n");
    let path = job.directory.join("tnftp.script");
    fs::write(&path, script)?;

    let mode = match job.manner.mode {
        Mode::Active => "-A",
        Mode::Passive => "-p",
    };
    // stdin is /dev/null for every process of ours; the shell opens the script.
    let mut command = netns.command("sh");
    let line = format!("exec tnftp -n -i -V {mode} < \"$0\"");
    command.args(["-c", &line]).arg(path);
    Ok(command)
}

pub(super) fn wget(netns: &Netns, job: Job<'_>) -> Command {
    let mut command = netns.command("wget");
    command.args(["--quiet", "--tries=1", "--timeout=10"]);
    if job.manner.mode == Mode::Active {
        command.arg("--no-passive-ftp");
    }
    command.args(job.load.names().map(|name| format!("{}{name}", job.url())));
    command
}

pub(super) fn ftplib(netns: &Netns, job: Job<'_>) -> Command {
    let (user, password) = job.account;
    let mut command = netns.command(PYTHON);
    let (address, port) = (job.called.ip().to_string(), job.called.port().to_string());
    command.args(["-c", FTPLIB, &address, &port, user, password]);
    command.arg(job.manner.command());
    command.arg(match job.manner.direction {
        Direction::Down => "down",
        Direction::Up => "up",
    });
    command.args(job.load.names());
    command
}

/// ftplib chooses the extended commands by the family alone, so the choice is
/// made for it.
const FTPLIB: &str = "\
import ftplib, socket, sys

host, port, user, password, command, direction, *names = sys.argv[1:]
ftp = ftplib.FTP(timeout=10)
ftp.connect(host, int(port))
ftp.login(user, password)
ftp.set_pasv(command in ('PASV', 'EPSV'))
if command == 'EPSV':
    ftp.makepasv = lambda: ftplib.parse229(ftp.sendcmd('EPSV'), ftp.sock.getpeername())
if command == 'EPRT':
    ftp.sendport = ftp.sendeprt
for name in names:
    if direction == 'down':
        with open(name, 'wb') as file:
            ftp.retrbinary('RETR ' + name, file.write)
    else:
        with open(name, 'rb') as file:
            ftp.storbinary('STOR ' + name, file)
ftp.quit()
";
