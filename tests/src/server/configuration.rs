//! The least that each server needs to serve one directory for reading and
//! writing, on IPv4 and IPv6, with passive ports as the system gives them.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Result;

use super::{PYTHON, unpacked};
use crate::{Netns, command};

/// `crypt(3)` of the password `fw`.
const PASSWORD: &str = "$6$firewalltest$PefhPljzca9nISc8RcNlxHornHj3AYRd4FEcW8QIiZwLNsH\
                        .WFOVEBqEZaEMBxr20hc5GnOC0IURYlCy84lyO0";
/// User and group nobody on Debian.
const NOBODY: u32 = 65534;

/// vsftpd goes to the home of its user before it goes to its root, so this is a
/// user that has one.
pub(super) fn vsftpd(
    netns: &Netns,
    binary: &Path,
    directory: &Path,
    root: &Path,
) -> Result<Command> {
    let empty = directory.join("empty");
    fs::create_dir(&empty)?;
    let configuration = format!(
        "listen=NO\nlisten_ipv6=YES\nbackground=NO\n\
         anonymous_enable=YES\nlocal_enable=NO\nftp_username=daemon\nnopriv_user=nobody\n\
         anon_root={}\nsecure_chroot_dir={}\nwrite_enable=YES\nanon_upload_enable=YES\nanon_other_write_enable=YES\n\
         anon_mkdir_write_enable=YES\nanon_world_readable_only=NO\nanon_umask=022\n\
         connect_from_port_20=YES\nisolate_network=NO\nseccomp_sandbox=NO\n\
         max_clients=0\nmax_per_ip=0\nxferlog_enable=NO\n",
        root.display(),
        empty.display(),
    );
    let mut command = netns.command(binary);
    command.arg(write(directory, "vsftpd.conf", &configuration)?);
    Ok(command)
}

pub(super) fn proftpd(
    netns: &Netns,
    binary: &Path,
    directory: &Path,
    root: &Path,
) -> Result<Command> {
    let users = format!("fw:{PASSWORD}:{NOBODY}:{NOBODY}::{}:/bin/sh\n", root.display());
    let users = write(directory, "users", &users)?;
    let configuration = format!(
        "ServerType standalone\nServerName test\nPort 21\nUseIPv6 on\nDefaultAddress ::\n\
         DefaultServer on\nUser nobody\nGroup nogroup\nUseReverseDNS off\nUmask 022\n\
         AuthOrder mod_auth_file.c\nAuthUserFile {}\nRequireValidShell off\nDefaultRoot ~\n\
         AuthPAM off\nWtmpLog off\nTransferLog none\nSystemLog none\nAllowOverwrite on\n\
         MaxInstances 200\nDelayEngine off\nControlsEngine off\nPidFile {}\nScoreboardFile {}\n",
        users.display(),
        directory.join("pid").display(),
        directory.join("scoreboard").display(),
    );
    let configuration = write(directory, "proftpd.conf", &configuration)?;
    let mut command = netns.command(binary);
    command.args(["--nodaemon", "--config"]).arg(configuration);
    Ok(command)
}

pub(super) fn pure_ftpd(
    netns: &Netns,
    binary: &Path,
    directory: &Path,
    root: &Path,
) -> Result<Command> {
    let user = format!("fw:{PASSWORD}:{NOBODY}:{NOBODY}::{}/./::::::::::::\n", root.display());
    let users = write(directory, "users", &user)?;
    let database = directory.join("users.pdb");
    let pure_pw = unpacked("pure-ftpd").join("usr/bin/pure-pw");
    command::output(Command::new(pure_pw).arg("mkdb").arg(&database).arg("-f").arg(users))?;

    let mut command = netns.command(binary);
    command.args(["--login", &format!("puredb:{}", database.display())]);
    command.args(["--noanonymous", "--dontresolve", "--minuid", "1", "--umask", "022:022"]);
    command.args(["--maxclientsnumber", "200", "--maxclientsperip", "200"]);
    command.arg("--pidfile").arg(directory.join("pid"));
    Ok(command)
}

pub(super) fn pyftpdlib(netns: &Netns, directory: &Path, root: &Path) -> Result<Command> {
    let script = write(directory, "server.py", PYFTPDLIB)?;
    let mut command = netns.command(PYTHON);
    command.arg(script).arg(root);
    Ok(command)
}

const PYFTPDLIB: &str = "\
import sys
from pyftpdlib.authorizers import DummyAuthorizer
from pyftpdlib.handlers import FTPHandler
from pyftpdlib.servers import FTPServer

authorizer = DummyAuthorizer()
authorizer.add_user('fw', 'fw', sys.argv[1], perm='elradfmwMT')
FTPHandler.authorizer = authorizer
FTPServer(('::', 21), FTPHandler).serve_forever()
";

fn write(directory: &Path, name: &str, contents: &str) -> Result<PathBuf> {
    let path = directory.join(name);
    fs::write(&path, contents)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
    Ok(path)
}
