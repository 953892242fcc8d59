//! A running instance as a directory, from which another start makes the same.
//!
//! It holds a configuration (`firewall.toml`) with every setting that differs from its
//! default, the rules of both families with their counters (`rules.v4`, `rules.v6`), and
//! the sets with their elements (`sets`).

use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use firewall_common::addr::Family;
use rustix::fs::{CWD, RenameFlags, renameat_with};

use crate::{
    config,
    kernel::maps::Maps,
    ruleset::Running,
    sets,
    settings::{ALL, Chosen, Live},
};

/// The configuration in the directory.
pub const CONFIGURATION: &str = "firewall.toml";
const RULES: &str = "rules.v4";
const RULES6: &str = "rules.v6";
const SETS: &str = "sets";

/// Whatever a directory of ours can hold.
const NAMES: [&str; 4] = [CONFIGURATION, RULES, RULES6, SETS];

/// The files of a state, by name.
type Files = Vec<(&'static str, String)>;

/// Writes the state of an instance to a directory: all of it, or nothing.
///
/// # Errors
/// When something cannot be read or written, or other files lie in the directory, which
/// would be lost.
pub fn save(maps: &Maps, directory: &Path) -> Result<()> {
    refuse_others(directory)?;
    let files = files(maps)?;
    let fresh = beside(directory)?;
    let written = write(&fresh, &files).and_then(|()| replace(directory, &fresh));
    if written.is_err() {
        let _ = fs::remove_dir_all(&fresh);
    }
    written.with_context(|| format!("cannot save to {}", directory.display()))
}

fn files(maps: &Maps) -> Result<Files> {
    let _rules = maps.pins().lock_ruleset()?;
    let running = Running::load(maps)?;
    Ok(vec![
        (CONFIGURATION, config::print(&configuration(maps)?)),
        (RULES, running.save(maps, Family::Ipv4, true)?),
        (RULES6, running.save(maps, Family::Ipv6, true)?),
        // It locks the sets by itself.
        (SETS, sets::save(maps)?),
    ])
}

/// What the daemon was told, with the settings as they are now.
fn configuration(maps: &Maps) -> Result<config::File> {
    let told = maps.configuration()?;
    let mut file = config::parse("the configuration of the instance", &told)?;
    let (live, defaults) = (maps.settings()?, Live::default());
    file.settings = Chosen::default();
    for setting in ALL {
        let value = live.get(setting);
        if value != defaults.get(setting) {
            file.settings.add(setting, value);
        }
    }
    file.rules = Some(RULES.into());
    file.rules6 = Some(RULES6.into());
    file.sets = Some(SETS.into());
    Ok(file)
}

/// A directory is replaced as a whole: nothing of somebody else's may lie in it.
fn refuse_others(directory: &Path) -> Result<()> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => {
            return Err(error).with_context(|| format!("cannot read {}", directory.display()));
        }
    };
    for entry in entries {
        let name = entry?.file_name();
        if !NAMES.iter().any(|known| name == *known) {
            bail!(
                "{} holds {}, which no saved state has: name a directory for the state alone, \
                 e.g. /var/lib/firewall",
                directory.display(),
                name.display()
            );
        }
    }
    Ok(())
}

/// A new name in the directory's own directory.
fn beside(directory: &Path) -> Result<PathBuf> {
    let directory = std::path::absolute(directory)?;
    let (Some(parent), Some(name)) = (directory.parent(), directory.file_name()) else {
        bail!("{} is no directory that could be replaced", directory.display());
    };
    fs::create_dir_all(parent).with_context(|| format!("cannot make {}", parent.display()))?;
    Ok(parent.join(format!(".{}.{}", name.display(), std::process::id())))
}

fn write(directory: &Path, files: &Files) -> Result<()> {
    fs::create_dir(directory)?;
    for (name, text) in files {
        let mut file = File::create(directory.join(name))?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
    }
    Ok(File::open(directory)?.sync_all()?)
}

/// Puts the new directory in the place of the old one, in one step.
fn replace(directory: &Path, fresh: &Path) -> Result<()> {
    if directory.exists() {
        renameat_with(CWD, fresh, CWD, directory, RenameFlags::EXCHANGE)?;
        fs::remove_dir_all(fresh)?;
    } else {
        fs::rename(fresh, directory)?;
    }
    if let Some(parent) = fresh.parent() {
        File::open(parent)?.sync_all()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(directory: &Path) -> Vec<String> {
        let entries = fs::read_dir(directory).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_directory_with_something_else_in_it_is_left_alone() {
        let parent = tempfile::tempdir().unwrap();
        fs::write(parent.path().join("passwd"), "root").unwrap();
        let message = refuse_others(parent.path()).unwrap_err().to_string();
        assert!(message.contains("holds passwd"), "{message}");
    }

    #[test]
    fn the_old_state_is_replaced_as_a_whole() {
        let parent = tempfile::tempdir().unwrap();
        let directory = parent.path().join("state");
        for (name, text) in [(RULES, "first"), (CONFIGURATION, "second")] {
            refuse_others(&directory).unwrap();
            let fresh = beside(&directory).unwrap();
            write(&fresh, &vec![(name, text.to_owned())]).unwrap();
            replace(&directory, &fresh).unwrap();
            assert_eq!(names(&directory), [name]);
            assert_eq!(fs::read_to_string(directory.join(name)).unwrap(), text);
        }
        assert_eq!(names(parent.path()), ["state"]);
    }
}
