//! FTP servers for the scenarios. As packages they exclude each other and start
//! services, so they are unpacked side by side in `target/servers`, and only the
//! libraries that they need are installed.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use crate::{setup, shell};

pub(crate) struct Server {
    name: &'static str,
    packages: &'static [&'static str],
    binary: &'static str,
}

const SERVERS: &[Server] = &[
    Server { name: "vsftpd", packages: &["vsftpd"], binary: "usr/sbin/vsftpd" },
    Server { name: "proftpd", packages: &["proftpd-core"], binary: "usr/sbin/proftpd" },
    Server {
        name: "pure-ftpd",
        packages: &["pure-ftpd", "pure-ftpd-common"],
        binary: "usr/sbin/pure-ftpd",
    },
];

/// Where the servers are unpacked, a directory for each.
pub(crate) fn directory() -> PathBuf {
    shell::target().join("servers")
}

pub(crate) fn missing() -> Vec<&'static Server> {
    SERVERS.iter().filter(|server| !server.root().join(server.binary).exists()).collect()
}

impl Server {
    fn root(&self) -> PathBuf {
        directory().join(self.name)
    }

    /// Downloads, installs the libraries, and unpacks last: what is there is whole.
    pub(crate) fn unpack(&self) -> Result<()> {
        let downloads = directory().join("packages").join(self.name);
        fs::create_dir_all(&downloads)?;
        let mut download = Command::new("apt-get");
        download.args(["download", "--quiet"]).args(self.packages).current_dir(&downloads);
        shell::run(&mut download)?;

        let archives = archives(&downloads)?;
        let mut libraries = BTreeSet::new();
        for archive in &archives {
            libraries.extend(libraries_of(archive)?);
        }
        setup::install(&libraries.iter().map(String::as_str).collect::<Vec<_>>())?;
        archives.iter().try_for_each(|archive| {
            shell::run(Command::new("dpkg").arg("-x").arg(archive).arg(self.root()))
        })
    }
}

fn archives(directory: &Path) -> Result<Vec<PathBuf>> {
    let files = fs::read_dir(directory)?.map(|entry| Ok(entry?.path()));
    let archives = files.collect::<Result<Vec<_>>>()?;
    Ok(archives.into_iter().filter(|file| file.extension().is_some_and(|e| e == "deb")).collect())
}

/// The libraries among the packages that this one depends on and that are not
/// installed.
fn libraries_of(archive: &Path) -> Result<Vec<String>> {
    let output = Command::new("dpkg-deb")
        .arg("--field")
        .arg(archive)
        .arg("Depends")
        .output()
        .context("cannot run dpkg-deb")?;
    let depends = String::from_utf8(output.stdout)?;
    Ok(libraries(&depends).filter(|name| !is_installed(name)).map(String::from).collect())
}

/// `libc6 (>= 2.34), netbase, zlib1g | libz` names `libc6` and `zlib1g`.
fn libraries(depends: &str) -> impl Iterator<Item = &str> {
    depends
        .split(',')
        .filter_map(|one| one.split_whitespace().next())
        .map(|name| name.trim_end_matches(":any"))
        .filter(|name| name.starts_with("lib") || name.starts_with("zlib"))
}

fn is_installed(package: &str) -> bool {
    Command::new("dpkg-query")
        .args(["--show", "--showformat=${db:Status-Status}", package])
        .output()
        .is_ok_and(|output| output.stdout == b"installed")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_dependencies_only_libraries_are_installed() {
        let depends = "adduser, libc6 (>= 2.34), openbsd-inetd | inetd, zlib1g (>= 1:1.1.4)";
        assert_eq!(libraries(depends).collect::<Vec<_>>(), ["libc6", "zlib1g"]);
    }
}
