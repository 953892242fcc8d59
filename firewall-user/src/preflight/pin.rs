//! Where the pin directory lies.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};

use super::Problem;

/// The filesystem of a directory that may not be there yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Filesystem {
    Bpffs,
    /// Something else, at this existing ancestor.
    Other {
        existing: PathBuf,
    },
    /// This part of the path is a file.
    NotADirectory(PathBuf),
}

impl Filesystem {
    /// # Errors
    /// When the filesystem does not answer.
    pub fn of(pin: &Path) -> Result<Self> {
        // Most of the time it is there.
        if let Ok(stat) = statfs(pin)
            && stat.filesystem_type() == BPF_FS_MAGIC
            && pin.is_dir()
        {
            return Ok(Self::Bpffs);
        }
        let existing = existing(pin);
        if !existing.is_dir() {
            return Ok(Self::NotADirectory(existing));
        }
        let stat = statfs(&existing)
            .with_context(|| format!("cannot ask for the filesystem of {}", existing.display()))?;
        if stat.filesystem_type() == BPF_FS_MAGIC {
            return Ok(Self::Bpffs);
        }
        Ok(Self::Other { existing })
    }

    pub(super) fn check(&self, pin: &Path) -> Result<(), Problem> {
        match self {
            Self::Bpffs => Ok(()),
            Self::Other { existing } => {
                Err(Problem::NoBpffs { pin: pin.into(), existing: existing.clone() })
            }
            Self::NotADirectory(path) => Err(Problem::PinIsNoDirectory(path.clone())),
        }
    }
}

/// The longest part of the path that is there.
fn existing(path: &Path) -> PathBuf {
    let there = path.ancestors().find(|ancestor| ancestor.exists());
    match there {
        Some(there) if there != Path::new("") => there.into(),
        _ => Path::new(".").into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(pin: &Path) -> String {
        Filesystem::of(pin).unwrap().check(pin).unwrap_err().to_string()
    }

    #[test]
    fn a_directory_elsewhere_is_refused_with_the_command_that_mounts_a_bpffs() {
        let dir = tempfile::tempdir().unwrap();
        let pin = dir.path().join("not/yet/there");
        let message = message(&pin);
        assert!(message.starts_with(&format!("the pin directory {} is not", pin.display())));
        assert!(message.contains(&format!("({} is none)", dir.path().display())), "{message}");
        assert!(message.contains("`mount -t bpf bpf /sys/fs/bpf`"));
    }

    #[test]
    fn below_sys_the_private_one_of_ip_netns_exec_is_mentioned() {
        let message = message(Path::new("/sys/kernel/firewall"));
        assert!(message.contains("nsenter --net=/run/netns/NAME"), "{message}");
    }

    #[test]
    fn a_file_in_place_of_the_directory_is_named() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let message = message(file.path());
        assert!(message.ends_with("is not a directory: choose another --pin"), "{message}");
    }

    #[test]
    fn a_relative_path_begins_here() {
        assert_eq!(existing(Path::new("no-such-directory")), Path::new("."));
    }
}
