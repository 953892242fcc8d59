use std::{
    fs,
    path::{Path, PathBuf},
};

use super::script::{Case, Wire, cases};
use crate::helper::Action;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/ftp")
}

/// Every written conversation, with the name of its file.
pub(super) fn all() -> Vec<(String, Case)> {
    let files = fs::read_dir(folder()).unwrap().map(|file| file.unwrap().path());
    let mut files: Vec<_> =
        files.filter(|file| file.extension().is_some_and(|it| it == "txt")).collect();
    files.sort();
    let mut all = Vec::new();
    for file in files {
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        let text = fs::read_to_string(&file).unwrap();
        all.extend(cases(&text).into_iter().map(|case| (name.clone(), case)));
    }
    all
}

fn is_met(expected: &str, action: &Action) -> bool {
    match action {
        Action::Open(hole) => expected == format!("open {hole}"),
        Action::Close(hole) => expected == format!("close {hole}"),
        Action::Admit(passage) => expected == format!("admit {passage}"),
        Action::Dismiss(passage) => expected == format!("dismiss {passage}"),
        Action::Encrypted => expected == "encrypted",
        Action::Decrypted => expected == "decrypted",
        Action::Note(note) => {
            expected.strip_prefix("note ").is_some_and(|words| note.to_string().contains(words))
        }
    }
}

#[test]
fn every_written_conversation_comes_out_as_written() {
    let all = all();
    assert!(all.len() >= 200, "only {} conversations", all.len());
    let mut titles: Vec<_> = all.iter().map(|(_, case)| &case.title).collect();
    titles.sort();
    assert!(titles.windows(2).all(|pair| pair[0] != pair[1]), "two cases have one title");
    let wrong: Vec<_> = all.iter().filter_map(|(file, case)| mistake(file, case)).collect();
    assert!(wrong.is_empty(), "{} went wrong:\n{}", wrong.len(), wrong.join("\n"));
}

/// The README says of each attack which conversations show it: ``file`: `title``.
#[test]
fn every_conversation_that_the_readme_names_is_there() {
    let all = all();
    let readme = fs::read_to_string(folder().join("README.md")).unwrap();
    let rows = readme.lines().filter(|line| line.starts_with("| ") && line.contains(".txt"));
    let mut named = 0;
    for row in rows {
        let mut file = "";
        for word in row.split('`').skip(1).step_by(2) {
            if word.ends_with(".txt") {
                file = word;
                continue;
            }
            let is_there = all.iter().any(|(name, case)| name == file && case.title == word);
            assert!(is_there, "no conversation '{word}' in {file}");
            named += 1;
        }
    }
    assert!(named >= 40, "only {named} conversations are named");
}

/// The first step of a case that does not come out as written.
fn mistake(file: &str, case: &Case) -> Option<String> {
    let mut wire = Wire::new(case, [1000, u32::MAX - 100]);
    case.steps.iter().find_map(|(step, expected)| {
        let actions = wire.step(step);
        let is_as_written = actions.len() == expected.len()
            && expected.iter().zip(&actions).all(|(expected, action)| is_met(expected, action));
        let title = &case.title;
        (!is_as_written)
            .then(|| format!("{file}, {title}: {step}: wanted {expected:#?}, came {actions:#?}"))
    })
}
