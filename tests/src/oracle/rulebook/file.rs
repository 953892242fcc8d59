//! A rules file with the comments at its head that tell how it is played.
//!
//! | comment | means |
//! |---|---|
//! | `# outside: NAME…`, `# inside: NAME…` | whose part the two interfaces of the gateway play |
//! | `# set: LINE` | ipset(8) runs this first |
//! | `# waits for WORD: LINE…` | these lines are refused until WORD is understood |
//! | `# refused: LINE: WORDS` | iptables refuses the file as well |

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};

use super::staging;
use crate::Family;

/// A file of the corpus.
#[derive(Clone, Debug)]
pub struct RulesFile {
    pub path: PathBuf,
    /// Folder and name: `ufw/web-server.v4`.
    pub name: String,
    pub family: Family,
    pub text: String,
    pub expected: Expected,
    /// Interfaces of the file that the outer and the inner one stand for.
    pub outside: Vec<String>,
    pub inside: Vec<String>,
    /// Lines for `ipset restore`.
    pub sets: Vec<String>,
}

/// What becomes of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expected {
    Accepted,
    /// Refused at these lines, which iptables accepts; the word names what is missing.
    Waiting(Vec<(usize, String)>),
    /// Refused by both, with these words.
    Refused(Vec<(usize, String)>),
}

/// All files with the extensions `v4` and `v6` in a directory and its folders, by name.
///
/// # Errors
/// When a file cannot be read, its head is not understood, or there is none.
pub fn read_all(directory: &Path) -> Result<Vec<RulesFile>> {
    let mut files = Vec::new();
    for path in entries(directory)? {
        let inner = if path.is_dir() { entries(&path)? } else { vec![path] };
        for path in inner {
            if let Some(family) = family(&path) {
                files.push(RulesFile::read(&path, family)?);
            }
        }
    }
    ensure!(
        !files.is_empty(),
        "{}: no rules files; put NAME.v4 or NAME.v6 there",
        directory.display()
    );
    Ok(files)
}

fn entries(directory: &Path) -> Result<Vec<PathBuf>> {
    let listed = fs::read_dir(directory).with_context(|| directory.display().to_string())?;
    let mut paths: Vec<_> = listed.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    paths.sort();
    Ok(paths)
}

fn family(path: &Path) -> Option<Family> {
    match path.extension()?.to_str()? {
        "v4" => Some(Family::V4),
        "v6" => Some(Family::V6),
        _ => None,
    }
}

impl RulesFile {
    fn read(path: &Path, family: Family) -> Result<Self> {
        let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
        let parts: Vec<_> = path.iter().rev().take(2).map(|part| part.to_string_lossy()).collect();
        let name = format!("{}/{}", parts[1], parts[0]);
        let mut file = Self {
            path: path.into(),
            name,
            family,
            text: String::new(),
            expected: Expected::Accepted,
            outside: Vec::new(),
            inside: Vec::new(),
            sets: Vec::new(),
        };
        for line in text.lines().map_while(|line| line.strip_prefix("# ")) {
            file.take(line).with_context(|| format!("{}: # {line}", path.display()))?;
        }
        file.text = text;
        Ok(file)
    }

    /// Takes a line of the head.
    fn take(&mut self, line: &str) -> Result<()> {
        let Some((key, value)) = line.split_once(": ") else { return Ok(()) };
        let words = || value.split_whitespace().map(String::from).collect();
        match key {
            "outside" => self.outside = words(),
            "inside" => self.inside = words(),
            "set" => self.sets.push(value.into()),
            "refused" => {
                let (line, words) = value.split_once(": ").context("no words behind the line")?;
                self.expect_refusal((number(line)?, words.into()));
            }
            _ => {
                let Some(word) = key.strip_prefix("waits for ") else { return Ok(()) };
                for line in value.split_whitespace() {
                    self.expect_missing((number(line)?, word.into()));
                }
            }
        }
        Ok(())
    }

    fn expect_refusal(&mut self, at: (usize, String)) {
        match &mut self.expected {
            Expected::Refused(places) => places.push(at),
            expected => *expected = Expected::Refused(vec![at]),
        }
    }

    fn expect_missing(&mut self, at: (usize, String)) {
        match &mut self.expected {
            Expected::Waiting(places) => places.push(at),
            expected => *expected = Expected::Waiting(vec![at]),
        }
    }

    /// The text with the interfaces of the bench in the place of the file's, and with
    /// rates so rare that no time passes for them.
    pub fn staged(&self) -> String {
        staging::staged(&self.text, &self.outside, &self.inside)
    }
}

fn number(text: &str) -> Result<usize> {
    text.parse().with_context(|| format!("'{text}' is no number of a line"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_tells_how_a_file_is_played() {
        let directory = tempfile::tempdir().unwrap();
        let folder = directory.path().join("style");
        fs::create_dir(&folder).unwrap();
        let text = "# a test: of heads\n# outside: eth0 ppp+\n# inside: br-lan\n\
                    # waits for recent: 6 7\n*filter\n# outside: none of it\nCOMMIT\n";
        fs::write(folder.join("name.v6"), text).unwrap();
        let [file] = &read_all(directory.path()).unwrap()[..] else { panic!("one file") };
        assert_eq!((file.name.as_str(), file.family), ("style/name.v6", Family::V6));
        assert_eq!(file.outside, ["eth0", "ppp+"]);
        assert_eq!(file.inside, ["br-lan"]);
        let missing = |line| (line, "recent".to_owned());
        assert_eq!(file.expected, Expected::Waiting(vec![missing(6), missing(7)]));
    }

    #[test]
    fn a_directory_without_rules_is_no_corpus() {
        let directory = tempfile::tempdir().unwrap();
        let error = read_all(directory.path()).unwrap_err();
        assert!(error.to_string().contains("no rules files"), "{error}");
    }
}
