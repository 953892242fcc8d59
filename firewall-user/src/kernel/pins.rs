//! Where an instance keeps what must outlive its daemon.
//!
//! Below the instance's directory on a bpffs: `v10/maps/NAME`,
//! `v10/programs/NAME` and `v10/links/HOOK_IFINDEX`. The directory's version is
//! that of the maps' layout.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use firewall_common::control::LAYOUT_VERSION;
use nix::{
    fcntl::{Flock, FlockArg},
    libc,
};
use procfs::Lock;

use super::batch;

/// The pinned things of one instance.
#[derive(Clone, Debug)]
pub struct Pins {
    root: PathBuf,
}

/// A program's place on an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum LinkKind {
    Xdp,
    Ingress,
    Egress,
}

impl LinkKind {
    pub const ALL: [Self; 3] = [Self::Xdp, Self::Ingress, Self::Egress];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Xdp => "xdp",
            Self::Ingress => "ingress",
            Self::Egress => "egress",
        }
    }
}

/// A link that is pinned: a program on an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LinkName {
    pub kind: LinkKind,
    pub ifindex: u32,
}

impl LinkName {
    fn file(self) -> String {
        format!("{}_{}", self.kind.name(), self.ifindex)
    }

    fn parse(file: &str) -> Option<Self> {
        let (kind, ifindex) = file.split_once('_')?;
        let kind = LinkKind::ALL.into_iter().find(|known| known.name() == kind)?;
        Some(Self { kind, ifindex: ifindex.parse().ok()? })
    }
}

impl Pins {
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    fn version(&self) -> PathBuf {
        self.root.join(format!("v{LAYOUT_VERSION}"))
    }

    pub fn map(&self, name: &str) -> PathBuf {
        self.version().join("maps").join(name)
    }

    pub fn program(&self, name: &str) -> PathBuf {
        self.version().join("programs").join(name)
    }

    pub fn link(&self, name: LinkName) -> PathBuf {
        self.version().join("links").join(name.file())
    }

    /// Whether an instance of this layout enforces, or has enforced, from here.
    pub fn exists(&self) -> bool {
        self.map("generation").exists()
    }

    /// Makes the directories.
    ///
    /// # Errors
    /// When another layout's version is there, or the directory cannot be made.
    pub fn create(&self) -> Result<()> {
        self.refuse_other_versions()?;
        for part in ["maps", "programs", "links"] {
            let dir = self.version().join(part);
            fs::create_dir_all(&dir)
                .with_context(|| format!("cannot make the pin directory {}", dir.display()))?;
        }
        Ok(())
    }

    fn refuse_other_versions(&self) -> Result<()> {
        let ours = format!("v{LAYOUT_VERSION}");
        for entry in read_names(&self.root)? {
            if entry.starts_with('v') && entry != ours {
                bail!(
                    "{} holds the tables of another version ({entry}, this program has {ours}): \
                     run `unload` of the version that made them, or choose another --pin",
                    self.root.display()
                );
            }
        }
        Ok(())
    }

    /// The links that are pinned.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn links(&self) -> Result<Vec<LinkName>> {
        let names = read_names(&self.version().join("links"))?;
        let mut links: Vec<_> = names.iter().filter_map(|name| LinkName::parse(name)).collect();
        links.sort_unstable();
        Ok(links)
    }

    /// Takes a program off its interface, and the link away; nothing when it is not there.
    /// When this returns, the interface is free for another.
    ///
    /// # Errors
    /// When the kernel refuses it.
    pub fn detach(&self, name: LinkName) -> Result<()> {
        let path = self.link(name);
        let link = match batch::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            link => link.with_context(|| format!("cannot open the link {}", path.display()))?,
        };
        // A link that only loses its pin is let go of later: the kernel waits for a grace
        // period, then hands it to a worker, and the program judges on until then.
        batch::detach_link(&link).with_context(|| {
            format!(
                "cannot take the program off interface {} ({}): `ip link show` tells what holds it",
                name.ifindex,
                name.kind.name()
            )
        })?;
        fs::remove_file(&path).with_context(|| format!("cannot remove the link {}", path.display()))
    }

    /// Takes away everything that stands in this layout, links first, and the
    /// directories with it. When this returns, the interfaces are free.
    ///
    /// # Errors
    /// When something cannot be removed.
    pub fn remove(&self) -> Result<()> {
        for link in self.links()? {
            self.detach(link)?;
        }
        for part in ["links", "programs", "maps"] {
            let dir = self.version().join(part);
            for name in read_names(&dir)? {
                let file = dir.join(name);
                fs::remove_file(&file)
                    .with_context(|| format!("cannot remove {}", file.display()))?;
            }
            remove_dir(&dir)?;
        }
        remove_dir(&self.version())?;
        remove_dir(&self.root)
    }

    /// Takes the lock of the daemon, which holds it as long as it lives;
    /// `None` when another one has it.
    ///
    /// # Errors
    /// When the directory cannot be opened.
    pub fn lock_daemon(&self) -> Result<Option<Flock<File>>> {
        // Whoever asks for the status holds it for a moment.
        for _ in 0..10 {
            if let Some(lock) = lock(&self.version(), FlockArg::LockExclusiveNonblock)? {
                return Ok(Some(lock));
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(None)
    }

    /// Whether a daemon holds its lock.
    ///
    /// # Errors
    /// When the directory cannot be opened.
    pub fn has_daemon(&self) -> Result<bool> {
        Ok(lock(&self.version(), FlockArg::LockSharedNonblock)?.is_none())
    }

    /// The lock of those who change the ruleset, if nobody has it.
    ///
    /// # Errors
    /// When the directory cannot be opened.
    pub fn try_lock_ruleset(&self) -> Result<Option<Flock<File>>> {
        lock(&self.version().join("maps"), FlockArg::LockExclusiveNonblock)
    }

    /// The lock of those who change settings, if nobody has it.
    ///
    /// # Errors
    /// When the directory cannot be opened.
    pub fn try_lock_settings(&self) -> Result<Option<Flock<File>>> {
        lock(&self.version().join("programs"), FlockArg::LockExclusiveNonblock)
    }

    /// Waits for the lock of those who change settings, who have it for a moment.
    ///
    /// # Errors
    /// When the directory cannot be opened, or somebody keeps the lock.
    pub fn lock_settings(&self) -> Result<Flock<File>> {
        for _ in 0..100 {
            if let Some(lock) = self.try_lock_settings()? {
                return Ok(lock);
            }
            thread::sleep(Duration::from_millis(10));
        }
        bail!("another process keeps the settings of {} locked: end it", self.root.display())
    }

    /// Waits for the lock of those who change sets. Who has that of the ruleset, too, has
    /// taken it before.
    ///
    /// # Errors
    /// When the directory cannot be opened.
    pub fn lock_sets(&self) -> Result<Option<Flock<File>>> {
        lock(&self.version().join("links"), FlockArg::LockExclusive)
    }

    /// Waits for the lock of those who change the ruleset, and says whom it waits for.
    ///
    /// # Errors
    /// When the directory cannot be opened.
    pub fn lock_ruleset(&self) -> Result<Option<Flock<File>>> {
        if let Some(lock) = self.try_lock_ruleset()? {
            return Ok(Some(lock));
        }
        let dir = self.version().join("maps");
        tracing::info!("waits for {} to end a change of the rules", holder(&dir));
        lock(&dir, FlockArg::LockExclusive)
    }
}

/// Who has locked a directory, as a person would look for it.
fn holder(dir: &Path) -> String {
    let pid = fs::metadata(dir).ok().and_then(|dir| {
        let locks = procfs::locks().ok()?;
        let device = (libc::major(dir.dev()), libc::minor(dir.dev()));
        let is_on_it =
            |lock: &Lock| (lock.devmaj, lock.devmin, lock.inode) == (device.0, device.1, dir.ino());
        locks.into_iter().find(is_on_it)?.pid
    });
    let name = pid.and_then(|pid| fs::read_to_string(format!("/proc/{pid}/comm")).ok());
    match (pid, name) {
        (Some(pid), Some(name)) => format!("process {pid} ({})", name.trim()),
        (Some(pid), None) => format!("process {pid}"),
        _ => "another process".to_owned(),
    }
}

fn lock(dir: &Path, how: FlockArg) -> Result<Option<Flock<File>>> {
    let file = File::open(dir).with_context(|| format!("cannot open {}", dir.display()))?;
    match Flock::lock(file, how) {
        Ok(lock) => Ok(Some(lock)),
        Err((_, nix::errno::Errno::EWOULDBLOCK)) => Ok(None),
        Err((_, error)) => Err(error).with_context(|| format!("cannot lock {}", dir.display())),
    }
}

fn read_names(dir: &Path) -> Result<Vec<String>> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => {
            return Err(error).with_context(|| format!("cannot read {}", dir.display()));
        }
    };
    entries
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect::<io::Result<_>>()
        .with_context(|| format!("cannot read {}", dir.display()))
}

/// Removes a directory that is empty; one that is not is somebody else's.
fn remove_dir(dir: &Path) -> Result<()> {
    match fs::remove_dir(dir) {
        Err(error)
            if !matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::DirectoryNotEmpty
            ) =>
        {
            Err(error).with_context(|| format!("cannot remove {}", dir.display()))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_keeps_a_lock_is_named() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(holder(dir.path()), "another process");
        let _lock = lock(dir.path(), FlockArg::LockExclusiveNonblock).unwrap().unwrap();
        let ours = format!("process {} (", std::process::id());
        assert!(holder(dir.path()).starts_with(&ours), "{}", holder(dir.path()));
    }

    #[test]
    fn a_links_name_survives_the_directory() {
        for kind in LinkKind::ALL {
            let name = LinkName { kind, ifindex: 42 };
            assert_eq!(LinkName::parse(&name.file()), Some(name));
        }
        assert_eq!(LinkName::parse("xdp_eth0"), None);
    }

    #[test]
    fn another_layout_in_the_directory_is_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("v999")).unwrap();
        let message = Pins::new(dir.path()).create().unwrap_err().to_string();
        assert!(message.contains("v999") && message.contains("unload"), "{message}");
    }
}
