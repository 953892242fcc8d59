//! The systemd journal: whether stderr leads there, and its native protocol
//! (systemd.exec(5), JOURNAL_STREAM; systemd.io/JOURNAL_NATIVE_PROTOCOL).

use std::{env, io, io::stderr, os::unix::net::UnixDatagram, path::Path, sync::OnceLock};

use nix::sys::stat::fstat;

use super::IDENTIFIER;

const SOCKET: &str = "/run/systemd/journal/socket";

/// Whether stderr is connected to the journal.
pub fn is_stderr() -> bool {
    let Ok(variable) = env::var("JOURNAL_STREAM") else { return false };
    fstat(stderr()).is_ok_and(|stat| names(&variable, stat.st_dev, stat.st_ino))
}

/// Whether `DEVICE:INODE` names this file.
fn names(variable: &str, device: u64, inode: u64) -> bool {
    let numbers = variable.split_once(':').map(|(device, inode)| (device.parse(), inode.parse()));
    numbers == Some((Ok(device), Ok(inode)))
}

/// A connection to the journal.
#[derive(Debug)]
pub struct Journal {
    socket: UnixDatagram,
}

impl Journal {
    /// The journal, if stderr leads there and it answers; asked for once.
    pub fn of_stderr() -> Option<&'static Self> {
        static JOURNAL: OnceLock<Option<Journal>> = OnceLock::new();
        let connect = || is_stderr().then(|| Self::connect(Path::new(SOCKET)).ok()).flatten();
        JOURNAL.get_or_init(connect).as_ref()
    }

    fn connect(path: &Path) -> io::Result<Self> {
        let socket = UnixDatagram::unbound()?;
        socket.connect(path)?;
        socket.set_nonblocking(true)?;
        Ok(Self { socket })
    }

    /// Sends a line, or loses it.
    pub fn send(&self, level: u8, line: &str) {
        let _ = self.socket.send(entry(level, line).as_bytes());
    }
}

/// One entry, a field to a line.
fn entry(level: u8, line: &str) -> String {
    let level = level.min(7);
    let message = line.replace('\n', " ");
    format!("PRIORITY={level}\nSYSLOG_IDENTIFIER={IDENTIFIER}\nMESSAGE={message}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stderr_is_known_by_device_and_inode() {
        assert!(names("8:42", 8, 42));
        for other in ["8:43", "9:42", "8", "", "8:42:1", "a:b"] {
            assert!(!names(other, 8, 42), "{other}");
        }
    }

    #[test]
    fn a_line_becomes_an_entry_at_its_level() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let server = UnixDatagram::bind(&path).unwrap();
        Journal::connect(&path).unwrap().send(4, "DROPPED: IN=eth0 OUT=");
        let mut buffer = [0; 200];
        let length = server.recv(&mut buffer).unwrap();
        let expected = "PRIORITY=4\nSYSLOG_IDENTIFIER=firewall\nMESSAGE=DROPPED: IN=eth0 OUT=\n";
        assert_eq!(std::str::from_utf8(&buffer[..length]).unwrap(), expected);
    }

    #[test]
    fn a_prefix_cannot_add_fields_or_levels() {
        let entry = entry(200, "a\nPRIORITY=0");
        assert_eq!(entry, "PRIORITY=7\nSYSLOG_IDENTIFIER=firewall\nMESSAGE=a PRIORITY=0\n");
    }

    #[test]
    fn a_full_journal_loses_lines_and_does_not_block() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let _server = UnixDatagram::bind(&path).unwrap();
        let journal = Journal::connect(&path).unwrap();
        for _ in 0..10_000 {
            journal.send(4, "a line that nobody reads");
        }
    }
}
