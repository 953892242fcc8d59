//! `firewall link`: symbolic links to this program under the old names.

use std::{
    env, fs, io,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};

use crate::{cli::args, compat::OldName};

/// What stands where a link is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum There {
    Nothing,
    /// A link to this program.
    Ours,
    Other,
}

pub fn link(command: &args::Link) -> Result<()> {
    let program = env::current_exe().context("cannot tell where this program lies")?;
    let dir = &command.dir;
    if !dir.is_dir() {
        bail!("{} is not a directory: make it, or choose another --dir", dir.display());
    }
    let places = places(dir, &program)?;
    if command.remove {
        return remove(&places);
    }
    let others: Vec<_> = of_kind(&places, There::Other).collect();
    if !others.is_empty() && !command.force {
        let names: Vec<_> = others.iter().map(|path| path.display().to_string()).collect();
        bail!(
            "these are no links to {}, and stay: {}; choose another --dir, or replace them with \
             --force",
            program.display(),
            names.join(", ")
        );
    }
    for (path, there) in &places {
        if path.is_dir() {
            bail!("{} is a directory: nothing can replace it", path.display());
        }
        if *there != There::Ours {
            replace(path, &program)?;
        }
    }
    Ok(())
}

/// Each place of a link, and what stands there.
fn places(dir: &Path, program: &Path) -> Result<Vec<(PathBuf, There)>> {
    let look = |name: OldName| {
        let path = dir.join(name.name());
        let there = match fs::read_link(&path) {
            Ok(_) if is_same(&path, program) => There::Ours,
            Ok(_) => There::Other,
            Err(error) if error.kind() == io::ErrorKind::NotFound => There::Nothing,
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => There::Other,
            Err(error) => {
                return Err(error).with_context(|| format!("cannot look at {}", path.display()));
            }
        };
        Ok((path, there))
    };
    OldName::ALL.into_iter().map(look).collect()
}

/// Whether a link leads to the program, or led there before that was replaced.
fn is_same(link: &Path, program: &Path) -> bool {
    match (fs::canonicalize(link), fs::canonicalize(program)) {
        (Ok(one), Ok(other)) => one == other,
        _ => fs::read_link(link).is_ok_and(|target| target == program),
    }
}

fn of_kind(places: &[(PathBuf, There)], kind: There) -> impl Iterator<Item = &PathBuf> {
    places.iter().filter(move |(_, there)| *there == kind).map(|(path, _)| path)
}

/// Puts the link in the place of what is there, so that there is one at any time.
fn replace(path: &Path, program: &Path) -> Result<()> {
    let new = path.with_extension(format!("new-{}", std::process::id()));
    let made = symlink(program, &new).and_then(|()| fs::rename(&new, path));
    made.inspect_err(|_| drop(fs::remove_file(&new)))
        .with_context(|| format!("cannot make the link {}", path.display()))
}

fn remove(places: &[(PathBuf, There)]) -> Result<()> {
    for path in of_kind(places, There::Ours) {
        fs::remove_file(path).with_context(|| format!("cannot remove {}", path.display()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(dir: &Path, force: bool, remove: bool) -> args::Link {
        args::Link { dir: dir.into(), force, remove }
    }

    #[test]
    fn links_are_made_once_and_taken_away() {
        let dir = tempfile::tempdir().unwrap();
        for _ in 0..2 {
            link(&command(dir.path(), false, false)).unwrap();
            assert_eq!(fs::read_dir(dir.path()).unwrap().count(), OldName::ALL.len());
        }
        let target = fs::canonicalize(dir.path().join("iptables")).unwrap();
        assert_eq!(target, fs::canonicalize(env::current_exe().unwrap()).unwrap());
        link(&command(dir.path(), false, true)).unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn what_is_somebody_elses_stays_unless_forced() {
        let dir = tempfile::tempdir().unwrap();
        let other = dir.path().join("iptables");
        fs::write(&other, "other").unwrap();
        symlink("/nowhere", dir.path().join("conntrack")).unwrap();
        let message = link(&command(dir.path(), false, false)).unwrap_err().to_string();
        assert!(message.contains("/iptables, ") && message.contains("/conntrack;"), "{message}");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
        link(&command(dir.path(), false, true)).unwrap();
        assert_eq!(fs::read_to_string(&other).unwrap(), "other");
        link(&command(dir.path(), true, false)).unwrap();
        assert!(fs::symlink_metadata(&other).unwrap().is_symlink());
    }
}
